"""The attempts at each run: `results/attempts/<run_id>/<attempt_id>.json`, added when one starts, and never removed.

An attempt is written when its training starts and again when it ends; meanwhile what it has used so far is kept up to date. One
that was killed has no end. Neither another attempt nor the workflow replaces or removes it, so the first start of a run stays
known, whatever becomes of its record.

Nothing here imports torch.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from gt.artefacts import ATTEMPT_ID, Attempt, Manifest, Plan, Usage, now, parsed, read_manifest, write
from gt.errors import ConfigError
from gt.records import read_sealed

# Beside the folder of the records.
FOLDER = "attempts"
STAMP = "%Y%m%dT%H%M%SZ"
Outcome = Literal["completed", "diverged", "failed"]


def new_id(started: datetime) -> str:
    """Of an attempt, or of several that start as one: the runs of a cohort."""
    return f"{started.astimezone(UTC):{STAMP}}-{secrets.token_hex(8)}"


def started_at(attempt_id: str) -> datetime:
    """The time in an attempt's id. ConfigError where there is none."""
    try:
        return datetime.strptime(attempt_id.partition("-")[0], STAMP).replace(tzinfo=UTC)
    except ValueError:
        raise ConfigError(f"{attempt_id!r} does not begin with a time, as {STAMP} has it.") from None


class Entry:
    """An attempt while it is made. It stands in its file from now on."""

    def __init__(self, folder: Path, attempt: Attempt) -> None:
        self.path, self.attempt = folder / attempt.run_id / f"{attempt.id}.json", attempt
        write(self.path, attempt)

    def note(self, **changes: Any) -> None:
        """Keep what is known of it by now. Done every few seconds, so it does not wait for the disk."""
        self.attempt = self.attempt.model_copy(update=changes)
        write(self.path, self.attempt, durable=False)

    def end(self, outcome: Outcome, usage: Usage, error: str | None = None) -> None:
        """Write how it ended; what is said first counts."""
        if self.attempt.outcome is None:
            end = {"ended": now(), "outcome": outcome, "usage": usage, "error": error}
            self.attempt = self.attempt.model_copy(update=end)
            write(self.path, self.attempt)


def of_run(folder: Path, run_id: str) -> list[Attempt]:
    """All attempts at a run, the first first. ConfigError, which names the file, for one that is damaged or is none."""
    found = [read(file) for file in sorted((folder / run_id).glob("[!.]*"))]
    return sorted(found, key=lambda attempt: attempt.started)


def read(file: Path) -> Attempt:
    """ConfigError where it is damaged, or not what its name and its folder say."""
    if not re.fullmatch(ATTEMPT_ID, file.stem) or file.suffix != ".json":
        raise ConfigError(f"{file}: is no attempt; those are called <time>-<16 hex digits>.json. Move it elsewhere.")
    attempt = parsed(Attempt, read_sealed(file), file)
    if (attempt.run_id, attempt.id) != (file.parent.name, file.stem):
        raise ConfigError(f"{file}: is the attempt {attempt.id} at {attempt.run_id}.")
    check(attempt, file)
    return attempt


def check(attempt: Attempt, source: object) -> None:
    """ConfigError where the time of an attempt is not the one in its id, by which it is looked for."""
    if f"{attempt.started:{STAMP}}" != attempt.id.partition("-")[0]:
        raise ConfigError(f"{source}: started: {attempt.started.isoformat()} is another time than that of its name.")


def first_start(folder: Path, run_id: str) -> datetime | None:
    """When a run was first begun; None if it never was. ConfigError for an attempt that is damaged or is none."""
    return min((attempt.started for attempt in of_run(folder, run_id)), default=None)


def earliest(folder: Path) -> datetime | None:
    """When the first of all attempts began, by their names; None where there is none. ConfigError for a name that is none."""
    return min((started_at(file.stem) for file in folder.glob("*/[!.]*.json")), default=None)


def first_starts(plan: Plan, runs: Path, kept: Iterable[Plan] = ()) -> dict[str, datetime]:
    """When each run of a plan was first begun, as far as it is known (`began`). kept: other plans that may know it."""
    plans = [plan, *kept]
    return {run: time for run in plan.runs if (time := began(run, runs, plans)) is not None}


def began(run: str, runs: Path, plans: Iterable[Plan], manifest: Manifest | None = None) -> datetime | None:
    """When a run was first begun, as far as it is known: by plans, by the attempts beside a folder of records, by its record.

    manifest: that of the record, where it has been read. ConfigError for an attempt that is damaged or is none.
    """
    of_record = manifest.started if manifest else _of_record(runs / run)
    times = [*(plan.started.get(run) for plan in plans), first_start(runs.parent / FOLDER, run), of_record]
    return min((time for time in times if time is not None), default=None)


def _of_record(record: Path) -> datetime | None:
    """When the first attempt began that made a record; None where there is no sound one."""
    try:
        return read_manifest(record).started
    except ConfigError:
        return None


def used(folder: Path, run_id: str, ids: Iterable[str]) -> list[Usage]:
    """What attempts at a run have used; of one whose file is gone or damaged nothing is known."""
    return [_used(folder / run_id / f"{attempt_id}.json") for attempt_id in ids]


def _used(file: Path) -> Usage:
    try:
        return read(file).usage
    except ConfigError:
        return Usage.nothing(f"the file of the attempt {file.stem} is gone or damaged")
