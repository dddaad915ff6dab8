"""Figures of a study: every seed shown, means with intervals, one colour a variant throughout; the same bytes each time.

A figure whose data a study does not have is not drawn.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from gt.analysis.aggregate import MAIN
from gt.records import atomic_write
from gt.report import text
from gt.report.numbers import Panel, Results, Row, interval_of
from gt.report.svg import small

if TYPE_CHECKING:
    import pandas as pd

# Wong (2011) without yellow and black, with a brown and a grey: distinguishable by the colour-blind, on white and on black.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#A6761D", "#8C8C8C")
DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (5, 1.5, 1, 1.5)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
# Text and axes. The report replaces it by the colour of its own text.
INK = "#24292f"
STYLE: Any = {
    "svg.hashsalt": "groundthink",
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "axes.titlecolor", "xtick.color", "ytick.color"), INK),
}
GREY = "#8c8c8c"
SHORT = FuncFormatter(lambda value, _: text.short(value))
SIZE = "n_params_non_embedding"


@dataclass(frozen=True)
class Drawing:
    """A kind of figure. `draw` returns None where the study has no data for it. wide: also of a study with a single panel."""

    name: str
    title: str
    caption: str
    draw: Callable[[Results], Figure | None]
    wide: bool = False


@dataclass(frozen=True)
class Look:
    """How a cell's label is drawn in every figure."""

    colour: str
    dashes: Any
    marker: str


def save(figure: Figure, path: Path, suffix: str) -> None:
    """Without dates or versions in the file; the SVG is transparent, the PNG white."""
    with atomic_write(path) as temporary:
        if suffix == "svg":
            source = io.StringIO()
            figure.savefig(source, format="svg", metadata={"Date": None}, transparent=True)
            temporary.write_text(small(source.getvalue()), encoding="utf-8")
        else:
            figure.savefig(temporary, format=suffix, metadata={"Software": None}, dpi=160)
    # What has been laid out stays so in the next format.
    figure.set_layout_engine("none")


