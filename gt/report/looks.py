"""Seeds until a claim is decided: what each look at each claim found, as a figure and in sentences."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from gt.analysis.verdicts import Row
from gt.artefacts import Plan
from gt.report import text
from gt.report.claim_figures import COLOUR, bounds
from gt.report.claim_sections import CLAIM
from gt.report.claim_words import measured
from gt.report.document import Picture
from gt.report.drawing import GREY, GRID, PLAIN, STYLE, save
from gt.report.tables import Column, Table

Json = dict[str, Any]
# p values below are drawn there.
LEAST = 1e-4
SPENDING = {"obrien_fleming": "O’Brien and Fleming", "pocock": "Pocock"}
CAPTION = (
    "Each claim at each look. Left: the estimate with its repeated 95 % interval; dotted, the claim’s bound. Right: p, "
    "repeated and adjusted over the family: that the claim holds or that it does not (dot), that it is within its margin "
    "(diamond); what is to the right of the dashed line is decided, and p below 0.0001 stands at the edge. That a value is "
    "between two bounds is decided by two one-sided tests, for which its 90 % interval stands, not this one. A look without a "
    "mark was not needed: no seed was added for the claim."
)


def draw_looks(rows: Sequence[Row], plan: Plan, folder: Path) -> dict[str, Picture]:
    """Write `<study>.looks.svg` where claims of a study were looked at. Returns the picture by what it is called."""
    taken = [row for row in rows if row.looks]
    if plan.looks is None or not taken:
        return {}
    name = looks_picture(plan)
    path = folder / f"{name}.svg"
    with matplotlib.rc_context(STYLE):
        save(drawn(taken, plan.looks.looks), path, "svg")
    alt = f"Estimate, interval and p of {text.plural(len(taken), 'claim')} at each look. The table of looks has the values."
    return {name: Picture(name, "What each look decided", CAPTION, alt, path, wide=True)}


def looks_picture(plan: Plan) -> str:
    """What the picture of a study's looks is called among those of claims, none of which is called so."""
    return f"{plan.study}.looks"


