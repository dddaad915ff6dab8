"""What a run logs: one row of scalars a logged step."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gt.models.fusions.base import Fused
from gt.models.lm import LanguageModel
from gt.records import atomic_write

if TYPE_CHECKING:
    from types import TracebackType

INTEGERS = ("step", "tokens")


class Curves:
    """Rows of scalars under fixed columns; a column that a row lacks is NaN there.

    step counts finished steps; tokens those trained on so far; timestamp is Unix time in seconds.
    """

    def __init__(self, columns: list[str], values: Tensor | None = None) -> None:
        self.columns = columns
        self.rows: list[list[float]] = values.tolist() if values is not None else []

    def add(self, row: dict[str, float]) -> None:
        self.rows.append([row.get(column, math.nan) for column in self.columns])

    def tensor(self) -> Tensor:
        """(rows, columns) float64, as a checkpoint keeps them."""
        return torch.tensor(self.rows, dtype=torch.float64).reshape(-1, len(self.columns))

    def write(self, path: Path) -> None:
        """One parquet file: step and tokens as integers, everything else float64."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        arrays = {}
        for i, column in enumerate(self.columns):
            values = [row[i] for row in self.rows]
            integer = column in INTEGERS
            arrays[column] = pa.array([int(v) for v in values] if integer else values, pa.int64() if integer else pa.float64())
        with atomic_write(path) as temporary:
            pq.write_table(pa.table(arrays), temporary)


class GateWatch:
    """Reads the mean gate of each fusion while a model runs, through hooks. shares: (row, time), of each position in the mean.

    with GateWatch(model, shares) as gates: model(tokens); gates.means(like) -> (fusion,) float64, NaN for one without a gate.
    """

    def __init__(self, model: LanguageModel, shares: Tensor) -> None:
        self.model, self.shares = model, shares
        self.seen: dict[int, Tensor] = {}

    def __enter__(self) -> GateWatch:
        self.handles = [
            fusion.register_forward_hook(lambda _module, _inputs, output, layer=layer: self._read(layer, output))
            for layer, fusion in self.model.fusions().items()
        ]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for handle in self.handles:
            handle.remove()

    def _read(self, layer: int, output: Fused) -> None:
        if output.gate is not None:
            self.seen[layer] = mean_gate(output.gate, self.shares)

    def means(self, like: Tensor) -> Tensor:
        """The mean weight of the first branch in each fusion, on the device of `like`."""
        nothing = like.new_full((), math.nan, dtype=torch.float64)
        means = [self.seen.get(layer, nothing) for layer in self.model.fusions()]
        return torch.stack(means) if means else like.new_zeros(0, dtype=torch.float64)


def mean_gate(gate: Tensor, shares: Tensor) -> Tensor:
    """The mean of a gate (row, time, channel), or of one that all positions have, with their shares (row, time): float64."""
    return (gate.double().mean(-1) * shares).sum()
