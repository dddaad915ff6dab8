"""One trial: a study that is disturbed at some moments, then called until all is done, and compared with its twin."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from faults.compare import differences, digest
from faults.study import MOST_CALLS, Call, Study, Twin, follow, wait_for

# A frame of a stack trace that is in our code.
OURS = re.compile(r'File "(?![^"]*site-packages)[^"]*/(?:gt|workflow)/[^"]*", line \d+')
TRACEBACK = "Traceback (most recent call last)"


@dataclass
class Trial:
    """A copy of what the twin was at some stage, and what was done to it.

    A trial is lost if, at the end, something differs from the twin; if a call that ended well left it different; if a stack
    trace of our code was shown; if it does not settle; or if a call that failed over a damaged file did not name it.
    """

    study: Study
    twin: Twin
    begin: Study  # where it started from
    calls: list[Call] = field(default_factory=list)
    faults: list[dict[str, Any]] = field(default_factory=list)
    damaged: dict[Path, str | None] = field(default_factory=dict)  # the sum of what a file was made, None: removed
    others: list[Study] = field(default_factory=list)  # further checkouts with these results
    followed: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)

    @classmethod
    def start(cls, folder: Path, twin: Twin, stage: str) -> Trial:
        begin = twin.stages[stage]
        return cls(begin.copy(folder), twin, begin)

    def call(self, study: Study | None = None) -> Call:
        """A new call of Snakemake."""
        study = study or self.study
        self.calls.append(study.start(self.study.folder.parent / "calls" / f"{len(self.calls) + 1}.txt"))
        return self.calls[-1]

    def running(self) -> Call:
        """The call that runs, or a new one."""
        if self.calls and not self.calls[-1].ended():
            return self.calls[-1]
        if self.calls and self.calls[-1].code is None:
            self.end(self.calls[-1])
        return self.call()

    def at(self, moment: float, random: Random, condition: Callable[[], Any] = lambda: True) -> bool:
        """Wait, while a call runs, until a part of the study's files is there, a little longer, and until something is so."""
        begin, end = (len(study.files()) for study in (self.begin, self.twin.finished))
        target = begin + moment * (end - begin)
        delay, call = 1.5 * random.random(), self.running()
        if not wait_for(lambda: len(self.study.files()) >= target, call):
            return False
        until = time.monotonic() + delay
        return wait_for(lambda: time.monotonic() >= until, call) and wait_for(condition, call)

    def note(self, what: str, target: str) -> None:
        """Write down a fault that was injected."""
        self.faults.append({"fault": what, "target": target, "files": len(self.study.files()), "call": len(self.calls)})

    def end(self, call: Call) -> int:
        """Wait for a call; where it says that all is done, all must be. What was killed outright leaves a lock."""
        code = call.end()
        if code == 0:
            self.check(call)
        if code < 0:
            self.study.start(call.output.with_suffix(".unlock.txt"), "--unlock").end()
        return code

    def check(self, call: Call) -> None:
        """Hold what is there against the twin; what was damaged must be gone, also where no number of it is compared."""
        studies = (self.study, *self.others)
        for study in studies:
            study.wait_until_quiet()
        lines = [line for study in studies for line in differences(self.twin.finished, study)]
        lines += [
            f"{file.relative_to(self.study.folder)}: as it was damaged"
            for file, what in self.damaged.items()
            if what is not None and file.exists() and digest(file) == what
        ]
        self.reasons += [f"call {self.calls.index(call) + 1} ended with 0, but {line}" for line in lines]

    def settle(self) -> int:
        """Call until all is done, as a user would. Returns how many calls that took after the last fault."""
        used = 0
        for study in (self.study, *self.others):
            for number in range(MOST_CALLS):
                call = self.running() if study is self.study else self.call(study)
                used += 1
                if self.end(call) == 0:
                    break
                self.followed += follow(study, call, number)
            else:
                self.reasons.append(f"not done after {MOST_CALLS} calls")
        if not self.reasons:
            last = self.call()
            if self.end(last) or "Nothing to be done" not in last.text:
                self.reasons.append("a call after the last finds something to do")
        self.read()
        return used

    def read(self) -> None:
        """What the user was shown."""
        for number, call in enumerate(self.calls, 1):
            if call.hung:
                self.reasons.append(f"call {number} hung")
            for trace in call.text.split(TRACEBACK)[1:]:
                if OURS.search(trace):
                    error = next((line for line in trace.splitlines()[1:] if line and not line.startswith((" ", "\t"))), "?")
                    self.reasons.append(f"call {number} shows a stack trace: {error[:200]}")
        failed = "".join(call.text for call in self.calls if (call.code or 0) > 0)
        if failed:
            unnamed = (file for file in self.damaged if file.name not in failed)
            self.reasons += [f"no failed call names {file.relative_to(self.study.folder)}" for file in unnamed]

    def clear(self) -> None:
        """End all that still runs, and remove the copies."""
        for study in (self.study, *self.others):
            for process in study.processes():
                process.kill()
            shutil.rmtree(study.folder, ignore_errors=True)
