"""Numbers on a device, and what is made of them."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._pytree import tree_flatten, tree_unflatten


def fetched(scalars: Any) -> Any:
    """A nested structure of tensors of one number, as numbers: from their device in one copy, for which it waits once."""
    leaves, structure = tree_flatten(scalars)
    return tree_unflatten(torch.stack([leaf.double() for leaf in leaves]).tolist() if leaves else [], structure)


def ratio(a: float | None, b: float | None) -> float | None:
    """a / b, and nothing where that is no number."""
    return a / b if a is not None and b else None
