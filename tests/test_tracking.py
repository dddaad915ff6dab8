"""The import into MLflow, read back from a real database."""

from __future__ import annotations

import json
import math
import multiprocessing
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import records

from gt.errors import ConfigError
from gt.tracking import sync

pytest.importorskip("mlflow")
from mlflow.tracking import MlflowClient


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An initialised database: making one takes seconds."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def results(tmp_path: Path, empty: Path) -> Path:
    """results/ with the records of a small study: two cells, one diverged run, one failed."""
    root = tmp_path / "results"
    plan = small()
    records.write_runs(plan, root / "runs")
    shutil.copy(empty, root / "mlflow.db")
    return root


def small() -> dict[str, Any]:
    return records.plan(seeds=2, variants={"GPT-2": 0, "WS": 0, "HY": 0}, tokenizers=("char",))


def track(root: Path, plan: dict[str, Any] | None = None) -> dict[str, int]:
    return sync(plan or small(), root / "runs", f"sqlite:///{root}/mlflow.db")


def read(root: Path) -> tuple[MlflowClient, dict[str, Any]]:
    """All live runs of the study by key."""
    client = MlflowClient(f"sqlite:///{root}/mlflow.db")
    experiment = client.get_experiment_by_name("synthetic")
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    by_key = {run.data.tags["gt.key"]: run for run in runs}
    assert len(by_key) == len(runs), "a key twice"
    return client, by_key


def test_a_cell_is_a_parent_and_a_seed_its_child(results: Path) -> None:
    assert track(results) == {"added": 9, "replaced": 0, "unchanged": 0}
    _, runs = read(results)
    parent = runs["synthetic/GPT-2.embedded.char"]
    child = runs["GPT-2.char.s1-0123456789"]
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert child.data.params["seed"] == "1"
    assert {child.data.params[name] for name in ("variant", "corpus", "tokenizer")} == {"GPT-2", "embedded", "char"}
    assert child.data.params["training.learning_rate"] == "0.003"
    values = [records.bits_per_byte("GPT-2", "char", seed) for seed in range(2)]
    assert child.data.metrics["final/bits_per_byte"] == pytest.approx(values[1])
    assert parent.data.metrics["final/bits_per_byte"] == pytest.approx(sum(values) / 2)
    assert parent.data.metrics["final/bits_per_byte_lower"] < min(values)


def test_curves_keep_their_own_times_and_steps(results: Path) -> None:
    track(results)
    client, runs = read(results)
    run = runs["GPT-2.char.s0-0123456789"]
    table = pq.read_table(results / "runs" / "GPT-2.char.s0-0123456789" / "curves.parquet").to_pydict()
    history = client.get_metric_history(run.info.run_id, "val/loss")
    expected = [
        (step, round(1000 * moment), value)
        for step, moment, value in zip(table["step"], table["timestamp"], table["val/loss"], strict=True)
        if not math.isnan(value)
    ]
    assert sorted((m.step, m.timestamp, m.value) for m in history) == expected
    assert (run.info.start_time, run.info.end_time) == (1790000000000, 1790000030000)


def test_status_commit_and_files(results: Path) -> None:
    track(results)
    client, runs = read(results)
    completed, diverged, failed = (runs[f"{name}-0123456789"] for name in ("WS.char.s0", "WS.char.s1", "HY.char.s1"))
    assert [run.info.status for run in (completed, diverged, failed)] == ["FINISHED", "FAILED", "FAILED"]
    assert [run.data.tags["gt.status"] for run in (completed, diverged, failed)] == ["completed", "diverged", "failed"]
    assert "OutOfMemoryError" in failed.data.tags["gt.reason"]
    assert completed.data.tags["mlflow.source.git.commit"].startswith("0123456789")
    names = {file.path for file in client.list_artifacts(completed.info.run_id)}
    assert names == {"spec.json", "manifest.json", "curves.parquet", "evaluation.json"}


