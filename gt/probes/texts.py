"""Held-out text as probes take it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gt.evals.subject import Subject

# Texts, at most, that are read on and on, and batches, of so many targets at most or of a batch of the training.
SEQUENCES, BATCHES, TOKENS = 10, 4, 8192


def batches(subject: Subject, windows: Tensor) -> list[Tensor]:
    """Some batches of held-out windows, each (batch, time + 1) of the size of training's, or of its pieces."""
    training = subject.spec.training
    size = min(
        training.batch_size // training.grad_accumulation, max(1, TOKENS // subject.length), max(1, len(windows) // BATCHES)
    )
    return list(windows[: BATCHES * size].split(size))


def held_out_texts(subject: Subject) -> Tensor:
    """Held-out texts of 4 T tokens, or of as many as there are and fit: (n, time + 1)."""
    tokens = subject.tokens.marked("val")
    length = subject.length
    time = length * max(m for m in (1, 2, 4) if m == 1 or (subject.fits(m * length) and len(tokens) > 2 * m * length))
    n = max(1, min(SEQUENCES, (len(tokens) - 1) // time))
    rows = np.stack([tokens[i * time : (i + 1) * time + 1] for i in range(n)]).astype(np.int64)
    texts = torch.from_numpy(rows).to(subject.device)
    # As inputs, tokens that no loss counts are what they are; as targets of the last measure they all count.
    return torch.where(texts < 0, ~texts, texts)
