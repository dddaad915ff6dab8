"""What a study takes beside its training, by its number of runs (`benchmarks/scale.py`), as tables and a figure of the docs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from matplotlib.figure import Figure

from gt.bench.events import Json
from gt.report.drawing import COLOURS, DASHES, GRID, MARKERS

MEASURES = {"cpu_seconds": ("processor seconds", 1.0), "peak_bytes": ("MB at most", 1e-6)}


def stages(rows: Sequence[Json]) -> Iterator[str]:
    """The lines of a table: of each stage the processor seconds and megabytes at each number of runs, and how they grow."""
    header = ["stage", *(f"{row['runs']:,} runs" for row in rows), "time grows as runs to the power of", "memory"]
    yield f"| {' | '.join(header)} |"
    yield f"| {' | '.join(['---'] * len(header))} |"
    for stage in rows[-1]["stages"]:
        own = [row["stages"][stage] for row in rows]
        taken = [f"{of['cpu_seconds']:.1f} s, {of['peak_bytes'] / 1e6:,.0f} MB" for of in own]
        powers = [_power(rows, stage, measure) for measure in MEASURES]
        yield f"| {' | '.join([stage, *taken, *powers])} |"


def files(row: Json) -> Iterator[str]:
    """The lines of a table: of each folder of `results/` the files and folders, and bytes, a run, and its largest folder."""
    yield "| in `results/` | files and folders a run | bytes a run | names in the largest folder |"
    yield "| --- | --- | --- | --- |"
    for name, own in row["files"].items():
        if own["inodes"] > 1 or own["bytes"] > row["runs"]:
            each = f"{own['inodes'] / row['runs']:.2f} | {own['bytes'] / row['runs']:,.0f}"
            yield f"| `{name}` | {each} | {own['largest']:,} |"


def figure(rows: Sequence[Json]) -> Figure:
    """Both over the number of runs, on logarithmic axes: a line of slope 1 takes twice as much for twice the runs."""
    drawn = Figure(figsize=(9, 3.8), layout="constrained")
    axes = drawn.subplots(1, len(MEASURES))
    for ax, (measure, (title, unit)) in zip(axes, MEASURES.items(), strict=True):
        for i, stage in enumerate(rows[-1]["stages"]):
            values = [unit * row["stages"][stage][measure] for row in rows]
            look = {
                "color": COLOURS[i % len(COLOURS)],
                "marker": MARKERS[i % len(MARKERS)],
                "linestyle": DASHES[i // len(COLOURS)],
            }
            ax.plot([row["runs"] for row in rows], values, label=stage, linewidth=1.2, markersize=4, **look)
        ax.set(xscale="log", yscale="log", xlabel="runs of the study", title=title)
        ax.grid(**GRID)
    axes[-1].legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return drawn


def _power(rows: Sequence[Json], stage: str, measure: str) -> str:
    """Of the runs, that a measure grows as between the last two numbers of runs."""
    if len(rows) < 2:
        return ""
    (first, last), (fewer, more) = ([row["stages"][stage][measure] for row in rows[-2:]], [row["runs"] for row in rows[-2:]])
    return f"{math.log(last / first) / math.log(more / fewer):.2f}"
