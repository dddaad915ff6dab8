"""Arbiters: fusions with a network of their own that weighs the branches, most of them over time."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from gt.errors import ConfigError
from gt.models.fusions.base import Fused, Fusion, blend
from gt.models.init import constant_, linear_, norm_, normal_, uniform_
from gt.ops.scan import linear_scan
from gt.options import Options, Positive
from gt.seeds import Streams


def weigh(logits: Tensor, r: Tensor, m: Tensor, state: Any = None) -> Fused:
    """y = w_0 r + w_1 m with w = softmax(logits), logits (batch, time, 2)."""
    gate = torch.softmax(logits, dim=-1)[..., :1]
    return Fused(blend(r, m, gate), gate, state)


def at_least_float32(x: Tensor) -> Tensor:
    """What is summed over many positions is summed in float32 also under bfloat16 autocast."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class GRUArbiter(Fusion):
    """A GRU over the sequence of both branches' outputs.

    Formula: h_t = (1 - z) n + z h_{t-1}, z = s(U_z [r; m; h_{t-1}]), q = s(U_q [r; m; h_{t-1}]),
        n = tanh(U_n [r; m] + q * V_n h_{t-1}), w = softmax(W h_t), y = w_0 r + w_1 m
    Source: Cho et al. 2014 (arXiv:1406.1078); repository ops/arbiter_gru.py; V0.5_ROADMAP.md L57-63
    Parameters: 148,482 at d_model 128
    """

    name: ClassVar[str] = "gru"
    sequential: ClassVar[bool] = True

    def build(self, config: Options) -> None:
        d_model = self.d_model
        # Of the reset gate, the update gate and the candidate, in this order; a GRU of the library cannot be mapped over runs.
        self.read = nn.Linear(2 * d_model, 3 * d_model)
        self.recur = nn.Linear(d_model, 3 * d_model)
        self.weigh = nn.Linear(d_model, 2)

    def forward(self, r: Tensor, m: Tensor, x: Tensor, state: Tensor | None = None) -> Fused:
        read = at_least_float32(self.read(torch.cat([r, m], dim=-1)))
        h = read.new_zeros(r.shape[0], self.d_model) if state is None else state
        states = []
        for read_t in read.unbind(1):
            (reset, update, new), (h_reset, h_update, h_new) = read_t.chunk(3, dim=-1), self.recur(h).chunk(3, dim=-1)
            z = torch.sigmoid(update + h_update)
            h = torch.lerp(torch.tanh(new + torch.sigmoid(reset + h_reset) * h_new), h, z)
            states.append(h)
        return weigh(self.weigh(torch.stack(states, dim=1)), r, m, h)

    def reset_parameters(self, streams: Streams) -> None:
        """The GRU U(+-1/sqrt(d)) as torch's default; the weights start at one half."""
        for name, parameter in self.named_parameters():
            uniform_(parameter, self.d_model**-0.5, streams, name)
        constant_(self.weigh.weight, 0.0)
        constant_(self.weigh.bias, 0.0)

    def state_size(self) -> int:
        return self.d_model


