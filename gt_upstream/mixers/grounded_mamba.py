"""The two mixers of GroundedMamba: a small state space that is normalised after every token, and a fast-forgetting memory."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from gt.errors import ConfigError
from gt.models.init import constant_, linear_, norm_, normal_, uniform_
from gt.models.mixers.base import Mixer, State
from gt.ops.wkv6 import wkv6
from gt.options import Count, Options
from gt.seeds import Streams

STEP_RANGE = (0.001, 0.1)
LARGEST = 0.99  # norm of the transition's generator


class StableSSM(Mixer):
    """One state vector for all channels, moved by a full matrix a selected step at a time, normalised after every token.

    Formula: h_t = LayerNorm((I + dt_t A) h_{t-1} + W_B x_t), y_t = W_C h_t + D * x_t
    Source: repository archive/FOUNDATION.md and archive/grounded_layers.py (StableStateSSM)
    Parameters: 4,641 at d_model 128

    I + dt A is the first-order form of exp(dt A). A is scaled down to a Frobenius norm of at most 0.99, which bounds the
    spectral norm that the code takes from a singular value decomposition. dt_t = .001 + .099 sigmoid(w . x_t + 1) lies in the
    same range as there, where it is clamped and starts at the bound, without a gradient. The normalisation makes each state
    depend on the one before in a way that no scan can take apart: one position after the other.
    """

    name: ClassVar[str] = "stable_ssm"
    axes: ClassVar[tuple[str, ...]] = ("batch", "state")
    sequential: ClassVar[bool] = True

    class Config(Options):
        d_state: Annotated[int, Field(ge=2, le=10_000_000_000)] = 16  # a norm of one number would leave nothing of it

    def build(self, config: Config) -> None:
        d_model = self.d_model
        self.d_state = config.d_state
        self.A = nn.Parameter(torch.empty(config.d_state, config.d_state))
        self.B_proj = nn.Linear(d_model, config.d_state, bias=False)
        self.dt_proj = nn.Linear(d_model, 1)
        self.C_proj = nn.Linear(config.d_state, d_model, bias=False)
        self.D = nn.Parameter(torch.empty(d_model))
        self.state_norm = nn.LayerNorm(config.d_state)

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """The memory is h (batch, d_state)."""
        low, high = STEP_RANGE
        dt, written = torch.sigmoid(self.dt_proj(x)), self.B_proj(x)
        with torch.autocast(x.device.type, enabled=False):
            dt, written = low + (high - low) * dt.to(self.A.dtype), written.to(self.A.dtype)
            A = self.A * (LARGEST / torch.linalg.matrix_norm(self.A)).clamp(max=1.0)
            h = torch.zeros_like(written[:, 0]) if state is None else state.memory
            states = []
            for dt_t, written_t in zip(dt.unbind(1), written.unbind(1), strict=True):
                h = self.state_norm(h + dt_t * (h @ A.T) + written_t)
                states.append(h)
        return self.C_proj(torch.stack(states, dim=1)) + self.D * x, State(h)

    @torch.no_grad()
    def reset_parameters(self, streams: Streams) -> None:
        """A = -0.1 I + N(0, .01); B and C N(0, .01); D one; the step from a bias of one."""
        normal_(self.A, 0.01, streams, "A")
        self.A.diagonal().sub_(0.1)
        linear_(self.B_proj, 0.01, streams, "B_proj")
        linear_(self.C_proj, 0.01, streams, "C_proj")
        constant_(self.D, 1.0)
        uniform_(self.dt_proj.weight, self.d_model**-0.5, streams, "dt_proj.weight")
        constant_(self.dt_proj.bias, 1.0)
        norm_(self.state_norm)

    def state_size(self, context: int) -> int:
        return self.d_state

    def flops_per_token(self, context: int) -> int:
        matrices = sum(layer.weight.numel() for layer in (self.B_proj, self.C_proj, self.dt_proj))
        return 2 * (matrices + self.A.numel())


class GroundedMemory(Mixer):
    """A matrix state a head with a decay and a write strength a channel that do not depend on the data.

    Formula: S_t = diag(w) S_{t-1} + diag(u) k_t v_t^T, y_t = sigmoid(r_t) S_t, out = W_o y_t
    Source: repository archive/FOUNDATION.md and archive/grounded_layers.py (RWKVGroundedMemory)
    Parameters: 65,792 at d_model 128

    Head h of H starts at w = exp(-5 (h + 1) / H) and u = 1/2: the slowest of four keeps 0.29 of its state a token. w is learned
    through log(-log w), so that it stays a decay. The memory bank that gives the class its name (1024 keys and values, blended
    by 1 % every 100 steps) is never read in the code, and no text says how it would be: it is left out.
    """

    name: ClassVar[str] = "grounded_memory"
    axes: ClassVar[tuple[str, ...]] = ("batch", "head", "key", "value")

    class Config(Options):
        head_size: Count = 32

    def build(self, config: Config) -> None:
        d_model = self.d_model
        if d_model % config.head_size:
            raise ConfigError(f"grounded_memory.head_size: {config.head_size} does not divide d_model {d_model}.")
        self.head_size, self.n_head = config.head_size, d_model // config.head_size
        self.key = nn.Linear(d_model, d_model, bias=False)
        self.value = nn.Linear(d_model, d_model, bias=False)
        self.receptance = nn.Linear(d_model, d_model, bias=False)
        self.time_decay = nn.Parameter(torch.empty(self.n_head, config.head_size))
        self.time_first = nn.Parameter(torch.empty(self.n_head, config.head_size))
        self.output = nn.Linear(d_model, d_model, bias=False)

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """The memory is S (batch, head, key, value)."""
        r, k, v = torch.sigmoid(self.receptance(x)), self.key(x), self.value(x)
        with torch.autocast(x.device.type, enabled=False):
            r, k, v = (t.to(self.time_decay.dtype).unflatten(-1, (self.n_head, self.head_size)) for t in (r, k, v))
            k = self.time_first * k
            log_w = (-self.time_decay.exp()).expand_as(k)
            # The operator reads S_{t-1}: r_t S_t = (r_t * w) S_{t-1} + (r_t . u k_t) v_t.
            memory = None if state is None else state.memory
            y, memory = wkv6(r * log_w.exp(), k, v, log_w, torch.zeros_like(self.time_first), memory)
            y = y + (r * k).sum(-1, keepdim=True) * v
        return self.output(y.flatten(2)), State(memory)

    @torch.no_grad()
    def reset_parameters(self, streams: Streams) -> None:
        """Projections at torch's default, U(+-1/sqrt(fan in))."""
        for name in ("key", "value", "receptance", "output"):
            uniform_(getattr(self, name).weight, self.d_model**-0.5, streams, f"{name}.weight")
        for head, rates in enumerate(self.time_decay):
            constant_(rates, math.log(5 * (head + 1) / self.n_head))
        constant_(self.time_first, 0.5)

    def state_size(self, context: int) -> int:
        return self.d_model * self.head_size

    def flops_per_token(self, context: int) -> int:
        # decay, write and read of a head_size x head_size state for each head
        return 8 * self.d_model**2 + 5 * self.d_model * self.head_size
