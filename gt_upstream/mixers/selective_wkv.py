"""Selective WKV: RWKV-6's matrix state under Mamba's selection, as an equation and as the code that came with it."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from gt.errors import ConfigError
from gt.models.init import constant_, norm_, uniform_
from gt.models.mixers.base import Mixer, State
from gt.models.mixers.mamba2 import DT_RANGE
from gt.ops.conv import short_convolution
from gt.ops.selective import selective
from gt.ops.wkv6 import wkv6
from gt.options import Count, CountOrNone, Options, initial
from gt.seeds import Streams

# "Medium decay", "a sliding window memory" (lines 402-406 of document 0), has no number there. This one is the geometric middle
# of one token and the training context of 256: a channel starts out forgetting by 1/e in 16 tokens (0.939 a token; half of
# RWKV-6's channels have 0.947 or more in its bottom layer).
MEDIUM_WINDOW = 16


class SelectiveWKV(Mixer):
    """A matrix state a head whose decay and write strength depend on the data through one step size.

    Formula: S_t = diag(exp(-D_t * w_t)) S_{t-1} + (D_t * B_t) x_t^T, y_t = C_t S_t, out = W_o (sigmoid(r_t) * norm(y_t)),
        D_t = softplus(W_D n_t + b), w_t = w_base * sigmoid(W_w n_t)
    Source: document 0: lines 88-135 (equations), 149-157 and 328-337 (block), 358-421 (sizes, initial values); flaw F-29
    Parameters: 142,336 at d_model 128

    The text leaves open, and this reads:
    - What decays: RWKV-6's key index (`diag(exp(-w)) S`, L472-475). D_t and w_t are vectors of d_state for each head, B_t
      and C_t vectors of d_state that all heads share, as in its code; x_t is head_size values for each head.
    - What reads: C_t. "Updated using Mamba's D and C" (L155); the sigmoid receptance is the output gate. The later equation
      that reads with k (L497) is not followed, and neither is its bonus u: a token sees itself through S_t.
    - Order: L149-157 puts the projection before the convolution (kernel 2), L328-337 after it (kernel 4). Here: one projection
      for r, x, B, C, D and w (L388), x expanded 2 or 4 times (L332; the tiers have heads * 64 = d_model, which is `expand` 1),
      the depthwise convolution over all but r, recurrence, GroupNorm, gate. No nonlinearity is named, so there is none.
    - d_state: 16 and 32 in the tiers, 64 in the code. 32 gives, at expand 2, as large a state as RWKV-6 has.
    - "Medium" D bias: D_t * w_t = 1/16 at the bottom layer, a memory of 16 tokens. delta_init "mamba" draws
      softplus(b) log-uniformly from [1e-3, 0.1], "zero" is b = 0 (2.9 tokens).
    - "Power law across layers": w_base = 1 / (layer + 1), so that memory grows in proportion to depth, 16 tokens to 128 in
      8 layers. "constant" is 1 in all layers.
    - "Near-zero" output projection: zero.
    """

    name: ClassVar[str] = "selective_wkv"
    axes: ClassVar[tuple[str, ...]] = ("batch", "head", "key", "value")

    class Config(Options):
        d_state: Count = 32
        head_size: Count = 64
        expand: Literal[1, 2, 4] = Field(2, description="inner channels over d_model")
        conv: Literal[2, 4] = Field(4, description="taps of the convolution")
        delta_init: Literal["medium", "mamba", "zero"] = initial("medium", "the step sizes' start")
        base_decay: Literal["constant", "power_law"] = initial("power_law", "w_base over the layers, before training")

    def build(self, config: Config) -> None:
        d_model = self.d_model
        self.d_inner, self.d_state, self.head_size = config.expand * d_model, config.d_state, config.head_size
        if self.d_inner % config.head_size:
            raise ConfigError(f"selective_wkv.head_size: {config.head_size} does not divide expand * d_model = {self.d_inner}.")
        self.n_head, self.delta_init, self.base_decay = self.d_inner // config.head_size, config.delta_init, config.base_decay
        selection = self.n_head * config.d_state
        self.sizes = [self.d_inner, config.d_state, config.d_state, selection, selection]  # x, B, C, delta, w
        self.input = nn.Linear(d_model, self.d_inner + sum(self.sizes), bias=False)
        self.conv = ShortConvolution(sum(self.sizes), config.conv)
        self.delta_bias = nn.Parameter(torch.empty(self.n_head, config.d_state))
        self.log_base = nn.Parameter(torch.empty(self.n_head, config.d_state))
        self.norm: nn.Module = nn.GroupNorm(self.n_head, self.d_inner)
        self.output = nn.Linear(self.d_inner, d_model, bias=False)

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        memory, (last,) = state if state is not None else (None, (None,))
        r, channels = self.input(x).split([self.d_inner, sum(self.sizes)], dim=-1)
        channels, last = self.conv(channels, last)
        with torch.autocast(x.device.type, enabled=False):
            inner, B, C, delta, w = channels.to(self.log_base.dtype).split(self.sizes, dim=-1)
            inner, delta, w = (t.unflatten(-1, (self.n_head, -1)) for t in (inner, delta, w))
            delta = nn.functional.softplus(delta + self.delta_bias)
            log_w = -delta * self.log_base.exp() * torch.sigmoid(w)
            written, read = delta * B.unsqueeze(2), C.unsqueeze(2)
            # The operator reads S_{t-1}: C_t S_t = (C_t * w_t) S_{t-1} + (C_t . D_t B_t) x_t.
            no_bonus = torch.zeros_like(self.log_base)
            y, memory = wkv6(read * log_w.exp(), written, inner, log_w, no_bonus, memory)
            y = y + (read * written).sum(-1, keepdim=True) * inner
            y = self.norm(y.flatten(2).flatten(0, 1)).view(*x.shape[:2], -1)
        return self.output(torch.sigmoid(r) * y), State(memory, (last,))

    @torch.no_grad()
    def reset_parameters(self, streams: Streams) -> None:
        """The input projection and the convolution are torch's default, U(+-1/sqrt(fan in))."""
        uniform_(self.input.weight, self.d_model**-0.5, streams, "input.weight")
        self.conv.reset_parameters(streams.scope("conv"))
        constant_(self.log_base, -math.log(self.layer + 1) if self.base_decay == "power_law" else 0.0)
        # sigmoid(w) is 1/2 before training, and the bottom layer's w_base 1
        _delta_bias_(self.delta_bias, self.delta_init, 2 / MEDIUM_WINDOW, streams, "delta_bias")
        norm_(self.norm)
        constant_(self.output.weight, 0.0)

    def state_size(self, context: int) -> int:
        return self.conv.state_size() + self.d_inner * self.d_state

    def flops_per_token(self, context: int) -> int:
        matrices = self.input.weight.numel() + self.output.weight.numel() + self.conv.conv1d.weight.numel()
        # decay, write, the token's own part and read of a d_state x head_size state for each head
        return 2 * matrices + 6 * self.d_inner * self.d_state


