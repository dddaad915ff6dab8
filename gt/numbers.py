"""Numbers that a float or a document has no room for."""

from __future__ import annotations

import math
from typing import Any


def exponential(x: float) -> float:
    """exp(x), as of a loss in nats; infinite where that is beyond the largest float."""
    try:
        return math.exp(x)
    except OverflowError:
        return math.inf


def finite(value: Any) -> Any:
    """A document whose numbers that are not finite, as of a model that breaks down in a long context, are null."""
    if isinstance(value, dict):
        return {key: finite(own) for key, own in value.items()}
    if isinstance(value, list):
        return [finite(own) for own in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
