"""Every random stream of a run, by name.

A stream is a function of (seed, purpose) alone. Nothing in the project draws from a global generator, so what one part
draws never depends on what another drew before it: two models that share a module start from the same numbers, and all
models of a study see the same batches. Differences between variants are therefore paired by construction.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch


def derive(seed: int, *purpose: str | int) -> int:
    """A 64-bit seed for one purpose: the first 8 bytes of the sha256 of its parts."""
    text = "\x1f".join([str(seed), *map(str, purpose)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


def numpy_stream(seed: int, *purpose: str | int) -> np.random.Generator:
    """A counter-based (Philox) NumPy generator for one purpose."""
    import numpy as np

    return np.random.Generator(np.random.Philox(key=derive(seed, *purpose)))


def torch_stream(seed: int, *purpose: str | int) -> torch.Generator:
    """A CPU torch generator for one purpose. Values are drawn on the CPU and copied, so that every device starts alike."""
    import torch

    # Only the low 32 bits seed torch's Mersenne twister; the sign bit is not accepted.
    return torch.Generator().manual_seed(derive(seed, *purpose) >> 1)


class Streams:
    """The initial values of a model's parameters: one stream for each qualified parameter name."""

    def __init__(self, seed: int, prefix: str = "") -> None:
        self.seed = seed
        self.prefix = prefix

    def scope(self, name: str) -> Streams:
        """The streams of a submodule."""
        return Streams(self.seed, f"{self.prefix}{name}.")

    def generator(self, name: str) -> torch.Generator:
        """The stream of the parameter called `name` inside this scope."""
        return torch_stream(self.seed, "init", self.prefix + name)
