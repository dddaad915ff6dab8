"""Runs of one architecture and shape, trained side by side: usually one, on a GPU often many.

Everything that a step reads stands on the device before the step begins: the tokens, where each batch starts, the learning
rates, the coins of a dropped branch. Everything that it says goes into a log there. So a step can be replayed as one CUDA
graph, and the host looks at the log only where a curve is due. The weights of all runs are one tensor (run, size); with
more than one run the model is mapped over its rows by `torch.func.vmap`, so that one launch serves all of them.

What a run is, in the plainest form, is `gt.training.reference`: a cohort gives its numbers.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from gt.data.tokens import Tokens
from gt.fingerprint import code_of_training, digest
from gt.spec import RunSpec
from gt.training import engine
from gt.training.auxiliary import BranchDropper
from gt.training.distributed import ALONE, World
from gt.training.logbook import Logbook, validates
from gt.training.losses import Criterion
from gt.training.objective import InRegions, Objective, Whole
from gt.training.parameters import Parameters
from gt.training.plan import HORIZON, StepPlan
from gt.training.pretraining import Pretraining
from gt.training.regions import divisible
from gt.training.stepper import Stepper
from gt.training.update import Update
from gt.training.validator import Validator

# cuBLAS has one way of adding up products only if its workspace is fixed; it reads this when it is first used.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


class Cohort:
    """Some runs in progress. `advance` trains to the next stop and `collect` reads what came of it.

    specs: runs that `gt.grouping` lets be stacked. tokens: what all are trained on. engine_name and compiled: how the steps
    are run, by default as compiled graphs on a GPU and operation by operation elsewhere. recompute: letters of mixers whose
    activations are computed again in the backward pass, which saves memory and changes no bit. world: the processes that share
    each batch. start: the weights that all begin with, of runs that say so, in place of drawn ones. criterion: what is
    minimised in place of the cross-entropy; no part of a run's identity, so for experiments alone.
    """

    update_class: ClassVar[type[Update]] = Update

    def __init__(
        self,
        specs: list[RunSpec],
        tokens: Tokens,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        engine_name: engine.Name | None = None,
        compiled: bool | None = None,
        recompute: str = "",
        world: World = ALONE,
        start: Mapping[str, Tensor] | None = None,
        criterion: Criterion | None = None,
    ) -> None:
        torch.use_deterministic_algorithms(True)
        # which would be a kernel for each new tensor, and nothing reads those
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        self.specs, self.tokens, self.device, self.dtype = specs, tokens, device, dtype
        self.training = training = specs[0].training
        assert (start is None) == (training.start is None), "a run's specification says whether its weights are drawn"
        world.check(training)
        self.engine = engine.Engine(device, engine_name)
        with self.engine.stream():
            self.subject = own = Parameters(specs, tokens.vocab_size, start, device, dtype)
            self.model, self.weights = own.model, own.weights
            for block in self.model.blocks():
                block.recompute = set(recompute)
            dropper = BranchDropper(drop, self.model) if (drop := training.branch_drop) is not None else None
            plain = training.auxiliary is None and dropper is None and not training.carry_state
            self.compiled = (device.type == "cuda" if compiled is None else compiled) and plain and divisible(self.model)
            if self.compiled and training.precision == "bfloat16":
                own.narrow()
            self.plan = StepPlan(specs, tokens, own.flat.groups, dropper, device)
            minimised = (self.model, own.leaves, len(specs), training, criterion)
            self.objective: Objective = InRegions(*minimised) if self.compiled else Whole(*minimised, dropper)
            scales = self.plan.gradient_scales(device)
            self.update = self.update_class(specs, own.flat, self.weights, scales, self.compiled, own.copy)
            self.stepper = Stepper(training, tokens, self.plan, self.objective, own, self.update, world, self.compiled)
            self.validator = Validator(tokens, training, self.objective, own, self.stepper.rows if self.compiled else None)
            self.book = Logbook(specs, self.stepper.columns, self.validator, self.weights)
            options = (device, dtype, self.engine.name, self.compiled, recompute, world, None, criterion)
            self.pretraining = Pretraining(specs, lambda branch: type(self)(branch, tokens, *options), own.places)
        self.step = 0  # that the device was told to take
        self.collected = -1  # the last step whose results the host has; -1 before the first validation

    @property
    def identity(self) -> str:
        """What a checkpoint must be of to be used."""
        runs = " ".join(spec.sha256 for spec in self.specs)
        place = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu"
        code = digest(code_of_training(self.specs[0]))  # runs that are stacked have the same components
        return f"{runs} {self.tokens.sha256} {code} {torch.__version__} {place} {self.compiled}"

    @property
    def done(self) -> bool:
        """All runs are trained, or diverged, and the host knows it."""
        return self.collected >= self.training.steps or None not in self.book.ended_at

    def parameters(self, run: int) -> dict[str, Tensor]:
        """The weights of one run by name, in the model's order."""
        return {name: self.subject.places[name][run] for name, _ in self.model.named_parameters()}

    def state(self) -> dict[str, Tensor]:
        """All tensors that a checkpoint must keep, and that a rehearsal of the step must leave as they were."""
        carried = self.objective.carried.tensors if self.objective.carried is not None else []
        return {"weights": self.weights, **self.update.state, **{f"carried/{i}": own for i, own in enumerate(carried)}}

    def advance(self, limit: int | None = None) -> None:
        """Train to the next stop, or to step `limit` if that comes first. Returns before the device has done it."""
        with self.engine.stream():
            if not self.pretraining.done:
                self.pretraining.advance()
                return
            if self.collected >= 0 or self.step > 0:  # a validation comes before the first step
                self._steps(min(self._next_stop(), limit or self.training.steps))
            if validates(self.specs[0], self.step):
                self.validator(self.engine)

    def _steps(self, stop: int) -> None:
        self.subject.refresh()
        copies = [] if self.subject.copy is None else [self.subject.copy]
        while self.step < stop:
            self.plan.prepare(self.step)
            kind = f"step of {self.plan.length} tokens{', going on' if self.plan.goes_on else ''}"
            changed = [*self.state().values(), *copies, self.plan.cursor, self.book.log]
            self.engine(kind, lambda: self.stepper(self.book.log), changed)
            self.step += 1

    def _next_stop(self) -> int:
        """Where a validation is due, or the log is full; and step by step run, also where a curve is due, to show progress."""
        every = [self.training.evaluate_every, HORIZON] + ([self.training.log_every] if self.engine.name == "eager" else [])
        return min(self.training.steps, *((self.step // n + 1) * n for n in every))

    def collect(self) -> list[dict[str, float]]:
        """Wait for the device, and add what it logged since the last time to the curves. Returns the first run's rows."""
        with self.engine.stream():
            if not self.pretraining.done:
                self.pretraining.collect()
                return []
            rows = self.book.read(range(self.collected + 1, self.step + 1))
        self.collected = self.step
        return rows
