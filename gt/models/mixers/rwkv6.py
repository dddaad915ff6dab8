"""RWKV-6, "Finch" (x060)."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from gt.errors import ConfigError
from gt.models.init import constant_, norm_, orthogonal_, uniform_
from gt.models.linear import product
from gt.models.mixers.base import Mixer, State
from gt.models.mixers.state import InitialState, StateNorm, normed_wkv
from gt.ops.fused import norm_kernel, shift_kernel
from gt.ops.spread import over_sequences
from gt.ops.wkv6 import wkv6
from gt.options import Count, CountOrNone, Options, Positive, initial
from gt.seeds import Streams

RETENTION = 0.9999  # a token, of a state that starts as if it forgot nothing
LONGEST = 256  # tokens, the time constant of the top layer under the power law
ORDER = "rwkvg"  # the five mixed inputs, in the order of FLA's packed parameters


class RWKV6(Mixer):
    """Time mixing with a matrix state a head and a decay a channel that depends on the data.

    Formula: y_t = r_t (S_{t-1} + diag(u) k_t v_t^T), S_t = diag(w_t) S_{t-1} + k_t v_t^T, out = W_o (norm(y) * silu(g))
    Source: Peng et al. 2024 (arXiv:2404.05892), section 4; the official x060 layer and its initialisation
    Parameters: 140,544 at d_model 128

    Parameters are named as in FLA 0.6.0's RWKV6Attention with expand_k = 1. init "official" is x060's; "fla" is that
    layer's default, another model at the start: every channel decays by 1/e, there is no static token shift and no bonus (it
    also has norm_eps 1e-5; the official kernel's output is normalised with 1e-5 * 8^2).
    decay_init changes the decays alone: "record" is exp(-exp(-5)) everywhere (a time constant of 148 tokens); "power_law"
    gives all channels of layer l the time constant (l + 1)^p, from 1 at the bottom to 256 at the top (lines 399-421 of
    document 0); "identity" is 0.9999 everywhere (repository V3_RESEARCH_NOTES.md 2.12). key_clamp multiplies keys by
    min(1, -log w): slow channels are written weakly (BlinkDL's k * exp(clamp(w, max=0)), where the decay is exp(-exp(w))).
    state_norm: groups of a norm on the state after every token, 0 for none; initial_state: where a sequence starts
    (gt/models/mixers/state.py).
    """

    name: ClassVar[str] = "rwkv6"
    axes: ClassVar[tuple[str, ...]] = ("batch", "head", "key", "value")
    # The low-rank matrices that make the token shift and the decay; the official optimizer does not decay them either.
    undecayed: ClassVar[tuple[str, ...]] = ("x_proj.", "w_proj.")
    products: ClassVar[tuple[str, ...]] = (
        *("x_proj.0.linear.", "x_proj.2.", "w_proj.linear.lora.0.", "w_proj.linear.lora.2.weight"),
        *(f"{i}_proj." for i in "rkvgo"),
    )

    class Config(Options):
        head_size: Count = 64
        mix_rank: Count = Field(32, description="of the matrices that make the five token shifts")
        decay_rank: Count = Field(64, description="of the matrices that make the decay")
        init: Literal["official", "fla"] = Field("official", description="x060's, or that of FLA 0.6.0's layer")
        norm_eps: Positive = Field(0.00064, description="of the norm of the output, a group a head")
        decay_init: Literal["own", "record", "power_law", "identity"] = initial("own", "the decays alone, over what init does")
        key_clamp: bool = Field(False, description="keys times min(1, -log w): slow channels are written weakly")
        state_norm: CountOrNone = Field(0, description="groups of a norm on the state after every token; 0: none")
        initial_state: Literal["zero", "learned"] = Field("zero", description="where a sequence starts")

    def build(self, config: Config) -> None:
        d_model = self.d_model
        if d_model % config.head_size:
            raise ConfigError(f"rwkv6.head_size: {config.head_size} does not divide d_model {d_model}.")
        self.head_size, self.n_head = config.head_size, d_model // config.head_size
        self.init, self.decay_init, self.key_clamp = config.init, config.decay_init, config.key_clamp
        self.x_proj: Any = nn.Sequential(
            Lerp(d_model, 5 * config.mix_rank), nn.Tanh(), nn.Linear(5 * config.mix_rank, d_model, bias=False)
        )
        self.x_bias = nn.Parameter(torch.empty(5, d_model))
        self.r_proj = Projection(nn.Linear(d_model, d_model, bias=False))
        self.w_proj: Any = Projection(LowRank(d_model, config.decay_rank))
        self.k_proj = Projection(nn.Linear(d_model, d_model, bias=False))
        self.v_proj = Projection(nn.Linear(d_model, d_model, bias=False))
        self.g_proj = Projection(nn.Linear(d_model, d_model, bias=False))
        self.bonus = nn.Parameter(torch.empty(self.n_head, config.head_size))
        self.g_norm: Any = nn.GroupNorm(self.n_head, d_model, eps=config.norm_eps)
        self.o_proj = nn.Linear(d_model, d_model, bias=False)
        self.state_norm = StateNorm(config.head_size, config.head_size, config.state_norm) if config.state_norm else None
        self.initial_state = (
            InitialState(self.n_head, config.head_size, config.head_size) if config.initial_state == "learned" else None
        )

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """As every mixer's; the memory is S (batch, head, key, value), the context the last input (batch, d_model)."""
        memory, (last,) = state if state is not None else (None, (None,))
        rkvg, w = self._mixed(x, last)
        # One batched product instead of four: forward and backward, a small model waits for launches and not for arithmetic.
        weights = torch.stack([p.linear.weight for p in (self.r_proj, self.k_proj, self.v_proj, self.g_proj)])
        r, k, v, g = torch.einsum("fbtc,fdc->fbtd", rkvg, weights)
        log_w = -self.w_proj.linear(w).exp()
        if self.key_clamp:
            k = k * (-log_w).clamp(max=1)

        r, k, v, log_w = (t.unflatten(-1, (self.n_head, self.head_size)) for t in (r, k, v, log_w))
        if memory is None and self.initial_state is not None:
            memory = self.initial_state(x.shape[0])
        with torch.autocast(x.device.type, enabled=False):
            y, memory = self._recur(r, k, v, log_w, memory)
        return product(self._gated(y.flatten(2), g), self.o_proj.weight), State(memory, (x[:, -1],))

    def _mixed(self, x: Tensor, last: Tensor | None) -> tuple[Tensor, Tensor]:
        """The inputs of r, k, v and g, (4, batch, time, d_model), and that of the decay: x mixed with the one before."""
        first = self.x_proj[0]
        if last is None and (shifted := shift_kernel(x, None, first.mu.unsqueeze(0))) is not None:
            mixed = shift_kernel(x, self._shifts(first.linear(shifted[1])), self.x_bias, last=ORDER.index("w"))
            assert mixed is not None
            return mixed
        before = torch.cat([torch.zeros_like(x[:, :1]) if last is None else last.unsqueeze(1), x[:, :-1]], dim=1)
        delta = before - x
        of = dict(zip(ORDER, x + delta * (self._shifts(first(x, delta)) + self.x_bias[:, None, None]), strict=True))
        return torch.stack([of[i] for i in "rkvg"]), of["w"]

    def _shifts(self, low: Tensor) -> Tensor:
        """What the data adds to the five shifts, (5, batch, time, d_model), of W_1 x, (batch, time, 5 * rank)."""
        low = torch.tanh(low).unflatten(-1, (5, -1)).movedim(2, 0)
        matrices = self.x_proj[2].weight.unflatten(-1, (5, -1)).movedim(1, 0)  # (5, d_model, rank)
        return (low.flatten(1, 2) @ matrices.transpose(1, 2)).unflatten(1, low.shape[1:3])

    def _gated(self, y: Tensor, g: Tensor) -> Tensor:
        """The norm of each head's output, gated. y, g: (batch, time, d_model)."""
        own: Any = self.g_norm
        normed = norm_kernel(y, own.weight, own.bias, own.eps, self.n_head, centred=True, gate=g)
        if normed is not None:
            return normed
        with torch.autocast(y.device.type, enabled=False):
            flat = own(y.to(self.bonus.dtype).flatten(0, 1)).view(y.shape)
        return flat * F.silu(g)

    def _recur(self, r: Tensor, k: Tensor, v: Tensor, log_w: Tensor, memory: Tensor | None) -> tuple[Tensor, Tensor]:
        if self.state_norm is None:
            return wkv6(r, k, v, log_w, self.bonus, memory)
        r, k, v = (t.to(self.bonus.dtype) for t in (r, k, v))
        zero = self.bonus.new_zeros(r.shape[0], self.n_head, self.head_size, self.head_size)
        return normed_wkv(r, k, v, log_w, self.bonus, zero if memory is None else memory, self.state_norm)

    def reset_parameters(self, streams: Streams) -> None:
        """As `init` says, and then the decays as `decay_init` does."""
        if self.init == "official":
            self._reset_official(streams)
        else:
            self._reset_fla(streams)
        if self.decay_init == "record":
            constant_(self.w_proj.linear.lora[2].bias, -5.0)
        elif self.decay_init == "power_law":
            power = math.log(LONGEST) / math.log(self.n_layer) if self.n_layer > 1 else 0.0
            constant_(self.w_proj.linear.lora[2].bias, -power * math.log(self.layer + 1))
        elif self.decay_init == "identity":
            constant_(self.w_proj.linear.lora[2].bias, math.log(-math.log(RETENTION)))
        if self.state_norm is not None:
            self.state_norm.reset_parameters()
        if self.initial_state is not None:
            self.initial_state.reset_parameters(streams, "initial_state")

    @torch.no_grad()
    def _reset_official(self, streams: Streams) -> None:
        """x060: ramps over channels and depth for shifts and decays, orthogonal projections, a zero output projection."""
        depth = self.layer / max(1, self.n_layer - 1)  # 0 at the bottom, 1 at the top
        shallow = 1 - self.layer / self.n_layer  # 1 at the bottom, towards 0
        channel = torch.arange(self.d_model, dtype=torch.float64) / self.d_model
        ramp = torch.arange(self.d_model, dtype=torch.float64) / max(1, self.d_model - 1)
        zigzag = (torch.arange(1, self.d_model + 1) % 3 - 1) * 0.1

        self.x_proj[0].mu.copy_(1 - channel**shallow)
        constant_(self.x_proj[0].linear.weight, 0.0)
        uniform_(self.x_proj[2].weight, 0.01, streams, "x_proj.2.weight")
        shifts = {
            "r": 1 - channel ** (0.5 * shallow),
            "w": 1 - channel**shallow,
            "k": 1 - channel**shallow,
            "v": 1 - (channel**shallow + 0.3 * depth),
            "g": 1 - channel ** (0.5 * shallow),
        }
        self.x_bias.copy_(torch.stack([shifts[i] for i in ORDER]))
        low_rank = self.w_proj.linear.lora
        constant_(low_rank[0].weight, 0.0)
        uniform_(low_rank[2].weight, 0.01, streams, "w_proj.linear.lora.2.weight")
        low_rank[2].bias.copy_(-6 + 5 * ramp ** (0.7 + 1.3 * depth))
        self.bonus.copy_((depth * (1 - ramp) + zigzag).view_as(self.bonus))
        for name, gain in (("r", 1.0), ("k", 0.1), ("v", 1.0), ("g", 0.1)):
            orthogonal_(getattr(self, f"{name}_proj").linear.weight, gain, streams, f"{name}_proj.linear.weight")
        constant_(self.g_norm.weight, ((1 + self.layer) / self.n_layer) ** 0.7)
        constant_(self.g_norm.bias, 0.0)
        constant_(self.o_proj.weight, 0.0)

    @torch.no_grad()
    def _reset_fla(self, streams: Streams) -> None:
        """FLA 0.6.0: Xavier-uniform projections with gain 2^-2.5, everything else zero but the decay's second matrix."""
        for name, layer in self.named_modules():
            if isinstance(layer, nn.Linear) and "lora" not in name:
                bound = 2**-2.5 * (6 / sum(layer.weight.shape)) ** 0.5
                uniform_(layer.weight, bound, streams, f"{name}.weight")
        constant_(self.x_proj[0].mu, 0.0)
        constant_(self.x_bias, 0.0)
        constant_(self.bonus, 0.0)
        low_rank = self.w_proj.linear.lora
        constant_(low_rank[0].weight, 0.0)
        rows, columns = low_rank[2].weight.shape
        gain = 0.1 * max(1.0, (columns / rows) ** 0.5)
        orthogonal_(low_rank[2].weight, gain, streams, "w_proj.linear.lora.2.weight")
        constant_(low_rank[2].bias, 0.0)
        norm_(self.g_norm)

    def state_size(self, context: int) -> int:
        return self.d_model + self.d_model * self.head_size

    def flops_per_token(self, context: int) -> int:
        matrices = sum(layer.weight.numel() for layer in self.modules() if isinstance(layer, nn.Linear))
        # decay, write, bonus and read of a head_size x head_size state for each of n_head heads
        return 2 * matrices + 6 * self.d_model * self.head_size


class Lerp(nn.Module):
    """W (x + mu * delta), delta = shifted x - x: the first of the two token shifts."""

    def __init__(self, d_in: int, d_out: int) -> None:
        super().__init__()
        self.linear = nn.Linear(d_in, d_out, bias=False)
        self.mu = nn.Parameter(torch.empty(d_in))

    def forward(self, x: Tensor, delta: Tensor) -> Tensor:
        """x, delta: (batch, time, d_in) -> (batch, time, d_out)."""
        return self.linear(x + self.mu * delta)


class Projection(nn.Module):
    """A name around a projection, as FLA has it."""

    def __init__(self, linear: nn.Module) -> None:
        super().__init__()
        self.linear: Any = linear


class LowRank(nn.Module):
    """b + W_2 tanh(W_1 x)."""

    def __init__(self, width: int, rank: int) -> None:
        super().__init__()
        self.lora: Any = nn.Sequential(nn.Linear(width, rank, bias=False), nn.Tanh(), nn.Linear(rank, width))

    def forward(self, x: Tensor) -> Tensor:
        """x: (batch, time, width) -> the same shape, in the dtype of the bias."""
        low, bias = torch.tanh(self.lora[0](x)), self.lora[2].bias
        y = F.linear(low, self.lora[2].weight).to(bias.dtype)  # products in the precision of activations; sums not
        return y + over_sequences(bias, x)
