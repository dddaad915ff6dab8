"""The most memory that a cohort holds at any time, where several take turns in one process.

A GPU's memory is counted by torch's allocator, for the whole process. The host builds, advances and collects one cohort at a
time, and a cohort takes and gives back memory in its own turns alone: what it holds is the sum of what its turns have added,
and the most of a turn is over what it held before. On a CPU it is what is resident of the process, which several cohorts cannot
be told apart in.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import torch

PROCESS = Path("/proc/self")


class Memory(Protocol):
    """What this process has of a device, in bytes."""

    def held(self) -> int:
        """Now."""

    def peak(self) -> int:
        """At most since `reset`."""

    def reset(self) -> None:
        """Begin to watch for the most."""


class Peak:
    """The most that one of several holds, who take turns."""

    def __init__(self, memory: Memory) -> None:
        self.memory, self.held, self.most = memory, 0, 0

    @contextmanager
    def turn(self) -> Iterator[None]:
        """What is taken and given back meanwhile is its own."""
        before = self.memory.held()
        self.memory.reset()
        try:
            yield
        finally:
            self.most = max(self.most, self.held + self.memory.peak() - before)
            self.held += self.memory.held() - before


class Allocated:
    """Of a GPU, by torch's allocator."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def held(self) -> int:
        return torch.cuda.memory_allocated(self.device)

    def peak(self) -> int:
        return torch.cuda.max_memory_allocated(self.device)

    def reset(self) -> None:
        torch.cuda.reset_peak_memory_stats(self.device)


class Resident:
    """Of this machine: all that is resident of the process, which is nobody's own. OSError where it cannot be watched."""

    def held(self) -> int:
        return 0

    def peak(self) -> int:
        found = re.search(r"^VmHWM:\s+(\d+) kB$", (PROCESS / "status").read_text(), re.MULTILINE)
        if found is None:
            raise OSError(f"{PROCESS / 'status'} has no VmHWM")
        return int(found[1]) * 1024

    def reset(self) -> None:
        (PROCESS / "clear_refs").write_text("5")


def peak_of(device: torch.device) -> Peak | None:
    """What watches the memory of a cohort on a device; None where it cannot be watched."""
    if device.type == "cuda":
        return Peak(Allocated(device))
    try:
        resident = Resident()
        resident.reset()
        resident.peak()
    except OSError:
        return None
    return Peak(resident)
