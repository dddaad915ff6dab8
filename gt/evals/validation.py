"""The end of a validation curve on another slice than the run's curves follow: what the last row of them would be.

A study that looks at a run which another has trained may follow a slice of another size. The curve cannot be measured any
more, but for its end.
"""

from __future__ import annotations

import math

import torch

from gt.data.batches import evaluation_windows, targets_of_slice
from gt.evals.subject import Subject
from gt.training.curves import GateWatch
from gt.training.losses import token_losses


@torch.inference_mode()
def validation(subject: Subject, n_bytes: int) -> dict[str, float]:
    """The loss (nats/token), the bits per byte and the mean gates of a trained model on the first bytes of val, by the names of
    curves.
    """
    length, model = subject.length, subject.model
    part = subject.tokens.slice("val", n_bytes)
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
    found = {"val/loss": nats / counted, "val/bits_per_byte": nats / math.log(2) / part.n_bytes}
    if layers:
        found["gate/mean"] = float(gates.mean())
    return {**found, **{f"gate/layer_{layer}": float(gate) for layer, gate in zip(layers, gates, strict=True)}}
