"""What a step minimises and what a validation measures, for all runs of a cohort.

Either of the model as it is, operation by operation, which serves every model and training; or of its regions
(`gt.training.regions`), which can be compiled. Both know nothing of graphs, optimizers and logs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from gt.models.lm import LanguageModel
from gt.spec import TrainingSpec
from gt.training.auxiliary import BranchDropper, BranchWatch, auxiliary_loss
from gt.training.carried import Carried
from gt.training.curves import GateWatch, mean_gate
from gt.training.losses import Criterion, autocast, inputs, loss_and_objective, token_losses
from gt.training.mapped import Applied, Weights, mapped
from gt.training.regions import Regions


class Measured(NamedTuple):
    """Of each run, what a piece of a batch adds."""

    nats: Tensor  # (run,), to the mean cross-entropy of the batch, in nats a target
    objective: Tensor  # (run,), to what is minimised
    states: tuple[Tensor, ...] = ()  # (run, *shape) each, at the end of the sequences, where they are carried on


class Objective(Protocol):
    """What is minimised.

    carried: the states that go from step to step, if any do. gated: the layers that have a fusion.
    """

    carried: Carried | None
    gated: list[int]

    def loss(self, piece: Tensor, coins: Tensor, n_targets: Tensor, goes_on: bool) -> Measured:
        """piece: (run, n, time + 1) tokens of a batch that has n_targets (run,) that count. coins: those of a dropped branch,
        (run, layer, n or 1). goes_on: whether the sequences do, from the states that are carried.
        """

    def measure(self, windows: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
        """The nats of the targets of some windows (n, time + 1), (run,), and the sum of each fusion's gates with the shares
        (n, time) of positions, (run, fusion): both float64.
        """


class Whole:
    """The model itself. weights: of a single run its own parameters, of several (run, *shape) by their names."""

    def __init__(
        self,
        model: LanguageModel,
        weights: Weights,
        runs: int,
        training: TrainingSpec,
        criterion: Criterion | None = None,
        dropper: BranchDropper | None = None,
    ) -> None:
        self.model, self.weights, self.runs = model, weights, runs
        self.training, self.criterion, self.dropper = training, criterion, dropper
        self.gated = list(model.fusions())
        text = torch.zeros(training.batch_size, 3, dtype=torch.int64, device=next(model.parameters()).device)
        self.carried: Carried | None = Carried(model, text, training.precision, runs) if training.carry_state else None

    def loss(self, piece: Tensor, coins: Tensor, n_targets: Tensor, goes_on: bool) -> Measured:
        """As `Objective` says."""
        before = self.carried.tensors if self.carried is not None and goes_on else ()
        nats, objective, *states = self._map(self._of_one, (piece, coins, n_targets, *before))
        return Measured(nats, objective, tuple(states))

    def _of_one(self, piece: Tensor, coins: Tensor, n_targets: Tensor, *before: Tensor) -> tuple[Tensor, ...]:
        if self.dropper is not None:
            self.dropper.coins = coins
        state = self.carried.state(before) if self.carried is not None else None
        with BranchWatch(self.model) as seen, autocast(piece.device, self.training.precision):
            logits, state = self.model(inputs(piece), state)
        nats, objective = loss_and_objective(self.criterion, logits, piece[:, 1:], n_targets)
        objective = nats if objective is None else objective
        if self.training.auxiliary is not None:
            objective = objective + auxiliary_loss(self.training.auxiliary, self.model, seen, piece[:, 1:])
        return nats, objective, *(self.carried.parts(state) if self.carried is not None else ())

    def measure(self, windows: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
        """As `Objective` says."""
        nats, gates = self._map(self._losses_and_gates, (windows, shares), shared=True)
        return nats, gates

    @torch.no_grad()
    def _losses_and_gates(self, windows: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
        self.model.eval()
        with GateWatch(self.model, shares) as gates:
            losses = token_losses(self.model, windows, self.training.precision)
        self.model.train()
        return losses.double().sum(), gates.means(losses)

    def _map(self, function: Callable[..., Any], given: tuple[Tensor, ...], shared: bool = False) -> tuple[Tensor, ...]:
        """function(*given of one run), with the model at the weights of that run; results get a leading dimension of runs.

        shared: what is given is the same for all runs, and has no such dimension.
        """
        if self.runs == 1:
            return tuple(y.unsqueeze(0) for y in function(*(given if shared else (x[0] for x in given))))
        applied = Applied(self.model, lambda _, *own: function(*own))
        results: tuple[Tensor, ...] = mapped(applied, shared)({f"subject.{n}": w for n, w in self.weights.items()}, *given)
        return results


class InRegions:
    """A model in regions, compiled or not. It has no auxiliary terms, drops no branch and carries no state."""

    carried: Carried | None = None

    def __init__(
        self,
        model: LanguageModel,
        weights: Weights,
        runs: int,
        training: TrainingSpec,
        criterion: Criterion | None = None,
        compiled: bool = True,
    ) -> None:
        self.runs, self.gated = runs, list(model.fusions())
        self.regions = Regions(model, weights, training.precision, compiled, criterion)

    def loss(self, piece: Tensor, coins: Tensor, n_targets: Tensor, goes_on: bool) -> Measured:
        """As `Objective` says."""
        if self.runs > 1:
            return Measured(*self.regions(piece, n_targets))
        nats, objective = self.regions(piece[0], n_targets[0])
        return Measured(nats.unsqueeze(0), objective.unsqueeze(0))

    def measure(self, windows: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
        """By the code that was compiled for training, as which it runs: with gradients that nobody asks for."""
        runs = self.runs
        one = torch.ones((runs,) if runs > 1 else (), dtype=torch.int64, device=windows.device)
        nats = self.regions(windows.repeat(runs, 1, 1) if runs > 1 else windows, one)[0].detach().view(runs).double()
        mean, nothing = torch.func.vmap(mean_gate, in_dims=(0, None)), nats.new_full((runs,), math.nan)
        gates = [gate if runs > 1 or gate is None else gate.unsqueeze(0) for gate in self.regions.gates]
        means = [nothing if gate is None else mean(gate, shares) for gate in gates]
        return nats, torch.stack(means, dim=1) if means else nats.new_zeros(runs, 0)
