"""What the host decides about the coming steps, put on the device some steps ahead: batches, learning rates and coins.

All of it is a function of the seed and the step, so a run may begin anywhere.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gt.data.batches import Apart, Batches, Tracks
from gt.data.tokens import Tokens
from gt.spec import PartTraining, RunSpec
from gt.training.auxiliary import BranchDropper
from gt.training.flat import Group
from gt.training.schedule import EVERYWHERE_ALIKE, learning_rate

# Steps that are put on the device at once, and that its log holds.
HORIZON = 128
# Of a train split that takes more bytes on the device, at four a token, it holds the windows of those steps alone.
RESIDENT = 1 << 31


def batches(spec: RunSpec, tokens: Tokens, borders: np.ndarray | None) -> list[Batches]:
    """The batches of each stage of a run. borders: as `Tokens.borders` gives them."""
    training, found = spec.training, list[Batches]()
    for stage in training.stages:
        size = (training.batch_size, stage.sequence_length, spec.seed)
        if borders is not None:
            found.append(Apart(tokens.train, *size, borders))
        else:
            kind = Tracks if training.batch_order == "tracks" else Batches
            found.append(kind(tokens.train, *size, bool(tokens.answers)))
    return found


class StepPlan:
    """Tables over HORIZON steps, and a cursor on the device that says which of them is now."""

    def __init__(
        self, specs: list[RunSpec], tokens: Tokens, groups: list[Group], dropper: BranchDropper | None, device: torch.device
    ) -> None:
        training = specs[0].training
        self.specs, self.groups, self.dropper = specs, groups, dropper
        borders = tokens.borders("train")
        self.batches = [batches(spec, tokens, borders) for spec in specs]
        self.window = torch.arange(training.sequence_length + 1, device=device)
        self.cursor = torch.zeros(1, dtype=torch.int64, device=device)
        self.starts = torch.zeros(HORIZON, len(specs), training.batch_size, dtype=torch.int64, device=device)
        self.apart = tokens.apart
        self.counted = torch.zeros_like(self.starts) if self.apart else self.starts  # targets of each window
        self.tokens = tokens.marked("train")
        shape = (*self.starts.shape, training.sequence_length + 1)
        self.resident = 4 * len(self.tokens) <= max(RESIDENT, 4 * math.prod(shape))
        text = np.asarray(self.tokens).astype(np.int32) if self.resident else np.zeros(math.prod(shape), np.int32)
        if self.apart:  # where a window may have places beyond the text
            text = np.append(text, np.full(training.sequence_length, text[-1]))
        self.text = torch.from_numpy(text).to(device)
        self.rates = torch.zeros(HORIZON, len(specs), len(groups), dtype=torch.float64, device=device)
        coins = dropper.shape(training) if dropper is not None else (0,)
        self.coins = torch.zeros(HORIZON, len(specs), *coins, dtype=torch.float64, device=device)
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
        rates, coins = (np.zeros(table.shape) for table in (self.rates, self.coins))
        starts, counted = (np.zeros(table.shape, dtype=np.int64) for table in (self.starts, self.counted))
        for run, spec in enumerate(self.specs):
            for i, step in enumerate(steps):
                stage, place = spec.training.stage(step)
                own = self.batches[run][stage]
                starts[i, run] = own.starts(place)
                if isinstance(own, Apart):
                    counted[i, run] = own.counted(starts[i, run])
                rates[i, run] = [learning_rate(spec.training, step, group.part) for group in self.groups]
                if self.dropper is not None:
                    coins[i, run] = self.dropper.draw(spec, step)
        if self.apart:
            self.counted.copy_(torch.from_numpy(counted))
        if not self.resident:
            starts = self._gather(starts)
        for table, values in ((self.starts, starts), (self.rates, rates), (self.coins, coins)):
            table.copy_(torch.from_numpy(values))

    def _gather(self, starts: np.ndarray) -> np.ndarray:
        """Put the windows with these starts on the device, and say where each stands there."""
        length, last = len(self.window), len(self.tokens) - 1
        # A row is a step: a memory map is read for one at a time.
        rows = [self.tokens[np.minimum(own[..., None] + np.arange(length), last)].astype(np.int32) for own in starts]
        self.text[: starts.size * length].copy_(torch.from_numpy(np.concatenate(rows).reshape(-1)))
        return length * np.arange(starts.size).reshape(starts.shape)

    def now(self) -> tuple[Tensor, Tensor, Tensor]:
        """Of the cursor's step: tokens (run, batch, time + 1), coins (run, layer, sample or 1) and rates (run, group)."""
        starts, coins, rates = (table.index_select(0, self.cursor)[0] for table in (self.starts, self.coins, self.rates))
        window = self.window[: self.length + 1]
        tokens = self.text[starts.unsqueeze(-1) + window].long()
        if self.apart:
            counted = self.counted.index_select(0, self.cursor)[0]
            tokens = torch.where(window > counted.unsqueeze(-1), ~tokens, tokens)
        return tokens, coins, rates

    def note(self, log: Tensor, row: Tensor) -> None:
        """Write the cursor's row of a log (HORIZON, run, column), and move the cursor on."""
        log.index_copy_(0, self.cursor, row.unsqueeze(0))
        self.cursor.add_(1)

    def gradient_scales(self, device: torch.device) -> Tensor:
        """(run, group): the factor that `parts` puts on the gradients."""
        of_run: list[dict[Any, PartTraining]] = [spec.training.parts for spec in self.specs]  # type: ignore[misc]
        scales = [[parts.get(group.part, EVERYWHERE_ALIKE).gradient_scale for group in self.groups] for parts in of_run]
        return torch.tensor(scales, dtype=torch.float64, device=device)
