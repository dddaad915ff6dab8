"""A figure for each claim: what its predicates measured, seed by seed, in its own cells and under every arm."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from gt.analysis.claims import Compare, Equivalence, Exists, Extrapolates, Interval, Predicate, RankCorrelation, Threshold
from gt.analysis.verdicts import Row
from gt.report.document import Picture
from gt.report.drawing import COLOURS, GREY, GRID, PLAIN, STYLE, save, series
from gt.report.tables import anchor

Json = dict[str, Any]
OWN = "as published"
COLOUR = {
    "supported": COLOURS[2],
    "opposite": COLOURS[1],
    "smaller than claimed": COLOURS[4],
    "larger than claimed": COLOURS[6],
    "refuted": COLOURS[1],
    "equivalent": COLOURS[0],
    "inconclusive": COLOURS[7],
    "deviated": COLOURS[3],
}
# The picture of all verdicts, beside those of the claims.
VERDICTS = "verdicts"
# What dots, bars and colours are is told once (gt.report.opening), not under a hundred figures.
CAPTION = "What was measured, by seed; dotted, the claim’s bound."


def draw_claims(rows: list[Row], folder: Path, jobs: int = 1) -> dict[str, Picture]:
    """Write `<claim>.svg` for every claim that was tested, and remove those of others, by so many processes. Returns the
    pictures by claim.

    Where several studies tested them, `verdicts.svg` counts their verdicts.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {}
    tested = [row for row in rows if row.verdict in COLOUR]
    if len({row.claim.study for row in tested}) > 1:
        with matplotlib.rc_context(STYLE):
            save(verdicts(tested), folder / f"{VERDICTS}.svg", "svg")
        title, caption = "Verdicts at a glance", "How many claims each study tested, and what became of them."
        alt = f"{title}: claims by study and verdict. The table of claims has them."
        pictures[VERDICTS] = Picture(f"claim.{VERDICTS}", title, caption, alt, folder / f"{VERDICTS}.svg")
    with matplotlib.rc_context(STYLE), ProcessPoolExecutor(jobs) if jobs > 1 else nullcontext() as pool:
        drawn = list((pool.map if pool else map)(partial(_draw, folder), rows))
    for row, path in zip(rows, drawn, strict=True):
        if path:
            alt = f"Estimates by seed of claim {row.id}. The values are in the table beside it."
            pictures[row.id] = Picture(f"claim.{row.id}", row.claim.title, CAPTION, alt, path)
    for path in folder.glob("*.svg"):
        if path not in {picture.file for picture in pictures.values()}:
            path.unlink()
    return pictures


def _draw(folder: Path, row: Row) -> Path | None:
    """The file of a claim's figure; None of a claim that was not tested."""
    judged = [(name, own) for name, own in ((OWN, row.judgement), *row.arms.items()) if own and own["tests"]]
    if not judged:
        return None
    path = folder / f"{anchor(row.id)}.svg"
    save(_forest(row.claim.predicate, judged), path, "svg")
    return path


def verdicts(tested: Sequence[Row]) -> Figure:
    """A bar a study, the longest on top; a colour a verdict, with its count."""
    counts: Counter[tuple[str, str]] = Counter((str(row.claim.study), row.verdict) for row in tested)
    studies = [study for study, _ in Counter(str(row.claim.study) for row in tested).most_common()]
    figure = Figure(figsize=(5.4, 0.34 * len(studies) + 1.1), layout="constrained")
    FigureCanvasAgg(figure)
    ax = figure.subplots()
    done = [0] * len(studies)
    for verdict, colour in COLOUR.items():
        if not any(n := [counts[study, verdict] for study in studies]):
            continue
        bars = ax.barh(studies, n, left=done, color=colour, height=0.72, label=f"{verdict} ({sum(n)})")
        ax.bar_label(bars, [str(value or "") for value in n], label_type="center", color="white", fontweight="bold")
        done = [before + own for before, own in zip(done, n, strict=True)]
    ax.invert_yaxis()
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("claims")
    figure.legend(loc="outside upper center", ncols=3, frameon=False, fontsize=8.5, columnspacing=1, handlelength=1)
    return figure


def _forest(predicates: list[Predicate], judged: list[tuple[str, Json]]) -> Figure:
    """A row an arm; axes below each other, one a predicate."""
    labels = [textwrap.wrap(test["words"], 58) for test in judged[0][1]["tests"]]
    heights = [0.28 * len(judged) + 0.45 + 0.17 * len(lines) for lines in labels]
    figure = Figure(figsize=(5.4, sum(heights)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(predicates), 1, squeeze=False, height_ratios=heights).flat
    for ax, (i, predicate) in zip(axes, enumerate(predicates), strict=True):
        dots: dict[str, Any] = {"markersize": 4, "markeredgecolor": "white", "markeredgewidth": 0.5}
        seen: list[float] = []
        for y, (name, judgement) in enumerate(judged):
            test, colour = judgement["tests"][i], COLOUR.get(judgement["verdict"], GREY)
            by_seed = {seed: value for seed, value in test["by_seed"].items() if value is not None}
            values = list(by_seed.values())
            if test["lower"] is not None:
                bar: dict[str, Any] = {"linewidth": 5, "alpha": 0.3, "solid_capstyle": "butt"}
                interval = series(name, "95 % interval")
                ax.plot([test["lower"], test["upper"]], [y, y], color=colour, **bar, **interval)
            if test["estimate"] is not None:
                ax.plot([test["estimate"]] * 2, [y - 0.3, y + 0.3], color=colour, linewidth=2, **series(name, "mean"))
            ax.plot(values, [y] * len(values), "o", color=colour, **dots, **series(name, "seed", by_seed))
            seen += values
        for bound in bounds(predicate):
            ax.axvline(bound, color=GREY, linewidth=1, linestyle=":")
        seen += bounds(predicate)
        if min(seen) > 0 and max(seen) > 20 * min(seen):
            ax.set_xscale("log")
            ax.xaxis.set_major_locator(LogLocator())
            ax.xaxis.set_minor_formatter(NullFormatter())
        else:
            ax.xaxis.set_major_locator(MaxNLocator(5))
        ax.xaxis.set_major_formatter(PLAIN)
        ax.set_yticks(range(len(judged)), [name for name, _ in judged])
        ax.set_ylim(len(judged) - 0.4, -0.6)
        ax.grid(axis="x", **GRID)
        ax.set_xlabel("\n".join(labels[i]))
    return figure


def bounds(predicate: Predicate) -> list[float]:
    """Where a predicate begins or ceases to hold, on its scale."""
    match predicate:
        case Compare() | Exists():
            return [(predicate.scale == "ratio") + (-predicate.by if predicate.is_ == "lower" else predicate.by)]
        case Equivalence() | Extrapolates():
            return [(predicate.scale == "ratio") + side * predicate.margin for side in (-1, 1)]
        case Interval():
            return [predicate.low, predicate.high]
        case Threshold() | RankCorrelation():
            return [float(bound) for bound in (predicate.above, predicate.below) if bound is not None]
        case _:  # of an order and of a trend: no change
            return [0.0]
