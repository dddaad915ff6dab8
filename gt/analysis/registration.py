"""Claims are registered before the runs that judge them: what was claimed, when, and at which commit.

`config/claims/registered.jsonl` has an entry a line, and is only added to: a claim that is edited is entered again, and its
first entry stays. Each entry holds the sum of the one before, so that what stands above the last one cannot be edited, taken
out or reordered without changing all sums below (`chain`). The file is committed: the history of the repository shows that it
only grew (`check_history`) and bears its times out (`unconfirmed`). `docs/reference/registration.md` says how its head is made
known outside of the repository, and what all this shows.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from gt.analysis.claims import Claim
from gt.artefacts import Sum
from gt.errors import ConfigError
from gt.explain import validated
from gt.records import atomic_write, parse_json, read_json
from gt.study import Document

FILE = "registered.jsonl"
# What had the latest entry of each claim, before there was a chain.
MAPPING = "registered.json"
# Before the first entry there is none.
NONE = "0" * 64
# A registration is committed some time after it is written.
SLACK = timedelta(hours=1)


def _iso(time: str) -> str:
    if datetime.fromisoformat(time).tzinfo is None:
        raise ValueError(f"{time!r} has no time zone")
    return time


Time = Annotated[str, AfterValidator(_iso), Field(description="ISO 8601, with a time zone")]


class Registration(Document):
    """That a claim was entered: the sum of what it claims, when, and the commit that the working tree was based on."""

    sha256: Sum
    time: Time
    commit: str | None


class Entry(Document):
    """A registration in the chain. previous: the hash of the entry before; hash: of all else that stands in this one."""

    number: Annotated[int, Field(ge=1)]
    claim: str
    sha256: Sum
    time: Time
    commit: str | None
    previous: Sum
    hash: Sum

    @property
    def entered(self) -> datetime:
        return datetime.fromisoformat(self.time)

    @property
    def expected(self) -> str:
        """The sha256 of the canonical JSON of all but the hash: sorted keys, no spaces."""
        content = self.model_dump(mode="json", exclude={"hash"})
        return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def chain(folder: Path) -> list[Entry]:
    """All entries, the first first; none without a file. ConfigError, by file, line and claim, where they are no whole chain.

    A folder that has the mapping alone, of before there was a chain, has the chain that is made of it.
    """
    path = folder / FILE
    if not path.exists():
        return _linked([], _before(folder))
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: not readable ({error.strerror}).") from None
    *lines, rest = text.split(b"\n")
    entries: list[Entry] = []
    for number, line in enumerate(lines, 1):
        entries.append(_next(line, f"{path}, line {number}", entries))
    if rest:
        raise ConfigError(f"{path}, line {len(lines) + 1}: is cut short: it has no end of line.")
    return entries


def _next(line: bytes, where: str, entries: list[Entry]) -> Entry:
    """A line as the entry that follows others. ConfigError where it does not."""
    try:
        entry = validated(Entry, parse_json(line), where)
    except ValueError as error:
        raise ConfigError(f"{where}: not valid JSON ({error}).") from None
    where = f"{where}: {entry.claim}"
    previous = entries[-1].hash if entries else NONE
    if entry.number != len(entries) + 1:
        raise ConfigError(f"{where}: number: {entry.number} must be {len(entries) + 1}: entries are missing or reordered.")
    if entry.previous != previous:
        raise ConfigError(f"{where}: previous: {entry.previous} is not the hash of the entry before, {previous}.")
    if entry.hash != entry.expected:
        raise ConfigError(f"{where}: hash: {entry.hash} is not that of the entry, {entry.expected}: it was edited.")
    if entries and entry.entered < entries[-1].entered:
        raise ConfigError(f"{where}: time: {entry.time} is before that of the entry before, {entries[-1].time}.")
    return entry


def history(folder: Path) -> dict[str, list[Entry]]:
    """The entries of each claim, the first first; none without a file."""
    found: dict[str, list[Entry]] = {}
    for entry in chain(folder):
        found.setdefault(entry.claim, []).append(entry)
    return found


def read(folder: Path) -> dict[str, Entry]:
    """The latest entry of each claim; none without a file."""
    return {claim: entries[-1] for claim, entries in history(folder).items()}


def unregistered(folder: Path, claims: dict[str, Claim]) -> list[str]:
    """The claims that are new or were edited since they were entered. What cannot be tested needs no registration."""
    latest = read(folder)
    return [
        name
        for name, claim in claims.items()
        if claim.not_testable is None and (name not in latest or latest[name].sha256 != claim.sha256)
    ]


def register(folder: Path, claims: dict[str, Claim]) -> list[str]:
    """Enter all claims that are new or were edited, with the time and the commit of now. Returns them.

    ConfigError, and nothing is written, where the chain is broken or is not the
    one that was committed.
    """
    path, entries = folder / FILE, chain(folder)
    check_history(folder)
    time, commit = datetime.now(UTC).isoformat(timespec="seconds"), _git(folder, "rev-parse", "HEAD").strip() or None
    if entries and datetime.fromisoformat(time) < entries[-1].entered:
        raise ConfigError(f"{path}: the last entry is of {entries[-1].time}, and the clock says {time}.")
    entered = unregistered(folder, claims)
    added = [(name, Registration(sha256=claims[name].sha256, time=time, commit=commit)) for name in entered]
    written = path.read_bytes() if path.exists() else b""
    lines = [f"{entry.model_dump_json()}\n".encode() for entry in _linked(entries, added)[written.count(b"\n") :]]
    if lines:
        with atomic_write(path) as temporary:
            temporary.write_bytes(b"".join([written, *lines]))
    (folder / MAPPING).unlink(missing_ok=True)
    return entered


def _linked(entries: list[Entry], added: Iterable[tuple[str, Registration]]) -> list[Entry]:
    """Entries, and registrations of claims after them, each linked to the one before."""
    linked = list(entries)
    for claim, own in added:
        previous = linked[-1].hash if linked else NONE
        entry = Entry(number=len(linked) + 1, claim=claim, **own.model_dump(), previous=previous, hash=NONE)
        linked.append(entry.model_copy(update={"hash": entry.expected}))
    return linked


def late(claim: Claim, entries: Sequence[Entry], started: Iterable[datetime], begun: datetime | None = None) -> str | None:
    """Why a registered claim did not stand before its runs as it stands now; None if it did.

    entries: all of the claim. started: when the runs that it reads were first begun; before any was, nothing is late. begun:
    when the first of all runs was, of any study: an edit after it may have been made for what was seen of others, which nobody
    can tell. Who learns from one study what to claim of the next registers a claim of its own.
    """
    last, first = entries[-1], min(started, default=None)
    if first is None:
        return None
    if last.sha256 != claim.sha256:
        return f"edited since it was registered on {last.entered:%Y-%m-%d %H:%M}"
    edited = len(entries) > 1
    how = f"{'edited and registered again' if edited else 'registered'} on {last.entered:%Y-%m-%d %H:%M}"
    if first < last.entered:
        return f"{how}, after the first run that it reads had started ({first:%Y-%m-%d %H:%M})"
    if edited and begun is not None and begun < last.entered:
        return f"{how}, before the first run that it reads and after others had started ({begun:%Y-%m-%d %H:%M})"
    return None


def check_history(folder: Path) -> None:
    """ConfigError where a committed version of the chain is no beginning of the file: entries were taken out or replaced."""
    path = folder / FILE
    lines = path.read_bytes().decode("utf-8", "replace").splitlines() if path.exists() else []
    for time, text in _versions(folder, FILE):
        for number, line in enumerate(text.splitlines(), 1):
            if number > len(lines) or lines[number - 1] != line:
                claim = next((claim for claim, _ in _lines(line)), "no entry")
                what = "is gone" if number > len(lines) else "was replaced"
                raise ConfigError(f"{path}, line {number}: {claim}: what was committed on {time:%Y-%m-%d %H:%M} {what}.")


def unconfirmed(folder: Path) -> list[str]:
    """Entries whose time the history of the repository does not bear out, and why.

    The first commit that has an entry, in the chain or in what was before, must be of its time, an hour later at most.
    """
    committed: dict[tuple[str, str, str], datetime] = {}
    for file, registrations in ((MAPPING, _mapping), (FILE, _lines)):
        for time, text in _versions(folder, file):
            for claim, own in registrations(text):
                committed.setdefault((claim, own.sha256, own.time), time)
    result = []
    for entry in chain(folder):
        where = f"{folder / FILE}, line {entry.number}: {entry.claim}"
        on = committed.get((entry.claim, entry.sha256, entry.time))
        if on is None:
            result.append(f"{where}: its registration is not committed")
        elif on - entry.entered > SLACK:
            result.append(f"{where}: registered at {entry.time}, committed on {on:%Y-%m-%d %H:%M}")
    return result


def _before(folder: Path) -> list[tuple[str, Registration]]:
    """All that the mapping ever had, in the order of time: what an edit replaced stands in the history of the repository."""
    path = folder / MAPPING
    document = read_json(path) if path.exists() else {}
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: must be a mapping of claims to their registrations.")
    found = [(name, validated(Registration, own, path, at=(name,))) for name, own in document.items()]
    found += [registration for _, text in _versions(folder, MAPPING) for registration in _mapping(text)]
    by_time = sorted(found, key=lambda own: (datetime.fromisoformat(own[1].time), own[0]))
    return list({(name, own.sha256, own.time): (name, own) for name, own in by_time}.values())


def _mapping(text: str) -> Iterator[tuple[str, Registration]]:
    """What a version of the mapping has; nothing of one that is damaged."""
    with suppress(ConfigError, ValueError, AttributeError):
        for name, own in parse_json(text.encode()).items():
            yield name, validated(Registration, own, MAPPING)


def _lines(text: str) -> Iterator[tuple[str, Entry]]:
    """What a version of the chain has; nothing of what is damaged."""
    with suppress(ConfigError, ValueError):
        for line in text.splitlines():
            entry = validated(Entry, parse_json(line.encode()), FILE)
            yield entry.claim, entry


def _versions(folder: Path, file: str) -> Iterator[tuple[datetime, str]]:
    """The versions of a file that the history of the repository has, the oldest first, each with the time of its commit."""
    for line in _git(folder, "log", "--reverse", "--format=%H %cI", "--", file).splitlines():
        commit, time = line.split()
        yield datetime.fromisoformat(time), _git(folder, "show", f"{commit}:./{file}")


def _git(folder: Path, *arguments: str) -> str:
    """What git says; nothing where there is no repository, or no such thing."""
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, encoding="utf-8", errors="replace", timeout=60
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
