"""Around the kernels that go position by position: decays, shapes, tiles. The kernels: tests/gpu/test_recurrences.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from gt.ops.kernels import serves, tiles
from gt.ops.recurrence import encoded, selective_positions, ssd_positions, wkv6_positions
from gt.ops.selective import selective_reference
from gt.ops.ssd import ssd_reference
from gt.ops.wkv6 import wkv6_reference


def decayed(state: Tensor, e: Tensor) -> Tensor:
    """As a kernel applies an encoded decay, rounded once a position."""
    return torch.where(e > 0, 0, state) + e * state


@pytest.mark.parametrize("log_w", [0.0, -1e-6, -3e-4, -0.01, -0.1, -0.4999, -0.5001, -0.7, -5.0, -30.0])
def test_a_decay_keeps_its_precision_over_a_long_sequence(log_w: float) -> None:
    """The decay itself is not off by more than float32's spacing at 1 - w, or at w: over 1024 positions it stays exact."""
    log_w_32 = torch.tensor(log_w)
    e = encoded(log_w_32).double()
    w = decayed(torch.ones((), dtype=torch.float64), e)
    exact = log_w_32.double().exp()
    assert abs(w - exact) <= 2**-22 * min(exact, 1 - exact) + 1e-36
    length = 1024
    assert abs(w**length - exact**length) <= length * 2**-22 * (1 - exact) * exact**length + 1e-36


@pytest.mark.parametrize("log_w", [-1e4, -torch.inf])
def test_a_total_decay_leaves_nothing(log_w: float) -> None:
    assert decayed(torch.tensor(3.0), encoded(torch.tensor(log_w))) < 1e-36


@pytest.mark.parametrize("log_w", [0.0, -1e-6, -0.1, -0.6, -30.0])
def test_the_gradient_of_an_encoded_decay_is_the_decay(log_w: float) -> None:
    x = torch.tensor(log_w, requires_grad=True)
    (gradient,) = torch.autograd.grad(encoded(x), x)
    torch.testing.assert_close(gradient.double(), torch.tensor(log_w).double().exp(), rtol=2**-22, atol=0)


def test_tiles_cover_every_state_that_is_served_with_powers_of_two() -> None:
    states = [(keys, values) for keys in range(1, 200) for values in range(1, 600) if serves(keys, values)]
    assert {(64, 64), (32, 32), (16, 16), (128, 64), (64, 192)} <= set(states)
    for keys, values in states:
        cut = tiles(keys, values)
        assert keys % cut.keys == values % cut.values == values % cut.forward_values == 0
        assert all(n & (n - 1) == 0 for n in (keys, cut.keys, cut.values, cut.forward_values))
        assert cut.keys * cut.values <= 512
        assert keys * cut.forward_values <= 512 or cut.forward_values == 4


def shapes(kind: str, dtype: torch.dtype) -> tuple[Callable[..., Any], Callable[..., Any], list[Tensor]]:
    def empty(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.empty(shape, dtype=dtype, device="meta", requires_grad=True)

    batch, time, heads, keys, values = 2, 5, 4, 16, 32
    if kind == "wkv6":
        r, k = (empty(batch, time, heads, keys, dtype=dtype) for _ in range(2))
        v, state = empty(batch, time, heads, values, dtype=dtype), empty(batch, heads, keys, values)
        return wkv6_positions, wkv6_reference, [r, k, v, empty(batch, time, heads, keys), empty(heads, keys), state]
    if kind == "ssd":
        B, C = (empty(batch, time, 2, keys, dtype=dtype) for _ in range(2))
        x, dt = empty(batch, time, heads, values, dtype=dtype), empty(batch, time, heads)
        return ssd_positions, ssd_reference, [x, dt, empty(heads), B, C, empty(heads), empty(batch, heads, values, keys)]
    B, C = (empty(batch, time, keys, dtype=dtype) for _ in range(2))
    k, log_w = empty(batch, time, 96, dtype=dtype), empty(batch, time, 96)
    return selective_positions, selective_reference, [k, log_w, B, C, empty(batch, 96, keys)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kind", ["wkv6", "ssd", "selective"])
def test_shapes_and_types_are_those_of_the_reference(kind: str, dtype: torch.dtype) -> None:
    """What a compiler is told; also for runs that are mapped."""
    operator, reference, inputs = shapes(kind, dtype)
    y, state = operator(*inputs)
    expected, expected_state = reference(*(x.float() for x in inputs))
    assert (y.shape, state.shape) == (expected.shape, expected_state.shape)
    assert (y.dtype, state.dtype) == (dtype, torch.float32)
    for gradient, x in zip(torch.autograd.grad((y.float().sum() + state.sum()), inputs), inputs, strict=True):
        assert (gradient.shape, gradient.dtype) == (x.shape, x.dtype)

    runs = [x.detach().expand(3, *x.shape).contiguous().requires_grad_() for x in inputs]
    y, state = torch.func.vmap(operator)(*runs)
    assert (y.shape, state.shape) == ((3, *expected.shape), (3, *expected_state.shape))
    for gradient, x in zip(torch.autograd.grad(y.float().sum(), runs, allow_unused=True), runs, strict=True):
        assert gradient is not None
        assert gradient.shape == x.shape
