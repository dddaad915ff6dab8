"""What the earlier repository ran under the names RWKV-6 and, in its phase 0, Mamba-2."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gt.errors import ConfigError
from gt.models.init import constant_, orthogonal_, uniform_
from gt.models.mixers.base import Mixer, State
from gt.ops.scan import linear_scan
from gt.ops.ssd import ssd
from gt.ops.wkv6 import wkv6
from gt.options import Count, Options
from gt.seeds import Streams

INITIAL_DECAY = -5.0  # exp(-exp(-5)) = 0.99328: each channel remembers for 148 tokens
EPSILON = 1e-6
KEY_BOUNDS: dict[str, tuple[float | None, float]] = {"prototype_head": (None, 30.0), "time_mix": (-10.0, 10.0)}


class StandInRWKV6(Mixer):
    """The four functions that stood in for RWKV-6: one fixed decay a channel, no token shift, no gate, no norm.

    Formula: out = W_o (sigmoid(r_t) * y_t), w = exp(-exp(time_decay)), y_t by `form`
    Source: repository ops/rwkv6_cuda_wrapper.py, ops/rwkv6_prototype.py, rwkv6_prototype.py at d690408; flaws F-01 to F-03
    Parameters: 65,792 at d_model 128

    cuda             y_t = r_t (S_{t-1} + diag(u) k_t v_t^T), S_t = diag(w) S_{t-1} + k_t v_t^T: a matrix state a head. r acts
                     twice, raw on the keys and as sigmoid(r) on the values; u = time_first starts at zero, so that a
                     token does not see itself. All training on a GPU.
    prototype_jan10  y_t = s_t, s_t = w s_{t-1} + exp(k_t) v_t, but y_0 = s_0 + exp(u) v_0: one number a channel, unbounded.
                     The "states" of its diagnostics.
    prototype_head   y_t = n_t / (d_t + 1e-6), n_t = w n_{t-1} + e_t v_t, d_t = w d_{t-1} + e_t, e_t = exp(min(k_t, 30)), but
                     e_0 = exp(u + min(k_0, 30)): a weighted mean a channel. The fallback without a kernel.
    time_mix         the same with k_t held in [-10, 10]. The pure RWKV model of its phase 0.

    A sequence that goes on from a state has had its token 0. The wrap around the first three (LayerNorm, identity,
    feed-forward layer) is `ModelSpec.wraps`. Initial projections are each class's own: torch's default for `cuda`, orthogonal
    for the prototypes, Xavier-uniform with gain 0.5 for `time_mix`; its models overwrote them with `init.blanket`.
    The kernel rounded r, k, v, w and u to bfloat16; here they keep the precision that they come in.
    """

    name: ClassVar[str] = "rwkv6_record"
    axes: ClassVar[tuple[str, ...]] = ("batch", "head", "key", "value")  # of the form cuda

    class Config(Options):
        form: Literal["cuda", "prototype_jan10", "prototype_head", "time_mix"] = "cuda"
        head_size: Count = 32

    def build(self, config: Config) -> None:
        d_model = self.d_model
        if d_model % config.head_size:
            raise ConfigError(f"rwkv6_record.head_size: {config.head_size} does not divide d_model {d_model}.")
        if config.form != "cuda":
            self.axes = ("batch", "channel")  # type: ignore[misc]
        self.form, self.head_size, self.n_head = config.form, config.head_size, d_model // config.head_size
        self.time_decay = nn.Parameter(torch.empty(self.n_head, config.head_size))
        self.time_first = nn.Parameter(torch.empty(self.n_head, config.head_size))
        self.key = nn.Linear(d_model, d_model, bias=False)
        self.value = nn.Linear(d_model, d_model, bias=False)
        self.receptance = nn.Linear(d_model, d_model, bias=False)
        self.output = nn.Linear(d_model, d_model, bias=False)

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """The memory is S (batch, head, key, value) | s (batch, d_model) | n and d (each batch, d_model), by form."""
        r, k, v = self.receptance(x), self.key(x), self.value(x)
        memory: Any = None if state is None else state.memory
        with torch.autocast(x.device.type, enabled=False):
            r, k, v = (t.to(self.time_decay.dtype) for t in (r, k, v))
            match self.form:
                case "cuda":
                    y, memory = self._matrix(r, k, v, memory)
                case "prototype_jan10":
                    y, memory = self._sum(k, v, memory)
                case _:
                    y, memory = self._mean(k, v, memory)
            y = torch.sigmoid(r) * y
        return self.output(y), State(memory)

    def _matrix(self, r: Tensor, k: Tensor, v: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        r, k, v = (t.unflatten(-1, (self.n_head, self.head_size)) for t in (r, k, v))
        y, state = wkv6(r, k, v, (-self.time_decay.exp()).expand_as(k), self.time_first, state)
        return y.flatten(2), state

    def _sum(self, k: Tensor, v: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        sums = self._accumulate(k.exp() * v, torch.zeros_like(v[:, 0]) if state is None else state)
        if state is not None:
            return sums, sums[:, -1]
        bonus = self.time_first.flatten().exp() * v[:, :1]
        return torch.cat([sums[:, :1] + bonus, sums[:, 1:]], dim=1), sums[:, -1]

    def _mean(self, k: Tensor, v: Tensor, state: tuple[Tensor, Tensor] | None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        weight = k.clamp(*KEY_BOUNDS[self.form]).exp()
        if state is None:
            weight = torch.cat([self.time_first.flatten().exp() * weight[:, :1], weight[:, 1:]], dim=1)
            state = (torch.zeros_like(v[:, 0]), torch.zeros_like(v[:, 0]))
        numerator = self._accumulate(weight * v, state[0])
        denominator = self._accumulate(weight, state[1])
        return numerator / (denominator + EPSILON), (numerator[:, -1], denominator[:, -1])

    def _accumulate(self, written: Tensor, initial: Tensor) -> Tensor:
        """s_t = w s_{t-1} + written_t, (batch, time, d_model)."""
        decay = (-self.time_decay.exp()).exp().flatten()
        return linear_scan(decay.expand(1, written.shape[1], -1), written, initial)

    def reset_parameters(self, streams: Streams) -> None:
        """time_decay -5 and time_first 0 in every channel; the projections as `form` had them."""
        constant_(self.time_decay, INITIAL_DECAY)
        constant_(self.time_first, 0.0)
        for name in ("key", "value", "receptance", "output"):
            weight = getattr(self, name).weight
            match self.form:
                case "cuda":
                    uniform_(weight, self.d_model**-0.5, streams, f"{name}.weight")
                case "time_mix":
                    uniform_(weight, 0.5 * (6 / (2 * self.d_model)) ** 0.5, streams, f"{name}.weight")
                case _:
                    orthogonal_(weight, 1.0, streams, f"{name}.weight")

    def state_size(self, context: int) -> int:
        numbers = {"cuda": self.head_size, "prototype_jan10": 1}  # a channel
        return self.d_model * numbers.get(self.form, 2)

    def flops_per_token(self, context: int) -> int:
        # cuda: decay, write, bonus and read of a head_size x head_size state for each of n_head heads
        operations = {"cuda": 6 * self.head_size, "prototype_jan10": 3}
        return 8 * self.d_model**2 + self.d_model * operations.get(self.form, 6)


class StandInMamba2(Mixer):
    """The layer that stood in for Mamba-2 in phase 0: its recurrence, without convolution, skip and norm.

    Formula: h_t = exp(dt_t A) h_{t-1} + dt_t x_t B_t^T, out = W_o (h_t C_t * silu(z_t)), dt_t = softplus(W_dt x_t + b)
    Source: repository ops/mamba2_prototype.py L87-162 (Mamba2TimeMix); notebooks/task_0_0_2
    Parameters: 82,440 at d_model 128

    B and C are of each head; d_state is 32 in the notebook. Heads start at rates A from -1 to -16 in equal steps and at
    dt = softplus(0), so that the slowest forgets by 1/e in a token and a half.
    """

    name: ClassVar[str] = "mamba2_record"
    axes: ClassVar[tuple[str, ...]] = ("batch", "head", "value", "key")

    class Config(Options):
        n_head: Count = 4
        d_state: Count = 32

    def build(self, config: Config) -> None:
        d_model = self.d_model
        if d_model % config.n_head:
            raise ConfigError(f"mamba2_record.n_head: {config.n_head} does not divide d_model {d_model}.")
        self.n_head, self.d_state = config.n_head, config.d_state
        self.in_proj = nn.Linear(d_model, 2 * d_model, bias=False)
        self.dt_proj = nn.Linear(d_model, config.n_head)
        self.B_proj = nn.Linear(d_model, config.n_head * config.d_state, bias=False)
        self.C_proj = nn.Linear(d_model, config.n_head * config.d_state, bias=False)
        self.A_log = nn.Parameter(torch.empty(config.n_head))
        self.out_proj = nn.Linear(d_model, d_model, bias=False)

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """The memory is h (batch, head, headdim, d_state)."""
        inner, z = self.in_proj(x).chunk(2, dim=-1)
        dt, B, C = self.dt_proj(x), self.B_proj(x), self.C_proj(x)
        with torch.autocast(x.device.type, enabled=False):
            inner, dt, B, C = (t.to(self.A_log.dtype) for t in (inner, dt, B, C))
            inner, B, C = (t.unflatten(-1, (self.n_head, -1)) for t in (inner, B, C))
            memory = None if state is None else state.memory
            y, memory = ssd(inner, F.softplus(dt), -self.A_log.exp(), B, C, None, memory)
        return self.out_proj(y.flatten(2) * F.silu(z)), State(memory)

    @torch.no_grad()
    def reset_parameters(self, streams: Streams) -> None:
        """in_proj and out_proj Xavier-uniform with gain 0.5, the others at torch's default, U(+-1/sqrt(fan in))."""
        for name in ("in_proj", "out_proj"):
            weight = getattr(self, name).weight
            uniform_(weight, 0.5 * (6 / sum(weight.shape)) ** 0.5, streams, f"{name}.weight")
        for name in ("dt_proj", "B_proj", "C_proj"):
            uniform_(getattr(self, name).weight, self.d_model**-0.5, streams, f"{name}.weight")
        constant_(self.dt_proj.bias, 0.0)
        self.A_log.copy_(torch.linspace(1, 16, self.n_head).log())

    def state_size(self, context: int) -> int:
        return self.d_model * self.d_state

    def flops_per_token(self, context: int) -> int:
        matrices = sum(layer.weight.numel() for layer in self.modules() if isinstance(layer, nn.Linear))
        # decay, write and read of a headdim x d_state state for each head
        return 2 * matrices + 5 * self.d_model * self.d_state
