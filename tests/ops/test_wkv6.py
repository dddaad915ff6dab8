"""The chunked RWKV-6 recurrence computes what the sequential one does, whatever the decay."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recurrences import Op, assert_same, values_and_gradients
from torch import Tensor

from gt.ops.wkv6 import wkv6_chunked, wkv6_reference

chunked: Op = wkv6_chunked
NAMES = ("r", "k", "v", "log_w", "u", "state")
# log10 of -log_w: from hardly any decay to none of the past left
DECAYS = {"weak": (-6, -5), "ordinary": (-2, 0.5), "strong": (1, 1.5), "total": (4, 4), "mixed": (-6, 4)}


def draw(batch: int, time: int, heads: int, key: int, value: int, decay: str = "ordinary", seed: int = 0) -> tuple[Tensor, ...]:
    """r, k, v, log_w, u and a state, in float64."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    low, high = DECAYS[decay]
    position = torch.rand(batch, time, heads, key, generator=generator, dtype=torch.float64)
    log_w = -(10 ** (low + (high - low) * position))
    r, k, v = (
        normal(batch, time, heads, key),
        normal(batch, time, heads, key),
        normal(batch, time, heads, value),
    )
    return r, k, v, log_w, normal(heads, key), normal(batch, heads, key, value)


@settings(max_examples=40)
@given(
    batch=st.integers(1, 2),
    time=st.integers(1, 37),
    heads=st.integers(1, 2),
    key=st.integers(1, 5),
    value=st.integers(1, 5),
    decay=st.sampled_from(sorted(DECAYS)),
    chunk=st.sampled_from([2, 3, 8, 16]),
    seed=st.integers(0, 999),
)
def test_chunks_do_not_change_values_or_gradients(
    batch: int, time: int, heads: int, key: int, value: int, decay: str, chunk: int, seed: int
) -> None:
    inputs = draw(batch, time, heads, key, value, decay, seed)
    expected = values_and_gradients(NAMES, wkv6_reference, inputs)
    assert_same(values_and_gradients(NAMES, wkv6_chunked, inputs, chunk=chunk), expected, 1e-10)


def test_gradients_are_those_of_finite_differences() -> None:
    chunked_by_three: Op = partial(wkv6_chunked, chunk=3)
    inputs = [x.requires_grad_() for x in draw(1, 5, 1, 2, 2)]
    assert torch.autograd.gradcheck(chunked_by_three, inputs)


@given(cut=st.integers(1, 28), decay=st.sampled_from(sorted(DECAYS)))
@settings(max_examples=20)
def test_a_sequence_cut_anywhere_goes_on_from_its_state(cut: int, decay: str) -> None:
    *series, u, state = draw(2, 29, 2, 4, 3, decay)
    whole, last = chunked(*series, u, state)
    first, carried = chunked(*(x[:, :cut] for x in series), u, state)
    second, end = chunked(*(x[:, cut:] for x in series), u, carried)
    assert_same({"y": torch.cat([first, second], dim=1), "state": end}, {"y": whole, "state": last}, 1e-10)


def test_no_state_is_a_state_of_zeros() -> None:
    *inputs, state = draw(2, 11, 2, 4, 3)
    ops: tuple[Op, Op] = (wkv6_reference, wkv6_chunked)
    for op in ops:
        for a, b in zip(op(*inputs), op(*inputs, torch.zeros_like(state)), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("op", [wkv6_reference, wkv6_chunked])
def test_without_decay_and_with_a_bonus_of_one_it_is_causal_linear_attention(op: Op) -> None:
    r, k, v, *_ = draw(2, 21, 2, 4, 3)
    y, state = op(r, k, v, torch.zeros_like(r), torch.ones(2, 4, dtype=r.dtype))
    scores = torch.einsum("bthk,bshk->bhts", r, k).tril()
    torch.testing.assert_close(y, torch.einsum("bhts,bshv->bthv", scores, v), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(state, torch.einsum("bthk,bthv->bhkv", k, v), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("op", [wkv6_reference, wkv6_chunked])
def test_a_pair_of_positions_sees_only_the_decays_between_them(op: Op) -> None:
    # y_2 = r_2 w_1 k_0 v_0: neither the decay at the writer (0) nor that at the reader (2) takes part.
    r, k, v, log_w = (torch.zeros(1, 3, 1, 1, dtype=torch.float64) for _ in range(4))
    r[0, 2], k[0, 0], v[0, 0] = 2.0, 3.0, 5.0
    log_w[0, :, 0, 0] = torch.tensor([-7.0, -0.5, -11.0])
    y, state = op(r, k, v, log_w, torch.zeros(1, 1, dtype=torch.float64))
    expected = 30 * torch.tensor(-0.5, dtype=torch.float64).exp()
    torch.testing.assert_close(y[0, 2, 0, 0], expected, rtol=1e-14, atol=0)
    torch.testing.assert_close(state[0, 0, 0, 0], 15 * torch.tensor(-11.5, dtype=torch.float64).exp(), rtol=1e-14, atol=0)


@pytest.mark.parametrize("decay", sorted(DECAYS))
def test_float32_is_as_exact_as_float32_can_be(decay: str) -> None:
    # Products and sums of at most 64 * 32 terms, each rounded to 2^-24: well under 1e-5 of the scale.
    # Differences of cumulative sums would be off by the spacing of float32 at 1e4, which is 1e-3.
    inputs = draw(2, 64, 2, 32, 32, decay)
    expected = values_and_gradients(NAMES, wkv6_reference, tuple(x.float().double() for x in inputs))
    actual = values_and_gradients(NAMES, wkv6_chunked, tuple(x.float() for x in inputs))
    assert all(x.isfinite().all() for x in actual.values())
    assert_same(actual, expected, 1e-5)


def test_a_weak_decay_after_a_total_one_is_not_lost() -> None:
    r, k, v, log_w, u, _ = (x.float() for x in draw(1, 16, 1, 8, 8))
    log_w = torch.full_like(log_w, -1e-3)
    log_w[:, 1] = -1e4
    y, _ = chunked(r, k, v, log_w, u, chunk=16)
    expected, _ = wkv6_reference(*(x.double() for x in (r, k, v, log_w, u)))
    assert_same({"y": y}, {"y": expected}, 1e-6)


def test_bfloat16_is_computed_in_float32_and_rounded_once() -> None:
    inputs = tuple(x.bfloat16() for x in draw(2, 20, 2, 4, 4))
    y, state = chunked(*inputs)
    exact, exact_state = chunked(*(x.float() for x in inputs))
    assert (y.dtype, state.dtype) == (torch.bfloat16, torch.float32)
    assert torch.equal(y, exact.bfloat16())
    assert torch.equal(state, exact_state)
