"""Mamba-2."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from gt.errors import ConfigError
from gt.models.init import constant_, normal_, uniform_
from gt.models.linear import product
from gt.models.mixers.base import Mixer, State
from gt.models.mixers.state import InitialState, StateNorm, normed_wkv
from gt.ops.conv import silu_of_short_convolution
from gt.ops.fused import aligned, norm_kernel
from gt.ops.spread import over_sequences
from gt.ops.ssd import ssd
from gt.options import Count, CountOrNone, Options, initial
from gt.seeds import Streams

DT_RANGE = (1e-3, 0.1)
DT_FLOOR = 1e-4
A_RANGE = (1.0, 16.0)
RETENTION = 0.9999  # a token, of a state that starts as if it forgot nothing


class Mamba2(Mixer):
    """A selective state-space model with a scalar decay a head, after a short convolution.

    Formula: h_t = exp(dt_t A) h_{t-1} + dt_t x_t B_t^T, y_t = h_t C_t + D x_t, out = W_o RMSNorm(y * silu(z))
    Source: Dao and Gu 2024 (arXiv:2405.21060), section 7; the layer of mamba_ssm
    Parameters: 134,412 at d_model 128

    Parameters are named as in mamba_ssm and FLA >= 0.5. init: "native" is mamba_ssm's (in_proj and conv1d at torch's
    default), "fla" has N(0, .02) there, "normal02" also in out_proj. dt_init "medium" starts every head at dt = 0.01, the
    geometric middle of the range that "log_uniform" draws from (line 399 of document 0). decay_init "identity" sets A so that
    every head keeps 0.9999 of its state a token (repository V3_RESEARCH_NOTES.md 2.12). state_norm: groups of a norm on the
    state after every token, 0 for none; initial_state: where a sequence starts (gt/models/mixers/state.py).
    """

    name: ClassVar[str] = "mamba2"
    axes: ClassVar[tuple[str, ...]] = ("batch", "head", "value", "key")
    products: ClassVar[tuple[str, ...]] = ("in_proj.", "out_proj.")

    class Config(Options):
        d_state: Count = Field(128, description="numbers of state for each channel of a head")
        d_conv: Count = Field(4, description="taps of the convolution")
        expand: Count = Field(2, description="inner channels over d_model")
        head_dim: Count = 64
        n_groups: Count = Field(1, description="heads of one group share B and C")
        init: Literal["native", "fla", "normal02"] = Field(
            "native", description="of the matrices: mamba_ssm's, FLA's, or N(0, .02)"
        )
        dt_init: Literal["log_uniform", "medium"] = initial("log_uniform", "step sizes from [.001, .1], or all at .01")
        decay_init: Literal["own", "identity"] = initial("own", "identity: every head keeps 0.9999 of its state a token")
        state_norm: CountOrNone = Field(0, description="groups of a norm on the state after every token; 0: none")
        initial_state: Literal["zero", "learned"] = Field("zero", description="where a sequence starts")

    def build(self, config: Config) -> None:
        d_model = self.d_model
        self.d_inner, self.d_state, self.d_conv = config.expand * d_model, config.d_state, config.d_conv
        self.head_dim, self.n_groups = config.head_dim, config.n_groups
        self.init, self.dt_init, self.decay_init = config.init, config.dt_init, config.decay_init
        if self.d_inner % config.head_dim:
            raise ConfigError(f"mamba2.head_dim: {config.head_dim} does not divide expand * d_model = {self.d_inner}.")
        self.n_head = self.d_inner // config.head_dim
        if self.n_head % config.n_groups:
            raise ConfigError(f"mamba2.n_groups: {config.n_groups} does not divide the number of heads, {self.n_head}.")
        self.conv_channels = self.d_inner + 2 * config.n_groups * config.d_state
        self.in_proj = nn.Linear(d_model, self.d_inner + self.conv_channels + self.n_head, bias=False)
        self.conv1d: Any = nn.Conv1d(self.conv_channels, self.conv_channels, config.d_conv, groups=self.conv_channels)
        self.dt_bias = nn.Parameter(torch.empty(self.n_head))
        self.A_log = nn.Parameter(torch.empty(self.n_head))
        self.D = nn.Parameter(torch.empty(self.n_head))
        self.norm = GroupedRMSNorm(self.d_inner, config.n_groups)
        self.out_proj = nn.Linear(self.d_inner, d_model, bias=False)
        self.state_norm = StateNorm(config.d_state, config.head_dim, config.state_norm) if config.state_norm else None
        self.initial_state = (
            InitialState(self.n_head, config.head_dim, config.d_state) if config.initial_state == "learned" else None
        )

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """The memory is h (batch, head, head_dim, d_state), the context the last inputs (batch, channel, d_conv - 1)."""
        sizes = [self.d_inner, self.conv_channels, self.n_head]
        z, channels, dt = product(x, aligned(self.in_proj.weight))[..., : sum(sizes)].split(sizes, dim=-1)
        memory, (last,) = state if state is not None else (None, (None,))
        channels, last = silu_of_short_convolution(channels, self.conv1d.weight.squeeze(1), self.conv1d.bias, last)
        inner, B, C = channels.split([self.d_inner, *[self.n_groups * self.d_state] * 2], dim=-1)
        if memory is None and self.initial_state is not None:
            memory = self.initial_state(x.shape[0])
        with torch.autocast(x.device.type, enabled=False):
            dt = F.softplus(
                dt.to(self.dt_bias.dtype) + over_sequences(self.dt_bias, dt)
            )  # float32: activations alone are rounded
            y, memory = self._recur(
                inner.unflatten(-1, (self.n_head, self.head_dim)),
                dt,
                B.unflatten(-1, (self.n_groups, self.d_state)),
                C.unflatten(-1, (self.n_groups, self.d_state)),
                memory,
            )
        y = self.norm(y.flatten(2), z)
        return product(y, self.out_proj.weight), State(memory, (last,))

    def _recur(self, x: Tensor, dt: Tensor, B: Tensor, C: Tensor, memory: Tensor | None) -> tuple[Tensor, Tensor]:
        A = -self.A_log.exp()
        if self.state_norm is None:
            return ssd(x, dt, A, B, C, self.D, memory)
        # The same recurrence with B as keys, dt x as values and C as queries; its state is h transposed.
        x, B, C = (t.to(dt.dtype) for t in (x, B, C))
        B, C = (t.repeat_interleave(self.n_head // self.n_groups, dim=2) for t in (B, C))
        h = x.new_zeros(x.shape[0], self.n_head, self.head_dim, self.d_state) if memory is None else memory
        log_decay = (dt * A).unsqueeze(-1).expand_as(B)
        y, h = normed_wkv(C, B, dt.unsqueeze(-1) * x, log_decay, None, h.transpose(-1, -2), self.state_norm)
        return y + self.D[:, None] * x, h.transpose(-1, -2)

    @torch.no_grad()
    def reset_parameters(self, streams: Streams) -> None:
        """Matrices as `init` says, step sizes and decays as dt_init and decay_init; D one."""
        if self.init == "native":
            uniform_(self.in_proj.weight, self.d_model**-0.5, streams, "in_proj.weight")
            uniform_(self.conv1d.weight, self.d_conv**-0.5, streams, "conv1d.weight")
            uniform_(self.conv1d.bias, self.d_conv**-0.5, streams, "conv1d.bias")
        else:
            normal_(self.in_proj.weight, 0.02, streams, "in_proj.weight")
            normal_(self.conv1d.weight, 0.02, streams, "conv1d.weight")
            constant_(self.conv1d.bias, 0.0)
        if self.init == "normal02":
            normal_(self.out_proj.weight, 0.02, streams, "out_proj.weight")
        else:
            uniform_(self.out_proj.weight, (self.d_inner * self.n_layer) ** -0.5, streams, "out_proj.weight")
        low, high = map(math.log, DT_RANGE)
        position = torch.rand(self.n_head, generator=streams.generator("dt_bias"))
        if self.dt_init == "medium":
            position.fill_(0.5)
        dt = (low + (high - low) * position).exp().clamp(min=DT_FLOOR)
        self.dt_bias.copy_(dt + torch.log(-torch.expm1(-dt)))  # softplus(dt_bias) = dt
        a = A_RANGE[0] + (A_RANGE[1] - A_RANGE[0]) * torch.rand(self.n_head, generator=streams.generator("A_log"))
        if self.decay_init == "identity":
            a = -math.log(RETENTION) / dt
        self.A_log.copy_(a.log())
        constant_(self.D, 1.0)
        constant_(self.norm.weight, 1.0)
        if self.state_norm is not None:
            self.state_norm.reset_parameters()
        if self.initial_state is not None:
            self.initial_state.reset_parameters(streams, "initial_state")

    def state_size(self, context: int) -> int:
        return self.conv_channels * (self.d_conv - 1) + self.d_inner * self.d_state

    def flops_per_token(self, context: int) -> int:
        matrices = self.in_proj.weight.numel() + self.out_proj.weight.numel() + self.conv1d.weight.numel()
        # decay, write and read of a headdim x d_state state for each head
        return 2 * matrices + 5 * self.d_inner * self.d_state


class GroupedRMSNorm(nn.Module):
    """RMSNorm over each of n_groups equal groups of channels, eps 1e-5, of what a gate has let through."""

    def __init__(self, width: int, n_groups: int) -> None:
        super().__init__()
        self.n_groups = n_groups
        self.weight = nn.Parameter(torch.empty(width))

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """x, z: (..., width) -> the norm of x silu(z), the same shape."""
        y = norm_kernel(x, self.weight, None, 1e-5, self.n_groups, gate=z, gate_place="first")
        if y is not None:
            return y
        with torch.autocast(x.device.type, enabled=False):
            gated = (x * F.silu(z.to(self.weight.dtype))).unflatten(-1, (self.n_groups, -1))
            return F.rms_norm(gated, gated.shape[-1:], eps=1e-5).flatten(-2) * self.weight
