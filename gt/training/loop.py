"""From specifications to records: cohorts in turn, with their checkpoints."""

from __future__ import annotations

import gc
import itertools
import math
import os
import platform
import sys
import time
import traceback
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from safetensors.torch import save_file
from tqdm import tqdm

from gt import artefacts
from gt.artefacts import File, Manifest, Usage
from gt.attempts import FOLDER, Entry, new_id, started_at, used
from gt.data.tokens import Tokens
from gt.fingerprint import code_of_training, packages_of
from gt.metering import MARK, Meter, total, usage
from gt.models.lm import audit
from gt.records import CURVES, MANIFEST, SPEC, WEIGHTS, atomic_write, file_sums, write_json
from gt.spec import RunSpec
from gt.starts import STARTS
from gt.training import checkpoint, stopping
from gt.training.cohort import Cohort
from gt.training.distributed import ALONE, World
from gt.training.memory import peak_of
from gt.training.provenance import backend, provenance
from gt.training.weights import starting_weights

# Cohorts of one process on the device: while one is compiled or measured by the host, the other trains. More would only end
# later, all at the same time.
AT_ONCE = 2


@dataclass(frozen=True)
class Job:
    """A run to train, the folder of its tokens, that of its record, and the tunings whose choice it has."""

    spec: RunSpec
    data: Path
    out: Path
    chosen: tuple[artefacts.Choice, ...] = ()


@dataclass(frozen=True)
class Settings:
    """What decides how runs are trained, and no number of theirs beyond rounding."""

    device: torch.device
    checkpoint_seconds: float  # what a kill loses at most
    recompute: str = ""  # letters of mixers whose activations are computed again in the backward pass, to save memory
    world: World = ALONE
    attempts: Path | None = None  # folder where attempts are added; by default `attempts` beside a run's record
    devices: Path | None = None  # folder of the logs of GPUs; see gt.metering
    starts: Path = STARTS  # folder of the weights that runs may start from; see gt.starts

    @cached_property
    def meter(self) -> Meter:
        """Of this process."""
        return Meter.of(self.device, self.devices)


def train(job: Job, checkpoints: Path, settings: Settings) -> str:
    """Train a run and write its record. Returns its status, `completed` or `diverged`.

    checkpoints: a folder of this run's own; a run that was killed goes on from there to the same bits, and the folder is
    removed on success. Raises ConfigError where the data cannot serve the specification.
    """
    attempt = Attempt([job], checkpoints, settings)
    finish(attempt)
    return attempt.status[0]


def finish(attempt: Attempt) -> None:
    """Train a cohort alone, to its records. Raises what it fails with."""
    for _, error in together([attempt]):
        if error is not None:
            raise error


def together(attempts: Iterable[Attempt]) -> Iterator[tuple[Attempt, Exception | None]]:
    """Train cohorts side by side, some at a time, each on a stream of its own.

    Yields each when its records are written, or with the error that it ended with, while the others go on. The next of
    `attempts` is asked for when there is room for it. After SIGTERM it saves what is under way and raises SystemExit.
    """
    waiting, running = iter(attempts), list[Attempt]()
    with stopping.deferred() as stopped:
        while running := [*running, *itertools.islice(waiting, AT_ONCE - len(running))]:
            for attempt in running:
                attempt.sharing = max(attempt.sharing, len(running))
            for phase in (Attempt.advance, Attempt.collect):
                for attempt in list(running):
                    try:
                        phase(attempt)
                    except Exception as error:
                        running.remove(attempt)
                        attempt.fail(error)
                        yield attempt, error
            for attempt in [a for a in running if a.status]:
                running.remove(attempt)
                yield attempt, None
            if stopped():
                for attempt in running:
                    attempt.save()
                raise SystemExit(stopping.STOPPED)


