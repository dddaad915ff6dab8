"""Claims are registered before the runs that judge them: what was claimed, when, and at which commit.

`config/claims/registered.json` has an entry a claim: the sha256 of what it claims, the time, and the commit that the working
tree was based on. It is committed, so the history of the repository bears its times out (`unconfirmed`). A claim that is not
in it, was edited after it was entered, or was entered after the first run that judges it had started, is exploratory.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import field_validator

from gt.analysis.claims import Claim
from gt.errors import ConfigError
from gt.explain import validated
from gt.records import read_json, write_json
from gt.study import Document

Json = dict[str, Any]
FILE = "registered.json"
# A registration is committed some time after it is written.
SLACK = timedelta(hours=1)


class Entry(Document):
    """The registration of a claim: what it claimed, when, and the commit that the working tree was based on."""

    sha256: str
    time: str
    commit: str | None

    @field_validator("time", mode="after")
    @classmethod
    def _iso(cls, time: str) -> str:
        if datetime.fromisoformat(time).tzinfo is None:
            raise ValueError(f"{time!r} has no time zone")
        return time


def read(folder: Path) -> dict[str, Json]:
    """The registrations by claim; none without the file."""
    path = folder / FILE
    if not path.exists():
        return {}
    return {name: validated(Entry, entry, path, at=(name,)).model_dump() for name, entry in _mapping(path).items()}


def _mapping(path: Path) -> Json:
    entries = read_json(path)
    if not isinstance(entries, dict):
        raise ConfigError(f"{path}: must be a mapping of claims to their registrations.")
    return entries


def register(folder: Path, claims: dict[str, Claim]) -> list[str]:
    """Enter all claims that are new or were edited, with the time and the commit of now. Returns them.

    What cannot be tested needs no registration. A claim that is gone is no longer entered.
    """
    entries = read(folder)
    now, commit = datetime.now(UTC).isoformat(timespec="seconds"), _git(folder, "rev-parse", "HEAD") or None
    kept: dict[str, Json] = {}
    entered = []
    for name, claim in claims.items():
        if claim.not_testable is None:
            if name not in entries or entries[name]["sha256"] != claim.sha256:
                entries[name] = {"sha256": claim.sha256, "time": now, "commit": commit}
                entered.append(name)
            kept[name] = entries[name]
    write_json(folder / FILE, kept)
    return entered


def exploratory(name: str, claim: Claim, entries: dict[str, Json], started: Iterable[str]) -> str | None:
    """Why a claim is exploratory, or None if it was registered first. started: when the runs that judge it began (ISO 8601)."""
    if name not in entries:
        return "not registered"
    if entries[name]["sha256"] != claim.sha256:
        return "edited since it was registered"
    first, time = min(map(datetime.fromisoformat, started), default=None), datetime.fromisoformat(entries[name]["time"])
    if first is not None and first < time:
        return f"registered on {time:%Y-%m-%d %H:%M}, after the first run had started ({first:%Y-%m-%d %H:%M})"
    return None


def unconfirmed(folder: Path) -> list[str]:
    """Claims whose time of registration the history of the repository does not bear out, and why.

    The first commit that has an entry's hash must be of its time, an hour later at most.
    """
    log = _git(folder, "log", "--reverse", "--format=commit %cI", "-p", "--unified=0", "--", FILE)
    committed: dict[str, datetime] = {}
    time = None
    for line in log.splitlines():
        if line.startswith("commit "):
            time = datetime.fromisoformat(line.removeprefix("commit "))
        elif time and (found := re.match(r'\+ *"sha256": "([0-9a-f]{64})"', line)):
            committed.setdefault(found[1], time)
    result = []
    for name, entry in read(folder).items():
        if entry["sha256"] not in committed:
            result.append(f"{name}: its registration is not committed")
        elif committed[entry["sha256"]] - datetime.fromisoformat(entry["time"]) > SLACK:
            result.append(f"{name}: registered at {entry['time']}, committed on {committed[entry['sha256']]:%Y-%m-%d %H:%M}")
    return result


def _git(folder: Path, *arguments: str) -> str:
    """What git says; nothing where there is no repository."""
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=60)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
