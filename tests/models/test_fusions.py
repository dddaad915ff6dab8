"""What each fusion computes, against its formula. What each promises is in gt.conformance."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from gt.catalogue import components
from gt.models.fusions.base import Fusion
from gt.ops.scan import linear_scan, linear_scan_reference
from gt.seeds import Streams

FUSIONS = components("fusion")
# Every fusion as it is, and with each option that makes another function of it.
OPTIONS: dict[str, dict[str, Any]] = {
    "gated-normal": {"gate_weight_init": "normal"},
    "channel_gated-normal": {"gate_weight_init": "normal"},
    "concatenated-bias": {"bias": True},
    "residual_projection-bias": {"bias": True},
    "router-top1": {"choice": "top1"},
    "mingru-tanh": {"candidate": "tanh"},
    "glu-input": {"context": "input"},
    "independent_gates-silu": {"activation": "silu"},
}


def make(case: str, d_model: int = 8, seed: int = 0, **options: Any) -> Fusion:
    name, options = case.split("-")[0], {**OPTIONS.get(case, {}), **options}
    if name == "head_norm" and d_model == 8:
        options.setdefault("head_size", 4)
    fusion: Fusion = FUSIONS[name].load()(d_model, **options)
    fusion.reset_parameters(Streams(seed))
    return fusion.double()


def perturbed(name: str, **options: Any) -> Fusion:
    """A fusion away from its initial values, some of which are zero and would hide what comes before them."""
    fusion = make(name, **options)
    with torch.no_grad():
        for i, parameter in enumerate(fusion.parameters()):
            parameter += 0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(i), dtype=torch.float64)
    return fusion


@pytest.fixture
def branches() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    r, m, x = torch.randn(3, 2, 9, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(5)).unbind()
    return r, m, x


@pytest.mark.parametrize("gate", [0.03, 0.3, 0.5, 0.97])
@pytest.mark.parametrize("name", ["gated", "channel_gated", "weighted"])
def test_a_gate_starts_at_its_initial_value_whatever_the_branches_say(name: str, gate: float, branches: Any) -> None:
    r, m, x = branches
    fused = make(name, gate_init=gate)(100 * r, m, x)
    # Parameters are drawn in float32.
    torch.testing.assert_close(fused.y, gate * 100 * r + (1 - gate) * m, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("name", ["gru", "mingru", "glu", "linear_recurrence", "scan"])
def test_an_arbiter_starts_undecided(name: str, branches: Any) -> None:
    gate = make(name)(*branches).gate
    torch.testing.assert_close(gate, torch.full_like(gate, 0.5), rtol=0, atol=1e-12)


def test_known_formulas_at_initialisation(branches: Any) -> None:
    r, m, x = branches
    close = {"rtol": 1e-6, "atol": 1e-6}
    torch.testing.assert_close(make("gains")(r, m, x).y, 0.7 * r + 0.3 * m, **close)
    torch.testing.assert_close(make("residual")(r, m, x).y, r + 0.3 * m, **close)
    torch.testing.assert_close(make("sum", m_multiplier=0.25)(r, m, x).y, r + 0.25 * m, **close)
    assert torch.equal(make("glu")(r, m, x).y, torch.zeros_like(r))


def rms(x: torch.Tensor, norm: Any) -> torch.Tensor:
    return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * norm.weight


def head_norm(f: Any, r: torch.Tensor, m: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    normed = []
    for i, head in enumerate([*r.split(4, dim=-1), *m.split(4, dim=-1)]):
        centred = head - head.mean(-1, keepdim=True)
        own = slice(4 * i, 4 * i + 4)
        normed.append(centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * f.norm.weight[own] + f.norm.bias[own])
    return torch.cat(normed, dim=-1) @ f.project.weight.T


def linear_recurrence(f: Any, r: torch.Tensor, m: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    both = torch.cat([r, m], dim=-1)
    total, weight, y = torch.zeros_like(both[:, 0]), torch.zeros(2, 1, dtype=r.dtype), torch.zeros_like(r)
    for t in range(r.shape[1]):
        g = (both[:, t] @ f.gate.weight.T + f.gate.bias).sigmoid()
        total, weight = total + g * both[:, t], weight + g
        w = (total / weight @ f.weigh.weight.T + f.weigh.bias).softmax(-1)
        y[:, t] = w[:, :1] * r[:, t] + w[:, 1:] * m[:, t]
    return y


def channel_gated(f: Any, r: torch.Tensor, m: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    g = (r @ f.gate.weight[:, :8].T + m @ f.gate.weight[:, 8:].T + f.gate.bias).sigmoid()
    return g * r + (1 - g) * m


def top1(f: Any, r: torch.Tensor, m: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    p = (x @ f.route.weight.T).softmax(-1)
    return torch.where(p[..., :1] > p[..., 1:], p[..., :1] * r, p[..., 1:] * m)


def router(f: Any, r: torch.Tensor, m: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    p = (x @ f.route.weight.T).softmax(-1)
    return p[..., :1] * r + p[..., 1:] * m


FORMULAS: dict[str, Any] = {
    "gains": lambda f, r, m, x: f.r_gain * r + f.m_gain * m,
    "weighted": lambda f, r, m, x: f.weight * r + (1 - f.weight) * m,
    "residual": lambda f, r, m, x: r + f.scale * m,
    "gated": channel_gated,
    "channel_gated": channel_gated,
    "concatenated": lambda f, r, m, x: r @ f.project.weight[:, :8].T + m @ f.project.weight[:, 8:].T,
    "concatenated-bias": lambda f, r, m, x: r @ f.project.weight[:, :8].T + m @ f.project.weight[:, 8:].T + f.project.bias,
    "residual_projection": lambda f, r, m, x: r + m @ f.project.weight.T,
    "residual_projection-bias": lambda f, r, m, x: r + m @ f.project.weight.T + f.project.bias,
    "normalised_mean": lambda f, r, m, x: (rms(r, f.r_norm) + rms(m, f.m_norm)) / 2 @ f.project.weight.T,
    "head_norm": head_norm,
    "channel_split": lambda f, r, m, x: torch.cat([r[..., :4], m[..., :4]], dim=-1) @ f.project.weight.T,
    "router": router,
    "router-top1": top1,
    "linear_recurrence": linear_recurrence,
}


@torch.no_grad()
@pytest.mark.parametrize("start", [make, perturbed], ids=["at the start", "in training"])
@pytest.mark.parametrize("name", FORMULAS)
def test_a_fusion_is_its_formula(name: str, start: Any, branches: Any) -> None:
    fusion = start(name)
    torch.testing.assert_close(fusion(*branches).y, FORMULAS[name](fusion, *branches), rtol=1e-10, atol=1e-10)


def test_no_fusion_is_without_a_formula_in_these_tests() -> None:
    # `sum` has no parameters (above); the others follow their recurrences or options below.
    assert set(FUSIONS) - set(FORMULAS) == {"sum", "gru", "mingru", "glu", "scan", "independent_gates"}


@pytest.mark.parametrize("time", [1, 2, 7, 64, 100])
def test_the_parallel_scan_is_the_sequential_one(time: int) -> None:
    generator = torch.Generator().manual_seed(time)
    a, b = torch.randn(2, 3, time, 5, dtype=torch.float64, generator=generator).unbind()
    initial = torch.randn(3, 5, dtype=torch.float64, generator=generator)
    torch.testing.assert_close(linear_scan(a, b, initial), linear_scan_reference(a, b, initial), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("candidate", ["positive", "tanh"])
def test_mingru_follows_its_recurrence(candidate: Any, branches: Any) -> None:
    r, m, x = branches
    fusion = perturbed("mingru", candidate=candidate)
    c, z = fusion.project(torch.cat([fusion.r_norm(r), fusion.m_norm(m)], dim=-1)).chunk(2, dim=-1)
    h = torch.zeros(2, 12, dtype=torch.float64)
    for t in range(9):
        new = torch.tanh(c[:, t]) if candidate == "tanh" else torch.where(c[:, t] >= 0, c[:, t] + 0.5, c[:, t].sigmoid())
        h = (1 - z[:, t].sigmoid()) * h + z[:, t].sigmoid() * new
        w = torch.softmax(fusion.weigh(h), dim=-1)
        torch.testing.assert_close(fusion(r, m, x).y[:, t], w[:, :1] * r[:, t] + w[:, 1:] * m[:, t], rtol=1e-9, atol=1e-9)


def test_the_gru_is_the_library_s(branches: Any) -> None:
    r, m, x = branches
    fusion = perturbed("gru")
    gru = torch.nn.GRU(16, 8, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        for name, layer in (("ih", fusion.read), ("hh", fusion.recur)):
            getattr(gru, f"weight_{name}_l0").copy_(layer.weight)
            getattr(gru, f"bias_{name}_l0").copy_(layer.bias)
    h, last = gru(torch.cat([r, m], dim=-1))
    w = fusion.weigh(h).softmax(-1)  # type: ignore[operator]
    fused = fusion(r, m, x)
    torch.testing.assert_close(fused.y, w[..., :1] * r + w[..., 1:] * m, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(fused.state, last[0], rtol=1e-10, atol=1e-10)


def test_the_scan_arbiter_follows_its_recurrence(branches: Any) -> None:
    r, m, x = branches
    fusion = perturbed("scan")
    w, a, b = (
        x @ layer.weight.T + layer.bias  # type: ignore[operator]
        for layer in (fusion.weigh, fusion.forget, fusion.write)
    )
    w = w.softmax(-1)
    weighed = w[..., :1] * rms(r, fusion.r_norm) + w[..., 1:] * rms(m, fusion.m_norm)
    h = torch.zeros(2, 8, dtype=torch.float64)
    for t in range(9):
        h = a[:, t].sigmoid() * h + b[:, t].sigmoid() * weighed[:, t]
        torch.testing.assert_close(fusion(r, m, x).y[:, t], fusion.output(h), rtol=1e-9, atol=1e-9)


def test_glu_and_independent_gates_follow_their_options(branches: Any) -> None:
    r, m, x = branches
    for case in ("glu", "glu-input"):
        glu: Any = perturbed(case)
        nr, nm = rms(r, glu.r_norm), rms(m, glu.m_norm)
        c = x if case == "glu-input" else (nr + nm) / 2
        a = (c @ glu.r_gate.weight.T).sigmoid() * nr + (c @ glu.m_gate.weight.T).sigmoid() * nm
        w = (a @ glu.weigh.weight.T).softmax(-1)
        expected = (w[..., :1] * r + w[..., 1:] * m) @ glu.output.weight.T
        torch.testing.assert_close(glu(r, m, x).y, expected, rtol=1e-10, atol=1e-10)
    for case in ("independent_gates", "independent_gates-silu"):
        pair: Any = perturbed(case)
        gates = [x @ layer.weight.T + layer.bias for layer in (pair.r_gate, pair.m_gate)]
        factors = [(g if case.endswith("silu") else 1.0) * g.sigmoid() for g in gates]
        torch.testing.assert_close(pair(r, m, x).y, pair.output(factors[0] * r + factors[1] * m), rtol=1e-10, atol=1e-10)


def test_a_straight_through_gate_chooses_a_branch_and_learns_as_the_blend_does(branches: Any) -> None:
    r, m, x = branches
    soft, hard = perturbed("gated"), perturbed("gated", straight_through=True)
    first = soft(r, m, x).gate > 0.5
    assert first.any() and not first.all()
    fused = hard(r, m, x)
    assert torch.equal(fused.y, torch.where(first, r, m))
    assert torch.equal(fused.gate, first.to(fused.gate.dtype))
    # The gate's own gradient is the blend's; with y linear in the gate, any linear readout shows it.
    readout = torch.randn(r.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    gradients = [torch.autograd.grad((f(r, m, x).y * readout).sum(), list(f.parameters())) for f in (soft, hard)]
    for of_blend, of_choice in zip(*gradients, strict=True):
        torch.testing.assert_close(of_choice, of_blend, rtol=1e-12, atol=1e-12)
    assert torch.equal(make("gated", gate_init=0.3, straight_through=True)(r, m, x).y, m)
    assert torch.equal(make("gated", gate_init=0.7, straight_through=True)(r, m, x).y, r)
