"""Training a run of a record again, and comparing: bit for bit, or to rounding where the arithmetic is another.

The same code, versions, device, threads and engine must give the same bits, in the weights and in every curve. Where one of
them differs, operations are rounded differently, and the comparison is with a tolerance that is measured on the run itself:

    A step in another arithmetic is a step in ours with slightly different weights: the weights that enter a product are
    rounded to the precision of the activations, unit roundoff u_a, and sums of n terms add a relative error of about
    sqrt(n) u, u = 2^-24 (Higham and Mary 2019, doi:10.1137/18M1226312), where the longest sums go over the tokens of a
    batch. So the run is trained again from weights that are moved by that much, d = u_a + sqrt(n) u, each up or down at
    random. How far the two are apart after t steps, at most so far, is h(t): what rounding once, at the start, can have grown
    to by then. Every one of t steps rounds anew; each of these errors has had less time to grow than that at the start, and
    they are independent, so together they come to about sqrt(t) h(t).

The tolerance is sqrt(t + 1) h(t), for each column of the curves; for each tensor of the weights likewise, with the
Euclidean norm as the distance. h is the larger of two such trainings. A long run at a high learning rate amplifies rounding
until little can be told; the tolerance is then wide, and is part of the answer.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from gt.errors import ConfigError
from gt.records import RECORD, read_json
from gt.seeds import torch_stream
from gt.spec import RunSpec
from gt.training.loop import Attempt, Job, Settings, together

# What decides the last bits of a run besides its specification and data.
CONDITIONS = ("code", "versions", "device", "threads", "engine", "compiled", "backend", "stacked", "processes")
MOVED = 2  # trainings from moved weights


@dataclass(frozen=True)
class Outcome:
    """What a comparison found, in words."""

    same: bool
    text: str


@dataclass(frozen=True)
class Trained:
    """What a training left."""

    manifest: dict[str, Any]
    curves: pd.DataFrame  # without times
    weights: dict[str, Tensor]

    @classmethod
    def read(cls, record: Path) -> Trained:
        """A record's. ConfigError where something is missing or damaged."""
        if missing := [name for name in RECORD if not (record / name).exists()]:
            raise ConfigError(f"{record}: no {missing[0]} there. A record has {', '.join(RECORD)}.")
        try:
            curves, weights = pd.read_parquet(record / "curves.parquet"), load_file(record / "model.safetensors")
        except (SafetensorError, OSError) as error:
            raise ConfigError(f"{record}: not readable ({error}).") from None
        return cls(read_json(record / "manifest.json"), curves.drop(columns="timestamp"), weights)


def verify(record: Path, data: Path, device: torch.device) -> Outcome:
    """Train the run of a record again and compare. ConfigError where the record is not whole or the data are not its own."""
    recorded = Trained.read(record)
    if read_json(data / "tokens.json")["sha256"] != recorded.manifest["data_sha256"]:
        raise ConfigError(f"--data {data}: these are not the tokens that {record} was trained on.")
    spec = RunSpec.model_validate(read_json(record / "spec.json"))
    again = _train(spec, data, device)
    differing = [key for key in CONDITIONS if recorded.manifest.get(key) != again.manifest[key]]
    if parted := difference(recorded, again):
        if not differing:
            return Outcome(False, parted)
    else:
        return Outcome(True, "bit-identical")
    moved = [_train(spec, data, device, moved=i + 1) for i in range(MOVED)]
    why = f"Another arithmetic ({', '.join(differing)})"
    return _within_tolerance(recorded, again, moved, why)


def _train(spec: RunSpec, data: Path, device: torch.device, moved: int = 0) -> Trained:
    """The run, from its own initial weights or from such that are moved by one rounding; `moved` numbers the draw."""
    with tempfile.TemporaryDirectory() as folder:
        job = Job(spec, data, Path(folder) / "run")
        attempt = Attempt([job], Path(folder) / "checkpoints", Settings(device, checkpoint_seconds=float("inf")))
        if moved:
            _move(attempt.cohort.weights, roundoff(spec), moved)
        for _ in together([attempt]):
            pass
        return Trained.read(job.out)


