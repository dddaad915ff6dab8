"""What the authors of claims expected, and what became of claims that are asked again of other runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gt.analysis.verdicts import Row
from gt.report import text
from gt.report.claim_words import measured, word, worded
from gt.report.tables import Column, Table

Json = dict[str, Any]


def foretold_table(rows: Sequence[Row]) -> Table | None:
    """A row a tested claim of which a verdict was expected or that asks another again; None without any.

    rows: of the claims to show, and those that they ask again.
    """
    known = {row.id: row for row in rows}
    shown = [row for row in rows if row.tested and (row.claim.expected or row.claim.again)]
    if not shown:
        return None
    made = [_row(row, known.get(row.claim.again or "")) for row in shown]
    again = any(own["earlier"] for own in made)
    columns = (
        Column("id", "Claim", "left", link="claim-"),
        Column("title", "What it says", "left", wraps=True),
        *((Column("earlier", "Asks again", "left", link="claim-"), Column("then", "Verdict then", "left")) if again else ()),
        *((Column("size_then", "Estimate then", "left", wraps=True),) if again else ()),
        Column("expected", "Expected", "left", filters=True),
        Column("verdict", "Verdict", "left", filters=True),
        Column("size", "Estimate [95 % interval]", "left", wraps=True),
    )
    return Table("foretold", " ".join(filter(None, (_came(shown), _moved(made)))), columns, tuple(made), search=again)


def _came(shown: Sequence[Row]) -> str:
    """How many verdicts came as they were expected."""
    told = [row for row in shown if row.claim.expected]
    if not told:
        return ""
    right = sum(_came_to(row.judgement) == row.claim.expected for row in told)
    of = text.plural(len(told), "claim")
    return f"Before the runs a verdict was expected of {of}: {right} came so. What was expected was registered with the claim."


def _moved(made: Sequence[Json]) -> str:
    """How many claims that are asked again came to another verdict than then."""
    asked = [own for own in made if own["then"]]
    if not asked:
        return ""
    moved = sum(own["came_then"] != own["came"] for own in asked)
    ask = "asks" if len(asked) == 1 else "ask"
    of = f"{text.plural(len(asked), 'claim')} that {ask} an earlier one again, of other runs"
    return f"Of {of}, {moved} came to another verdict."


def _row(row: Row, earlier: Row | None) -> Json:
    then = earlier.judgement if earlier and earlier.tested else None
    return {
        "id": row.id,
        "title": row.claim.title,
        "earlier": row.claim.again if earlier else None,
        "then": word(then) if then else None,
        "size_then": _size(then),
        "expected": row.claim.expected,
        "verdict": worded(row),
        "came": _came_to(row.judgement),
        "came_then": _came_to(then),
        "size": _size(row.judgement),
    }


def _came_to(judgement: Json | None) -> str | None:
    """A verdict; of a claim that deviates that of its numbers."""
    return str(judgement["otherwise"] or judgement["verdict"]) if judgement else None


def _size(judgement: Json | None) -> str | None:
    """What the part that decides has measured."""
    tests = judgement["tests"] if judgement else []
    return measured(tests[(judgement or {})["decides"] or 0]) if tests else None
