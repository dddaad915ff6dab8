"""A run that starts from the weights of an exported folder, or of a GPT-2 of transformers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from exports import MODELS
from pydantic import ValidationError
from runs import run_spec
from safetensors.torch import load_file, save_file

from gt.artefacts import read_run
from gt.data import tokenizers
from gt.data.tokens import Tokens
from gt.errors import ConfigError
from gt.export.importing import bring
from gt.models.lm import LanguageModel
from gt.records import CURVES, WEIGHTS
from gt.spec import RunSpec, TokenizerSpec
from gt.starts import START, Start
from gt.starts import WEIGHTS as STARTING
from gt.training.cohort import Cohort
from gt.training.loop import Attempt, Job, Settings, finish
from gt.training.weights import starting_weights, weights_sum

CPU = torch.device("cpu")
Brought = Callable[[str], Start]


@pytest.fixture(scope="session")
def starts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("starts")


@pytest.fixture(scope="session")
def brought(exported: Callable[..., Path], starts: Path) -> Brought:
    """The weights of one of MODELS, exported and imported."""
    return lambda name: bring(exported(name), starts)


@pytest.mark.parametrize("name", ["hybrid", "GPT-2", "Mamba-2"])
def test_the_weights_of_a_run_come_back_through_the_folder(
    name: str, brought: Brought, record: Callable[[str], Path], starts: Path
) -> None:
    start = brought(name)
    spec, manifest = read_run(record(name))
    assert (start.model, start.vocab_size, start.run_id) == (spec.model, manifest.vocab_size, manifest.run_id)
    own, back = load_file(record(name) / WEIGHTS), load_file(starts / start.weights / STARTING)
    assert start.weights == weights_sum(back)
    if name == "Mamba-2":  # whose weights are scaled on the way
        for key, weight in own.items():
            torch.testing.assert_close(back[key], weight, rtol=2e-7, atol=0)
    else:
        assert start.weights == weights_sum(own)


def test_a_run_goes_on_where_the_exported_one_ended(
    brought: Brought, record: Callable[[str], Path], data: Path, starts: Path, tmp_path: Path
) -> None:
    spec = run_spec(MODELS["hybrid"], seed=3, start=brought("hybrid").weights, steps=2)
    attempt = Attempt([Job(spec, data, tmp_path / "run")], tmp_path / "checkpoints", Settings(CPU, 1e9, starts=starts))
    for name, weight in load_file(record("hybrid") / WEIGHTS).items():
        assert torch.equal(attempt.cohort.parameters(0)[name], weight)
    finish(attempt)
    before, after = (pd.read_parquet(run / CURVES) for run in (record("hybrid"), tmp_path / "run"))
    assert after["val/loss"].iloc[0] == before["val/loss"].iloc[-1]
    assert read_run(tmp_path / "run")[0].training.start == spec.training.start


def test_stacked_runs_start_from_the_same_weights_and_part_by_their_batches(brought: Brought, data: Path, starts: Path) -> None:
    specs = [run_spec(MODELS["GPT-2"], seed=seed, start=brought("GPT-2").weights) for seed in (0, 1)]
    start = starting_weights(specs[0], data, starts)
    assert start is not None
    cohort = Cohort(specs, Tokens.open(data), CPU, start=start)
    assert all(torch.equal(cohort.parameters(run)[name], weight) for run in (0, 1) for name, weight in start.items())
    for _ in range(2):  # the validation before the first step, then some steps
        cohort.advance(1)
        cohort.collect()
    assert cohort.step == 1
    assert not torch.equal(cohort.parameters(0)["embedding.weight"], cohort.parameters(1)["embedding.weight"])


def test_the_sum_of_the_weights_is_a_part_of_what_a_run_is() -> None:
    ids = {run_spec(start=start).run_id for start in (None, "0" * 64, "1" * 64)}
    assert len(ids) == 3
    assert run_spec().run_id == run_spec(start=None).run_id


def refused(spec: RunSpec, data: Path, starts: Path) -> str:
    with pytest.raises(ConfigError) as error:
        starting_weights(spec, data, starts)
    return str(error.value)


def test_weights_of_another_model_are_refused_by_what_differs(brought: Brought, data: Path, starts: Path) -> None:
    sha256 = brought("GPT-2").weights
    wider = {**MODELS["GPT-2"], "d_model": 32, "max_positions": 128}
    assert refused(run_spec(wider, start=sha256), data, starts) == (
        f"training.start: {sha256[:10]} are the weights of another model: "
        "d_model 16 there and 32 here; max_positions 64 there and 128 here."
    )
    assert "positions 'learned' there and 'none' here" in refused(run_spec(start=sha256), data, starts)


def test_where_weights_would_have_started_does_not_matter(brought: Brought, data: Path, starts: Path) -> None:
    gated = {**MODELS["hybrid"], "fusion": {"name": "gated", "gate_init": 0.9}, "init": {"zero_mixer_output": True}}
    assert starting_weights(run_spec(gated, start=brought("hybrid").weights), data, starts) is not None


def test_weights_of_another_tokenizer_are_refused(brought: Brought, data: Path, starts: Path, tmp_path: Path) -> None:
    sha256 = brought("hybrid").weights
    tokenizers.prepare(data.parent, TokenizerSpec(name="bpe", vocab_size=300), tmp_path / "bpe")
    spec = run_spec(start=sha256)
    assert "are of a tokenizer of 10 tokens, and embedded with char has" in refused(spec, tmp_path / "bpe", starts)
    shutil.copytree(data, tmp_path / "char")
    document = json.loads((data / "tokenizer.json").read_text())
    document["characters"] = document["characters"].replace("h", "i")
    (tmp_path / "char/tokenizer.json").write_text(json.dumps(document))
    assert "of another tokenizer than char of embedded" in refused(spec, tmp_path / "char", starts)


def test_weights_that_are_gone_or_damaged_are_refused(brought: Brought, data: Path, starts: Path, tmp_path: Path) -> None:
    assert "`gt import FOLDER` brings weights there" in refused(run_spec(start="0" * 64), data, tmp_path)
    sha256 = brought("hybrid").weights
    shutil.copytree(starts / sha256, tmp_path / sha256)
    weights = load_file(starts / sha256 / STARTING)
    weights["embedding.weight"][0, 0] += 1
    save_file(weights, tmp_path / sha256 / STARTING)
    assert "damaged: the sha256 of its weights is" in refused(run_spec(start=sha256), data, tmp_path)
    (tmp_path / sha256 / START).unlink()
    assert "`gt import FOLDER` brings weights there" in refused(run_spec(start=sha256), data, tmp_path)


def test_branches_that_are_trained_first_leave_nothing_to_start_from() -> None:
    with pytest.raises(ValidationError, match="start and pretrain_steps both say where the weights start"):
        run_spec(start="0" * 64, pretrain_steps=2)


@pytest.mark.parametrize("changes", [{}, {"activation_function": "gelu", "n_inner": 40, "tie_word_embeddings": False}])
def test_a_gpt2_of_transformers_is_a_start(changes: dict[str, Any], tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(vocab_size=11, n_embd=16, n_layer=2, n_head=2, n_positions=24, **changes)
    theirs = transformers.GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for i, parameter in enumerate(theirs.parameters()):
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(i))
    theirs.save_pretrained(tmp_path / "gpt2")
    start = bring(tmp_path / "gpt2", tmp_path)
    assert (start.tokenizer, start.run_id) == (None, None)
    ours = LanguageModel(start.model, start.vocab_size)
    ours.load_state_dict(load_file(tmp_path / start.weights / STARTING))
    tokens = torch.from_numpy(np.arange(22).reshape(2, 11) % 11)
    with torch.no_grad():
        torch.testing.assert_close(ours(tokens)[0], theirs(tokens).logits, rtol=0, atol=1e-5)


def test_what_is_no_model_of_ours_is_refused(exported: Callable[..., Path], tmp_path: Path) -> None:
    shutil.copytree(exported("GPT-2"), tmp_path / "gpt2")
    config = json.loads((tmp_path / "gpt2/config.json").read_text())
    del config["groundthink"]

    def said(**changes: Any) -> str:
        (tmp_path / "gpt2/config.json").write_text(json.dumps({**config, **changes}))
        with pytest.raises(ConfigError) as error:
            bring(tmp_path / "gpt2", tmp_path)
        return str(error.value)

    assert "no model of ours is as this GPT-2: activation_function 'relu'" in said(activation_function="relu")
    assert "layer_norm_epsilon 1e-06" in said(layer_norm_epsilon=1e-6)
    assert "neither of a folder that `gt export` made nor of a GPT-2" in said(model_type="llama")
    assert "the weight position.weight is (64, 16), and (65, 16) in such a model" in said(n_positions=65)
    assert "there is no weight transformer.h.2" in said(n_layer=3)
