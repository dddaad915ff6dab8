"""AdamW in one pass over everything that a step reads and writes, with the sums that its curves show.

A program has one block of the flat buffers (`gt.training.flat`), whose numbers are all of one run and one group.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

SUMS = 4  # of a block: squares of its weights, its update and its last gradient, and that gradient times the new one


@triton.jit
def squares_kernel(x, sums, BLOCK: tl.constexpr):
    """x (block, BLOCK) -> sums (block,)."""
    block = tl.program_id(0).to(tl.int64)
    x_b = tl.load(x + block * BLOCK + tl.arange(0, BLOCK))
    tl.store(sums + block, tl.sum(x_b * x_b, axis=0))


@triton.jit
def adamw_kernel(
    gradient, factor, rate, decay, weights, copy, momentum, variance, last, of_run, sums, blocks,
    BLOCK: tl.constexpr, OF_RUN: tl.constexpr, SUMS: tl.constexpr,
):  # fmt: skip
    """gradient, weights, momentum, variance and last (run, block, BLOCK); factor, rate and decay (run, block); of_run (run,
    OF_RUN): beta1, beta2, what the two means are divided by, epsilon -> sums (run, block, SUMS). last becomes gradient, and
    copy, if there is one, the weights in its dtype.
    """
    program = tl.program_id(0).to(tl.int64)
    own = of_run + program // blocks * OF_RUN
    beta1, beta2, first, second = tl.load(own), tl.load(own + 1), tl.load(own + 2), tl.load(own + 3)
    epsilon = tl.load(own + 4)
    at = program * BLOCK + tl.arange(0, BLOCK)
    g_before, w = tl.load(last + at), tl.load(weights + at)
    g = tl.load(gradient + at)
    tl.store(last + at, g)
    similar, before = tl.sum(g * g_before, axis=0), tl.sum(g_before * g_before, axis=0)
    lr, f = tl.load(rate + program), tl.load(factor + program)
    g = tl.where(f == 0.0, 0.0, g * f)  # of a run that has diverged it is not finite
    m = tl.load(momentum + at)
    m += (1 - beta1) * (g - m)
    v = beta2 * tl.load(variance + at) + (1 - beta2) * g * g
    update = lr / first * m / (tl.sqrt_rn(v) / second + epsilon)
    tl.store(momentum + at, m)
    tl.store(variance + at, v)
    new = w * (1 - lr * tl.load(decay + program)) - update
    tl.store(weights + at, new)
    if copy is not None:
        tl.store(copy + at, new.to(copy.dtype.element_ty))
    tl.store(sums + program * SUMS, tl.sum(w * w, axis=0))
    tl.store(sums + program * SUMS + 1, tl.sum(update * update, axis=0))
    tl.store(sums + program * SUMS + 2, before)
    tl.store(sums + program * SUMS + 3, similar)


def squares(buffer: Tensor) -> Tensor:
    """The sum of squares of each block: (run, block)."""
    runs, blocks, size = buffer.shape
    sums = buffer.new_empty(runs, blocks)
    squares_kernel[(runs * blocks,)](buffer, sums, size, num_warps=4)
    return sums


def adamw_(
    weights: Tensor, momentum: Tensor, variance: Tensor, last: Tensor, gradient: Tensor, factor: Tensor, rate: Tensor,
    decay: Tensor, of_run: Tensor, copy: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Take a step in place. Buffers are (run, block, BLOCK); factor, which the gradient is multiplied by, rate and decay (run,
    block); of_run (run, 5): beta1, beta2, 1 - beta1^t, the root of 1 - beta2^t and epsilon. `last` becomes the gradient,
    and `copy` the weights in its dtype.

    Returns the sums of each block, (run, block, 4): squares of the weights before, of the update without decay and of `last`,
    and the gradient times `last`.
    """
    runs, blocks, size = weights.shape
    sums = weights.new_empty(runs, blocks, SUMS)
    adamw_kernel[(runs * blocks,)](
        gradient, factor, rate, decay, weights, copy, momentum, variance, last, of_run, sums, blocks, size, of_run.shape[1],
        SUMS,
        num_warps=4,
    )  # fmt: skip
    return sums
