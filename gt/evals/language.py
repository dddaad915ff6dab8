"""Held-out loss, bits per byte and perplexity on fixed slices.

Bits per byte is the total of the cross-entropies in bits over the bytes of text that they predict. It does not depend on
the vocabulary, so it is the only measure by which models with different tokenizers are compared.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch

from gt.data.batches import EVALUATION_TOKENS, evaluation_windows
from gt.data.tokens import Tokens
from gt.errors import ConfigError
from gt.fingerprint import fingerprint
from gt.models.lm import LanguageModel
from gt.records import read_json, write_json
from gt.spec import RunSpec
from gt.training.losses import token_losses
from gt.training.weights import load_model

# Enough to keep a CPU's caches and its arithmetic busy; the sum does not depend on it beyond rounding.
WINDOWS_AT_ONCE = 32


def evaluate(run: Path, data: Path, device: torch.device) -> None:
    """Write `evaluation.json` into a run record. ConfigError where the record and the data do not belong together."""
    manifest, tokens = read_json(run / "manifest.json"), Tokens.open(data)
    if manifest["data_sha256"] != tokens.sha256:
        raise ConfigError(f"{run}: was trained on other data than {data} holds now.")
    spec = RunSpec.model_validate(read_json(run / "spec.json"))
    splits = {}
    if manifest["status"] == "completed":
        model = load_model(run, device)
        held_out = {"val": tokens.val, "test": tokens.test}
        splits = {name: measure(model, split, tokens, spec, device) for name, split in held_out.items() if split is not None}
    evaluation = {
        "run_id": manifest["run_id"],
        "status": manifest["status"],
        "splits": splits,
        "ngram": read_json(data / "ngram.json"),
        "code": fingerprint("evals"),
    }
    write_json(run / "evaluation.json", evaluation)


@torch.inference_mode()
def measure(model: LanguageModel, split: np.ndarray, tokens: Tokens, spec: RunSpec, device: torch.device) -> dict[str, float]:
    """Loss (nats/token), bits per byte and perplexity of a model over the fixed slice of one split."""
    windows = evaluation_windows(split, spec.training.sequence_length, EVALUATION_TOKENS)
    nats = 0.0
    for part in np.array_split(windows, -(-len(windows) // WINDOWS_AT_ONCE)):
        batch = torch.from_numpy(part).to(device)
        nats += token_losses(model, batch, spec.training.precision).double().sum().item()
    targets = windows[:, 1:]
    n_bytes = int(np.asarray(tokens.token_bytes)[targets].sum())
    loss = nats / targets.size
    return {
        "loss": loss,
        "bits_per_byte": nats / math.log(2) / n_bytes,
        "perplexity": math.exp(loss),
        "tokens": int(targets.size),
        "bytes": n_bytes,
    }
