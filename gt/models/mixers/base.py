"""What every mixer is."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from gt.seeds import Streams


class Mixer(nn.Module):
    """Mixes positions causally.

    A subclass gives `name`, a docstring with `Formula:` and `Source:`, keyword-only options with plain annotations and
    defaults, and the methods below. `undecayed` lists prefixes of parameter names that get no weight decay although they
    are matrices; `sequential`: it goes position by position, which a compiler would unroll; `memory`: which part of a state
    that is a tuple is the recurrence's, where the others keep inputs of a convolution or token shift.
    """

    name: ClassVar[str]
    sequential: ClassVar[bool] = False
    memory: ClassVar[int] = -1
    undecayed: ClassVar[tuple[str, ...]] = ()

    def __init__(self, d_model: int, layer: int, n_layer: int) -> None:
        super().__init__()
        self.d_model, self.layer, self.n_layer = d_model, layer, n_layer

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """x: (batch, time, d_model) -> (y of the same shape, state). state: None, or what the previous piece returned."""
        raise NotImplementedError

    def reset_parameters(self, streams: Streams) -> None:
        """Set every parameter, each from its own stream."""
        raise NotImplementedError

    def state_size(self, context: int) -> int:
        """Floats that a sequence carries from one token to the next, after `context` tokens."""
        raise NotImplementedError

    def flops_per_token(self, context: int) -> int:
        """Forward floating-point operations a token, averaged over a sequence of `context`; a multiply-add counts 2."""
        raise NotImplementedError
