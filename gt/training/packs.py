"""Many runs in one process: those of one architecture as a cohort, the cohorts side by side."""

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
STACK = 5


def train_pack(jobs: list[Job], finished: set[str], checkpoints: Path, settings: Settings) -> Iterator[tuple[Job, str]]:
    """Train runs and write their records. Yields each with its status, `completed`, `diverged` or `failed`, when it ends.

    jobs: runs on one folder of tokens. finished: ids of those that have their record already; they are left out, but for a
    cohort that was killed while it wrote its records: it goes on from its checkpoint, to the same bits, as a whole.
    checkpoints: a folder for all of them, where each cohort has one of its own. What fails takes its cohort with it and no
    other; why is said on the error stream.
    """
    cohorts = stacks(jobs)
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

    for attempt, error in together(attempts()):
        if error is None:
            yield from zip(attempt.jobs, attempt.status, strict=True)
        else:
            yield from _failed(attempt.jobs, error)
    for members, error in unbegun:
        yield from _failed(members, error)


def stacks(jobs: list[Job]) -> list[list[Job]]:
    """Cohorts of at most STACK runs, in the order of the jobs."""
    alike: dict[str, list[Job]] = {}
    for job in jobs:
        alike.setdefault(cohort_key(job.spec), []).append(job)
    return [members[i : i + STACK] for members in alike.values() for i in range(0, len(members), STACK)]


def folder_name(jobs: list[Job]) -> str:
    """One for each set of runs."""
    return "cohort-" + hashlib.sha256("\n".join(job.spec.run_id for job in jobs).encode()).hexdigest()[:10]


def _failed(jobs: list[Job], error: Exception) -> Iterator[tuple[Job, str]]:
    traceback.print_exception(error)
    for job in jobs:
        yield job, "failed"
