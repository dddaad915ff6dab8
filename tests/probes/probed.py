"""Records with weights that no training made, for tests of what looks into them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import records
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from variants import tiny

from gt.artefacts import write
from gt.data import corpora, tokenizers
from gt.data.batches import whole_windows
from gt.data.sums import file_sha256
from gt.data.tokens import Tokens
from gt.evals.subject import Subject
from gt.fingerprint import code_of_training
from gt.metrics import Measurement
from gt.models.lm import LanguageModel, audit
from gt.models.mixers.base import State
from gt.records import file_sums, write_json
from gt.seeds import Streams
from gt.spec import RunSpec, TokenizerSpec, corpus_spec

TRAINING = {"steps": 10, "batch_size": 2, "sequence_length": 16}


def small_text(folder: Path) -> Path:
    """A folder of tokens: some hundred held-out characters, words of which some are numbers."""
    rng = np.random.default_rng(0)
    vocabulary = ["".join(rng.choice(list("abcdefgh"), 4)) for _ in range(20)] + ["12", "it's"]
    text = folder / "words.txt"
    text.write_text(" ".join(rng.choice(vocabulary, 1200)))
    corpora.prepare(corpus_spec("file:words", sha256=file_sha256(text)), folder, text)
    tokenizers.prepare(folder, TokenizerSpec(name="char"), folder / "char")
    return folder / "char"


class Constant(nn.Module):
    """A mixer that says the same at every position."""

    axes = ("batch", "channel")

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.output = nn.Parameter(torch.linspace(-1, 1, d_model))

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        return self.output.expand_as(x), State(torch.zeros(len(x), 1))

    def state_size(self, context: int) -> int:
        return 1

    def flops_per_token(self, context: int) -> int:
        return 0


def subject(data: Path, variant: str, **model: Any) -> Subject:
    """A variant as the probes see a trained one: what starts at zero is not zero any more."""
    spec, tokens = specification(tiny(variant, **model)), Tokens.open(data)
    network = LanguageModel(spec.model, tokens.vocab_size)
    network.reset_parameters(Streams(1))
    noise = torch.Generator().manual_seed(2)
    for parameter in network.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=noise)
    return Subject(network.eval(), spec, tokens, data, torch.device("cpu"))


def by_name(measured: Iterable[Measurement]) -> dict[str, dict[str, Any]]:
    """By its written name the value of a network, and those of its layers."""
    found: dict[str, dict[str, Any]] = {}
    for own in measured:
        place = found.setdefault(own.name, {"value": None, "layers": {}})
        if own.layer is None:
            place["value"] = own.value
        else:
            place["layers"][str(own.layer)] = own.value
    return found


def values(measured: Iterable[Measurement]) -> dict[str, float | None]:
    """Those of a network, by their written names."""
    return {own.name: own.value for own in measured if own.layer is None}


def windows(looked_at: Subject, n: int = 12) -> Tensor:
    """Held-out windows, (n, time + 1)."""
    length = looked_at.length
    return torch.from_numpy(whole_windows(looked_at.tokens.val, length, n * length))


def specification(model: dict[str, Any], **training: Any) -> RunSpec:
    """A run of a model on the small text."""
    document = {
        "corpus": {"name": "embedded"},
        "tokenizer": {"name": "char"},
        "model": model,
        "training": {**TRAINING, **training},
        "seed": 0,
    }
    return RunSpec.model_validate(document)


def written(folder: Path, data: Path, model: dict[str, Any], seed: int = 1, **training: Any) -> Path:
    """The record of a run that kept the initial weights of another seed, and logged a few curves."""
    spec, tokens = specification(model, **training), Tokens.open(data)
    network = LanguageModel(spec.model, tokens.vocab_size)
    network.reset_parameters(Streams(seed))
    run = folder / spec.run_id
    write_json(run / "spec.json", spec.model_dump(mode="json"))
    parts = {f"grad_norm/mixers.{letter}": [float("nan"), 2.0, 1.0] for letter in spec.model.mixers}
    curves = {"step": [0, 5, 10], "train/loss": [float("nan"), 2.5, 2.0], "val/loss": [3.0, 2.4, 2.1]}
    pd.DataFrame({**curves, "grad_norm": [float("nan"), 1.0, 0.9], **parts}).to_parquet(run / "curves.parquet")
    save_file(network.state_dict(), run / "model.safetensors")
    known = {
        "data_sha256": tokens.sha256,
        "vocab_size": tokens.vocab_size,
        "code": code_of_training(spec),
        "files": file_sums(run, ("spec.json", "curves.parquet", "model.safetensors")),
        **asdict(audit(network, spec.training.sequence_length)),
    }
    write(run / "manifest.json", records.manifest(spec, **known))
    return run
