"""The workflow as a user runs it: real commands in a folder of their own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import records
from checkouts import ROOT, TINY, Checkout

from gt.analysis.reading import read_record
from gt.artefacts import read_manifest
from gt.attempts import first_start, of_run
from gt.cli import main
from gt.records import read_json, write_json


def test_one_command_trains_tracks_and_reports(finished: Checkout) -> None:
    study = finished.folder / "results/studies/tiny"
    assert len(finished.finished_at()) == 4
    assert (finished.folder / "results/mlflow.db").exists()
    assert {"report.html", "report.md", "tables", "figures", "runs.parquet", "claims.json"} <= {f.name for f in study.iterdir()}
    runs = pd.read_parquet(study / "runs.parquet")
    assert runs["status"].tolist() == ["completed"] * 4
    measured = pd.read_parquet(study / "evaluations.parquet")
    assert set(measured[measured["metric"].str.startswith("quantisation/")]["variant"]) == {"GF"}


def test_the_second_time_there_is_nothing_to_do(finished: Checkout) -> None:
    result = finished.snakemake()
    assert result.returncode == 0
    assert "Nothing to be done" in result.stderr


def test_a_changed_report_and_a_claim_that_comes_late_train_nothing_and_it_is_exploratory(checkout: Checkout) -> None:
    with open(checkout.folder / "report_templates/report.md.j2", "a") as template:
        template.write("\nOne more line.\n")
    predicate = {"test": "compare", "metric": "val/loss", "a": "GF", "b": "GPT-2", "is": "lower"}
    claim = {"title": "t", "sentence": "s", "source": "x", "study": "tiny", "seeds": 2, "predicate": [predicate]}
    (checkout.folder / "config/claims/tiny.yaml").write_text(json.dumps({"T-1": claim}))
    before = checkout.finished_at()
    assert checkout.snakemake().returncode == 0
    assert checkout.finished_at() == before
    assert (checkout.folder / "results/studies/tiny/report.md").read_text().rstrip().endswith("One more line.")
    (judged,) = read_json(checkout.folder / "results/studies/tiny/claims.json")
    assert (judged["claim"], judged["exploratory"], judged["tests"][0]["n"]) == ("T-1", "not registered", 2)
    # The tables' losses are what it is judged by.
    runs = pd.read_parquet(checkout.folder / "results/studies/tiny/runs.parquet").pivot(
        index="seed", columns="variant", values="val/loss"
    )
    assert judged["tests"][0]["estimate"] == pytest.approx((runs["GF"] - runs["GPT-2"]).mean())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variants": ["GPT-3"]}, "unknown variant 'GPT-3'. Did you mean 'GPT-2'?"),
        (
            {"variants": ["GPT-2", {"variant": "GF", "model": {"mixers": {"r": {"head_size": 5}}}}]},
            "rwkv6.head_size: 5 does not divide d_model 16",
        ),
        ({"corpora": ["file:nowhere.txt"]}, "nowhere.txt"),
        ({"training": {**TINY["training"], "steps": -1}}, "training.steps: -1"),
    ],
)  # fmt: skip
def test_bad_input_is_one_message_before_anything_runs(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    checkout = Checkout(tmp_path / "c")
    checkout.study(**changes)
    result = checkout.snakemake()
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not (checkout.folder / "results").exists()


def test_claims_that_could_not_be_judged_are_refused_before_anything_runs(checkout: Checkout) -> None:
    shutil.rmtree(checkout.folder / "results/runs")
    claim = {"title": "t", "sentence": "s", "source": "x", "study": "tiny"}
    compare = {"test": "compare", "metric": "val/loss", "a": "GPT2", "b": "GF", "is": "lower"}
    for text, message in (
        (json.dumps({"T-1": {**claim, "predicate": [compare]}}), "own.yaml, line 1: T-1: tiny has no variant 'GPT2'. Did you"),
        ("T-1: [\n", "own.yaml, line 2: "),
    ):
        (checkout.folder / "config/claims/own.yaml").write_text(text)
        result = checkout.snakemake()
        assert result.returncode == 2
        assert message in result.stderr
        assert "Traceback" not in result.stderr
        assert not (checkout.folder / "results/runs").exists()


def test_a_study_whose_name_looks_like_a_number_can_be_asked_for_beside_others(checkout: Checkout) -> None:
    shutil.copy(checkout.folder / "config/studies/tiny.yaml", checkout.folder / "config/studies/007.yaml")
    result = checkout.snakemake("-n", "--forceall", study="tiny, 007")
    assert result.returncode == 0, result.stderr
    assert all(f"results/studies/{study}/report.html" in result.stdout for study in ("tiny", "007"))


def test_a_sequence_that_does_not_fit_the_text_fails_by_name(finished: Checkout, tmp_path: Path) -> None:
    plan = read_json(finished.folder / "results/studies/tiny/plan.json")
    next(iter(plan["runs"].values()))["training"]["sequence_length"] = 4000
    plan = records.identified(plan)
    run = next(iter(plan["runs"]))
    write_json(tmp_path / "plan.json", plan)
    tokens = next(finished.folder.glob("results/data/*/char"))
    paths = {"plan": "plan.json", "out": run, "checkpoints": "checkpoints", "attempts": "attempts"}
    options = [text for name, path in paths.items() for text in (f"--{name}", str(tmp_path / path))]
    write_json(tmp_path / run / "evaluations/held_out.json", {"of": "an earlier training"})
    assert main(["train", "--run", run, "--data", str(tokens), *options]) == 2
    record = read_record(tmp_path / run, run)
    assert record.status == "failed"
    assert "sequence_length: 4,000 does not fit the val split" in record.reason
    assert not (tmp_path / run / "evaluations/held_out.json").exists()
    (attempt,) = of_run(tmp_path / "attempts", run)
    assert (attempt.outcome, attempt.error) == ("failed", record.reason)


def test_attempts_outlive_what_is_trained_again_and_what_is_removed(checkout: Checkout) -> None:
    results = checkout.folder / "results"
    checkout.study(seeds=1)
    for run in results.glob("*/*.s1-*"):
        shutil.rmtree(run)
    before = {file: file.read_bytes() for file in results.glob("attempts/*/*.json")}
    started = {file.name: first_start(results / "attempts", file.name) for file in results.glob("runs/*")}
    assert len(before) == len(started) == 2
    shutil.rmtree(results / "runs" / min(started))
    assert checkout.snakemake("--until", "train", "--forcerun", "train").returncode == 0
    after = {file: file.read_bytes() for file in results.glob("attempts/*/*.json")}
    assert before.items() <= after.items()
    for run, first in started.items():
        attempts = of_run(results / "attempts", run)
        assert [attempt.outcome for attempt in attempts] == ["completed"] * 2
        assert first_start(results / "attempts", run) == first
        assert read_manifest(results / "runs" / run).attempts == [attempts[-1].id]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("stduy=tiny", "unknown key 'stduy'. Did you mean 'study'?"),
        ("device=tpu", "unknown device 'tpu'"),
        ("study=[]", "study is not set"),
        ("checkpoint_seconds=-1", "checkpoint_seconds: -1 is not allowed. Allowed: seconds above 0."),
        ("checkpoint_seconds=soon", "checkpoint_seconds: 'soon' is not allowed"),
        ("study=smok", "there is no study 'smok'. Did you mean 'smoke'?"),
        ("study=7", "study: 7 is no name but a int, and in config/studies no file's name is read as it."),
    ],
)
def test_a_bad_setting_is_one_message_before_anything_runs(setting: str, message: str, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "config", tmp_path / "config")
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--directory", str(tmp_path), "--config", setting]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "results").exists()
