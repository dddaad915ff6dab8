"""What studies want of a run: how it is followed, what is evaluated of it, and whether it is probed. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from gt.artefacts import Plan
from gt.asked import HELD_OUT, RECALL, VALIDATION
from gt.spec import RunSpec


@dataclass(frozen=True)
class Wanted:
    """Of a run.

    looks: as each study follows it; it is trained as the first of them says. asked: the evaluations beside its losses, as
    commands take them (`Asked.text`). probed: whether its network is looked into.
    """

    looks: tuple[RunSpec, ...] = ()
    asked: frozenset[str] = frozenset()
    probed: bool = True

    def evaluations(self, trained: RunSpec) -> list[str]:
        """All that is to be evaluated: its held-out losses, the recall of a task, and what is asked for beside.

        trained: as its curves were followed. Where a study follows it on another slice, the end of the curve is measured.
        """
        slices = sorted({own.training.evaluation_tokens for own in self.looks} - {trained.training.evaluation_tokens})
        task = [RECALL] if trained.corpus.task is not None else []
        return list(dict.fromkeys([HELD_OUT, *task, *sorted(self.asked), *(f"{VALIDATION}-{n}" for n in slices)]))


def wanted(plans: Iterable[Plan]) -> dict[str, Wanted]:
    """Of every run of some plans.

    Of a run that only tunes its losses are all that anybody reads, and to probe it takes longer than to measure those.
    """
    found: dict[str, Wanted] = {}
    for plan in plans:
        asked, compared = frozenset(own.text for own in plan.asked), plan.compared
        for run, spec in plan.runs.items():
            known = found.get(run, Wanted(probed=False))
            known = replace(known, looks=(*known.looks, spec))
            found[run] = replace(known, asked=known.asked | asked, probed=True) if run in compared else known
    return found
