"""All parameters of a cohort in one tensor.

An update is then a dozen elementwise operations however many parameters and runs there are. The tensor is cut into blocks,
and each group of parameters begins with a block of its own, so that what differs between groups (learning rates, decays) is
a number a block, and sums over a part of the model are sums over blocks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn

BLOCK = 1024
ALIGNMENT = 32  # every parameter starts at a multiple: kernels load 16 bytes at once where they can


@dataclass(frozen=True)
class Group:
    """Parameters of one part of the model that all are, or are not, subject to weight decay as matrices."""

    part: str
    matrix: bool
    names: tuple[str, ...]


def parameter_groups(model: nn.Module) -> list[Group]:
    """The groups, sorted by part; AssertionError unless every parameter is in exactly one.

    Matrices are the weights of linear, convolution and embedding layers. Norms, gains, biases, decays, A_log, D, dt_bias
    and what a module lists in `undecayed` are not.
    """
    matrices = _matrices(model)
    members: dict[tuple[str, bool], list[str]] = {}
    for name, parameter in model.named_parameters():
        members.setdefault((part(name), id(parameter) in matrices), []).append(name)
    groups = [Group(*key, tuple(members[key])) for key in sorted(members)]
    names = sorted(name for group in groups for name in group.names)
    assert names == sorted(name for name, _ in model.named_parameters()), "a parameter is not in exactly one group"
    return groups


class Flat:
    """Buffers of shape (run, block, BLOCK) for the parameters of a model and what goes with them; padding is zero."""

    def __init__(self, model: nn.Module, n_runs: int, device: torch.device, dtype: torch.dtype) -> None:
        self.shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
        self.groups = parameter_groups(model)
        self.parts = list(dict.fromkeys(group.part for group in self.groups))
        self.starts: dict[str, int] = {}
        group_of_block: list[int] = []
        for i, group in enumerate(self.groups):
            start = BLOCK * len(group_of_block)
            for name in group.names:
                self.starts[name] = start
                start += ALIGNMENT * rows_of(self.shapes[name])
            group_of_block += [i] * (-(-start // BLOCK) - len(group_of_block))
        self.shape = (n_runs, len(group_of_block), BLOCK)
        self.device, self.dtype = device, dtype
        self.padding = torch.zeros(n_runs, ALIGNMENT, device=device, dtype=dtype)
        self.group_of_block = torch.tensor(group_of_block, device=device)
        part_of_block = [self.groups[i].part for i in group_of_block]
        self.blocks_of_part = [part_of_block.count(part) for part in self.parts]  # one part after the other

    def zeros(self) -> Tensor:
        """A new buffer."""
        return torch.zeros(self.shape, device=self.device, dtype=self.dtype)

    def views(self, buffer: Tensor) -> dict[str, Tensor]:
        """Each parameter's place in a buffer, (run, *shape), in the order of `starts`."""
        flat = buffer.view(self.shape[0], -1)
        places = {name: flat[:, start : start + prod(self.shapes[name])] for name, start in self.starts.items()}
        return {name: place.view(-1, *self.shapes[name]) for name, place in places.items()}

    def joined(self, pieces: list[Tensor], buffer: Tensor | None = None) -> Tensor:
        """A buffer of a tensor for each parameter, in the order of `starts`: the inverse of `views`. buffer: one to reuse."""
        buffer = self.zeros() if buffer is None else buffer
        left, n_runs = dict(zip(self.starts, pieces, strict=True)), self.shape[0]
        for group in self.groups:
            # Many small tensors are quicker put in one row, one after the other as they lie.
            if not group.matrix and all(left[name].dtype == buffer.dtype for name in group.names):
                self._put_in_row(buffer, group, [left.pop(name).reshape(n_runs, -1) for name in group.names])
        views = self.views(buffer)
        # Of tensors that are contiguous, and of one type, one launch serves hundreds.
        for dtype in dict.fromkeys(piece.dtype for piece in left.values()):
            own = {name: piece.contiguous() for name, piece in left.items() if piece.dtype == dtype}
            rows = [row for name, piece in own.items() for row in piece.view(n_runs, *self.shapes[name]).unbind(0)]
            torch._foreach_copy_([place for name in own for place in views[name].unbind(0)], rows)
        return buffer

    def _put_in_row(self, buffer: Tensor, group: Group, pieces: list[Tensor]) -> None:
        """pieces: (run, size) of each parameter of a group."""
        parts = [part for piece in pieces for part in (piece, self.padding[:, : -piece.shape[1] % ALIGNMENT])]
        start = self.starts[group.names[0]]
        place = buffer.view(len(buffer), -1)[:, start : start + sum(part.shape[1] for part in parts)]
        torch.cat(parts, dim=1, out=place)

    def rows(self, names: Iterable[str]) -> Tensor:
        """Where parameters lie in a buffer that is seen as rows of ALIGNMENT numbers: the numbers of the rows, (row,), of one
        parameter after the other. Each has rows of its own, the last of which is filled up with zeros.
        """
        firsts = {name: self.starts[name] // ALIGNMENT for name in names}
        ranges = [torch.arange(first, first + rows_of(self.shapes[name])) for name, first in firsts.items()]
        return torch.cat(ranges).to(self.device)

    def by_block(self, values: Tensor) -> Tensor:
        """A value a run and group, (run, group), as one a block that goes with a buffer: (run, block, 1)."""
        return values.index_select(1, self.group_of_block).unsqueeze(2)

    def by_part(self, of_blocks: Tensor) -> Tensor:
        """The sums of a value a block, (..., block), over each part of the model: (..., part)."""
        return torch.stack([own.sum(-1) for own in of_blocks.split(self.blocks_of_part, dim=-1)], dim=-1)


def rows_of(shape: tuple[int, ...]) -> int:
    """Rows of ALIGNMENT numbers that a parameter takes."""
    return -(-prod(shape) // ALIGNMENT)


def part(name: str) -> str:
    """The part of the model that a parameter belongs to, from its qualified name.

    `mixers.<letter>`, `fusion`, `feed_forward`, `embedding` (with positions and head) or `norm`.
    """
    pieces = name.split(".")
    if pieces[0] != "body":
        return "norm" if pieces[0].endswith("norm") else "embedding"
    if "blocks" not in pieces:
        return "fusion"  # of two towers
    own = pieces[pieces.index("blocks") + 2 :]
    return f"mixers.{own[1]}" if own[0] == "mixers" else "norm" if "norm" in own[0] else own[0]


def _matrices(model: nn.Module) -> set[int]:
    weights = {id(m.weight) for m in model.modules() if isinstance(m, (nn.Linear, nn.Embedding, nn.Conv1d))}
    exempt = {
        id(parameter)
        for module in model.modules()
        for prefix in getattr(module, "undecayed", ())
        for name, parameter in module.named_parameters()
        if name.startswith(prefix)
    }
    return weights - exempt
