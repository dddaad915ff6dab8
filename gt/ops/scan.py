"""First-order linear recurrences, all positions at once."""

from __future__ import annotations

import torch
from torch import Tensor


def linear_scan(a: Tensor, b: Tensor, initial: Tensor) -> Tensor:
    """h_t = a_t * h_{t-1} + b_t, elementwise.

    a, b: (batch, time, channels), initial: (batch, channels) -> h (batch, time, channels).

    Doubling scan (Hillis and Steele 1986): log2(time) steps, each of which joins every position with the one 2^i before
    it. Only products and sums of the inputs occur, so any sign and any decay is exact to rounding.
    """
    b = torch.cat([b[:, :1] + a[:, :1] * initial.unsqueeze(1), b[:, 1:]], dim=1)
    distance = 1
    while distance < a.shape[1]:
        b = torch.cat([b[:, :distance], b[:, distance:] + a[:, distance:] * b[:, :-distance]], dim=1)
        a = torch.cat([a[:, :distance], a[:, distance:] * a[:, :-distance]], dim=1)
        distance *= 2
    return b


def linear_scan_reference(a: Tensor, b: Tensor, initial: Tensor) -> Tensor:
    """The same, one position after the other."""
    h, out = initial, []
    for t in range(a.shape[1]):
        h = a[:, t] * h + b[:, t]
        out.append(h)
    return torch.stack(out, dim=1)
