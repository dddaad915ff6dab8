"""Every shipped variant, trained for a few seconds on real text: its loss falls below the unigram line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from variants import VARIANTS, tiny

from gt.data import corpora, ngram, tokenizers
from gt.data.tokens import Tokens
from gt.grouping import cohort_key
from gt.records import read_json
from gt.spec import RunSpec, TokenizerSpec, corpus_spec
from gt.study import merge, resolve
from gt.training.cohort import Cohort

TRAINING: dict[str, Any] = {
    "steps": 40, "batch_size": 8, "sequence_length": 32, "learning_rate": 0.01, "warmup_ratio": 0.05,
    "evaluate_every": 1000, "evaluation_tokens": 4096, "log_every": 1000,
}  # fmt: skip
# Attention, and mixers alone that lack a convolution or a selection, take longer to find out that what stands before a
# character matters; steps of Lion are all of one size.
SLOW = {"steps": 300, "learning_rate": 0.003}
OWN: dict[str, dict[str, Any]] = {
    "RWKV-6-bare": SLOW,
    "RWKV-6-time-mix": SLOW,
    "GroundThink-V3": {"steps": 60, "learning_rate": 0.01},
    "RWKV-6-zero-ffn": SLOW,
    "sgd": {"learning_rate": 0.3},
    "sgd-grad-scale-10": {"learning_rate": 0.3, "steps": 200},
    "GPT-1-BlinkDL": {"steps": 900, "learning_rate": 0.003},
    "GPT-1-record-BlinkDL": {"steps": 900, "learning_rate": 0.003},
    "lion": {"learning_rate": 0.003, "optimizer": {"beta2": 0.95}},
    "curriculum": {"steps": 60, "curriculum": [{"steps": 15, "sequence_length": n} for n in (8, 16)]},
    "pretrain-fuse": {"pretrain_steps": 10},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bible")
    corpora.prepare(corpus_spec("embedded", max_bytes=200_000), folder)
    tokenizers.prepare(folder, TokenizerSpec(name="char"), folder / "char")
    ngram.prepare(folder / "char")
    return folder / "char"


def specification(name: str) -> RunSpec:
    model = tiny(name, head_size=16)
    pace = merge(SLOW if set(model["mixers"]) & {"a", "s", "l"} else {}, OWN.get(name, {}))
    return RunSpec.model_validate(
        {
            "corpus": {"name": "embedded"},
            "tokenizer": {"name": "char"},
            "model": model,
            "training": merge(merge(TRAINING, resolve(VARIANTS, name).training), pace),
            "seed": 0,
        }
    )


def cohorts() -> list[list[str]]:
    """The variants that can be trained side by side, which is quicker, together."""
    groups: dict[str, list[str]] = {}
    for name in sorted(VARIANTS):
        groups.setdefault(cohort_key(specification(name)), []).append(name)
    return list(groups.values())


@pytest.mark.parametrize("names", cohorts(), ids=",".join)
def test_the_loss_falls_below_the_unigram_line(names: list[str], data: Path) -> None:
    cohort = Cohort([specification(name) for name in names], Tokens.open(data), torch.device("cpu"))
    while not cohort.done:
        cohort.advance()
        cohort.collect()
    assert cohort.status == ["completed"] * len(names)
    unigram = read_json(data / "ngram.json")["unigram"]["loss"]
    column = cohort.curves[0].columns.index("val/loss")
    losses = {name: curves.rows[-1][column] for name, curves in zip(names, cohort.curves, strict=True)}
    assert not {name: loss for name, loss in losses.items() if not loss < unigram}
