"""The loop that most people write: autocast, backward, clipping and fused AdamW, around any model."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from gt.bench.events import Json, recorded, summary
from gt.data.tokens import Tokens
from gt.spec import RunSpec
from gt.training.losses import autocast, cross_entropies


class Loop:
    """logits: (batch, time) tokens -> (batch, time, vocab), by `model`, which stands on the device."""

    stride = 1

    def __init__(
        self, spec: RunSpec, model: nn.Module, logits: Callable[[Tensor], Tensor], tokens: Tokens, device: torch.device
    ) -> None:
        self.training, self.model, self.logits, self.device = spec.training, model, logits, device
        self.parameters = sum(parameter.numel() for parameter in model.parameters())
        rate = spec.training.learning_rate
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=rate, fused=device.type == "cuda")
        self.text = torch.from_numpy(tokens.train.astype(np.int64)).to(device)
        self.window = torch.arange(self.training.sequence_length + 1, device=device)

    @property
    def peak_memory(self) -> int | None:
        """Bytes on the GPU, of all that its process has there."""
        return torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else None

    def take(self, steps: int) -> None:
        """Take steps, and wait until they are done."""
        for _ in range(steps):
            starts = torch.randint(len(self.text) - len(self.window), (self.training.batch_size, 1), device=self.device)
            windows = self.text[starts + self.window]
            with autocast(self.device, self.training.precision):
                logits = self.logits(windows[:, :-1])
            self.optimizer.zero_grad()
            cross_entropies(logits, windows[:, 1:]).mean().backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), self.training.clip_norm or torch.inf)
            self.optimizer.step()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def kernels(self) -> Json:
        """What a step runs on the GPU."""
        return summary(recorded(lambda: self.take(1), self.device))
