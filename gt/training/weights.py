"""A trained model, back from its record."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from gt.artefacts import check, read_run
from gt.errors import ConfigError
from gt.models.lm import LanguageModel
from gt.records import SPEC, WEIGHTS


def load_model(run: Path, device: torch.device) -> LanguageModel:
    """The model of a run record, in evaluation mode. ConfigError where the weights are missing, damaged or another's."""
    (spec, manifest), path = read_run(run), run / WEIGHTS
    assert manifest.vocab_size is not None
    if not path.exists():
        raise ConfigError(f"{path}: no such file. This record has no weights; train the run again to measure more.")
    check(manifest, path)
    try:
        weights = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ConfigError(f"{path}: not readable as weights ({error}).") from None
    model = LanguageModel(spec.model, manifest.vocab_size)
    expected = {name: p.shape for name, p in model.named_parameters()}
    if expected != {name: w.shape for name, w in weights.items()}:
        raise ConfigError(f"{path}: these are the weights of another model than {run / SPEC} describes.")
    model.load_state_dict(weights)
    return model.to(device).eval()
