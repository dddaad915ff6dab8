"""AdamW in one pass over everything that a step reads and writes, with the sums that its curves show.

A program has one block of the flat buffers (`gt.training.flat`), whose numbers are all of one run and one group.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

SUMS = 3  # of a block: the squares of its weights and of its update, and its gradient times the one before


@triton.jit
def squares_kernel(x, sums, BLOCK: tl.constexpr):
    """x (block, BLOCK) -> sums (block,)."""
    block = tl.program_id(0).to(tl.int64)
    x_b = tl.load(x + block * BLOCK + tl.arange(0, BLOCK))
    tl.store(sums + block, tl.sum(x_b * x_b, axis=0))


@triton.jit
def adamw_kernel(
    gradient, factor, rate, decay, weights, momentum, variance, last, of_run, sums, blocks, epsilon,
    BLOCK: tl.constexpr, OF_RUN: tl.constexpr, SUMS: tl.constexpr,
):  # fmt: skip
    """gradient, weights, momentum, variance and last (run, block, BLOCK); factor, rate and decay (run, block); of_run (run,
    OF_RUN): beta1, beta2, and what the two means are divided by -> sums (run, block, SUMS). last becomes gradient.
    """
    program = tl.program_id(0).to(tl.int64)
    own = of_run + program // blocks * OF_RUN
    beta1, beta2, first, second = tl.load(own), tl.load(own + 1), tl.load(own + 2), tl.load(own + 3)
    at = program * BLOCK + tl.arange(0, BLOCK)
    g_before, w = tl.load(last + at), tl.load(weights + at)
    g = tl.load(gradient + at)
    tl.store(last + at, g)
    similar = tl.sum(g * g_before, axis=0)
    lr = tl.load(rate + program)
    g = g * tl.load(factor + program)
    m = tl.load(momentum + at)
    m += (1 - beta1) * (g - m)
    v = beta2 * tl.load(variance + at) + (1 - beta2) * g * g
    update = lr / first * m / (tl.sqrt_rn(v) / second + epsilon)
    tl.store(momentum + at, m)
    tl.store(variance + at, v)
    tl.store(weights + at, w * (1 - lr * tl.load(decay + program)) - update)
    tl.store(sums + program * SUMS, tl.sum(w * w, axis=0))
    tl.store(sums + program * SUMS + 1, tl.sum(update * update, axis=0))
    tl.store(sums + program * SUMS + 2, similar)


def squares(buffer: Tensor) -> Tensor:
    """The sum of squares of each block: (run, block)."""
    runs, blocks, size = buffer.shape
    sums = buffer.new_empty(runs, blocks)
    squares_kernel[(runs * blocks,)](buffer, sums, size, num_warps=4)
    return sums


def adamw_(
    weights: Tensor, momentum: Tensor, variance: Tensor, last: Tensor, gradient: Tensor, factor: Tensor, rate: Tensor,
    decay: Tensor, of_run: Tensor, epsilon: float,
) -> Tensor:  # fmt: skip
    """Take a step in place. Buffers are (run, block, BLOCK); factor, which the gradient is multiplied by, rate and decay (run,
    block); of_run (run, 4): beta1, beta2, 1 - beta1^t and the root of 1 - beta2^t. `last` becomes the gradient.

    Returns the sums of each block, (run, block, 3): squares of the weights before and of the update without decay, and
    the gradient times `last`.
    """
    runs, blocks, size = weights.shape
    sums = weights.new_empty(runs, blocks, SUMS)
    adamw_kernel[(runs * blocks,)](
        gradient, factor, rate, decay, weights, momentum, variance, last, of_run, sums, blocks, epsilon, size, of_run.shape[1],
        SUMS, num_warps=4,
    )  # fmt: skip
    return sums
