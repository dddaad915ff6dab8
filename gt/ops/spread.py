"""Parameters that all positions of all sequences read."""

from __future__ import annotations

from torch import Tensor


def over_sequences(parameter: Tensor, x: Tensor) -> Tensor:
    """A parameter (...) for each sequence of x (batch, time, ...) as one, (batch, 1, ...).

    The same numbers, but the gradient is summed over each sequence first, and then over sequences: where a compiler takes one
    sum over all rows of a matrix, a column at a time, it has too few columns to occupy a GPU.
    """
    return parameter.expand(len(x), 1, *parameter.shape)
