"""Numbers that a float has no room for."""

from __future__ import annotations

import math


def exponential(x: float) -> float:
    """exp(x), as of a loss in nats; infinite where that is beyond the largest float."""
    try:
        return math.exp(x)
    except OverflowError:
        return math.inf