def looks(labels: Sequence[str]) -> dict[str, Look]:
    """A look for each label, by its place."""
    n = len(COLOURS)
    return {
        label: Look(COLOURS[i % n], DASHES[i // n % len(DASHES)], MARKERS[i % len(MARKERS)]) for i, label in enumerate(labels)
    }


def learning_curves(results: Results) -> Figure | None:
    """Validation bits per byte against tokens."""
    column = "val/bits_per_byte"
    panels = [panel for panel in results.panels if not _curves(results, panel, column).empty]
    if not panels:
        return None
    figure, axes = frame(panels, height=max(3.6, 0.19 * len(results.labels)), width=5.2)
    for ax, panel in zip(axes, panels, strict=True):
        curves = _curves(results, panel, column)
        _draw_curves(ax, curves, column, looks(results.labels))
        bottom = float(curves[column].min())
        # What is well above counting tokens is of no interest, and would flatten the rest.
        unigram = panel.lines.get("unigram", math.inf)
        top = min(float(curves[column].max()), 1.1 * unigram if bottom < unigram else math.inf)
        ax.set_ylim(bottom - 0.05 * (top - bottom), top)
        _reference_lines(ax, panel)
        _label_ends(ax, curves, column, looks(results.labels))
        ax.set_ylabel("validation bits per byte" if ax is axes[0] else "")
    return figure


def gates(results: Results) -> Figure | None:
    """The mean gate of each fusion against tokens."""
    column = "gate/mean"
    panels = [panel for panel in results.panels if not _curves(results, panel, column).empty]
    if not panels:
        return None
    figure, axes = frame(panels, height=max(3.2, 0.19 * len(results.labels)), width=5.2)
    for ax, panel in zip(axes, panels, strict=True):
        curves = _curves(results, panel, column)
        _draw_curves(ax, curves, column, looks(results.labels))
        low, high = min(0.45, float(curves[column].min())), max(0.55, float(curves[column].max()))
        ax.set_ylim(low - 0.05, high + 0.05)
        ax.axhline(0.5, color=GREY, linewidth=0.8, linestyle=":")
        _label_ends(ax, curves, column, looks(results.labels))
        ax.set_ylabel("mean gate (weight of the first branch)" if ax is axes[0] else "")
    return figure


def final_bits_per_byte(results: Results) -> Figure | None:
    """Every seed a dot, the mean a stroke, its interval a bar; the best on top."""
    panels = [panel for panel in results.panels if panel.measured]
    if not panels:
        return None
    most = max(len(panel.rows) for panel in panels)
    figure, axes = frame(panels, height=0.9 + 0.34 * most, width=4.6)
    for ax, panel in zip(axes, panels, strict=True):
        for y, row in enumerate(panel.rows):
            look = looks(results.labels)[row["label"]]
            runs = results.runs[(results.runs["cell"] == row["cell"]) & (results.runs["status"] == "completed")]
            if _number(row["lower"]):
                ax.plot([row["lower"], row["upper"]], [y, y], color=look.colour, linewidth=5, alpha=0.3, solid_capstyle="butt")
            ax.plot([row["mean"]] * 2, [y - 0.28, y + 0.28], color=look.colour, linewidth=2)
            dots: dict[str, Any] = {"color": look.colour, "markersize": 4, "markeredgecolor": "white", "markeredgewidth": 0.5}
            ax.plot(runs[MAIN], np.full(len(runs), y), "o", **dots)
        ax.set_yticks(range(len(panel.rows)), [_with_losses(row) for row in panel.rows])
        ax.set_ylim(len(panel.rows) - 0.4, -0.6)
        ax.grid(axis="x", color=GREY, alpha=0.25, linewidth=0.6)
        ax.xaxis.set_major_locator(MaxNLocator(5))
        ax.set_xlabel("validation bits per byte")
        ax.set_title(panel.title)
    return figure


def parameters(results: Results) -> Figure | None:
    """Bits per byte against parameters without embeddings."""
    known = [row for row in results.cell_rows if _number(row["mean"]) and _number(row[SIZE])]
    panels = [panel for panel in results.panels if sum(row in known for row in panel.rows) > 1]
    if not panels:
        return None
    figure, axes = frame(panels, height=max(3.4, 0.2 * len(results.labels)), width=4.8)
    for ax, panel in zip(axes, panels, strict=True):
        rows = [row for row in panel.rows if row in known]
        for row in rows:
            look = looks(results.labels)[row["label"]]
            if _number(row["lower"]):
                ax.plot([row[SIZE]] * 2, [row["lower"], row["upper"]], color=look.colour, linewidth=3, alpha=0.3)
            ax.plot(row[SIZE], row["mean"], look.marker, color=look.colour, markersize=6)
        sizes = [row[SIZE] for row in rows]
        if max(sizes) > 4 * min(sizes):
            ax.set_xscale("log")
            ax.xaxis.set_minor_formatter(NullFormatter())
        else:
            ax.xaxis.set_major_locator(MaxNLocator(4))
        ax.margins(x=0.08)
        ax.xaxis.set_major_formatter(SHORT)
        ax.grid(color=GREY, alpha=0.25, linewidth=0.6)
        ax.set_xlabel("parameters without embeddings")
        ax.set_ylabel("validation bits per byte" if ax is axes[0] else "")
        ax.set_title(panel.title)
        right_labels(ax, [(row["label"], row[SIZE], row["mean"]) for row in rows], looks(results.labels))
    return figure


def loss_by_position(results: Results) -> Figure | None:
    """Validation loss against the tokens of context that a target had, up to the trained length."""
    return _evaluation_figure(results, "val/by_position", "tokens of context", "validation loss (nats/token)")


def loss_by_context(results: Results) -> Figure | None:
    """The loss of the same tokens against the context they were read in, real and (dashed) in random order."""
    control = ("context/shuffled_loss", "--")
    return _evaluation_figure(results, "context/loss", "context (tokens)", "loss (nats/token)", also=control)


def recall(results: Results) -> Figure | None:
    """Accuracy against how much an episode holds."""
    return _recall_figure(results, "by_items", "items in an episode")


def recall_by_distance(results: Results) -> Figure | None:
    """Accuracy against how far back the answer stands."""
    return _recall_figure(results, "by_distance", "distance (tokens)")


def generated_state(results: Results) -> Figure | None:
    """What is carried to the next token against the tokens generated."""
    return _evaluation_figure(results, "generation/state_bytes", "tokens generated", "state (bytes)", log=True)


def generated_speed(results: Results) -> Figure | None:
    """Tokens/s of generation against the tokens generated."""
    return _evaluation_figure(results, "generation/tokens_per_second", "tokens generated", "tokens/s", log=True)


def _recall_figure(results: Results, what: str, xlabel: str) -> Figure | None:
    tasks = [f"recall/{task}/{what}" for task in results.recall_tasks]
    if not tasks:
        return None
    merged = results.evaluations[results.evaluations["metric"].isin(tasks)]
    chances = results.evaluations[
        results.evaluations["metric"].isin([f"recall/{task}/chance" for task in results.recall_tasks])
    ]

    def axis(ax: Axes, panel: Panel) -> None:
        ax.set_ylim(-0.03, 1.03)
        ax.axhline(float(_of_panel(chances, panel)["value"].iloc[0]), color=GREY, linewidth=0.9, linestyle=":")

    return _draw_evaluation(results, merged, xlabel, "share of right answers", axis=axis)


def _evaluation_figure(
    results: Results,
    metric: str,
    xlabel: str,
    ylabel: str,
    also: tuple[str, str] | None = None,
    log: bool = False,
) -> Figure | None:
    """A panel a corpus and tokenizer. also: another metric and the dashes of its lines, which are means alone."""
    rows = results.evaluations[results.evaluations["metric"] == metric]
    if rows.empty:
        return None
    other = results.evaluations[results.evaluations["metric"] == also[0]] if also is not None else rows.iloc[:0]
    return _draw_evaluation(results, rows, xlabel, ylabel, other, log)


def _draw_evaluation(
    results: Results,
    rows: pd.DataFrame,
    xlabel: str,
    ylabel: str,
    other: pd.DataFrame | None = None,
    log: bool = False,
    axis: Callable[[Axes, Panel], None] | None = None,
) -> Figure:
    """Seeds thin, their means thick, with bars for 95 % intervals: over seeds, or of one seed its own where it has one."""
    style = looks(results.labels)
    panels = [panel for panel in results.panels if not _of_panel(rows, panel).empty]
    figure, axes = frame(panels, height=max(3.4, 0.19 * len(results.labels)), width=5.0)
    for ax, panel in zip(axes, panels, strict=True):
        ends = []
        for label, cell in _of_panel(rows, panel).groupby("label", sort=False):
            look = style[str(label)]
            for _, run in cell.groupby("run_id", sort=False):
                ax.plot(run["at"], run["value"], color=look.colour, linewidth=0.7, alpha=0.45)
            mean = cell.groupby("at")["value"].mean()
            ax.plot(mean.index, mean, look.marker, color=look.colour, linewidth=2, linestyle=look.dashes, markersize=4)
            for _, here in cell.groupby("at"):
                if (bounds := interval_of(here)) is not None:
                    ax.plot(
                        [float(here["at"].iloc[0])] * 2,
                        bounds,
                        color=look.colour,
                        linewidth=5,
                        alpha=0.3,
                        solid_capstyle="butt",
                    )
            ends.append((str(label), float(mean.index[-1]), float(mean.iloc[-1])))
        if other is not None:
            for label, cell in _of_panel(other, panel).groupby("label", sort=False):
                mean = cell.groupby("at")["value"].mean()
                ax.plot(mean.index, mean, color=style[str(label)].colour, linewidth=1, linestyle="--", alpha=0.7)
        ax.set_xscale("log", base=2)
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        if log:
            ax.set_yscale("log")
            ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            ax.yaxis.set_major_formatter(SHORT)
            ax.yaxis.set_minor_formatter(NullFormatter())
        if axis is not None:
            axis(ax, panel)
        ax.grid(color=GREY, alpha=0.25, linewidth=0.6)
        ax.set_xlabel(xlabel)
        ax.set_ylabel(ylabel if ax is axes[0] else "")
        right_labels(ax, ends, style)
    return figure


def _of_panel(rows: pd.DataFrame, panel: Panel) -> pd.DataFrame:
    return rows[(rows["corpus"] == panel.corpus) & (rows["tokenizer"] == panel.tokenizer)]


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
        "Validation bits per byte after training, lower is better. Each dot is a seed, the stroke the mean, the bar its 95 % "
        "t interval. Intervals include what the seeds share; the paired differences in the tables do not, and are tighter.",
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


EVALUATION_DRAWINGS = (
    Drawing(
        "loss_by_position",
        "Loss by position",
        "Validation loss against the tokens of context that a target had, in octaves up to the trained length. Thin lines are "
        "seeds, thick ones their mean.",
        loss_by_position,
    ),
    Drawing(
        "loss_by_context",
        "Loss by context",
        "The loss of the same validation tokens in windows of growing length; dashed, with all but the last eighth of the "
        "trained length in random order.",
        loss_by_context,
    ),
    Drawing(
        "recall",
        "Recall by items",
        "The share of right answers in unseen episodes against how many items an episode holds, with 95 % intervals; dotted, "
        "that of a guess.",
        recall,
    ),
    Drawing(
        "recall_by_distance",
        "Recall by distance",
        "The share of right answers against how far back, in octaves, the token stands that the answer repeats.",
        recall_by_distance,
    ),
    Drawing(
        "generated_state",
        "State and length",
        "Bytes carried to the next token when generating: constant for recurrences, growing for the cache of attention.",
        generated_state,
    ),
    Drawing(
        "generated_speed",
        "Speed and length",
        "Tokens/s when generating one sequence, measured between the lengths shown.",
        generated_speed,
    ),
)


def frame(panels: Sequence[Panel], height: float, width: float) -> tuple[Figure, list[Axes]]:
    """A row of axes, at most two beside each other."""
    columns = min(2, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(width * columns, (height + 0.5) * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for ax in axes[len(panels) :]:
        ax.remove()
    for ax, panel in zip(axes, panels, strict=False):
        ax.set_title(panel.title)
    return figure, axes[: len(panels)]


def _curves(results: Results, panel: Panel, column: str) -> pd.DataFrame:
    """The rows of a panel's curves where a column is a finite number, but for step 0, which has no place on a log axis."""
    curves = results.curves
    if column not in curves:
        return curves.iloc[:0]
    here = (curves["corpus"] == panel.corpus) & (curves["tokenizer"] == panel.tokenizer) & (curves["tokens"] > 0)
    return curves[here & np.isfinite(curves[column].astype(float))]


def _draw_curves(ax: Axes, curves: pd.DataFrame, column: str, style: dict[str, Look]) -> None:
    """Seeds thin, the mean over the seeds that completed thick, a cross at the end of a run that diverged."""
    for label, cell in curves.groupby("label", sort=False):
        look = style[str(label)]
        for _, run in cell.groupby("run_id", sort=False):
            ax.plot(run["tokens"], run[column], color=look.colour, linewidth=0.7, alpha=0.45)
            if run["status"].iloc[0] == "diverged":
                ax.plot(run["tokens"].iloc[-1], run[column].iloc[-1], "x", color=look.colour, markersize=6, markeredgewidth=1.6)
        mean = _mean_curve(cell, column)
        ax.plot(mean.index, mean, color=look.colour, linewidth=2, linestyle=look.dashes)
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    ax.xaxis.set_major_formatter(SHORT)
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.grid(color=GREY, alpha=0.25, linewidth=0.6)
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


def _label_ends(ax: Axes, curves: pd.DataFrame, column: str, style: dict[str, Look]) -> None:
    ends = []
    for label, cell in curves.groupby("label", sort=False):
        mean = _mean_curve(cell, column)
        if len(mean):
            ends.append((str(label), float(mean.index[-1]), float(mean.iloc[-1])))
    right_labels(ax, ends, style)


def right_labels(ax: Axes, points: list[tuple[str, float, float]], style: dict[str, Look]) -> None:
    """Name points (label, x, y) to the right of the axes, in their colours and order, moved apart where they would overlap."""
    figure = ax.figure.figure
    gap = 11.5 / (ax.get_position().height * figure.get_figheight() * 72)
    to_axes = ax.transData + ax.transAxes.inverted()
    low, high = ax.get_ylim()
    wanted = sorted((*to_axes.transform((x, min(max(y, low), high)))[::-1], label) for label, x, y in points)
    for (y, x, label), shown in zip(wanted, _spread([place[0] for place in wanted], gap), strict=True):
        colour = style[label].colour
        line: dict[str, Any] = {"transform": ax.transAxes, "clip_on": False, "linewidth": 0.7, "alpha": 0.6}
        ax.plot([x + 0.015, 1.0, 1.045], [y, y, shown], color=colour, **line)
        ax.text(1.055, shown, label, transform=ax.transAxes, color=colour, fontsize=8.5, va="center")


def _spread(places: list[float], gap: float) -> list[float]:
    """Rising places between 0 and 1, moved as little as needed to stand `gap` apart: neighbours pool around their mean."""
    pools: list[list[float]] = []
    for i, place in enumerate(places):
        pools.append([place - i * gap])
        while len(pools) > 1 and _mean(pools[-2]) > _mean(pools[-1]):
            last = pools.pop()
            pools[-1] += last
    highest = 1 - gap * (len(places) - 1)
    flat = [min(max(_mean(pool), 0.0), highest) for pool in pools for _ in pool]
    return [value + i * gap for i, value in enumerate(flat)]


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _with_losses(row: Row) -> str:
    """A cell's label, and below it what became of the runs that did not complete."""
    lost = ", ".join(f"{row[status]} {status}" for status in ("diverged", "failed", "missing") if row[status])
    return f"{row['label']}\n({lost})" if lost else str(row["label"])


def _number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