class MinGRUArbiter(Fusion):
    """A minimal GRU, whose gates do not see the state, so that all positions are computed at once.

    Formula: (c, z) = W [rms(r); rms(m)], h_t = (1 - s(z_t)) h_{t-1} + s(z_t) g(c_t), w = softmax(W_w h_t), y = w_0 r + w_1 m
    Source: Feng et al. 2024 (arXiv:2410.01201), equations of minGRU; repository notebooks/task_0_1b
    Parameters: 98,944 at d_model 128

    candidate "positive": g(c) = c + 1/2 for c >= 0, sigmoid(c) below; "tanh": the sequential form of task 0.4.
    """

    name: ClassVar[str] = "mingru"

    class Config(Options):
        expansion: Positive = Field(1.5, description="hidden channels over d_model")
        candidate: Literal["positive", "tanh"] = "positive"

    def build(self, config: Config) -> None:
        d_model = self.d_model
        self.hidden = int(config.expansion * d_model)
        if self.hidden < 1:
            raise ConfigError(f"mingru.expansion: {config.expansion} leaves no hidden channel at d_model {d_model}.")
        self.candidate = config.candidate
        self.r_norm = nn.RMSNorm(d_model, eps=1e-6)
        self.m_norm = nn.RMSNorm(d_model, eps=1e-6)
        self.project = nn.Linear(2 * d_model, 2 * self.hidden, bias=False)
        self.weigh = nn.Linear(self.hidden, 2, bias=False)

    def forward(self, r: Tensor, m: Tensor, x: Tensor, state: Tensor | None = None) -> Fused:
        projected = at_least_float32(self.project(torch.cat([self.r_norm(r), self.m_norm(m)], dim=-1)))
        candidate, z = projected.chunk(2, dim=-1)
        if self.candidate == "tanh":
            new = torch.tanh(candidate)
        else:
            new = torch.where(candidate >= 0, candidate + 0.5, torch.sigmoid(candidate))
        update = torch.sigmoid(z)
        initial = state if state is not None else new.new_zeros(r.shape[0], self.hidden)
        h = linear_scan(1 - update, update * new, initial)
        return weigh(self.weigh(h), r, m, h[:, -1])

    def reset_parameters(self, streams: Streams) -> None:
        norm_(self.r_norm)
        norm_(self.m_norm)
        normal_(self.project.weight, (2 * self.d_model) ** -0.5, streams, "project.weight")
        constant_(self.weigh.weight, 0.0)

    def state_size(self) -> int:
        return self.hidden


class GLUArbiter(Fusion):
    """A gated linear unit over the mean of the normalised branches; no memory.

    Formula: c = (rms(r) + rms(m)) / 2, a = s(W_r c) * rms(r) + s(W_m c) * rms(m), w = softmax(W_w a), y = W_o (w_0 r + w_1 m)
    Source: repository notebooks/task_0_1_v1, cell 5
    Parameters: 49,664 at d_model 128

    context "input": c is the block's input x.
    """

    name: ClassVar[str] = "glu"

    class Config(Options):
        context: Literal["branches", "input"] = "branches"

    def build(self, config: Config) -> None:
        d_model = self.d_model
        self.context = config.context
        self.r_norm = nn.RMSNorm(d_model, eps=1e-6)
        self.m_norm = nn.RMSNorm(d_model, eps=1e-6)
        self.r_gate = nn.Linear(d_model, d_model, bias=False)
        self.m_gate = nn.Linear(d_model, d_model, bias=False)
        self.weigh = nn.Linear(d_model, 2, bias=False)
        self.output = nn.Linear(d_model, d_model, bias=False)

    def forward(self, r: Tensor, m: Tensor, x: Tensor, state: None = None) -> Fused:
        nr, nm = self.r_norm(r), self.m_norm(m)
        context = (nr + nm) / 2 if self.context == "branches" else x
        a = torch.sigmoid(self.r_gate(context)) * nr + torch.sigmoid(self.m_gate(context)) * nm
        fused = weigh(self.weigh(a), r, m)
        return fused._replace(y=self.output(fused.y))

    def reset_parameters(self, streams: Streams) -> None:
        """Gates N(0, .02); the weights and the output projection start at zero, so the block starts as its residual."""
        norm_(self.r_norm)
        norm_(self.m_norm)
        linear_(self.r_gate, 0.02, streams, "r_gate")
        linear_(self.m_gate, 0.02, streams, "m_gate")
        constant_(self.weigh.weight, 0.0)
        constant_(self.output.weight, 0.0)


class LinearRecurrenceArbiter(Fusion):
    """A gated running mean of both branches' outputs.

    Formula: x = [r; m], g = s(w_g . x), c_t = sum_{s<=t} g_s x_s / sum_{s<=t} g_s, w = softmax(W c_t), y = w_0 r + w_1 m
    Source: repository notebooks/task_0_4, cells 5 and 18
    Parameters: 771 at d_model 128
    """

    name: ClassVar[str] = "linear_recurrence"

    def build(self, config: Options) -> None:
        d_model = self.d_model
        self.gate = nn.Linear(2 * d_model, 1)
        self.weigh = nn.Linear(2 * d_model, 2)

    def forward(self, r: Tensor, m: Tensor, x: Tensor, state: tuple[Tensor, Tensor] | None = None) -> Fused:
        both = at_least_float32(torch.cat([r, m], dim=-1))
        g = torch.sigmoid(at_least_float32(self.gate(both)))
        total, weight = (g * both).cumsum(1), g.cumsum(1)
        if state is not None:
            total, weight = total + state[0], weight + state[1]
        return weigh(self.weigh(total / weight), r, m, (total[:, -1:], weight[:, -1:]))

    def reset_parameters(self, streams: Streams) -> None:
        linear_(self.gate, 0.02, streams, "gate")
        constant_(self.weigh.weight, 0.0)
        constant_(self.weigh.bias, 0.0)

    def state_size(self) -> int:
        return 2 * self.d_model + 1


