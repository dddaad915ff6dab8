"""What mixers, fusions and feed-forward layers have in common: options, a method that builds them, and defaults."""

from __future__ import annotations

import copy
from collections.abc import Hashable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from gt.explain import validated
from gt.models.init import norm_, normal_
from gt.options import Options
from gt.seeds import Streams


class Component(nn.Module):
    """A named part of a model, built from its options.

    exact_gradient: False where the gradient stands in for that of the output by intention, as of a choice; `build` can say so.
    reads_place: True where `forward` depends on `layer` or `n_layer`, be it through what `build` keeps of them; then layers do
    not share compiled code. products: prefixes of the names of parameters that matrix products alone read, in the precision of
    activations; where that is bfloat16 they can be handed in as such, cast once a step for all layers.
    """

    name: ClassVar[str]
    exact_gradient: bool = True
    reads_place: ClassVar[bool] = False
    products: ClassVar[tuple[str, ...]] = ()

    class Config(Options):
        """No options."""

    def __init__(self, d_model: int, layer: int, n_layer: int, options: dict[str, Any]) -> None:
        """ConfigError for options that its Config does not allow."""
        super().__init__()
        self.d_model, self.layer, self.n_layer = d_model, layer, n_layer
        self.config: Any = validated(self.Config, options, self.name)  # a Config of the subclass
        self.build(self.config)

    def build(self, config: Any) -> None:
        """Make the modules and parameters; `self.d_model`, `self.layer` and `self.n_layer` say where it stands."""

    @property
    def computation(self) -> Hashable:
        """All that decides what it computes from its weights and inputs; compiled code is shared by it."""
        return type(self), self.config.computation(), self.d_model, (self.layer, self.n_layer) if self.reads_place else None

    def reset_parameters(self, streams: Streams) -> None:
        """Set every parameter, each from its own stream: matrices N(0, .02), biases zero, norms one.

        A component with parameters of its own beside those of such modules sets them itself; what is not set is refused when
        the model is made.
        """
        for name, module in self.named_modules():
            if isinstance(module, nn.RMSNorm | nn.LayerNorm | nn.GroupNorm):
                norm_(module)
            elif isinstance(module, nn.Linear | nn.Embedding | nn.Conv1d):
                normal_(module.weight, 0.02, streams, f"{name}.weight")
                if (bias := getattr(module, "bias", None)) is not None:
                    normal_(bias, 0.0, streams, f"{name}.bias")

    def counted(self, context: int) -> tuple[int, int]:
        """Floats of state after `context` tokens, and floating-point operations of matrix products a token, by a pass without
        numbers (on the meta device).
        """
        twin = copy.deepcopy(self).to("meta").requires_grad_(False)  # the counter follows gradients, where there are any
        x = torch.empty(1, context, self.d_model, device="meta")
        with torch.no_grad(), FlopCounterMode(display=False) as flops:
            state = twin(x)[1]
        floats = sum(leaf.numel() for leaf in tree_leaves(state) if isinstance(leaf, Tensor))
        return floats, flops.get_total_flops() // context
