"""What the earlier repository ran under the name RWKV-6, against a loop over its equations."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from models.test_mixers import build, noise, perturb
from torch import Tensor

from gt.catalogue import components
from gt.errors import ConfigError
from gt.models.mixers.wrap import Wrapped
from gt.seeds import Streams

FORMS = ["cuda", "prototype_jan10", "prototype_head", "time_mix"]


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def stand_in(form: str, **options: Any) -> Any:
    return perturb(build("rwkv6_record", form=form, **options))


def full_size(name: str, **options: Any) -> Any:
    mixer = components("mixer")[name].load()(128, 0, 8, **options)
    mixer.reset_parameters(Streams(0))
    return mixer


def loop(mixer: Any, x: Tensor) -> Tensor:
    """The equations of the class's docstring, one position, head and channel at a time."""
    batch, time, width = x.shape
    w, u = torch.exp(-torch.exp(mixer.time_decay)).flatten(), mixer.time_first.flatten()
    y = torch.zeros_like(x)
    for b in range(batch):
        r, k, v = (x[b] @ p.weight.T for p in (mixer.receptance, mixer.key, mixer.value))
        S = {(i, j): torch.zeros((), dtype=x.dtype) for i in range(width) for j in range(width)}
        num, den = torch.zeros(2, width, dtype=x.dtype)
        for t in range(time):
            if mixer.form == "cuda":
                for j in range(width):
                    for i in range(j // mixer.head_size * mixer.head_size, (j // mixer.head_size + 1) * mixer.head_size):
                        kv = k[t, i] * v[t, j]
                        y[b, t, j] += r[t, i] * (S[i, j] + u[i] * kv)
                        S[i, j] = w[i] * S[i, j] + kv
            elif mixer.form == "prototype_jan10":
                num = w * num + k[t].exp() * v[t]
                y[b, t] = num + u.exp() * v[t] if t == 0 else num
            else:
                e = k[t].clamp(-10, 10).exp() if mixer.form == "time_mix" else k[t].clamp(max=30).exp()
                e = u.exp() * e if t == 0 else e
                num, den = w * num + e * v[t], w * den + e
                y[b, t] = num / (den + 1e-6)
        y[b] = y[b] * r.sigmoid()
    return y @ mixer.output.weight.T


@torch.no_grad()
@pytest.mark.parametrize("time", [1, 2, 19])
def test_each_form_is_its_equation(form: str, time: int) -> None:
    mixer, x = stand_in(form), noise(2, time, 16)
    torch.testing.assert_close(mixer(x)[0], loop(mixer, x), rtol=1e-10, atol=1e-10)


@torch.no_grad()
@pytest.mark.parametrize(("form", "low", "high"), [("prototype_head", None, 30), ("time_mix", -10, 10)])
def test_large_keys_are_held_at_the_form_s_bounds(form: str, low: float | None, high: float) -> None:
    mixer, x = stand_in(form), 100 * noise(1, 9, 16)
    k = mixer.key(x)
    assert k.max() > high and k.min() < -10
    torch.testing.assert_close(mixer(x)[0], loop(mixer, x), rtol=1e-10, atol=1e-10)
    weights = k.clamp(low, high).exp()
    _, denominator = mixer(x)[1].memory
    assert (denominator <= math.e * weights.sum(1)).all()


def test_parameters_and_states_are_counted_as_in_the_earlier_repository(form: str) -> None:
    mixer = full_size("rwkv6_record", form=form)
    # systems.md section 0.1: 197,376 with the wrap, 131,072 of which are its feed-forward layer
    wrapped = Wrapped(mixer, 128, "identity_ffn")
    assert sum(p.numel() for p in mixer.parameters()) == 65_792
    assert sum(p.numel() for p in wrapped.parameters()) == 197_376
    assert wrapped.up is not None
    assert wrapped.up.weight.numel() + wrapped.down.weight.numel() == 131_072
    floats = {"cuda": 4 * 32 * 32, "prototype_jan10": 4 * 32, "prototype_head": 2 * 4 * 32, "time_mix": 2 * 4 * 32}
    assert mixer.state_size(256) == floats[form]


def test_every_channel_starts_with_a_memory_of_148_tokens_and_no_bonus(form: str) -> None:
    mixer = full_size("rwkv6_record", form=form)
    decay = torch.exp(-torch.exp(mixer.time_decay))
    torch.testing.assert_close(decay, torch.full_like(decay, 0.993285), rtol=0, atol=1e-5)
    assert -1 / decay[0, 0].log().item() == pytest.approx(148.4, abs=0.1)
    assert not mixer.time_first.any()


def test_projections_start_as_each_class_set_them() -> None:
    for name in ("key", "value", "receptance", "output"):
        weight = {form: getattr(full_size("rwkv6_record", form=form), name).weight for form in FORMS}
        for form in ("prototype_jan10", "prototype_head"):
            torch.testing.assert_close(weight[form] @ weight[form].T, torch.eye(128), rtol=0, atol=1e-5)
        # torch's default is U(+-1/sqrt(fan in)); Xavier-uniform is U(+-gain sqrt(6 / (fan in + fan out)))
        for form, bound in (("cuda", 128**-0.5), ("time_mix", 0.5 * (6 / 256) ** 0.5)):
            assert 0.999 * bound < weight[form].abs().max() <= bound
            assert weight[form].std().item() == pytest.approx(bound / 3**0.5, rel=0.02)


def test_a_token_does_not_see_itself_in_the_cuda_form_at_the_start() -> None:
    first_token = full_size("rwkv6_record", form="cuda")(torch.randn(2, 1, 128))[0]
    assert torch.equal(first_token, torch.zeros_like(first_token))


@torch.no_grad()
def test_only_the_form_without_a_denominator_is_unbounded() -> None:
    # The same token for ever: a mean stays where it is, a sum grows to 1 / (1 - decay) = 149 times the first step.
    x = noise(1, 1, 16).expand(1, 2000, 16)
    growth = {}
    for form in ("prototype_jan10", "prototype_head", "time_mix"):
        y = build("rwkv6_record", form=form)(x)[0][0]
        growth[form] = (y[-1].norm() / y[1].norm()).item()
    assert growth["prototype_jan10"] > 20
    assert growth["prototype_head"] == pytest.approx(1, abs=1e-4)
    assert growth["time_mix"] == pytest.approx(1, abs=1e-4)


def test_a_head_size_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"rwkv6_record\.head_size"):
        build("rwkv6_record", head_size=5)
