"""Weights that runs start from: results/starts/<sha256>/, as `gt import` keeps them. Imports no torch.

    start.json            the model that they are of, its tokenizer's sum, and where they were taken from
    weights.safetensors   under our names, in float32

A study names them by the sum of the weights (`training.start`), which is a part of a run's identity; where the folder lies is
none.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from gt.artefacts import Count, Sum, Typed
from gt.errors import ConfigError, nearest
from gt.explain import validated
from gt.grouping import computation
from gt.records import read_sealed, write_sealed
from gt.spec import ModelSpec, RunSpec

STARTS = Path("results/starts")
START, WEIGHTS = "start.json", "weights.safetensors"


class Start(Typed):
    """What some weights are of."""

    schema_version: Literal[1] = 1
    weights: Sum
    model: ModelSpec
    vocab_size: Count
    tokenizer: Sum | None = Field(description="null: none stood beside the weights")
    run_id: str | None = Field(description="that they were exported from")


def write(folder: Path, start: Start) -> None:
    """Say what the weights of a folder are of."""
    write_sealed(folder / START, start.model_dump(mode="json"))


def read(sha256: str, starts: Path = STARTS) -> Start:
    """ConfigError where there are no such weights, or what is said of them is damaged."""
    folder = starts / sha256
    if not (folder / START).exists():
        known = [path.parent.name for path in starts.glob(f"*/{START}")]
        hint = nearest(sha256, known) if known else ""
        raise ConfigError(f"training.start: there is no {folder}; `gt import FOLDER` brings weights there.{hint}")
    return validated(Start, read_sealed(folder / START), folder / START)


def check_model(spec: RunSpec, starts: Path = STARTS) -> None:
    """ConfigError where a run starts from weights that are not there, or of another network; initial values do not matter."""
    if (sha256 := spec.training.start) is None:
        return
    theirs, ours = computation(read(sha256, starts).model), computation(spec.model)
    if differences := [_said(key, ours.get(key), theirs.get(key)) for key in ours | theirs if ours.get(key) != theirs.get(key)]:
        raise ConfigError(f"training.start: {sha256[:10]} are the weights of another model: {'; '.join(differences)}.")


def check_tokenizer(spec: RunSpec, vocab_size: int, tokenizer: str, starts: Path = STARTS) -> None:
    """ConfigError where the weights are of other tokens than a run's. tokenizer: the sum of the run's."""
    assert spec.training.start is not None
    start = read(spec.training.start, starts)
    if start.vocab_size != vocab_size:
        raise ConfigError(
            f"training.start: {start.weights[:10]} are of a tokenizer of {start.vocab_size:,} tokens, and {spec.corpus.id} with"
            f" {spec.tokenizer.id} has {vocab_size:,}."
        )
    if start.tokenizer is None:
        raise ConfigError(f"training.start: no tokenizer.json stood beside {start.weights[:10]} when they were imported.")
    if start.tokenizer != tokenizer:
        raise ConfigError(
            f"training.start: {start.weights[:10]} are of another tokenizer than {spec.tokenizer.id} of {spec.corpus.id}:"
            " the same number would stand for another text."
        )


def _said(key: str, ours: Any, theirs: Any) -> str:
    return f"{key} {theirs!r} there and {ours!r} here"
