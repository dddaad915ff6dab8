"""Who was on a device and what it spent meanwhile, divided among the runs that were there: docs/reference/accounting.md.

All processes of gt that use a GPU write into one log of that GPU, `results/devices/<host>-<uuid>.jsonl`: a line each time that
one of them begins or ends something there, and every few seconds while it trains. A line says who is on the device from then
on, so the time between two lines is divided by the first of them. On a CPU the device is the process, and the log is in memory.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import torch
from pydantic import ValidationError

from gt.artefacts import Time, Typed, Usage, now
from gt.records import HOST

# Seconds between two lines of a process that trains.
MARK = 5.0
# Seconds in which a process may end unseen. It was killed between two lines: within this it counts until the first of them.
UNSEEN = 3 * MARK
# A line is shorter.
TAIL = 2**16
SECONDS, JOULES = "device_seconds", "energy_joules"
NO_COUNTER = "no energy counter"


class Event(Typed):
    """A line of a device's log."""

    time: Time
    clock: float  # seconds, the same for all processes of a host, and never set back while it runs
    process: str  # that wrote the line: its number and when it began
    on: dict[str, dict[str, int]]  # process -> what it has on the device from now on -> of how many runs that is
    joules: float | None  # that the device has drawn, by its counter
    strangers: bool | None  # whether processes are on the device that are not in this log; null: it cannot be seen


@dataclass
class Share:
    """Of what a device did, and why it is not known."""

    seconds: float = 0.0
    joules: float = 0.0
    unknown: dict[str, str] = field(default_factory=dict)  # of SECONDS and JOULES

    def lose(self, why: str, *measures: str) -> None:
        """The first reason counts."""
        self.unknown = dict.fromkeys(measures or (SECONDS, JOULES), why) | self.unknown


Shares = defaultdict[str, Share]


def shares(events: Iterable[Event]) -> Shares:
    """What each name in a log has of the device's seconds and joules. Together they are those in which it was in use."""
    found: Shares = defaultdict(Share)
    for before, after in pairwise(events):
        divide(before, after, found)
    return found


def divide(before: Event, after: Event, found: Shares) -> None:
    """Add to the shares what the device did between two lines, in equal parts for the runs that were on it.

    A process that is in the second line, or wrote it, was there all the time; another one has ended, and counts as gone since
    the first.
    """
    there = {p: names for p, names in before.on.items() if names and (p == after.process or p in after.on)}
    runs = sum(n for names in there.values() for n in names.values())
    seconds = after.clock - before.clock
    joules = None if before.joules is None or after.joules is None else after.joules - before.joules
    lost = seconds > UNSEEN and len(there) < sum(map(bool, before.on.values()))
    for name, n in ((name, n) for names in there.values() for name, n in names.items()):
        share = found[name]
        share.seconds += seconds * n / runs
        share.joules += (joules or 0.0) * n / runs
        if joules is None:
            share.lose(NO_COUNTER, JOULES)
        elif joules < 0:
            share.lose("the energy counter was set back", JOULES)
        if before.strangers or after.strangers:
            share.lose("shared with other processes")
        elif before.strangers is None or after.strangers is None:
            share.lose("other processes on the device cannot be seen")
        if lost:
            share.lose(f"another process ended, at a time not known to {UNSEEN:.0f} s")


def usage(share: Share, runs: int, peak: int | str) -> Usage:
    """Of one of so many runs that a share is of. peak: bytes that they held together, or why that is not known."""
    unknown = share.unknown | ({"peak_memory_bytes": peak} if isinstance(peak, str) else {})
    return Usage(
        device_seconds=None if SECONDS in unknown else share.seconds / runs,
        energy_joules=None if JOULES in unknown else share.joules / runs,
        peak_memory_bytes=None if isinstance(peak, str) else peak // runs,
        unknown=unknown,
    )


def total(usages: Sequence[Usage]) -> Usage:
    """Of attempts that went on from each other: seconds and joules add up, and of memory the most counts."""
    unknown: dict[str, str] = {}
    for own in usages:
        unknown = own.unknown | unknown
    sums = {name: None if name in unknown else sum(getattr(own, name) for own in usages) for name in (SECONDS, JOULES)}
    peak = None if "peak_memory_bytes" in unknown else max(own.peak_memory_bytes or 0 for own in usages)
    return Usage(**sums, peak_memory_bytes=peak, unknown=unknown)


@contextmanager
def metered(name: str, device: torch.device, folder: Path | None) -> Iterator[None]:
    """Have this process on a device meanwhile, as one run."""
    meter = Meter.of(device, folder)
    meter.enter(name)
    try:
        yield
    finally:
        meter.leave(name)


