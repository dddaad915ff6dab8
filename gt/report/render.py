"""The report: one HTML file without outside parts, and the same content in Markdown.

Text, tables and figures come from one `Results`; a template that asks for a name which is not there fails the build.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from gt.errors import ConfigError
from gt.records import atomic_write
from gt.report import text
from gt.report.figures import DRAWINGS, EVALUATION_DRAWINGS, INK, Drawing
from gt.report.inside import inside_tables, measured
from gt.report.inside_figures import inside_drawings
from gt.report.numbers import Panel, Results, load
from gt.report.tables import Table, evaluation_tables, results_table, study_tables


@dataclass(frozen=True)
class Picture:
    """A drawing as the templates use it. svg: to stand in HTML; None where the study has no data for it."""

    drawing: Drawing
    svg: Markup | None
    alt: str


def render(study_dir: Path, templates: Path) -> None:
    """Write `tables/`, `report.html` and `report.md` of a study that has been aggregated (and drawn).

    ConfigError names a template that is missing, is not a template, or asks for an unknown name.
    """
    results = load(study_dir)
    tables, evaluations = study_tables(results), evaluation_tables(results)
    cells, inside = measured(results), inside_tables(results)
    for table in [*tables.values(), *evaluations, *inside.values()]:
        table.write(study_dir / "tables")
    content = {
        "results": results,
        "tables": tables,
        "panels": [(panel, panel_table(panel)) for panel in results.panels],
        "pictures": [picture(drawing, results) for drawing in DRAWINGS],
        "evaluation_tables": evaluations,
        "evaluation_pictures": [made for d in EVALUATION_DRAWINGS if (made := picture(d, results)).svg is not None],
        "inside_tables": inside,
        "inside": [(own, picture(d, results, own.alt)) for own, d in zip(cells, inside_drawings(results), strict=True)],
        "text": text,
    }
    for name in ("report.html", "report.md"):
        with atomic_write(study_dir / name) as temporary:
            # A line never ends between a number and its per cent sign.
            temporary.write_text(re.sub(r"(\d) %", "\\1\u00a0%", fill(templates, f"{name}.j2", content)), encoding="utf-8")


def summary(study_dir: Path) -> str:
    """What a study found, in a few lines, and where its report is."""
    results = load(study_dir)
    lines = [f"{results.study}: {results.completion}"]
    for panel in results.panels:
        if panel.measured:
            best = panel.measured[0]
            shown = text.plus_minus(best["mean"], best["lower"], best["upper"])
            lines.append(f"  {panel.title}: lowest {best['label']}, {shown} bits/byte ({text.plural(best['n'], 'seed')})")
        else:
            lines.append(f"  {panel.title}: no run has completed")
    lines.append(f"  {results.decided} of {text.plural(results.n_contrasts, 'contrast')} with {results.baseline} decided")
    absent = [row["cell"] for row in results.cell_rows_in_order if not row["completed"]]
    if absent:
        lines.append(f"  without a completed run: {', '.join(absent[:5])}{' ...' if len(absent) > 5 else ''}")
    if results.warnings:
        lines.append(f"  {text.plural(len(results.warnings), 'warning')}: see the top of the report")
    return "\n".join([*lines, f"  report: {study_dir / 'report.html'}"])


def panel_table(panel: Panel) -> Table:
    """The main table of one corpus and tokenizer."""
    caption = (
        f"Validation bits per byte on {panel.title}, the lowest first; differences are to {panel.baseline}, paired by seed."
    )
    return results_table(f"results.{panel.id}", caption, panel.rows)


def fill(templates: Path, name: str, content: dict[str, Any]) -> str:
    """The text of a template. HTML is escaped; an unknown name is an error."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(templates),
        undefined=jinja2.StrictUndefined,
        autoescape=name.endswith(".html.j2"),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    try:
        return environment.get_template(name).render(content)
    except jinja2.TemplateNotFound as error:
        raise ConfigError(f"{templates / str(error.name)}: no such template.") from None
    except jinja2.TemplateSyntaxError as error:
        raise ConfigError(f"{error.filename}, line {error.lineno}: {error.message}.") from None
    except jinja2.UndefinedError as error:
        raise ConfigError(f"{templates / name}: unknown name: {error.message}.") from None


def picture(drawing: Drawing, results: Results, alt: str = "") -> Picture:
    """A drawing that `gt figures` has made, or the place where it would stand."""
    path = results.folder / "figures" / f"{drawing.name}.svg"
    places = "; ".join(panel.title for panel in results.panels)
    alt = alt or f"{drawing.title} for {places}. The values are in the tables."
    return Picture(drawing, inline_svg(path.read_text(encoding="utf-8"), drawing.name, alt) if path.exists() else None, alt)


def inline_svg(source: str, name: str, alt: str) -> Markup:
    """An SVG as a part of an HTML page: its ids are made unique to it, and its ink is the page's text colour."""
    svg = source[source.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(href="|url\()#', rf"\1#{name}-", svg)
    svg = svg.replace(INK, "currentColor")
    opening = Markup('<svg role="img" aria-label="{}"').format(alt)
    return Markup(svg.replace("<svg", opening, 1))
