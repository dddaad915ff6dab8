"""Recurrent states that a step takes over from the step before.

Truncated backpropagation through time (Williams & Peng 1990): the next step reads on in the same text with the state that
this one ended with, and no gradient goes back from it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from gt.training.losses import losses_and_state


class Carried:
    """A model's state of some sequences for each run, in tensors (run, *shape) that stay where they are.

    model, batch (n, time + 1), precision: those of a run; one pass, whose numbers do not matter, shows what a state looks
    like. The model must be one whose state does not grow, and whose positions are not counted.
    """

    def __init__(self, model: nn.Module, batch: Tensor, precision: str, runs: int) -> None:
        with torch.no_grad():
            self.leaves, self.form = tree_flatten(losses_and_state(model.eval(), batch, precision, None)[1])
        model.train()
        self.tensors = [leaf.new_zeros(runs, *leaf.shape) for leaf in self.leaves if isinstance(leaf, Tensor)]

    def state(self, tensors: tuple[Tensor, ...]) -> Any:
        """The state of a run, as its model takes it; that of a new text where there are no tensors."""
        if not tensors:
            return None
        given = iter(tensors)
        return tree_unflatten([next(given) if isinstance(leaf, Tensor) else leaf for leaf in self.leaves], self.form)

    @staticmethod
    def parts(state: Any) -> list[Tensor]:
        """The tensors of a run's state; the inverse of `state`."""
        return [leaf for leaf in tree_flatten(state)[0] if isinstance(leaf, Tensor)]

    @torch.no_grad()
    def keep(self, tensors: tuple[Tensor, ...]) -> None:
        """Take over what a step has ended with."""
        for own, new in zip(self.tensors, tensors, strict=True):
            own.copy_(new)