def drawn(rows: Sequence[Row], seeds: Sequence[int]) -> Figure:
    """A row of axes a claim: its estimate and its p, a line a look."""
    labels = [textwrap.wrap(_measured(row), 50) for row in rows]
    heights = [0.24 * len(seeds) + 0.62 + 0.16 * len(lines) for lines in labels]
    figure = Figure(figsize=(8.2, sum(heights)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(rows), 2, squeeze=False, height_ratios=heights, width_ratios=(1.25, 1))
    for (left, right), row, lines in zip(axes, rows, labels, strict=True):
        _estimates(left, row)
        _chances(right, row)
        left.set_yticks(range(len(seeds)), [text.plural(n, "seed") for n in seeds])
        right.set_yticks(range(len(seeds)), [""] * len(seeds))
        for ax in (left, right):
            ax.set_ylim(len(seeds) - 0.4, -0.6)
            ax.grid(axis="x", **GRID)
        left.set_title(f"{row.id}: {stopped(row)}", color=COLOUR.get(row.verdict, GREY))
        left.set_xlabel("\n".join(lines))
        right.set_xlabel("p, adjusted" if row is rows[-1] else "")
    return figure


def _estimates(ax: Axes, row: Row) -> None:
    """The estimate at each look, against the bound."""
    colour = COLOUR.get(row.verdict, GREY)
    for y, look in enumerate(row.looks):
        if look["lower"] is not None:
            ax.plot([look["lower"], look["upper"]], [y, y], color=colour, linewidth=5, alpha=0.3, solid_capstyle="butt")
        if look["estimate"] is not None:
            ax.plot(look["estimate"], y, "o", color=colour, markersize=5)
    if len(row.claim.predicate) == 1:
        for bound in bounds(row.claim.predicate[0]):
            ax.axvline(bound, color=GREY, linewidth=1.2, linestyle=":")
        ax.xaxis.set_major_locator(MaxNLocator(5))
        ax.xaxis.set_major_formatter(PLAIN)
    else:
        ax.set_xticks([])
        ax.text(0.5, 0.5, f"{len(row.claim.predicate)} parts", transform=ax.transAxes, color=GREY, ha="center", va="center")


def _chances(ax: Axes, row: Row) -> None:
    """The p of each look, against what decides, the smallest at the right; beside them what followed."""
    colour = COLOUR.get(row.verdict, GREY)
    ax.set_xscale("log")
    ax.set_xlim(1.3, LEAST / 1.6)
    ax.xaxis.set_major_locator(FixedLocator([1, 0.1, 0.01, 0.001, LEAST]))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.axvline(row.claim.alpha, color=GREY, linewidth=1.2, linestyle=(0, (4, 2)))
    for y, look in enumerate(row.looks):
        for name, marker in (("p_equivalent", "D"), ("p", "o")):
            if (p := look[name]) is not None:
                ax.plot(max(p, LEAST), y, marker, color=colour, markersize=5, fillstyle="full" if name == "p" else "none")
        ax.text(1.02, y, became(look), transform=ax.get_yaxis_transform(), color=colour, fontsize=8.5, va="center")


def _measured(row: Row) -> str:
    """What is estimated, in words."""
    tests = (row.judgement or {}).get("tests", [])
    return str(tests[0]["words"]) if len(tests) == 1 else ""


def became(look: Json) -> str:
    """What followed a look, in a word or two."""
    match look["stopped"]:
        case "futile":
            return f"stopped ({chance(look['hope'])} left)"
        case "open":
            return "goes on"
        case "constant":
            return "no test"
        case "last":
            return "not decided"
        case _:
            return "decided"


def chance(hope: float | None) -> str:
    """A conditional power as a share: it is of 4000 futures, which say no more."""
    if hope is None:
        return text.NOTHING
    return "< 1 %" if hope < 0.01 else f"{100 * hope:.0f} %"


def stopped(row: Row) -> str:
    """At which look a claim stopped, and with what."""
    last = row.looks[-1]
    after = f"after {text.plural(last['seeds'], 'seed')}"
    match last["stopped"]:
        case "futile":
            return f"stopped for futility {after}"
        case "open":
            return f"open {after}"
        case "last":
            return f"{row.verdict} {after}, which are all"
        case _:
            return f"{row.verdict} {after}"


def looks_sentences(rows: Sequence[Row], plan: Plan) -> list[str]:
    """How the looks were planned, how many claims stopped at which, and what they saved."""
    taken = [row for row in rows if row.looks]
    if plan.looks is None or not taken:
        return []
    seeds, spending = plan.looks.looks, SPENDING[plan.looks.spending]
    planned = (
        f"Claims are looked at after {text.listed([str(n) for n in seeds])} seeds. What may be spent of alpha at each is laid "
        f"down beforehand ({spending}), and a claim that all {seeds[-1]} seeds would decide with a chance below "
        f"{100 * plan.looks.futility:g} % stops. After a look only the cells of claims that are open get more seeds."
    )
    ways = Counter((row.looks[-1]["stopped"], row.looks[-1]["seeds"]) for row in taken)
    words = {
        "decided": "decided",
        "futile": "stopped for futility",
        "constant": "stopped without a test",
        "last": "not decided",
        "open": "open",
    }
    said = [
        f"{n} {text.are(n)} {words[why]} after {text.plural(at, 'seed')}" for (why, at), n in sorted(ways.items(), key=_by_look)
    ]
    runs, most = sum(len(cell.runs) for cell in plan.cells), seeds[-1] * len(plan.cells)
    return [
        planned,
        f"Of {text.plural(len(taken), 'claim')}, {text.listed(said)}. The cells have {text.plural(runs, 'run')}, where all "
        f"seeds of all cells would be {most:,}.",
    ]


def looks_table(rows: Sequence[Row]) -> Table:
    """A row for each claim at each look."""
    columns = (
        CLAIM,
        Column("seeds", "Seeds", shown=text.count),
        Column("became", "What followed", "left"),
        Column("estimate", "Estimate [repeated 95 % interval]", "left", whole_row=_estimate),
        Column("p", "p, adjusted", shown=text.p_value),
        Column("p_equivalent", "p within the margin", shown=text.p_value),
        Column("hope", "Chance that all seeds decide", whole_row=lambda row: chance(row["hope"])),
    )
    made = [{"id": row.id, **look, "became": became(look)} for row in rows for look in row.looks]
    caption = (
        "The claims at each look. p: the smaller of that a claim holds and that it does not, repeated, and adjusted over the "
        "family as it was then. The chance that all seeds decide it is at the first step of the family’s procedure, if the "
        "seeds to come are like those there are."
    )
    return Table("looks", caption, columns, tuple(made), raw=("lower", "upper", "stopped"), groups="id")


def _estimate(look: Json) -> str:
    return measured(look) if look["estimate"] is not None else text.NOTHING


def _by_look(own: tuple[tuple[str, int], int]) -> tuple[int, str]:
    (why, seeds), _ = own
    return seeds, why
