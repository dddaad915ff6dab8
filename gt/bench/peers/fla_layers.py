"""Our model with FLA's RWKV-6 and Mamba-2 in place of ours, in a plain loop."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from gt.bench.candidates import Candidate
from gt.bench.peers.loop import Loop
from gt.data.tokens import Tokens
from gt.models.lm import LanguageModel
from gt.seeds import Streams


def fla_loop(candidate: Candidate, tokens: Tokens, device: torch.device) -> Loop:
    """The loop. ImportError where FLA is not installed."""
    spec = candidate.spec
    model = LanguageModel(spec.model, tokens.vocab_size)
    model.reset_parameters(Streams(spec.seed))
    for block in model.blocks():
        for letter, mixer in block.mixers.items():
            block.mixers[letter] = fla_layer(mixer)
    model.to(device)
    return Loop(spec, model, lambda windows: model(windows)[0], tokens, device)


def fla_layer(mixer: Any) -> nn.Module:
    """FLA's layer with the weights of ours."""
    layer: nn.Module
    if mixer.name == "rwkv6":
        from fla.layers.rwkv6 import RWKV6Attention

        layer = RWKV6Attention(
            hidden_size=mixer.d_model, expand_k=1.0, expand_v=1.0, num_heads=mixer.n_head, norm_eps=mixer.g_norm.eps
        )
    else:
        from fla.layers.mamba2 import Mamba2

        layer = Mamba2(
            hidden_size=mixer.d_model, head_dim=mixer.head_dim, state_size=mixer.d_state, chunk_size=64, backend="triton"
        )
        layer.eval()  # its path for training wants causal_conv1d's extension; that for evaluation has the same kernels
    layer.load_state_dict(mixer.state_dict())
    return Adapted(layer)


class Adapted(nn.Module):
    """An FLA layer where a block expects one of our mixers."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, None]:
        """x: (batch, time, d_model) -> (the same shape, no state)."""
        y = self.layer(x)
        return (y[0] if isinstance(y, tuple) else y), None
