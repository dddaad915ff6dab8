"""Training a run of a record again, and comparing: bit for bit, or to rounding where the arithmetic is another.

The same code, versions, device, threads and engine must give the same bits, in the weights and in every curve. Where one of
them differs, operations are rounded differently, and the comparison is with a tolerance that is measured on the run itself:

    A step in another arithmetic is a step in ours with slightly different weights: the weights that enter a product are
    rounded to the precision of the activations, unit roundoff u_a, and sums of n terms add a relative error of about
    sqrt(n) u, u = 2^-24 (Higham and Mary 2019, doi:10.1137/18M1226312), where the longest sums go over the tokens of a
    batch. So the run is trained four times more from weights that are moved by that much, d = u_a + sqrt(n) u, each up or
    down at random. How far these are from the run after t steps (root mean square, the largest so far) is h(t): the standard
    deviation of what rounding once, at the start, has grown to by then. Every one of t steps rounds anew; each of these
    errors has had less time to grow than that at the start, and they are independent, so the variance of their sum is at
    most t h(t)^2.

The tolerance is three standard deviations, 3 sqrt(t + 1) h(t), for each column of the curves; for each tensor of the weights
likewise, with the Euclidean norm as the distance. Numbers are computed and logged in float32, so that moved runs may end on
one number by chance: h(t) is one unit in its last place, at least. A long run at a high learning rate amplifies rounding until
little can be told; the tolerance is then wide, and is part of the answer.
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

from gt.artefacts import Manifest, read_manifest, read_run
from gt.errors import ConfigError
from gt.records import CURVES, RECORD, WEIGHTS, damage, read_json
from gt.seeds import torch_stream
from gt.spec import RunSpec
from gt.training.loop import Attempt, Job, Settings, finish

# What decides the last bits of a run besides its specification and data.
CONDITIONS = ("code", "versions", "device", "threads", "engine", "compiled", "backend", "stacked", "processes")
MOVED, DEVIATIONS = 4, 3
# The columns that the host computes, in float64.
OF_HOST = ("step", "tokens", "learning_rate")


@dataclass(frozen=True)
class Outcome:
    """What a comparison found, in words."""

    same: bool
    text: str


@dataclass(frozen=True)
class Trained:
    """What a training left."""

    manifest: Manifest
    curves: pd.DataFrame  # without times
    weights: dict[str, Tensor]

    @classmethod
    def read(cls, record: Path) -> Trained:
        """A record's. ConfigError where something is missing or damaged."""
        if missing := [name for name in RECORD if not (record / name).exists()]:
            raise ConfigError(f"{record}: no {missing[0]} there. A record has {', '.join(RECORD)}.")
        if damaged := damage(record, full=True):
            raise ConfigError(f"{record}: {damaged}")
        try:
            curves, weights = pd.read_parquet(record / CURVES), load_file(record / WEIGHTS)
        except (SafetensorError, OSError) as error:
            raise ConfigError(f"{record}: not readable ({error}).") from None
        return cls(read_manifest(record), curves.drop(columns="timestamp"), weights)


def verify(record: Path, data: Path, device: torch.device) -> Outcome:
    """Train the run of a record again and compare. ConfigError where the record is not whole or the data are not its own."""
    recorded = Trained.read(record)
    if read_json(data / "tokens.json")["sha256"] != recorded.manifest.data_sha256:
        raise ConfigError(f"--data {data}: these are not the tokens that {record} was trained on.")
    spec, _ = read_run(record)
    again = _train(spec, data, device)
    parted = difference(recorded, again)
    if parted is None:
        return Outcome(True, "bit-identical")
    other = [key for key in CONDITIONS if not _alike(getattr(recorded.manifest, key), getattr(again.manifest, key))]
    if not other or _form(recorded) != _form(again):
        return Outcome(False, parted)
    moved = [_train(spec, data, device, moved=i + 1) for i in range(MOVED)]
    outcome = _to_rounding(recorded, again, moved)
    return Outcome(outcome.same, f"{outcome.text} (Another arithmetic: {', '.join(other)}.)")


