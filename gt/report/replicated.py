"""What is said of replications: both verdicts, whether they agree, and what to know of the second."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from gt.analysis.claims import Claim
from gt.analysis.predicates import seeds_of
from gt.analysis.replications import Agreement, Replication, agreement
from gt.analysis.verdicts import Row
from gt.replicate import Note
from gt.report import text
from gt.report.claim_words import cautions, measured, word
from gt.report.tables import Column, Table

Json = dict[str, Any]
# So many modules are named, and the others counted.
MOST = 3


def begun(note: Note, project: Path, committed: bool) -> str:
    """What a replication will be, and what is to be done for it. committed: whether the project is in a repository."""
    see = f"{text.plural(note.needed, 'seed')} would see" if note.needed else "It is not known how many seeds would see"
    start = "" if committed else f"git init {project}\n    "
    return (
        f"{note.name}: {text.plural(len(note.cells), 'cell')} of {note.of} on {text.plural(len(note.seeds), 'new seed')},"
        f" {note.seeds[0]} to {note.seeds[-1]}.\n"
        f"{see} the published size with a power of 80 %, by the spread of the published seeds.\n"
        "Its claim is registered. Commit it before the runs, train them, and call this again:\n\n"
        f"    {start}git -C {project} add . && git -C {project} commit -m 'Register {note.name}'\n"
        f"    cd {project} && snakemake --cores all --config study={note.name}\n"
    )


def said(claim: Claim, first: Json, again: Replication) -> list[str]:
    """Both verdicts in sentences. first: the judgement that was replicated, as it stands now."""
    second = again.judgement
    one, other = word(first), word(second)
    verdicts = f"both verdicts are {one}" if one == other else f"{other}, and the first verdict is {one}: they differ"
    parts = agreement(claim, first, again)
    lines = [f"{again.name}, on {seeds_of(again.seeds)}: {verdicts}."]
    lines += [" ".join(_part(part, f"Part {part.number}: " if len(claim.predicate) > 1 else "")) for part in parts]
    if claim.sha256 != again.asked:
        lines.append("The claim was edited since, so that nothing is compared.")
    elif len(parts) < len(second["tests"]):
        lines.append("Another comparison decides a part of it now, so that its numbers are not compared.")
    return [*lines, *careful(first, again)]


def _part(part: Agreement, which: str) -> Iterator[str]:
    first, second = part.first, part.second
    seeds = [text.plural(test["n"], "seed") for test in (first, second)]
    yield text.capital(f"{which}first {measured(first)} with {seeds[0]}, again {measured(second)} with {seeds[1]}.")
    if part.same_direction is not None:
        yield f"They are {'in one direction' if part.same_direction else 'in opposite directions'}."
    if part.contained is not None:
        yield f"The second interval {'has' if part.contained else 'does not have'} the first estimate in it."
    if (both := _combined(part)) is not None:
        yield f"Extra, and no verdict: all seeds together, as a fixed effect, {both}."


def _combined(part: Agreement) -> str | None:
    if part.combined is None:
        return None
    return measured(dict(zip(("estimate", "lower", "upper"), part.combined, strict=True)))


def careful(first: Json, again: Replication) -> list[str]:
    """What to know of a replication."""
    found = []
    if first["stopped"] == "decided":
        found.append("The first stopped at a look that decided it, so that its size is rather too large than too small.")
    if again.needed is None:
        found.append("How many seeds would see the published size is not known.")
    elif again.needed > len(again.seeds):
        more = f"{text.plural(again.needed, 'seed')}, more than it has"
        found.append(f"To see the published size four times in five takes {more}.")
    if again.other_code is None:
        found.append("Whether the same code trained both is not known.")
    elif again.other_code:
        names, others = again.other_code[:MOST], len(again.other_code) - MOST
        rest = f" and {others} more" if others > 0 else ""
        found.append(f"Other code than that of the first trained it: {', '.join(names)}{rest} differ{'s' * (len(names) == 1)}.")
    if again.devices != again.first_devices:
        first_on, second_on = (text.listed(own) or "an unknown device" for own in (again.first_devices, again.devices))
        found.append(f"The first was trained on {first_on}, and this on {second_on}.")
    own = [*(f"{text.capital(why)}." for why in again.judgement["deviations"]), *cautions(again.judgement)]
    return [*found, *(f"Of the second: {words}" for words in own)]


def of_row(row: Row) -> list[str]:
    """All that is said of a claim's replications."""
    if row.judgement is None:
        return [f"{own.name}: {word(own.judgement)}; the first verdict is not here." for own in row.replications]
    return [line for own in row.replications for line in said(row.claim, row.judgement, own)]


def told(rows: Iterable[Row]) -> str:
    """The replications of claims for a terminal, a line each; empty where there is none."""
    found = [(row, own) for row in rows for own in row.replications]
    lines = [f"{row.id}  {_line(row, own)}" for row, own in found]
    return "\n".join(["", "trained again on other seeds:", *lines] if lines else [])


def _line(row: Row, again: Replication) -> str:
    first, second = row.judgement, again.judgement
    verdict = f"{word(second)} with {text.plural(len(again.seeds), 'seed')}"
    if first is None:
        return f"{verdict}; the first verdict is not here"
    same = "as first" if word(first) == word(second) else f"first {word(first)}"
    parts = agreement(row.claim, first, again)
    sizes = "; ".join(f"{measured(own.second)}, first {measured(own.first)}" for own in parts)
    turned = "; opposite directions" if any(own.same_direction is False for own in parts) else ""
    return f"{verdict}, {same}: {sizes or 'not compared'}{turned}"


def replications_table(rows: Sequence[Row]) -> Table | None:
    """A row a part of a replicated claim, with both verdicts; None where nothing was replicated."""
    made = [made for row in rows if row.judgement for own in row.replications for made in _table_rows(row, own)]
    if not made:
        return None
    columns = (
        Column("id", "Claim", "left", link="claim-"),
        Column("part", "Part"),
        Column("first", "First verdict", "left"),
        Column("second", "Again", "left"),
        Column("seeds", "Seeds", "left"),
        Column("sizes", "First estimate [95 % interval]", "left", wraps=True),
        Column("sizes_again", "Again", "left", wraps=True),
        Column("direction", "Direction", "left"),
        Column("contained", "Again’s interval has the first estimate", "left"),
        Column("combined", "All seeds, fixed effect", "left", wraps=True),
    )
    caption = (
        "Claims whose cells were trained again on further seeds, from what is published alone, and judged by themselves; no "
        "verdict replaces the other. The last column is an extra and no verdict: both as a fixed effect, weighted by the "
        "inverse of squared standard errors."
    )
    return Table("replications", caption, columns, tuple(made))


def _table_rows(row: Row, again: Replication) -> Iterator[dict[str, object]]:
    assert row.judgement is not None
    shared = {"id": row.id, "first": word(row.judgement), "second": word(again.judgement)}
    parts = agreement(row.claim, row.judgement, again)
    for own in parts:
        yield {
            **shared,
            "part": own.number if len(row.claim.predicate) > 1 else None,
            "seeds": f"{own.first['n']} and {own.second['n']}",
            "sizes": measured(own.first),
            "sizes_again": measured(own.second),
            "direction": None if own.same_direction is None else "the same" if own.same_direction else "opposite",
            "contained": None if own.contained is None else "yes" if own.contained else "no",
            "combined": _combined(own),
        }
    if not parts:
        unknown = dict.fromkeys(("part", "sizes", "sizes_again", "direction", "contained", "combined"))
        yield {**shared, **unknown, "seeds": str(len(again.seeds))}
