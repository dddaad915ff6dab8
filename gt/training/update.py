"""From a gradient to new weights: clipping, the optimizer, and what curves follow of both."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gt.catalogue import component
from gt.ops.backend import fused
from gt.spec import RunSpec
from gt.training.compiled import compile_static
from gt.training.flat import Flat
from gt.training.optimizers.base import Optimizer

FOLLOWED = ("grad_norm", "update_ratio", "grad_cosine")  # one curve a part of the model


class Update:
    """Updates the weights of all runs. Runs never meet: the norm that gradients are clipped to and the update are their own.

    A run whose loss or gradient is not finite keeps its last weights while its neighbours go on.
    """

    def __init__(
        self, specs: list[RunSpec], flat: Flat, weights: Tensor, scales: Tensor, compiled: bool, copy: Tensor | None = None
    ) -> None:
        """scales: what the gradients of each run and group are multiplied by, (run, group). copy: of the weights in another
        dtype, which is updated with them.
        """
        self.clip_norm, self.flat, self.weights, self.copy = specs[0].training.clip_norm, flat, weights, copy
        kind: type[Optimizer] = component("optimizer", specs[0].training.optimizer.name).load()
        self.optimizer = kind(flat, weights, [spec.training for spec in specs])
        self.scales, self.last_gradient = flat.by_block(scales.to(flat.dtype)), flat.zeros()
        self.alive = torch.ones(len(specs), dtype=torch.bool, device=flat.device)
        self.columns = ["grad_norm", *(f"{what}/{part}" for what in FOLLOWED for part in flat.parts)]
        device = flat.device.type
        if compiled and self.optimizer.step_in_one_pass is not None and fused(device, flat.dtype == torch.float64):
            self._before, self._after = compile_static(self._before), compile_static(self._after)  # type: ignore[method-assign]
            self.apply: Callable[[Tensor, Tensor, Tensor], Tensor] = self._apply_in_one_pass
        else:
            self.apply = compile_static(self._apply) if compiled else self._apply

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
        similar = self.flat.by_part((gradient * self.last_gradient).sum(2))
        cosines = similar / (norms * self._norms(self.last_gradient)).clamp(min=1e-30)
        self.last_gradient.copy_(gradient)
        ratios = self._norms(update) / weight_norms.clamp(min=1e-30)
        return torch.cat([norm.unsqueeze(1), norms, ratios, cosines], dim=1)

    def _clip_and_step(self, gradient: Tensor, norm: Tensor, rates: Tensor, nats: Tensor) -> Tensor:
        """Update the runs that are alive, whose gradients have these norms (run,). Returns what was subtracted."""
        factor, rates = self._clipping(norm, rates, nats)
        clipped = torch.where(self.alive.view(-1, 1, 1), gradient * factor.view(-1, 1, 1), 0.0)
        update = self.optimizer.step(clipped, rates)
        if self.copy is not None:
            self.copy.copy_(self.weights)
        return update

    def _clipping(self, norm: Tensor, rates: Tensor, nats: Tensor) -> tuple[Tensor, Tensor]:
        """What gradients of these norms are multiplied by, (run,), and the learning rates of the runs that are still alive."""
        self.alive &= nats.isfinite() & norm.isfinite()
        factor = torch.ones_like(norm) if self.clip_norm is None else (self.clip_norm / (norm + 1e-6)).clamp(max=1.0)
        return factor, torch.where(self.alive.unsqueeze(1), rates, 0.0)

    @torch.no_grad()
    def _apply_in_one_pass(self, gradient: Tensor, rates: Tensor, nats: Tensor) -> Tensor:
        """The same in one pass over the gradient, for its norms, and one over all buffers. last_gradient is unscaled here."""
        from gt.ops.kernels.adamw import squares

        norm, norms, *factors = self._before(squares(gradient), rates, nats)
        return self._after(norm, norms, self.optimizer.step_in_one_pass(gradient, *factors, self.last_gradient, self.copy))

    def _before(self, squares: Tensor, rates: Tensor, nats: Tensor) -> tuple[Tensor, ...]:
        """squares: the sum of a gradient's in each block -> its norm (run,), that of each part, what it is multiplied by (run,
        block), and what the optimizer's pass wants of the learning rates of the runs that are alive.
        """
        scales = self.scales.squeeze(2)
        norms = self.flat.by_part(squares * scales.square()).sqrt()
        norm = norms.square().sum(1).sqrt()
        factor, rates = self._clipping(norm, rates, nats)
        factor = torch.where(self.alive.unsqueeze(1), factor.unsqueeze(1) * scales, 0.0)
        return norm, norms, factor, *self.optimizer.begin_pass(rates)

    def _after(self, norm: Tensor, norms: Tensor, sums: Tensor) -> Tensor:
        """The columns' values from the sums of each block."""
        scales = self.scales.square()
        of_parts = self.flat.by_part(torch.cat([sums[:, :, :2], sums[:, :, 2:] * scales], dim=2).transpose(1, 2))
        weights, update, last, similar = of_parts.unbind(1)
        ratios = update.sqrt() / weights.sqrt().clamp(min=1e-30)
        return torch.cat([norm.unsqueeze(1), norms, ratios, similar / (norms * last.sqrt()).clamp(min=1e-30)], dim=1)

    def _norms(self, buffer: Tensor) -> Tensor:
        """The norm of each part of the model: (run, part)."""
        return self.flat.by_part(buffer.square().sum(2)).sqrt()
