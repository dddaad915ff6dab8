"""One optimizer step of every run of a cohort, from tensors on the device to tensors on the device: what a graph replays."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from gt.data.tokens import Tokens
from gt.spec import TrainingSpec
from gt.training.compiled import compile_static
from gt.training.distributed import World
from gt.training.objective import Objective
from gt.training.parameters import Parameters
from gt.training.plan import StepPlan
from gt.training.update import Update


class Stepper:
    """Takes the step that the plan's cursor is at, and moves the cursor on.

    Each piece of a batch, and each process's share of a piece, adds what its targets have to a mean over those of the batch: so
    pieces, processes and runs weigh by the number of targets that count. rows: sequences in a process's share of a piece.
    columns: what is noted of a step.
    """

    def __init__(
        self,
        training: TrainingSpec,
        tokens: Tokens,
        plan: StepPlan,
        objective: Objective,
        parameters: Parameters,
        update: Update,
        world: World,
        compiled: bool,
    ) -> None:
        self.plan, self.objective, self.parameters, self.update, self.world = plan, objective, parameters, update, world
        self.n_pieces = training.grad_accumulation
        self.rows = len(world.share(torch.empty(training.batch_size // self.n_pieces), dim=0))
        self.token_bytes = torch.from_numpy(np.asarray(tokens.token_bytes)).to(update.weights.device)
        self.columns = ["train/loss", "bytes", *update.columns]
        self.read: Callable[[], tuple[Tensor, ...]] = compile_static(self._read) if compiled else self._read
        self.note: Callable[..., None] = compile_static(self._note) if compiled else self._note

    def __call__(self, log: Tensor) -> None:
        """log: (HORIZON, run, column), gets a row."""
        batch, coins, rates, n_targets, bytes_a_target = self.read()
        gradient, nats = self._gradient(batch, coins, n_targets)
        self.note(log, nats, bytes_a_target, self.update.apply(gradient, rates, nats))

    def _read(self) -> tuple[Tensor, ...]:
        """What the plan has for the step, and of each run the targets that count and the bytes of one."""
        batch, coins, rates = self.plan.now()
        targets = batch[:, :, 1:].flatten(1)
        counted = targets >= 0
        n_targets = counted.sum(1)
        return batch, coins, rates, n_targets, (self.token_bytes[targets] * counted).sum(1) / n_targets

    def _note(self, log: Tensor, nats: Tensor, bytes_a_target: Tensor, of_update: Tensor) -> None:
        row = [nats.unsqueeze(1), bytes_a_target.unsqueeze(1), of_update]
        self.plan.note(log, torch.cat([x.to(log.dtype) for x in row], dim=1))

    def _gradient(self, batch: Tensor, coins: Tensor, n_targets: Tensor) -> tuple[Tensor, Tensor]:
        """The flat gradient of what is minimised, and the mean cross-entropy of each run, (run,)."""
        gradient = nats = torch.empty(0)
        coins_of_pieces = coins.chunk(self.n_pieces, dim=-1) if coins.shape[-1] > 1 else [coins] * self.n_pieces
        for i, (piece, own_coins) in enumerate(zip(batch.chunk(self.n_pieces, dim=1), coins_of_pieces, strict=True)):
            own_coins = self.world.share(own_coins, dim=2) if own_coins.shape[-1] > 1 else own_coins
            measured = self.objective.loss(self.world.share(piece, dim=1), own_coins, n_targets, self.plan.goes_on)
            own, loss = self.parameters.gradient(measured.objective.sum()), measured.nats.detach()
            if i > 0:
                gradient, nats = gradient + own, nats + loss
            else:  # the next piece's gradient comes in the same buffer
                gradient, nats = own.clone() if self.n_pieces > 1 else own, loss
        if self.objective.carried is not None:
            self.objective.carried.keep(measured.states)
        return self.world.sum(gradient), self.world.sum(nats)
