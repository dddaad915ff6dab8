"""RWKV-6's own feed-forward layer."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from gt.errors import ConfigError
from gt.models.feed_forward.base import FeedForward
from gt.models.init import constant_, orthogonal_
from gt.options import Options, Positive
from gt.seeds import Streams


class ChannelMix(FeedForward):
    """A squared-ReLU perceptron on token-shifted inputs, gated by a receptance.

    Formula: y = sigmoid(W_r x_r) * W_v relu(W_k x_k)^2, x_i = x_t + mu_i * (x_{t-1} - x_t)
    Source: Peng et al. 2024 (arXiv:2404.05892), equations 23 to 26; the official x060 layer and its initialisation
    Parameters: 131,328 at d_model 128
    """

    name: ClassVar[str] = "channel_mix"
    products: ClassVar[tuple[str, ...]] = ("key.", "receptance.", "value.")

    class Config(Options):
        ratio: Positive = Field(3.5, description="hidden channels over d_model, in whole groups of 32")

    def build(self, config: Config) -> None:
        d_model = self.d_model
        self.shallow = 1 - self.layer / self.n_layer
        width = int(config.ratio * d_model) // 32 * 32
        if width < 1:
            raise ConfigError(f"channel_mix.ratio: {config.ratio} leaves no 32 hidden channels at d_model {d_model}.")
        self.k_mu = nn.Parameter(torch.empty(d_model))
        self.r_mu = nn.Parameter(torch.empty(d_model))
        self.key = nn.Linear(d_model, width, bias=False)
        self.receptance = nn.Linear(d_model, d_model, bias=False)
        self.value = nn.Linear(width, d_model, bias=False)

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x: (batch, time, d_model) -> (y of the same shape, the last input (batch, d_model))."""
        last = torch.zeros_like(x[:, 0]) if state is None else state
        delta = torch.cat([last.unsqueeze(1), x[:, :-1]], dim=1) - x
        key = torch.relu(self.key(x + self.k_mu * delta)).square()
        return torch.sigmoid(self.receptance(x + self.r_mu * delta)) * self.value(key), x[:, -1]

    @torch.no_grad()
    def reset_parameters(self, streams: Streams) -> None:
        """x060: ramps for the shifts, an orthogonal key; value and receptance start at zero."""
        ramp = 1 - (torch.arange(self.d_model, dtype=torch.float64) / self.d_model) ** self.shallow
        self.k_mu.copy_(ramp)
        self.r_mu.copy_(ramp)
        orthogonal_(self.key.weight, 1.0, streams, "key.weight")
        constant_(self.receptance.weight, 0.0)
        constant_(self.value.weight, 0.0)

    def state_size(self, context: int) -> int:
        return self.d_model

    def flops_per_token(self, context: int) -> int:
        return 2 * sum(layer.weight.numel() for layer in (self.key, self.receptance, self.value))
