"""Softmax health: how sure the predictions are, and how large the logits that they are made of."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gt.probes.measures import Measures, fetched, one

SATURATED = 0.99


def softmax(logits: Tensor) -> Measures:
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
    return {name: one(value) for name, value in fetched(scalars).items()}
