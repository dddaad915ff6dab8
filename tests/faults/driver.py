"""The driver: seeded trials of every kind for some time, a log from which each can be repeated, and a table of all logs.

`python -m faults.driver --seconds 1800` in tests/ (`make faults`); `--seed S --only N` repeats trial N of seed S.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

from faults.kinds import KINDS, Kind
from faults.study import Twin, twins
from faults.table import markdown, summary
from faults.trial import Trial

WORKERS = 2
NAMESPACES = (["unshare", "--mount"], ["unshare", "--user", "--map-root-user", "--mount"])
MAY_MOUNT = "GT_FAULTS_MAY_MOUNT"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1800, help="no trial starts later")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="by default another one each time")
    parser.add_argument("--only", type=int, metavar="N", help="this trial alone")
    parser.add_argument(
        "--out", type=Path, default=Path("results/faults"), help="for the log, the table, and what lost calls said"
    )
    options = parser.parse_args()
    move_to_own_namespace()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background would ignore it, and ours with it
    start = time.monotonic()
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="gt-faults-", ignore_cleanup_errors=True) as folder:
        machine = Machine(Path(folder), options.seed, seeds=2, out=out)
        if options.only is not None:
            line = machine.trial(options.only)
            print(json.dumps(line, indent=2))
            return int(line["outcome"] == "lost")
        if not may_mount():
            print("No file system may be mounted here, so no disk is filled.")
        machine.run(start + options.seconds)
    logs = [json.loads(line) for file in sorted(out.glob("log-*.jsonl")) for line in file.read_text().splitlines()]
    result = summary(logs)
    (out / "faults.json").write_text(json.dumps(result, indent=2) + "\n")
    (out / "faults.md").write_text(text := markdown(result))
    print(f"\n{text}")
    return int(result["lost"] > 0)


class Machine:
    """Twins, and trials that are held against them."""

    def __init__(self, folder: Path, seed: int, seeds: int, out: Path) -> None:
        self.folder, self.seed, self.seeds, self.out = folder, seed, seeds, out
        self.twins: dict[bool, Twin] = {}

    def prepare(self, kinds: Iterable[Kind]) -> None:
        """Make the twins that some kinds need, side by side."""
        self.twins = twins(self.folder / "twins", self.seeds, {kind.packed for kind in kinds})

    def kind(self, number: int) -> Kind:
        """Which kind a trial is of: all come up, in another order each time."""
        deck = [kind for kind in KINDS for _ in range(kind.turns)]
        Random(f"{self.seed}:{number // len(deck)}").shuffle(deck)
        return deck[number % len(deck)]

    def run(self, until: float) -> None:
        """Trials until a time, two at once; each is a line of the log."""
        self.prepare(KINDS)
        numbers, lock = itertools.count(), threading.Lock()
        path = self.out / f"log-{self.seed}.jsonl"

        def work(_: int) -> None:
            while time.monotonic() < until:
                with lock:
                    number = next(numbers)
                line = self.trial(number)
                with lock, path.open("a") as file:
                    file.write(json.dumps(line) + "\n")
                    print(f"{self.seed}:{number} {line['kind']}: {len(line['faults'])} faults, {line['outcome']}", flush=True)
                    for reason in line["reasons"][:3]:
                        print(f"    {reason}", flush=True)

        with ThreadPoolExecutor(WORKERS) as pool:
            list(pool.map(work, range(WORKERS)))

    def trial(self, number: int, kind: Kind | None = None) -> dict[str, Any]:
        """Disturb a study, settle it, and say what came of it: the line of the log."""
        kind, start = kind or self.kind(number), time.monotonic()
        if kind.packed not in self.twins:
            self.prepare([kind])
        line = {"seed": self.seed, "trial": number, "kind": kind.name, "faults": [], "reasons": []}
        if kind.needs_mount and not may_mount():
            return {**line, "outcome": "skipped"}
        folder = self.folder / f"trial-{number}"
        with mounted(folder / "study", kind.needs_mount):
            trial = Trial.start(folder / "study", self.twins[kind.packed], kind.start)
            try:
                for i in range(kind.faults):
                    random = Random(f"{self.seed}:{number}:{i}")
                    kind.fault(trial, random, (i + random.random()) / kind.faults)
                calls = trial.settle()
            finally:
                trial.clear()
        if trial.reasons:
            shutil.copytree(folder / "calls", self.out / f"lost-{self.seed}-{number}", dirs_exist_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        return {
            **line,
            "faults": trial.faults,
            "codes": [call.code for call in trial.calls],
            "calls_after": calls,
            "followed": trial.followed,
            "outcome": "lost" if trial.reasons else "same",
            "reasons": list(dict.fromkeys(trial.reasons)),
            "seconds": round(time.monotonic() - start, 1),
        }


def may_mount() -> bool:
    return bool(os.environ.get(MAY_MOUNT))


def move_to_own_namespace() -> None:
    """Start this program again where it may mount a small disk that is gone with it, if this machine allows that."""
    if MAY_MOUNT in os.environ:
        return
    with tempfile.TemporaryDirectory() as folder:
        for command in NAMESPACES if shutil.which("unshare") else ():
            if not subprocess.run(
                [*command, "mount", "-t", "tmpfs", "none", folder], capture_output=True, check=False
            ).returncode:
                os.environ[MAY_MOUNT] = "yes"
                os.execvp(command[0], [*command, sys.executable, "-m", "faults.driver", *sys.argv[1:]])
    os.environ[MAY_MOUNT] = ""


@contextmanager
def mounted(folder: Path, wanted: bool) -> Iterator[None]:
    """A disk of its own for a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    if not wanted:
        yield
        return
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1g", "none", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


if __name__ == "__main__":
    sys.exit(main())
