"""Weights from files: a trained model, back from its record, and what a run starts from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from gt import starts
from gt.artefacts import check, read_run
from gt.data.library import library_tokenizer, sum_of
from gt.data.tokenizers import load_tokenizer
from gt.errors import ConfigError
from gt.models.lm import LanguageModel
from gt.records import SPEC, WEIGHTS
from gt.spec import RunSpec


def load_model(run: Path, device: torch.device) -> LanguageModel:
    """The model of a run record, in evaluation mode. ConfigError where the weights are missing, damaged or another's."""
    (spec, manifest), path = read_run(run), run / WEIGHTS
    assert manifest.vocab_size is not None
    if not path.exists():
        raise ConfigError(f"{path}: no such file. This record has no weights; train the run again to measure more.")
    check(manifest, path)
    weights = read_weights(path)
    model = LanguageModel(spec.model, manifest.vocab_size)
    expected = {name: p.shape for name, p in model.named_parameters()}
    if expected != {name: w.shape for name, w in weights.items()}:
        raise ConfigError(f"{path}: these are the weights of another model than {run / SPEC} describes.")
    model.load_state_dict(weights)
    return model.to(device).eval()


def read_weights(path: Path) -> dict[str, Tensor]:
    """ConfigError for what is no safetensors file."""
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ConfigError(f"{path}: not readable as weights ({error}).") from None


def weights_sum(weights: Mapping[str, Tensor]) -> str:
    """The sha256 of weights: their names, types, shapes and numbers, in whatever file they are."""
    digest = hashlib.sha256()
    for name, weight in sorted(weights.items()):
        digest.update(f"\n{name} {weight.dtype} {tuple(weight.shape)}\n".encode())
        digest.update(weight.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def starting_weights(spec: RunSpec, data: Path, folder: Path = starts.STARTS) -> dict[str, Tensor] | None:
    """What a run starts from, or None where they are drawn. data: the folder of its tokens.

    ConfigError where they are not there, damaged, or of another model or tokenizer than the run's.
    """
    if (sha256 := spec.training.start) is None:
        return None
    starts.check_model(spec, folder)
    tokenizer = load_tokenizer(data)
    starts.check_tokenizer(spec, tokenizer.vocab_size, sum_of(library_tokenizer(tokenizer)), folder)
    path = folder / sha256 / starts.WEIGHTS
    weights = read_weights(path)
    if (found := weights_sum(weights)) != sha256:
        raise ConfigError(f"{path}: damaged: the sha256 of its weights is {found}; `gt import` them again.")
    return weights
