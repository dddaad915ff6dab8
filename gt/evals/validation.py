"""The end of a validation curve on another slice than the run's curves follow: what the last row of them would be.

A study that looks at a run which another has trained may follow a slice of another size. The curve cannot be measured any
more, but for its end.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated

import torch
from pydantic import Field

from gt.data.batches import evaluation_windows, targets_of_slice
from gt.evals.base import Evaluation
from gt.evals.subject import Subject
from gt.metrics import LAYER, NATS, Measurement, Metric
from gt.options import Count, Options
from gt.training.curves import GateWatch
from gt.training.losses import token_losses


class Validation(Evaluation):
    """The end of the curves of val/loss, val/bits_per_byte and the gates, on another slice than a run's curves follow."""

    name = "validation"
    metrics = (
        Metric(
            "validation/loss",
            "held-out loss on a slice of another size in nats per token",
            NATS,
            better="lower",
            definition="val/loss on the first bytes of val",
            table="curves",
        ),
        Metric(
            "validation/bits_per_byte",
            "held-out loss on a slice of another size in bits per byte",
            "bits/byte",
            better="lower",
            definition="val/bits_per_byte on the first bytes of val",
            table="curves",
        ),
        Metric(
            "validation/gate/mean",
            "mean gate weight on a slice of another size",
            definition="gate/mean on the first bytes of val",
            table="curves",
        ),
        Metric(
            "validation/gate/layer_<layer>",
            "mean gate weight in layer <layer> on a slice of another size",
            axes=(LAYER,),
            definition="gate/layer_<layer> on the first bytes of val",
            table="curves",
        ),
    )

    class Config(Options):
        bytes: Annotated[Count, Field(description="of val, from its beginning")]

    @torch.inference_mode()
    def measure(self, subject: Subject) -> Iterator[Measurement]:
        """The loss (nats/token), the bits per byte and the mean gates of a trained model on the first bytes of val."""
        length, model = subject.length, subject.model
        part = subject.tokens.slice("val", self.config.bytes)
        place = (part, length, subject.tokens.borders("val"))
        windows = torch.from_numpy(evaluation_windows(subject.tokens.marked("val"), *place))
        of_slice = torch.from_numpy(targets_of_slice(*place)).double()
        counted, shares = int((windows[:, 1:] >= 0).sum()), of_slice / of_slice.sum()
        layers = list(model.fusions())
        nats, gates = 0.0, torch.zeros(len(layers), dtype=torch.float64)
        size = subject.at_once(length)
        for batch, own in zip(windows.split(size), shares.split(size), strict=True):
            with GateWatch(model, own.to(subject.device)) as watch:
                losses = token_losses(model, batch.to(subject.device), subject.spec.training.precision)
            nats += float(losses.double().sum())
            gates += watch.means(losses).cpu()
        yield Measurement("validation/loss", {}, nats / counted)
        yield Measurement("validation/bits_per_byte", {}, nats / math.log(2) / part.n_bytes)
        if layers:
            yield Measurement("validation/gate/mean", {}, float(gates.mean()))
        for layer, gate in zip(layers, gates.tolist(), strict=True):
            yield Measurement("validation/gate/layer_<layer>", {"layer": layer}, gate)
