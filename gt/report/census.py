"""What studies have, counted in one place: every number of runs, records, contrasts and claims in a report is one of these.

A run is a specification with its seed, and has one id wherever it stands. A record is what one training of it left. Studies
that share a run may keep records of different trainings; the tables and verdicts of each are made of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import pandas as pd

from gt.analysis.aggregate import NO_BASELINE
from gt.analysis.reading import STATUSES
from gt.analysis.verdicts import Row as Claim
from gt.report import text

if TYPE_CHECKING:
    from gt.report.numbers import Results

# What tells two trainings of a run apart.
TRAINING = ["run_id", "started", "finished"]


@dataclass(frozen=True)
class Census:
    """studies: how many there are; judging: how many of them have tested a claim.

    runs: a row for each planned run, as it is in the study where it came furthest. records: a row for each training that left a
    manifest. repeated: the runs of which there are several.
    contrasts: all that are planned; decided, of which on_two rest on two pairs of seeds; unpaired: those without any pair.
    claims: all; tested: those with a verdict from runs; deviated: those of them that were not judged as planned. late: those
    that were edited and entered again after the first of all runs was begun, be it one that they do not read.
    """

    studies: int
    judging: int
    runs: pd.DataFrame
    records: pd.DataFrame
    repeated: list[str]
    contrasts: int
    decided: int
    on_two: int
    unpaired: int
    claims: int
    tested: int
    deviated: int
    late: int

    @property
    def planned(self) -> int:
        return len(self.runs)

    @property
    def completed(self) -> int:
        return int((self.runs["status"] == "completed").sum())

    @property
    def trained_only(self) -> int:
        """The runs that were trained to their end and have not been evaluated."""
        return int(((self.runs["status"] == "missing") & self.runs["finished"].notna()).sum())

    @property
    def completion(self) -> str:
        """How many of the planned runs completed, and what became of the others."""
        counts = Counter(self.runs["status"])
        others = [f"{counts[key]:,} {key}" for key in ("diverged", "failed", "missing") if counts[key]]
        rest = f"; {text.listed(others)}" if others else ""
        if others and (n := self.trained_only):
            rest += f" ({n:,} of these trained and not evaluated)"
        have = text.has(1 if self.planned == 1 else self.completed)
        return f"{self.completed:,} of {text.plural(self.planned, 'planned run')} {have} completed{rest}."

    @property
    def noun(self) -> str:
        """What records are called: runs, where each has one."""
        return "record" if self.repeated else "run"


def census(studies: Sequence[Results], claims: Sequence[Claim] = ()) -> Census:
    """The counts of several studies together, or of one."""
    every = pd.concat([own.runs.assign(study=own.study, price=own.plan.dollars_per_hour) for own in studies])
    order = every["status"].map(STATUSES.index)
    runs = every.assign(order=order).sort_values("order", kind="stable").drop_duplicates("run_id").sort_index(kind="stable")
    records = every[every["finished"].notna()].drop_duplicates(TRAINING)
    several = records["run_id"].value_counts()
    contrasts = pd.concat([own.contrasts[own.contrasts["verdict"] != NO_BASELINE] for own in studies])
    decided = contrasts["decided"].fillna(value=False).astype(bool)
    tested = [row for row in claims if row.judgement and row.tested]
    begun = min(map(datetime.fromisoformat, records["first_started"].dropna()), default=None)
    again = [datetime.fromisoformat(row.registered) for row in claims if row.registered and row.edited]
    return Census(
        studies=len(studies),
        judging=len({row.claim.study for row in tested}),
        runs=runs,
        records=records,
        repeated=sorted(several.index[several > 1]),
        contrasts=len(contrasts),
        decided=int(decided.sum()),
        on_two=int((decided & (contrasts["n"] == 2)).sum()),
        unpaired=int((contrasts["n"] == 0).sum()),
        claims=len(claims),
        tested=len(tested),
        deviated=sum(row.verdict == "deviated" for row in tested),
        late=sum(begun is not None and time > begun for time in again),
    )


def _again(study: Results) -> str:
    """The same of one study, of whose runs others keep further trainings."""
    if not (n := study.repeated["run_id"].nunique()):
        return ""
    others = text.listed([f"`{name}`" for name in study.repeated["study"].unique()])
    return (
        f"Of {text.plural(n, 'run')} other studies ({others}) have trainings of their own. Contrasts and verdicts count the "
        "mean of a run's trainings as one seed, so that a difference need not be that of the two means beside it."
    )


def trained_twice(studies: Sequence[Results]) -> str:
    """That runs have records of several trainings, and the cells that have another mean in another study; empty without any."""
    known = census(studies)
    if not known.repeated:
        return _again(studies[0]) if len(studies) == 1 else ""
    n, of = len(known.repeated), text.plural(len(known.records), "record")
    have = "has records" if n == 1 else "have records"
    means: dict[frozenset[str], dict[str, list[str]]] = {}
    names: dict[frozenset[str], str] = {}
    for own in studies:
        planned = {cell.id: frozenset(cell.runs.values()) for cell in own.plan.cells}
        for row in own.cell_rows_in_order:
            if not text.absent(row["mean"]) and not planned[row["cell"]].isdisjoint(known.repeated):
                names.setdefault(planned[row["cell"]], f"{row['label']} on {row['corpus']}, {row['tokenizer']}")
                means.setdefault(planned[row["cell"]], {}).setdefault(text.decimals(row["mean"]), []).append(f"`{own.study}`")
    differ = [
        f"{names[runs]} is {text.listed([f'{mean} in {text.listed(where)}' for mean, where in found.items()])}"
        for runs, found in means.items()
        if len(found) > 1
    ]
    same = f" Where two studies read different ones of a cell, it has two means: {'; '.join(differ)}." if differ else ""
    return (
        f"{text.plural(n, 'run')} {have} of more than one training, so there are {of}; the tables of a study show its own, and "
        f"contrasts and verdicts count the mean of a run's trainings as one seed.{same}"
    )
