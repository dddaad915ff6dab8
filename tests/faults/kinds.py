"""The kinds of disturbance. A fault is a function of the trial, of random numbers, and of how much of the study is there."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from random import Random

import psutil
from faults.compare import digest
from faults.trial import Trial

Fault = Callable[[Trial, Random, float], None]


@dataclass(frozen=True)
class Kind:
    """A row of the report. `faults`: how many a trial has; `turns`: how often it comes up among the others."""

    name: str
    fault: Fault
    start: str = "data"
    packed: bool = False
    faults: int = 3
    turns: int = 1
    needs_mount: bool = False


def kill_job(*signals: signal.Signals, stage: str = "") -> Fault:
    """A signal to one job, of any stage or within the first seconds of a certain one; Snakemake sees it fail."""

    def fault(trial: Trial, random: Random, moment: float) -> None:
        number, which, seconds = random.choice(signals), random.random(), random.uniform(0, 6)
        if not trial.at(0 if stage else moment, random, lambda: trial.study.jobs(stage)):
            return
        if stage:
            time.sleep(seconds)
        if jobs := trial.study.jobs(stage):
            job = jobs[int(which * len(jobs))]
            try:
                name = job.cmdline()[3]
                job.send_signal(number)
            except (psutil.Error, IndexError):
                return  # it has just ended
            trial.note(number.name, f"gt {name}")

    return fault


def kill_snakemake(trial: Trial, random: Random, moment: float) -> None:
    """SIGKILL to Snakemake alone: its jobs go on while the user calls again."""
    if trial.at(moment, random):
        call = trial.running()
        call.process.kill()
        trial.note("SIGKILL", "Snakemake alone")
        trial.end(call)


def kill_all(*signals: signal.Signals) -> Fault:
    """A signal to Snakemake and all its jobs, as from a terminal, a scheduler or a power cut."""

    def fault(trial: Trial, random: Random, moment: float) -> None:
        number = random.choice(signals)
        if trial.at(moment, random):
            call = trial.running()
            os.killpg(call.process.pid, number)
            trial.note(number.name, "the process group")
            trial.end(call)

    return fault


def stop(trial: Trial, random: Random, moment: float) -> None:
    """SIGSTOP for a while to one job, or to Snakemake."""
    whole, which, seconds = random.random() < 0.3, random.random(), random.uniform(1, 4)
    if not trial.at(moment, random, trial.study.jobs):
        return
    jobs = [psutil.Process(trial.running().process.pid)] if whole else trial.study.jobs()
    if jobs:
        job = jobs[int(which * len(jobs))]
        try:
            job.suspend()
            trial.note("SIGSTOP", f"{'Snakemake' if whole else 'a job'}, {seconds:.1f} s")
            time.sleep(seconds)
            job.resume()
        except psutil.Error:
            return


def fill_disk(trial: Trial, random: Random, moment: float) -> None:
    """No space left after some more bytes; after the call there is room again."""
    used, needed = (size(folder) for folder in (trial.study.folder, trial.twin.finished.folder))
    room = int(random.random() * max(needed - used, 2**16))
    resize(trial.study.folder, used + room)
    call = trial.running()
    code = trial.end(call)
    resize(trial.study.folder, 2**30)
    if code:
        trial.note("ENOSPC", f"after {room:,} bytes")


def size(folder: Path) -> int:
    """Bytes that the files of a folder take on a tmpfs, in whole pages."""
    return sum(-(-os.lstat(os.path.join(f, n)).st_size // 4096) * 4096 for f, _, names in os.walk(folder) for n in names)


def resize(folder: Path, size: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True)


def damage(*patterns: str, ways: tuple[str, ...] = ("flip", "truncate", "remove")) -> Fault:
    """One bit flipped in a file, its end cut off, or the file (or folder) removed."""

    def fault(trial: Trial, random: Random, moment: float) -> None:
        pattern, way, which, place = random.choice(patterns), random.choice(ways), random.random(), random.random()
        files = sorted(file for file in trial.study.results.glob(pattern) if file.is_dir() or file.stat().st_size)
        if not files:
            return
        file = files[int(which * len(files))]
        name = str(file.relative_to(trial.study.folder))
        if file.is_dir():
            shutil.rmtree(file)
            way = "remove"
        elif way == "remove":
            file.unlink()
        elif way == "truncate":
            os.truncate(file, int(place * file.stat().st_size))
        else:
            flip(file, place)
        trial.damaged[file] = digest(file) if file.exists() else None
        trial.note(way, f"{name} at {place:.4f}")

    return fault


def flip(file: Path, place: float) -> None:
    """Another value of one bit, at the same time of writing: what a failing disk does."""
    times, data = file.stat(), bytearray(file.read_bytes())
    bit = int(place * 8 * len(data))
    data[bit // 8] ^= 1 << bit % 8
    file.write_bytes(data)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


def damage_halfway(*patterns: str, until: float = 1.0) -> Fault:
    """Everything is killed when there is such a file, which is then damaged; `until`: the part of the study that makes them."""
    then = damage(*patterns)

    def fault(trial: Trial, random: Random, moment: float) -> None:
        if trial.at(until * moment, random, lambda: any(list(trial.study.results.glob(pattern)) for pattern in patterns)):
            call = trial.running()
            os.killpg(call.process.pid, signal.SIGKILL)
            trial.end(call)
            trial.study.wait_until_quiet()
            then(trial, random, moment)

    return fault


def second_snakemake(trial: Trial, random: Random, moment: float) -> None:
    """`snakemake` once more in the same folder."""
    if trial.at(moment, random):
        first = trial.running()
        trial.note("second call", "the same folder")
        trial.end(trial.call())
        trial.end(first)


def second_checkout(trial: Trial, random: Random, moment: float) -> None:
    """Another checkout whose results/ is a link to this one's."""
    first = trial.running()
    if trial.at(moment / 3, random):
        other = trial.begin.copy(trial.study.folder.with_name("other"))
        shutil.rmtree(other.results)
        other.results.symlink_to(trial.study.results)
        trial.others.append(other)
        trial.note("second call", "a checkout that shares results/")
        second = trial.call(other)
        trial.end(second)
        trial.end(first)


