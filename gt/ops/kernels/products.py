"""Products of bfloat16 factors with float32 sums."""

from __future__ import annotations

import os

import triton
import triton.language as tl

INTERPRETED = tl.constexpr(os.environ.get("TRITON_INTERPRET") == "1")


@triton.jit
def product(a, b):
    """a @ b, whose factors are rounded to bfloat16 if they are not."""
    a, b = a.to(tl.bfloat16), b.to(tl.bfloat16)
    if INTERPRETED:  # where bfloat16 is kept as an integer, and multiplied as one
        a, b = a.to(tl.float32), b.to(tl.float32)
    return tl.dot(a, b)
