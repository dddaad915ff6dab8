// Tables that sort by any column, figures that fill the window. Without this script nothing is missing but that.
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
  figure.insertBefore(button, figure.querySelector("figcaption"));
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
