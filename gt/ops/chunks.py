"""Cutting a sequence into chunks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def in_chunks(x: Tensor, chunk: int) -> Tensor:
    """(batch, time, head, channel) -> (batch, head, chunks, chunk, channel), the last chunk padded with zeros."""
    padded = F.pad(x, (0, 0, 0, 0, 0, -x.shape[1] % chunk))
    return padded.transpose(1, 2).unflatten(2, (-1, chunk))


def from_chunks(x: Tensor, time: int) -> Tensor:
    """The inverse: (batch, head, chunks, chunk, channel) -> (batch, time, head, channel)."""
    return x.flatten(2, 3)[:, :, :time].transpose(1, 2)


def segment_sums(log_decay: Tensor) -> Tensor:
    """The sum of log_decay over s < j <= t for all positions s, t of a chunk: (..., chunk) -> (..., t, s).

    Zero where s >= t. Each entry is a sum of its own (Dao and Gu 2024, arXiv:2405.21060, listing 1): a difference of two
    running sums would cancel where decays are mixed.
    """
    chunk = log_decay.shape[-1]
    return log_decay.unsqueeze(-1).expand(*log_decay.shape, chunk).tril(-1).cumsum(-2)


def halvings(chunk: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """How halving a chunk again and again separates its positions: constant 0/1 matrices, each (level, chunk, chunk).

    A level cuts blocks of 2 m positions at their middle. The first, (t, j), sums what lies strictly between t and that
    middle (the middle itself counts as after it); the second, (t, s), is 1 where s is before the middle of t's block and
    t is not. Every pair s < t has just one such level, and the two sums of that level make up what is between s and t.
    chunk is at least 2.
    """
    position = torch.arange(chunk, device=device)
    t, j = position.unsqueeze(1), position
    sums, pairs, half = [], [], 1
    while half < chunk:
        middle = t // (2 * half) * 2 * half + half
        late = t >= middle
        sums.append(torch.where(late, (middle <= j) & (j < t), (t < j) & (j < middle)))
        pairs.append((middle == middle.T) & late & ~late.T)
        half *= 2
    return torch.stack(sums).to(dtype), torch.stack(pairs).to(dtype)
