"""What the tests of the recurrences share: an op's values and gradients, and how two of them are compared."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Op = Callable[..., tuple[Tensor, Tensor]]


def values_and_gradients(names: tuple[str, ...], op: Op, inputs: tuple[Tensor, ...], **options: int) -> dict[str, Tensor]:
    """y, the final state, and the gradient of a random projection of both in every input, under the inputs' names."""
    leaves = [x.clone().requires_grad_() for x in inputs]
    y, state = op(*leaves, **options)
    generator = torch.Generator().manual_seed(1)
    weights = [torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x.dtype) for x in (y, state)]
    loss = (y * weights[0]).sum() + (state * weights[1]).sum()
    gradients = torch.autograd.grad(loss, leaves)
    return {"y": y, "final state": state, **dict(zip(names, gradients, strict=True))}


def assert_same(actual: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    """Equal up to `tolerance` times the largest element of each tensor."""
    for name, value in expected.items():
        scale = max(1.0, value.abs().max().item())
        difference = (actual[name] - value).abs().max().item()
        assert difference <= tolerance * scale, f"{name}: {difference:.1e} at scale {scale:.1e}"
