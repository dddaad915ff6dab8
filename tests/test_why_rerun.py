"""`gt why-rerun` says what of a run would be made again, and why."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import records
import torch
from corpus import words

from gt.artefacts import write
from gt.cli import main
from gt.data import ngram
from gt.evals.evaluation import evaluate
from gt.probes.probe import probe
from gt.records import read_json, read_sealed, write_json, write_sealed
from gt.spec import RunSpec
from gt.stage import outdated
from gt.training.loop import Job, Settings, train
from gt.wanted import Wanted

CPU = torch.device("cpu")
SPEC = RunSpec.model_validate(
    {
        "corpus": {"name": "embedded"},
        "tokenizer": {"name": "char"},
        "model": {"d_model": 16, "n_layer": 1, "layers": "a", "mixers": {"a": {"name": "attention", "n_head": 2}}},
        "training": {"steps": 2, "batch_size": 2, "sequence_length": 16, "evaluation_tokens": 64},
        "seed": 0,
    }
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with one run that was trained, evaluated and probed."""
    results = tmp_path_factory.mktemp("results")
    data, run = results / "data/embedded", results / "runs" / SPEC.run_id
    data.mkdir(parents=True)
    ngram.prepare(words(data))
    train(Job(SPEC, data / "char", run), results / "checkpoints", Settings(CPU, 1e9))
    evaluate(run, data / "char", CPU, ["held_out", "generation"])
    probe(run, data / "char", CPU)
    return results


@pytest.fixture
def results(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "results"))


@pytest.fixture
def said(results: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, str]]:
    """What is said of each part of the run."""

    def ask(*options: str) -> dict[str, str]:
        assert main(["why-rerun", SPEC.run_id, "--runs", str(results / "runs"), *options]) == 0
        return dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())

    return ask


Said = Callable[..., dict[str, str]]


def edit(file: Path, **changes: Any) -> None:
    write_sealed(file, {**read_sealed(file), **changes})


def due(results: Path) -> set[str]:
    """What the workflow would do, which is what must be explained."""
    return outdated(results / "runs" / SPEC.run_id, Wanted((SPEC,), frozenset({"generation"})), results / "data/embedded/char")


def test_all_of_a_run_that_was_just_made_is_current(said: Said, results: Path) -> None:
    assert said() == dict.fromkeys(("training", "held_out", "generation", "probes"), "is current")
    assert due(results) == set()


def test_the_part_of_the_code_that_changed_is_named(said: Said, results: Path) -> None:
    run = results / "runs" / SPEC.run_id
    code = read_sealed(run / "manifest.json")["code"]
    went = {part: own for part, own in code.items() if part != "gt.training.plan"}
    edit(run / "manifest.json", code={**went, "gt.training.old": "0" * 16, "gt.models.lm": "0" * 16})
    found = said()
    changes = "gt.models.lm changed; gt.training.old went; gt.training.plan came"
    assert found["training"] == f"would be made again: {changes}"
    assert {found[name] for name in ("held_out", "generation", "probes")} == {"would be made again: the training is made again"}
    assert due(results) == {"train", "evaluate", "probe"}


def test_one_evaluation_may_be_made_again_without_the_others(said: Said, results: Path) -> None:
    file = results / "runs" / SPEC.run_id / "evaluations/generation.json"
    edit(file, code={**read_sealed(file)["code"], "gt.evals.generation (evaluation generation)": "0" * 16})
    found = said()
    assert found["generation"] == "would be made again: gt.evals.generation (evaluation generation) changed"
    assert {found[name] for name in ("training", "held_out", "probes")} == {"is current"}
    assert due(results) == {"evaluate"}


def test_evaluations_that_a_plan_asks_for_and_nobody_measured_are_missing(said: Said, results: Path, tmp_path: Path) -> None:
    write(tmp_path / "plan.json", records.of_runs([SPEC]).model_copy(update={"evaluations": ["cost"]}))
    found = said("--plan", str(tmp_path / "plan.json"))
    assert found["cost"] == "would be made again: it was not measured"
    assert found["held_out"] == found["generation"] == "is current"


@pytest.mark.parametrize(
    ("damage", "part", "why"),
    [
        (lambda run: (run / "probes.json").unlink(), "probes", "it was not measured"),
        (lambda run: (run / "probes.json").write_text("{"), "probes", "probes.json: not valid JSON"),
        (lambda run: (run / "evaluations/held_out.json").unlink(), "held_out", "it was not measured"),
        (lambda run: edit(run / "probes.json", weights="0" * 64), "probes", "it is of earlier weights"),
        (lambda run: (run / "model.safetensors").write_bytes(b""), "training", "damaged or missing: model.safetensors"),
        (lambda run: (run / "curves.parquet").unlink(), "training", "damaged or missing: curves.parquet"),
        (
            lambda run: edit(run / "manifest.json", code={"ops": "1", "models": "2"}),
            "training",
            "its code was recorded by other",
        ),
    ],
    ids=[
        "no probes",
        "cut probes",
        "no evaluation",
        "another training's probes",
        "empty weights",
        "no curves",
        "first version",
    ],
)
def test_what_is_missing_or_damaged_is_named(said: Said, results: Path, damage: Any, part: str, why: str) -> None:
    damage(results / "runs" / SPEC.run_id)
    assert said()[part].startswith(f"would be made again: {why}")
    assert due(results) >= {{"training": "train", "probes": "probe", "held_out": "evaluate"}[part]}


def test_other_tokens_are_named(said: Said, results: Path) -> None:
    tokens = results / "data/embedded/char/tokens.json"
    write_json(tokens, {**read_json(tokens), "sha256": "0" * 64})
    assert said()["training"].startswith("would be made again: it was trained on other tokens than")
    assert due(results) == {"train", "evaluate", "probe"}


def test_a_run_that_is_planned_and_was_never_made_is_to_be_made(said: Said, results: Path, tmp_path: Path) -> None:
    shutil.rmtree(results / "runs" / SPEC.run_id)
    write(tmp_path / "plan.json", records.of_runs([SPEC]))
    assert said("--plan", str(tmp_path / "plan.json"))["training"] == "would be made again: there is no record"


def test_an_unknown_run_is_refused_with_the_nearest(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["why-rerun", SPEC.run_id[:-1] + "x", "--runs", str(results / "runs")]) == 2
    assert f"Did you mean {SPEC.run_id!r}" in capsys.readouterr().err
    assert main(["why-rerun", "run", "--runs", str(results / "nothing")]) == 2
