"""What is minimised."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def token_losses(model: Any, batch: Tensor, precision: str) -> Tensor:
    """batch: (n, time + 1) tokens -> cross-entropy of each target in nats, (n * time,), float32 at least."""
    with autocast(batch.device, precision):
        logits, _ = model(batch[:, :-1])
    return cross_entropies(logits, batch[:, 1:])


def cross_entropies(logits: Tensor, targets: Tensor) -> Tensor:
    """logits (..., vocab), targets (...) -> nats of each target, flat, float32 at least."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return F.cross_entropy(logits.flatten(0, -2), targets.flatten(), reduction="none")


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The context in which a model of this precision runs."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")
