"""A study's ladder in a report: its laws as a figure, and how well they foretell the largest rung in tables and sentences."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from gt.analysis.aggregate import label
from gt.analysis.ladder import Arm, Band, Decisions, Ladder, Size, band
from gt.analysis.laws import Laws
from gt.report import text
from gt.report.document import Block, Tabular, Text
from gt.report.drawing import SHORT, Drawing, Look, frame, looks, right_labels
from gt.report.numbers import Results
from gt.report.tables import Column, Row, Table

OVER: dict[Size, str] = {"parameters": "parameters without embeddings", "compute": "FLOPs of training"}
RULES = {
    "constant": "the same at every rung",
    "1/width": "that of the first rung, divided by how much wider a rung is",
    "1/sqrt(width)": "that of the first rung, divided by the root of how much wider a rung is",
    "tuned": "tuned at each rung",
}
# Points of a law's line and band.
POINTS = 60


def drawn(results: Results) -> Figure | None:
    """Loss against parameters and against compute, by arm: seeds, laws without the largest rung, and bands."""
    shown = [(ladder, size) for ladder in results.ladders for size in OVER]
    if not shown:
        return None
    most = max(len(ladder.arms) for ladder, _ in shown)
    figure, axes = frame([ladder.title for ladder, _ in shown], height=max(3.4, 0.19 * most), width=5.1)
    style = looks(results)
    for ax, (ladder, size) in zip(axes, shown, strict=True):
        own = {arm.name: Look(style[label(arm.cells[0])].colour, "-", "o") for arm in ladder.arms}
        ax.set_xscale("log")
        for arm, laws in zip(ladder.arms, ladder.laws[size], strict=True):
            draw_arm(ax, arm, laws, arm.sizes[size], own[arm.name].colour)
        ax.set_xticks(sorted({float(at) for at in ladder.arms[0].sizes[size]}))
        ax.xaxis.set_major_formatter(SHORT)
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.set_xlabel(OVER[size])
        ax.set_ylabel("validation bits per byte" if size == "parameters" else "")
        right_labels(ax, [(arm.name, arm.sizes[size][-1], arm.losses[:, -1].mean()) for arm in ladder.arms], own)
    return figure


def draw_arm(ax: Axes, arm: Arm, laws: Laws, sizes: np.ndarray, colour: str) -> None:
    """Dots of seeds, a ring for the mean that the law has not seen, its line whole where it was fitted, and its band."""
    at = np.geomspace(sizes[0], sizes[-1], POINTS)
    bands = np.array([band(laws.at(float(x))) for x in at], dtype=float)  # without bands, not a number
    line, fitted = bands[:, 0], at <= sizes[-2] * 1.001
    ax.fill_between(at, bands[:, 1], bands[:, 2], color=colour, alpha=0.25, linewidth=0)
    ax.plot(at[fitted], line[fitted], color=colour, linewidth=1.8)
    ax.plot(at[~fitted], line[~fitted], color=colour, linewidth=1.8, linestyle=(0, (3, 1.5)))
    for x, losses in zip(sizes, arm.losses.T, strict=True):
        ax.plot([x] * len(losses), losses, "o", color=colour, markersize=3.5, markeredgecolor="white", markeredgewidth=0.4)
    ax.plot(sizes[-1], arm.losses[:, -1].mean(), "o", color=colour, fillstyle="none", markersize=11, markeredgewidth=1.4)


def ladder_blocks(results: Results) -> list[Block]:
    """What the laws are, and how well they foretell the largest rung."""
    blocks: list[Block] = []
    for ladder in results.ladders:
        pairs = [pairs_table(ladder)] if len(ladder.arms) > 1 else []
        tables = [held_out_table(ladder), *pairs, laws_table(ladder)]
        blocks += [*map(Text, (_about(results, ladder), _accuracy(ladder))), *map(Tabular, tables)]
    return blocks


def _about(results: Results, ladder: Ladder) -> str:
    """What the rungs are, and how the learning rate goes over them."""
    assert results.plan.ladder is not None
    rate, path = RULES[results.plan.ladder.learning_rate], results.plan.ladder.rungs
    lost = f" The others, {text.listed([str(seed) for seed in ladder.lost])}, have not all completed." if ladder.lost else ""
    short = text.listed(ladder.short) if ladder.short else ""
    out = f" Left out, without runs at all rungs or not growing from each to the next: {short}." if short else ""
    rungs, seeds = f"{text.listed(ladder.rungs)} of `{path.rpartition('.')[2]}`", text.plural(len(ladder.seeds), "seed")
    return (
        f"On {ladder.title}, the rungs {rungs}, of {seeds} that all arms have.{lost}"
        f" The learning rate is {rate}. The largest is held out: laws are fitted to the others.{out}"
    )


def _accuracy(ladder: Ladder) -> str:
    """How far the laws are off at the largest rung, beside the baselines."""
    last, before = ladder.rungs[-1], ladder.rungs[-2]
    measured = ladder.losses[0, :, -1]
    off, same = (np.abs(own - measured).mean() for own in (ladder.predicted["parameters"][0], ladder.losses[0, :, -2]))
    said = (
        f"At {last} the laws of parameters are off by {text.decimals(float(off))} bits per byte on average; the losses at "
        f"{before} are by {text.decimals(float(same))}."
    )
    if (found := ladder.decisions()) is None:
        return said
    pairs = ladder.pairs()
    laws = fmean(abs(pair.predicted.value - pair.measured.value) for pair in pairs)
    carried = fmean(abs(pair.carried - pair.measured.value) for pair in pairs)
    return (
        f"{said} A difference between two arms is foretold to {text.decimals(laws)} on average, and to {text.decimals(carried)}"
        f" by the difference at {before} alone. {_decided(found, last, before)}"
    )


def _decided(found: Decisions, last: str, before: str) -> str:
    """Decision accuracy, of all pairs and of those whose difference is seen."""
    if found.pairs == 1:
        of_laws, of_rank = ("right" if own.value == 1 else "wrong" for own in (found.laws, found.rank))
        return f"Of the one pair of arms the laws have the sign {of_laws}, and the ranks at {before} have it {of_rank}."
    laws, rank = _share(found.laws), _share(found.rank)
    pairs = text.plural(found.pairs, "pair")
    of = f"Of {pairs} of arms the laws have the sign of {laws} right, and the ranks at {before} of {rank}"
    if found.laws_decided is None or found.rank_decided is None:
        return f"{of}; no difference at {last} is seen with these seeds."
    seen = f"of the {found.decided} whose difference at {last} is seen (p < 0.05, unadjusted)"
    return f"{of}; {seen}, {100 * found.laws_decided:.0f} % and {100 * found.rank_decided:.0f} %."


def _share(own: Band) -> str:
    """67 % [33, 100]"""
    inside = "" if own.lower is None or own.upper is None else f" [{100 * own.lower:.0f}, {100 * own.upper:.0f}]"
    return f"{100 * own.value:.0f} %{inside}"


def held_out_table(ladder: Ladder) -> Table:
    """What the law of each arm, of parameters and of compute, says of the largest rung, and what is there."""
    rows: list[Row] = []
    for size, i, arm, laws in _laws(ladder):
        predicted, measured = laws.at(float(arm.sizes[size][-1])), ladder.losses[:, i, -1]
        rows.append(
            {
                "arm": arm.name,
                "over": size,
                **_named("predicted", band(predicted)),
                "measured": float(measured[0]),
                **_named("error", band(predicted - measured)),
                "before": float(ladder.losses[0, i, -2]),
                "edge": "; ".join(filter(None, (laws.edge, _at_ends(arm)))),
            }
        )
    columns = (
        Column("arm", "Arm", "left"),
        Column("over", "Law of", "left"),
        Column("predicted", f"Foretold at {ladder.rungs[-1]}", whole_row=lambda row: _shown(row, "predicted", 4)),
        Column("measured", "Measured", shown=text.decimals),
        Column("error", "Error", whole_row=lambda row: _shown(row, "error", 4, sign=True)),
        Column("before", f"Measured at {ladder.rungs[-2]}", shown=text.decimals),
        Column("edge", "Read with care", "left", wraps=True),
    )
    caption = (
        f"The held-out rung on {ladder.title}: bits per byte at {ladder.rungs[-1]} by laws that were fitted without it, and "
        f"measured, beside those at {ladder.rungs[-2]}, which need no law; in brackets 95 % over seeds."
    )
    raw = tuple(f"{name}_{end}" for name in ("predicted", "error") for end in ("lower", "upper"))
    return Table(f"ladder.{ladder.corpus}.{ladder.tokenizer}", caption, columns, tuple(rows), raw, groups="over")


def laws_table(ladder: Ladder) -> Table:
    """The law of each arm, of parameters and of compute, and the learning rates at its rungs."""
    rows: list[Row] = [
        {
            "arm": arm.name,
            "over": size,
            **_named("floor", band(laws.floor)),
            **_named("reducible", band(laws.reducible)),
            **_named("exponent", band(laws.exponent)),
            "rates": ", ".join(f"{rate:.3g}" for rate in (arm.rates if len(set(arm.rates)) > 1 else arm.rates[:1])),
        }
        for size, _, arm, laws in _laws(ladder)
    ]
    columns = (
        Column("arm", "Arm", "left"),
        Column("over", "Law of", "left"),
        Column("floor", "E", whole_row=lambda row: _shown(row, "floor", 3)),
        Column("reducible", "A", whole_row=lambda row: _shown(row, "reducible", 3)),
        Column("exponent", "a", whole_row=lambda row: _shown(row, "exponent", 3)),
        Column("rates", "Learning rate, by rung", "left"),
    )
    caption = (
        f"Laws of loss over size on {ladder.title}, L = E + A (N / N0)^−a in bits per byte, with N0 the smallest rung, fitted "
        f"without {ladder.rungs[-1]}; in brackets 95 % over seeds. N is parameters without embeddings, or FLOPs of training."
    )
    raw = tuple(f"{name}_{end}" for name in ("floor", "reducible", "exponent") for end in ("lower", "upper"))
    return Table(f"ladder.laws.{ladder.corpus}.{ladder.tokenizer}", caption, columns, tuple(rows), raw, groups="over")


def _laws(ladder: Ladder) -> Iterator[tuple[Size, int, Arm, Laws]]:
    """Of each size and arm, with its place."""
    for size in OVER:
        for i, (arm, laws) in enumerate(zip(ladder.arms, ladder.laws[size], strict=True)):
            yield size, i, arm, laws


def _at_ends(arm: Arm) -> str:
    """That a better rate may lie beyond those that were tried."""
    return f"rate at an edge of what was tried at {text.listed(arm.at_ends)}" if arm.at_ends else ""


def pairs_table(ladder: Ladder) -> Table:
    """The difference of each pair of arms at the largest rung: by the laws, by the rung before, and as it is."""
    rows: list[Row] = [
        {
            "pair": f"{pair.a} − {pair.b}",
            **_named("predicted", pair.predicted),
            "carried": pair.carried,
            **_named("measured", pair.measured),
            "seen": "yes" if pair.decided else "no",
        }
        for pair in ladder.pairs()
    ]
    columns = (
        Column("pair", "Pair", "left"),
        Column("predicted", "By the laws", whole_row=lambda row: _shown(row, "predicted", 4, sign=True)),
        Column("carried", f"As at {ladder.rungs[-2]}", shown=text.signed),
        Column("measured", "Measured", whole_row=lambda row: _shown(row, "measured", 4, sign=True)),
        Column("seen", "Seen", "left"),
    )
    caption = (
        f"Differences in bits per byte at {ladder.rungs[-1]} on {ladder.title}: by the laws of parameters, as they were at the "
        "rung before, and measured (paired t). Seen: p < 0.05, unadjusted."
    )
    raw = tuple(f"{name}_{end}" for name in ("predicted", "measured") for end in ("lower", "upper"))
    return Table(f"ladder.pairs.{ladder.corpus}.{ladder.tokenizer}", caption, columns, tuple(rows), raw)


def _named(name: str, own: Band) -> Row:
    return {name: own.value, f"{name}_lower": own.lower, f"{name}_upper": own.upper}


def _shown(row: Row, name: str, digits: int, sign: bool = False) -> str:
    """A value and its interval, if it has one."""
    value = (text.signed if sign else text.decimals)(row[name], digits)
    inside = text.interval(row[f"{name}_lower"], row[f"{name}_upper"], digits, sign)
    return value if inside == text.NOTHING else f"{value} {inside}"


LADDER_DRAWING = Drawing(
    "ladder",
    "Ladder",
    "Validation bits per byte of every seed (dots) against size, and the law fitted without the largest rung, with its 95 "
    "% band over seeds: whole where it was fitted, dashed to the held-out rung, whose mean is ringed.",
    drawn,
)