class ScanArbiter(Fusion):
    """Weighs the normalised branches and lets a gated recurrence carry what it has weighed over time.

    Formula: h_t = s(W_a x_t) * h_{t-1} + s(W_b x_t) * (w_0 rms(r_t) + w_1 rms(m_t)), w = softmax(W_w x_t), y = W_o h_t
    Source: repository docs/groundthink_pytorch_implementation.md L75-168 (ParallelScanArbiter)
    Parameters: 50,050 at d_model 128

    The only arbiter whose output, and not just its weights, remembers. The code divides by products of its forget gates, which
    underflow after some dozen tokens; here the scan multiplies only.
    """

    name: ClassVar[str] = "scan"

    def build(self, config: Options) -> None:
        d_model = self.d_model
        self.r_norm = nn.RMSNorm(d_model, eps=1e-6)
        self.m_norm = nn.RMSNorm(d_model, eps=1e-6)
        self.forget = nn.Linear(d_model, d_model)
        self.write = nn.Linear(d_model, d_model)
        self.weigh = nn.Linear(d_model, 2)
        self.output = nn.Linear(d_model, d_model)

    def forward(self, r: Tensor, m: Tensor, x: Tensor, state: Tensor | None = None) -> Fused:
        weighed = weigh(self.weigh(x), self.r_norm(r), self.m_norm(m))
        forget, write, y = (at_least_float32(t) for t in (self.forget(x), self.write(x), weighed.y))
        initial = y.new_zeros(y.shape[0], self.d_model) if state is None else state
        h = linear_scan(torch.sigmoid(forget), torch.sigmoid(write) * y, initial)
        return Fused(self.output(h.to(r.dtype)), weighed.gate, h[:, -1])

    def reset_parameters(self, streams: Streams) -> None:
        """The source leaves torch's defaults; here as the other arbiters: matrices N(0, .02), even weights, biases zero."""
        norm_(self.r_norm)
        norm_(self.m_norm)
        for name in ("forget", "write", "output"):
            linear_(getattr(self, name), 0.02, streams, name)
        linear_(self.weigh, 0.0, streams, "weigh")

    def state_size(self) -> int:
        return self.d_model


class IndependentGates(Fusion):
    """A gate of its own for each branch and channel, from the block's input; they need not sum to one.

    Formula: y = W_o (s(W_r x) * r + s(W_m x) * m)
    Source: repository docs/groundthink_arbiter_research.md L36-70 (ParallelFusionArbiter); with normalised branches
        (branch_norm rms) and silu for s, docs/groundthink_pytorch_implementation.md L26-73
    Parameters: 49,536 at d_model 128
    """

    name: ClassVar[str] = "independent_gates"

    class Config(Options):
        activation: Literal["sigmoid", "silu"] = "sigmoid"

    def build(self, config: Config) -> None:
        d_model = self.d_model
        self.activation = torch.sigmoid if config.activation == "sigmoid" else F.silu
        self.r_gate = nn.Linear(d_model, d_model)
        self.m_gate = nn.Linear(d_model, d_model)
        self.output = nn.Linear(d_model, d_model)

    def forward(self, r: Tensor, m: Tensor, x: Tensor, state: None = None) -> Fused:
        y = self.activation(self.r_gate(x)) * r + self.activation(self.m_gate(x)) * m
        return Fused(self.output(y), None)

    def reset_parameters(self, streams: Streams) -> None:
        linear_(self.r_gate, 0.02, streams, "r_gate")
        linear_(self.m_gate, 0.02, streams, "m_gate")
        linear_(self.output, 0.02, streams, "output")
