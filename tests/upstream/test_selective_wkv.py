"""Selective WKV: the equation, the reference code, and the operator under it, each against a loop."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from models.test_mixers import build, noise, perturb
from torch import Tensor

from gt.catalogue import components
from gt.errors import ConfigError
from gt.models.mixers.base import State
from gt.ops.selective import selective_chunked, selective_reference
from gt.seeds import Streams

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "equation": ("selective_wkv", {}),
    "equation-narrow": ("selective_wkv", {"expand": 1, "conv": 2, "d_state": 3, "delta_init": "mamba"}),
    "equation-wide": ("selective_wkv", {"expand": 4, "base_decay": "constant", "delta_init": "zero"}),
    "reference": ("selective_wkv_reference", {}),
    "reference-in-block": ("selective_wkv_reference", {"conv": 4, "norm_group": 8, "project": True, "delta_init": "mamba"}),
    "reference-torch": ("selective_wkv_reference", {"conv": 2, "delta_init": "torch"}),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def make(case: str, **options: Any) -> Any:
    name, chosen = CASES[case]
    return perturb(build(name, **{**chosen, **options}))


def full_size(name: str, layer: int = 0, **options: Any) -> Any:
    mixer = components("mixer")[name].load()(128, layer, 8, **options)
    mixer.reset_parameters(Streams(0))
    return mixer


def convolve(conv: Any, x: Tensor) -> Tensor:
    y = torch.zeros_like(x)
    for t in range(x.shape[1]):
        for i in range(min(conv.size, t + 1)):
            y[:, t] += conv.conv1d.weight[:, 0, conv.size - 1 - i] * x[:, t - i]
    return y


def group_norm(norm: Any, y: Tensor) -> Tensor:
    groups = y.unflatten(-1, (norm.num_groups, -1))
    centred = groups - groups.mean(-1, keepdim=True)
    return (centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()).flatten(-2) * norm.weight + norm.bias


def equation(mixer: Any, x: Tensor) -> Tensor:
    """S_t = exp(-D_t w_t) S_{t-1} + (D_t B_t) x_t, y_t = C_t S_t, head by head."""
    H, N, P = mixer.n_head, mixer.d_state, mixer.head_size
    projected = x @ mixer.input.weight.T
    r, rest = projected[..., : H * P], convolve(mixer.conv, projected[..., H * P :])
    inner, B, C, delta, w = rest.split([H * P, N, N, H * N, H * N], dim=-1)
    y = torch.zeros_like(inner)
    for b in range(x.shape[0]):
        for h in range(H):
            S = torch.zeros(N, P, dtype=x.dtype)
            for t in range(x.shape[1]):
                step = torch.log1p(torch.exp(delta[b, t, h * N : (h + 1) * N] + mixer.delta_bias[h]))
                dynamic = mixer.log_base[h].exp() / (1 + torch.exp(-w[b, t, h * N : (h + 1) * N]))
                S = torch.diag(torch.exp(-step * dynamic)) @ S + torch.outer(step * B[b, t], inner[b, t, h * P : (h + 1) * P])
                y[b, t, h * P : (h + 1) * P] = C[b, t] @ S
    return (r.sigmoid() * group_norm(mixer.norm, y)) @ mixer.output.weight.T


def reference(mixer: Any, x: Tensor) -> Tensor:
    """state = exp(-softplus(dt_proj(dt))) state + k B, out = r * (state C) * v."""
    if mixer.conv is not None:
        x = convolve(mixer.conv, x)
    dt, B, C = (x @ mixer.x_proj.weight.T).split(mixer.d_state, dim=-1)
    k, v, r = (x @ p.weight.T for p in (mixer.key, mixer.value, mixer.receptance))
    rate = F.softplus(dt @ mixer.dt_proj.weight.T + mixer.delta_bias)
    state, out = torch.zeros(*x.shape[::2], mixer.d_state, dtype=x.dtype), []
    for t in range(x.shape[1]):
        state = torch.exp(-rate[:, t])[..., None] * state + k[:, t, :, None] * B[:, t, None, :]
        y = (state * C[:, t, None, :]).sum(-1) * v[:, t]
        y = y if mixer.norm is None else group_norm(mixer.norm, y)
        out.append(r[:, t].sigmoid() * y)
    y = torch.stack(out, dim=1)
    return y if mixer.output is None else y @ mixer.output.weight.T


@torch.no_grad()
@pytest.mark.parametrize("time", [1, 2, 19, 33])
def test_each_reading_is_its_equation(case: str, time: int) -> None:
    mixer, x = make(case), noise(2, time, 16)
    loop = equation if case.startswith("equation") else reference
    torch.testing.assert_close(mixer(x)[0], loop(mixer, x), rtol=1e-10, atol=1e-10)


class TestOperator:
    def inputs(self, time: int, strength: float = 1.0) -> list[Tensor]:
        k, log_w, B, C = noise(2, time, 5), noise(2, time, 5, seed=8), noise(2, time, 3, seed=9), noise(2, time, 3, seed=10)
        return [k, -(strength * log_w).exp(), B, C]

    @pytest.mark.parametrize("time", [1, 2, 15, 16, 17, 50])
    @pytest.mark.parametrize("chunk", [2, 16, 64])
    def test_chunks_give_what_the_loop_gives(self, time: int, chunk: int) -> None:
        state = noise(2, 5, 3, seed=11)
        for start in (None, state):
            for actual, expected in zip(
                selective_chunked(*self.inputs(time), start, chunk=chunk),
                selective_reference(*self.inputs(time), start),
                strict=True,
            ):
                torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)

    @pytest.mark.parametrize("strength", [8.0, 40.0])
    def test_any_decay_is_exact_from_none_to_all_at_once(self, strength: float) -> None:
        inputs = self.inputs(50, strength)
        inputs[1][:, 20] = -torch.inf  # forgets everything
        inputs[1][:, 30] = 0.0  # forgets nothing
        for actual, expected in zip(selective_chunked(*inputs), selective_reference(*inputs), strict=True):
            torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)

    def test_gradients_are_those_of_the_loop(self) -> None:
        inputs = [x.requires_grad_() for x in [*self.inputs(21), noise(2, 5, 3, seed=11)]]
        weight = noise(2, 21, 5, seed=12)
        gradients = [
            torch.autograd.grad((y * weight).sum() + state.square().sum(), inputs)
            for y, state in (selective_chunked(*inputs), selective_reference(*inputs))
        ]
        for actual, expected in zip(*gradients, strict=True):
            torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)


class TestInitialValues:
    def test_parameters_and_states_at_the_record_s_width(self) -> None:
        d, inner, n, heads = 128, 256, 32, 4
        recurrent = inner + 2 * n + 2 * heads * n
        expected = d * (inner + recurrent) + 4 * recurrent + 2 * heads * n + 2 * inner + inner * d
        mixer = full_size("selective_wkv")
        assert sum(p.numel() for p in mixer.parameters()) == expected == 142_336
        assert mixer.state_size(256) == 3 * recurrent + inner * n
        assert inner * n == full_size("rwkv6").state_size(256) - d, "as large a matrix state as RWKV-6's"
        code = full_size("selective_wkv_reference")
        assert sum(p.numel() for p in code.parameters()) == d * 3 * 64 + (64 * d + d) + 3 * d * d == 82_048
        assert code.state_size(256) == d * 64

    @pytest.mark.parametrize("layer", [0, 3, 7])
    def test_medium_decay_is_a_window_of_16_tokens_that_grows_in_proportion_to_depth(self, layer: int) -> None:
        mixer = full_size("selective_wkv", layer)
        # at an input of zero, where sigmoid(w) is a half
        rate = F.softplus(mixer.delta_bias) * mixer.log_base.exp() / 2
        torch.testing.assert_close(1 / rate, torch.full_like(rate, 16.0 * (layer + 1)), rtol=1e-5, atol=0)
        constant = full_size("selective_wkv", layer, base_decay="constant")
        assert not constant.log_base.any()
        code = full_size("selective_wkv_reference", layer)
        rate = F.softplus(code.delta_bias)
        torch.testing.assert_close(1 / rate, torch.full_like(rate, 16.0), rtol=1e-5, atol=0)

    @pytest.mark.parametrize("name", ["selective_wkv", "selective_wkv_reference"])
    def test_other_step_sizes_are_mamba_s_and_those_of_no_bias(self, name: str) -> None:
        steps = F.softplus(full_size(name, delta_init="mamba").delta_bias)
        assert 0.99e-3 < steps.min() < 2e-3 < 5e-2 < steps.max() < 1.01e-1
        assert not full_size(name, delta_init="zero").delta_bias.any()
        assert 0 < full_size("selective_wkv_reference", delta_init="torch").delta_bias.abs().max() <= 64**-0.5

    def test_projections_are_torch_s_default_and_outputs_zero(self) -> None:
        mixer = full_size("selective_wkv")
        for layer, bound in ((mixer.input, 128**-0.5), (mixer.conv.conv1d, 4**-0.5)):
            assert 0.99 * bound < layer.weight.abs().max() <= bound
            assert layer.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.03)
        assert not mixer.output.weight.any()
        code = full_size("selective_wkv_reference", project=True)
        for name, fan_in in (("x_proj", 128), ("dt_proj", 64), ("key", 128), ("value", 128), ("receptance", 128)):
            weight = getattr(code, name).weight
            assert weight.std().item() == pytest.approx(fan_in**-0.5 / 3**0.5, rel=0.03)
        assert not code.output.weight.any()

    def test_layers_that_share_a_shape_start_alike_at_all_depths_but_for_the_base_decay(self) -> None:
        bottom, top = full_size("selective_wkv", 0), full_size("selective_wkv", 7)
        differing = [name for (name, p), q in zip(bottom.named_parameters(), top.parameters(), strict=True) if not p.equal(q)]
        assert differing == ["log_base"]


@torch.no_grad()
def test_a_step_size_of_zero_freezes_the_state_and_a_large_one_replaces_it() -> None:
    # document 0: "set selective_decay to near-zero", "flush the state"; w = 1 leaves exp(-1) = 0.37 of it (flaw F-29)
    mixer, x = make("equation"), noise(1, 6, 16)
    _, state = mixer(x)
    mixer.delta_bias.fill_(-60.0)
    torch.testing.assert_close(mixer(x, state)[1].memory, state.memory, rtol=1e-10, atol=1e-10)
    mixer.delta_bias.fill_(1e4)
    old, fresh = (mixer(x, State(m, state.context))[1].memory for m in (state.memory, torch.zeros_like(state.memory)))
    torch.testing.assert_close(old, fresh, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("name", "options"), [("selective_wkv", {"head_size": 5}), ("selective_wkv_reference", {"norm_group": 5})]
)
def test_an_impossible_size_is_refused_by_name(name: str, options: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=f"{name}.{next(iter(options))}"):
        build(name, **options)
