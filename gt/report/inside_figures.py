"""A figure for each cell: what its networks do inside, layer by layer, one panel a question; every seed is a thin line."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from gt.registry import look_up
from gt.report.drawing import COLOURS, GREY, GRID, PLAIN, Drawing
from gt.report.numbers import Results

# Of what is drawn in a panel, by what it is called: a row a place, a column a seed.
Kinds = dict[str, pd.DataFrame]

# Inches: of a panel, and of what stands around its axes. That they are known and not measured makes a figure five times faster,
# and a study may have hundreds of cells.
COLUMNS, WIDTH, HEIGHT = 3, 3.1, 2.5
LEFT, RIGHT, TOP, BOTTOM = 0.8, 0.12, 0.46, 0.44
LABEL = 0.56
LEGEND: Any = {"frameon": False, "fontsize": 7.5, "handlelength": 1.8}
CAPTION = (
    "Thin lines are seeds, thick ones their mean. Loss without a branch: its output replaced by zero in one layer of the "
    "trained network, on held-out text. Dashed: before training. State norms are means over layers, against the position in "
    "trained lengths T."
)
# The layer of what is of the whole model.
MODEL = -1


def inside_drawings(results: Results) -> list[Drawing]:
    """One for each cell."""
    return [Drawing(own.id, own.title, CAPTION, partial(_figure, own.cell["cell"])) for own in results.inside]


def _figure(cell: str, results: Results) -> Figure:
    panels = [(title, kinds, paint) for title, kinds, paint in _panels(results.probes_of_cell[cell]) if kinds]
    columns, rows = min(COLUMNS, len(panels)), math.ceil(len(panels) / COLUMNS)
    width, height = WIDTH * columns, HEIGHT * rows
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    for i, (title, kinds, paint) in enumerate(panels):
        left, bottom = WIDTH * (i % COLUMNS) + LEFT, HEIGHT * (rows - 1 - i // COLUMNS) + BOTTOM
        size = (WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM)
        ax = figure.add_axes((left / width, bottom / height, size[0] / width, size[1] / height))
        ax.set_title(title, y=1 + 0.2 / size[1], pad=0)
        ax.tick_params(length=0, labelsize=8)
        ax.grid(**GRID, clip_on=False)
        ax.xaxis.set_label_coords(0.5, -0.22 / size[1])
        ax.yaxis.set_label_coords(-LABEL / size[0], 0.5)
        paint(ax, kinds)
    return figure


def _panels(rows: pd.DataFrame) -> list[tuple[str, Kinds, Callable[[Axes, Kinds], None]]]:
    """The questions, what is known of each, and how it is drawn."""
    table = rows.assign(layer=rows["layer"].fillna(MODEL)).pivot(index=["name", "layer"], columns="seed", values="value")
    of_model = table.index.get_level_values("layer") == MODEL
    model, layered = table[of_model].droplevel("layer"), table[~of_model]

    def layers(**measures: str) -> Kinds:
        return {kind: layered.loc[[name]].droplevel("name") for kind, name in measures.items() if name in layered.index}

    names = [(name, found) for name in dict.fromkeys(rows["name"]) if (found := look_up(name))]

    def along(axis: str, metric: str) -> dict[str, str]:
        return {found.axes[axis]: name for name, found in names if found.metric.name == metric}

    classes = {kind: model.loc[[name]] for kind, name in along("class", "gate/class/<class>").items() if name in model.index}
    norms: dict[str, dict[float, str]] = {}
    for name, found in names:
        if found.metric.name == "state/norm/<branch>/<length>" and name in model.index:
            norms.setdefault(found.axes["branch"], {})[float(found.axes["length"])] = name
    states = {branch: model.loc[list(own.values())].set_axis(list(own)).sort_index() for branch, own in norms.items()}
    return [
        ("Gate", layers(trained="gate/mean", initial="initial/gate/mean"), _gate),
        ("Gate by kind of token", classes, _classes),
        ("Loss without a branch", layers(**along("branch", "ablation/zero/<branch>")), _losses),
        (
            "Variance of the residual stream",
            layers(trained="variance/residual", initial="initial/variance/residual"),
            partial(_variance, xlabel="after layer"),
        ),
        ("Variance of the branches", layers(**along("branch", "variance/branch/<branch>")), partial(_variance, xlabel="layer")),
        ("Norm of the state", states, _growth),
    ]


def _lines(ax: Axes, kinds: Kinds, xlabel: str, ylabel: str) -> None:
    """A colour for each kind, a dash for what was before training; seeds thin, their mean thick."""
    order = sorted(kinds, key=lambda kind: (kind == "initial", kind == "m", kind))
    for i, kind in enumerate(order):
        line: dict[str, Any] = {"color": COLOURS[i % len(COLOURS)], "linestyle": (0, (3, 1.5)) if kind == "initial" else "-"}
        ax.plot(*_strokes(kinds[kind]), linewidth=0.7, alpha=0.45, **line)
        mean = kinds[kind].mean(axis="columns")
        ax.plot(mean.index, mean, linewidth=2, marker="o", markersize=4, markeredgewidth=0, label=kind, **line)
    ax.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=len(order), borderpad=0, borderaxespad=0.3, **LEGEND)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def _strokes(table: pd.DataFrame) -> tuple[Any, Any]:
    """Every column against the index, as one line with gaps."""
    gap = np.full((1, len(table.columns)), np.nan)
    places = np.broadcast_to(table.index.to_numpy()[:, None], table.shape)
    x, y = (np.vstack([own, gap]).T.ravel() for own in (places, table))
    return x, y


def _gate(ax: Axes, kinds: Kinds) -> None:
    _lines(ax, kinds, "layer", "weight of the first branch")
    ax.axhline(0.5, color=GREY, linewidth=0.8, linestyle=":")


def _classes(ax: Axes, kinds: Kinds) -> None:
    for y, own in enumerate(kinds.values()):
        seeds, mean = own.to_numpy().ravel(), own.mean(axis="columns")
        ax.plot(seeds, np.full(len(seeds), y), "o", color=COLOURS[0], markersize=3.5, markeredgewidth=0, alpha=0.6)
        ax.plot(mean, [y], "|", color=COLOURS[0], markersize=9, markeredgewidth=2)
    ax.set_yticks(range(len(kinds)), list(kinds))
    ax.invert_yaxis()
    ax.grid(visible=False, axis="y")
    ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.set_xlabel("mean gate")


def _losses(ax: Axes, kinds: Kinds) -> None:
    _lines(ax, kinds, "layer", "nats a token")
    ax.axhline(0, color=GREY, linewidth=0.8)


def _variance(ax: Axes, kinds: Kinds, xlabel: str) -> None:
    _lines(ax, kinds, xlabel, "variance")
    _logarithmic(ax)


def _growth(ax: Axes, kinds: Kinds) -> None:
    _lines(ax, kinds, "position / T", "L2 norm")
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter(PLAIN)
    ax.xaxis.set_minor_locator(NullLocator())
    _logarithmic(ax)


def _logarithmic(ax: Axes) -> None:
    """A log scale with plain numbers; narrow ranges have some as well."""
    ax.set_yscale("log")
    low, high = ax.get_ylim()
    ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 300 * low else (1.0,)))
    ax.yaxis.set_major_formatter(PLAIN)
    ax.yaxis.set_minor_locator(NullLocator())
