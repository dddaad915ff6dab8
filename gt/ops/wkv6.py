"""The recurrence of RWKV-6 (Peng et al. 2024, arXiv:2404.05892, equations 18 and 19).

    y_t = r_t (S_{t-1} + diag(u) k_t v_t^T)
    S_t = diag(w_t) S_{t-1} + k_t v_t^T

Shapes: r, k, log_w (batch, time, head, key); v (batch, time, head, value); u (head, key); state S (batch, head, key, value).
log_w = log w_t <= 0, one decay a channel and position.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gt.ops.backend import Recurrence, implementation, register, select
from gt.ops.chunks import from_chunks, halvings, in_chunks


def wkv6(r: Tensor, k: Tensor, v: Tensor, log_w: Tensor, u: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The recurrence by the best backend for the device and shape. Returns (y like v, state)."""
    name = select(OP, v.device.type, log_w.dtype == torch.float64, k.shape[-1], v.shape[-1])
    return implementation(OP, name)(r, k, v, log_w, u, state)


def wkv6_reference(
    r: Tensor, k: Tensor, v: Tensor, log_w: Tensor, u: Tensor, state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """One position after the other, in the dtype of the inputs. Returns (y (batch, time, head, value), state)."""
    if state is None:
        state = v.new_zeros(*k.shape[:1], *k.shape[2:], v.shape[-1])
    outputs = []
    for t in range(r.shape[1]):
        kv = k[:, t].unsqueeze(-1) * v[:, t].unsqueeze(-2)
        outputs.append(torch.einsum("bhk,bhkv->bhv", r[:, t], state + u.unsqueeze(-1) * kv))
        state = log_w[:, t].exp().unsqueeze(-1) * state + kv
    return torch.stack(outputs, dim=1), state


def wkv6_chunked(
    r: Tensor, k: Tensor, v: Tensor, log_w: Tensor, u: Tensor, state: Tensor | None = None, chunk: int = 16
) -> tuple[Tensor, Tensor]:
    """The same, a chunk of positions at once; differentiable. Computes in float32 at least; y has v's dtype.

    Inside a chunk (of at least 2) each pair of positions gets the product of the decays between them as two factors that
    meet in the middle of the halving which separates the pair. Exponents are sums of non-positive numbers, never
    differences of long sums, so nothing overflows or cancels however strong a decay is. Only the states between chunks are
    sequential.
    """
    time = r.shape[1]
    dtype = torch.promote_types(v.dtype, torch.float32)
    # (batch, head, chunks, chunk, channel); a padded position writes nothing and decays nothing
    r, k, values, log_w = (in_chunks(x.to(dtype), chunk) for x in (r, k, v, log_w))
    log_w = log_w.clamp(min=-1e30)  # a sum that leaves out an infinite decay must not make 0 times infinity of it
    n_chunks = r.shape[2]
    ones = torch.ones(chunk, chunk, dtype=dtype, device=r.device)
    before, after = ones.tril(-1), ones.triu(1)

    # Each pair s < t is separated by the middle of just one level: decay to the middle times decay from it.
    to_middle, pairs = halvings(chunk, dtype, r.device)
    decay = (to_middle @ log_w.unsqueeze(-3)).exp()  # (..., level, chunk, channel)
    level_scores = (r.unsqueeze(-3) * decay) @ (k.unsqueeze(-3) * decay).transpose(-1, -2)
    scores = (level_scores * pairs).sum(-3)
    bonus = (r * u.to(dtype)[:, None, None] * k).sum(-1, keepdim=True)
    y = scores @ values + bonus * values

    written = (k * (after @ log_w).exp()).transpose(-1, -2) @ values
    kept = log_w.sum(-2).exp().unsqueeze(-1)
    state = torch.zeros_like(written[:, :, 0]) if state is None else state.to(dtype)
    starts = []
    for n in range(n_chunks):
        starts.append(state)
        state = kept[:, :, n] * state + written[:, :, n]
    y = y + (r * (before @ log_w).exp()) @ torch.stack(starts, dim=2)
    return from_chunks(y, time).to(v.dtype), state


def _chunks() -> Recurrence:
    from gt.ops.kernels.wkv6 import wkv6_chunks

    return wkv6_chunks


def _positions() -> Recurrence:
    from gt.ops.recurrence import wkv6_positions

    return wkv6_positions


def _fla() -> Recurrence:
    from fla.ops.rwkv6 import chunk_rwkv6, fused_recurrent_rwkv6

    def fla(r: Tensor, k: Tensor, v: Tensor, log_w: Tensor, u: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        # as FLA's layer chooses
        op = fused_recurrent_rwkv6 if r.shape[1] <= 64 else chunk_rwkv6
        result: Any = op(r, k, v, log_w.to(r.dtype), u, scale=1.0, initial_state=state, output_final_state=True)
        return result[0], result[1]

    return fla


OP = register("wkv6", largest_in_chunks=64 * 64, chunked=lambda: wkv6_chunked, chunks=_chunks, positions=_positions, fla=_fla)
