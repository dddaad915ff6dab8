"""The chunked Mamba-2 recurrence computes what the sequential one does, whatever the decay."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recurrences import Op, assert_same, values_and_gradients
from torch import Tensor

from gt.ops.ssd import ssd_chunked, ssd_reference

NAMES = ("x", "dt", "A", "B", "C", "D", "state")
# log10 of dt * |A|: from hardly any decay to none of the past left
DECAYS = {"weak": (-6, -5), "ordinary": (-2, 0.5), "strong": (1, 1.5), "total": (4, 4), "mixed": (-6, 4)}


def draw(
    batch: int,
    time: int,
    groups: int,
    per_group: int,
    headdim: int,
    d_state: int,
    decay: str = "ordinary",
    seed: int = 0,
) -> tuple[Tensor, ...]:
    """x, dt, A, B, C, D and a state, in float64."""
    generator = torch.Generator().manual_seed(seed)
    heads = groups * per_group

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    low, high = DECAYS[decay]
    strength = 10 ** (low + (high - low) * torch.rand(batch, time, heads, generator=generator, dtype=torch.float64))
    A = -torch.linspace(1, 16, heads, dtype=torch.float64)
    B, C = normal(batch, time, groups, d_state), normal(batch, time, groups, d_state)
    x, D, state = normal(batch, time, heads, headdim), normal(heads), normal(batch, heads, headdim, d_state)
    return x, strength / A.abs(), A, B, C, D, state


@settings(max_examples=40)
@given(
    batch=st.integers(1, 2),
    time=st.integers(1, 37),
    groups=st.integers(1, 2),
    per_group=st.integers(1, 2),
    headdim=st.integers(1, 4),
    d_state=st.integers(1, 4),
    decay=st.sampled_from(sorted(DECAYS)),
    chunk=st.sampled_from([1, 3, 16, 64]),
    seed=st.integers(0, 999),
)
def test_chunks_do_not_change_values_or_gradients(
    batch: int,
    time: int,
    groups: int,
    per_group: int,
    headdim: int,
    d_state: int,
    decay: str,
    chunk: int,
    seed: int,
) -> None:
    inputs = draw(batch, time, groups, per_group, headdim, d_state, decay, seed)
    expected = values_and_gradients(NAMES, ssd_reference, inputs)
    assert_same(values_and_gradients(NAMES, ssd_chunked, inputs, chunk=chunk), expected, 1e-10)


def test_gradients_are_those_of_finite_differences() -> None:
    chunked_by_three: Op = partial(ssd_chunked, chunk=3)
    inputs = [x.requires_grad_() for x in draw(1, 5, 1, 2, 2, 2)]
    assert torch.autograd.gradcheck(chunked_by_three, inputs)


@given(cut=st.integers(1, 28), decay=st.sampled_from(sorted(DECAYS)))
@settings(max_examples=20)
def test_a_sequence_cut_anywhere_goes_on_from_its_state(cut: int, decay: str) -> None:
    x, dt, A, B, C, D, state = draw(2, 29, 1, 2, 3, 4, decay)
    whole, last = ssd_chunked(x, dt, A, B, C, D, state, chunk=8)
    first, carried = ssd_chunked(x[:, :cut], dt[:, :cut], A, B[:, :cut], C[:, :cut], D, state, chunk=8)
    second, end = ssd_chunked(x[:, cut:], dt[:, cut:], A, B[:, cut:], C[:, cut:], D, carried, chunk=8)
    assert_same({"y": torch.cat([first, second], dim=1), "state": end}, {"y": whole, "state": last}, 1e-10)


def test_no_state_is_a_state_of_zeros_and_no_skip_a_skip_of_zero() -> None:
    x, dt, A, B, C, D, state = draw(2, 11, 1, 2, 3, 4)
    for op in (ssd_reference, ssd_chunked):
        explicit = op(x, dt, A, B, C, torch.zeros_like(D), torch.zeros_like(state))
        for a, b in zip(op(x, dt, A, B, C), explicit, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize("op", [ssd_reference, ssd_chunked])
def test_a_pair_of_positions_sees_the_decays_after_the_writer_up_to_the_reader(op: Op) -> None:
    # y_2 = C_2 exp((dt_1 + dt_2) A) dt_0 x_0 B_0, written out for one channel.
    x, B, C = (torch.zeros(1, 3, 1, 1, dtype=torch.float64) for _ in range(3))
    x[0, 0], B[0, 0], C[0, 2] = 3.0, 5.0, 7.0
    dt = torch.tensor([0.25, 0.5, 2.0], dtype=torch.float64).view(1, 3, 1)
    y, state = op(x, dt, torch.tensor([-1.5], dtype=torch.float64), B, C)
    decayed = 0.25 * 15 * torch.tensor(-1.5 * 2.5, dtype=torch.float64).exp()
    torch.testing.assert_close(y[0, 2, 0, 0], 7 * decayed, rtol=1e-14, atol=0)
    torch.testing.assert_close(state[0, 0, 0, 0], decayed, rtol=1e-14, atol=0)


def test_heads_of_a_group_share_its_B_and_C() -> None:
    x, dt, A, B, C, D, state = draw(2, 19, 2, 3, 3, 4)
    y, _ = ssd_chunked(x, dt, A, B, C, D, state)
    for head in range(6):
        one, group = slice(head, head + 1), slice(head // 3, head // 3 + 1)
        alone, _ = ssd_reference(x[:, :, one], dt[:, :, one], A[one], B[:, :, group], C[:, :, group], D[one], state[:, one])
        torch.testing.assert_close(y[:, :, one], alone, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("decay", sorted(DECAYS))
def test_float32_is_as_exact_as_float32_can_be(decay: str) -> None:
    # Products and sums of at most 64 * 32 terms, each rounded to 2^-24: well under 1e-5 of the scale.
    inputs = draw(2, 64, 1, 2, 32, 32, decay)
    expected = values_and_gradients(NAMES, ssd_reference, tuple(x.float().double() for x in inputs))
    actual = values_and_gradients(NAMES, ssd_chunked, tuple(x.float() for x in inputs))
    assert all(x.isfinite().all() for x in actual.values())
    assert_same(actual, expected, 1e-5)


def test_bfloat16_is_computed_in_float32() -> None:
    # Only x is bfloat16, as under autocast; y is rounded to it once, at 2^-9 of each element.
    x, dt, A, B, C, D, state = (t.float() for t in draw(2, 20, 1, 2, 3, 4))
    x = x.bfloat16()
    y, last = ssd_chunked(x, dt, A, B, C, D, state)
    exact, exact_last = ssd_chunked(x.float(), dt, A, B, C, D, state)
    assert (y.dtype, last.dtype) == (torch.bfloat16, torch.float32)
    assert torch.equal(y, exact.bfloat16())
    assert torch.equal(last, exact_last)
