"""The import into MLflow, read back from a real database."""

from __future__ import annotations

import contextlib
import json
import math
import multiprocessing
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import records
from mlflow.entities import ViewType
from mlflow.tracking import MlflowClient
from tracked import at_once, found, keys, of, other_steps, read, small, track

from gt.cli import main
from gt.errors import ConfigError
from gt.tracking import sync

ONLY_DELETED = ViewType.DELETED_ONLY


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


def test_a_cell_is_a_parent_and_a_seed_its_child(results: Path) -> None:
    assert track(results) == {"added": 9}
    _, runs = read(results)
    parent = runs["synthetic/GPT-2.embedded.char"]
    child = runs[of("GPT-2.char.s1")]
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
    run = runs[of("GPT-2.char.s0")]
    table = pq.read_table(results / "runs" / of("GPT-2.char.s0") / "curves.parquet").to_pydict()
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
    completed, diverged, failed = (runs[of(name)] for name in ("WS.char.s0", "WS.char.s1", "HY.char.s1"))
    assert [run.info.status for run in (completed, diverged, failed)] == ["FINISHED", "FAILED", "FAILED"]
    assert [run.data.tags["gt.status"] for run in (completed, diverged, failed)] == ["completed", "diverged", "failed"]
    assert "OutOfMemoryError" in failed.data.tags["gt.reason"]
    assert completed.data.tags["mlflow.source.git.commit"].startswith("0123456789")
    names = {file.path for file in client.list_artifacts(completed.info.run_id)}
    assert names == {"spec.json", "manifest.json", "curves.parquet", "evaluations"}
    measured = {file.path for file in client.list_artifacts(completed.info.run_id, "evaluations")}
    assert {"evaluations/held_out.json", "evaluations/generation.json"} <= measured


def test_nothing_infinite_is_stored(results: Path) -> None:
    track(results)
    client, runs = read(results)
    run = runs[of("WS.char.s1")]
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
    assert track(results) == {"unchanged": 9}
    assert {key: run.info.run_id for key, run in read(results)[1].items()} == before


def test_a_changed_record_replaces_its_run_and_its_cell(results: Path) -> None:
    track(results)
    run_id = of("GPT-2.char.s0")
    records.edit_val(results / "runs" / run_id, bits_per_byte=1.0)
    assert track(results) == {"replaced": 2, "unchanged": 7}
    _, runs = read(results)
    parent = runs["synthetic/GPT-2.embedded.char"]
    assert runs[run_id].data.metrics["final/bits_per_byte"] == 1.0
    for seed in range(2):
        assert runs[of(f"GPT-2.char.s{seed}")].data.tags["mlflow.parentRunId"] == parent.info.run_id


def test_an_import_that_was_cut_off_is_completed(results: Path) -> None:
    track(results)
    client, runs = read(results)
    client.delete_tag(runs[of("WS.char.s0")].info.run_id, "gt.content")
    client.delete_run(runs[of("GPT-2.char.s0")].info.run_id)
    assert track(results) == {"replaced": 1, "restored": 1, "unchanged": 7}
    assert len(read(results)[1]) == 9


def test_a_run_that_is_there_twice_is_there_once_afterwards(results: Path) -> None:
    track(results)
    client, runs = read(results)
    run = runs[of("GPT-2.char.s0")]
    client.create_run(run.info.experiment_id, tags=run.data.tags)
    track(results)
    assert len(read(results)[1]) == 9


def test_a_run_that_comes_later_joins_its_cell(results: Path) -> None:
    hidden = results / "runs" / of("GPT-2.char.s1")
    hidden.rename(results / "aside")
    track(results)
    (results / "aside").rename(hidden)
    assert track(results) == {"added": 1, "replaced": 1, "unchanged": 7}


def test_results_that_were_moved_are_imported_anew_with_their_files(results: Path) -> None:
    track(results)
    moved = results.rename(results.parent / "moved")
    track(moved)
    client, runs = read(moved)
    run = runs[of("GPT-2.char.s0")]
    assert len(runs) == 9
    assert run.info.artifact_uri.startswith(moved.as_uri())
    file = Path(client.download_artifacts(run.info.run_id, "spec.json"))
    assert file.read_text() == (moved / "runs" / of("GPT-2.char.s0") / "spec.json").read_text()


