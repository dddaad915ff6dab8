"""Evaluations."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import ClassVar

import torch

from gt.data.batches import whole_windows
from gt.evals.base import Evaluation
from gt.evals.subject import Subject
from gt.metrics import NATS, Measurement, Metric


class Ending(Evaluation):
    """The loss at the end of held-out windows."""

    name = "ending"
    metrics = (Metric("ending/loss", "loss at the end of a window", NATS, better="lower"),)
    breaks: ClassVar[str] = ""
    says: ClassVar[str] = ""

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        windows = torch.from_numpy(whole_windows(subject.tokens.val, subject.length, 8 * subject.length))
        yield Measurement("ending/loss", {}, subject.last_losses(windows, 1).mean().item())


class Undeclared(Ending):
    """It measures what it does not declare."""

    name = "undeclared"
    breaks = "test_what_is_measured_is_declared"
    says = "it measures 'ending/surprise', which is none of its metrics: ending/loss"

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        yield Measurement("ending/surprise", {}, 1.0)


class Placed(Ending):
    """It gives a measurement an axis that its metric has not."""

    name = "placed"
    breaks = "test_what_is_measured_is_declared"
    says = "ending/loss is at a 'length', which is none of its axes: none"

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        yield Measurement("ending/loss", {"length": 16}, 1.0)


class Infinite(Ending):
    """It divides by zero."""

    name = "infinite"
    breaks = "test_what_is_measured_is_a_number"
    says = "none of its 1 measurements is a finite number"

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        yield Measurement("ending/loss", {}, float("inf"))


class Moody(Ending):
    """It draws without a seed."""

    name = "moody"
    breaks = "test_measuring_again_gives_the_same"
    says = r"ending/loss is 0\.\d+ the first time and 0\.\d+ the second: draw from gt\.seeds"

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        yield Measurement("ending/loss", {}, random.random())


class Rude(Ending):
    """It leaves the model training."""

    name = "rude"
    breaks = "test_a_model_is_left_as_it_was"
    says = "it leaves the model in another mode"

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        yield from super().measure(subject)
        subject.model.train()
