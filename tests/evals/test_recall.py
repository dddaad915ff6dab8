"""Recall: models that look back solve it, models that cannot are at chance, and what is asked for must be there."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from statsmodels.stats.proportion import proportion_confint
from subjects import CPU, Known, along, lookup, measure, specification, subject, uniform, values

from gt.artefacts import read_evaluations
from gt.data import corpora, ngram, tokenizers
from gt.data.tokens import Tokens
from gt.evals.evaluation import evaluate
from gt.evals.needle import KEY, TRIALS, VALUE, prompts
from gt.evals.recall import by_distance, share
from gt.evals.subject import Subject
from gt.spec import RunSpec, TokenizerSpec, corpus_spec
from gt.training.cohort import Cohort
from gt.training.loop import Job, Settings, train
from gt.training.losses import token_losses
from gt.training.regions import Regions
from gt.wanted import Wanted

SYMBOLS = 16


def task(name: str, folder: Path, length: int = 24, items: tuple[int, ...] = (2, 4), **model: Any) -> tuple[RunSpec, Path]:
    """A run on a recall task, and the folder of its tokens."""
    options = {"length": length, "items": list(items), "symbols": SYMBOLS, "episodes": 10_000}
    corpus = corpus_spec(f"task:{name}", task=options)
    corpora.prepare(corpus, folder)
    tokenizers.prepare(folder, TokenizerSpec(name="char"), folder / "char")
    ngram.prepare(folder / "char")
    spec = specification("a", length, **model)
    return RunSpec.model_validate({**spec.model_dump(), "corpus": corpus.model_dump()}), folder / "char"


def known(name: str, folder: Path, logits: Any, items: tuple[int, ...] = (2, 4)) -> Subject:
    spec, data = task(name, folder, items=items)
    return subject(data, spec, Known(Tokens.open(data).vocab_size, logits))


@pytest.mark.parametrize("name", ["mqar", "induction", "persistence", "correction"])
def test_a_model_that_looks_back_is_always_right_and_never_without_what_it_looks_for(name: str, tmp_path: Path) -> None:
    measured = measure("recall", known(name, tmp_path, lookup(1)))
    of_all = values(measured)
    assert of_all[f"recall/{name}/accuracy"] == of_all[f"recall/{name}/episodes"] == 1.0
    assert next(own.upper for own in measured if own.metric == "recall/<task>/accuracy") == 1.0
    assert (of_all[f"recall/{name}/control"] or 0) < 0.1
    assert of_all[f"recall/{name}/chance"] == 1 / SYMBOLS
    parts = {what: along(measured, f"recall/{name}/by_{what}") for what in ("items", "distance", "length")}
    assert list(parts["items"]) == [2, 4]
    assert list(parts["length"]) == [24, 48, 96]
    assert all(set(own.values()) == {1.0} for own in parts.values())
    assert of_all.get(f"recall/{name}/persistence") == (100.0 if name == "persistence" else None)


def test_the_first_value_of_a_needle_is_found_by_its_key_and_the_rest_by_what_is_before_them(tmp_path: Path) -> None:
    found = values(measure("recall", known("needle", tmp_path, lookup(2), items=(2, 3))))
    assert (found["recall/needle/accuracy"] or 0) > 0.7


def test_a_model_that_knows_nothing_recalls_nothing(tmp_path: Path) -> None:
    found = values(measure("recall", known("mqar", tmp_path, uniform)))
    assert found["recall/mqar/accuracy"] == found["recall/mqar/control"] == 0.0


def test_intervals_are_wilsons() -> None:
    right = np.arange(50) < 37
    lower, upper = proportion_confint(37, 50, alpha=0.05, method="wilson")
    found = share("needle/found", right)
    assert (found.value, found.n) == (0.74, 50)
    assert (found.lower, found.upper) == (pytest.approx(lower), pytest.approx(upper))


def test_distances_are_put_into_octaves() -> None:
    rows = by_distance(np.array([True, False, True, True, False]), np.array([1, 2, 3, 8, 15]), "mqar")
    assert [(row.at, row.value, row.n) for row in rows] == [(1, 1.0, 1), (2, 0.5, 2), (8, 0.5, 2)]


def test_attention_learns_mqar_and_is_at_chance_without_the_pairs(tmp_path: Path) -> None:
    """The positive control: two layers of attention that see the token before through a convolution of two taps."""
    mixer = {"a": {"name": "attention", "n_head": 1, "conv": 2}}
    spec, data = task("mqar", tmp_path, d_model=64, mixers=mixer, positions="learned")
    training = {"steps": 300, "batch_size": 64, "sequence_length": 24, "learning_rate": 0.01, "weight_decay": 0.0}
    spec = RunSpec.model_validate(
        {**spec.model_dump(), "training": {**training, "evaluate_every": 300, "evaluation_tokens": 2400}}
    )
    cohort = Cohort([spec], Tokens.open(data), CPU)
    while not cohort.done:
        cohort.advance()
        cohort.collect()
    measured = measure("recall", Subject(cohort.model.eval(), spec, Tokens.open(data), data, CPU))
    found = {own.metric: (own.lower or 0, own.upper or 0) for own in measured if own.at is None}
    assert found["recall/<task>/accuracy"][0] > 0.95
    lower, upper = found["recall/<task>/control"]
    assert lower - 0.02 < 1 / SYMBOLS < upper + 0.02


def test_a_needle_is_in_its_prompt_and_another_one_in_the_control(text: Path) -> None:
    here = subject(text, specification(length=64))
    shown, other = (prompts(here, 64, 0.5, control) for control in (False, True))
    assert shown.shape == (TRIALS, 64 + 2 * (KEY + VALUE))
    assert np.array_equal(shown[:, 32 : 32 + KEY + VALUE], shown[:, -KEY - VALUE :])
    assert np.array_equal(shown[:, -KEY - VALUE :], other[:, -KEY - VALUE :])
    assert (shown[:, 32 + KEY : 32 + KEY + VALUE] != other[:, 32 + KEY : 32 + KEY + VALUE]).mean() > 0.8


def test_needles_are_found_by_a_model_that_looks_back_and_no_other(text: Path) -> None:
    vocab_size = Tokens.open(text).vocab_size
    spec = specification(length=64)
    found, blind = (measure("needle", subject(text, spec, Known(vocab_size, logits))) for logits in (lookup(4), uniform))
    for measured, shares, gains in ((found, (0.95, 1.0), (5, math.inf)), (blind, (0.0, 0.1), (0, 0))):
        for name, (low, high) in (("found", shares), ("gain", gains)):
            cells = [own.value or 0.0 for own in measured if own.metric == f"needle/{name}/depth_<depth>"]
            assert len(cells) == 10 and all(low <= value <= high for value in cells)
            assert values(measured)[f"needle/{name}"] == pytest.approx(sum(cells) / 10)


def test_a_haystack_that_does_not_fit_is_not_searched(text: Path) -> None:
    measured = measure("needle", subject(text, specification("a", length=16, positions="learned", max_positions=64)))
    assert {own.at for own in measured if own.metric == "needle/gain/depth_<depth>"} == {16}


def test_training_reads_whole_episodes_and_counts_their_answers(tmp_path: Path) -> None:
    spec, data = task("mqar", tmp_path)
    cohort = Cohort([spec], Tokens.open(data), CPU)
    cohort.plan.prepare(0)
    batch = cohort.plan.now()[0][0]
    read = torch.where(batch < 0, ~batch, batch)
    text = tokenizers.load_tokenizer(data).decode(read[0, :24].tolist())
    assert text in (tmp_path / "train.txt").read_text()
    assert (tmp_path / "train.txt").read_text().index(text) % 24 == 0
    # As many answers as pairs, each a value.
    assert (batch[:, 1:] >= 0).sum(1).tolist()[0] in (2, 4)


def test_runs_of_a_task_stacked_are_the_runs_alone(tmp_path: Path) -> None:
    """In float64, so that only what a mark or a window of another run would change could be seen."""
    spec, data = task("mqar", tmp_path)
    training = {"steps": 4, "batch_size": 4, "sequence_length": 24, "learning_rate": 0.01, "evaluation_tokens": 240}
    specs = [RunSpec.model_validate({**spec.model_dump(), "training": training, "seed": seed}) for seed in (0, 1)]
    cohorts = [Cohort(runs, Tokens.open(data), CPU, torch.float64) for runs in (specs, specs[:1], specs[1:])]
    for cohort in cohorts:
        while not cohort.done:
            cohort.advance()
            cohort.collect()
    for i in (0, 1):
        for name, weight in cohorts[1 + i].parameters(0).items():
            torch.testing.assert_close(cohorts[0].parameters(i)[name], weight, rtol=1e-9, atol=1e-12)
    # An untrained model knows nothing of the answers: log V nats, over the answers alone.
    rows = cohorts[0].book.curves[0].rows
    first = dict(zip(cohorts[0].book.curves[0].columns, rows[0], strict=True))
    assert first["val/loss"] == pytest.approx(np.log(Tokens.open(data).vocab_size), abs=0.1)


def test_regions_take_the_same_losses_over_answers(tmp_path: Path) -> None:
    spec, data = task("mqar", tmp_path)
    cohort = Cohort([spec], Tokens.open(data), CPU, torch.float64)
    cohort.plan.prepare(0)
    batch = cohort.plan.now()[0][0]
    regions = Regions(cohort.model, cohort.subject.leaves, "float32", compiled=False)
    expected, n_targets = token_losses(cohort.model, batch, "float32"), (batch[:, 1:] >= 0).sum()
    torch.testing.assert_close(regions(batch, n_targets)[0], expected.sum() / n_targets, rtol=1e-12, atol=0)
    assert (expected == 0).sum() == (batch[:, 1:] < 0).sum()


def test_what_is_for_texts_has_nothing_of_a_task(tmp_path: Path) -> None:
    spec, data = task("mqar", tmp_path)
    training = {"steps": 1, "batch_size": 2, "sequence_length": 24, "evaluation_tokens": 48}
    spec = RunSpec.model_validate({**spec.model_dump(), "training": training})
    train(Job(spec, data, tmp_path / "run"), tmp_path / "checkpoints", Settings(CPU, 1e9))
    asked = Wanted((spec,), frozenset({"long_context", "needle", "generation", "quantisation"})).evaluations(spec)
    evaluate(tmp_path / "run", data, CPU, asked)
    found = read_evaluations(tmp_path / "run")
    assert {name for name, own in found.items() if own.measurements} == {"held_out", "recall", "generation"}
    assert {own.axes["task"] for own in found["recall"].measurements} == {"mqar"}
