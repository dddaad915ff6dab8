"""All figures of a study: those of its report, of its evaluations, and one for each cell that was looked into."""

from __future__ import annotations

from pathlib import Path

import matplotlib

from gt.report.document import Picture
from gt.report.figures import DRAWINGS, EVALUATION_DRAWINGS, STYLE, Drawing, save
from gt.report.inside_figures import draw_inside
from gt.report.numbers import Results, load
from gt.report.sweeps import SWEEP_DRAWINGS

FIGURES = (*DRAWINGS, *SWEEP_DRAWINGS)


def draw(study_dir: Path) -> None:
    """Write `figures/<name>.svg` and `.png` for every drawing that the study has data for; remove those it has none for."""
    results = load(study_dir)
    (study_dir / "figures").mkdir(exist_ok=True)
    for drawing in (*FIGURES, *EVALUATION_DRAWINGS):
        files = {suffix: study_dir / "figures" / f"{drawing.name}.{suffix}" for suffix in ("svg", "png")}
        with matplotlib.rc_context(STYLE):
            figure = drawing.draw(results)
            for suffix, path in files.items():
                if figure is None:
                    path.unlink(missing_ok=True)
                else:
                    save(figure, path, suffix)
    draw_inside(study_dir)


def picture(results: Results, drawing: Drawing, alt: str = "") -> Picture | None:
    """A drawing that `gt figures` has made; None where there is none. alt: for who does not see it."""
    file = results.folder / "figures" / f"{drawing.name}.svg"
    if not file.exists():
        return None
    places = "; ".join(panel.title for panel in results.panels)
    shown = alt or f"{drawing.title} for {places}. The values are in the tables."
    return Picture(drawing.name, drawing.title, drawing.caption, shown, file, wide=len(results.panels) > 1)