def _alike(recorded: Any, now: Any) -> bool:
    """Whether a condition is as it was. A record of the first schema has the backends of all models of its process."""
    return all(recorded.get(k) == v for k, v in now.items()) if isinstance(recorded, dict) else bool(recorded == now)


def _train(spec: RunSpec, data: Path, device: torch.device, moved: int = 0) -> Trained:
    """The run, from its own initial weights or from such that are moved by one rounding; `moved` numbers the draw."""
    with tempfile.TemporaryDirectory() as folder:
        job = Job(spec, data, Path(folder) / "run")
        attempt = Attempt([job], Path(folder) / "checkpoints", Settings(device, checkpoint_seconds=float("inf")))
        if moved:
            _move(attempt.cohort.weights, roundoff(spec), moved)
        finish(attempt)
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
    if _form(a) != _form(b):
        return "The curves or the weights have other names or shapes."
    for one, other in zip(a.curves.to_dict("records"), b.curves.to_dict("records"), strict=True):
        for column, value in one.items():
            if not np.array_equal(value, other[column], equal_nan=True):
                return f"Parts at step {one['step']} in {column}: {value!r} in the record, {other[column]!r} now."
    for name, weight in a.weights.items():
        if n := int((weight.view(torch.int32) != b.weights[name].view(torch.int32)).sum()):
            return f"The curves are the same, but {n:,} of {weight.numel():,} numbers of the weight {name} are not."
    return None


def _form(trained: Trained) -> object:
    """What must be alike for numbers to be compared."""
    steps = trained.curves["step"].tolist()
    return list(trained.curves), steps, {name: weight.shape for name, weight in trained.weights.items()}


def _to_rounding(recorded: Trained, again: Trained, moved: list[Trained]) -> Outcome:
    """The comparison of the module's docstring. All but `moved` have the same form; those may have diverged earlier."""
    rows = min(len(trained.curves) for trained in (again, *moved))
    theirs, ours, *others = (t.curves.to_numpy(float)[:rows] for t in (recorded, again, *moved))
    steps = again.curves["step"].to_numpy()[:rows]
    once = np.nan_to_num(np.mean([(other - ours) ** 2 for other in others], axis=0)) ** 0.5
    of_device = [column not in OF_HOST for column in again.curves.columns]
    grown = np.maximum(np.maximum.accumulate(once), _last_place(ours) * of_device)
    tolerance = DEVIATIONS * np.sqrt(steps + 1)[:, None] * grown
    # what the host computes may differ in the last places
    apart = np.abs(theirs - ours) > tolerance + 4 * np.finfo(float).eps * np.abs(ours)
    for i, j in np.argwhere(apart | (np.isfinite(theirs) != np.isfinite(ours))):
        numbers = f"{theirs[i, j]} in the record, {ours[i, j]} now, and rounding explains {tolerance[i, j]:.2g}"
        return Outcome(False, f"Parts at step {steps[i]} in {again.curves.columns[j]}: {numbers}.")
    for name, weight in again.weights.items():
        squares = [float((m.weights[name] - weight).square().sum()) for m in moved]
        least = float(np.square(_last_place(weight.double().numpy())).sum())
        explained = DEVIATIONS * (max(float(np.mean(squares)), least) * (int(steps[-1]) + 1)) ** 0.5
        if not (distance := float((recorded.weights[name] - weight).norm())) <= explained:
            return Outcome(
                False, f"The weight {name} is {distance:.2g} from its value now, and rounding explains {explained:.2g}."
            )
    loss = tolerance[-1, list(again.curves).index("train/loss")]
    return Outcome(True, f"The same to rounding, which explains up to {loss:.2g} nats of training loss at the end.")


def _last_place(values: np.ndarray) -> np.ndarray:
    """One unit in the last place of each number in float32; 0 where it is none."""
    return np.nan_to_num(np.spacing(np.abs(values).astype(np.float32)), posinf=0.0).astype(np.float64)
