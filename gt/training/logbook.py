"""What a cohort says of its steps: written on the device, read by the host where a curve is due."""

from __future__ import annotations

import math
import time

from torch import Tensor

from gt.spec import RunSpec
from gt.training.curves import Curves
from gt.training.plan import HORIZON
from gt.training.schedule import learning_rate
from gt.training.validator import Validator


class Logbook:
    """The log of the last HORIZON steps, (step, run, column), and the curves of each run so far.

    columns: what a step writes, its loss and the bytes of a target first.
    """

    def __init__(self, specs: list[RunSpec], columns: list[str], validator: Validator, weights: Tensor) -> None:
        """weights: of the device and type that steps are computed in."""
        self.specs, self.validator, self.gated = specs, validator, validator.objective.gated
        self.columns = columns
        self.log = weights.new_zeros(HORIZON, len(specs), len(self.columns))
        gates = ["gate/mean", *(f"gate/layer_{i}" for i in self.gated)] if self.gated else []
        means = ["train/loss", "train/bits_per_byte", "val/loss", "val/bits_per_byte", "learning_rate"]
        self.curves = [Curves(["step", "tokens", "timestamp", *means, *columns[2:], *gates]) for _ in specs]
        self.status = ["completed"] * len(specs)
        self.ended_at: list[int | None] = [None] * len(specs)

    def read(self, steps: range) -> list[dict[str, float]]:
        """Wait for the device, and add what it logged of some steps to the curves. Returns the first run's rows."""
        log, found = self.log.cpu(), self.validator.found.cpu()
        now = time.time()
        rows = []
        for step in steps:
            for run in range(len(self.specs)):
                if self.ended_at[run] is None and (row := self._row(run, step, log, found)):
                    self.curves[run].add({"timestamp": now, **row})
                    rows += [row] if run == 0 else []
        return rows

    def _row(self, run: int, step: int, log: Tensor, found: Tensor) -> dict[str, float]:
        """What the curves of a run get at a step; nothing where none is due."""
        training = self.specs[run].training
        row: dict[str, float] = {}
        finite = True
        if step > 0:
            values = dict(zip(self.columns, log[(step - 1) % HORIZON, run].tolist(), strict=True))
            bytes_a_target = values.pop("bytes")
            finite = math.isfinite(values["train/loss"]) and math.isfinite(values["grad_norm"])
            if not finite:
                self.status[run], self.ended_at[run] = "diverged", step
            if step % training.log_every == 0 or step == training.steps or not finite:
                bits = values["train/loss"] / math.log(2) / bytes_a_target
                row |= {**values, "train/bits_per_byte": bits, "learning_rate": learning_rate(training, step - 1)}
        if finite and validates(self.specs[run], step):
            nats, *gates = found[run].tolist()
            row |= {
                "val/loss": nats / self.validator.targets,
                "val/bits_per_byte": nats / math.log(2) / self.validator.bytes,
                **({"gate/mean": sum(gates) / len(gates)} if gates else {}),
                **{f"gate/layer_{layer}": gate for layer, gate in zip(self.gated, gates, strict=True)},
            }
        return {"step": step, "tokens": training.tokens(step), **row} if row else {}


def validates(spec: RunSpec, step: int) -> bool:
    """Whether a validation is due after a step."""
    return step % spec.training.evaluate_every == 0 or step == spec.training.steps
