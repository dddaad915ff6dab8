"""A figure for each claim: what its predicates measured, seed by seed, in its own cells and under every arm."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from gt.analysis.claims import Compare, Equivalence, Exists, Extrapolates, Interval, Predicate, RankCorrelation, Threshold
from gt.analysis.verdicts import Row
from gt.records import atomic_write
from gt.report.document import Picture
from gt.report.drawing import COLOURS, STYLE, save
from gt.report.plot import GREY, Pane, Plot, Scale, extent, words
from gt.report.tables import anchor

Json = dict[str, Any]
# What dots, bars and colours are is told once (gt.report.opening), not under a hundred figures.
OWN = "as published"
# Points: of a drawing, and of each row. Letters of a line below it.
WIDTH, ROW, LETTERS = 389.0, 20.0, 58
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


def draw_claims(rows: list[Row], folder: Path) -> dict[str, Picture]:
    """Write `<claim>.svg` for every claim that was tested, and remove those of others. Returns the pictures by claim.

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
    for row in rows:
        if path := _draw(folder, row):
            alt = f"Estimates by seed of claim {row.id}. The values are in the table beside it."
            pictures[row.id] = Picture(f"claim.{row.id}", row.claim.title, "", alt, path)
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
    with atomic_write(path) as temporary:
        temporary.write_text(_forest(row.claim.predicate, judged).svg, encoding="utf-8")
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


def _forest(predicates: list[Predicate], judged: list[tuple[str, Json]]) -> Plot:
    """A row an arm; axes below each other, one a predicate."""
    labels = [textwrap.wrap(test["words"], LETTERS) for test in judged[0][1]["tests"]]
    left = max(extent(name) for name, _ in judged) + 12
    plot, top = Plot(WIDTH, 0.0, []), 6.0
    for i, (predicate, lines) in enumerate(zip(predicates, labels, strict=True)):
        asked, tests = bounds(predicate), [judgement["tests"][i] for _, judgement in judged]
        seen = [*asked, *(value for test in tests for value in test["by_seed"].values() if value is not None)]
        ends = [value for test in tests for value in (test["lower"], test["upper"], test["estimate"]) if value is not None]
        log = min(seen) > 0 and max(seen) > 20 * min(seen)
        scale = Scale.of([value for value in (*seen, *ends) if value > 0 or not log], log)
        pane = Pane(left, top, WIDTH - left - 12, ROW * len(judged), scale, Scale.named(name for name, _ in judged))
        for y, (name, judgement) in enumerate(judged):
            test, colour = judgement["tests"][i], COLOUR.get(judgement["verdict"], GREY)
            if test["lower"] is not None and (test["lower"] > 0 or not log):
                interval = [(test["lower"], y), (test["upper"], y)]
                pane.line(interval, colour, f"{name}|95 % interval", width=5, alpha=0.3)
            if test["estimate"] is not None:
                pane.line([(test["estimate"], y - 0.3), (test["estimate"], y + 0.3)], colour, width=2, series=f"{name}|mean")
            by_seed = {seed: value for seed, value in test["by_seed"].items() if value is not None}
            seeds = "|".join([name, "seed", *map(str, by_seed)])
            pane.dots([(value, y) for value in by_seed.values()], colour, 2, seeds, edge="white")
        for bound in asked:
            pane.across(GREY, x=bound, width=1, dash="1 1.65")
        pane.axes(pane.x.ticks(5), pane.y.ticks(0), grid="x")
        plot.panes.append(pane)
        top += pane.height + 26
        for line in lines:
            plot.words.append(words(left + pane.width / 2, top, line, anchor="middle"))
            top += 12
        top += 6
    return replace(plot, height=top - 8)


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
