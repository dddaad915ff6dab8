"""From specifications to records: cohorts in turn, with their checkpoints."""

from __future__ import annotations

import itertools
import math
import resource
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch
from safetensors.torch import save_file
from tqdm import tqdm

from gt.data.tokens import Tokens
from gt.fingerprint import code_of_training
from gt.models.lm import audit
from gt.ops.backend import chosen
from gt.records import CURVES, FILES, MANIFEST, SPEC, WEIGHTS, atomic_write, file_sums, write_json, write_sealed
from gt.spec import RunSpec
from gt.training import checkpoint
from gt.training.cohort import ALONE, Cohort
from gt.training.distributed import World
from gt.training.provenance import energy, provenance

# Cohorts of one process on the device: while one is compiled or measured by the host, the other trains. More would only end
# later, all at the same time.
AT_ONCE = 2


@dataclass(frozen=True)
class Job:
    """A run to train, the folder of its tokens, and that of its record."""

    spec: RunSpec
    data: Path
    out: Path


@dataclass(frozen=True)
class Settings:
    """What decides how runs are trained, and no number of theirs beyond rounding."""

    device: torch.device
    checkpoint_seconds: float  # what a kill loses at most
    recompute: str = ""  # letters of mixers whose activations are computed again in the backward pass, to save memory
    world: World = ALONE


def train(job: Job, checkpoints: Path, settings: Settings) -> str:
    """Train a run and write its record. Returns its status, `completed` or `diverged`.

    checkpoints: a folder of this run's own; a run that was killed goes on from there to the same bits, and the folder is
    removed on success. Raises ConfigError where the data cannot serve the specification.
    """
    attempt = Attempt([job], checkpoints, settings)
    finish(attempt)
    return attempt.cohort.status[0]


def finish(attempt: Attempt) -> None:
    """Train a cohort alone, to its records. Raises what it fails with."""
    for _, error in together([attempt]):
        if error is not None:
            raise error


def together(attempts: Iterable[Attempt]) -> Iterator[tuple[Attempt, Exception | None]]:
    """Train cohorts side by side, some at a time, each on a stream of its own.

    Yields each when its records are written, or with the error that it ended with, while the others go on. The next of
    `attempts` is asked for when there is room for it.
    """
    waiting, running = iter(attempts), list[Attempt]()
    while running := [*running, *itertools.islice(waiting, AT_ONCE - len(running))]:
        for attempt in running:
            attempt.sharing = max(attempt.sharing, len(running))
        for phase in (Attempt.advance, Attempt.collect):
            for attempt in list(running):
                try:
                    phase(attempt)
                except Exception as error:
                    running.remove(attempt)
                    yield attempt, error
        for attempt in [a for a in running if a.cohort.done]:
            running.remove(attempt)
            yield attempt, None


class Attempt:
    """A cohort on its way to its records, from its checkpoint if there is one."""

    def __init__(self, jobs: list[Job], checkpoints: Path, settings: Settings) -> None:
        self.jobs, self.checkpoints, self.settings = jobs, checkpoints, settings
        specs, tokens = [job.spec for job in jobs], Tokens.open(jobs[0].data)
        self.cohort = Cohort(specs, tokens, settings.device, recompute=settings.recompute, world=settings.world)
        self.code = code_of_training(specs[0])  # of all of them; read now, as it may be edited while this trains
        self.started = datetime.now(UTC)
        self.clock = self.last_save = time.perf_counter()
        self.joules = energy(settings.device)
        self.before = self._resume()
        self.first = self.cohort.step
        self.report = Reporter(self.cohort)
        self.sharing = 1  # cohorts of this process on the device, at most

    def _resume(self) -> checkpoint.Progress:
        found = checkpoint.load(self.checkpoints, self.cohort)
        if isinstance(found, checkpoint.Progress):
            print(f"Resuming from step {self.cohort.step}.", file=sys.stderr)
            return checkpoint.Progress(found.seconds, (*found.resumed_from, self.cohort.step))
        if found is not None:
            print(f"The checkpoint in {self.checkpoints} cannot be used: {found}. Starting over.", file=sys.stderr)
            if self.settings.world.rank == 0:
                checkpoint.set_aside(self.checkpoints)
        return checkpoint.Progress()

    def advance(self) -> None:
        """Give the device its next steps."""
        self.cohort.advance()

    def collect(self) -> None:
        """See what the device has done; save what a kill would lose; write the records at the end."""
        rows = self.cohort.collect()
        if self.settings.world.rank > 0:
            return
        for row in rows:
            self.report(row)
        now = time.perf_counter()
        if self.cohort.done:
            for run in range(len(self.jobs)):
                self._write_record(run)
            checkpoint.remove(self.checkpoints)
            self.cohort.engine.release()
        elif now - self.last_save >= self.settings.checkpoint_seconds:
            progress = checkpoint.Progress(self.before.seconds + now - self.clock, self.before.resumed_from)
            checkpoint.save(self.checkpoints, self.cohort, progress)
            self.last_save = now

    def _write_record(self, run: int) -> None:
        """A run's record, the manifest last: where there is a manifest, the record is whole."""
        job, cohort = self.jobs[run], self.cohort
        write_json(job.out / SPEC, job.spec.model_dump(mode="json"))
        cohort.curves[run].write(job.out / CURVES)
        weights = {name: w.cpu().contiguous() for name, w in cohort.parameters(run).items()}
        with atomic_write(job.out / WEIGHTS) as temporary:
            save_file(weights, temporary, {"run_id": job.spec.run_id})
        training, seconds = job.spec.training, time.perf_counter() - self.clock
        steps = cohort.ended_at[run] or cohort.step
        joules = energy(self.settings.device)
        manifest = {
            "run_id": job.spec.run_id,
            "status": cohort.status[run],
            "steps_completed": steps,
            "data_sha256": cohort.tokens.sha256,
            "vocab_size": cohort.tokens.vocab_size,
            "code": self.code,
            **provenance(self.settings.device),
            "engine": cohort.engine.name,
            "compiled": cohort.compiled,
            "processes": self.settings.world.size,
            "backend": chosen(),
            "stacked": len(self.jobs),  # runs that one launch served
            "cohorts": self.sharing,  # that shared the device
            "started": self.started.isoformat(timespec="seconds"),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": self.before.seconds + seconds,
            "tokens": training.tokens(steps),
            "tokens_per_second": (training.tokens(cohort.step) - training.tokens(self.first)) / seconds,
            "peak_memory_bytes": peak_memory(self.settings.device),
            # the device's, in equal parts over the runs that shared it
            "energy_joules": (joules - self.joules) / len(self.jobs) / self.sharing if joules and self.joules else None,
            **vars(audit(cohort.model, training.sequence_length)),
            "resumed_from": list(self.before.resumed_from),
            FILES: file_sums(job.out, (SPEC, CURVES, WEIGHTS)),
        }
        write_sealed(job.out / MANIFEST, manifest)


def peak_memory(device: torch.device) -> int:
    """Bytes: allocated on the GPU, or resident, by this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


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
            end = f"  {self.cohort.status[0]}" if row["step"] in (self.total, self.cohort.ended_at[0]) else ""
            line = f"{self.label}  step {row['step']}/{self.total}  train {train:.4f}  val {val:.4f} bits/byte{end}"
            print(line, file=sys.stderr, flush=True)
