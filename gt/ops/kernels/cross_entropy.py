"""The cross-entropy of logits, forward and backward in one pass each, in float32.

loss = log(sum of exp(l_v) over v) - l_target, and 0 where a target, being negative, does not count
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from gt.ops.kernels.launch import assert_contiguous, fold_runs

TILE = 1024  # logits at once


@triton.jit
def cross_entropy_forward_kernel(logits, targets, losses, norms, rows, V, R: tl.constexpr, C: tl.constexpr):
    """logits (rows, V), targets (rows) -> losses, and the logarithms of the sums, norms (rows). Programs: (tile of rows)."""
    row, column = tl.program_id(0).to(tl.int64) * R + tl.arange(0, R), tl.arange(0, C)[None, :]
    there = row < rows
    highest, total = tl.full([R], float("-inf"), tl.float32), tl.zeros([R], tl.float32)
    for first in range(0, V, C):
        own = there[:, None] & (first + column < V)
        x = tl.load(logits + row[:, None] * V + first + column, mask=own, other=float("-inf")).to(tl.float32)
        higher = tl.maximum(highest, tl.max(tl.where(there[:, None], x, 0.0), axis=1))
        total = total * tl.exp(highest - higher) + tl.sum(tl.exp(x - higher[:, None]), axis=1)
        highest = higher
    norm = highest + tl.log(total)
    target = tl.load(targets + row, mask=there, other=-1)
    counts = there & (target >= 0)
    picked = tl.load(logits + row * V + target, mask=counts & (target < V), other=0.0).to(tl.float32)
    tl.store(losses + row, tl.where(counts, norm - picked, 0.0), mask=there)
    tl.store(norms + row, norm, mask=there)


@triton.jit
def cross_entropy_backward_kernel(logits, targets, norms, dlosses, dlogits, rows, V, R: tl.constexpr, C: tl.constexpr):
    """dlosses (rows) -> dlogits as logits. Programs: (tile of rows, tile of columns)."""
    row = tl.program_id(0).to(tl.int64) * R + tl.arange(0, R)
    column = tl.program_id(1) * C + tl.arange(0, C)[None, :]
    there, own = row < rows, (row < rows)[:, None] & (column < V)
    target = tl.load(targets + row, mask=there, other=-1)
    d = tl.where(target >= 0, tl.load(dlosses + row, mask=there, other=0.0), 0.0)[:, None]
    x = tl.load(logits + row[:, None] * V + column, mask=own, other=0.0).to(tl.float32)
    p = tl.exp(x - tl.load(norms + row, mask=there, other=0.0)[:, None])
    given = tl.where(column == target[:, None], p - 1, p) * d
    tl.store(dlogits + row[:, None] * V + column, given.to(dlogits.dtype.element_ty), mask=own)


def _tile(vocabulary: int) -> tuple[int, int]:
    """Rows and columns."""
    columns = min(TILE, triton.next_power_of_2(vocabulary))
    return TILE // columns, columns


def _results(logits: Tensor) -> tuple[Tensor, Tensor]:
    losses = logits.new_empty(logits.shape[:-1], dtype=torch.float32)
    return losses, torch.empty_like(losses)


@torch.library.custom_op("gt::cross_entropy", mutates_args=())
def cross_entropy_forward(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """logits (..., V), targets (...) -> nats of each target (...), and the logarithm that its probability was normed by."""
    assert_contiguous(logits, targets)
    losses, norms = results = _results(logits)
    (rows_at_once, columns), rows = _tile(logits.shape[-1]), losses.numel()
    cross_entropy_forward_kernel[(triton.cdiv(rows, rows_at_once),)](
        logits, targets, losses, norms, rows, logits.shape[-1], rows_at_once, columns, num_warps=1
    )
    return results


@torch.library.custom_op("gt::cross_entropy_backward", mutates_args=())
def cross_entropy_backward(logits: Tensor, targets: Tensor, norms: Tensor, dlosses: Tensor) -> Tensor:
    """The gradient of logits."""
    assert_contiguous(logits, targets, norms, dlosses)
    dlogits = torch.empty_like(logits)
    (rows_at_once, columns), rows = _tile(logits.shape[-1]), norms.numel()
    cross_entropy_backward_kernel[(triton.cdiv(rows, rows_at_once), triton.cdiv(logits.shape[-1], columns))](
        logits, targets, norms, dlosses, dlogits, rows, logits.shape[-1], rows_at_once, columns, num_warps=1
    )
    return dlogits


@cross_entropy_forward.register_fake
def _(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    return _results(logits)


@cross_entropy_backward.register_fake
def _(logits: Tensor, targets: Tensor, norms: Tensor, dlosses: Tensor) -> Tensor:
    return torch.empty_like(logits)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs, output[1])
    ctx.set_materialize_grads(False)  # the norms have none


def _differentiate(ctx: Any, dlosses: Tensor, _: None) -> tuple[Tensor, None]:
    return cross_entropy_backward(*ctx.saved_tensors, dlosses.contiguous()), None


cross_entropy_forward.register_autograd(_differentiate, setup_context=_remember)
fold_runs(cross_entropy_forward, Tensor.contiguous)
