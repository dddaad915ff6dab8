// Tables that sort by any column and are searched, figures that fill the window and answer the pointer. Without this script
// nothing is missing but that.
"use strict";
for (const table of document.querySelectorAll("main table")) {
  const body = table.tBodies[0];
  if (!table.tHead || body.rows.length < 2) continue;
  const number = text => {
    const found = text.replace(/,/g, "").replace(/\u2212/g, "-").match(/^[<[$\s]*([+-]?[\d.]+(?:e[+-]?\d+)?)/i);
    return found ? parseFloat(found[1]) : NaN;
  };
  for (const head of table.tHead.rows[0].cells) {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const keyed = [...body.rows].map(row => [row.cells[head.cellIndex].textContent.trim(), row]);
      const told = keyed.filter(([text]) => text !== "\u2013"), untold = keyed.filter(([text]) => text === "\u2013");
      const numeric = told.every(([text]) => !isNaN(number(text)));
      told.sort(([a], [b]) => (numeric ? number(a) - number(b) : a.localeCompare(b, "en", {numeric: true})) * (down ? -1 : 1));
      for (const [, row] of keyed) row.classList.remove("group");
      body.append(...told.concat(untold).map(([, row]) => row));
    });
  }
}
// A table of claims that a reader may search and filter: by words in any cell, and by what stands in some columns.
for (const figure of document.querySelectorAll("figure[data-search]")) {
  const table = figure.querySelector("table"), rows = [...table.tBodies[0].rows], form = document.createElement("form");
  const labelled = (words, control) => {
    const label = document.createElement("label"), name = document.createElement("span");
    name.textContent = words;
    label.append(name, control);
    form.append(label);
    return control;
  };
  const search = labelled("Search", document.createElement("input"));
  search.type = "search";
  const parts = cell => cell.textContent.trim().split("; ").filter(part => part !== "\u2013");
  const chosen = [...table.tHead.rows[0].cells].filter(head => "filter" in head.dataset).map(head => {
    const select = labelled(head.textContent, document.createElement("select"));
    select.add(new Option("all", ""));
    const counts = new Map();
    for (const row of rows) for (const part of parts(row.cells[head.cellIndex])) counts.set(part, (counts.get(part) || 0) + 1);
    for (const part of [...counts.keys()].sort()) select.add(new Option(`${part} (${counts.get(part)})`, part));
    return [head.cellIndex, select];
  });
  const told = document.createElement("output");
  form.append(told);
  const show = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let n = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !(words.every(word => text.includes(word)) &&
        chosen.every(([i, select]) => !select.value || parts(row.cells[i]).includes(select.value)));
      n += !row.hidden;
    }
    told.textContent = `${n} of ${rows.length} shown`;
  };
  form.addEventListener("input", show);
  form.addEventListener("submit", event => event.preventDefault());
  form.setAttribute("role", "search");
  form.setAttribute("aria-label", "Rows of the table below");
  figure.insertBefore(form, figure.querySelector(".scroll"));
  show();
}
for (const figure of document.querySelectorAll("figure.drawing")) {
  const button = document.createElement("button");
  button.type = "button";
  const zoom = on => {
    figure.classList.toggle("zoomed", on);
    button.textContent = on ? "Close" : "Enlarge";
    button.setAttribute("aria-expanded", on);
    document.body.style.overflow = on ? "hidden" : "";
  };
  zoom(false);
  button.addEventListener("click", () => zoom(!figure.classList.contains("zoomed")));
  figure.addEventListener("keydown", event => { if (event.key === "Escape") { zoom(false); button.focus(); } });
  figure.insertBefore(button, figure.querySelector(".scroll").nextSibling);
}
// A drawing tells the pointer which series it is nearest to, and the value there; a button a series hides it.
const tip = document.body.appendChild(document.createElement("div"));
tip.className = "tip";
tip.hidden = true;
const vertices = shape => {
  if (shape.tagName === "circle") return [[+shape.getAttribute("cx"), +shape.getAttribute("cy")]];
  let x = 0, y = 0;
  const found = [];
  for (const [, command, rest] of (shape.getAttribute("d") || "").matchAll(/([MmLlHhVv])([^A-Za-z]*)/g)) {
    const numbers = (rest.match(/-?(?:\d+\.?\d*|\.\d+)/g) || []).map(Number);
    for (let i = 0; i < numbers.length;) {
      if (command === "M") { x = numbers[i++]; y = numbers[i++]; }
      else if (command === "h") {
        x += numbers[i++];
        if (Math.abs(numbers[i - 1]) < 0.05) continue; // a dot
      }
      else if (command === "v") y += numbers[i++];
      else { x += numbers[i++]; y += numbers[i++]; }
      found.push([x, y]);
    }
  }
  return found;
};
const axesOf = svg => [...svg.querySelectorAll("[data-axes]")].map(group => {
  const [left, top, right, bottom, ...said] = group.dataset.axes.split("|");
  const box = [left, top, right, bottom].map(Number);
  const scale = (from, to, low, high, kind, label) => ({kind, label, value(at) {
    const share = (at - from) / (to - from), ends = [+low, +high].map(end => kind === "log" ? Math.log10(end) : end);
    const own = ends[0] + share * (ends[1] - ends[0]), fine = 0.05 * Math.abs((ends[1] - ends[0]) / (to - from));
    if (kind === "log") return (10 ** own).toLocaleString("en", {maximumSignificantDigits: 3});
    return own.toFixed(Math.min(8, Math.max(0, -Math.floor(Math.log10(fine)) - 1))).replace("-", "\u2212");
  }});
  const points = [...group.querySelectorAll("[data-series]")].flatMap(own => {
    const [name, what, ...of] = own.dataset.series.split("|");
    if (what === "label") return [];
    const shapes = own.matches("path, circle") ? [own] : [...own.querySelectorAll("path, circle")];
    const at = shapes.flatMap(vertices);
    return at.map(([x, y], i) => ({x, y, own, name, what: of.length === at.length ? `${what} ${of[i]}` : what}));
  });
  return {box, points, x: scale(box[0], box[2], ...said.slice(0, 4)), y: scale(box[3], box[1], ...said.slice(4, 8))};
});
const NEAR = 18; // pixels
for (const figure of document.querySelectorAll("figure.drawing")) {
  const svg = figure.querySelector("svg"), shown = [...svg.querySelectorAll("[data-series]")];
  if (!shown.length) continue;
  const names = [...new Set(shown.map(own => own.dataset.series.split("|")[0]))];
  if (names.length > 1 && names.length <= 24) {
    const keys = document.createElement("div");
    keys.className = "keys";
    keys.setAttribute("role", "group");
    keys.setAttribute("aria-label", "Series shown");
    for (const name of names) {
      const own = shown.filter(part => part.dataset.series.split("|")[0] === name), key = document.createElement("button");
      const seen = own.map(part => part.matches("g") ? part.querySelector("path, circle, text") : part).find(Boolean);
      const paint = seen ? getComputedStyle(seen) : null;
      const colour = paint ? [paint.stroke, paint.fill].find(value => /^rgb/.test(value) && value !== "rgb(255, 255, 255)") : "";
      key.type = "button";
      key.textContent = name;
      key.style.borderLeft = `.5rem solid ${colour || "currentColor"}`;
      key.setAttribute("aria-pressed", "true");
      key.addEventListener("click", () => {
        const on = key.getAttribute("aria-pressed") !== "true";
        key.setAttribute("aria-pressed", on);
        for (const part of own) part.style.display = on ? "" : "none";
      });
      keys.append(key);
    }
    figure.insertBefore(keys, figure.querySelector(".scroll"));
  }
  let axes = null;
  svg.addEventListener("pointermove", event => {
    axes ||= axesOf(svg);
    const matrix = svg.getScreenCTM(), at = new DOMPoint(event.clientX, event.clientY).matrixTransform(matrix.inverse());
    let best = null, least = (NEAR / matrix.a) ** 2;
    for (const pair of axes) for (const point of pair.points) {
      const far = (point.x - at.x) ** 2 + (point.y - at.y) ** 2;
      if (far < least && point.own.style.display !== "none") { least = far; best = [pair, point]; }
    }
    tip.hidden = !best;
    if (!best) return;
    const [pair, point] = best, x = pair.x.value(point.x), y = pair.y.value(point.y);
    const value = pair.y.kind === "names" ? x : pair.x.kind === "names" ? y : `${y} at ${x}${pair.x.label ? ` ${pair.x.label}` : ""}`;
    tip.textContent = `${point.name}${point.what ? `, ${point.what}` : ""}: ${value}`;
    const place = new DOMPoint(point.x, point.y).matrixTransform(matrix);
    tip.style.left = `${Math.max(4, Math.min(place.x + 10, innerWidth - tip.offsetWidth - 4))}px`;
    tip.style.top = `${Math.max(4, place.y - tip.offsetHeight - 8)}px`;
  });
  svg.addEventListener("pointerleave", () => { tip.hidden = true; });
}
// What a link or the contents name is opened, and all is on paper.
const open = () => {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  let folded = false;
  for (let own = target; own; own = own.parentElement) if (own.tagName === "DETAILS" && !own.open) folded = own.open = true;
  if (folded) target.scrollIntoView();
};
addEventListener("hashchange", open);
open();
