"""What takes the steps that are timed: our cohorts, or a program that somebody else would write."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import torch
from torch import Tensor

from gt.bench.candidates import Candidate
from gt.bench.events import Event, Json, launches, recorded, summary, with_launches
from gt.bench.noise import noise_for
from gt.data.tokens import Tokens
from gt.ops.backend import use
from gt.training.cohort import Cohort
from gt.training.compiled import forget
from gt.training.update import Update


class Trainer(Protocol):
    """Something that trains.

    stride: it takes steps in multiples of this. parameters: of one run. peak_memory: bytes on the GPU, where it knows that
    itself.
    """

    stride: int
    parameters: int
    peak_memory: int | None

    def take(self, steps: int) -> None:
        """Take steps, and wait until they are done."""

    def kernels(self) -> Json:
        """What a step runs on the GPU."""


def trainer(candidate: Candidate, device: torch.device) -> Trainer:
    """What a candidate describes. ImportError for a rival that is not installed."""
    if candidate.rival is None:
        return Cohorts(candidate, noise_for(candidate.spec), device)
    from gt.bench.peers.apart import Apart

    return Apart(candidate, device)


class Cohorts:
    """Cohorts side by side, as `gt.training.loop.together` trains them."""

    stride = 1
    peak_memory: int | None = None

    def __init__(self, candidate: Candidate, tokens: Tokens, device: torch.device, first_seed: int = 0) -> None:
        self.device = device
        self.backend = candidate.backend
        if self.backend is not None:
            forget()  # what is compiled has its backend built in
        with self._backend():
            kind = Cohort if candidate.followed else Unfollowed
            self.cohorts = [
                kind(specs, tokens, device, engine_name=candidate.engine, compiled=candidate.compiled)
                for specs in candidate.specs(first_seed)
            ]
        self.parameters = sum(parameter.numel() for parameter in self.cohorts[0].model.parameters())

    def take(self, steps: int) -> None:
        stop = self.cohorts[0].step + steps
        with self._backend():
            while any(cohort.step < stop for cohort in self.cohorts):
                for cohort in self.cohorts:
                    cohort.advance(stop)
                for cohort in self.cohorts:
                    cohort.collect()

    def events(self, captured: bool = True) -> list[Event]:
        """Of one step. Not captured: as it runs without a graph, operation by operation, with the bytes that shapes tell."""
        names = [cohort.engine.name for cohort in self.cohorts]
        self.take(1)  # the first of a round may have the plan refilled
        try:
            for cohort in self.cohorts:
                cohort.engine.name = cohort.engine.name if captured else "eager"
            if captured or self.device.type != "cuda":
                return recorded(lambda: self.take(1), self.device, shapes=not captured)
            with launches() as launched:
                return with_launches(recorded(lambda: self.take(1), self.device, shapes=True), launched)
        finally:
            for cohort, name in zip(self.cohorts, names, strict=True):
                cohort.engine.name = name

    def kernels(self) -> Json:
        """What a step runs on the GPU, the reading of its log included."""
        return summary(self.events())

    def validate(self) -> None:
        """Measure the validation loss of every run."""
        with self._backend():
            for cohort in self.cohorts:
                with cohort.engine.stream():
                    cohort.validator(cohort.engine)
            for cohort in self.cohorts:
                cohort.collect()

    def _backend(self) -> AbstractContextManager[None]:
        return use(self.backend) if self.backend is not None else nullcontext()


class ClipAndUpdate(Update):
    """An update that says nothing of itself but the norm of the gradient."""

    @torch.no_grad()
    def _apply(self, gradient: Tensor, rates: Tensor, nats: Tensor) -> Tensor:
        gradient = gradient * self.scales
        norm = gradient.square().sum((1, 2)).sqrt()
        self._clip_and_step(gradient, norm, rates, nats)
        return torch.nn.functional.pad(norm.unsqueeze(1), (0, len(self.columns) - 1))


class Unfollowed(Cohort):
    """A cohort that clips and updates, and measures nothing else for its curves."""

    update_class = ClipAndUpdate