def roundoff(spec: RunSpec) -> float:
    """The relative error d of the module's docstring."""
    activations = torch.finfo(getattr(torch, spec.training.precision)).eps / 2
    terms = spec.training.batch_size * spec.training.sequence_length
    return float(activations + terms**0.5 * torch.finfo(torch.float32).eps / 2)


def _move(weights: Tensor, by: float, draw: int) -> None:
    """Multiply each weight by 1 + by or 1 - by."""
    signs = torch.randint(0, 2, weights.shape, generator=torch_stream(draw, "verify")) * 2 - 1
    weights.mul_(1 + by * signs.to(weights))


def difference(a: Trained, b: Trained) -> str | None:
    """Where two trainings first part, in any bit."""
    if list(a.curves) != list(b.curves):
        return f"The curves have other columns: {', '.join(sorted(set(a.curves) ^ set(b.curves)))}."
    for one, other in zip(a.curves.to_dict("records"), b.curves.to_dict("records"), strict=False):
        for column, value in one.items():
            if not np.array_equal(value, other[column], equal_nan=True):
                return f"Parts at step {one['step']} in {column}: {value!r} in the record, {other[column]!r} now."
    if len(a.curves) != len(b.curves):
        return f"The curves have {len(a.curves)} rows in the record, {len(b.curves)} now."
    for name, weight in b.weights.items():
        if name not in a.weights or a.weights[name].shape != weight.shape:
            return f"The weights in the record have no {name} of shape {tuple(weight.shape)}."
        if n := int((_bits(a.weights[name]) != _bits(weight)).sum()):
            return f"The curves are the same, but {n:,} of {weight.numel():,} numbers of the weight {name} are not."
    return None


def _bits(weight: Tensor) -> Tensor:
    return weight.contiguous().view(torch.int32)


def _within_tolerance(recorded: Trained, again: Trained, moved: list[Trained], why: str) -> Outcome:
    """The comparison of the module's docstring."""
    steps = again.curves["step"].to_numpy()
    if list(recorded.curves) != list(again.curves) or recorded.curves["step"].tolist() != steps.tolist():
        return Outcome(False, f"{why}: the curves have other rows or columns.")
    rows = [len(steps), *(len(m.curves) for m in moved)]
    if min(rows) < len(steps):
        steps = steps[: min(rows)]  # a moved run diverged earlier
    grown: dict[str, np.ndarray] = {}
    for column in again.curves:
        ours, theirs = (t.curves[column].to_numpy(float)[: len(steps)] for t in (again, recorded))
        apart = [np.abs(m.curves[column].to_numpy(float)[: len(steps)] - ours) for m in moved]
        grown[column] = np.sqrt(steps + 1) * np.maximum.accumulate(np.nan_to_num(np.max(apart, axis=0)))
        floor = 4 * np.finfo(float).eps * np.abs(ours)  # of a number that the host computes
        far = (np.abs(theirs - ours) > grown[column] + floor) | (np.isnan(theirs) != np.isnan(ours))
        if far.any():
            i = int(far.argmax())
            return Outcome(
                False,
                f"{why}: parts at step {steps[i]} in {column}: {theirs[i]:.6g} in the record, {ours[i]:.6g} now, "
                f"and rounding explains {grown[column][i]:.2g}.",
            )
    for name, weight in again.weights.items():
        tolerance = (int(steps[-1]) + 1) ** 0.5 * max(float((m.weights[name] - weight).norm()) for m in moved)
        if not float((recorded.weights[name] - weight).norm()) <= tolerance:
            return Outcome(False, f"{why}: the weight {name} is further from its value now than rounding explains.")
    last = f"{grown['train/loss'][-1]:.2g} nats of training loss at the end"
    return Outcome(True, f"{why}: the same to rounding, which explains up to {last}.")
