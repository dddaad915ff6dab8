"""Causal attention."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from gt.errors import ConfigError
from gt.models.init import linear_
from gt.models.linear import Linear, product
from gt.models.mixers.base import Mixer, State
from gt.ops.conv import short_convolution
from gt.ops.fused import attention_kernel
from gt.options import Count, Options, initial
from gt.seeds import Streams

ROPE_BASE = 10_000.0
# The third kind that torch may choose adds its gradients up in any order.
DETERMINISTIC = [SDPBackend.FLASH_ATTENTION, SDPBackend.MATH]


class Attention(Mixer):
    """Causal multi-head attention, with rotary positions or none of its own; `conv` taps of a short convolution before it.

    Formula: y = W_o softmax(q k^T / sqrt(head size)) v
    Source: Vaswani et al. 2017; Radford et al. 2019 (initialisation); Su et al. 2021 (rope)
    Parameters: 65,536 at d_model 128
    """

    name: ClassVar[str] = "attention"
    axes: ClassVar[tuple[str, ...]] = ()
    products: ClassVar[tuple[str, ...]] = ("qkv.", "output.")

    class Config(Options):
        n_head: Count = 4
        rope: bool = Field(False, description="rotary positions")
        bias: bool = False
        scale_residual: bool = initial(True, "the output projection starts at 0.02 / sqrt(2 n_layer), as in GPT-2")
        conv: Count = Field(1, description="taps of a short convolution on queries, keys and values; 1: none")

    def build(self, config: Config) -> None:
        d_model = self.d_model
        if d_model % config.n_head:
            raise ConfigError(f"attention.n_head: {config.n_head} does not divide d_model {d_model}.")
        if config.rope and d_model // config.n_head % 2:
            raise ConfigError(f"attention.rope: a head of {d_model // config.n_head} channels has no pairs to rotate.")
        self.n_head, self.rope = config.n_head, config.rope
        self.output_std = 0.02 / (2 * self.n_layer) ** 0.5 if config.scale_residual else 0.02
        self.qkv = Linear(d_model, 3 * d_model, bias=config.bias)
        # The control for a state-space model's convolution: the same taps on queries, keys and values, starting as identity.
        self.conv = nn.Parameter(torch.empty(3 * d_model, config.conv)) if config.conv > 1 else None
        self.output = Linear(d_model, d_model, bias=config.bias)

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """There is no memory; the context is the keys and values so far (batch, head, past, head size) and the last inputs."""
        y, qkv = None, product(x, self.qkv.weight)
        if state is None and self.conv is None and not self.rope:
            y = attention_kernel(qkv, self.qkv.bias, self.n_head)
        qkv, last = self._convolve(self.qkv.biased(qkv), None if state is None else state.context[2])
        q, k, v = qkv.unflatten(-1, (3, self.n_head, -1)).permute(2, 0, 3, 1, 4)
        past = 0 if state is None else state.context[0].shape[2]
        if self.rope:
            q, k = rotate(q, past), rotate(k, past)
        if state is not None:
            k, v = (torch.cat(both, dim=2) for both in zip(state.context[:2], (k, v), strict=True))
        if y is None:
            mask = None if past == 0 else _causal_mask(x.shape[1], past, x.device)
            with sdpa_kernel(DETERMINISTIC):
                y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=past == 0)
            y = y.transpose(1, 2).flatten(2)
        return self.output(y), State(None, (k, v, last))

    def _convolve(self, qkv: Tensor, last: Tensor | None) -> tuple[Tensor, Tensor]:
        """Each channel over its last taps, and the inputs that the next piece needs."""
        if self.conv is None:
            return qkv, qkv[:, :0]
        mixed, last = short_convolution(qkv, self.conv, None, last)
        return mixed.to(qkv.dtype), last

    def reset_parameters(self, streams: Streams) -> None:
        """N(0, .02); with scale_residual the output projection is divided by sqrt(2 n_layer), as in GPT-2."""
        linear_(self.qkv, 0.02, streams, "qkv")
        linear_(self.output, self.output_std, streams, "output")
        if self.conv is not None:
            with torch.no_grad():
                self.conv.zero_()[:, -1] = 1.0

    def state_size(self, context: int) -> int:
        taps = self.conv.shape[1] - 1 if self.conv is not None else 0
        return 2 * self.d_model * context + 3 * self.d_model * taps

    def flops_per_token(self, context: int) -> int:
        # a token sees half of the context on average: scores and their weighted sum
        return 2 * (self.qkv.weight.numel() + self.output.weight.numel()) + 2 * self.d_model * (context + 1)


def _causal_mask(time: int, past: int, device: torch.device) -> Tensor:
    """(time, past + time), True where a position may look."""
    return torch.ones(time, past + time, dtype=torch.bool, device=device).tril(past)


def rotate(x: Tensor, past: int) -> Tensor:
    """Rotary positions: pairs (i, i + half) of channels turn by position / base^(2 i / size). x: (batch, head, time, size)."""
    half = x.shape[-1] // 2
    frequency = ROPE_BASE ** (-torch.arange(half, dtype=torch.float64, device=x.device) / half)
    angle = torch.outer(torch.arange(past, past + x.shape[2], dtype=torch.float64, device=x.device), frequency)
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)