def test_nothing_infinite_is_stored(results: Path) -> None:
    track(results)
    client, runs = read(results)
    run = runs["WS.char.s1-0123456789"]
    values = [m.value for m in client.get_metric_history(run.info.run_id, "train/loss")]
    assert values
    assert max(values) < 1e6


def test_there_are_few_metric_keys(results: Path) -> None:
    track(results)
    _, runs = read(results)
    assert len({key for run in runs.values() for key in run.data.metrics}) <= 15


def test_again_adds_nothing(results: Path) -> None:
    track(results)
    before = {key: run.info.run_id for key, run in read(results)[1].items()}
    assert track(results) == {"added": 0, "replaced": 0, "unchanged": 9}
    assert {key: run.info.run_id for key, run in read(results)[1].items()} == before


def test_a_changed_record_replaces_its_run_and_its_cell(results: Path) -> None:
    track(results)
    run_id = "GPT-2.char.s0-0123456789"
    path = results / "runs" / run_id / "evaluation.json"
    splits = json.loads(path.read_text())["splits"]
    splits["val"]["bits_per_byte"] = 1.0
    records.edit(path, splits=splits)
    assert track(results) == {"added": 0, "replaced": 2, "unchanged": 7}
    _, runs = read(results)
    parent = runs["synthetic/GPT-2.embedded.char"]
    assert runs[run_id].data.metrics["final/bits_per_byte"] == 1.0
    for seed in range(2):
        assert runs[f"GPT-2.char.s{seed}-0123456789"].data.tags["mlflow.parentRunId"] == parent.info.run_id


def test_an_import_that_was_cut_off_is_completed(results: Path) -> None:
    track(results)
    client, runs = read(results)
    client.delete_tag(runs["WS.char.s0-0123456789"].info.run_id, "gt.content")
    client.delete_run(runs["GPT-2.char.s0-0123456789"].info.run_id)
    assert track(results) == {"added": 1, "replaced": 1, "unchanged": 7}
    assert len(read(results)[1]) == 9


def test_a_run_that_is_there_twice_is_there_once_afterwards(results: Path) -> None:
    track(results)
    client, runs = read(results)
    run = runs["GPT-2.char.s0-0123456789"]
    client.create_run(run.info.experiment_id, tags=run.data.tags)
    track(results)
    assert len(read(results)[1]) == 9


def test_a_run_that_comes_later_joins_its_cell(results: Path) -> None:
    hidden = results / "runs" / "GPT-2.char.s1-0123456789"
    hidden.rename(results / "aside")
    track(results)
    (results / "aside").rename(hidden)
    assert track(results) == {"added": 1, "replaced": 1, "unchanged": 7}


def test_results_that_were_moved_are_imported_anew_with_their_files(results: Path) -> None:
    track(results)
    moved = results.rename(results.parent / "moved")
    track(moved)
    client, runs = read(moved)
    run = runs["GPT-2.char.s0-0123456789"]
    assert len(runs) == 9
    assert run.info.artifact_uri.startswith(moved.as_uri())
    file = Path(client.download_artifacts(run.info.run_id, "spec.json"))
    assert file.read_text() == (moved / "runs" / "GPT-2.char.s0-0123456789" / "spec.json").read_text()


def test_an_experiment_deleted_in_the_ui_comes_back(results: Path) -> None:
    track(results)
    client, runs = read(results)
    client.delete_experiment(next(iter(runs.values())).info.experiment_id)
    track(results)
    assert len(read(results)[1]) == 9


def test_importers_at_once_make_no_duplicates(results: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=track, args=(results,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert len(read(results)[1]) == 9


@pytest.mark.parametrize("uri", ["./mlruns", "file:///tmp/mlruns", "results/mlflow.db"])
def test_a_folder_is_refused_as_a_tracking_uri(results: Path, uri: str) -> None:
    with pytest.raises(ConfigError, match="sqlite:///"):
        sync(small(), results / "runs", uri)
