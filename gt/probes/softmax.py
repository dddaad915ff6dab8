"""Softmax health: how sure the predictions are, and how large the logits that they are made of."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gt.metrics import Measurement, Metric
from gt.probes.base import Probe
from gt.probes.measures import fetched

if TYPE_CHECKING:
    from gt.probes.network import Network

SATURATED = 0.99
HEALTH = "systems 7.8"


class Softmax(Probe):
    """How sure the predictions are, and how large the logits."""

    name = "softmax"
    metrics = (
        Metric(
            "forward/finite",
            "share of logits that are finite",
            better="higher",
            definition="share of logits that are finite (G1)",
            initial=True,
        ),
        Metric(
            "softmax/entropy",
            "entropy of the prediction in nats",
            "nats",
            definition="mean entropy of the prediction",
            source=HEALTH,
            initial=True,
        ),
        Metric(
            "softmax/entropy_ratio",
            "entropy of the prediction over that of a uniform one",
            definition="the same over ln(vocabulary) (G2)",
            source="upstream flaw F-17",
            initial=True,
        ),
        Metric(
            "softmax/max_probability",
            "largest probability of the prediction",
            definition="mean of the largest probability",
            source=HEALTH,
            initial=True,
        ),
        Metric(
            "softmax/saturated",
            "share of positions with a probability above .99",
            definition="share of positions with a probability above .99",
            source=HEALTH,
            initial=True,
        ),
        Metric(
            "softmax/largest_logit",
            "largest absolute logit",
            definition="largest absolute logit",
            source=HEALTH,
            initial=True,
        ),
        Metric(
            "softmax/logit_range",
            "largest less smallest logit of a position",
            definition="mean of the largest less the smallest logit of a position",
            source=HEALTH,
            initial=True,
        ),
    )

    def measure(self, network: Network) -> Iterator[Measurement]:
        yield from softmax(network.activity.logits)


def softmax(logits: Tensor) -> list[Measurement]:
    """logits: (n, time, vocab)."""
    log_p = torch.log_softmax(logits.float(), dim=-1)
    entropy = -(log_p.exp() * log_p).sum(-1).double().mean()
    largest = log_p.amax(-1).exp()
    scalars = {
        "forward/finite": logits.isfinite().double().mean(),
        "softmax/entropy": entropy,
        "softmax/entropy_ratio": entropy / math.log(logits.shape[-1]),
        "softmax/max_probability": largest.double().mean(),
        "softmax/saturated": (largest > SATURATED).double().mean(),
        "softmax/largest_logit": logits.abs().amax(),
        "softmax/logit_range": (logits.amax(-1) - logits.amin(-1)).double().mean(),
    }
    return [Measurement(name, {}, value) for name, value in fetched(scalars).items()]
