"""Many runs in one process: on a GPU those of one architecture as a cohort, the cohorts side by side; on a CPU one by one."""

from __future__ import annotations

import hashlib
import traceback
from collections.abc import Iterator
from pathlib import Path

from gt.grouping import cohort_key
from gt.training import checkpoint
from gt.training.loop import Attempt, Job, Settings, together

# The seeds of a cell in most studies. Cohorts of one size share compiled code, and larger ones do not train a run
# in less time (`gt bench stacks`); what is left of a GPU, other cohorts use from their own streams.
#
# On a CPU nothing is left over, and stacked runs have other last bits than alone: a batch of matrices is multiplied in another
# order than one. There stacks of five take 0.6 to 0.9 of the time a run at the sizes of the study `smoke`.
STACK = {"cuda": 5, "cpu": 1}


def train_pack(jobs: list[Job], finished: set[str], checkpoints: Path, settings: Settings) -> Iterator[tuple[Job, str]]:
    """Train runs and write their records. Yields each with its status, `completed`, `diverged` or `failed`, when it ends.

    jobs: runs on one folder of tokens. finished: ids of those that have their record already; they are left out, but for a
    cohort that was killed while it wrote its records: it goes on from its checkpoint, to the same bits, as a whole.
    checkpoints: a folder for all of them, where each cohort has one of its own. What fails takes its cohort with it and no
    other; why is said on the error stream.
    """
    cohorts = stacks(jobs, STACK[settings.device.type])
    for i, members in enumerate(cohorts):
        todo = [job for job in members if job.spec.run_id not in finished]
        if not todo:  # killed, if at all, between its last record and the end of its checkpoint
            checkpoint.remove(checkpoints / folder_name(members))
        if not (checkpoints / folder_name(members)).exists():
            cohorts[i] = todo
    unbegun: list[tuple[list[Job], Exception]] = []

    def attempts() -> Iterator[Attempt]:
        for members in filter(None, cohorts):
            try:
                attempt = Attempt(members, checkpoints / folder_name(members), settings)
            except Exception as error:
                unbegun.append((members, error))
            else:
                yield attempt

    for attempt, error in _ended(attempts(), settings):
        if error is None:
            yield from zip(attempt.jobs, attempt.status, strict=True)
        else:
            yield from _failed(attempt.jobs, error)
    for members, error in unbegun:
        yield from _failed(members, error)


def stacks(jobs: list[Job], size: int) -> list[list[Job]]:
    """Cohorts of at most so many runs, in the order of the jobs."""
    alike: dict[str, list[Job]] = {}
    for job in jobs:
        alike.setdefault(cohort_key(job.spec), []).append(job)
    return [members[i : i + size] for members in alike.values() for i in range(0, len(members), size)]


def _ended(attempts: Iterator[Attempt], settings: Settings) -> Iterator[tuple[Attempt, Exception | None]]:
    """Each attempt when it has ended. On a CPU they gain nothing by being side by side, and a kill would lose more."""
    if settings.device.type == "cuda":
        yield from together(attempts)
    else:
        for attempt in attempts:
            yield from together([attempt])


def folder_name(jobs: list[Job]) -> str:
    """One for each set of runs; of a run alone it is where `gt train` has its checkpoint too."""
    if len(jobs) == 1:
        return jobs[0].spec.run_id
    return "cohort-" + hashlib.sha256("\n".join(job.spec.run_id for job in jobs).encode()).hexdigest()[:10]


def _failed(jobs: list[Job], error: Exception) -> Iterator[tuple[Job, str]]:
    traceback.print_exception(error)
    for job in jobs:
        yield job, "failed"
