"""A mixer whose memory is two tensors of different shapes, and whose context is a token."""

import torch
from torch import Tensor, nn

from gt.models.mixers.base import Mixer, State


class RunningMean(Mixer):
    """The mean of the tokens so far, beside the token before.

    Formula: y_t = W [mean(x_1 ... x_t); x_{t-1}]
    Source: this test
    Parameters: 32,768 at d_model 128
    """

    name = "running_mean"
    axes = ("batch", "channel")

    def build(self, config: Mixer.Config) -> None:
        self.output = nn.Linear(2 * self.d_model, self.d_model, bias=False)

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        zero = torch.zeros_like(x[:, 0])
        (total, seen), (last,) = state or State((zero, zero[:, :1]), (zero,))
        totals = total.unsqueeze(1) + x.cumsum(1)
        counts = seen.unsqueeze(1) + torch.ones_like(x[..., :1]).cumsum(1)
        before = torch.cat([last.unsqueeze(1), x[:, :-1]], dim=1)
        return self.output(torch.cat([totals / counts, before], dim=-1)), State((totals[:, -1], counts[:, -1]), (x[:, -1],))
