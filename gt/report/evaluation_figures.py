"""Figures of what trained models can do: seeds thin, their means thick. Where a study has no data there is no figure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from gt.report.drawing import GREY, PLAIN, SHORT, Drawing, Look, limits, looks, right_labels, series, share_y, view_frame, views
from gt.report.evaluation_tables import cost_batches
from gt.report.numbers import Results, interval_of

if TYPE_CHECKING:
    import pandas as pd


def loss_by_position(results: Results) -> Figure | None:
    """Validation loss against the tokens of context that a target had, up to the trained length."""
    return _figure(results, "val/by_position", "tokens of context", "validation loss (nats/token)")


def loss_by_context(results: Results) -> Figure | None:
    """The loss of the same tokens against the context they were read in, real and (dashed) in random order."""
    return _figure(results, "context/loss", "context (tokens)", "loss (nats/token)", other="context/shuffled_loss")


def recall(results: Results) -> Figure | None:
    """Accuracy against how much an episode holds."""
    return _recall(results, "by_items", "items in an episode")


def recall_by_distance(results: Results) -> Figure | None:
    """Accuracy against how far back the answer stands."""
    return _recall(results, "by_distance", "distance (tokens)")


def generated_state(results: Results) -> Figure | None:
    """What is carried to the next token against the tokens generated."""
    return _figure(results, "generation/state_bytes", "tokens generated", "state (bytes)", log=True)


def generated_speed(results: Results) -> Figure | None:
    """Tokens/s of generation against the tokens generated."""
    return _figure(results, "generation/tokens_per_second", "tokens generated", "tokens/s", log=True)


def cost_speed(results: Results) -> Figure | None:
    """Tokens/s of a training pass, and (dashed) of a forward pass, against the length of windows, in the largest batch."""
    training, forward = (_largest(results, f"cost/{name}_tokens_per_second") for name in ("training", "forward"))
    return _figure(results, training, "length of windows (tokens)", "tokens/s", other=forward, log=True)


def cost_memory(results: Results) -> Figure | None:
    """Peak bytes of a training pass, and (dashed) of a forward pass, against the length of windows, in the largest batch."""
    training, forward = (_largest(results, f"cost/{name}_peak_bytes") for name in ("training", "forward"))
    return _figure(results, training, "length of windows (tokens)", "peak memory (bytes)", other=forward, log=True)


def _largest(results: Results, metric: str) -> str:
    """A metric at the largest batch that was measured."""
    return f"{metric}/batch_{max(cost_batches(results), default=0)}"


def _recall(results: Results, what: str, xlabel: str) -> Figure | None:
    def metrics(name: str) -> pd.DataFrame:
        return results.evaluations[
            results.evaluations["metric"].isin([f"recall/{task}/{name}" for task in results.recall_tasks])
        ]

    rows, chances, controls = metrics(what), metrics("chance"), metrics("control")
    if rows.empty:
        return None
    shown = views(results.panels, rows)
    figure, axes = view_frame(shown)
    style = looks(results)
    for ax, view in zip(axes, shown, strict=True):
        ends = _lines(ax, view.of(rows), view.looks(style))
        ax.set_xscale("log", base=2)
        ax.xaxis.set_major_formatter(PLAIN)
        ax.set_ylim(-0.03, 1.03)
        ax.axhline(float(view.of(chances)["value"].iloc[0]), color=GREY, linewidth=0.9, linestyle=":")
        if not (control := view.of(controls)).empty:
            ax.axhline(float(control["value"].mean()), color=GREY, linewidth=0.9, linestyle="--")
        ax.set(xlabel=xlabel, ylabel="share of right answers" if ax is axes[0] else "")
        right_labels(ax, ends, style, view.names)
    return figure


def _figure(
    results: Results, metric: str, xlabel: str, ylabel: str, other: str | None = None, log: bool = False
) -> Figure | None:
    """other: another metric, whose means are dashed lines."""
    rows, dashed = (results.evaluations[results.evaluations["metric"] == name] for name in (metric, other))
    if rows.empty:
        return None
    shown = views(results.panels, rows)
    figure, axes = view_frame(shown)
    style, ends = looks(results), []
    for ax, view in zip(axes, shown, strict=True):
        own = view.looks(style)
        ends.append(_lines(ax, view.of(rows), own))
        for label, cell in view.of(dashed).groupby("label", sort=False):
            if own[str(label)].named:
                mean = cell.groupby("at")["value"].mean()
                ax.plot(mean.index, mean, color=own[str(label)].colour, linewidth=1, linestyle="--", alpha=0.7)
        ax.set_xscale("log", base=2)
        ax.xaxis.set_major_formatter(PLAIN)
        if log:
            ax.set_yscale("log")
            ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            ax.yaxis.set_major_formatter(SHORT)
            ax.yaxis.set_minor_formatter(NullFormatter())
        else:
            ax.set_ylim(limits([*view.of(rows)["value"], *view.of(dashed)["value"]], []))
        ax.set(xlabel=xlabel, ylabel=ylabel if ax is axes[0] else "")
    share_y(axes, shown)
    for ax, view, points in zip(axes, shown, ends, strict=True):
        right_labels(ax, points, style, view.names)
    return figure


def _lines(ax: Axes, rows: pd.DataFrame, style: dict[str, Look]) -> list[tuple[str, float, float]]:
    """Seeds thin, their means thick, with bars for 95 % intervals side by side. Returns where those named end: label, x, y."""
    ends = []
    bar: dict[str, Any] = {"linewidth": 3, "alpha": 0.35, "solid_capstyle": "butt"}
    named = [label for label in rows["label"].unique() if style[label].named]
    for label, cell in rows.groupby("label", sort=False):
        look = style[str(label)]
        for _, run in cell.groupby("run_id", sort=False) if look.named else ():
            own = series(str(label), f"seed {run['seed'].iloc[0]}")
            ax.plot(run["at"], run["value"], color=look.colour, linewidth=0.7, alpha=0.45, **own)
        mean = cell.groupby("at")["value"].mean()
        line: dict[str, Any] = {"linewidth": look.width, "linestyle": look.dashes, "zorder": look.width}
        ax.plot(mean.index, mean, marker=look.marker, markersize=4, color=look.colour, **line, **series(str(label), "mean"))
        if not look.named:
            continue
        aside = 2 ** (0.05 * (named.index(label) - (len(named) - 1) / 2))
        for _, here in cell.groupby("at"):
            if (bounds := interval_of(here)) is not None:
                interval = series(str(label), "95 % interval")
                ax.plot([float(here["at"].iloc[0]) * aside] * 2, bounds, color=look.colour, **bar, **interval)
        ends.append((str(label), float(mean.index[-1]), float(mean.iloc[-1])))
    return ends


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
        "that of a guess; dashed, the mean of the controls, in which what is asked for was taken out.",
        recall,
    ),
    Drawing(
        "recall_by_distance",
        "Recall by distance",
        "The share of right answers against how far back, in octaves, the token stands that the answer repeats; dotted and "
        "dashed as before.",
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
    Drawing(
        "cost_speed",
        "Speed by length",
        "Tokens/s of a training pass, forward and backward, in windows of growing length; dashed, of a forward pass. In the "
        "largest batch that was measured, without compiled regions.",
        cost_speed,
    ),
    Drawing(
        "cost_memory",
        "Memory by length",
        "Peak bytes of a training pass in windows of growing length; dashed, of a forward pass. In the largest batch that was "
        "measured.",
        cost_memory,
    ),
)