def lock_database(trial: Trial, random: Random, moment: float) -> None:
    """Another process writes in MLflow's database for a while."""
    path, seconds = trial.study.results / "mlflow.db", random.uniform(2, 12)
    if trial.at(0, random, path.exists):
        with closing(sqlite3.connect(path, timeout=20, isolation_level=None)) as database:
            try:
                database.execute("BEGIN EXCLUSIVE")
            except sqlite3.OperationalError:
                return
            trial.note("BEGIN EXCLUSIVE", f"mlflow.db, {seconds:.1f} s")
            time.sleep(seconds)


RECORD = tuple(
    f"runs/*/{name}"
    for name in ("spec.json", "manifest.json", "curves.parquet", "model.safetensors", "evaluations/*.json", "probes.json")
)
DATA = ("*.txt", "corpus.json", "*/*.bin", "*/tokens.json", "*/tokenizer.json", "*/token_bytes.npy", "*/ngram.json")
TEXTS = tuple(f"data/*/{name}" for name in DATA)
TABLES = ("*.parquet", "coverage.json", "claims.json", "tracking.json", "plan.json")
VIEWS = ("report.html", "report.md", "report.pdf", "tables/*", "figures/*.svg", "figures/*.png", "claims/*.*")
KILL, TERM, INT = signal.SIGKILL, signal.SIGTERM, signal.SIGINT

KINDS = (
    Kind("One job is killed", kill_job(KILL, TERM), faults=4),
    Kind("One job is killed, runs in packs", kill_job(KILL, TERM), packed=True),
    Kind("A job of the last stages is killed", kill_job(KILL, TERM), start="measured", turns=2),
    Kind("The first import into MLflow is killed", kill_job(KILL, stage="track"), start="measured", faults=1, turns=2),
    Kind("Snakemake alone is killed", kill_snakemake),
    Kind("Everything is killed", kill_all(KILL), faults=4),
    Kind("Everything is killed, runs in packs", kill_all(KILL), packed=True),
    Kind("Everything is terminated or interrupted", kill_all(TERM, INT)),
    Kind("A job or Snakemake stands still for a while", stop, faults=4),
    Kind("The disk is full", fill_disk, needs_mount=True),
    Kind("A run's record is damaged", damage(*RECORD, "runs/*"), start="finished", faults=1, turns=4),
    Kind("A record or the data are damaged halfway", damage_halfway(*RECORD, *TEXTS), faults=2),
    Kind("A checkpoint is damaged", damage_halfway("checkpoints/*/*", until=0.2), faults=2),
    Kind("The data are damaged", damage(*TEXTS), start="finished", faults=1, turns=2),
    Kind("A table or a verdict is damaged", damage(*(f"studies/*/{n}" for n in TABLES)), start="finished", faults=1, turns=2),
    Kind("A figure or the report is damaged", damage(*(f"studies/*/{n}" for n in VIEWS)), start="finished", faults=1, turns=2),
    # No bits: a database that the MLflow UI writes in as well has no sum to be held to.
    Kind("MLflow's database is damaged", damage("mlflow.db", ways=("truncate", "remove")), start="finished", faults=1),
    Kind("MLflow's database is locked", lock_database, start="measured", faults=1),
    Kind("A second Snakemake in the same folder", second_snakemake, faults=1),
    Kind("Two checkouts share results/", second_checkout, faults=1),
)
