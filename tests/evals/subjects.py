"""Models with known answers, and the subjects that the evaluations take."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from gt.asked import Asked
from gt.data.tokens import Tokens
from gt.evals.evaluation import measured
from gt.evals.subject import Subject
from gt.metrics import Measurement
from gt.models.lm import LanguageModel
from gt.seeds import Streams
from gt.spec import RunSpec

CPU = torch.device("cpu")
MIXERS: dict[str, Any] = {
    "r": {"name": "rwkv6", "head_size": 8},
    "m": {"name": "mamba2", "head_dim": 8, "d_state": 8},
    "a": {"name": "attention", "n_head": 2},
}


def measure(name: str | dict[str, Any], here: Subject) -> list[Measurement]:
    """All that an evaluation, given as studies ask for one, measures of a model."""
    return list(measured(Asked.of(name), here))


def values(found: Iterable[Measurement]) -> dict[str, float | None]:
    """By their written names the measurements without an axis beside it."""
    return {own.name: own.value for own in found if own.at is None}


def along(found: Iterable[Measurement], name: str) -> dict[float, float | None]:
    """The values of one written name along the axis beside it."""
    return {own.at: own.value for own in found if own.name == name and own.at is not None}


def specification(layers: str = "r+m", length: int = 16, **model: Any) -> RunSpec:
    letters = [letter for letter in "rma" if letter in layers]
    fusion = {"fusion": {"name": "gated"}} if "+" in layers else {}
    shape = {"d_model": 16, "n_layer": 2, "layers": layers, "mixers": {letter: MIXERS[letter] for letter in letters}, **fusion}
    return RunSpec.model_validate(
        {
            "corpus": {"name": "embedded", "max_bytes": 50_000},
            "tokenizer": {"name": "char"},
            "model": {**shape, "feed_forward": {"name": "mlp"}, **model},
            "training": {"steps": 1, "batch_size": 1, "sequence_length": length},
            "seed": 0,
        }
    )


def subject(data: Path, spec: RunSpec, model: Any = None) -> Subject:
    """An untrained model of a specification, every parameter moved a little; or a model that is given."""
    tokens = Tokens.open(data)
    if model is None:
        model = LanguageModel(spec.model, tokens.vocab_size)
        model.reset_parameters(Streams(spec.seed))
        with torch.no_grad():
            for i, parameter in enumerate(model.parameters()):
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(i)))
    return Subject(model.eval(), spec, tokens, data, CPU)


class Known(torch.nn.Module):
    """A model whose logits are known: a function (tokens (batch, time), log-probabilities of the vocabulary size) -> logits."""

    def __init__(self, vocab_size: int, logits: Any) -> None:
        super().__init__()
        self.vocab_size, self.logits, self.position = vocab_size, logits, None

    def embed(self, tokens: torch.Tensor) -> torch.Tensor:
        return tokens

    def body(self, tokens: torch.Tensor) -> tuple[torch.Tensor, None]:
        return self.logits(tokens, self.vocab_size), None

    def read_out(self, logits: torch.Tensor) -> torch.Tensor:
        return logits

    def forward(self, tokens: torch.Tensor, state: Any = None) -> tuple[torch.Tensor, None]:
        return self.logits(tokens, self.vocab_size), None


def uniform(tokens: torch.Tensor, vocab_size: int) -> torch.Tensor:
    """Nothing is known: every token is as likely."""
    return torch.zeros(*tokens.shape, vocab_size)


def lookup(order: int) -> Any:
    """Induction, built by hand: after `order` tokens, what came after the same ones the last time; else nothing is known."""

    def logits(tokens: torch.Tensor, vocab_size: int) -> torch.Tensor:
        known = torch.zeros(*tokens.shape, vocab_size)
        for row, sequence in enumerate(tokens.tolist()):
            after: dict[tuple[int, ...], int] = {}
            for t in range(order, len(sequence) + 1):
                here = tuple(sequence[t - order : t])
                if t > order:
                    after[tuple(sequence[t - order - 1 : t - 1])] = sequence[t - 1]
                if here in after:
                    known[row, t - 1, after[here]] = 20.0
        return known

    return logits
