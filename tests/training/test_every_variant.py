"""Every shipped variant, trained for a few seconds on real text: its loss falls below the unigram line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from gt.data import corpora, ngram, tokenizers
from gt.data.tokens import Tokens
from gt.records import read_json
from gt.spec import CorpusSpec, RunSpec, TokenizerSpec
from gt.study import assemble, load_variants, merge, resolve
from gt.training.loop import Trainer

VARIANTS = load_variants(Path(__file__).parents[2] / "config/variants")
MODEL: dict[str, Any] = {
    "d_model": 32,
    "n_layer": 2,
    "mixers": {
        "rwkv6": {"head_size": 16},
        "mamba2": {"head_dim": 16, "d_state": 8},
        "attention": {"n_head": 2},
        "selective_wkv": {"head_size": 16, "d_state": 8},
        "linear_attention": {"head_size": 16},
        "rwkv6_record": {"head_size": 16},
    },
}
TRAINING: dict[str, Any] = {
    "steps": 40, "batch_size": 8, "sequence_length": 32, "learning_rate": 0.01, "warmup_ratio": 0.05,
    "evaluate_every": 1000, "evaluation_tokens": 4096, "log_every": 1000,
}  # fmt: skip
# Attention, and mixers alone that lack a convolution or a selection, take longer to find out that what stands before a
# character matters; steps of Lion are all of one size.
SLOW = {"steps": 300, "learning_rate": 0.003}
OWN: dict[str, dict[str, Any]] = {
    "RWKV-6-time-mix": SLOW,
    "RWKV-6-zero-ffn": SLOW,
    "sgd": {"learning_rate": 0.3},
    "sgd-grad-scale-10": {"learning_rate": 0.3, "steps": 200},
    "GPT-1-BlinkDL": {"steps": 900, "learning_rate": 0.003},
    "lion": {"learning_rate": 0.003, "beta2": 0.95},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bible")
    corpora.prepare(CorpusSpec(name="embedded", max_bytes=200_000), folder)
    tokenizers.prepare(folder, TokenizerSpec(name="char"), folder / "char")
    ngram.prepare(folder / "char")
    return folder / "char"


def specification(name: str) -> RunSpec:
    variant = resolve(VARIANTS, name)
    document = assemble(MODEL, variant.model)
    sizes = {letter: MODEL["mixers"].get(mixer["name"], {}) for letter, mixer in document["mixers"].items()}
    pace = merge(SLOW if set(document["mixers"]) & {"a", "s", "l"} else {}, OWN.get(name, {}))
    training = merge(merge(TRAINING, variant.training), pace)
    return RunSpec.model_validate(
        {
            "corpus": {"name": "embedded"},
            "tokenizer": {"name": "char"},
            "model": merge(document, {"mixers": sizes}),
            "training": training,
            "seed": 0,
        }
    )


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_the_loss_falls_below_the_unigram_line(name: str, data: Path) -> None:
    trainer = Trainer(specification(name), Tokens.open(data), torch.device("cpu"))
    rows = [row for row in trainer.steps() if row]
    assert trainer.status == "completed"
    assert rows[-1]["val/loss"] < read_json(data / "ngram.json")["unigram"]["loss"]
