"""The small study that is disturbed: how it is called, watched and brought to its end, as a user would."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import yaml
from checkouts import Checkout

# Three architectures; enough steps that a training job is interrupted between its checkpoints.
CHANGES: dict[str, Any] = {
    "variants": ["GPT-2", "GF", "RWKV-6"],
    "evaluations": [],
    "training": {
        "steps": 50, "batch_size": 2, "sequence_length": 16, "learning_rate": 0.01, "evaluate_every": 10, "log_every": 5,
        "evaluation_tokens": 64,
    },
}  # fmt: skip
CLAIMS = {
    f"T-{variant}": {
        "title": f"{variant} learns faster", "sentence": f"{variant} is lower than GPT-2.", "source": "a test", "study": "tiny",
        "seeds": 2, "predicate": [{"test": "compare", "metric": "val/loss", "a": variant, "b": "GPT-2", "is": "lower"}],
    }
    for variant in ("GF", "RWKV-6")
}  # fmt: skip
CHECKPOINT_SECONDS = 0.05
PACK_SIZE = 4
# After so many calls it does not settle; a call that takes longer hangs.
MOST_CALLS, MOST_SECONDS = 6, 1200
# What a start is made by: the calls before it.
STAGES = {"data": ["--until", "tokenize"], "measured": ["--until", "evaluate", "probe"], "finished": []}


class Study(Checkout):
    """A checkout with the small study in it, trained run by run or in packs."""

    def __init__(self, folder: Path, seeds: int, packed: bool = False) -> None:
        super().__init__(folder)
        self.packed = packed
        self.study(**CHANGES, seeds=seeds)
        (folder / "config/claims/tiny.yaml").write_text(yaml.safe_dump(CLAIMS))

    @property
    def results(self) -> Path:
        return self.folder / "results"

    def files(self) -> list[str]:
        """What stands under results/ now, but for what Snakemake measures of its jobs."""
        paths = []
        for folder, folders, names in os.walk(self.results, followlinks=True):
            folders[:] = [name for name in folders if name not in ("benchmarks", "mlartifacts")]
            paths += [os.path.relpath(os.path.join(folder, name), self.folder) for name in names]
        return sorted(paths)

    def processes(self) -> list[psutil.Process]:
        """All that runs in this folder: Snakemake and its jobs, also those whose Snakemake was killed."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.cwd() == str(self.folder) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def jobs(self, stage: str = "") -> list[psutil.Process]:
        """The processes that are stages, or a certain one: `python -m gt ...`."""
        found = []
        for process in self.processes():
            try:
                if " ".join(process.cmdline()[1:]).startswith(f"-m gt {stage}"):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def start(self, output: Path, *arguments: str) -> Call:
        """`snakemake`, in a session of its own; it writes into `output`, which is no part of the study."""
        settings = {"checkpoint_seconds": CHECKPOINT_SECONDS, "pack_size": PACK_SIZE if self.packed else 1}
        output.parent.mkdir(parents=True, exist_ok=True)
        with output.open("w") as file:
            call = self.call(*arguments, **settings)
            process = subprocess.Popen(**call, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
        return Call(process, output)

    def wait_until_quiet(self) -> None:
        """Until nothing runs here any more; what does not end is ended."""
        until = time.monotonic() + MOST_SECONDS
        while alive := self.processes():  # not psutil's wait, which would take a call's exit code from `subprocess`
            if time.monotonic() > until:
                for process in alive:
                    process.kill()
            time.sleep(0.1)


@dataclass
class Call:
    """One call of Snakemake."""

    process: subprocess.Popen[str]
    output: Path
    code: int | None = None
    hung: bool = False

    def ended(self) -> bool:
        return self.process.poll() is not None

    def end(self) -> int:
        """Wait for it. A call that hangs is killed."""
        try:
            self.process.wait(MOST_SECONDS)
        except subprocess.TimeoutExpired:
            self.hung = True
            os.killpg(self.process.pid, signal.SIGKILL)
        self.code = self.process.wait()
        return self.code

    @property
    def text(self) -> str:
        return self.output.read_text(errors="replace")


@dataclass
class Twin:
    """The undisturbed study: what it was after each stage, which trials start from, and at the end."""

    stages: dict[str, Study] = field(default_factory=dict)

    @property
    def finished(self) -> Study:
        return self.stages["finished"]

    @classmethod
    def build(cls, folder: Path, seeds: int, packed: bool) -> Twin:
        twin, study = cls(), Study(folder / "study", seeds, packed)
        for stage, arguments in STAGES.items():
            call = study.start(folder / f"{stage}.txt", *arguments)
            if call.end():
                raise RuntimeError(f"The undisturbed study does not run:\n{call.text[-3000:]}")
            twin.stages[stage] = study.copy(folder / stage)
        return twin


def twins(folder: Path, seeds: int, packed: set[bool]) -> dict[bool, Twin]:
    """The study without or with packs: a pack rounds otherwise, so each has a twin of its own."""
    with ThreadPoolExecutor() as pool:
        jobs = {p: pool.submit(Twin.build, folder / ("packs" if p else "runs"), seeds, p) for p in packed}
        return {p: job.result() for p, job in jobs.items()}


def wait_for(condition: Any, call: Call) -> bool:
    """Wait until something is so, while a call runs. Returns whether it came to be."""
    while not call.ended():
        if condition():
            return True
        time.sleep(0.02)
    return False


# "... remove results/runs/x ...": what a message tells the user to take away.
ADVICE = re.compile(r"\b(?:remove|delete|move|rm)\b", re.IGNORECASE)
PATH = re.compile(r"results/[^\s'\"`,;:]+")


def follow(study: Study, call: Call, number: int) -> list[str]:
    """Do what a failed call tells its user to: unlock, or take a file away. Returns what was done."""
    done = []
    if "--unlock" in call.text:
        study.start(call.output.with_suffix(".unlock.txt"), "--unlock").end()
        done.append("--unlock")
    for line in filter(ADVICE.search, call.text.splitlines()):
        for path in (study.folder / name.rstrip(".)") for name in PATH.findall(line)):
            if path.exists() and path != study.results:
                path.rename(study.folder / f"aside-{number}-{path.name}")
                done.append(str(path.relative_to(study.folder)))
    return done
