"""A recurrence whose decay belongs to the channel that is read out (the reference code of lines 205-259 of document 0).

    S_t = diag(w_t) S_{t-1} + k_t B_t^T
    y_t = S_t C_t

Shapes: k, log_w (batch, time, channel); B, C (batch, time, d_state); state S (batch, channel, d_state).
log_w = log w_t <= 0. RWKV-6 sums over the channel that decays; here each channel d keeps its own row of S, decays it by
w_t[d], and all rows are written with the same B and read with the same C, as in Mamba with one rate a channel.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gt.ops.backend import Recurrence, implementation, register, select
from gt.ops.chunks import from_chunks, halvings, in_chunks


def selective(k: Tensor, log_w: Tensor, B: Tensor, C: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The recurrence by the best backend for the device and shape. Returns (y like k, state)."""
    name = select(OP, k.device.type, log_w.dtype == torch.float64, B.shape[-1], k.shape[-1])
    return implementation(OP, name)(k, log_w, B, C, state)


def selective_reference(k: Tensor, log_w: Tensor, B: Tensor, C: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """One position after the other, in the dtype of the inputs. Returns (y like k, state)."""
    if state is None:
        state = k.new_zeros(k.shape[0], k.shape[2], B.shape[2])
    outputs = []
    for t in range(k.shape[1]):
        state = log_w[:, t].exp().unsqueeze(-1) * state + k[:, t].unsqueeze(-1) * B[:, t].unsqueeze(-2)
        outputs.append(torch.einsum("bdn,bn->bd", state, C[:, t]))
    return torch.stack(outputs, dim=1), state


def selective_chunked(
    k: Tensor, log_w: Tensor, B: Tensor, C: Tensor, state: Tensor | None = None, chunk: int = 16
) -> tuple[Tensor, Tensor]:
    """The same, a chunk of positions (at least 2) at once; differentiable. Computes in float32 at least; y has k's dtype.

    As in `wkv6_chunked`, each pair of positions gets the decays between them as two factors that meet in the middle of the
    halving which separates the pair, so exponents are sums of non-positive numbers and any decay is exact to rounding.
    """
    time = k.shape[1]
    dtype = torch.promote_types(k.dtype, torch.float32)
    # (batch, 1, chunks, chunk, channel); a padded position writes nothing and decays nothing
    values, log_w, B, C = (in_chunks(x.to(dtype).unsqueeze(2), chunk) for x in (k, log_w, B, C))
    log_w = log_w.clamp(min=-1e30)  # a sum that leaves out an infinite decay must not make 0 times infinity of it
    ones = torch.ones(chunk, chunk, dtype=dtype, device=k.device)
    scores = C @ B.transpose(-1, -2)  # (..., t, s)

    to_middle, pairs = halvings(chunk, dtype, k.device)
    decay = (to_middle @ log_w.unsqueeze(-3)).exp()  # (..., level, chunk, channel)
    earlier = (decay * ((scores.unsqueeze(-3) * pairs) @ (decay * values.unsqueeze(-3)))).sum(-3)
    # `earlier` has the decays strictly between s and t; what is read at t has decayed at t, too
    y = log_w.exp() * earlier + scores.diagonal(dim1=-2, dim2=-1).unsqueeze(-1) * values

    written = (values * (ones.triu(1) @ log_w).exp()).transpose(-1, -2) @ B
    kept = log_w.sum(-2).exp().unsqueeze(-1)
    state = torch.zeros_like(written[:, 0, 0]) if state is None else state.to(dtype)
    starts = []
    for n in range(written.shape[2]):
        starts.append(state)
        state = kept[:, 0, n] * state + written[:, 0, n]
    start = torch.stack(starts, dim=1).unsqueeze(1)
    y = y + (ones.tril() @ log_w).exp() * (C @ start.transpose(-1, -2))
    return from_chunks(y, time).squeeze(2).to(k.dtype), state


def _positions() -> Recurrence:
    from gt.ops.recurrence import selective_positions

    return selective_positions


OP = register("selective", chunked=lambda: selective_chunked, positions=_positions)
