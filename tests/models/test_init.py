"""Initial values are those of the distributions they are said to be, and the same wherever they are drawn."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from gt.models.init import orthogonal_
from gt.seeds import Streams

SHAPES = [(128, 128), (256, 64), (64, 256)]


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def orthogonal(shape: tuple[int, int]) -> Tensor:
    matrix = torch.empty(shape)
    orthogonal_(matrix, 0.5, Streams(3), "weight")
    return matrix


@pytest.mark.parametrize("shape", SHAPES)
def test_orthogonal_matrices_are_the_unique_ones_of_their_draws(shape: tuple[int, int]) -> None:
    """Those that make the drawn matrix upper triangular with a positive diagonal, as `nn.init.orthogonal_` takes them."""
    drawn = torch.empty(shape).normal_(generator=Streams(3).generator("weight")).double()
    q = orthogonal(shape).double() / 0.5
    drawn, q = (drawn.T, q.T) if shape[0] < shape[1] else (drawn, q)
    rounding = 2**-24 * drawn.norm().item()
    torch.testing.assert_close(q.T @ q, torch.eye(min(shape)).double(), rtol=0, atol=rounding)
    triangle = q.T @ drawn
    torch.testing.assert_close(triangle.tril(-1), torch.zeros_like(triangle), rtol=0, atol=rounding)
    assert (triangle.diagonal() > 0).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_orthogonal_matrices_do_not_depend_on_the_number_of_threads(shape: tuple[int, int], threads: None) -> None:
    torch.set_num_threads(1)
    alone = orthogonal(shape)
    torch.set_num_threads(2)
    assert torch.equal(orthogonal(shape), alone)
    assert torch.get_num_threads() == 2
