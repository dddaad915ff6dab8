"""What was known of claims before their runs: whether they can fail, and what their seeds see of what they name."""

from __future__ import annotations

from collections.abc import Sequence

from gt.analysis.gate_words import fault
from gt.analysis.gates import Gate, Sight, shown
from gt.report import text
from gt.report.claim_sections import CLAIM
from gt.report.tables import Column, Row, Table

PASSES = "passes"
# `seeds_needed` looks no further.
MOST_NEEDED = 10_000


def foreseen_table(gates: Sequence[Gate]) -> Table:
    """A row for each part of each claim."""
    rows: list[Row] = []
    for gate in gates:
        said = "; ".join(map(fault, gate.faults)) or (PASSES if any(map(_weighed, gate.sights)) else "no spread is declared")
        rows += [_row(gate, sight, said) for sight in gate.sights] or [_row(gate, None, said)]
    columns = (
        CLAIM,
        Column("gate", "Gate", "left", wraps=True),
        Column("tested", "What is tested", "left", wraps=True),
        Column("seeds", "Seeds at most", shown=text.count),
        Column("sd", "Spread over seeds", shown=lambda value: f"{value:.3g}"),
        Column("sees", "Sees"),
        Column("margin", "Names"),
        Column("needs", "Needs", whole_row=_needs),
    )
    caption = (
        "What claims could show, by themselves and by the spread over seeds that they declare. Sees: the least distance that "
        "so many seeds find with a power of 80 %, at the first step of the family’s procedure. Names: the least distance that "
        "the claim is about. Needs: the seeds that see it."
    )
    return Table("foreseen", caption, columns, tuple(rows))


def _row(gate: Gate, sight: Sight | None, said: str) -> Row:
    known = sight is not None and sight.spread is not None
    return {
        "id": gate.claim,
        "tested": sight.words if sight else None,
        "seeds": sight.seeds if sight else None,
        "sd": sight.spread.sd if sight and sight.spread else None,
        "sees": shown(sight.detectable, sight.scale) if sight and known else None,
        "margin": shown(sight.margin, sight.scale) if sight else None,
        "needs": sight.needed if sight else None,
        "gate": said,
    }


def _needs(row: Row) -> str:
    """The seeds, which are not searched for beyond a number that nobody would run."""
    beyond = row["needs"] is None and row["sees"] and row["margin"]
    return f"> {MOST_NEEDED:,}" if beyond else text.count(row["needs"])


def _weighed(sight: Sight) -> bool:
    """Whether what the seeds see is known."""
    return sight.spread is not None


def foreseen_sentence(gates: Sequence[Gate]) -> str:
    """How many claims are gated, and which."""
    gated = [gate for gate in gates if gate.faults]
    were = "was" if len(gated) == 1 else "were"
    said = f"Before anything was trained, {len(gated)} of {text.plural(len(gates), 'claim')} {were} gated"
    if not gated:
        return f"{said}."
    each = [f"{gate.claim} {'; '.join(map(fault, gate.faults))}" for gate in gated]
    whose = "Whatever its verdict is, this claim was not worth its runs."
    if len(gated) > 1:
        whose = "Whatever their verdicts are, these claims were not worth their runs."
    return f"{said}: {'. '.join(each)}. {whose}"
