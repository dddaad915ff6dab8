"""A run is named by what decides its numbers: however it is looked at it is one run, and has all that studies ask of it."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import records
import torch
from corpus import words
from runs import run_spec
from test_factors import plan

from gt import stage
from gt.analysis.aggregate import followed
from gt.analysis.reading import read_record
from gt.artefacts import Evaluation, read_evaluations, read_manifest
from gt.data import ngram
from gt.errors import ConfigError
from gt.evals.evaluation import evaluate
from gt.grouping import packs
from gt.spec import RunSpec, Watch
from gt.training.loop import Job, Settings, train
from gt.wanted import Wanted

CPU = torch.device("cpu")
SHORT, LONG = 256, 2500
# Bytes of val that the curves of a run follow, and how often.
LOOKS: dict[str, Any] = {"evaluation_tokens": LONG, "evaluate_every": 2, "log_every": 3}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = words(tmp_path_factory.mktemp("data"))
    ngram.prepare(folder)
    return folder


def trained(folder: Path, data: Path, spec: RunSpec) -> Path:
    """The record of a run."""
    train(Job(spec, data, folder / spec.run_id), folder / "checkpoints", Settings(CPU, 1e9))
    return folder / spec.run_id


@pytest.fixture(scope="module")
def short(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was followed on a short slice; no test may change its folder."""
    return trained(tmp_path_factory.mktemp("short"), data, run_spec(evaluation_tokens=SHORT))


@pytest.fixture
def record(short: Path, tmp_path: Path) -> Path:
    """A copy that may be measured."""
    stage.bring(short, tmp_path / short.name, *stage.RECORD)
    return tmp_path / short.name


def test_ways_of_looking_at_a_run_are_no_part_of_its_name() -> None:
    assert set(LOOKS) == set(Watch.model_fields)
    for name, value in LOOKS.items():
        assert run_spec(**{name: value}).run_id == run_spec().run_id
        assert run_spec(**{name: value}).training.watch != run_spec().training.watch


@pytest.mark.parametrize(
    "changes",
    [
        {"steps": 13},
        {"learning_rate": 0.02},
        {"batch_size": 2},
        {"clip_norm": None},
        {"optimizer": "lion"},
        {"optimizer": {"name": "adamw", "beta2": 0.9}},
        {"seed": 1},
    ],
)
def test_what_decides_numbers_is_part_of_it(changes: dict[str, Any]) -> None:
    assert run_spec(**changes).sha256 != run_spec().sha256


def test_an_optimizer_is_written_as_its_name_where_its_options_are_the_defaults() -> None:
    """As the runs were named by that are published, which had it as a word."""
    alike: list[list[Any]] = [
        ["adamw", {"name": "adamw"}, {"name": "adamw", "beta1": 0.9}],
        ["sgd", {"name": "sgd", "momentum": 0.9}],
    ]
    for forms in alike:
        assert len({run_spec(optimizer=form).sha256 for form in forms}) == 1
    found = [json.loads(run_spec(optimizer=name).canonical_json())["training"].get("optimizer") for name in ("adamw", "sgd")]
    assert found == [None, "sgd"]
    other = run_spec(optimizer={"name": "muon", "momentum": 0.9, "nesterov": True})
    assert json.loads(other.canonical_json())["training"]["optimizer"] == {"name": "muon", "momentum": 0.9}
    assert RunSpec.model_validate(json.loads(other.model_dump_json())) == other


def test_ways_of_looking_at_a_run_change_no_number_of_its_model(short: Path, data: Path, tmp_path: Path) -> None:
    other = trained(tmp_path, data, run_spec(**LOOKS))
    assert other.name == short.name
    weights = [read_manifest(run).files["model.safetensors"].sha256 for run in (short, other)]
    assert weights[0] == weights[1]
    assert read_manifest(other).watch == run_spec(**LOOKS).training.watch


COST, GENERATION = frozenset({"cost"}), frozenset({"generation"})


def test_of_a_slice_that_was_not_followed_the_end_is_asked_for() -> None:
    one, two = run_spec(evaluation_tokens=SHORT), run_spec(evaluation_tokens=LONG)
    assert Wanted((one,)).evaluations(one) == ["held_out"]
    assert Wanted((one, two), COST).evaluations(one) == ["held_out", "cost", f"validation-{LONG}"]
    assert Wanted((one, two), COST).evaluations(two) == ["held_out", "cost", f"validation-{SHORT}"]
    assert Wanted((one, run_spec(evaluate_every=2, evaluation_tokens=SHORT))).evaluations(one) == ["held_out"]


