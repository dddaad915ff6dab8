"""The recurrence that the GPU kernels compute, as an operator of torch, and the three recurrences as cases of it.

    S_t = w_t * S_{t-1} + k_t v_t^T
    y_t = q_t (S_{t-1} + diag(u) k_t v_t^T), or q_t S_t without u

RWKV-6 has a decay a key and the bonus u; Mamba-2 one decay a head, its C as queries, B as keys and dt x as values; the
reference code of Selective WKV one decay a value. The operator can be compiled, differentiated, and mapped over runs by
`torch.func.vmap`, which folds them into the batch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gt.ops.kernels import tiles
from gt.ops.kernels.launch import assert_contiguous, contiguous, fold_runs

WEAK = -0.5  # of log w
SMALLEST = 1e-37  # in place of a decay that is 0 in float32


def encoded(log_w: Tensor) -> Tensor:
    """Decays as the kernels take them: e > 0 is w itself, e <= 0 is w - 1. log_w <= 0, and so is every shape.

    The rounding of a w near 1 is the same at each position, so that it grows with the length of a sequence: by 2^-25 * 1024 =
    3e-5. w - 1 has no such error, but would lose small w.
    """
    return torch.where(log_w > WEAK, log_w.expm1(), log_w.exp().clamp(min=SMALLEST))


def _results(q: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Room for y and the final state."""
    final = v.new_empty(v.shape[0], v.shape[2], q.shape[-1], v.shape[-1], dtype=torch.float32)
    return torch.empty_like(v, memory_format=torch.contiguous_format), final


def _gradients(
    q: Tensor, v: Tensor, e: Tensor, u: Tensor | None, decay: str
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Room for those of q, k, v, e, u and state; all but the last have a leading dimension of parts that are to be summed."""
    batch, time, heads, values = v.shape
    keys = q.shape[-1]
    cut = tiles(keys, values)
    n_key, n_value = keys // cut.keys, values // cut.values
    parts = {"key": n_value, "value": n_key, "head": n_key * n_value}[decay]
    shapes = [
        (n_value, batch, time, heads, keys),
        (n_value, batch, time, heads, keys),
        (n_key, batch, time, heads, values),
        (parts, *e.shape),
        (n_value, batch, heads, keys) if u is not None else (0,),
        (batch, heads, keys, values),
    ]
    dq, dk, dv, de, du, dstate = (v.new_empty(shape, dtype=torch.float32) for shape in shapes)
    return dq, dk, dv, de, du, dstate


@torch.library.custom_op("groundthink::recurrence", mutates_args=())
def recurrence(
    q: Tensor, k: Tensor, v: Tensor, e: Tensor, u: Tensor | None, state: Tensor | None, decay: str
) -> tuple[Tensor, Tensor]:
    """The recurrence above. Returns (y like v, final state (batch, head, key, value) in float32).

    q, k: (batch, time, group, key), where a group serves head / group heads; v: (batch, time, head, value), all three in
    float32 or bfloat16; e: encoded decays, by `decay` a "key", a "value" or a "head" (batch, time, head, key | value | 1);
    u: (runs, head, key), where a run has batch / runs sequences, or None; state: (batch, head, key, value) or None for zeros.
    All contiguous.
    """
    from gt.ops.kernels.recurrence import forward

    assert_contiguous(q, k, v, e, u, state)
    results = _results(q, v)
    forward(q, k, v, e, u, state, *results, decay)
    return results


@recurrence.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, e: Tensor, u: Tensor | None, state: Tensor | None, decay: str) -> tuple[Tensor, Tensor]:
    return _results(q, v)


@torch.library.custom_op("groundthink::recurrence_backward", mutates_args=())
def recurrence_backward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    e: Tensor,
    u: Tensor | None,
    state: Tensor | None,
    dy: Tensor,
    dfinal: Tensor | None,
    decay: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of q, k, v, e, u and state in float32; all but the last have a leading dimension of parts to be summed."""
    from gt.ops.kernels.recurrence import backward

    assert_contiguous(q, k, v, e, u, state, dy, dfinal)
    gradients = _gradients(q, v, e, u, decay)
    backward(q, k, v, e, u, state, dy, dfinal, *gradients, decay)
    return gradients


@recurrence_backward.register_fake
def _(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    e: Tensor,
    u: Tensor | None,
    state: Tensor | None,
    dy: Tensor,
    dfinal: Tensor | None,
    decay: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    return _gradients(q, v, e, u, decay)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.decay = inputs
    ctx.save_for_backward(*tensors)
    ctx.set_materialize_grads(False)


def _differentiate(ctx: Any, dy: Tensor | None, dfinal: Tensor | None) -> tuple[Tensor | None, ...]:
    q, k, v, e, u, state = ctx.saved_tensors
    dy, dfinal = torch.zeros_like(v) if dy is None else dy.contiguous(), contiguous(dfinal)
    dq, dk, dv, de, du, dstate = recurrence_backward(q, k, v, e, u, state, dy, dfinal, ctx.decay)
    dq, dk = (d.sum(0).unflatten(2, (x.shape[2], -1)).sum(3).to(x.dtype) for d, x in ((dq, q), (dk, k)))
    of_u = du.sum(0).unflatten(0, (u.shape[0], -1)).sum(1) if u is not None else None
    return dq, dk, dv.sum(0).to(v.dtype), de.sum(0), of_u, dstate if state is not None else None, None


recurrence.register_autograd(_differentiate, setup_context=_setup)


# Runs become part of the batch; each keeps its own u.
fold_runs(recurrence, Tensor.contiguous)


def _contiguous_recurrence(
    q: Tensor, k: Tensor, v: Tensor, e: Tensor, u: Tensor | None, state: Tensor | None, decay: str
) -> tuple[Tensor, Tensor]:
    """The recurrence, of inputs as they come."""
    state = state if state is None else state.float()
    y, last = recurrence(*(contiguous(x) for x in (q, k, v, e, u, state)), decay)
    return y, last


def wkv6_positions(
    r: Tensor, k: Tensor, v: Tensor, log_w: Tensor, u: Tensor, state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """As `gt.ops.wkv6.wkv6_reference`."""
    y, state = _contiguous_recurrence(r, k, v, encoded(log_w.float()), u.float().unsqueeze(0), state, "key")
    return y, state


def ssd_positions(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None = None, state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """As `gt.ops.ssd.ssd_reference`."""
    e = encoded((dt * A).float().unsqueeze(-1))
    state = state.transpose(-1, -2) if state is not None else None
    y, state = _contiguous_recurrence(C, B, (x * dt.unsqueeze(-1)).float(), e, None, state, "head")
    return (y if D is None else y + D.unsqueeze(-1) * x).to(x.dtype), state.transpose(-1, -2)


def selective_positions(k: Tensor, log_w: Tensor, B: Tensor, C: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """As `gt.ops.selective.selective_reference`: one head, its channels as values."""
    B, C, k, log_w = (x.unsqueeze(2) for x in (B, C, k, log_w))
    state = state.transpose(-1, -2).unsqueeze(1) if state is not None else None
    y, state = _contiguous_recurrence(C, B, k, encoded(log_w.float()), None, state, "value")
    return y.squeeze(2), state.squeeze(1).transpose(-1, -2)
