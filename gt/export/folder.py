"""A run as a folder that transformers, or FLA, loads.

    config.json, generation_config.json     what the model is; `groundthink` in it has the run's specification and id
    model.safetensors                       its weights, in float32
    tokenizer.json, tokenizer_config.json   its tokenizer
    README.md                               a model card
    *.py                                    of a model that has no equal there: its own code

A model that is equal to a published architecture becomes one; others are exported to transformers with their code.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from gt.artefacts import Manifest, read_run
from gt.catalogue import used_in
from gt.data.library import library_tokenizer, to_json
from gt.data.tokenizers import load_tokenizer
from gt.errors import ConfigError, nearest
from gt.export import source
from gt.export.published import LIBRARIES, SPECIAL_TOKENS, Architecture, Weights, standing
from gt.fingerprint import code_of_training, differences, of_network
from gt.records import read_json, temporary_folder, write_json
from gt.spec import ModelSpec, RunSpec
from gt.training.weights import load_model

Json = dict[str, Any]
CONFIG, WEIGHTS, ABOUT = "config.json", "model.safetensors", "groundthink"
CLASS = "GroundThinkForCausalLM"


@dataclass(frozen=True)
class Exported:
    """What is in a folder. architecture: the published one, None of one with its own code, which needs these packages."""

    architecture: Architecture | None
    differences: list[str]
    needs: list[str]


def export(run: Path, data: Path, library: str, out: Path) -> Exported:
    """Write the folder of a run's model, whole or not at all. data: the folder of tokens that it was trained on.

    ConfigError for FLA where the model has no equal there, with the differences; for a folder that is there already; and where
    the record was made by other code of the model than there is now, or is of other data.
    """
    from gt.export.card import card

    if library not in LIBRARIES:
        raise ConfigError(f"--to: unknown library {library!r}." + nearest(library, LIBRARIES))
    if out.exists():
        raise ConfigError(f"--out {out}: is there already.")
    spec, manifest = read_run(run)
    if read_json(data / "tokens.json")["sha256"] != manifest.data_sha256:
        raise ConfigError(f"--data {data}: these are not the tokens that {run} was trained on.")
    if changed := differences(of_network(manifest.code), of_network(code_of_training(spec))):
        raise ConfigError(f"{run}: was made by another version of the model ({changed[0]}): train it again.")
    found = standing(spec.model, library)
    if library != "transformers" and not found.equal:
        raise ConfigError(
            f"--to {library}: {run.name} has no equal there: {found}. `--to transformers` exports it with its own code."
        )
    weights = {name: weight.detach() for name, weight in load_model(run, torch.device("cpu")).named_parameters()}
    known = library_tokenizer(load_tokenizer(data))
    with temporary_folder(out) as temporary:
        exported = _write(temporary, spec, manifest, weights, found.nearest if found.equal else None, found.differences)
        (temporary / "tokenizer.json").write_text(to_json(known), encoding="utf-8")
        write_json(temporary / "tokenizer_config.json", tokenizer_config(spec.training.sequence_length))
        (temporary / "README.md").write_text(card(run, spec, manifest, exported), encoding="utf-8")
        temporary.rename(out)
    return exported


def _write(
    out: Path, spec: RunSpec, manifest: Manifest, weights: Weights, equal: Architecture | None, differences: list[str]
) -> Exported:
    """Configuration, weights and code."""
    assert manifest.vocab_size is not None
    length = spec.training.sequence_length
    about = {"run_id": manifest.run_id, "specification": spec.model_dump(mode="json")}
    common = {**SPECIAL_TOKENS, "dtype": "float32", "use_cache": True, ABOUT: about}
    needs: list[str] = []
    if equal is not None:
        config: Json = {"architectures": [equal.class_name], "model_type": equal.model_type}
        config |= {**equal.configuration(spec.model, manifest.vocab_size, length), **common}
        weights = equal.weights(spec.model, weights)
    else:
        code = source.files(used_in(spec.model.model_dump()))
        needs = source.needs(code)
        for name, text in code.items():
            (out / name).write_text(text, encoding="utf-8")
        config = {"architectures": [CLASS], "model_type": "groundthink", **common}
        config["auto_map"] = {
            "AutoConfig": "configuration_groundthink.GroundThinkConfig",
            "AutoModelForCausalLM": f"modeling_groundthink.{CLASS}",
        }
        config |= {"model": described(spec.model), "vocab_size": manifest.vocab_size, "max_position_embeddings": length}
        weights = {f"model.{name}": weight for name, weight in weights.items()}
    write_json(out / CONFIG, config)
    write_json(out / "generation_config.json", {**SPECIAL_TOKENS, "do_sample": True, "use_cache": True})
    tensors = {name: weight.to(torch.float32).contiguous() for name, weight in weights.items()}
    save_file(tensors, out / WEIGHTS, {"format": "pt"})
    return Exported(equal, differences, needs)


def tokenizer_config(length: int) -> Json:
    """Its tokenizer_config.json. length: tokens of the sequences that the model was trained on."""
    return {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": length, "clean_up_tokenization_spaces": False}


def described(spec: ModelSpec) -> Json:
    """A model as its code reads it: all values, and the mixers of each layer."""
    document: Json = json.loads(spec.model_dump_json())
    return {**document, "each_layer": spec.layer_list()}
