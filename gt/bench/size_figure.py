"""Ours against JAX over sizes, as a figure of the documentation: where we lead and where not."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from gt.bench.events import Json
from gt.bench.sizes import Size
from gt.report.drawing import COLOURS, GREY, GRID

AXES = {"width": "width (d_model)", "time": "tokens in a sequence", "stack": "runs stacked"}


def ratios(rows: list[Json]) -> pd.DataFrame:
    """How many times as fast as JAX ours is: a row a model and size at which both ran, and axis along which that size lies."""
    found: dict[tuple[Any, ...], dict[str, float]] = defaultdict(dict)
    for row in rows:
        if "tokens_per_second" in row:
            found[row["model"], row["width"], row["time"], row["stack"]][row["entrant"]] = row["tokens_per_second"]
    lines = []
    base = vars(Size())
    for (model, *size), speeds in found.items():
        own = dict(zip(AXES, size, strict=True))
        differing = [axis for axis in AXES if own[axis] != base[axis]]
        if len(speeds) == 2 and len(differing) < 2:
            ratio = speeds["ours"] / speeds["JAX"]
            lines += [{"model": model, "axis": axis, "size": own[axis], "ratio": ratio} for axis in differing or AXES]
    return pd.DataFrame(lines, columns=["model", "axis", "size", "ratio"])


def by_size(rows: list[Json]) -> Figure | None:
    """Where we lead and where not; None where nothing was measured."""
    data = ratios(rows)
    if data.empty:
        return None
    figure = Figure(figsize=(9, 3.1), layout="constrained")
    axes = figure.subplots(1, len(AXES), sharey=True)
    for ax, (axis, title) in zip(axes, AXES.items(), strict=True):
        own = data[data["axis"] == axis]
        last = ax is axes[-1]
        sns.lineplot(own, x="size", y="ratio", hue="model", style="model", markers=True, dashes=False, ax=ax, legend=last,
                     palette=list(COLOURS[: data["model"].nunique()]), hue_order=sorted(data["model"].unique()))  # fmt: skip
        ax.axhline(1, color=GREY, linewidth=0.8, linestyle="--")
        ax.set(xscale="log", yscale="log", xlabel=title, ylabel="tokens/s, ours over JAX's")
        for scale, places in ((ax.xaxis, sorted(own["size"].unique())), (ax.yaxis, (0.5, 1, 1.5, 2, 3, 4, 6))):
            scale.set_ticks(list(places))
            scale.set_minor_locator(NullLocator())
            scale.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        low, high = data["ratio"].min(), data["ratio"].max()
        ax.set_ylim(min(low, 1) / 1.15, max(high, 1) * 1.15)
        ax.grid(axis="y", **GRID)
        if last:
            ax.legend(title=None, frameon=False)
    return figure
