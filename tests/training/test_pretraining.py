"""Branches that are trained alone before they are fused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from corpus import words
from pydantic import ValidationError
from runs import HYBRID, TRAINING, assert_same, cohort, column, go_on, resumed, run_spec, trained

from gt.data.tokens import Tokens
from gt.models.lm import LanguageModel
from gt.seeds import Streams
from gt.training import checkpoint
from gt.training import cohort as training

N = 6


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Tokens:
    return Tokens.open(words(tmp_path_factory.mktemp("data")))


def alone(letter: str) -> dict[str, Any]:
    """The model of one branch, written out."""
    sizes = {name: HYBRID[name] for name in ("d_model", "n_layer", "feed_forward")}
    return {**sizes, "layers": letter, "mixers": {letter: HYBRID["mixers"][letter]}}


@pytest.mark.parametrize("stack", ["blocks", "towers"])
def test_the_mixers_start_where_a_run_of_each_branch_ended_and_all_else_where_it_always_does(data: Tokens, stack: str) -> None:
    model = {**HYBRID, "stack": stack}
    spec = run_spec(model, pretrain_steps=N)
    start = trained([spec], data, until=0)
    branches = {letter: trained([run_spec(alone(letter), steps=N)], data).parameters(0) for letter in "rm"}
    fresh = LanguageModel(spec.model, data.vocab_size)
    fresh.reset_parameters(Streams(0))
    pretrained = 0
    for name, weight in start.parameters(0).items():
        letter = next((letter for letter in "rm" if f"mixers.{letter}." in name), None)
        if letter is None:
            torch.testing.assert_close(weight, fresh.get_parameter(name).detach().double(), rtol=0, atol=0, msg=name)
        else:
            in_branch = "body.blocks." + name.split("blocks.")[1]
            torch.testing.assert_close(weight, branches[letter][in_branch], rtol=0, atol=0, msg=name)
            pretrained += not torch.equal(weight, fresh.get_parameter(name).double())
    assert pretrained > 20


def test_the_training_that_follows_is_the_run_s_own(data: Tokens) -> None:
    plain, pretrained = (trained([run_spec(pretrain_steps=n)], data) for n in (0, N))
    assert column(pretrained, "tokens") == column(plain, "tokens")
    assert column(pretrained, "learning_rate")[1:] == column(plain, "learning_rate")[1:]
    assert column(pretrained, "train/loss")[1] != column(plain, "train/loss")[1]
    assert pretrained.update.optimizer.state["steps"] == plain.update.optimizer.state["steps"] == 12


@pytest.mark.parametrize("stop", [0, 4])
def test_a_run_that_stops_after_the_pretraining_goes_on_to_the_same_bits(data: Tokens, tmp_path: Path, stop: int) -> None:
    spec = run_spec(pretrain_steps=N)
    assert_same(resumed([spec], data, stop, tmp_path), 0, trained([spec], data))


@pytest.mark.parametrize(("stops", "letters", "step"), [(2, ["m", "r"], 2), (4, ["r"], None), (7, ["r"], 4)])
def test_a_run_that_is_killed_in_its_pretraining_goes_on_there_to_the_same_bits(
    data: Tokens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stops: int, letters: list[str], step: int | None
) -> None:
    """Within a branch, and between two; stacked, and with the moments of its optimizer."""
    monkeypatch.setattr(training, "HORIZON", 2)  # steps until it can be saved
    specs = [run_spec(seed=seed, pretrain_steps=N, steps=4) for seed in (0, 1)]
    killed, another = cohort(specs, data), cohort(specs, data)
    for _ in range(stops):
        killed.advance()
        killed.collect()
    assert killed.pretraining.letters == letters
    checkpoint.save(tmp_path, killed, checkpoint.Progress())
    assert isinstance(checkpoint.load(tmp_path, another), checkpoint.Progress)
    branch = another.pretraining.branch
    assert step == (None if branch is None else branch.step)
    whole = trained(specs, data)
    go_on(another)
    for run in range(2):
        assert_same(another, run, whole, run)


def test_the_tokens_of_a_run_include_those_of_its_branches() -> None:
    own = TRAINING["steps"] * TRAINING["batch_size"] * TRAINING["sequence_length"]
    assert run_spec(pretrain_steps=N).tokens == own + 2 * N * TRAINING["batch_size"] * TRAINING["sequence_length"]


def test_a_branch_is_trained_without_what_needs_two() -> None:
    spec = run_spec(pretrain_steps=N, auxiliary={"balance_weight": 0.1}, branch_drop={"branch": "r"}, learning_rate=0.02)
    branch = spec.pretraining()["m"]
    assert branch.model == run_spec(alone("m")).model
    assert (branch.training.auxiliary, branch.training.branch_drop, branch.training.pretrain_steps) == (None, None, 0)
    assert (branch.training.learning_rate, branch.training.steps, branch.seed) == (0.02, N, spec.seed)


def test_a_model_without_branches_has_nothing_to_pretrain() -> None:
    with pytest.raises(ValidationError, match="layers 'm' has no branches to train alone"):
        run_spec(alone("m"), pretrain_steps=N)
