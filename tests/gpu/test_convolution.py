"""The convolution's kernels against torch in float64: values and gradients, of slices, of runs with their own weights.

With TRITON_INTERPRET=1 and Triton installed they also run on a CPU.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gt.ops.conv import short_convolution

GPU = torch.cuda.is_available()
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not (GPU or os.environ.get("TRITON_INTERPRET") == "1"), reason="no GPU"),
]
DEVICE = "cuda" if GPU else "cpu"
# Sums of up to 2 * 200 products, each rounded to float32; bfloat16 results are rounded once, or cut off by the interpreter.
BOUNDS = {torch.float32: 1e-6, torch.bfloat16: 2**-8 if GPU else 2**-7}


def given(time: int, channels: int, taps: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """x, a slice of something wider as a mixer cuts it; weight; bias."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(2, time, channels + 24), (channels, taps), (channels,)]
    wide, weight, bias = (torch.randn(*shape, generator=generator).to(DEVICE) for shape in shapes)
    return wide[..., 8 : 8 + channels], weight, bias


def kernel(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    from gt.ops.kernels.conv import silu_convolution

    return silu_convolution(x, weight, bias)


def exact(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.silu(short_convolution(x, weight, bias, None)[0])


def with_gradients(function: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> list[Tensor]:
    """y, and the gradients of a sum of it with fixed weights that are exact in bfloat16."""
    leaves = [x.requires_grad_() for x in inputs]
    y = function(*leaves)
    weights = (torch.arange(y.shape[-1] * y.shape[-2], device=DEVICE) % 7 - 3).view(y.shape[-2:]) / 4
    return [y, *torch.autograd.grad((y * weights.to(y)).sum(), leaves)]


def relative(actual: Tensor, expected: Tensor) -> float:
    return ((actual.double() - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("dtype", BOUNDS, ids=str)
@pytest.mark.parametrize(("time", "channels", "taps"), [(1, 8, 4), (17, 40, 4), (64, 130, 3), (200, 64, 4)])
def test_the_kernel_is_the_convolution_and_its_silu(time: int, channels: int, taps: int, dtype: torch.dtype) -> None:
    x, weight, bias = given(time, channels, taps)
    x = x.to(dtype)
    found = with_gradients(kernel, (x, weight, bias))
    wanted = with_gradients(exact, tuple(t.detach().double() for t in (x, weight, bias)))
    assert (found[0].dtype, found[1].dtype) == (dtype, dtype)
    assert max(relative(a, b) for a, b in zip(found, wanted, strict=True)) <= BOUNDS[dtype]


@pytest.mark.parametrize("compiled", [False, True])
def test_runs_have_the_bits_of_each_alone_with_its_own_weights(compiled: bool) -> None:
    runs = [given(40, 24, 4, seed) for seed in range(3)]
    wide, weights, biases = (torch.stack(x) for x in zip(*runs, strict=True))
    mapped = torch.func.vmap(kernel)
    function = torch.compile(mapped, backend="aot_eager", dynamic=False) if compiled else mapped
    together = with_gradients(function, (wide, weights, biases))
    for run, inputs in enumerate(runs):
        for a, b in zip(together, with_gradients(kernel, inputs), strict=True):
            assert torch.equal(a[run], b)
