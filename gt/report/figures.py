"""Figures of a study: seeds shown, means with intervals, one colour a variant throughout; the same bytes each time.

A figure whose data a study does not have is not drawn.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from gt.analysis.aggregate import MAIN
from gt.report.drawing import (
    GREY,
    SHORT,
    Drawing,
    Look,
    View,
    frame,
    limits,
    looks,
    right_labels,
    series,
    share_y,
    view_frame,
    views,
)
from gt.report.numbers import Panel, Results, Row

if TYPE_CHECKING:
    import pandas as pd

SIZE = "n_params_non_embedding"
# Sizes of which none is so much larger than another count as one.
SAME_SIZE = 1.02


def learning_curves(results: Results) -> Figure | None:
    """Validation bits per byte against tokens."""
    column = "val/bits_per_byte"
    curves = _curves(results, column)
    if not (shown := views(results.panels, curves)):
        return None
    figure, axes = view_frame(shown)
    style = looks(results)
    for ax, view in zip(axes, shown, strict=True):
        _draw_curves(ax, view.of(curves), column, view.looks(style))
        bottom, top = (float(f(view.of(curves)[column])) for f in (min, max))
        # What is well above counting tokens is of no interest, and would flatten the rest.
        unigram = view.panel.lines.get("unigram", math.inf)
        top = min(top, 1.1 * unigram if bottom < unigram else math.inf)
        ax.set_ylim(bottom - 0.05 * (top - bottom), top)
        ax.set_ylabel("validation bits per byte" if ax is axes[0] else "")
    share_y(axes, shown)
    for ax, view in zip(axes, shown, strict=True):
        _reference_lines(ax, view.panel)
        _label_ends(ax, view, curves, column, style)
    return figure


def gates(results: Results) -> Figure | None:
    """The mean gate of each fusion against tokens."""
    column = "gate/mean"
    curves = _curves(results, column)
    if not (shown := views(results.panels, curves, split=False)):
        return None
    figure, axes = view_frame(shown)
    style = looks(results)
    for ax, view in zip(axes, shown, strict=True):
        own = view.of(curves)
        _draw_curves(ax, own, column, view.looks(style))
        low, high = min(0.45, float(own[column].min())), max(0.55, float(own[column].max()))
        ax.set_ylim(low - 0.05, high + 0.05)
        ax.axhline(0.5, color=GREY, linewidth=0.8, linestyle=":")
        ax.set_ylabel("mean gate (weight of the first branch)" if ax is axes[0] else "")
    share_y(axes, shown)
    for ax, view in zip(axes, shown, strict=True):
        _label_ends(ax, view, curves, column, style)
    return figure


def final_bits_per_byte(results: Results) -> Figure | None:
    """Every seed a dot, the mean a stroke, its interval a bar; of the same settings the best on top."""
    panels = [panel for panel in results.panels if panel.measured]
    if not panels:
        return None
    most = max(len(panel.rows) for panel in panels)
    figure, axes = frame([panel.title for panel in panels], height=0.9 + (0.34 if most <= 12 else 0.24) * most, width=4.9)
    style = looks(results)
    dots: dict[str, Any] = {"markersize": 4, "markeredgecolor": "white", "markeredgewidth": 0.5}
    for ax, panel in zip(axes, panels, strict=True):
        seeds = []
        for y, row in enumerate(panel.rows):
            look = style[row["label"]]
            runs = results.runs[(results.runs["cell"] == row["cell"]) & (results.runs["status"] == "completed")]
            if _number(row["lower"]):
                bar: dict[str, Any] = {"linewidth": 5, "alpha": 0.3, "solid_capstyle": "butt"}
                own = series(row["label"], "95 % interval")
                ax.plot([row["lower"], row["upper"]], [y, y], color=look.colour, **bar, **own)
            stroke = series(row["label"], "mean")
            ax.plot([row["mean"]] * 2, [y - 0.28, y + 0.28], color=look.colour, linewidth=2, **stroke)
            ax.plot(
                runs[MAIN], np.full(len(runs), y), "o", color=look.colour, **dots, **series(row["label"], "seed", runs["seed"])
            )
            seeds += runs[MAIN].tolist()
        for rows in panel.groups[1:]:
            ax.axhline(panel.rows.index(rows[0]) - 0.5, color=GREY, linewidth=0.6)
        ax.set_xlim(limits(seeds, [(row["lower"], row["upper"]) for row in panel.measured if _number(row["lower"])]))
        ax.set_yticks(range(len(panel.rows)), [_with_losses(row) for row in panel.rows])
        ax.set_ylim(len(panel.rows) - 0.4, -0.6)
        ax.grid(visible=False, axis="y")
        ax.xaxis.set_major_locator(MaxNLocator(5))
        ax.set_xlabel("validation bits per byte")
    return figure


def parameters(results: Results) -> Figure | None:
    """Bits per byte against parameters without embeddings, where there are models of several sizes."""
    known = [row for row in results.cell_rows if _number(row["mean"]) and _number(row[SIZE])]
    panels = [panel for panel in results.panels if _sizes_differ([row for row in panel.rows if row in known])]
    if not panels:
        return None
    height = max(3.4, 0.2 * max(len(panel.rows) for panel in panels))
    figure, axes = frame([panel.title for panel in panels], height=height, width=4.8)
    style = looks(results)
    for ax, panel in zip(axes, panels, strict=True):
        rows = [row for row in panel.rows if row in known]
        for row in rows:
            look = style[row["label"]]
            if _number(row["lower"]):
                bar = series(row["label"], "95 % interval")
                ax.plot([row[SIZE]] * 2, [row["lower"], row["upper"]], color=look.colour, linewidth=3, alpha=0.3, **bar)
            ax.plot(row[SIZE], row["mean"], look.marker, color=look.colour, markersize=6, **series(row["label"], "mean"))
        sizes = [row[SIZE] for row in rows]
        if max(sizes) > 4 * min(sizes):
            ax.set_xscale("log")
            ax.xaxis.set_minor_formatter(NullFormatter())
        else:
            ax.xaxis.set_major_locator(MaxNLocator(4))
        ax.margins(x=0.08)
        ax.set_ylim(limits([row["mean"] for row in rows], [(r["lower"], r["upper"]) for r in rows if _number(r["lower"])]))
        ax.xaxis.set_major_formatter(SHORT)
        ax.set_xlabel("parameters without embeddings")
        ax.set_ylabel("validation bits per byte" if ax is axes[0] else "")
        right_labels(ax, [(row["label"], row[SIZE], row["mean"]) for row in rows], style)
    return figure


def _sizes_differ(rows: list[Row]) -> bool:
    sizes = [row[SIZE] for row in rows]
    return len(sizes) > 1 and max(sizes) > SAME_SIZE * min(sizes)


def _curves(results: Results, column: str) -> pd.DataFrame:
    """The rows of curves where a column is a finite number, but for step 0, which has no place on a log axis."""
    curves = results.curves
    if column not in curves:
        return curves.iloc[:0]
    return curves[(curves["tokens"] > 0) & np.isfinite(curves[column].astype(float))]


def _draw_curves(ax: Axes, curves: pd.DataFrame, column: str, style: dict[str, Look]) -> None:
    """Seeds thin, the mean over the seeds that completed thick, a cross at the end of a run that diverged."""
    for label, cell in curves.groupby("label", sort=False):
        look = style[str(label)]
        for _, run in cell.groupby("run_id", sort=False):
            diverged = run["status"].iloc[0] == "diverged"
            if look.named or diverged:
                own = series(str(label), f"seed {run['seed'].iloc[0]}")
                ax.plot(run["tokens"], run[column], color=look.colour, linewidth=0.7, alpha=0.45, **own)
            if diverged:
                ax.plot(run["tokens"].iloc[-1], run[column].iloc[-1], "x", color=look.colour, markersize=6, markeredgewidth=1.6)
        mean = _mean_curve(cell, column)
        line: dict[str, Any] = {"linewidth": look.width, "linestyle": look.dashes, "zorder": look.width}
        ax.plot(mean.index, mean, color=look.colour, **line, **series(str(label), "mean"))
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    ax.xaxis.set_major_formatter(SHORT)
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel("tokens")


def _mean_curve(cell: pd.DataFrame, column: str) -> pd.Series:
    """The mean over a cell's completed seeds at the tokens where all of them were measured."""
    done = cell[cell["status"] == "completed"]
    at = done.groupby("tokens")[column]
    return at.mean()[at.count() == done["run_id"].nunique()]


