"""Linear attention, against a loop over its equation."""

from __future__ import annotations

import pytest
import torch
from models.test_mixers import build, noise, perturb

from gt.models.mixers.linear_attention import LinearAttention
from gt.seeds import Streams


@torch.no_grad()
@pytest.mark.parametrize("time", [1, 2, 19])
def test_it_is_a_sum_over_all_earlier_tokens_and_this_one(time: int) -> None:
    mixer, x = perturb(build("linear_attention")), noise(2, time, 16)
    q, k, v = (x @ w.T for w in mixer.qkv.weight.split(16))
    y = torch.zeros_like(x)
    for t in range(time):
        for h in (slice(0, 8), slice(8, 16)):
            total = sum((q[:, t, h] * k[:, s, h]).sum(-1, keepdim=True) * v[:, s, h] for s in range(t + 1))
            centred = total - total.mean(-1, keepdim=True)
            y[:, t, h] = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    expected = (y * mixer.norm.weight + mixer.norm.bias) @ mixer.output.weight.T
    torch.testing.assert_close(mixer(x)[0], expected, rtol=1e-10, atol=1e-10)


@torch.no_grad()
def test_the_order_of_earlier_tokens_does_not_matter() -> None:
    mixer, x = perturb(build("linear_attention")), noise(1, 12, 16)
    shuffled = torch.cat([x[:, :11].flip(1), x[:, 11:]], dim=1)
    torch.testing.assert_close(mixer(x)[0][:, -1], mixer(shuffled)[0][:, -1], rtol=1e-10, atol=1e-10)


def test_it_starts_as_attention_does() -> None:
    mixer = LinearAttention(128, 0, 8)
    mixer.reset_parameters(Streams(0))
    assert sum(p.numel() for p in mixer.parameters()) == 4 * 128**2 + 2 * 128
    assert mixer.qkv.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert mixer.output.weight.std().item() == pytest.approx(0.02 / 4, rel=0.02)
    assert torch.equal(mixer.norm.weight, torch.ones(128)) and not mixer.norm.bias.any()
