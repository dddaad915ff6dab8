"""How a measure of a model, or of each of its layers, is written down."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.utils._pytree import tree_flatten, tree_unflatten

Json = dict[str, Any]
Measures = dict[str, Json]
DIGITS = 6


def fetched(scalars: Any) -> Any:
    """A nested structure of tensors of one number, as numbers: from their device in one copy, for which it waits once."""
    leaves, structure = tree_flatten(scalars)
    return tree_unflatten(torch.stack([leaf.double() for leaf in leaves]).tolist() if leaves else [], structure)


def one(value: float | None) -> Json:
    """A measure of a model."""
    return {"value": _number(value), "layers": {}}


def by_layer(values: dict[int, float], value: float | None = None) -> Json:
    """A measure with a value a layer; that of the model is their mean unless it is given."""
    mean = sum(values.values()) / len(values) if values else None
    return {"value": _number(mean if value is None else value), "layers": {str(i): _number(v) for i, v in values.items()}}


def ratio(a: float | None, b: float | None) -> float | None:
    """a / b, and nothing where that is no number."""
    return a / b if a is not None and b else None


def _number(value: float | None) -> float | None:
    """Six digits of it; nothing where it is not finite, which JSON cannot say."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.{DIGITS}g}")
