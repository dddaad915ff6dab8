"""What can be done to the matrix state of a recurrence: normalise it after every token, or learn where it starts."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from gt.errors import ConfigError
from gt.models.init import constant_, normal_
from gt.seeds import Streams


class StateNorm(nn.Module):
    """RMSNorm of each head's state in equal groups of its elements, with a learned gain an element that the heads share.

    Source: repository V3_RESEARCH_NOTES.md 2.11 and layers_v030.py (StateNorm, eps 1e-5, 4 groups). The code there
    normalised only what one call handed to the next; its text says after every token, and so does this.
    """

    sequential: ClassVar[bool] = True

    def __init__(self, rows: int, columns: int, groups: int) -> None:
        super().__init__()
        if rows * columns % groups:
            raise ConfigError(f"state_norm: {groups} groups do not divide a state of {rows} x {columns}.")
        self.groups = groups
        self.weight = nn.Parameter(torch.empty(rows, columns))

    def forward(self, state: Tensor) -> Tensor:
        """state: (batch, head, rows, columns)."""
        grouped = state.flatten(-2).unflatten(-1, (self.groups, -1))
        return nn.functional.rms_norm(grouped, grouped.shape[-1:], eps=1e-5).view_as(state) * self.weight

    def reset_parameters(self) -> None:
        """Every gain one."""
        constant_(self.weight, 1.0)


def normed_wkv(
    r: Tensor, k: Tensor, v: Tensor, log_w: Tensor, u: Tensor | None, state: Tensor, norm: StateNorm
) -> tuple[Tensor, Tensor]:
    """S_t = norm(diag(w_t) S_{t-1} + k_t v_t^T); y_t = r_t (S_{t-1} + diag(u) k_t v_t^T), or r_t S_t where u is None.

    Shapes as in `gt.ops.wkv6`. What is normalised depends on all that came before, so no chunk can be computed at once:
    one position after the other.
    """
    outputs = []
    for r_t, k_t, v_t, log_w_t in zip(r.unbind(1), k.unbind(1), v.unbind(1), log_w.unbind(1), strict=True):
        written = k_t.unsqueeze(-1) * v_t.unsqueeze(-2)
        new = norm(log_w_t.exp().unsqueeze(-1) * state + written)
        read = new if u is None else state + u.unsqueeze(-1) * written
        outputs.append((r_t.unsqueeze(-2) @ read).squeeze(-2))
        state = new
    return torch.stack(outputs, dim=1), state


class InitialState(nn.Module):
    """A learned matrix state to start a sequence from, N(0, .01) before training.

    Source: repository V3_RESEARCH_NOTES.md 2.13 and layers_v030.py (trainable h0)
    """

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(*shape))

    def forward(self, batch: int) -> Tensor:
        """(batch, head, rows, columns)"""
        return self.weight.expand(batch, *self.weight.shape)

    def reset_parameters(self, streams: Streams, name: str) -> None:
        """From the stream of that name."""
        normal_(self.weight, 0.01, streams, name)