def test_an_experiment_deleted_in_the_ui_comes_back(results: Path) -> None:
    track(results)
    client, runs = read(results)
    client.delete_experiment(next(iter(runs.values())).info.experiment_id)
    track(results)
    assert len(read(results)[1]) == 9


def test_importers_at_once_make_no_duplicates(results: Path) -> None:
    at_once([results, results], f"sqlite:///{results}/mlflow.db")
    assert len(read(results)[1]) == 9


# ---- the present plan


@pytest.mark.parametrize("changed", ["steps", "variants", "seeds"])
def test_active_are_the_runs_of_the_present_plan_and_one_that_comes_back_is_restored(results: Path, changed: str) -> None:
    uri = f"sqlite:///{results}/mlflow.db"
    fewer = {"GPT-2": 0.0, "WS": 0.0}
    plan = {
        "steps": other_steps(),
        "variants": records.plan(seeds=2, variants=fewer, tokenizers=("char",)),
        "seeds": records.plan(seeds=1, variants={**fewer, "HY": 0.0}, tokenizers=("char",)),
    }[changed]
    track(results)
    before = read(results)[1]
    records.write_runs(plan, results / "runs")
    track(results, plan)
    client, present = read(results)
    assert set(present) == keys(plan)
    active = {run.info.run_id for run in present.values()}
    assert {run.data.tags["mlflow.parentRunId"] for run in present.values() if "gt.seed" in run.data.tags} <= active
    left = found(uri, ONLY_DELETED, "tags.`gt.superseded` = 'not in the plan'")
    assert {run.data.tags["gt.key"] for run in left} == keys(small()) - keys(plan)

    counts = track(results)
    assert set(counts) <= {"restored", "unchanged", "superseded"}
    after = read(results)[1]
    assert {key: run.info.run_id for key, run in after.items()} == {key: run.info.run_id for key, run in before.items()}
    assert all("gt.superseded" not in run.data.tags for run in after.values())
    assert track(results) == {"unchanged": 9}
    file = Path(client.download_artifacts(after[of("GPT-2.char.s1")].info.run_id, "spec.json"))
    assert json.loads(file.read_text())["seed"] == 1


def test_runs_that_somebody_added_by_hand_stay(results: Path) -> None:
    track(results)
    client, runs = read(results)
    by_hand = client.create_run(next(iter(runs.values())).info.experiment_id).info.run_id
    track(results, other_steps())
    track(results)
    assert client.get_run(by_hand).info.lifecycle_stage == "active"


def test_texts_that_differ_beyond_what_mlflow_keeps_are_logged_as_different(results: Path) -> None:
    plan = small()
    cell = plan["cells"][0]
    cell["id"] = "GPT-2." + 300 * "n"
    for i, run_id in enumerate(cell["runs"].values()):
        corpus = {"name": f"file:{6000 * 'x'}{i}", "sha256": 64 * "0"}
        plan["runs"][run_id] = {**plan["runs"][run_id], "corpus": corpus}
    plan = records.identified(plan)
    cell = plan["cells"][0]
    for i, run_id in enumerate(cell["runs"].values()):
        records.write_failure(results / "runs" / run_id, 8000 * "y" + str(i))
    track(results, plan)
    runs = [read(results)[1][run_id] for run_id in cell["runs"].values()]
    for texts, length in (
        ([run.data.params["corpus.name"] for run in runs], 6000),
        ([run.data.tags["gt.reason"] for run in runs], 8000),
        ([run.info.run_name for run in runs], 250),
    ):
        assert len(set(texts)) == 2
        assert {len(text) for text in texts} == {length}


# ---- kills, and databases that cannot be used


