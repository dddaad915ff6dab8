"""Softmax health: how sure the predictions are, and how large the logits that they are made of."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gt.probes.hooks import Measures, one

SATURATED = 0.99


def softmax(logits: Tensor) -> Measures:
    """logits: (n, time, vocab)."""
    finite = logits.isfinite()
    log_p = torch.log_softmax(logits.float(), dim=-1)
    entropy = float(-(log_p.exp() * log_p).sum(-1).double().mean())
    largest = log_p.amax(-1).exp()
    return {
        "forward/finite": one(float(finite.double().mean())),
        "softmax/entropy": one(entropy),
        "softmax/entropy_ratio": one(entropy / math.log(logits.shape[-1])),
        "softmax/max_probability": one(float(largest.double().mean())),
        "softmax/saturated": one(float((largest > SATURATED).double().mean())),
        "softmax/largest_logit": one(float(logits.abs().amax())),
        "softmax/logit_range": one(float((logits.amax(-1) - logits.amin(-1)).double().mean())),
    }
