"""What the tests of kernels share: where they run, what error is allowed, and inputs."""

from __future__ import annotations

import os

import pytest
import torch
from torch import Tensor

# With TRITON_INTERPRET=1 and Triton installed kernels also run on a CPU.
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
GPU = torch.cuda.is_available()
MARKS = [pytest.mark.gpu, pytest.mark.skipif(not (GPU or INTERPRETED), reason="no GPU")]
DEVICE = "cuda" if GPU else "cpu"
# What the project demands of every path: relative error of float32, and of bfloat16 activations.
FLOAT32, BFLOAT16 = 2e-5, 1e-2


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Of a normal distribution."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def relative(actual: Tensor, expected: Tensor) -> float:
    """The norm of the difference over that of what is expected."""
    return ((actual.double() - expected.double()).norm() / expected.double().norm().clamp(min=1e-30)).item()


def in_a_buffer(x: Tensor) -> Tensor:
    """The same numbers of several runs, each run's apart from the next one's, as weights lie in a flat buffer."""
    buffer = x.new_zeros(len(x), x[0].numel() + 32)
    buffer[:, : x[0].numel()] = x.flatten(1)
    return buffer[:, : x[0].numel()].view(x.shape)
