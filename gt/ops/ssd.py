"""The recurrence of Mamba-2, a state-space model with one decay a head (Dao and Gu 2024, arXiv:2405.21060, section 6).

    h_t = exp(dt_t A) h_{t-1} + dt_t x_t B_t^T
    y_t = h_t C_t + D x_t

Shapes: x (batch, time, head, headdim); dt (batch, time, head), positive; A (head,), negative; B, C (batch, time, group,
d_state), where a group serves head / group heads; D (head,); state h (batch, head, headdim, d_state).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gt.ops.backend import Recurrence, implementation, register, select, without_mamba1
from gt.ops.chunks import from_chunks, in_chunks, segment_sums


def ssd(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None = None, state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The recurrence by the best backend for the device and shape. Returns (y like x, state)."""
    name = select(OP, x.device.type, dt.dtype == torch.float64, B.shape[-1], x.shape[-1])
    return implementation(OP, name)(x, dt, A, B, C, D, state)


def ssd_reference(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None = None, state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """One position after the other, in the dtype of the inputs. Returns (y like x, state)."""
    heads = x.shape[2]
    B, C = (m.repeat_interleave(heads // m.shape[2], dim=2) for m in (B, C))
    if state is None:
        state = x.new_zeros(x.shape[0], heads, x.shape[3], B.shape[3])
    outputs = []
    for t in range(x.shape[1]):
        written = (dt[:, t, :, None] * x[:, t]).unsqueeze(-1) * B[:, t].unsqueeze(-2)
        state = (dt[:, t] * A).exp()[..., None, None] * state + written
        outputs.append(torch.einsum("bhpn,bhn->bhp", state, C[:, t]))
    y = torch.stack(outputs, dim=1)
    return (y if D is None else y + D[:, None] * x), state


def ssd_chunked(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    state: Tensor | None = None,
    chunk: int = 16,
) -> tuple[Tensor, Tensor]:
    """The same, a chunk of positions at once (the paper's listing 1); differentiable. Computes in float32 at least.

    Decays between positions are exponentials of segment sums taken over non-positive numbers, so nothing overflows or
    cancels. Only the states between chunks are sequential.
    """
    time, heads, dtype = x.shape[1], x.shape[2], torch.promote_types(x.dtype, torch.float32)
    chunk = min(chunk, time)
    groups = B.shape[2]
    # (batch, head, chunks, chunk, ...); B and C keep one copy a group
    xs = in_chunks((x * dt.unsqueeze(-1)).to(dtype), chunk)
    Bs, Cs = (in_chunks(m.to(dtype), chunk) for m in (B, C))
    log_decay = in_chunks((dt * A).to(dtype).unsqueeze(-1), chunk)

    decay = segment_sums(log_decay.squeeze(-1)).exp()  # (batch, head, chunks, t, s)
    scores = (Cs @ Bs.transpose(-1, -2)).repeat_interleave(heads // groups, dim=1)
    y = (scores * decay).tril() @ xs

    from_start = log_decay.cumsum(-2)
    to_end = decay[..., -1, :].unsqueeze(-1)
    Bs, Cs = (m.repeat_interleave(heads // groups, dim=1) for m in (Bs, Cs))
    written = (xs * to_end).transpose(-1, -2) @ Bs
    kept = from_start[..., -1:, :].exp()
    state = torch.zeros_like(written[:, :, 0]) if state is None else state.to(dtype)
    starts = []
    for n in range(written.shape[2]):
        starts.append(state)
        state = kept[:, :, n] * state + written[:, :, n]
    y = y + from_start.exp() * (Cs @ torch.stack(starts, dim=2).transpose(-1, -2))
    y = from_chunks(y, time)
    return (y if D is None else y + D.to(dtype)[:, None] * x).to(x.dtype), state


def _chunks() -> Recurrence:
    from gt.ops.kernels.ssd import ssd_chunks

    return ssd_chunks


def _positions() -> Recurrence:
    from gt.ops.recurrence import ssd_positions

    return ssd_positions


def _mamba_ssm() -> Recurrence:
    with without_mamba1():
        from mamba_ssm.ops.triton.ssd_combined import mamba_chunk_scan_combined

    def mamba_ssm(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, state: Tensor | None = None) -> Any:
        return mamba_chunk_scan_combined(
            x, dt, A, B, C, chunk_size=64, D=D, initial_states=state, return_final_states=True
        )  # fmt: skip

    return mamba_ssm


OP = register(
    "ssd", largest_in_chunks=128 * 64, chunked=lambda: ssd_chunked, chunks=_chunks, positions=_positions, mamba_ssm=_mamba_ssm
)
