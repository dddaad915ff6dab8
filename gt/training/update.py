"""From a gradient to new weights: clipping, the optimizer, and what curves follow of both."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gt.catalogue import component
from gt.spec import RunSpec
from gt.training.compiled import compile_static
from gt.training.flat import Flat
from gt.training.optimizers.base import Optimizer

FOLLOWED = ("grad_norm", "update_ratio", "grad_cosine")  # one curve a part of the model


class Update:
    """Updates the weights of all runs. Runs never meet: the norm that gradients are clipped to and the update are their own.

    A run whose loss or gradient is not finite keeps its last weights while its neighbours go on.
    """

    def __init__(self, specs: list[RunSpec], flat: Flat, weights: Tensor, scales: Tensor, compiled: bool) -> None:
        """scales: what the gradients of each run and group are multiplied by, (run, group)."""
        self.clip_norm, self.flat, self.weights = specs[0].training.clip_norm, flat, weights
        kind: type[Optimizer] = component("optimizer", specs[0].training.optimizer.name).load()
        self.optimizer = kind(flat, weights, [spec.training for spec in specs])
        self.scales, self.last_gradient = flat.by_block(scales.to(flat.dtype)), flat.zeros()
        self.alive = torch.ones(len(specs), dtype=torch.bool, device=flat.device)
        self.columns = ["grad_norm", *(f"{what}/{part}" for what in FOLLOWED for part in flat.parts)]
        self.apply: Callable[[Tensor, Tensor, Tensor], Tensor] = compile_static(self._apply) if compiled else self._apply

    @property
    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must keep, without the weights."""
        moments = {f"optimizer/{name}": value for name, value in self.optimizer.state.items()}
        return {"last_gradient": self.last_gradient, "alive": self.alive, **moments}

    @torch.no_grad()
    def _apply(self, gradient: Tensor, rates: Tensor, nats: Tensor) -> Tensor:
        """Update the weights. gradient: flat, of a loss of nats (run,); rates: (run, group). Returns the columns' values, (run,
        column).
        """
        gradient = gradient * self.scales
        norms = self._norms(gradient)
        norm = norms.square().sum(1).sqrt()
        weight_norms = self._norms(self.weights)
        update = self._clip_and_step(gradient, norm, rates, nats)
        similar = self.flat.by_part(gradient * self.last_gradient)
        cosines = similar / (norms * self._norms(self.last_gradient)).clamp(min=1e-30)
        self.last_gradient.copy_(gradient)
        ratios = self._norms(update) / weight_norms.clamp(min=1e-30)
        return torch.cat([norm.unsqueeze(1), norms, ratios, cosines], dim=1)

    def _clip_and_step(self, gradient: Tensor, norm: Tensor, rates: Tensor, nats: Tensor) -> Tensor:
        """Update the runs that are alive, whose gradients have these norms (run,). Returns what was subtracted."""
        clip = self.clip_norm
        clipped = gradient if clip is None else gradient * (clip / (norm + 1e-6)).clamp(max=1.0).view(-1, 1, 1)
        self.alive &= nats.isfinite() & norm.isfinite()
        clipped, rates = torch.where(self.alive.view(-1, 1, 1), clipped, 0.0), torch.where(self.alive.view(-1, 1), rates, 0.0)
        return self.optimizer.step(clipped, rates)

    def _norms(self, buffer: Tensor) -> Tensor:
        """The norm of each part of the model: (run, part)."""
        return self.flat.by_part(buffer.square()).sqrt()
