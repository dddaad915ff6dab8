"""Kernels for a GPU stay at home: torch code computes everything."""

from __future__ import annotations

from typing import Any


def norm_kernel(*inputs: Any, **options: Any) -> None:
    """There is none."""


def shift_kernel(*inputs: Any, **options: Any) -> None:
    """There is none."""
