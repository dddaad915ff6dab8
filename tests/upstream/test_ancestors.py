"""Mixers of the earlier repository's past, and its phase 0's Mamba-2: each against a loop over its equations."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from models.test_mixers import build, noise, perturb
from torch import Tensor

from gt.catalogue import components
from gt.errors import ConfigError
from gt.seeds import Streams


def full_size(name: str, **options: Any) -> Any:
    mixer = components("mixer")[name].load()(128, 0, 8, **options)
    mixer.reset_parameters(Streams(0))
    return mixer


def heads(mixer: Any) -> list[slice]:
    return [slice(h * mixer.head_size, (h + 1) * mixer.head_size) for h in range(mixer.n_head)]


def softplus(x: Tensor) -> Tensor:
    return torch.log1p(x.exp())


def intelligent_hybrid(mixer: Any, x: Tensor) -> Tensor:
    """S = exp(-a D) S + b k v^T; y = k S + u k v."""
    y = torch.zeros_like(x)
    k, v, r, g = (x @ p.weight.T for p in (mixer.key, mixer.value, mixer.receptance, mixer.gate))
    for h, own in enumerate(heads(mixer)):
        S = torch.zeros(mixer.head_size, mixer.head_size, dtype=x.dtype)
        for t in range(len(x)):
            low = mixer.selection.weight[: mixer.dt_rank] @ x[t]
            step = softplus(mixer.dt_proj.weight @ low + mixer.dt_proj.bias)[own]
            b = (mixer.selection.weight[mixer.dt_rank :] @ x[t]).mean()
            S = torch.diag((-mixer.log_decay[h].exp() * step).exp()) @ S + b * torch.outer(k[t, own], v[t, own])
            y[t, own] = k[t, own] @ S + mixer.bonus[h] * k[t, own] * v[t, own]
    return (r.sigmoid() * g.sigmoid() * y) @ mixer.output.weight.T


def grounded_wkv(mixer: Any, x: Tensor) -> Tensor:
    """w = clamp(p exp(-b) + (1 - p) exp(-exp(W x)), .01, .99); S = diag(w) S + k v^T; y = r S / sqrt(head size)."""
    near = x.clone()
    for t in range(len(x)):
        for i in range(min(4, t + 1)):
            near[t] += 0.1 * mixer.conv[:, 3 - i] * x[t - i]
    k, v = near @ mixer.key.weight.T, near @ mixer.value.weight.T
    r, g = (x @ mixer.receptance.weight.T).sigmoid(), (x @ mixer.gate.weight.T).sigmoid()
    w = 0.6 * (-mixer.base_decay).exp() + 0.4 * (-(x @ mixer.decay.weight.T).exp()).exp()
    y = torch.zeros_like(x)
    for own in heads(mixer):
        S = torch.zeros(mixer.head_size, mixer.head_size, dtype=x.dtype)
        for t in range(len(x)):
            S = torch.diag(w[t, own].clamp(0.01, 0.99)) @ S + torch.outer(k[t, own], v[t, own])
            y[t, own] = r[t, own] @ S / math.sqrt(mixer.head_size)
    return (g * y) @ mixer.output.weight.T


def stable_ssm(mixer: Any, x: Tensor) -> Tensor:
    """h = LayerNorm((I + dt A) h + B x); y = C h + D x."""
    A = mixer.A * min(1.0, 0.99 / mixer.A.square().sum().sqrt().item())
    h = torch.zeros(mixer.d_state, dtype=x.dtype)
    y = torch.zeros_like(x)
    for t in range(len(x)):
        dt = 0.001 + 0.099 * torch.sigmoid(mixer.dt_proj.weight @ x[t] + mixer.dt_proj.bias)
        h = (torch.eye(mixer.d_state, dtype=x.dtype) + dt * A) @ h + mixer.B_proj.weight @ x[t]
        h = (h - h.mean()) / (h.var(unbiased=False) + 1e-5).sqrt() * mixer.state_norm.weight + mixer.state_norm.bias
        y[t] = mixer.C_proj.weight @ h + mixer.D * x[t]
    return y


def grounded_memory(mixer: Any, x: Tensor) -> Tensor:
    """S = diag(w) S + diag(u) k v^T; y = sigmoid(r) S."""
    y = torch.zeros_like(x)
    k, v, r = (x @ p.weight.T for p in (mixer.key, mixer.value, mixer.receptance))
    for h, own in enumerate(heads(mixer)):
        S = torch.zeros(mixer.head_size, mixer.head_size, dtype=x.dtype)
        for t in range(len(x)):
            S = torch.diag((-mixer.time_decay[h].exp()).exp()) @ S + torch.outer(mixer.time_first[h] * k[t, own], v[t, own])
            y[t, own] = r[t, own].sigmoid() @ S
    return y @ mixer.output.weight.T


def mamba2_record(mixer: Any, x: Tensor) -> Tensor:
    """h = exp(dt A) h + dt x B^T; y = h C * silu(z)."""
    width, n = x.shape[1], mixer.d_state
    size = width // mixer.n_head
    inner, z = (x @ mixer.in_proj.weight.T).split(width, dim=-1)
    dt = softplus(x @ mixer.dt_proj.weight.T + mixer.dt_proj.bias)
    B, C = x @ mixer.B_proj.weight.T, x @ mixer.C_proj.weight.T
    y = torch.zeros_like(x)
    for h in range(mixer.n_head):
        state = torch.zeros(size, n, dtype=x.dtype)
        for t in range(len(x)):
            written = torch.outer(dt[t, h] * inner[t, h * size : (h + 1) * size], B[t, h * n : (h + 1) * n])
            state = torch.exp(-dt[t, h] * mixer.A_log[h].exp()) * state + written
            y[t, h * size : (h + 1) * size] = state @ C[t, h * n : (h + 1) * n]
    return (y * z * z.sigmoid()) @ mixer.out_proj.weight.T


EQUATIONS: list[Callable[[Any, Tensor], Tensor]] = [
    intelligent_hybrid,
    grounded_wkv,
    stable_ssm,
    grounded_memory,
    mamba2_record,
]


@torch.no_grad()
@pytest.mark.parametrize("time", [1, 2, 19])
@pytest.mark.parametrize("equation", EQUATIONS, ids=lambda f: f.__name__)
def test_a_mixer_is_its_equation(equation: Callable[[Any, Tensor], Tensor], time: int) -> None:
    mixer, x = perturb(build(equation.__name__)), noise(2, time, 16)
    torch.testing.assert_close(mixer(x)[0], torch.stack([equation(mixer, row) for row in x]), rtol=1e-10, atol=1e-10)


@torch.no_grad()
def test_retentions_are_held_between_0_01_and_0_99() -> None:
    mixer, x = perturb(build("grounded_wkv")), 50 * noise(2, 9, 16)
    mixer.base_decay[:8], mixer.base_decay[8:] = 20.0, -1.0
    kept = 0.6 * (-mixer.base_decay).exp() + 0.4 * (-(x @ mixer.decay.weight.T).exp()).exp()
    assert kept.min() < 0.01 and kept.max() > 0.99
    torch.testing.assert_close(mixer(x)[0], torch.stack([grounded_wkv(mixer, row) for row in x]), rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_a_large_generator_is_scaled_down_to_a_contraction() -> None:
    mixer = build("stable_ssm")
    mixer.A.mul_(100)
    x = noise(2, 9, 16)
    torch.testing.assert_close(mixer(x)[0], torch.stack([stable_ssm(mixer, row) for row in x]), rtol=1e-10, atol=1e-10)


def test_intelligent_hybrid_starts_with_rates_from_0_1_to_3_and_a_step_of_softplus_1() -> None:
    mixer = full_size("intelligent_hybrid", head_size=32)
    torch.testing.assert_close(mixer.log_decay.exp()[:, 0], torch.tensor([0.1, 0.1 + 2.9 / 3, 0.1 + 2 * 2.9 / 3, 3.0]))
    assert torch.equal(mixer.dt_proj.bias, torch.ones(128))
    assert 0.09 < mixer.bonus.abs().max() <= 0.1


def test_grounded_memory_starts_with_the_decays_of_its_foundation() -> None:
    decay = (-full_size("grounded_memory").time_decay.exp()).exp()[:, 0]
    torch.testing.assert_close(decay, torch.tensor([math.exp(-5 * (h + 1) / 4) for h in range(4)]))
    assert decay[0].item() == pytest.approx(0.29, abs=0.005)


def test_stable_ssm_starts_near_minus_a_tenth_of_the_identity() -> None:
    mixer = full_size("stable_ssm")
    assert (mixer.A + 0.1 * torch.eye(16)).std().item() == pytest.approx(0.01, rel=0.2)  # 256 numbers: 4.4 % a deviation
    assert torch.linalg.eigvals(mixer.A).real.max() < 0


def test_the_record_s_mamba_starts_with_rates_from_1_to_16() -> None:
    mixer = full_size("mamba2_record")
    torch.testing.assert_close(mixer.A_log.exp(), torch.tensor([1.0, 6.0, 11.0, 16.0]))
    bound = 0.5 * (6 / (3 * 128)) ** 0.5
    assert 0.99 * bound < mixer.in_proj.weight.abs().max() <= bound


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mamba2_record", {"n_head": 3}),
        ("intelligent_hybrid", {"head_size": 5}),
        ("grounded_wkv", {"head_size": 5}),
        ("grounded_wkv", {"balance": 1.5}),
        ("grounded_memory", {"head_size": 5}),
    ],
)
def test_an_impossible_size_is_refused_by_name(name: str, options: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        build(name, **options)
