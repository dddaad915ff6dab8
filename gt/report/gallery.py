"""All figures of a study: those of its report, of its evaluations, and one for each cell that was looked into."""

from __future__ import annotations

import gc
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import matplotlib

from gt.progress import progress
from gt.report.document import Picture
from gt.report.drawing import STYLE, Drawing, save
from gt.report.equal_loss import EQUAL_LOSS_DRAWING
from gt.report.evaluation_figures import EVALUATION_DRAWINGS
from gt.report.figures import DRAWINGS
from gt.report.inside_figures import inside_drawings
from gt.report.ladders import LADDER_DRAWING
from gt.report.numbers import Results, load
from gt.report.svg import size
from gt.report.sweeps import SWEEP_DRAWINGS
from gt.report.tuning import TUNING_DRAWING

# Points of width above which a picture needs both columns of a page.
HALF = 450

FIGURES = (*DRAWINGS, *SWEEP_DRAWINGS)
# Those of how a study was decided, which stand with what they are about.
DECIDING = (TUNING_DRAWING, LADDER_DRAWING, EQUAL_LOSS_DRAWING)
# Those that need all cells of a study, however many there are.
WHOLE_STUDY = (*DECIDING, *SWEEP_DRAWINGS)


def draw(study_dir: Path, jobs: int = 1, png: bool = True) -> None:
    """Write `figures/<name>.svg`, and `.png` for those that are not of single cells, by so many processes.

    png: whether any is written as one. What the study has no data for is not drawn, and files of earlier figures are removed.
    """
    folder = study_dir / "figures"
    folder.mkdir(exist_ok=True)
    part = partial(_draw, study_dir, jobs, png)
    if jobs == 1:
        drawn = part(0)
    else:
        # Not forked: a process that has threads, as Arrow's, leaves its locks to a fork as they are.
        with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
            drawn = set().union(*pool.map(part, range(jobs)))
    for path in folder.iterdir():
        if path.name not in drawn:
            path.unlink()


def _draw(study_dir: Path, jobs: int, png: bool, part: int) -> set[str]:
    """Every so-manieth figure. Returns the names of the files."""
    results = load(study_dir)
    gc.freeze()  # figures are full of cycles, and each search for them would go through all that was loaded
    whole, single = [*DECIDING, *FIGURES, *EVALUATION_DRAWINGS], inside_drawings(results.shown)
    names = set()
    with matplotlib.rc_context(STYLE):
        own = (whole + single)[part::jobs]
        for drawing in own if part else progress(own, "figures", "figure"):  # the bar of the first process stands for all
            if (figure := drawing.draw(results if drawing in WHOLE_STUDY else results.shown)) is not None:
                for suffix in ("svg", "png") if png and drawing in whole else ("svg",):
                    names.add(f"{drawing.name}.{suffix}")
                    save(figure, study_dir / "figures" / f"{drawing.name}.{suffix}", suffix)
    return names


def picture(results: Results, drawing: Drawing, alt: str = "") -> Picture | None:
    """A drawing that `gt figures` has made; None where there is none. alt: for who does not see it."""
    file = results.folder / "figures" / f"{drawing.name}.svg"
    if not file.exists():
        return None
    places = "; ".join(panel.title for panel in results.panels)
    caption = drawing.caption
    if drawing not in WHOLE_STUDY and results.shown is not results:
        of = f"{len(results.shown.cells)} of the {len(results.run_cells):,} cells"
        caption += f" Shown are {of}: of each variant the lowest, and what these are compared with."
    shown = alt or f"{drawing.title} for {places}. The values are in the tables."
    return Picture(drawing.name, drawing.title, caption, shown, file, size(file)[0] > HALF)
