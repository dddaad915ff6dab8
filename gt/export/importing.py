"""A folder of an exported model, or of a GPT-2 of transformers, as weights that a run may start from.

The folder may have been trained further with transformers since: its weights count, and not those of the run that it was
exported from.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from gt import starts
from gt.data.library import sum_of
from gt.errors import ConfigError
from gt.explain import validated
from gt.export.folder import ABOUT, CONFIG, WEIGHTS
from gt.export.published import GPT2, Weights, of_type
from gt.models.lm import LanguageModel
from gt.records import atomic_write, read_json
from gt.spec import ModelSpec
from gt.training.weights import read_weights, weights_sum

Json = dict[str, Any]


def bring(folder: Path, into: Path = starts.STARTS) -> starts.Start:
    """Keep the weights of a folder under their sum. Returns what they are of.

    ConfigError for a folder that is neither, and for weights that no model of ours has.
    """
    config = read_json(folder / CONFIG)
    if not isinstance(config, dict):
        raise ConfigError(f"{folder / CONFIG}: must be a JSON object.")
    spec, vocab_size = _spec(config, folder), config.get("vocab_size")
    if not isinstance(vocab_size, int):
        raise ConfigError(f"{folder / CONFIG}: vocab_size: must be a number.")
    weights = _weights(config, spec, folder)
    with torch.device("meta"):
        expected = {name: tuple(p.shape) for name, p in LanguageModel(spec, vocab_size).named_parameters()}
    found = {name: tuple(weight.shape) for name, weight in weights.items()}
    if wrong := [name for name in expected | found if expected.get(name) != found.get(name)]:
        name = wrong[0]
        raise ConfigError(f"{folder}: the weight {name} is {found.get(name)}, and {expected.get(name)} in such a model.")
    weights = {name: weight.to(torch.float32).contiguous() for name, weight in weights.items()}
    start = starts.Start(
        weights=weights_sum(weights),
        model=spec,
        vocab_size=vocab_size,
        tokenizer=_tokenizer(folder),
        run_id=config.get(ABOUT, {}).get("run_id"),
    )
    with atomic_write(into / start.weights / starts.WEIGHTS) as temporary:
        save_file(weights, temporary)
    starts.write(into / start.weights, start)
    return start


def _spec(config: Json, folder: Path) -> ModelSpec:
    """The model of a config.json, with our words in it or of a GPT-2."""
    about = config.get(ABOUT)
    if isinstance(about, dict):
        return validated(ModelSpec, about.get("specification", {}).get("model"), folder / CONFIG)
    if config.get("model_type") == GPT2.model_type:
        try:
            return GPT2().spec(config)
        except (ConfigError, KeyError, ValueError) as error:
            raise ConfigError(f"{folder / CONFIG}: {error}") from None
    raise ConfigError(f"{folder / CONFIG}: is neither of a folder that `gt export` made nor of a GPT-2 of transformers.")


def _weights(config: Json, spec: ModelSpec, folder: Path) -> Weights:
    """A folder's weights under our names."""
    if not (folder / WEIGHTS).exists():
        raise ConfigError(f"{folder / WEIGHTS}: no such file; `save_pretrained` writes it, in one piece up to 50 GB.")
    theirs = read_weights(folder / WEIGHTS)
    if config.get("model_type") == "groundthink":
        return {name.removeprefix("model."): weight for name, weight in theirs.items()}
    architecture = of_type(config.get("model_type"))
    if architecture is None:
        raise ConfigError(f"{folder / CONFIG}: unknown model_type {config.get('model_type')!r}.")
    try:
        return architecture.own(spec, theirs)
    except ConfigError as error:
        raise ConfigError(f"{folder / WEIGHTS}: {error}") from None


def _tokenizer(folder: Path) -> str | None:
    """The sum of a folder's tokenizer."""
    file = folder / "tokenizer.json"
    if not file.exists():
        return None
    from tokenizers import Tokenizer

    return sum_of(Tokenizer.from_file(str(file)))
