"""The two-layer perceptron of a transformer block."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from gt.errors import ConfigError
from gt.models.feed_forward.base import FeedForward
from gt.models.init import linear_
from gt.models.linear import Linear, product
from gt.ops.fused import gelu_kernel
from gt.options import Options, Positive, initial
from gt.seeds import Streams


class MLP(FeedForward):
    """Expand, apply a nonlinearity, project back.

    Formula: y = W2 gelu(W1 x), hidden width ratio * d_model
    Source: lines 18-37 of document 3; Radford et al. 2019 (gelu_tanh, biases)
    Parameters: 131,072 at d_model 128
    """

    name: ClassVar[str] = "mlp"
    products: ClassVar[tuple[str, ...]] = ("up.", "down.")

    class Config(Options):
        ratio: Positive = Field(4.0, description="hidden channels over d_model")
        activation: Literal["gelu", "gelu_tanh"] = Field("gelu", description="gelu_tanh: its approximation in GPT-2")
        bias: bool = False
        scale_residual: bool = initial(True, "the output projection starts at 0.02 / sqrt(2 n_layer), as in GPT-2")

    def build(self, config: Config) -> None:
        d_model = self.d_model
        self.output_std = 0.02 / (2 * self.n_layer) ** 0.5 if config.scale_residual else 0.02
        self.approximate = "tanh" if config.activation == "gelu_tanh" else "none"
        hidden = round(config.ratio * d_model)
        if hidden < 1:
            raise ConfigError(f"mlp.ratio: {config.ratio} leaves no hidden channel at d_model {d_model}.")
        self.up = Linear(d_model, hidden, bias=config.bias)
        self.down = Linear(hidden, d_model, bias=config.bias)

    def forward(self, x: Tensor, state: None = None) -> tuple[Tensor, None]:
        """x: (batch, time, d_model) -> (y of the same shape, no state)."""
        hidden, bias = product(x, self.up.weight), self.up.bias
        y = gelu_kernel(hidden, bias, self.approximate == "tanh")
        return self.down(F.gelu(self.up.biased(hidden), approximate=self.approximate) if y is None else y), None

    def reset_parameters(self, streams: Streams) -> None:
        """N(0, .02); with scale_residual the output projection is divided by sqrt(2 n_layer), as in GPT-2."""
        linear_(self.up, 0.02, streams, "up")
        linear_(self.down, self.output_std, streams, "down")

    def state_size(self, context: int) -> int:
        return 0

    def flops_per_token(self, context: int) -> int:
        return 2 * (self.up.weight.numel() + self.down.weight.numel())
