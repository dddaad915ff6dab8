"""On a GPU: our layers against FLA's and mamba_ssm's, with the same weights; values and gradients.

Run with `pytest -m gpu` on a machine that has a GPU and the extra `gpu`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gt.models.mixers.mamba2 import Mamba2
from gt.models.mixers.rwkv6 import RWKV6
from gt.ops.backend import without_mamba1
from gt.ops.ssd import ssd_chunked
from gt.ops.wkv6 import wkv6_chunked
from gt.seeds import Streams

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")]
# Relative to the largest value: sums of up to 256 terms, each rounded to 2^-24, in four products one after the other.
BOUND = 4 * 256 * 2**-24
# One rounding to bfloat16.
BFLOAT16 = 2**-8
SHAPES = [(2, 33, 64), (2, 200, 128)]  # batch, time, d_model: below and above where FLA changes its kernel


@pytest.fixture(scope="module", autouse=True)
def conditions() -> Iterator[None]:
    """mamba_ssm can be imported, and kernels multiply float32 matrices as such: Triton's default is TF32."""
    with pytest.MonkeyPatch.context() as patch, without_mamba1():
        patch.setenv("TRITON_F32_DEFAULT", "ieee")  # read when a kernel is first compiled
        yield


@pytest.fixture(scope="module", autouse=True)
def few_configurations() -> Iterator[None]:
    """FLA's kernels compile hundreds of configurations at their first call, which takes ten minutes; each of them is right."""
    autotuner = pytest.importorskip("triton.runtime.autotuner").Autotuner
    begin = autotuner.__init__

    def begin_with_two(self: Any, fn: Any, arg_names: Any, configs: list[Any], *args: Any, **options: Any) -> None:
        begin(self, fn, arg_names, configs[:2] if fn.__module__.startswith("fla.") else configs, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(autotuner, "__init__", begin_with_two)
        yield


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).cuda()


def relative(actual: Tensor, expected: Tensor) -> float:
    scale = expected.float().abs().max().clamp(min=1e-6)
    return ((actual.float() - expected.float()).abs().max() / scale).item()


def perturbed(module: nn.Module) -> nn.Module:
    """Away from initial values that are zero and would hide what comes before them."""
    module.reset_parameters(Streams(0))  # type: ignore[operator]
    with torch.no_grad():
        for i, parameter in enumerate(module.parameters()):
            parameter += 0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(i))
    return module.cuda()


def values_and_gradients(module: nn.Module, x: Tensor, autocast: bool = False) -> dict[str, Tensor]:
    """The output for x, and the gradients of x and of every parameter."""
    module.zero_grad()
    x = x.clone().requires_grad_()
    with torch.autocast("cuda", torch.bfloat16, enabled=autocast):
        output = module(x)
        y = output[0] if isinstance(output, tuple) else output
    (y.float() * noise(*x.shape, seed=9)).sum().backward()
    return {"y": y, "x": x.grad, **{name: p.grad for name, p in module.named_parameters()}}  # type: ignore[dict-item]


