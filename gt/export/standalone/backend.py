"""What computes a recurrence: torch code, on any device. The kernels for a GPU stay at home."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

IMPLEMENTATIONS: dict[str, Callable[[], Any]] = {}


def register(op: str, *, chunked: Callable[[], Any]) -> str:
    """Enter an operation, and return its name."""
    IMPLEMENTATIONS[op] = chunked
    return op


def select(op: str, device_type: str, double: bool, keys: int, values: int) -> str:
    """The name of what computes an operation."""
    return "chunked"


def implementation(op: str, name: str) -> Any:
    """The function."""
    return IMPLEMENTATIONS[op]()
