"""What is minimised.

A target that no loss counts, as most tokens of a recall task, stands in a batch as its complement ~t, which is negative: as an
input it is t.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gt.ops.fused import cross_entropy_kernel

NOT_COUNTED = -100  # what torch's cross-entropy calls it
# criterion(logits (..., vocab), targets (...)) -> what each target adds to what is minimised, (...).
Criterion = Callable[[Tensor, Tensor], Tensor]


def token_losses(model: Any, batch: Tensor, precision: str) -> Tensor:
    """batch: (n, time + 1) tokens -> cross-entropy of each target in nats, (n * time,), float32 at least; 0 if not counted."""
    return losses_and_state(model, batch, precision, None)[0]


def losses_and_state(model: Any, batch: Tensor, precision: str, state: Any) -> tuple[Tensor, Any]:
    """The same of sequences that go on from `state`, and the state that they end with."""
    with autocast(batch.device, precision):
        logits, state = model(inputs(batch), state)
    return cross_entropies(logits, batch[:, 1:]), state


def loss_and_objective(
    criterion: Criterion | None, logits: Tensor, targets: Tensor, n_targets: Tensor
) -> tuple[Tensor, Tensor | None]:
    """The cross-entropy of logits (..., vocab), summed over the targets (...) that count and divided by n_targets, which curves
    show; and the same of a criterion, None if there is none: then the cross-entropy is what is minimised.
    """
    nats = cross_entropies(logits, targets).sum() / n_targets
    if criterion is None:
        return nats, None
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    of_targets = criterion(wide, torch.where(targets < 0, ~targets, targets))
    return nats, torch.where(targets >= 0, of_targets, 0.0).sum() / n_targets


def mean_loss(losses: Tensor, targets: Tensor) -> Tensor:
    """The mean over the targets that count."""
    return losses.sum() / (targets >= 0).sum()


def inputs(batch: Tensor) -> Tensor:
    """(..., time + 1) -> what a model reads of it, (..., time)."""
    return torch.where(batch < 0, ~batch, batch)[..., :-1]


def cross_entropies(logits: Tensor, targets: Tensor) -> Tensor:
    """logits (..., vocab), targets (...) -> nats of each target, flat, float32 at least; 0 if it is not counted."""
    if (losses := cross_entropy_kernel(logits, targets)) is not None:
        return losses.flatten()
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    counted = torch.where(targets < 0, NOT_COUNTED, targets).flatten()
    return F.cross_entropy(logits.flatten(0, -2), counted, reduction="none", ignore_index=NOT_COUNTED)


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The context in which a model of this precision runs."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")
