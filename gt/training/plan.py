"""What the host decides about the coming steps, put on the device some steps ahead: batches, learning rates and coins.

All of it is a function of the seed and the step, so a run may begin anywhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from gt.data.batches import Batches, Tracks
from gt.data.tokens import Tokens
from gt.spec import PartTraining, RunSpec
from gt.training.auxiliary import BranchDropper
from gt.training.flat import Group
from gt.training.schedule import EVERYWHERE_ALIKE, learning_rate

# Steps that are put on the device at once, and that its log holds.
HORIZON = 128


class StepPlan:
    """Tables over HORIZON steps, and a cursor on the device that says which of them is now."""

    def __init__(
        self, specs: list[RunSpec], tokens: Tokens, groups: list[Group], dropper: BranchDropper | None, device: torch.device
    ) -> None:
        training = specs[0].training
        self.specs, self.groups, self.dropper = specs, groups, dropper
        kind, whole = Tracks if training.batch_order == "tracks" else Batches, bool(tokens.answers)
        sizes = [(training.batch_size, stage.sequence_length) for stage in training.stages]
        # of each run, those of each stage
        self.batches = [[kind(tokens.train, *size, spec.seed, whole) for size in sizes] for spec in specs]
        self.text = torch.from_numpy(np.asarray(tokens.marked("train")).astype(np.int32)).to(device)
        self.window = torch.arange(training.sequence_length + 1, device=device)
        self.cursor = torch.zeros(1, dtype=torch.int64, device=device)
        self.starts = torch.zeros(HORIZON, len(specs), training.batch_size, dtype=torch.int64, device=device)
        self.rates = torch.zeros(HORIZON, len(specs), len(groups), dtype=torch.float64, device=device)
        coins = dropper.shape(training) if dropper is not None else (0,)
        self.coins = torch.zeros(HORIZON, len(specs), *coins, device=device)
        self.first = -1  # the step at the head of the tables
        self.carry_state = training.carry_state
        self.length, self.goes_on = training.sequence_length, False

    def prepare(self, step: int) -> None:
        """Put the cursor on `step`, and the steps from there on the device if they are not.

        What decides the computation of the step is known then: the `length` of its sequences, and whether it `goes_on` from
        the states of the step before.
        """
        stage, place = self.specs[0].training.stage(step)
        of_stage = self.batches[0][stage]
        self.length, self.goes_on = of_stage.sequence_length, self.carry_state and of_stage.goes_on(place)
        first = step - step % HORIZON
        if first != self.first:
            self._fill(first)
            self.first = first
            self.cursor.fill_(step - first)

    def _fill(self, first: int) -> None:
        steps = range(first, min(first + HORIZON, self.specs[0].training.steps))
        starts, rates, coins = (np.zeros(table.shape) for table in (self.starts, self.rates, self.coins))
        for run, spec in enumerate(self.specs):
            for i, step in enumerate(steps):
                stage, place = spec.training.stage(step)
                starts[i, run] = self.batches[run][stage].starts(place)
                rates[i, run] = [learning_rate(spec.training, step, group.part) for group in self.groups]
                if self.dropper is not None:
                    coins[i, run] = self.dropper.draw(spec, step)
        for table, values in ((self.starts, starts), (self.rates, rates), (self.coins, coins)):
            table.copy_(torch.from_numpy(values))

    def now(self) -> tuple[Tensor, Tensor, Tensor]:
        """Of the cursor's step: tokens (run, batch, time + 1), coins (run, layer, sample or 1) and rates (run, group)."""
        starts, coins, rates = (table.index_select(0, self.cursor)[0] for table in (self.starts, self.coins, self.rates))
        window = self.window[: self.length + 1]
        return self.text[starts.unsqueeze(-1) + window].long(), coins, rates

    def note(self, log: Tensor, row: Tensor) -> None:
        """Write the cursor's row of a log (HORIZON, run, column), and move the cursor on."""
        log.index_copy_(0, self.cursor, row.unsqueeze(0))
        self.cursor.add_(1)

    def gradient_scales(self, device: torch.device) -> Tensor:
        """(run, group): the factor that `parts` puts on the gradients."""
        of_run: list[dict[Any, PartTraining]] = [spec.training.parts for spec in self.specs]  # type: ignore[misc]
        scales = [[parts.get(group.part, EVERYWHERE_ALIKE).gradient_scale for group in self.groups] for parts in of_run]
        return torch.tensor(scales, device=device)
