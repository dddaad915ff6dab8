"""IntelligentHybridSSM: a matrix state whose decay is a rate a channel times a selected step."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gt.errors import ConfigError
from gt.models.init import constant_, linear_, uniform_
from gt.models.mixers.base import Mixer, State
from gt.ops.wkv6 import wkv6
from gt.options import Count, Options
from gt.seeds import Streams

DECAY_RANGE = (0.1, 3.0)  # of the first head and the last


class IntelligentHybrid(Mixer):
    """RWKV's matrix state with Mamba's selection of how far it decays, read by the keys that write it.

    Formula: S_t = diag(exp(-a * D_t)) S_{t-1} + b_t k_t v_t^T, y_t = k_t S_t + u * k_t * v_t,
        out = W_o (sigmoid(r_t) * sigmoid(g_t) * y_t), D_t = softplus(W_2 W_1 x_t + c), b_t = mean(W_B x_t)
    Source: repository archive/intelligent_hybrid.py
    Parameters: 92,544 at d_model 128

    a is learned as its logarithm, so that no decay turns into growth; the code learns a itself. Its heads start at rates from
    0.1 to 3.0 in equal steps and c at 1.0, so that they forget by 1/e in 8 tokens to a quarter of one. The code also makes a
    vector C that it never uses; it is left out. The b_t is the mean of d_state numbers, as there.
    """

    name: ClassVar[str] = "intelligent_hybrid"
    axes: ClassVar[tuple[str, ...]] = ("batch", "head", "key", "value")

    class Config(Options):
        head_size: Count = 64
        d_state: Count = 16
        dt_rank: Count = 32

    def build(self, config: Config) -> None:
        d_model = self.d_model
        if d_model % config.head_size:
            raise ConfigError(f"intelligent_hybrid.head_size: {config.head_size} does not divide d_model {d_model}.")
        self.head_size, self.n_head, self.dt_rank = config.head_size, d_model // config.head_size, config.dt_rank
        self.selection = nn.Linear(d_model, config.dt_rank + config.d_state, bias=False)
        self.dt_proj = nn.Linear(config.dt_rank, d_model)
        self.key = nn.Linear(d_model, d_model, bias=False)
        self.value = nn.Linear(d_model, d_model, bias=False)
        self.receptance = nn.Linear(d_model, d_model, bias=False)
        self.gate = nn.Linear(d_model, d_model, bias=False)
        self.log_decay = nn.Parameter(torch.empty(self.n_head, config.head_size))
        self.bonus = nn.Parameter(torch.empty(self.n_head, config.head_size))
        self.output = nn.Linear(d_model, d_model, bias=False)

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """The memory is S (batch, head, key, value)."""
        selected = self.selection(x)
        strength = selected[..., self.dt_rank :].mean(-1)[..., None, None]
        k, v, dt = (
            t.unflatten(-1, (self.n_head, self.head_size))
            for t in (self.key(x), self.value(x), self.dt_proj(selected[..., : self.dt_rank]))
        )
        with torch.autocast(x.device.type, enabled=False):
            k, v, dt, strength = (t.to(self.bonus.dtype) for t in (k, v, dt, strength))
            log_w = -self.log_decay.exp() * F.softplus(dt)
            # The operator reads S_{t-1}: k_t S_t = (k_t * w_t) S_{t-1} + b_t (k_t . k_t) v_t.
            memory = None if state is None else state.memory
            y, memory = wkv6(k * log_w.exp(), strength * k, v, log_w, torch.zeros_like(self.bonus), memory)
            y = y + strength * k.square().sum(-1, keepdim=True) * v + self.bonus * k * v
        return self.output(torch.sigmoid(self.receptance(x)) * torch.sigmoid(self.gate(x)) * y.flatten(2)), State(memory)

    @torch.no_grad()
    def reset_parameters(self, streams: Streams) -> None:
        """Projections at torch's default, U(+-1/sqrt(fan in)); bonus U(+-0.1); the output N(0, .02)."""
        for name in ("selection", "dt_proj", "key", "value", "receptance", "gate"):
            weight = getattr(self, name).weight
            uniform_(weight, weight.shape[1] ** -0.5, streams, f"{name}.weight")
        constant_(self.dt_proj.bias, 1.0)
        low, high = DECAY_RANGE
        for head, rates in enumerate(self.log_decay):
            constant_(rates, math.log(low + (high - low) * head / max(1, self.n_head - 1)))
        uniform_(self.bonus, 0.1, streams, "bonus")
        linear_(self.output, 0.02, streams, "output")

    def state_size(self, context: int) -> int:
        return self.d_model * self.head_size

    def flops_per_token(self, context: int) -> int:
        matrices = sum(layer.weight.numel() for layer in self.modules() if isinstance(layer, nn.Linear))
        # decay, write and read of a head_size x head_size state for each head
        return 2 * matrices + 5 * self.d_model * self.head_size
