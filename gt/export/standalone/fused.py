"""Kernels for a GPU stay at home: torch code computes everything."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def norm_kernel(*inputs: Any, **options: Any) -> None:
    """There is none."""


norm_of_sum_kernel = shift_kernel = conv_kernel = gate_kernel = bias_kernel = gelu_kernel = norm_kernel
attention_kernel = embedding_kernel = linear_kernel = norm_kernel


def aligned(weight: Tensor) -> Tensor:
    """The matrix as it is."""
    return weight