@pytest.mark.parametrize("share", [0.01, 0.4, 0.8])
def test_a_first_import_that_is_killed_leaves_a_database_that_can_be_used(results: Path, share: float) -> None:
    (results / "mlflow.db").rename(results.parent / "whole.db")
    process = multiprocessing.get_context("fork").Process(target=track, args=(results,))
    process.start()
    while process.is_alive() and bytes_written(results) < share * (results.parent / "whole.db").stat().st_size:
        time.sleep(0.002)
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert track(results) == {"added": 9}
    assert {file.name for file in results.glob("*mlflow*")} == {"mlflow.db", "mlflow.lock"}


def bytes_written(folder: Path) -> int:
    """The size of a database that is being made, under whatever name."""
    sizes = [0]
    for file in folder.glob("*mlflow.db*"):
        with contextlib.suppress(FileNotFoundError):
            sizes.append(file.stat().st_size)
    return max(sizes)


@pytest.mark.parametrize("damage", ["half made", "of a later MLflow", "no database"])
def test_a_database_that_cannot_be_opened_is_said_to_be_a_view_that_can_be_made_again(
    results: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    database = results / "mlflow.db"
    if damage == "no database":
        database.write_bytes(1000 * b"not SQLite")
    else:
        done = {
            "half made": "DELETE FROM alembic_version",
            "of a later MLflow": "UPDATE alembic_version SET version_num = 'later'",
        }
        with contextlib.closing(sqlite3.connect(database)) as connection:
            connection.execute(done[damage])
            connection.commit()
    content = database.read_bytes()
    plan = results / "studies" / "synthetic" / "plan.json"
    records.write(plan, small())
    command = ["track", "--plan", str(plan), "--runs", str(results / "runs"), "--uri", f"sqlite:///{database}"]
    assert main(command) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert f"rm {database} && python -m gt {' '.join(command)}" in message
    assert database.read_bytes() == content


def test_the_command_of_that_message_makes_the_database_again(results: Path) -> None:
    (results / "mlflow.db").write_bytes(1000 * b"not SQLite")
    records.write(results / "studies" / "synthetic" / "plan.json", small())
    with pytest.raises(ConfigError) as caught:
        track(results)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(str(caught.value).split("make it again: ")[1], shell=True, check=True, env={**os.environ, "PATH": path})
    assert len(read(results)[1]) == 9


@pytest.mark.parametrize("answers", [True, False], ids=["a closed port", "a silent server"])
def test_a_server_that_cannot_be_reached_is_said_soon(results: Path, monkeypatch: pytest.MonkeyPatch, answers: bool) -> None:
    if not answers:
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")  # a user's own is respected
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if not answers:
            server.listen()
        begun = time.monotonic()
        with pytest.raises(ConfigError, match="Nothing is lost.*python -m gt track --plan .*plan.json"):
            track(results, uri=f"http://127.0.0.1:{server.getsockname()[1]}")
    assert time.monotonic() - begun < 20
    assert "MLFLOW_HTTP_REQUEST_MAX_RETRIES" not in os.environ


@pytest.mark.parametrize(
    ("uri", "module", "texts"),
    [
        ("postgresql://ann:secret@db/gt", "psycopg2", ("pip install 'psycopg2-binary'", "postgresql+psycopg://")),
        ("postgresql+psycopg://ann:secret@db/gt", "psycopg", ("pip install 'psycopg[binary]'", "postgresql+psycopg2://")),
        ("mysql://ann:secret@db/gt", "MySQLdb", ("pip install 'mysqlclient'", "mysql+pymysql://")),
    ],
)
def test_a_missing_driver_is_named_before_anything_is_imported(uri: str, module: str, texts: tuple[str, ...]) -> None:
    if find_spec(module):
        pytest.skip(f"{module} is installed")
    code = f"""
import sys
from gt.errors import ConfigError
from gt.tracking_store import check_uri
try:
    check_uri({uri!r})
except ConfigError as error:
    print(error)
assert "mlflow" not in sys.modules
"""
    message = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert all(text in message for text in texts)
    assert "secret" not in message


# ---- several results folders and one database


@pytest.fixture
def shared(results: Path, empty: Path) -> tuple[Path, Path, str]:
    """Two results folders with the same records, and the URI of a database that is in neither."""
    other = results.parent / "other" / "results"
    shutil.copytree(results, other)
    database = results.parent / "shared.db"
    shutil.copy(empty, database)
    return results, other, f"sqlite:///{database}"


def test_two_results_folders_share_an_experiment_and_its_runs(shared: tuple[Path, Path, str]) -> None:
    one, two, uri = shared
    records.edit(two / "runs" / of("GPT-2.char.s0") / "manifest.json", tokens_per_second=1.0)
    assert track(one, uri=uri) == {"added": 9}
    for root in (two, one, two):
        assert track(root, uri=uri) == {"unchanged": 9}
    assert [e.name for e in MlflowClient(uri).search_experiments(ViewType.ALL)] == ["synthetic", "Default"]


def test_a_results_folder_supersedes_its_own_runs_only(shared: tuple[Path, Path, str]) -> None:
    one, two, uri = shared
    more = records.plan(seeds=4, variants={"GPT-2": 0}, tokenizers=("char",))
    records.write_runs(more, two / "runs")
    track(one, uri=uri)
    track(two, more, uri)
    runs = read(one, uri)[1]
    assert set(runs) == keys(small()) | keys(more)
    parent = runs["synthetic/GPT-2.embedded.char"]
    assert {runs[run_id].data.tags["mlflow.parentRunId"] for run_id in more["runs"]} == {parent.info.run_id}
    mean = sum(records.bits_per_byte("GPT-2", "char", seed) for seed in range(4)) / 4
    assert parent.data.metrics["final/bits_per_byte"] == pytest.approx(mean)
    assert track(one, uri=uri) == {"unchanged": 9}

    track(two, records.plan(seeds=3, variants={"GPT-2": 0}, tokenizers=("char",)), uri)
    assert set(read(one, uri)[1]) == keys(small()) | {of("GPT-2.char.s2")}


def test_the_runs_of_a_cell_never_differ_in_more_than_the_seed(shared: tuple[Path, Path, str]) -> None:
    one, two, uri = shared
    plan = other_steps()
    plan["cells"] = [cell for cell in plan["cells"] if cell["variant"] != "HY"]
    plan["runs"] = {run: plan["runs"][run] for cell in plan["cells"] for run in cell["runs"].values()}
    records.write_runs(plan, two / "runs")
    track(one, uri=uri)
    first = {key: run.info.run_id for key, run in read(one, uri)[1].items()}
    track(two, plan, uri)
    runs = read(one, uri)[1]
    steps = {
        (run.data.params["variant"], run.data.params["training.steps"]) for run in runs.values() if "seed" in run.data.params
    }
    assert steps == {("GPT-2", "12"), ("WS", "12"), ("HY", "250")}
    assert not track(one, uri=uri).keys() & {"added", "replaced"}
    assert {key: run.info.run_id for key, run in read(one, uri)[1].items()} == first


def test_two_results_folders_at_once_fill_an_empty_database(shared: tuple[Path, Path, str]) -> None:
    one, two, uri = shared
    Path(uri.removeprefix("sqlite:///")).unlink()
    at_once([one, two], uri)
    assert len(read(one, uri)[1]) == 9


def test_without_a_place_for_files_the_rest_is_imported(
    shared: tuple[Path, Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    one, two, uri = shared
    track(one, uri=uri)
    shutil.rmtree(one)
    more = records.plan(seeds=3, variants={"GPT-2": 0}, tokenizers=("char",))
    records.write_runs(more, two / "runs")
    assert track(two, more, uri) == {"added": 1, "replaced": 1, "unchanged": 2}
    assert str(one / "mlartifacts" / "synthetic") in capsys.readouterr().err
    client, runs = read(two, uri)
    run = runs[of("GPT-2.char.s2")]
    assert run.data.metrics["final/bits_per_byte"] == pytest.approx(records.bits_per_byte("GPT-2", "char", 2))


# ---- what is no place for runs


@pytest.mark.parametrize("uri", ["./mlruns", "file:///tmp/mlruns", "results/mlflow.db", "sqlite://", "http://", "5"])
def test_a_folder_is_refused_as_a_tracking_uri(results: Path, uri: str) -> None:
    with pytest.raises(ConfigError, match="sqlite:///"):
        sync(records.planned(small()), results / "runs", uri)
