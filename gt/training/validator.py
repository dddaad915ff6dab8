"""The losses and gates of all runs on the slice of the validation split that curves follow."""

from __future__ import annotations

import numpy as np
import torch

from gt.data.batches import check_length, evaluation_windows, targets_of_slice
from gt.data.tokens import Tokens
from gt.spec import TrainingSpec
from gt.training.engine import Engine
from gt.training.objective import Objective
from gt.training.parameters import Parameters

# Tokens at once in a validation, fewer where the logits of so many would be more than MAX_LOGITS numbers.
VALIDATED_AT_ONCE, MAX_LOGITS = 8192, 2**26


class Validator:
    """Measures the slice in pieces of one shape. What it has found is in `found`, (run, nats and gates), float64."""

    def __init__(
        self, tokens: Tokens, training: TrainingSpec, objective: Objective, parameters: Parameters, rows: int | None = None
    ) -> None:
        """rows: windows in a piece, where code was compiled for so many. ConfigError if the split has no whole window."""
        check_length("val", len(tokens.val), training.sequence_length)  # what looks inside needs whole windows of it
        self.objective, self.parameters, self.rows, self.vocab_size = objective, parameters, rows, tokens.vocab_size
        weights = parameters.weights
        self.found = weights.new_zeros(len(weights), 1 + len(objective.gated), dtype=torch.float64)
        part = tokens.slice("val", training.evaluation_tokens)
        place = (part, training.sequence_length, tokens.borders("val"))
        windows, of_slice = evaluation_windows(tokens.marked("val"), *place), targets_of_slice(*place)
        self.targets, self.bytes = int((windows[:, 1:] >= 0).sum()), part.n_bytes
        self.piece = torch.zeros(1, dtype=torch.int64, device=weights.device)
        self.cut(windows, of_slice)

    def cut(self, windows: np.ndarray, of_slice: np.ndarray) -> None:
        """Windows (n, time + 1) in pieces that are measured at once, (piece, rows, time + 1), and each position's share in a
        mean over those of the slice's targets, (piece, rows, time). of_slice: (n, time) bool, which they are. Rows that fill up
        the last piece have no target that counts, and no share.
        """
        n, time = of_slice.shape
        rows = self.rows or -(-n // -(-n // max(1, min(VALIDATED_AT_ONCE, MAX_LOGITS // self.vocab_size) // time)))
        filling = ((0, -n % rows), (0, 0))
        shares = np.pad(of_slice.astype(float), filling) / of_slice.sum()
        windows = np.pad(windows, filling, constant_values=~0)
        self.windows = torch.from_numpy(windows).view(-1, rows, time + 1).to(self.found.device)
        self.shares = torch.from_numpy(shares).view(-1, rows, time).to(self.found.device)

    def __call__(self, engine: Engine) -> None:
        """Measure the whole slice."""
        self.parameters.refresh()
        self.found.zero_()
        self.piece.zero_()
        for _ in self.windows:
            engine("validate", self._measure, [self.found, self.piece])

    def _measure(self) -> None:
        """Add what a piece of the slice has to it, and go on to the next."""
        windows, shares = (table.index_select(0, self.piece)[0] for table in (self.windows, self.shares))
        nats, gates = self.objective.measure(windows, shares)
        self.found.add_(torch.cat([nats.unsqueeze(1), gates], dim=1))
        self.piece.add_(1)
