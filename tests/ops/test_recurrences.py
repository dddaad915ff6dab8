"""The chunked recurrences compute what the sequential ones do, in float64 to 1e-10, values and gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gt.ops.ssd import ssd_chunked, ssd_reference
from gt.ops.wkv6 import wkv6_chunked, wkv6_reference

# log decays from almost none to total, alone and mixed inside one chunk
DECAYS = {
    "weak": (-1e-6, -1e-6),
    "official": (-0.4, -0.0025),
    "strong": (-30.0, -10.0),
    "mixed": (-30.0, -1e-6),
    "total": (-1e4, -1e3),
}
sizes = st.tuples(st.integers(1, 3), st.integers(1, 40), st.integers(1, 3), st.integers(1, 6), st.integers(1, 6))
common = settings(max_examples=40, deadline=None)


def log_decays(shape: tuple[int, ...], name: str, generator: torch.Generator) -> Tensor:
    """Uniform on a log scale between the two limits of `name`."""
    low, high = (torch.tensor(-limit, dtype=torch.float64).log() for limit in DECAYS[name])
    return -(low + (high - low) * torch.rand(shape, dtype=torch.float64, generator=generator)).exp()


def wkv6_inputs(size: tuple[int, ...], decay: str, seed: int) -> list[Tensor]:
    batch, time, head, key, value = size
    g = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, dtype=torch.float64, generator=g)  # noqa: E731
    r, k, v = draw(batch, time, head, key), draw(batch, time, head, key), draw(batch, time, head, value)
    return [r, k, v, log_decays((batch, time, head, key), decay, g), draw(head, key), draw(batch, head, key, value)]


def ssd_inputs(size: tuple[int, ...], decay: str, seed: int) -> list[Tensor]:
    batch, time, groups, headdim, d_state = size
    g = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, dtype=torch.float64, generator=g)  # noqa: E731
    heads = 2 * groups
    dt, A = -log_decays((batch, time, heads), decay, g), -torch.rand(heads, dtype=torch.float64, generator=g) - 0.5
    B, C = draw(batch, time, groups, d_state), draw(batch, time, groups, d_state)
    return [draw(batch, time, heads, headdim), dt, A, B, C, draw(heads), draw(batch, heads, headdim, d_state)]


OPS: dict[str, tuple[Any, Any, Callable[..., list[Tensor]]]] = {
    "wkv6": (wkv6_reference, wkv6_chunked, wkv6_inputs),
    "ssd": (ssd_reference, ssd_chunked, ssd_inputs),
}


def gradients(op: Any, inputs: list[Tensor], weights: tuple[Tensor, Tensor], **options: Any) -> tuple[Tensor, ...]:
    inputs = [x.clone().requires_grad_() for x in inputs]
    y, state = op(*inputs, **options)
    return torch.autograd.grad((y * weights[0]).sum() + (state * weights[1]).sum(), inputs)


def assert_close(actual: Tensor, expected: Tensor) -> None:
    """To 1e-10 of the largest value."""
    scale = expected.abs().max().clamp(min=1)
    assert torch.isfinite(actual).all()
    torch.testing.assert_close(actual / scale, expected / scale, rtol=0, atol=1e-10)


@pytest.mark.parametrize("decay", DECAYS)
@pytest.mark.parametrize("name", OPS)
@common
@given(size=sizes, chunk=st.integers(1, 20), seed=st.integers(0, 1000))
def test_chunked_is_sequential(name: str, decay: str, size: tuple[int, ...], chunk: int, seed: int) -> None:
    reference, chunked, make = OPS[name]
    inputs = make(size, decay, seed)
    expected, actual = reference(*inputs), chunked(*inputs, chunk=chunk)
    for a, e in zip(actual, expected, strict=True):
        assert_close(a, e)
    g = torch.Generator().manual_seed(seed)
    weights = tuple(torch.randn(e.shape, dtype=torch.float64, generator=g) for e in expected)
    for a, e in zip(gradients(chunked, inputs, weights, chunk=chunk), gradients(reference, inputs, weights), strict=True):
        assert_close(a, e)


@pytest.mark.parametrize("name", OPS)
@common
@given(size=sizes, cut=st.integers(0, 40), seed=st.integers(0, 1000))
def test_a_state_carries_a_sequence_across_a_cut(name: str, size: tuple[int, ...], cut: int, seed: int) -> None:
    _, chunked, make = OPS[name]
    *sequences, state = make(size, "mixed", seed)
    cut = min(cut, size[1])
    timed = [x.ndim > 2 for x in sequences]
    whole, last = chunked(*sequences, state)
    pieces = []
    for piece in (slice(0, cut), slice(cut, None)):
        part = [x[:, piece] if t else x for x, t in zip(sequences, timed, strict=True)]
        if part[0].shape[1]:
            y, state = chunked(*part, state)
            pieces.append(y)
    assert_close(torch.cat(pieces, dim=1), whole)
    assert_close(state, last)


@pytest.mark.parametrize("name", OPS)
def test_float32_is_float64_to_rounding(name: str) -> None:
    _, chunked, make = OPS[name]
    inputs = make((2, 50, 2, 16, 16), "mixed", 0)
    exact, single = chunked(*inputs)[0], chunked(*[x.float() for x in inputs])[0]
    # Sums of 50 * 16 products of order one, each rounded to 2^-24.
    bound = 50 * 16 * 2**-24
    assert single.dtype == torch.float32
    assert ((single - exact).abs().max() / exact.abs().max()).item() < bound


@pytest.mark.parametrize("name", OPS)
def test_half_precision_inputs_are_summed_in_float32(name: str) -> None:
    _, chunked, make = OPS[name]
    inputs = [x.bfloat16() for x in make((1, 30, 1, 8, 8), "official", 0)]
    y, state = chunked(*inputs)
    assert (y.dtype, state.dtype) == (torch.bfloat16, torch.float32)


def test_the_bonus_is_for_the_current_token_only() -> None:
    r, k, v, log_w, u, _ = wkv6_inputs((1, 6, 1, 3, 3), "official", 0)
    base, more = (wkv6_chunked(r, k, v, log_w, bonus)[0] for bonus in (u, u + 1))
    torch.testing.assert_close(more - base, (r * k).sum(-1, keepdim=True) * v, rtol=1e-12, atol=1e-12)


def test_without_decay_a_state_is_the_sum_of_all_writes() -> None:
    r, k, v, _, u, _ = wkv6_inputs((2, 9, 2, 3, 4), "official", 1)
    state = wkv6_chunked(r, k, v, torch.zeros_like(k), u)[1]
    torch.testing.assert_close(state, torch.einsum("bthk,bthv->bhkv", k, v), rtol=1e-12, atol=1e-12)