class Attempt:
    """A cohort on its way to its records, from its checkpoint if there is one.

    From now on each of its runs has an attempt in the ledger, all under one id. `status` is that of each run, once the records
    are written.
    """

    def __init__(self, jobs: list[Job], checkpoints: Path, settings: Settings) -> None:
        self.jobs, self.checkpoints, self.settings = jobs, checkpoints, settings
        self.started = artefacts.now()
        self.id = new_id(self.started)
        self.clock = self.last_save = self.last_note = time.perf_counter()
        self.sharing = 1  # cohorts of this process on the device, at most
        self.status: list[str] = []
        self.memory = peak_of(settings.device)
        # Read now, as it may be edited while this trains.
        self.code = code_of_training(jobs[0].spec)
        self.about = provenance(settings.device, packages_of(jobs[0].spec))
        self.entries: list[Entry] = []
        settings.meter.enter(self.id, len(jobs))
        try:
            self.entries += [self._entry(job) for job in jobs if settings.world.rank == 0]
            with self._turn():
                specs, tokens = [job.spec for job in jobs], Tokens.open(jobs[0].data)
                start = starting_weights(specs[0], jobs[0].data, settings.starts)
                self.cohort = Cohort(
                    specs, tokens, settings.device, recompute=settings.recompute, world=settings.world, start=start
                )
                self.before = self._resume()
            if self.before.resumed_from and settings.world.rank == 0:
                self.save()  # what led to the next checkpoint is this attempt too, if it is killed before
        except Exception as error:
            self.fail(error)
            raise
        self.first = self.cohort.step
        self.report = Reporter(self.cohort)

    def _entry(self, job: Job) -> Entry:
        """The attempt at a run, which has just begun."""
        attempt = artefacts.Attempt(
            id=self.id,
            run_id=job.spec.run_id,
            started=self.started,
            ended=None,
            outcome=None,
            error=None,
            host=platform.node(),
            process=os.getpid(),
            code=self.code,
            resumed_at=None,
            usage=self._usage(),
            **self.about,
        )
        return Entry(self._ledger(job), attempt)

    def _ledger(self, job: Job) -> Path:
        return self.settings.attempts or job.out.parent / FOLDER

    def _resume(self) -> checkpoint.Progress:
        found = checkpoint.load(self.checkpoints, self.cohort)
        if isinstance(found, checkpoint.Progress):
            branch = self.cohort.pretraining.branch
            where = f"{self.cohort.step}" if branch is None else f"{branch.step} of a branch's pretraining"
            print(f"Resuming from step {where}.", file=sys.stderr)
            for entry in self.entries:
                entry.note(resumed_at=self.cohort.step)
            return replace(found, resumed_from=(*found.resumed_from, self.cohort.step))
        if found is not None:
            print(f"The checkpoint in {self.checkpoints} cannot be used: {found}. Starting over.", file=sys.stderr)
            if self.settings.world.rank == 0:
                checkpoint.set_aside(self.checkpoints)
        return checkpoint.Progress()

    def _turn(self) -> AbstractContextManager[None]:
        """In which the memory of the process is this cohort's to take and to give back."""
        return self.memory.turn() if self.memory is not None else nullcontext()

    def advance(self) -> None:
        """Give the device its next steps."""
        with self._turn():
            self.cohort.advance()

    def collect(self) -> None:
        """See what the device has done; save what a kill would lose; write the records at the end."""
        with self._turn():
            rows = self.cohort.collect()
        now, writes = time.perf_counter(), self.settings.world.rank == 0
        for row in rows if writes else []:
            self.report(row)
        if self.cohort.done:
            self._finish()
        elif writes and now - self.last_save >= self.settings.checkpoint_seconds:
            self.save()
        elif now - self.last_note >= MARK:
            self._note()

    def save(self) -> None:
        """Keep what a kill would lose, and that this attempt has led to it."""
        self._note()
        self.last_save = time.perf_counter()
        seconds = self.before.seconds + self.last_save - self.clock
        progress = replace(self.before, seconds=seconds, attempts=(*self.before.attempts, self.id))
        checkpoint.save(self.checkpoints, self.cohort, progress)

    def _note(self) -> None:
        """Keep what was used so far."""
        self.settings.meter.mark()
        for entry in self.entries:
            entry.note(usage=self._usage())
        self.last_note = time.perf_counter()

    def _usage(self) -> Usage:
        """Of each run in this attempt, by the last look at the device."""
        if self.settings.world.size > 1:
            return Usage.nothing("it was on several devices at once")
        return usage(self.settings.meter.shares[self.id], len(self.jobs), self._peak())

    def _peak(self) -> int | str:
        """Bytes that the cohort held at most, or why that is not known."""
        if self.memory is None:
            return "what is resident of a process cannot be watched here"
        if self.sharing > 1 and self.settings.device.type == "cpu":
            return "several cohorts shared the process"
        return self.memory.most

    def _finish(self) -> None:
        """Write the records, each before the end of its run's attempt: what has completed has a record."""
        self.settings.meter.leave(self.id)
        own, status = self._usage(), list(self.cohort.book.status)
        served = backend(self.jobs[0].spec.model, self.cohort.tokens.vocab_size, self.settings.device)
        for run, entry in enumerate(self.entries):
            self._write_record(run, own, served)
            entry.end("diverged" if status[run] == "diverged" else "completed", own)
        if self.settings.world.rank == 0:
            checkpoint.remove(self.checkpoints)
        self._let_go()
        self.status = status

    def fail(self, error: Exception) -> None:
        """Write what it ended with, if the disk lets it, and leave the device. Raises nothing more: others go on."""
        try:
            self.settings.meter.leave(self.id)
            for entry in self.entries:
                entry.end("failed", self._usage(), f"{type(error).__name__}: {error}")
            self._let_go(error)
        except (OSError, RuntimeError) as second:  # a GPU that has failed may refuse to take its memory back
            print(f"The attempt {self.id} could not be ended: {second}", file=sys.stderr)

    def _let_go(self, error: Exception | None = None) -> None:
        """Give the memory of a GPU back now: later it would be in another cohort's turn."""
        if self.settings.device.type != "cuda":
            return
        engine = self.cohort.engine if "cohort" in vars(self) else None
        for name in ("report", "cohort"):
            vars(self).pop(name, None)
        if error is not None:
            traceback.clear_frames(error.__traceback__)
        gc.collect()  # a cohort has circles of references
        if engine is not None:
            engine.release()

    def _write_record(self, run: int, own: Usage, served: dict[str, str]) -> None:
        """A run's record, the manifest last: where there is a manifest, the record is whole.

        own: what each run used in this attempt. served: what computed the recurrences.
        """
        job, cohort = self.jobs[run], self.cohort
        write_json(job.out / SPEC, job.spec.model_dump(mode="json"))
        cohort.book.curves[run].write(job.out / CURVES)
        weights = {name: w.cpu().contiguous() for name, w in cohort.parameters(run).items()}
        with atomic_write(job.out / WEIGHTS) as temporary:
            save_file(weights, temporary, {"run_id": job.spec.run_id})
        training, seconds = job.spec.training, time.perf_counter() - self.clock
        steps = cohort.book.ended_at[run] or cohort.step
        ids = [*self.before.attempts, self.id]
        manifest = Manifest(
            run_id=job.spec.run_id,
            status="diverged" if cohort.book.status[run] == "diverged" else "completed",
            steps_completed=steps,
            watch=training.watch,
            data_sha256=cohort.tokens.sha256,
            vocab_size=cohort.tokens.vocab_size,
            code=self.code,
            **self.about,
            attempts=ids,
            resumed_from=list(self.before.resumed_from),
            threads=torch.get_num_threads(),
            engine=cohort.engine.name,
            compiled=cohort.compiled,
            processes=self.settings.world.size,
            backend=served,
            stacked=len(self.jobs),
            cohorts=self.sharing,
            started=started_at(ids[0]),
            finished=artefacts.now(),
            seconds=self.before.seconds + seconds,
            tokens=training.tokens(steps),
            tokens_per_second=(training.tokens(cohort.step) - training.tokens(self.first)) / seconds,
            usage=total([*used(self._ledger(job), job.spec.run_id, self.before.attempts), own]),
            **vars(audit(cohort.model, training.sequence_length)),
            files={name: File(**sums) for name, sums in file_sums(job.out, (SPEC, CURVES, WEIGHTS)).items()},
            chosen=list(job.chosen),
        )
        artefacts.write(job.out / MANIFEST, manifest)


class Reporter:
    """A progress bar on a terminal, one line a validation in a log."""

    def __init__(self, cohort: Cohort) -> None:
        self.cohort, self.total = cohort, cohort.training.steps
        self.label = f"{cohort.specs[0].run_id}{f' and {len(cohort.specs) - 1} more' if len(cohort.specs) > 1 else ''}"
        self.bar = tqdm(total=self.total, initial=cohort.step, unit="step", dynamic_ncols=True) if sys.stderr.isatty() else None

    def __call__(self, row: dict[str, float]) -> None:
        train, val = row.get("train/bits_per_byte", math.nan), row.get("val/bits_per_byte", math.nan)
        if self.bar is not None:
            self.bar.update(row["step"] - self.bar.n)
            if not math.isnan(val):
                self.bar.set_postfix_str(f"val {val:.3f} bits/byte")
            if self.cohort.done:
                self.bar.close()
        elif not math.isnan(val) or self.cohort.done:
            end = f"  {self.cohort.book.status[0]}" if row["step"] in (self.total, self.cohort.book.ended_at[0]) else ""
            line = f"{self.label}  step {row['step']}/{self.total}  train {train:.4f}  val {val:.4f} bits/byte{end}"
            print(line, file=sys.stderr, flush=True)