def assert_same_layer(ours: nn.Module, theirs: nn.Module, x: Tensor) -> None:
    """In float32 equal to rounding; in bfloat16 ours is as near to the float32 result as theirs, within a factor of two."""
    theirs.load_state_dict(ours.state_dict(), strict=True)
    exact, other = values_and_gradients(ours, x), values_and_gradients(theirs, x)
    assert exact.keys() == other.keys()
    errors = {name: relative(value, other[name]) for name, value in exact.items()}
    assert max(errors.values()) < BOUND, sorted(errors.items(), key=lambda item: -item[1])[:4]
    half, other_half = values_and_gradients(ours, x, autocast=True), values_and_gradients(theirs, x, autocast=True)
    for name, value in exact.items():
        own, reference = relative(half[name], value), relative(other_half[name], value)
        assert own <= 2 * max(reference, BFLOAT16), (name, own, reference)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_rwkv6_is_fla_s_layer_with_our_weights(shape: tuple[int, int, int]) -> None:
    layers = pytest.importorskip("fla.layers.rwkv6")
    batch, time, d_model = shape
    theirs = layers.RWKV6Attention(hidden_size=d_model, expand_k=1.0, expand_v=1.0, num_heads=d_model // 32, norm_eps=64e-5)
    assert_same_layer(perturbed(RWKV6(d_model, 1, 4, head_size=32)), theirs.cuda(), noise(batch, time, d_model))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_mamba2_is_fla_s_layer_with_our_weights(shape: tuple[int, int, int]) -> None:
    layers = pytest.importorskip("fla.layers.mamba2")
    batch, time, d_model = shape
    theirs: Any = layers.Mamba2(hidden_size=d_model, head_dim=32, state_size=64, chunk_size=64, backend="triton").cuda()
    # Its path for training wants the compiled causal_conv1d; that for evaluation has the same kernels, and gradients too.
    theirs.eval()
    assert_same_layer(perturbed(Mamba2(d_model, 1, 4, head_dim=32, d_state=64)), theirs, noise(batch, time, d_model))


@pytest.mark.parametrize("time", [17, 64, 200])
def test_ssd_is_mamba_ssm_s_kernel(time: int) -> None:
    module = pytest.importorskip("mamba_ssm.ops.triton.ssd_combined")
    shape = (2, time, 4, 32)
    x, dt = noise(*shape), torch.nn.functional.softplus(noise(2, time, 4, seed=1))
    A, B, C = -torch.rand(4, device="cuda") - 0.1, noise(2, time, 1, 64, seed=2), noise(2, time, 1, 64, seed=3)
    D, state = noise(4, seed=4), noise(2, 4, 32, 64, seed=5)
    results = []
    for op in ("ours", "theirs"):
        inputs = [t.clone().requires_grad_() for t in (x, dt, A, B, C, D, state)]
        if op == "ours":
            y, last = ssd_chunked(*inputs)
        else:
            y, last = module.mamba_chunk_scan_combined(
                *inputs[:5], chunk_size=64, D=inputs[5], initial_states=inputs[6], return_final_states=True
            )
        gradients = torch.autograd.grad((y * noise(*shape, seed=6)).sum() + (last * state).sum(), inputs)
        results.append([y, last, *gradients])
    errors = [relative(a, b) for a, b in zip(*results, strict=True)]
    assert max(errors) < BOUND, errors


@pytest.mark.parametrize("time", [17, 64, 200])
def test_wkv6_is_fla_s_recurrent_kernel(time: int) -> None:
    ops = pytest.importorskip("fla.ops.rwkv6")
    shape = (2, time, 4, 32)
    r, k, v = noise(*shape), noise(*shape, seed=1), noise(*shape, seed=2)
    log_w, u, state = -noise(*shape, seed=3).exp(), noise(4, 32, seed=4), noise(2, 4, 32, 32, seed=5)
    results = []
    for op in ("ours", "theirs"):
        inputs = [t.clone().requires_grad_() for t in (r, k, v, log_w, u, state)]
        if op == "ours":
            y, last = wkv6_chunked(*inputs)
        else:
            y, last = ops.fused_recurrent_rwkv6(*inputs[:5], scale=1.0, initial_state=inputs[5], output_final_state=True)
        # FLA's recurrent kernel passes nothing back from the last state, so the loss is of y alone.
        gradients = torch.autograd.grad((y * noise(*shape, seed=6)).sum(), inputs)
        results.append([y, last, *gradients])
    errors = [relative(a, b) for a, b in zip(*results, strict=True)]
    assert max(errors) < BOUND, errors


def test_cpu_and_gpu_agree_in_float32() -> None:
    for layer in (perturbed(RWKV6(128, 1, 4, head_size=32)), perturbed(Mamba2(128, 1, 4, head_dim=32, d_state=64))):
        x = noise(2, 100, 128)
        on_gpu = layer(x)[0]
        on_cpu = layer.cpu()(x.cpu())[0]
        assert relative(on_gpu.cpu(), on_cpu) < BOUND
