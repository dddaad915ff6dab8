"""A branch that adds its own input to what a mixer makes of it, as the earlier repository's RWKV branch did, for any mixer."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from gt.models.init import linear_, norm_
from gt.models.mixers.base import Mixer
from gt.seeds import Streams


class Wrapped(nn.Module):
    """A mixer inside a branch that adds its own input, and with `identity_ffn` a squared-ReLU feed-forward layer too.

    residual:      y = x + mixer(x)
    identity:      y = x + mixer(LN(x))
    identity_ffn:  h = x + mixer(LN(x)),  y = h + W_2 relu(W_1 LN(h))^2

    x is the block's normalised input, so the branch carries it to the fusion whatever the mixer does (flaw F-02).
    """

    def __init__(self, mixer: nn.Module, d_model: int, kind: str) -> None:
        super().__init__()
        self.mixer: Any = mixer
        self.kind = kind
        self.mixer_norm = nn.LayerNorm(d_model) if kind != "residual" else None
        self.up: nn.Linear | None = None
        if kind == "identity_ffn":
            self.feed_forward_norm = nn.LayerNorm(d_model)
            self.up = nn.Linear(d_model, 4 * d_model, bias=False)
            self.down = nn.Linear(4 * d_model, d_model, bias=False)

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """As a mixer's: (batch, time, d_model) -> (y of the same shape, the mixer's state)."""
        y, state = self.mixer(x if self.mixer_norm is None else self.mixer_norm(x), state)
        x = x + y
        if self.up is not None:
            x = x + self.down(F.relu(self.up(self.feed_forward_norm(x))).square())
        return x, state

    def reset_parameters(self, streams: Streams) -> None:
        """The mixer keeps the streams it has without a wrap; the matrices here are N(0, .02)."""
        self.mixer.reset_parameters(streams)
        if self.mixer_norm is not None:
            norm_(self.mixer_norm)
        if self.up is not None:
            norm_(self.feed_forward_norm)
            linear_(self.up, 0.02, streams, "wrap.up")
            linear_(self.down, 0.02, streams, "wrap.down")

    @property
    def computation(self) -> Hashable:
        """As a component's."""
        return Wrapped, self.kind, self.mixer.computation

    def state_size(self, context: int) -> int:
        """The mixer's, in floats."""
        size: int = self.mixer.state_size(context)
        return size

    def flops_per_token(self, context: int) -> int:
        """The mixer's and those of the feed-forward layer; a multiply-add counts 2."""
        own = self.up.weight.numel() + self.down.weight.numel() if self.up is not None else 0
        flops: int = self.mixer.flops_per_token(context)
        return flops + 2 * own


def unwrapped(module: nn.Module) -> Mixer:
    """The mixer itself."""
    mixer: Mixer = module.mixer if isinstance(module, Wrapped) else module  # type: ignore[assignment]
    return mixer
