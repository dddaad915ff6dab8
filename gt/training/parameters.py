"""The weights of all runs of a cohort, and gradients of them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from gt.models.component import Component
from gt.models.lm import LanguageModel
from gt.seeds import Streams
from gt.spec import RunSpec
from gt.training.flat import Flat


class Parameters:
    """One buffer, and each parameter in it as a leaf of autograd.

    model: of one run; its own weights are those of the run where there is one alone, and nobody's where there are several.
    flat, weights: the buffer. places: where each parameter is in it, (run, *shape). leaves: what gradients are taken of, by the
    names of the model's parameters: (run, *shape), or (*shape) of a single run.
    """

    def __init__(
        self,
        specs: list[RunSpec],
        vocab_size: int,
        start: Mapping[str, Tensor] | None,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        """start: what all runs begin with, in place of weights that are drawn."""
        self.model = LanguageModel(specs[0].model, vocab_size).to(device=device, dtype=dtype)
        self.flat = Flat(self.model, len(specs), device, dtype)
        self.weights = self.flat.zeros()
        self.places = self.flat.views(self.weights)
        for run, spec in enumerate(specs):
            for name, weight in (initial(spec, vocab_size) if start is None else start).items():
                self.places[name][run].copy_(weight)
        self._gradient = self.flat.zeros()
        self.copy: Tensor | None = None  # in bfloat16, of what is read so
        if len(specs) > 1:
            self.leaves: dict[str, Tensor] = {name: place.detach().requires_grad_() for name, place in self.places.items()}
            return
        self.leaves = {name: nn.Parameter(place.detach()[0]) for name, place in self.places.items()}
        for name, leaf in self.leaves.items():
            owner, _, attribute = name.rpartition(".")
            setattr(self.model.get_submodule(owner), attribute, leaf)

    def narrow(self) -> None:
        """Have the parameters that matrix products alone read in bfloat16: their leaves are then on a copy of the buffer."""
        self.copy = self.weights.to(torch.bfloat16)
        places = self.flat.views(self.copy)
        for name in _of_products(self.model):
            place = places[name].detach()
            self.leaves[name] = (place if len(place) > 1 else place[0]).requires_grad_()

    @torch.no_grad()
    def refresh(self) -> None:
        """Cast the weights as they are now: needed where something else than an update has changed them."""
        if self.copy is not None:
            self.copy.copy_(self.weights)

    def gradient(self, objective: Tensor) -> Tensor:
        """Of a sum over the runs, as a flat buffer, the same each time. AssertionError for a parameter that the objective does
        not depend on.
        """
        pieces = torch.autograd.grad(objective, list(self.leaves.values()), allow_unused=True)
        for name, piece in zip(self.leaves, pieces, strict=True):
            assert piece is not None, f"parameter {name} receives no gradient"
        return self.flat.joined(list(pieces), self._gradient)


def _of_products(model: nn.Module) -> list[str]:
    """The matrices that components say only products read."""
    return [
        f"{place}.{name}"
        for place, part in model.named_modules()
        if isinstance(part, Component)
        for name, parameter in part.named_parameters()
        if name.startswith(part.products) and parameter.ndim > 1
    ]


def initial(spec: RunSpec, vocab_size: int) -> dict[str, Tensor]:
    """A run's initial weights, each from the stream of its name."""
    model = LanguageModel(spec.model, vocab_size)
    model.reset_parameters(Streams(spec.seed))
    return {name: weight.detach() for name, weight in model.named_parameters()}
