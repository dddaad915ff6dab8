"""A mixer inside a branch with an identity, and with a feed-forward layer (flaw F-02)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from models.test_mixers import build, noise, perturb, run_in_pieces
from torch import Tensor, nn

from gt.models.init import assert_all_set, mark_unset
from gt.models.mixers.wrap import Wrapped
from gt.seeds import Streams

WRAPPED = [
    ("linear_attention", "identity"),
    ("linear_attention", "identity_ffn"),
    ("rwkv6", "identity_ffn"),
    ("mamba2", "identity_ffn"),
]


def wrapped(name: str, kind: str) -> Any:
    module = Wrapped(build(name), 16, kind)
    mark_unset(module)
    module.reset_parameters(Streams(0))
    assert_all_set(module)
    return module.double()


@torch.no_grad()
@pytest.mark.parametrize(("name", "kind"), WRAPPED)
def test_a_branch_is_its_formula_around_any_mixer(name: str, kind: str) -> None:
    module, x = perturb(wrapped(name, kind)), noise(2, 9, 16)

    def layer_norm(x: Tensor, norm: nn.LayerNorm) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * norm.weight + norm.bias

    h = x + module.mixer(layer_norm(x, module.mixer_norm))[0]
    if kind == "identity_ffn":
        h = h + F.relu(layer_norm(h, module.feed_forward_norm) @ module.up.weight.T) ** 2 @ module.down.weight.T
    torch.testing.assert_close(module(x)[0], h, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("name", "kind"), WRAPPED)
def test_a_wrapped_mixer_keeps_the_mixers_promises(name: str, kind: str) -> None:
    module, x = perturb(wrapped(name, kind)), noise(2, 9, 16)
    whole = module(x)[0]
    torch.testing.assert_close(run_in_pieces(module, x, [4, 1, 4]), whole, rtol=1e-10, atol=1e-10)
    later = x.clone()
    later[:, 5] += 1
    torch.testing.assert_close(module(later)[0][:, :5], whole[:, :5], rtol=0, atol=1e-13)
    assert torch.autograd.gradcheck(lambda x: module(x)[0], noise(1, 3, 16).requires_grad_(), fast_mode=True)
    whole.square().sum().backward()
    for parameter_name, parameter in module.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, parameter_name


@pytest.mark.parametrize("name", ["linear_attention", "rwkv6", "mamba2"])
def test_a_mixer_starts_from_the_same_numbers_with_and_without_a_wrap(name: str) -> None:
    around = wrapped(name, "identity_ffn")
    for p, q in zip(around.mixer.parameters(), build(name).parameters(), strict=True):
        assert torch.equal(p.float(), q.float())
    assert around.up.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert around.state_size(64) == around.mixer.state_size(64)
    assert around.flops_per_token(64) == around.mixer.flops_per_token(64) + 2 * 2 * 4 * 16 * 16


def test_the_faithful_mixers_begin_as_identities_inside_a_wrap() -> None:
    # RWKV-6's output projection starts at zero, so this branch hands its input to the fusion.
    x = noise(2, 9, 16)
    assert torch.equal(wrapped("rwkv6", "identity")(x)[0], x)
