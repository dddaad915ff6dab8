"""Pairs of positions of a chunk by the halving that separates them (`gt.ops.chunks.halvings`), for RWKV-6's kernels."""

from __future__ import annotations

import triton
import triton.language as tl

LEVELS = tl.constexpr(4)  # halvings of a chunk of 16
LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def separated(t, s, level):
    """Where the middle of a block of 2^(level + 1) positions separates t and s: the highest bit in which they differ."""
    return ((t ^ s) >> level) == 1


@triton.jit
def to_middle(t, j, level):
    """1 where position j lies between t and the middle of t's block, the middle counted as after it."""
    same_half = ((t ^ j) >> level) == 0
    return (same_half & (t != j) & ((j < t) == (((t >> level) & 1) == 1))).to(tl.float32)