class SelectiveWKVReference(Mixer):
    """The reference code that came with selective WKV, another function than its equation.

    Formula: S_t = diag(w_t) S_{t-1} + k_t B_t^T, w_t = exp(-softplus(W_2 W_1 n_t + b)), out = sigmoid(r_t) * (S_t C_t) * v_t
    Source: lines 205-259 of document 0; flaw F-29
    Parameters: 82,048 at d_model 128

    Against the equation: v multiplies what is read instead of being written; the step size sets the decay but not the
    strength of a write; there is no w_base; the decay belongs to the channel of k that is read out and not to the index
    that C sums over; no convolution, norm or output projection. conv, norm_group and project add these three (a convolution
    before all projections, L328-337; GroupNorm over groups of that many channels, 0 for none, before the gate; W_o).

    delta_init "medium" is a memory of 16 tokens in all layers, as for `selective_wkv`; "torch" is the bias that the code
    would have, U(+-1/sqrt(d_state)): it forgets half at each token. Matrices have torch's default, W_o starts at zero.
    """

    name: ClassVar[str] = "selective_wkv_reference"
    axes: ClassVar[tuple[str, ...]] = ("batch", "channel", "state")

    class Config(Options):
        d_state: Count = 64
        conv: Literal[0, 2, 4] = Field(0, description="taps of a convolution before all projections; 0: none")
        norm_group: CountOrNone = Field(0, description="channels of a group of a norm before the gate; 0: none")
        project: bool = Field(False, description="an output projection")
        delta_init: Literal["medium", "mamba", "zero", "torch"] = initial("medium", "the step sizes' start")

    def build(self, config: Config) -> None:
        d_model = self.d_model
        if config.norm_group and d_model % config.norm_group:
            raise ConfigError(f"selective_wkv_reference.norm_group: {config.norm_group} does not divide d_model {d_model}.")
        self.d_state, self.delta_init = config.d_state, config.delta_init
        self.conv = ShortConvolution(d_model, config.conv) if config.conv else None
        self.x_proj = nn.Linear(d_model, 3 * config.d_state, bias=False)
        self.dt_proj = nn.Linear(config.d_state, d_model, bias=False)
        self.delta_bias = nn.Parameter(torch.empty(d_model))
        self.key = nn.Linear(d_model, d_model, bias=False)
        self.receptance = nn.Linear(d_model, d_model, bias=False)
        # Without W_o, the values are the last factor of the output: zero there makes the layer an identity at the start.
        self.value = nn.Linear(d_model, d_model, bias=False)
        self.norm: Any = nn.GroupNorm(d_model // config.norm_group, d_model) if config.norm_group else None
        self.output = nn.Linear(d_model, d_model, bias=False) if config.project else None

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        memory, (last,) = state if state is not None else (None, (x.new_zeros(x.shape[0], self.d_model, 0),))
        if self.conv is not None:
            x, last = self.conv(x, last if state is not None else None)
        dt, B, C = self.x_proj(x).split(self.d_state, dim=-1)
        k, v, r, dt = self.key(x), self.value(x), torch.sigmoid(self.receptance(x)), self.dt_proj(dt)
        with torch.autocast(x.device.type, enabled=False):
            dtype = self.delta_bias.dtype
            log_w = -nn.functional.softplus(dt.to(dtype) + self.delta_bias)
            y, memory = selective(k.to(dtype), log_w, B, C, memory)
            y = y * v.to(dtype)
            if self.norm is not None:
                y = self.norm(y.flatten(0, 1)).view(x.shape)
        y = r * y
        return self.output(y) if self.output is not None else y, State(memory, (last,))

    @torch.no_grad()
    def reset_parameters(self, streams: Streams) -> None:
        for name in ("x_proj", "dt_proj", "key", "receptance", "value"):
            weight = getattr(self, name).weight
            uniform_(weight, weight.shape[1] ** -0.5, streams, f"{name}.weight")
        if self.delta_init == "torch":
            uniform_(self.delta_bias, self.d_state**-0.5, streams, "delta_bias")
        else:
            _delta_bias_(self.delta_bias, self.delta_init, 1 / MEDIUM_WINDOW, streams, "delta_bias")
        if self.conv is not None:
            self.conv.reset_parameters(streams.scope("conv"))
        if self.norm is not None:
            norm_(self.norm)
        if self.output is not None:
            constant_(self.output.weight, 0.0)

    def state_size(self, context: int) -> int:
        return (self.conv.state_size() if self.conv is not None else 0) + self.d_model * self.d_state

    def flops_per_token(self, context: int) -> int:
        layers = [self.x_proj, self.dt_proj, self.key, self.receptance, self.value, self.output]
        matrices = sum(layer.weight.numel() for layer in layers if layer is not None)
        matrices += self.conv.conv1d.weight.numel() if self.conv is not None else 0
        # decay, write and read of a d_model x d_state state
        return 2 * matrices + 5 * self.d_model * self.d_state


class ShortConvolution(nn.Module):
    """y_t = sum over i < size of a_i * x_{t-i}, a channel at a time."""

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.channels, self.size = channels, size
        self.conv1d: Any = nn.Conv1d(channels, channels, size, groups=channels, bias=False)

    def forward(self, x: Tensor, last: Tensor | None) -> tuple[Tensor, Tensor]:
        """x: (batch, time, channel); last: the size - 1 inputs before x (batch, channel, size - 1), or None at the start."""
        return short_convolution(x, self.conv1d.weight.squeeze(1), None, last)

    def reset_parameters(self, streams: Streams) -> None:
        uniform_(self.conv1d.weight, self.size**-0.5, streams, "conv1d.weight")

    def state_size(self) -> int:
        return self.channels * (self.size - 1)


@torch.no_grad()
def _delta_bias_(bias: Tensor, init: str, medium: float, streams: Streams, name: str) -> None:
    """softplus(bias) = medium; or log-uniform in Mamba's range; or bias = 0."""
    if init == "zero":
        constant_(bias, 0.0)
    elif init == "medium":
        constant_(bias, math.log(math.expm1(medium)))
    else:
        low, high = map(math.log, DT_RANGE)
        delta = (low + (high - low) * torch.rand(bias.shape, generator=streams.generator(name))).exp()
        bias.copy_(delta + torch.log(-torch.expm1(-delta)))
