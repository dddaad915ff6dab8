"""Linear attention."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from gt.errors import ConfigError
from gt.models.init import linear_, norm_
from gt.models.mixers.base import Mixer, State
from gt.ops.wkv6 import wkv6
from gt.options import Count, Options
from gt.seeds import Streams


class LinearAttention(Mixer):
    """A matrix state a head that adds up everything and forgets nothing: the floor under every decay and selection.

    Formula: y_t = q_t S_t, S_t = S_{t-1} + k_t v_t^T, out = W_o norm(y), norm a head
    Source: Katharopoulos et al. 2020 (arXiv:2006.16236) without a feature map; the norm of Sun et al. 2023 (RetNet)
    Parameters: 65,792 at d_model 128

    The norm stands in for the denominator of softmax, which a sum without a feature map cannot have.
    """

    name: ClassVar[str] = "linear_attention"
    axes: ClassVar[tuple[str, ...]] = ("batch", "head", "key", "value")
    products: ClassVar[tuple[str, ...]] = ("qkv.",)

    class Config(Options):
        head_size: Count = 64

    def build(self, config: Config) -> None:
        d_model = self.d_model
        if d_model % config.head_size:
            raise ConfigError(f"linear_attention.head_size: {config.head_size} does not divide d_model {d_model}.")
        self.head_size, self.n_head = config.head_size, d_model // config.head_size
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)
        self.norm: nn.Module = nn.GroupNorm(self.n_head, d_model)
        self.output = nn.Linear(d_model, d_model, bias=False)

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """The memory is S (batch, head, key, value)."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.n_head, self.head_size)).unbind(2)
        with torch.autocast(x.device.type, enabled=False):
            # The operator reads S_{t-1} and the current token through its bonus: 1 makes that S_t.
            memory = None if state is None else state.memory
            y, memory = wkv6(q, k, v, torch.zeros_like(k), torch.ones_like(k[0, 0]), memory)
            y = self.norm(y.to(self.output.weight.dtype).flatten(2).flatten(0, 1)).view(x.shape)
        return self.output(y), State(memory)

    def reset_parameters(self, streams: Streams) -> None:
        """As `attention`: N(0, .02), the output projection divided by sqrt(2 n_layer)."""
        linear_(self.qkv, 0.02, streams, "qkv")
        linear_(self.output, 0.02 / (2 * self.n_layer) ** 0.5, streams, "output")
        norm_(self.norm)

    def state_size(self, context: int) -> int:
        return self.d_model * self.head_size

    def flops_per_token(self, context: int) -> int:
        # write and read of a head_size x head_size state for each head
        return 2 * (self.qkv.weight.numel() + self.output.weight.numel()) + 4 * self.d_model * self.head_size
