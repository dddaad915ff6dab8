"""An embedding of a small vocabulary, whose gradient is a product with which token stands where, in a fixed order.

    dE_v = sum of dx_t over the positions t of token v

As a product on the matrix units: one factor is zeros and ones, the other is split into two bfloat16 numbers, which keep 16 bits
of it. A sum a token would be a scatter, whose order is not fixed, or a sort, which is many kernels.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from gt.ops.kernels.launch import assert_contiguous, fold_runs
from gt.ops.kernels.products import product

ROWS, TOKENS, COLUMNS = 128, 128, 64  # positions of a program, tokens and columns of a tile
LARGEST = 1024  # tokens: beyond, the product is more work than a sort


@triton.jit
def embedding_forward_kernel(tokens, table, y, rows, V, of_table, N: tl.constexpr, R: tl.constexpr, C: tl.constexpr):
    """tokens (run * rows), table (run, V, N) of runs that stand of_table apart -> y (run * rows, N). Programs: (part, run)."""
    run, column = tl.program_id(1).to(tl.int64), tl.arange(0, C)[None, :]
    row = tl.program_id(0) * R + tl.arange(0, R)
    token = tl.load(tokens + run * rows + row, mask=row < rows, other=0)[:, None]
    there = (row < rows)[:, None] & (column < N)
    read = tl.load(table + run * of_table + token * N + column, mask=there & (token >= 0) & (token < V), other=0.0)
    tl.store(y + (run * rows + row)[:, None] * N + column, read, mask=there)


@triton.jit
def embedding_backward_kernel(
    tokens, dy, dtable, rows, V, N: tl.constexpr, ROWS: tl.constexpr, TOKENS: tl.constexpr, C: tl.constexpr
):
    """tokens (run * rows), dy (run * rows, N) -> dtable (run, part, V, N). Programs: (part, tile of table, run)."""
    tiles: tl.constexpr = (N + C - 1) // C
    run = tl.program_id(2).to(tl.int64)
    column = tl.program_id(1) % tiles * C + tl.arange(0, C)
    token = tl.program_id(1) // tiles * TOKENS + tl.arange(0, TOKENS)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    there = row < rows
    stands = tl.load(tokens + run * rows + row, mask=there, other=-1)
    here = tl.where(token[:, None] == stands[None, :], 1.0, 0.0)
    at = (run * rows + row)[:, None] * N + column[None, :]
    d = tl.load(dy + at, mask=there[:, None] & (column < N)[None, :], other=0.0).to(tl.float32)
    upper = (d.to(tl.int32, bitcast=True) & -65536).to(tl.float32, bitcast=True)  # the bits that bfloat16 keeps
    total = product(here, upper) + product(here, d - upper)
    at = ((run * tl.num_programs(0) + tl.program_id(0)) * V + token)[:, None] * N + column[None, :]
    tl.store(dtable + at, total, mask=(token < V)[:, None] & (column < N)[None, :])


@torch.library.custom_op("gt::embedding", mutates_args=())
def embedding_forward(tokens: Tensor, table: Tensor) -> Tensor:
    """tokens (B, T), table (R, V, N), where B / R sequences are a run's -> (B, T, N)."""
    assert_contiguous(tokens, table[0])
    runs, vocabulary, n = table.shape
    y, rows = table.new_empty(*tokens.shape, n), tokens.numel() // runs
    embedding_forward_kernel[(triton.cdiv(rows, 4), runs)](
        tokens, table, y, rows, vocabulary, table.stride(0), n, 4, triton.next_power_of_2(n), num_warps=1
    )
    return y


@torch.library.custom_op("gt::embedding_backward", mutates_args=())
def embedding_backward(tokens: Tensor, dy: Tensor, runs: int, vocabulary: int) -> Tensor:
    """The gradient of the table in parts (R, part, V, N)."""
    assert_contiguous(tokens, dy)
    dtable = _gradient(tokens, dy, runs, vocabulary)
    n = dy.shape[-1]
    tiles = triton.cdiv(vocabulary, TOKENS) * triton.cdiv(n, COLUMNS)
    embedding_backward_kernel[(dtable.shape[1], tiles, runs)](
        tokens, dy, dtable, tokens.numel() // runs, vocabulary, n, ROWS, TOKENS, COLUMNS, num_warps=8
    )
    return dtable


def _gradient(tokens: Tensor, dy: Tensor, runs: int, vocabulary: int) -> Tensor:
    return dy.new_empty(runs, triton.cdiv(tokens.numel() // runs, ROWS), vocabulary, dy.shape[-1], dtype=torch.float32)


@embedding_forward.register_fake
def _(tokens: Tensor, table: Tensor) -> Tensor:
    return table.new_empty(*tokens.shape, table.shape[2])


@embedding_backward.register_fake
def _(tokens: Tensor, dy: Tensor, runs: int, vocabulary: int) -> Tensor:
    return _gradient(tokens, dy, runs, vocabulary)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    tokens, table = inputs
    ctx.save_for_backward(tokens)
    ctx.shape, ctx.dtype = table.shape[:2], table.dtype


def _differentiate(ctx: Any, dy: Tensor) -> tuple[None, Tensor]:
    (tokens,) = ctx.saved_tensors
    return None, embedding_backward(tokens, dy.contiguous(), *ctx.shape).sum(1).to(ctx.dtype)


embedding_forward.register_autograd(_differentiate, setup_context=_remember)
fold_runs(embedding_forward, Tensor.contiguous)
