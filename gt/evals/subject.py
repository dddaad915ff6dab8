"""A trained run as evaluations and probes see it: the one way to read losses from it, and the one to hook its modules."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gt.artefacts import read_run
from gt.data.tokens import Tokens
from gt.errors import ConfigError
from gt.fingerprint import code_of_training, differences, of_network
from gt.models.lm import LanguageModel
from gt.models.mixers.attention import Attention
from gt.spec import RunSpec
from gt.training.losses import autocast, cross_entropies
from gt.training.weights import load_model

# Tokens that go through a model at once, fewer where the logits or the attention scores of so many would not fit.
TOKENS_AT_ONCE = {"cpu": 4096, "cuda": 2**15}
LOGITS_AT_ONCE, SCORES_AT_ONCE = 2**26, 2**28


@dataclass(frozen=True)
class Subject:
    """A model in evaluation mode, its specification, and the tokens that it was trained on and their folder."""

    model: LanguageModel
    spec: RunSpec
    tokens: Tokens
    data: Path
    device: torch.device

    @classmethod
    def load(cls, run: Path, data: Path, device: torch.device) -> Subject:
        """ConfigError where the record has no weights, is damaged, or is of other data or another version of the models."""
        (spec, manifest), tokens = read_run(run), Tokens.open(data)
        if manifest.data_sha256 != tokens.sha256:
            raise ConfigError(f"{run}: was trained on other data than {data} holds now.")
        if changed := differences(of_network(manifest.code), of_network(code_of_training(spec))):
            raise ConfigError(f"{run}: was made by another version of the model ({changed[0]}): train it again.")
        return cls(load_model(run, device), spec, tokens, data, device)

    @property
    def length(self) -> int:
        """The trained sequence length."""
        return self.spec.training.sequence_length

    def fits(self, length: int) -> bool:
        """Whether the model has positions for so many tokens."""
        return self.model.position is None or length <= self.spec.model.max_positions

    def at_once(self, length: int, logits: int | None = None) -> int:
        """How many windows of a length to run at once. logits: positions of each that are read out, by default all."""
        most = TOKENS_AT_ONCE[self.device.type] // length
        most = min(most, LOGITS_AT_ONCE // ((logits or length) * self.tokens.vocab_size))
        heads = max((m.n_head for m in self.model.modules() if isinstance(m, Attention)), default=0)
        return max(1, min(most, SCORES_AT_ONCE // (heads * length**2)) if heads else most)

    @torch.inference_mode()
    def last_losses(self, windows: Tensor, n: int) -> Tensor:
        """Nats of the last n targets of each window, float64: (windows, time + 1) tokens -> (windows, n)."""
        losses = []
        for batch in windows.split(self.at_once(windows.shape[1], n)):
            here = batch.to(self.device)
            losses.append(cross_entropies(self.last_logits(here[:, :-1], n), here[:, -n:]).view(-1, n))
        return torch.cat(losses).double().cpu()

    @torch.inference_mode()
    def last_logits(self, tokens: Tensor, n: int) -> Tensor:
        """(windows, time) -> (windows, n, vocab), at the last n positions alone."""
        with autocast(self.device, self.spec.training.precision):
            x, _ = self.model.body(self.model.embed(tokens))
            return self.model.read_out(x[:, -n:])


@contextmanager
def hooked(modules: Iterable[nn.Module], hook: Callable[[int, Any, Any], Any]) -> Iterator[None]:
    """hook(i, inputs, output) is called after the i-th module; what it returns, if anything, is the module's output."""
    handles = [
        module.register_forward_hook(lambda _module, inputs, output, i=i: hook(i, inputs, output))
        for i, module in enumerate(modules)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
