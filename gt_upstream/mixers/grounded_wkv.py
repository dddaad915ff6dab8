"""The time mixing of GroundThink V0.2 and V3: a selected decay mixed with a fixed one."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from gt.errors import ConfigError
from gt.models.init import constant_, linear_, uniform_
from gt.models.mixers.base import Mixer, State
from gt.models.mixers.state import InitialState, StateNorm, normed_wkv
from gt.ops.conv import short_convolution
from gt.ops.wkv6 import wkv6
from gt.options import Count, CountOrNone, Fraction, Options, initial
from gt.seeds import Streams

TAPS = 4
LOCAL = 0.1  # weight of the convolution beside the input
RETENTION = (0.01, 0.99)  # a token keeps at least and at most this share of the state


class GroundedWKV(Mixer):
    """A matrix state whose retention is part a learned constant, the "grounding", and part selected by the input.

    Formula: w_t = clamp(p exp(-b) + (1 - p) exp(-exp(W_w x_t)), .01, .99), S_t = diag(w_t) S_{t-1} + k_t v_t^T,
        y_t = r_t S_t / sqrt(head size), out = W_o (sigmoid(W_g x_t) * y_t), r_t = sigmoid(W_r x_t), k and v of x + 0.1 conv(x)
    Source: repository archive/layers_v020.py L28-50 and layers_v030.py; V3_RESEARCH_NOTES.md 2.11 to 2.13
    Parameters: 98,944 at d_model 128

    p is `balance`, and b starts at base_decay: 1 in V0.2, 0 in V3. The code differs from its text three times, and this follows
    the text: the code discards the convolved input; it decays by 1 - w, averaged over a head, where w was made as a retention;
    and its gates start as U(.9, 1.1), which makes one gate of them all, the sigmoid of the sum of the input. Its residual
    weight is never used. state_norm (groups; V3 has 4, 0 is none) and initial_state are V3's (gt/models/mixers/state.py).
    """

    name: ClassVar[str] = "grounded_wkv"
    axes: ClassVar[tuple[str, ...]] = ("batch", "head", "key", "value")

    class Config(Options):
        head_size: Count = 64
        balance: Fraction = Field(0.6, description="p, the constant's share of the retention")
        base_decay: float = initial(1.0, "b")
        state_norm: CountOrNone = Field(0, description="groups of a norm on the state after every token; 0: none")
        initial_state: Literal["zero", "learned"] = Field("zero", description="where a sequence starts")

    def build(self, config: Config) -> None:
        d_model = self.d_model
        if d_model % config.head_size:
            raise ConfigError(f"grounded_wkv.head_size: {config.head_size} does not divide d_model {d_model}.")
        self.head_size, self.n_head = config.head_size, d_model // config.head_size
        self.balance, self.initial_decay = config.balance, config.base_decay
        self.conv = nn.Parameter(torch.empty(d_model, TAPS))
        self.receptance = nn.Linear(d_model, d_model, bias=False)
        self.key = nn.Linear(d_model, d_model, bias=False)
        self.value = nn.Linear(d_model, d_model, bias=False)
        self.gate = nn.Linear(d_model, d_model, bias=False)
        self.decay = nn.Linear(d_model, d_model, bias=False)
        self.base_decay = nn.Parameter(torch.empty(d_model))
        self.output = nn.Linear(d_model, d_model, bias=False)
        self.state_norm = StateNorm(config.head_size, config.head_size, config.state_norm) if config.state_norm else None
        self.initial_state = (
            InitialState(self.n_head, config.head_size, config.head_size) if config.initial_state == "learned" else None
        )

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """The memory is S (batch, head, key, value), the context the convolution's last inputs (batch, d_model, taps - 1)."""
        memory, (last,) = state if state is not None else (None, (None,))
        convolved, last = short_convolution(x, self.conv, None, last)
        near = x + LOCAL * convolved.to(x.dtype)
        r, k, v, decay = torch.sigmoid(self.receptance(x)), self.key(near), self.value(near), self.decay(x)
        if memory is None and self.initial_state is not None:
            memory = self.initial_state(x.shape[0])
        with torch.autocast(x.device.type, enabled=False):
            r, k, v, decay = (t.to(self.base_decay.dtype) for t in (r, k, v, decay))
            kept = self.balance * (-self.base_decay).exp() + (1 - self.balance) * (-decay.exp()).exp()
            log_w = kept.clamp(*RETENTION).log()
            r, k, v, log_w = (t.unflatten(-1, (self.n_head, self.head_size)) for t in (r, k, v, log_w))
            y, memory = self._recur(r * self.head_size**-0.5, k, v, log_w, memory)
        return self.output(torch.sigmoid(self.gate(x)) * y.flatten(2)), State(memory, (last,))

    def _recur(self, r: Tensor, k: Tensor, v: Tensor, log_w: Tensor, memory: Tensor | None) -> tuple[Tensor, Tensor]:
        if self.state_norm is not None:
            zero = v.new_zeros(v.shape[0], self.n_head, self.head_size, self.head_size)
            return normed_wkv(r, k, v, log_w, None, zero if memory is None else memory, self.state_norm)
        # The operator reads S_{t-1}: r_t S_t = (r_t * w_t) S_{t-1} + (r_t . k_t) v_t.
        y, memory = wkv6(r * log_w.exp(), k, v, log_w, torch.zeros_like(k[0, 0]), memory)
        return y + (r * k).sum(-1, keepdim=True) * v, memory

    def reset_parameters(self, streams: Streams) -> None:
        """Projections and convolution at torch's default, U(+-1/sqrt(fan in)); decay, gate and output N(0, .02)."""
        uniform_(self.conv, TAPS**-0.5, streams, "conv")
        for name in ("receptance", "key", "value"):
            uniform_(getattr(self, name).weight, self.d_model**-0.5, streams, f"{name}.weight")
        for name in ("gate", "decay", "output"):
            linear_(getattr(self, name), 0.02, streams, name)
        constant_(self.base_decay, self.initial_decay)
        if self.state_norm is not None:
            self.state_norm.reset_parameters()
        if self.initial_state is not None:
            self.initial_state.reset_parameters(streams, "initial_state")

    def state_size(self, context: int) -> int:
        return self.d_model * (TAPS - 1) + self.d_model * self.head_size

    def flops_per_token(self, context: int) -> int:
        matrices = sum(layer.weight.numel() for layer in self.modules() if isinstance(layer, nn.Linear))
        # decay, write and read of a head_size x head_size state for each head
        return 2 * (matrices + self.conv.numel()) + 5 * self.d_model * self.head_size