def _reference_lines(ax: Axes, panel: Panel) -> None:
    low, high = ax.get_ylim()
    for order, value in panel.lines.items():
        if low < value < high:
            ax.axhline(value, color=GREY, linewidth=0.9, linestyle=":")
            where: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
            ax.annotate(order, (0.99, value), xytext=(0, 2), **where, fontsize=7.5, color=GREY, ha="right")


def _label_ends(ax: Axes, view: View, curves: pd.DataFrame, column: str, style: dict[str, Look]) -> None:
    ends, own = [], view.of(curves)
    for label, cell in own[own["label"].isin(view.named)].groupby("label", sort=False):
        mean = _mean_curve(cell, column)
        if len(mean):
            ends.append((str(label), float(mean.index[-1]), float(mean.iloc[-1])))
    right_labels(ax, ends, style, view.names)


def _with_losses(row: Row) -> str:
    """A cell's label, and below it what became of the runs that did not complete."""
    lost = ", ".join(f"{row[status]} {status}" for status in ("diverged", "failed", "missing") if row[status])
    return f"{row['label']}\n({lost})" if lost else str(row["label"])


def _number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


DRAWINGS = (
    Drawing(
        "learning_curves",
        "Learning curves",
        "Validation bits per byte against tokens trained on. Thin lines are seeds, thick ones their mean while all seeds last; "
        "a cross is the last one of a run that diverged. Curves are measured on a small fixed slice of the "
        "validation split; the tables, and the dotted lines of n-gram models of the training text, on a larger one.",
        learning_curves,
    ),
    Drawing(
        "final_bits_per_byte",
        "Final bits per byte",
        "Validation bits per byte after training, lower is better; cells of the same settings stand together. Each dot is a "
        "seed, the stroke the mean, the bar its 95 % "
        "t interval. Intervals include what the seeds share; the paired differences in the tables do not, and are tighter. "
        "What of an interval is far beyond all seeds is cut off.",
        final_bits_per_byte,
    ),
    Drawing(
        "gates",
        "Gates of the fusions",
        "The weight that a fusion gives to its first branch, averaged over tokens, channels and layers, on the validation "
        "slice. Thin lines are seeds, thick ones their mean; the dotted line is an even split.",
        gates,
    ),
    Drawing(
        "parameters",
        "Parameters and bits per byte",
        "Mean validation bits per byte with its 95 % interval against the number of parameters without embeddings.",
        parameters,
    ),
)
