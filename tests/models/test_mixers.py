"""What the mixers start as, and what can be done to their states. What each promises is in gt.conformance."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from gt.catalogue import components
from gt.models.mixers.base import State
from gt.models.mixers.state import StateNorm, normed_wkv
from gt.seeds import Streams

D_MODEL = 16
SMALL = {"head_size": 8, "mix_rank": 2, "decay_rank": 3, "head_dim": 8, "d_state": 4, "n_head": 2}
CATALOGUE = components("mixer")


def build(name: str, layer: int = 1, n_layer: int = 3, **options: Any) -> Any:
    """A mixer at a tiny size, initialised from seed 0, in float64."""
    component = CATALOGUE[name]
    small = {name: value for name, value in SMALL.items() if name in component.options}
    module = component.load()(D_MODEL, layer, n_layer, **{**small, **options})
    module.reset_parameters(Streams(0))
    return module.double()


def perturb(module: nn.Module) -> Any:
    """Every parameter moved a little: an output projection of zeros would hide what is before it."""
    with torch.no_grad():
        for i, parameter in enumerate(module.parameters()):
            noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(i), dtype=torch.float64)
            parameter.add_(0.2 * noise.to(parameter))
    return module


def noise(*shape: int, seed: int = 7) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def run_in_pieces(module: Any, x: Tensor, lengths: list[int]) -> Tensor:
    pieces, state = [], None
    for piece in torch.split(x, lengths, dim=1):
        y, state = module(piece, state)
        pieces.append(y)
    return torch.cat(pieces, dim=1)


def test_flops_grow_with_the_context_only_where_all_of_it_is_read() -> None:
    growing = {name for name in CATALOGUE if (mixer := build(name)).flops_per_token(1024) > mixer.flops_per_token(64)}
    assert growing == {"attention"}


class TestRWKV6Initialisation:
    """The official x060 values, computed channel by channel as its code does."""

    d: ClassVar[int] = 128

    def mixer(self, layer: int, n_layer: int, **options: Any) -> Any:
        module = CATALOGUE["rwkv6"].load()(self.d, layer, n_layer, **options)
        module.reset_parameters(Streams(0))
        return module

    @pytest.mark.parametrize("layer", [0, 2, 3])
    def test_decays_shifts_and_bonus_follow_the_official_schedules(self, layer: int) -> None:
        depth, shallow, d = layer / 3, 1 - layer / 4, self.d
        mixer = self.mixer(layer, 4)
        decay = [-6 + 5 * (n / (d - 1)) ** (0.7 + 1.3 * depth) for n in range(d)]
        bonus = [depth * (1 - n / (d - 1)) + ((n + 1) % 3 - 1) * 0.1 for n in range(d)]
        long = [1 - (n / d) ** shallow for n in range(d)]
        short = [1 - (n / d) ** (0.5 * shallow) for n in range(d)]
        value = [1 - ((n / d) ** shallow + 0.3 * depth) for n in range(d)]
        expected = {"r": short, "w": long, "k": long, "v": value, "g": short}
        for actual, wanted in [
            (mixer.w_proj.linear.lora[2].bias, decay),
            (mixer.bonus.flatten(), bonus),
            (mixer.x_proj[0].mu, long),
            *zip(mixer.x_bias, expected.values(), strict=True),
        ]:
            torch.testing.assert_close(actual, torch.tensor(wanted), rtol=1e-6, atol=1e-6)

    @pytest.mark.parametrize(("layer", "median"), [(0, 0.947), (3, 0.991)])
    def test_half_of_the_channels_remember_for_long(self, layer: int, median: float) -> None:
        # The numbers of reference/model_codebases.md, section 5a, row 4.
        decay = (-self.mixer(layer, 4).w_proj.linear.lora[2].bias.exp()).exp()
        assert decay.median().item() == pytest.approx(median, abs=1e-3)
        assert (decay.min().item(), decay.max().item()) == pytest.approx((0.692, 0.9975), abs=1e-3)

    def test_projections_are_orthogonal_and_the_output_is_zero(self) -> None:
        mixer = self.mixer(1, 4)
        for name, gain in {"r": 1.0, "k": 0.1, "v": 1.0, "g": 0.1}.items():
            weight = getattr(mixer, f"{name}_proj").linear.weight
            torch.testing.assert_close(weight @ weight.T, gain**2 * torch.eye(self.d), rtol=0, atol=1e-5)
        assert not mixer.o_proj.weight.any()
        assert torch.equal(mixer.g_norm.weight, torch.full((self.d,), (2 / 4) ** 0.7))
        assert mixer.g_norm.eps == pytest.approx(6.4e-4)

    def test_the_fla_default_forgets_by_1_over_e_everywhere(self) -> None:
        mixer = self.mixer(1, 4, init="fla")
        decay = (-mixer.w_proj.linear(torch.randn(5, self.d)).exp()).exp()
        torch.testing.assert_close(decay, torch.full_like(decay, 0.36787944), rtol=0, atol=1e-6)
        assert not mixer.bonus.any()
        assert not mixer.x_bias.any()


class TestMamba2Initialisation:
    def mixer(self, **options: Any) -> Any:
        module = CATALOGUE["mamba2"].load()(256, 1, 4, **options)
        module.reset_parameters(Streams(0))
        return module

    @pytest.mark.parametrize(
        ("init", "in_proj", "conv", "out_proj"),
        # standard deviations: U(+-b) has b / sqrt 3; kaiming-uniform(sqrt 5) is U(+-1/sqrt(fan in))
        [
            ("native", 256**-0.5 / 3**0.5, 0.5 / 3**0.5, (512 * 4) ** -0.5 / 3**0.5),
            ("fla", 0.02, 0.02, (512 * 4) ** -0.5 / 3**0.5),
            ("normal02", 0.02, 0.02, 0.02),
        ],
    )
    def test_scales_are_those_of_the_named_implementation(
        self, init: str, in_proj: float, conv: float, out_proj: float
    ) -> None:
        mixer = self.mixer(init=init)
        # 3072 convolution weights, the fewest: their standard deviation is known to 1/sqrt(2 * 3072) = 1.3 %.
        assert mixer.in_proj.weight.std().item() == pytest.approx(in_proj, rel=0.05)
        assert mixer.conv1d.weight.std().item() == pytest.approx(conv, rel=0.05)
        assert mixer.out_proj.weight.std().item() == pytest.approx(out_proj, rel=0.05)

    def test_time_steps_lie_between_1e_3_and_1e_1_and_rates_between_1_and_16(self) -> None:
        mixer = self.mixer(head_dim=8)
        dt, rate = torch.nn.functional.softplus(mixer.dt_bias), mixer.A_log.exp()
        assert 0.99e-3 < dt.min() < dt.max() < 1.01e-1
        assert 0.99 < rate.min() < rate.max() < 16.01
        assert torch.equal(mixer.D, torch.ones(64))


class TestStates:
    """What can be done to a recurrent state: a norm after every token, a learned start, slow decays, weak writes."""

    @staticmethod
    def normalise(state: Tensor, groups: int, weight: Tensor) -> Tensor:
        flat = state.flatten(-2)
        pieces = [piece / (piece.square().mean(-1, keepdim=True) + 1e-5).sqrt() for piece in flat.tensor_split(groups, dim=-1)]
        return torch.cat(pieces, dim=-1).view_as(state) * weight

    @torch.no_grad()
    @pytest.mark.parametrize("bonus", [True, False])
    def test_a_normed_recurrence_is_its_equation(self, bonus: bool) -> None:
        r, k, v = noise(3, 2, 7, 2, 4).unbind()
        log_w, u, start = -noise(2, 7, 2, 4).exp(), noise(2, 4), noise(2, 2, 4, 4)
        norm = StateNorm(4, 4, 4).double()
        norm.weight.copy_(1 + 0.1 * noise(4, 4))
        y, last = normed_wkv(r, k, v, log_w, u if bonus else None, start, norm)
        for b in range(2):
            for h in range(2):
                S = start[b, h]
                for t in range(7):
                    kv = torch.outer(k[b, t, h], v[b, t, h])
                    new = self.normalise(torch.diag(log_w[b, t, h].exp()) @ S + kv, 4, norm.weight)
                    read = S + torch.diag(u[h]) @ kv if bonus else new
                    torch.testing.assert_close(y[b, t, h], r[b, t, h] @ read, rtol=1e-10, atol=1e-10)
                    S = new
                torch.testing.assert_close(last[b, h], S, rtol=1e-10, atol=1e-10)

    @torch.no_grad()
    @pytest.mark.parametrize("name", ["rwkv6", "mamba2", "grounded_wkv"])
    def test_a_normed_state_has_unit_size_in_each_group_however_long_the_text(self, name: str) -> None:
        module = build(name, state_norm=2)
        # What a token writes must be large against the norm's epsilon of 1e-5.
        memory = module(1000 * noise(1, 50, D_MODEL))[1].memory
        size = memory.transpose(-1, -2) if name == "mamba2" else memory
        torch.testing.assert_close(
            size.flatten(-2).unflatten(-1, (2, -1)).square().mean(-1),
            torch.ones(1, size.shape[1], 2).double(),
            rtol=1e-3,
            atol=0,
        )

    @torch.no_grad()
    def test_a_normed_mamba_without_its_norm_is_mamba(self, monkeypatch: pytest.MonkeyPatch) -> None:
        plain, normed = perturb(build("mamba2", n_groups=2)), build("mamba2", n_groups=2, state_norm=1)
        normed.load_state_dict(plain.state_dict(), strict=False)
        monkeypatch.setattr(StateNorm, "forward", lambda self, state: state)
        x = noise(2, 9, D_MODEL)
        torch.testing.assert_close(normed(x)[0], plain(x)[0], rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(normed(x)[1].memory, plain(x)[1].memory, rtol=1e-10, atol=1e-10)

    @torch.no_grad()
    @pytest.mark.parametrize("name", ["rwkv6", "mamba2", "grounded_wkv"])
    def test_a_learned_start_is_the_state_that_a_sequence_starts_from(self, name: str) -> None:
        learned, plain = perturb(build(name, initial_state="learned")), build(name)
        plain.load_state_dict(learned.state_dict(), strict=False)
        x = noise(2, 9, D_MODEL)
        memory, context = plain(x[:, :1])[1]
        start = State(learned.initial_state.weight.expand_as(memory), tuple(map(torch.zeros_like, context)))
        torch.testing.assert_close(learned(x)[0], plain(x, start)[0], rtol=1e-10, atol=1e-10)
        assert not torch.allclose(learned(x)[0], plain(x)[0])

    def test_a_learned_start_is_small(self) -> None:
        module = CATALOGUE["rwkv6"].load()(128, 0, 2, initial_state="learned")
        module.reset_parameters(Streams(0))
        assert module.initial_state.weight.std().item() == pytest.approx(0.01, rel=0.05)

    @torch.no_grad()
    def test_identity_starts_keep_0_9999_of_the_state_a_token(self) -> None:
        rwkv, mamba = build("rwkv6", decay_init="identity"), build("mamba2", decay_init="identity")
        kept = (-rwkv.w_proj.linear(noise(5, D_MODEL)).exp()).exp()
        torch.testing.assert_close(kept, torch.full_like(kept, 0.9999), rtol=0, atol=1e-9)
        kept = (-nn.functional.softplus(mamba.dt_bias) * mamba.A_log.exp()).exp()
        torch.testing.assert_close(kept, torch.full_like(kept, 0.9999), rtol=0, atol=1e-9)

    @torch.no_grad()
    def test_clamped_keys_write_slow_channels_in_proportion_to_what_they_forget(self) -> None:
        x = noise(2, 9, D_MODEL)
        # Every channel forgets 1e-4 a token here, so a write is 1e-4 (to first order) of what it is without the clamp.
        slow = [build("rwkv6", decay_init="identity", key_clamp=clamp)(x)[1].memory for clamp in (False, True)]
        torch.testing.assert_close(slow[1], -math.log(0.9999) * slow[0], rtol=1e-6, atol=0)
        # FLA's start forgets by 1/e: -log w is one, and the clamp lets all through.
        fast = [build("rwkv6", init="fla", key_clamp=clamp)(x)[1].memory for clamp in (False, True)]
        torch.testing.assert_close(fast[1], fast[0], rtol=1e-12, atol=1e-12)