def test_curves_of_a_slice_that_was_not_followed_are_their_end_and_it_is_what_training_would_have_measured(
    record: Path, data: Path, tmp_path: Path
) -> None:
    short, looks = run_spec(evaluation_tokens=SHORT), run_spec(evaluation_tokens=LONG)
    names = Wanted((short, looks)).evaluations(short)
    evaluate(record, data, CPU, names)
    found = read_record(record, record.name)
    own = followed(found, SHORT)
    assert own is found.curves
    curves, expected = followed(found, LONG), read_record(trained(tmp_path / "long", data, looks), record.name).curves
    assert own is not None and curves is not None and expected is not None
    of_val = [name for name in curves.column_names if name.startswith(("val/", "gate/"))]
    assert {"val/loss", "val/bits_per_byte", "gate/mean", "gate/layer_0", "gate/layer_1"} == set(of_val)
    for name in curves.column_names:
        if name in of_val:
            *before, end = curves[name].to_pylist()
            assert np.isnan(before).all()
            assert end == pytest.approx(expected[name][-1].as_py(), rel=1e-6)
            assert end != own[name][-1].as_py()
        else:
            np.testing.assert_equal(curves[name].to_numpy(), own[name].to_numpy())


def test_a_slice_that_nobody_has_measured_has_no_curve(record: Path) -> None:
    curves = followed(read_record(record, record.name), LONG)
    assert curves is not None and np.isnan(curves["val/loss"].to_numpy()).all()
    assert curves["train/loss"][-1].as_py() > 0


def test_a_run_is_outdated_until_it_has_what_all_studies_ask_for(record: Path, data: Path) -> None:
    looks = (run_spec(evaluation_tokens=SHORT), run_spec(evaluation_tokens=LONG))
    evaluate(record, data, CPU, ["held_out", "generation"])
    assert stage.outdated(record, Wanted(looks[:1], GENERATION), data) == {"probe"}
    assert stage.outdated(record, Wanted(looks[:1], GENERATION | COST), data) == {"evaluate", "probe"}
    assert stage.outdated(record, Wanted(looks, GENERATION), data) == {"evaluate", "probe"}
    evaluate(record, data, CPU, [f"validation-{LONG}"])
    assert stage.outdated(record, Wanted(looks, GENERATION), data) == {"probe"}
    assert stage.outdated(record, Wanted(looks[::-1]), data) == {"probe"}


SETS = (["held_out", "generation"], ["held_out", "quantisation", f"validation-{LONG}"])


@pytest.fixture(scope="module")
def all_at_once(short: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Evaluation]:
    """What one call measures that is asked for all."""
    run = tmp_path_factory.mktemp("all") / short.name
    stage.bring(short, run, *stage.RECORD)
    evaluate(run, data, CPU, sorted({name for names in SETS for name in names}))
    return read_evaluations(run)


def timeless(found: dict[str, Evaluation]) -> dict[str, Evaluation]:
    """But for when it was measured, and how long things took."""
    kept = {name: [m for m in own.measurements if m.metric != "generation/tokens_per_second"] for name, own in found.items()}
    return {name: own.model_copy(update={"measured": None, "measurements": kept[name]}) for name, own in found.items()}


@pytest.mark.parametrize("order", permutations(SETS), ids=["one first", "the other first"])
def test_calls_that_ask_for_different_things_leave_them_all(
    order: tuple[list[str], ...], record: Path, data: Path, all_at_once: dict[str, Evaluation]
) -> None:
    evaluate(record, data, CPU, order[0])
    first = {file: file.read_bytes() for file in record.glob("evaluations/*.json")}
    evaluate(record, data, CPU, order[1])
    assert timeless(read_evaluations(record)) == timeless(all_at_once)
    assert {file: file.read_bytes() for file in first} == first  # what was there is not measured again


def test_processes_at_the_same_time_leave_all_that_they_ask_for(
    record: Path, data: Path, all_at_once: dict[str, Evaluation]
) -> None:
    command = [sys.executable, "-m", "gt", "evaluate", "--run", str(record), "--data", str(data), "--device", "cpu"]
    processes = [subprocess.Popen([*command, "--evaluations", *names]) for names in SETS]
    assert [process.wait() for process in processes] == [0, 0]
    assert timeless(read_evaluations(record)) == timeless(all_at_once)
    assert not list(record.rglob("*.tmp"))


def test_a_factor_that_only_looks_at_a_run_is_refused(tmp_path: Path) -> None:
    model = {"layers": "a", "mixers": {"a": {"name": "attention", "n_head": 2}}}
    for name in Watch.model_fields:
        with pytest.raises(ConfigError, match=f"factors.training.{name}: it only looks at a run, and makes no other one"):
            plan(tmp_path, model, {f"training.{name}": [5, 10]})


def test_a_pack_has_a_run_of_two_studies_once_and_as_the_first_looks_at_it() -> None:
    one, two = (records.of_runs([run_spec(evaluation_tokens=n), run_spec(seed=1)]) for n in (SHORT, LONG))
    assert sorted(run for runs in packs([one, two], 10).values() for run in runs) == sorted(one.runs)