class Meter:
    """What this process has on a device, and its shares of what the device does.

    counter: of a device that other processes may use too. folder: of the logs, which all processes that are to know of each
    other have in common; without one the others are strangers. From now on this process is known to be there.
    """

    def __init__(self, counter: Counter | None = None, folder: Path | None = None) -> None:
        self.counter = counter
        self.path = folder / f"{HOST}-{counter.uuid}.jsonl" if folder is not None and counter is not None else None
        self.process = f"{os.getpid()}-{_began(os.getpid())}"
        self.own: dict[str, int] = {}
        self.last: Event | None = None
        self.read_to = 0
        self.shares: Shares = defaultdict(Share)
        self.mark()

    @classmethod
    def of(cls, device: torch.device, folder: Path | None) -> Meter:
        """Of a GPU or of this process's CPUs. Of a GPU it has to be made before CUDA begins there, which others see."""
        return cls(Gpu(device), folder) if device.type == "cuda" else cls()

    def enter(self, name: str, runs: int = 1) -> None:
        """Something begins that is of so many runs. Its name is no other's."""
        self._write(self.own | {name: runs})

    def leave(self, name: str) -> Share:
        """It ends. Returns its share."""
        self._write({own: runs for own, runs in self.own.items() if own != name})
        return self.shares[name]

    def mark(self) -> None:
        """This process is still there."""
        self._write(self.own)

    def _write(self, own: dict[str, int]) -> None:
        """Add a line, after those of the others since the last one are read."""
        if self.path is None:
            self._follow(self._event(own))
        else:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "a+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                self._catch_up(file)
                event = self._event(own)
                file.write(event.model_dump_json().encode() + b"\n")
                file.flush()
                self.read_to = file.tell()
                self._follow(event)
        self.own = own

    def _catch_up(self, file: BinaryIO) -> None:
        """Read the lines since this process's last one; at first the last of all."""
        size = file.seek(0, os.SEEK_END)
        file.seek(self.read_to if self.last is not None and self.read_to <= size else max(0, size - TAIL))
        text = file.read()
        if text and not text.endswith(b"\n"):  # whoever wrote it was killed meanwhile, or the disk is full
            file.write(b"\n")
        lines = text.splitlines()
        if self.last is None:
            lines = lines[-1:]
        elif size < self.read_to:
            lines.insert(0, b"")
        for line in lines:
            try:
                self._follow(Event.model_validate_json(line))
            except ValidationError:
                self._lose("the device's log was damaged")

    def _follow(self, event: Event) -> None:
        if self.last is not None:
            divide(self.last, event, self.shares)
        self.last = event

    def _lose(self, why: str) -> None:
        """Nothing is known of the time about here."""
        for name in self.own:
            self.shares[name].lose(why)
        self.last = None

    def _event(self, own: Mapping[str, int]) -> Event:
        others = {p: on for p, on in self.last.on.items() if p != self.process and _lives(p)} if self.last is not None else {}
        on = {**others, self.process: dict(own)}
        joules: float | None = None
        strangers: bool | None = False
        if self.counter is not None:
            strangers = are_strangers(self.counter.processes(), {_number(p) for p in on}, bool(self.own))
            joules = self.counter.joules()
        clock = time.monotonic()
        return Event(time=now(), clock=clock, process=self.process, on=on, joules=joules, strangers=strangers)


def are_strangers(listed: Sequence[int] | None, ours: set[int], at_work: bool) -> bool | None:
    """Whether there are processes on a GPU beside ours; None where it cannot be told.

    listed: numbers of those that NVML sees, if it does. at_work: whether one of ours must be there. In a container the numbers
    are others than those that we know; then it is told by how many there are.
    """
    if listed is None or (at_work and not listed):
        return None
    if ours & set(listed):
        return bool(set(listed) - ours)
    return len(listed) > len(ours)


def _began(process: int) -> str | None:
    """When a process began, in ticks of the host; None where it has ended."""
    try:
        state, *fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state in "ZX" else fields[18]


def _number(process: str) -> int:
    return int(process.partition("-")[0])


def _lives(process: str) -> bool:
    """Whether a process of this host, as a log names it, has not ended."""
    return process == f"{_number(process)}-{_began(_number(process))}"


class Counter(Protocol):
    """What a device says of itself."""

    uuid: str

    def joules(self) -> float | None:
        """That it has drawn since some time."""

    def processes(self) -> list[int] | None:
        """The numbers of those that compute on it."""


class Gpu:
    """As NVML sees it, which needs no CUDA; None where it does not say."""

    def __init__(self, device: torch.device) -> None:
        self.uuid = str(torch.cuda.get_device_properties(device).uuid)

    def joules(self) -> float | None:
        millijoules = self._ask("nvmlDeviceGetTotalEnergyConsumption")
        return None if millijoules is None else millijoules / 1000

    def processes(self) -> list[int] | None:
        found = self._ask("nvmlDeviceGetComputeRunningProcesses")
        return None if found is None else [process.pid for process in found]

    def _ask(self, function: str) -> Any:
        if find_spec("pynvml") is None:
            return None
        import pynvml

        try:
            pynvml.nvmlInit()
            return getattr(pynvml, function)(pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{self.uuid}"))
        except pynvml.NVMLError:
            return None
