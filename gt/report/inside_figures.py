"""A figure for each cell: what its networks do inside, layer by layer, one panel a question; every seed is a thin line."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from gt.report.figures import COLOURS, GREY, Drawing
from gt.report.inside import measured
from gt.report.numbers import Results

if TYPE_CHECKING:
    import pandas as pd

COLUMNS, PANEL = 3, (3.1, 2.5)
CAPTION = (
    "Thin lines are seeds, thick ones their mean. Loss without a branch: its output replaced by zero in one layer of the "
    "trained network, on held-out text. Dashed: before training. State norms are means over layers, against the position in "
    "trained lengths T."
)


def inside_drawings(results: Results) -> list[Drawing]:
    """One for each cell."""
    return [Drawing(own.id, own.title, CAPTION, partial(_figure, own.cell["cell"])) for own in measured(results)]


def _figure(cell: str, results: Results) -> Figure:
    rows = results.probes_of_cell[cell]
    panels = [(title, part, paint) for title, part, paint in _panels(rows) if not part.empty]
    n_rows = math.ceil(len(panels) / COLUMNS)
    figure = Figure(figsize=(PANEL[0] * min(COLUMNS, len(panels)), PANEL[1] * n_rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(n_rows, min(COLUMNS, len(panels)), squeeze=False).flat)
    for ax, (title, part, paint) in zip(axes, panels, strict=False):
        paint(ax, part)
        ax.set_title(title)
    for ax in axes[len(panels) :]:
        ax.remove()
    return figure


def _panels(rows: pd.DataFrame) -> list[tuple[str, pd.DataFrame, Callable[[Axes, pd.DataFrame], None]]]:
    """The questions, what is known of each, and how it is drawn."""
    layered = rows[rows["layer"].notna()]
    return [
        ("Gate", _named(layered, {"gate/mean": "trained", "initial/gate/mean": "initial"}), _gate),
        ("Gate by kind of token", _last(rows[rows["layer"].isna()], "gate/class/"), _classes),
        ("Loss without a branch", _last(layered, "ablation/zero/"), _losses),
        (
            "Variance of the residual stream",
            _named(layered, {"variance/residual": "trained", "initial/variance/residual": "initial"}),
            _variance,
        ),
        ("Variance of the branches", _last(layered, "variance/branch/"), _branch_variance),
        ("Norm of the state", _norms(rows[rows["layer"].isna()]), _growth),
    ]


def _named(rows: pd.DataFrame, names: dict[str, str]) -> pd.DataFrame:
    """The rows of some measures, called by other words in a column `what`."""
    own = rows[rows["name"].isin(names)]
    return own.assign(what=own["name"].map(names))


def _last(rows: pd.DataFrame, prefix: str) -> pd.DataFrame:
    """The rows of the measures with a prefix, called by what comes after it."""
    own = rows[rows["name"].str.startswith(prefix)]
    return own.assign(what=own["name"].str.removeprefix(prefix))


def _norms(rows: pd.DataFrame) -> pd.DataFrame:
    own = _last(rows, "state/norm/")
    return own.assign(at=own["what"].str.split("/").str[1].astype(float), what=own["what"].str.split("/").str[0])


def _lines(ax: Axes, rows: pd.DataFrame, x: str, xlabel: str, ylabel: str) -> None:
    """A colour for each `what`, a dash for those before training; seeds thin, their mean thick."""
    kinds = sorted(rows["what"].unique(), key=lambda kind: (kind == "initial", kind == "m", kind))
    palette = dict(zip(kinds, COLOURS, strict=False))
    dashes = {kind: (3, 1.5) if kind == "initial" else "" for kind in kinds}
    common = {"data": rows, "x": x, "y": "value", "hue": "what", "style": "what", "dashes": dashes, "hue_order": kinds}
    for (kind, _), seed in rows.sort_values(x).groupby(["what", "seed"]):
        line: dict[str, Any] = {"linestyle": (0, dashes[kind]) if dashes[kind] else "-", "linewidth": 0.7, "alpha": 0.45}
        ax.plot(seed[x], seed["value"], color=palette[kind], **line)
    sns.lineplot(**common, errorbar=None, palette=palette, linewidth=2, marker="o", markersize=4, ax=ax)
    ax.legend(title=None, frameon=False, fontsize=7.5, handlelength=2)
    ax.grid(color=GREY, alpha=0.25, linewidth=0.6)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    if x == "layer":
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def _gate(ax: Axes, rows: pd.DataFrame) -> None:
    _lines(ax, rows, "layer", "layer", "weight of the first branch")
    ax.axhline(0.5, color=GREY, linewidth=0.8, linestyle=":")


def _classes(ax: Axes, rows: pd.DataFrame) -> None:
    sns.pointplot(data=rows, x="value", y="what", errorbar=None, linestyle="none", markers="|", color=COLOURS[0], ax=ax)
    sns.stripplot(data=rows, x="value", y="what", jitter=False, size=3.5, alpha=0.6, color=COLOURS[0], ax=ax)
    ax.grid(axis="x", color=GREY, alpha=0.25, linewidth=0.6)
    ax.set(xlabel="mean gate", ylabel="")


def _losses(ax: Axes, rows: pd.DataFrame) -> None:
    _lines(ax, rows, "layer", "layer", "nats a token")
    ax.axhline(0, color=GREY, linewidth=0.8)


def _variance(ax: Axes, rows: pd.DataFrame) -> None:
    _lines(ax, rows, "layer", "after layer", "variance")
    _logarithmic(ax)


def _branch_variance(ax: Axes, rows: pd.DataFrame) -> None:
    _lines(ax, rows, "layer", "layer", "variance")
    _logarithmic(ax)


def _growth(ax: Axes, rows: pd.DataFrame) -> None:
    _lines(ax, rows, "at", "position / T", "L2 norm")
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    _logarithmic(ax)


def _logarithmic(ax: Axes) -> None:
    """A log scale with plain numbers; narrow ranges have some as well."""
    ax.set_yscale("log")
    low, high = ax.get_ylim()
    ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 100 * low else (1.0,)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())
