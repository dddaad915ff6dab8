"""What a model costs to train and to run at growing lengths and batches: tokens/s and peak memory.

One pass without an optimizer, without compiled regions and without graphs: the model's own arithmetic, the same for all. How
fast runs are trained stands in their manifests.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from gt.evals.subject import Subject
from gt.models.lm import audit
from gt.training.losses import mean_loss, token_losses

Json = dict[str, Any]
MULTIPLES = (1, 4, 16)
BATCHES = (1, 8)
ROUNDS = 3
MEASURED = (
    *("flops_per_token", "state_size", "forward_tokens_per_second", "forward_peak_bytes"),
    *("training_tokens_per_second", "training_peak_bytes"),
)


def cost(subject: Subject) -> Json:
    """For lengths T, 4 T, 16 T and batches of 1 and 8: tokens/s and, on a GPU, peak bytes of a forward pass and of a training
    pass (forward and backward); and the counted FLOPs/token (forward) and floats of state at that length.

    Speeds are the best of three passes after one that is not counted. Null beyond the positions of a model.
    """
    return {"cells": [_cell(subject, m * subject.length, batch) for m in MULTIPLES for batch in BATCHES]}


def _cell(subject: Subject, length: int, batch: int) -> Json:
    cell: Json = {"length": length, "batch": batch}
    if not subject.fits(length) or len(subject.tokens.train) <= length:
        return {**cell, **dict.fromkeys(MEASURED)}
    counted = audit(subject.model, length)
    tokens = torch.from_numpy(subject.tokens.train[: length + 1].astype("int64")).expand(batch, -1).to(subject.device)
    measured: list[float | int | None] = [counted.flops_per_token, counted.state_size]
    for one_pass in (_forward, _training):
        seconds, peak = _best(subject, one_pass, tokens)
        measured += [batch * length / seconds, peak]
    return {**cell, **dict(zip(MEASURED, measured, strict=True))}


def _forward(subject: Subject, tokens: torch.Tensor) -> None:
    with torch.inference_mode():
        token_losses(subject.model, tokens, subject.spec.training.precision)


def _training(subject: Subject, tokens: torch.Tensor) -> None:
    loss = mean_loss(token_losses(subject.model, tokens, subject.spec.training.precision), tokens[:, 1:])
    torch.autograd.grad(loss, [p for p in subject.model.parameters() if p.requires_grad], allow_unused=True)


def _best(
    subject: Subject, one_pass: Callable[[Subject, torch.Tensor], None], tokens: torch.Tensor
) -> tuple[float, int | None]:
    """The shortest time (s), and the peak of memory beyond what was there."""
    on_gpu = subject.device.type == "cuda"
    times = []
    for _ in range(1 + ROUNDS):
        if on_gpu:
            torch.cuda.synchronize(subject.device)
            before = torch.cuda.memory_allocated(subject.device)
            torch.cuda.reset_peak_memory_stats(subject.device)
        start = time.perf_counter()
        one_pass(subject, tokens)
        if on_gpu:
            torch.cuda.synchronize(subject.device)
        times.append(time.perf_counter() - start)
    return min(times[1:]), torch.cuda.max_memory_allocated(subject.device) - before if on_gpu else None
