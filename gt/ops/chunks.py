"""Cutting a sequence into chunks."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def in_chunks(x: Tensor, chunk: int) -> Tensor:
    """(batch, time, head, channel) -> (batch, head, chunks, chunk, channel), the last chunk padded with zeros."""
    padded = F.pad(x, (0, 0, 0, 0, 0, -x.shape[1] % chunk))
    return padded.transpose(1, 2).unflatten(2, (-1, chunk))


def from_chunks(x: Tensor, time: int) -> Tensor:
    """The inverse: (batch, head, chunks, chunk, channel) -> (batch, time, head, channel)."""
    return x.flatten(2, 3)[:, :, :time].transpose(1, 2)
