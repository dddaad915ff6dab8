"""What a difference is worth: how much more of something the baseline needs for the same loss, as a figure and in sentences."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from gt.analysis.equal_loss import COSTS, Point, budgets, reached
from gt.report import text
from gt.report.drawing import SHORT, Drawing, frame, looks, right_labels
from gt.report.numbers import Results, Row
from gt.report.study_tables import saved
from gt.report.tables import Column, Table, naming

# Points of the baseline's line.
POINTS = 60
WORDS = {"tokens": "Tokens", "device_seconds": "Device time", "parameters": "Parameters"}


def _compared(results: Results) -> dict[str, list[Row]]:
    """By cell of the baseline that was run with several budgets, the cells whose saved tokens are known."""
    baselines = dict(zip(results.contrasts["cell"], results.contrasts["baseline"], strict=True))
    found: dict[str, list[Row]] = {}
    for row in results.run_cells:
        if not text.absent(row["tokens_saved"]):
            found.setdefault(str(baselines[row["cell"]]), []).append(row)
    return found


def drawn(results: Results) -> Figure | None:
    """Loss against tokens: the baseline at its budgets, and from each other cell an arrow to the same loss there."""
    shown, known = _compared(results), budgets(results.plan)
    if not shown:
        return None
    rows = {row["cell"]: row for row in results.run_cells}
    titles = [f"{rows[base]['corpus']}, {rows[base]['tokenizer']}" for base in shown]
    figure, axes = frame(titles, height=3.4, width=5.1 if len(shown) > 1 else 7.5)
    style = looks(results)
    for ax, (base, others) in zip(axes, shown.items(), strict=True):
        points = sorted((_tokens(results, cell.id), float(rows[cell.id]["mean"])) for cell in known[base])
        _draw_baseline(ax, points, style[rows[base]["label"]].colour)
        for row in others:
            tokens, loss, colour = _tokens(results, row["cell"]), float(row["mean"]), style[row["label"]].colour
            at = reached(points, loss)
            if at is not None and math.isfinite(at):
                ax.annotate("", (math.exp(at), loss), (tokens, loss), arrowprops={"arrowstyle": "->", "color": colour})
            ax.plot(tokens, loss, "o", color=colour, markersize=6)
        ends = [(row["label"], _tokens(results, row["cell"]), float(row["mean"])) for row in others]
        right_labels(ax, [(rows[base]["label"], *points[-1]), *ends], style)
    return figure


def _draw_baseline(ax: Axes, points: list[Point], colour: str) -> None:
    """Its budgets, joined by the curve that is read."""
    tokens, losses = zip(*points, strict=True)
    line = [(reached(points, float(loss)), loss) for loss in np.geomspace(losses[0], losses[-1], POINTS)]
    inside = [(math.exp(at), loss) for at, loss in line if at is not None and math.isfinite(at)]
    ax.set_xscale("log")
    if inside:
        ax.plot(*zip(*inside, strict=True), color=colour, linewidth=1.8)
    ax.plot(tokens, losses, "s", color=colour, markersize=6)
    ax.xaxis.set_major_locator(FixedLocator(list(tokens)))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(SHORT)
    ax.set_xlabel("tokens")
    ax.set_ylabel("validation bits per byte")


def _tokens(results: Results, cell: str) -> float:
    return float(results.runs.loc[results.runs["cell"] == cell, "tokens"].dropna().iloc[0])


def equal_loss_table(results: Results) -> Table:
    """A row for each cell that saves something known, or takes more."""
    known = [cost for cost in COSTS if not all(text.absent(row[f"{cost}_saved"]) for row in results.run_cells)]
    rows = [row for row in results.run_cells if not all(text.absent(row[f"{cost}_saved"]) for cost in known)]
    columns = (
        *naming(rows, with_place=True),
        *(Column(f"{cost}_saved", WORDS[cost], whole_row=saved(cost)) for cost in known),
    )
    caption = (
        f"Saved of what the baseline {results.baseline} needs for the same loss, with 95 % over seeds: below zero it takes "
        "more. > and < where the loss lies beyond what the baseline was run with, so that no more than a bound is known."
    )
    more = tuple(f"{cost}_saved_{part}" for cost in known for part in ("lower", "upper", "bound", "n"))
    return Table("equal_loss", caption, columns, tuple(rows), more)


EQUAL_LOSS_DRAWING = Drawing(
    "equal_loss",
    "Tokens to equal loss",
    "Mean validation bits per byte against tokens: the baseline (squares) at each of its budgets, every one a run of its own "
    "to the end of its schedule, and the curve through them; from each other model an arrow to the same loss there.",
    drawn,
)
