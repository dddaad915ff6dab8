"""Whether the plan of a claim was followed: what was to be run, when it was written down, and by which code it was trained.

A claim that departs from its plan is judged `deviated`, whatever its numbers say. The reasons, each a sentence that names cells
and seeds:

- it was registered after the first of the runs that it reads was begun, or edited after the first of any (`registration.late`);
- a planned seed has no result, or one has a result that was not planned: each claim reads all seeds of its cells. Cells with
  fewer seeds than a claim asks for are another thing: their claim is not yet run (`Judge.missing`);
- runs that it compares were trained by code that differs in a module that both used;
- a cell that it reads was tuned, and the best of what was tried lies at an edge: there may be a better one beyond;
- a run was trained from a tree with files that its commit does not hold;
- a run diverged, and cannot count as the worst, which is how it counts unless the claim or the study says otherwise
  (`predicates.Uncounted`).

What is not known is no deviation, and a caution: which modules of the whole package a record of the first schema used, and
whether a commit holds the code of a run that was trained outside of any repository.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from gt.analysis.claims import Place
from gt.analysis.predicates import seeds_of
from gt.analysis.values import PARTS, Values, code, is_count, mixers_of, modified
from gt.artefacts import Cell
from gt.registry import phrase

# So many modules or files are named, and the others counted.
MOST = 4


def deviations(late: str | None, compared: Sequence[Sequence[Place]], tuning: Sequence[Cell], values: Values) -> list[str]:
    """Why the plan of a claim was not followed, but for runs that diverged; empty where it was.

    late: that it was not registered in time. compared: what each predicate reads. tuning: the cells that chose others.
    """
    places = [place for own in compared for place in own]
    cells = list({cell.id: cell for cell in (*(place.cell for place in places), *tuning)}.values())
    return [
        *([late] if late else []),
        *dict.fromkeys(said for place in places for said in _lost(place, values)),
        *(said for cell in cells for said in _undeclared(cell, values)),
        *_at_edge(cells, values),
        *dict.fromkeys(said for own in compared for said in _code(own, values)),
        *_modified(cells, values),
    ]


def _lost(place: Place, values: Values) -> Iterator[str]:
    """Planned seeds of a cell without a run that ended, or without the measure that is read."""
    if is_count(place.metric):
        return
    cell, statuses = place.cell.id, values.statuses(place.cell)
    if lost := [seed for seed, status in statuses.items() if status in ("missing", "failed")]:
        yield f"{seeds_of(lost)} of {cell} {_was(lost)} planned and {'has' if len(lost) == 1 else 'have'} no result"
    if unmeasured := values.unmeasured(place):
        said = phrase(place.metric, mixers_of(values.plan, [place.cell]))
        yield f"{seeds_of(unmeasured)} of {cell} {_was(unmeasured)} not looked at for {said}"


def _undeclared(cell: Cell, values: Values) -> Iterator[str]:
    """Runs of a cell whose seeds the plan does not have."""
    planned = values.statuses(cell)
    if strange := sorted({int(run["seed"]) for run in values.runs(cell.id)} - planned.keys()):
        yield f"{seeds_of(strange)} of {cell.id} {_was(strange)} run and not planned"


def _at_edge(cells: Sequence[Cell], values: Values) -> Iterator[str]:
    """Cells whose tuning ended at an edge of what it tried."""
    read = {cell.id for cell in cells}
    for tuning in values.plan.tunings:
        if tuning.cell in read:
            yield from (f"the tuning of {tuning.cell} found no optimum: {path} {why}" for path, why in tuning.ended.items())


def _code(places: Sequence[Place], values: Values) -> Iterator[str]:
    """Modules that differ among the runs that a predicate compares, of those that several of them used.

    Of records of the first schema it is not known what they used.
    """
    cells = dict.fromkeys(place.cell.id for place in places if not is_count(place.metric))
    made: dict[str, dict[str, dict[str, list[int]]]] = {}  # module -> its sum -> cell -> seeds
    for cell in cells:
        for run in values.completed(cell):
            for module, sum_ in code(run).items():
                if module not in PARTS:
                    made.setdefault(module, {}).setdefault(sum_, {}).setdefault(cell, []).append(int(run["seed"]))
    alike: dict[str, list[str]] = {}
    for module, by_sum in made.items():
        *odd, _ = sorted(by_sum.values(), key=lambda own: sum(map(len, own.values())))
        if odd:
            alike.setdefault(", ".join(map(_runs, odd)), []).append(module)
    for words, modules in alike.items():
        yield f"other code than that of most ({_some(modules)}) trained {words}"


def _modified(cells: Sequence[Cell], values: Values) -> Iterator[str]:
    """Runs that were trained from a tree with modified files."""
    found: dict[str, dict[str, list[int]]] = {}  # files -> cell -> seeds
    for cell in cells:
        for run in values.runs(cell.id):
            if files := modified(run):
                which = "" if files == ["?"] else f" ({_some(files)})"
                found.setdefault(which, {}).setdefault(cell.id, []).append(int(run["seed"]))
    for which, runs in found.items():
        yield f"files that no commit holds{which} trained {_runs(runs)}"


def _runs(cells: dict[str, list[int]]) -> str:
    """Cells with their seeds: seeds 0 to 4 of GF and of HY, seed 1 of WS."""
    alike: dict[str, list[str]] = {}
    for cell, seeds in cells.items():
        alike.setdefault(seeds_of(seeds), []).append(cell)
    return ", ".join(f"{seeds} of {' and of '.join(own)}" for seeds, own in alike.items())


def _was(seeds: Sequence[int]) -> str:
    return "was" if len(seeds) == 1 else "were"


def _some(names: Iterable[str]) -> str:
    first, rest = list(names)[:MOST], list(names)[MOST:]
    return ", ".join(first) + (f" and {len(rest)} more" if rest else "")
