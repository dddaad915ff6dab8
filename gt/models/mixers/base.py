"""What every mixer is."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

from torch import Tensor

from gt.models.component import Component


class State(NamedTuple):
    """What a mixer carries from one token to the next; each tensor begins with the dimension of the batch.

    memory: what it has made of all that came before, of one size however much that was; its dimensions are the mixer's `axes`.
    None where nothing is compressed, as in attention.

    context: inputs that it keeps as they were: a shifted token, a convolution's window, a cache.
    """

    memory: Any  # a Tensor, a tuple of them, or None
    context: tuple[Tensor, ...] = ()


class Mixer(Component):
    """Mixes positions causally.

    A subclass gives `name`, `axes`, a docstring with `Formula:` and `Source:`, a nested `Config` of its options, `build`, which
    makes its modules and parameters, and `forward`. What it does not say otherwise is as in `gt.models.component`: how its
    parameters start, and counts of its state and its operations.

    axes: the names of its memory's dimensions; none of a mixer without a memory. undecayed: prefixes of parameters' names that
    get no weight decay although they are matrices. sequential: it goes position by position, which a compiler would unroll.
    """

    axes: ClassVar[tuple[str, ...]]
    sequential: ClassVar[bool] = False
    undecayed: ClassVar[tuple[str, ...]] = ()

    def __init__(self, d_model: int, layer: int, n_layer: int, **options: Any) -> None:
        super().__init__(d_model, layer, n_layer, options)

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """x: (batch, time, d_model) -> (y of the same shape, state). state: None, or what the previous piece returned."""
        raise NotImplementedError

    def state_size(self, context: int) -> int:
        """Floats that a sequence carries from one token to the next, after `context` tokens."""
        return self.counted(context)[0]

    def flops_per_token(self, context: int) -> int:
        """Forward floating-point operations a token, averaged over a sequence of `context`; a multiply-add counts 2."""
        return self.counted(context)[1]
