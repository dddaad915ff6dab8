"""Our kernels against the recurrences one position after the other, in float64: values and gradients, at every decay.

With TRITON_INTERPRET=1 and Triton installed they also run on a CPU, at the smallest shape.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from kernels import BFLOAT16, DEVICE, FLOAT32, GPU, MARKS, in_a_buffer, noise, relative
from torch import Tensor

from gt.ops.backend import asked, implementation, serving
from gt.ops.selective import selective, selective_reference
from gt.ops.ssd import ssd, ssd_reference
from gt.ops.wkv6 import wkv6, wkv6_reference

pytestmark = MARKS
LENGTHS, SIZES = ((17, 64, 200, 1024), (16, 32, 64)) if GPU else ((17,), (16,))
DECAYS = {"mixed": None, "none": -1e-6, "total": -30.0}
KERNELS = [("wkv6", "chunks"), ("wkv6", "positions"), ("ssd", "chunks"), ("ssd", "positions"), ("selective", "positions")]
# A and D of Mamba-2: torch sums their gradients over all sequences, in an order that depends on how many there are.
SUMMED = {"ssd": (4, 7)}
# Inputs that are bfloat16 where a model is: r, k, v; x, B, C.
ACTIVATIONS = {"wkv6": (0, 1, 2), "ssd": (0, 3, 4)}
REFERENCES: dict[str, Callable[..., Any]] = {"wkv6": wkv6_reference, "ssd": ssd_reference, "selective": selective_reference}


def inputs(op: str, time: int, size: int, log_decay: float | None, seed: int = 0) -> list[Tensor]:
    """Of a recurrence, with an initial state last."""
    batch, heads = 2, 3

    def decays(*shape: int) -> Tensor:
        return -noise(*shape, seed=seed + 50).exp() if log_decay is None else torch.full(shape, log_decay, device=DEVICE)

    def draw(*shape: int, seed: int = seed) -> Tensor:
        return noise(*shape, seed=seed)

    if op == "wkv6":
        shape = (batch, time, heads, size)
        rkv = [draw(*shape, seed=seed + i) for i in range(3)]
        return [*rkv, decays(*shape), draw(heads, size, seed=seed + 4), draw(batch, heads, size, size, seed=seed + 5)]
    if op == "ssd":
        x, dt = draw(batch, time, 4, size), torch.rand(batch, time, 4, generator=torch.Generator().manual_seed(seed)).to(DEVICE)
        A = decays(4)
        B, C = (draw(batch, time, 2, 2 * size, seed=seed + i) for i in (1, 2))
        return [x, dt, A, B, C, draw(4, seed=seed + 3), draw(batch, 4, size, 2 * size, seed=seed + 5)]
    k, log_w, B, C = draw(batch, time, 64), decays(batch, time, 64), *(draw(batch, time, size, seed=seed + i) for i in (1, 2))
    return [k, log_w, B, C, draw(batch, 64, size, seed=seed + 5)]


def with_gradients(function: Callable[..., Any], given: list[Tensor]) -> list[Tensor]:
    """The output, the last state, and the gradients of a random functional of both."""
    leaves = [x.clone().requires_grad_() for x in given]
    y, last = function(*leaves)
    weighed = (y * noise(*y.shape, seed=90).to(y)).sum() + (last * noise(*last.shape, seed=91).to(last)).sum()
    return [y, last, *torch.autograd.grad(weighed, leaves)]


@pytest.mark.parametrize("decay", DECAYS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("time", LENGTHS)
@pytest.mark.parametrize(("op", "backend"), KERNELS)
def test_a_kernel_is_its_recurrence(op: str, backend: str, time: int, size: int, decay: str) -> None:
    given = inputs(op, time, size, DECAYS[decay])
    exact = with_gradients(REFERENCES[op], [x.double() for x in given])
    found = with_gradients(implementation(op, backend), given)
    errors = [relative(a, b) for a, b in zip(found, exact, strict=True)]
    assert max(errors) <= FLOAT32, errors


@pytest.mark.parametrize("decay", DECAYS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("op", "backend"), [kernel for kernel in KERNELS if kernel[0] in ACTIVATIONS])
def test_a_kernel_of_bfloat16_activations(op: str, backend: str, size: int, decay: str) -> None:
    """What the kernel is given is rounded already, so the reference gets the rounded numbers too."""
    given = [x.bfloat16() if i in ACTIVATIONS[op] else x for i, x in enumerate(inputs(op, LENGTHS[-1], size, DECAYS[decay]))]
    exact = with_gradients(REFERENCES[op], [x.double() for x in given])
    found = with_gradients(implementation(op, backend), given)
    errors = [relative(a, b) for a, b in zip(found, exact, strict=True)]
    assert max(errors) <= BFLOAT16, errors


@pytest.mark.parametrize("rounded", [False, True])
@pytest.mark.parametrize(("op", "backend"), KERNELS)
def test_stacked_runs_have_the_bits_of_each_alone(op: str, backend: str, rounded: bool) -> None:
    """rounded: of bfloat16 activations."""
    kernel = implementation(op, backend)
    runs = [inputs(op, LENGTHS[0], SIZES[0], None, seed=100 * run) for run in range(3)]
    if rounded:
        runs = [[x.bfloat16() if i in ACTIVATIONS.get(op, ()) else x for i, x in enumerate(run)] for run in runs]
    together_of = [torch.stack(x) for x in zip(*runs, strict=True)]
    stacked = [(in_a_buffer(x) if x.ndim <= 3 else x).requires_grad_() for x in together_of]
    y, last = torch.func.vmap(kernel)(*stacked)
    together = [y, last, *torch.autograd.grad(y.square().sum() + last.square().sum(), stacked)]
    for run, given in enumerate(runs):
        leaves = [x.clone().requires_grad_() for x in given]
        y, last = kernel(*leaves)
        alone = [y, last, *torch.autograd.grad(y.square().sum() + last.square().sum(), leaves)]
        for i, (a, b) in enumerate(zip(together, alone, strict=True)):
            if i in SUMMED.get(op, ()):
                assert relative(a[run], b) <= FLOAT32
            else:
                assert torch.equal(a[run], b), i


@pytest.mark.parametrize(("op", "backend"), KERNELS)
def test_a_compiler_sees_what_surrounds_a_kernel(op: str, backend: str) -> None:
    """Runs traced, with inputs that are slices of a wider tensor as mixers cut them, give the bits of untraced ones."""
    runs = [inputs(op, LENGTHS[0], SIZES[0], None, seed=100 * run) for run in range(2)]
    stacked = [torch.stack(x) for x in zip(*runs, strict=True)]
    given = [torch.cat([x, x], dim=-1)[..., : x.shape[-1]].requires_grad_() for x in stacked]
    kernel = torch.func.vmap(implementation(op, backend))
    results = []
    for function in (kernel, torch.compile(kernel, backend="aot_eager", dynamic=False)):
        y, last = function(*given)
        results.append([y, last, *torch.autograd.grad(y.square().sum() + last.square().sum(), given)])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize(("op", "backend"), KERNELS)
def test_the_same_call_gives_the_same_bits(op: str, backend: str) -> None:
    given = inputs(op, LENGTHS[-1], SIZES[-1], None)
    once, again = (with_gradients(implementation(op, backend), given) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))


@pytest.mark.skipif(not GPU, reason="no GPU")
def test_a_gpu_gets_kernels_and_a_head_of_odd_size_gets_torch() -> None:
    with asked() as operations:
        for op, function in {"wkv6": wkv6, "ssd": ssd, "selective": selective}.items():
            function(*inputs(op, 17, 16, None))
        odd = [noise(1, 5, 2, 36) for _ in range(3)]
        wkv6(*odd, -noise(1, 5, 2, 36).exp(), noise(2, 36))
    served = {state: name.split(":")[0] for state, name in serving(operations, "cuda").items()}
    expected = {"wkv6 16x16": "chunks", "ssd 32x16": "chunks", "selective 16x64": "positions", "wkv6 36x36": "chunked"}
    assert served == expected
