"""What the GPU kernels serve, and with which tiles: a fixed function of the shape. Nothing here imports triton."""

from __future__ import annotations

from dataclasses import dataclass

ELEMENTS = 512  # of a state, to a tile of one warp: 16 numbers a thread


@dataclass(frozen=True)
class Tiles:
    """How a head's state (key, value) is cut. Forward: all keys times `forward_values`; backward: `keys` times `values`."""

    forward_values: int
    keys: int
    values: int
    warps: int = 1
    stages: int = 4  # positions that are on their way at a time

    def __str__(self) -> str:
        backward = f"{self.keys} x {self.values}"
        return f"forward all x {self.forward_values}, backward {backward}, {self.warps} warp, {self.stages} stages"


def tiles(keys: int, values: int) -> Tiles:
    """Those for a state (keys, values)."""
    values = min(values & -values, 64)  # a power of two that divides it
    return Tiles(min(values, ELEMENTS // keys), min(keys, ELEMENTS // values), values)


def serves(keys: int, values: int) -> bool:
    """Whether the kernels take a state (keys, values)."""
    return keys in (8, 16, 32, 64, 128) and values % 8 == 0
