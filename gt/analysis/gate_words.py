"""What gates say, on a terminal: in a few lines before a workflow trains anything, and as a table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from gt.analysis.controls import Unequal
from gt.analysis.earlier import Spread
from gt.analysis.gates import Cost, Fault, Gate, Outlook, Sight, shown

HEADER = ("claim", "seeds", "sees", "margin", "needs", "what is tested", "spread over seeds, and of which records")


def head(found: Outlook) -> str:
    """What is to be trained, and what it takes."""
    return f"{_many(found.cost.runs, 'run')} to train{_minutes(found.cost)}"


def lines(found: Outlook) -> Iterator[str]:
    """What a user must know before the runs: a line for the study, one for the claims that are fine, one for each finding."""
    yield f"{found.study}: {head(found)}"
    if fine := sum(not findings(gate) for gate in found.gates):
        yield f"  {fine} of {_many(len(found.gates), 'claim')}: can fail, and the seeds see what it names"
    yield from said(found)


def said(found: Outlook) -> list[str]:
    """A line for each finding."""
    own = [(gate.claim, finding) for gate in found.gates for finding in findings(gate)]
    width = max((len(claim) for claim, _ in own), default=0)
    return [f"  {claim:{width}}  {finding}" for claim, finding in own]


def refusal(study: str, gates: Iterable[Gate], what: str) -> str:
    """The faults of claims as an error, a line each."""
    return "\n".join([f"{study}: {what}", *(f"  {gate.claim}  {_said(own)}" for gate in gates for own in gate.faults)])


def findings(gate: Gate) -> list[str]:
    """What is to be said of a claim beside what its seeds see, the fix included."""
    unseen = [sight.unknown for sight in gate.sights if sight.spread is None and sight.margin is not None]
    unknown = [f"{why}, so what its seeds see is not known; `sd:` of the claim declares it" for why in dict.fromkeys(unseen)]
    return [*map(_said, gate.faults), *_differences(gate.unequal), *unknown]


def _said(own: Fault) -> str:
    return f"{fault(own)} -> {own.fix}"


def fault(own: Fault) -> str:
    """Why a claim is not worth its runs."""
    return f"{own.kind}{' ' if own.kind == 'cannot see' else ': '}{own.why}"


def _differences(unequal: Iterable[Unequal]) -> Iterator[str]:
    """What differs between two cells and has no control, said once of the two."""
    for (a, b), group in groupby(unequal, key=lambda own: (own.a, own.b)):
        if own := [other for other in group if other.control is None]:
            yield f"{a} and {b} differ in {_differing(own)}, without a control -> {_equal(own[0])}"


def _equal(own: Unequal) -> str:
    """What would make two cells equal."""
    match own.what:
        case "parameters":
            return f"add {own.b} with {own.values[0]} parameters (`gt match`)"
        case "width":
            return f"add {own.b} with d_model {own.values[0]}"
        case "tokens":
            return "train both on as many tokens"
        case _:
            return "choose both in one way (`tuned_by`)"


def table(gates: Sequence[Gate]) -> list[tuple[str, ...]]:
    """A row for each predicate of each claim, under `HEADER`, with the cell that is a control."""
    rows = []
    for gate in gates:
        rows += [(gate.claim if i == 0 else "", *_row(sight)) for i, sight in enumerate(gate.sights)]
        rows += [("", "", "", "", "", *own) for own in _controls(gate.unequal)]
    return rows


def _row(sight: Sight) -> tuple[str, ...]:
    distances = shown(sight.detectable, sight.scale), shown(sight.margin, sight.scale)
    needed = "" if sight.needed is None else str(sight.needed)
    return str(sight.seeds), *distances, needed, sight.words, "" if sight.scale == "trend" else _spread(sight.spread)


def _spread(spread: Spread | None) -> str:
    """A spread, and where it is from."""
    if spread is None:
        return "no record of it"
    if spread.step == "declared":
        return f"SD {spread.sd:.3g}, declared"
    pairs = f"{spread.pairs} x " if spread.pairs > 1 else ""
    return f"SD {spread.sd:.3g}, {spread.step}: {pairs}{spread.seeds} seeds of {spread.study}"


def _controls(unequal: Iterable[Unequal]) -> Iterator[tuple[str, str]]:
    """What differs between two cells, and the cell that is its control."""
    for (a, b, control), group in groupby(unequal, key=lambda own: (own.a, own.b, own.control)):
        if control is not None:
            yield f"{a} and {b} differ in {_differing(group)}", f"control: {control}"


def _differing(unequal: Iterable[Unequal]) -> str:
    """parameters (3.12 M, 3.56 M) and width (128, 192)"""
    return " and ".join(f"{own.what} ({', '.join(own.values)})" for own in unequal)


def _minutes(cost: Cost) -> str:
    """What the runs take, and how well it is known."""
    if cost.unknown == cost.runs:
        return ", of which no record says how long they take" if cost.runs else ""
    parts = {"at the speed of records": cost.known, "estimated from FLOPs": cost.estimated, "not counted": cost.unknown}
    sure = ", ".join(f"{n if n < cost.runs else 'all'} {how}" for how, n in parts.items() if n)
    return f", about {_time(cost.minutes)} of {cost.device}{'' if cost.here else ', which is not here'} ({sure})"


def _time(minutes: float) -> str:
    """12 seconds, 3.5 minutes, 120 hours"""
    if minutes < 1:
        return f"{60 * minutes:.2g} seconds"
    return f"{minutes:.3g} minutes" if minutes < 120 else f"{float(f'{minutes / 60:.2g}'):,.0f} hours"


def _many(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"
