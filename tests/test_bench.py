"""What `gt bench` writes, at sizes that a CPU can afford. How fast anything is, is no test."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gt.bench import measure, measuring
from gt.bench.candidates import COMPARISONS, NAMES, Candidate, affordable, candidates
from gt.bench.report import table
from gt.bench.starts import starts
from gt.bench.trainers import Cohorts, noise
from gt.cli import main

STUDY = Path(__file__).parents[1] / "config/studies/v4_char.yaml"


def test_bench_writes_every_number_and_prints_a_line_a_candidate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "bench.json"
    arguments = ["bench", "models", "ops", "--quick", "--device", "cpu", "--study", str(STUDY), "--out", str(out)]
    assert main(arguments) == 0
    written = json.loads(out.read_text())
    assert {"code", "versions", "git_commit", "device", "threads"} <= written.keys()
    rows = written["results"]["models"]
    assert [row["name"] for row in rows] == ["GF-MH", "GPT-2", "RWKV-6", "Mamba-2"]
    printed = capsys.readouterr().out
    for row in rows:
        assert row["name"] in printed
        low, high = row["ms_a_step_quartiles"]
        assert 0 < low <= row["ms_a_step"] <= high
        assert len(row["ms_a_step_of_rounds"]) == 2
        assert row["tokens_per_second"] == pytest.approx(4 * 32 * 1e3 / row["ms_a_step"])
        assert (row["engine"], row["compiled"]) == ("eager", False)
        assert row["model_flops_utilisation"] is None, "a CPU has no stated peak"
    ops = written["results"]["ops"]
    assert {row["op"] for row in ops} == {"wkv6", "ssd", "selective"}
    assert all(row["us"] > 0 for row in ops if row["backend"] == "chunked")


def test_what_bench_cannot_do_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--device", "cpu", "--out", str(tmp_path / "bench.json")]
    assert main(["bench", "modles", "--study", str(STUDY), *out]) == 2
    assert "Did you mean 'models'?" in capsys.readouterr().err
    assert main(["bench", "models", "--study", str(STUDY.parent / "arbiters.yaml"), *out]) == 2
    assert "needs the variant" in capsys.readouterr().err


def test_the_help_names_every_comparison(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--help"]) == 0
    assert ", ".join(NAMES) in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("comparison", COMPARISONS)
def test_comparisons_have_candidates_that_differ(comparison: str) -> None:
    found = candidates(comparison, STUDY, quick=False)
    assert len({candidate.name for candidate in found}) == len(found)
    assert not [a.name for i, a in enumerate(found) if replace(a, name="") in [replace(b, name="") for b in found[:i]]]
    assert all(affordable(candidate, gpu=True) for candidate in found)


def test_runs_of_a_candidate_differ_in_their_seeds_alone() -> None:
    spec = candidates("models", STUDY, quick=True)[0].spec
    cohorts = Candidate("some", spec, stacked=2, cohorts=3).specs()
    assert [len(specs) for specs in cohorts] == [2, 2, 2]
    runs = [run for specs in cohorts for run in specs]
    assert len({run.seed for run in runs}) == 6
    assert {run.model_copy(update={"seed": 0}).sha256 for run in runs} == {spec.sha256}


def test_cohorts_take_the_steps_that_are_timed() -> None:
    spec = candidates("models", STUDY, quick=True)[1].spec
    own = Cohorts(Candidate("some", spec, cohorts=2), noise(65), torch.device("cpu"))
    before = own.cohorts[1].weights.clone()
    own.take(1)
    own.take(129)  # beyond what is put on the device at once
    assert [cohort.step for cohort in own.cohorts] == [130, 130]
    assert not torch.equal(own.cohorts[1].weights, before)


def test_noise_has_every_token_about_equally_often() -> None:
    train = noise(65).train
    shares = torch.bincount(torch.from_numpy(train.astype(int)), minlength=65) / len(train)
    # five standard deviations of a share of a million draws
    torch.testing.assert_close(shares, torch.full((65,), 1 / 65), rtol=0, atol=5 * (65 * len(train)) ** -0.5)


def test_a_candidate_that_fails_is_reported_and_stops_no_other() -> None:
    spec = candidates("models", STUDY, quick=True)[1].spec
    broken = spec.model_copy(update={"training": spec.training.model_copy(update={"sequence_length": 10**6 - 1})})
    found = [Candidate("broken", broken), Candidate("whole", spec)]
    rows = measure.compare(found, torch.device("cpu"), rounds=1)
    assert "error" in rows[0]
    assert rows[1]["ms_a_step"] > 0
    assert "ConfigError" in table(rows)


def test_utilisation_counts_three_forward_passes() -> None:
    assert measure.utilisation(10**6, 989.4e6, "NVIDIA H200") == pytest.approx(3.0)
    assert measure.utilisation(10**6, 989.4e6, "an abacus") is None


def test_starts_are_those_of_new_processes_with_a_cache_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", "mine")
    (row,) = starts(candidates("models", STUDY, quick=True)[1:2], torch.device("cpu"))
    assert 0 < row["cold_training_seconds"] < row["cold_seconds"]
    assert 0 < row["warm_training_seconds"] < row["warm_seconds"]
    assert os.environ["TRITON_CACHE_DIR"] == "mine"
    assert "cold s" in table([row])
    assert "quartiles" not in table([row])


def test_without_its_curves_a_run_learns_the_same() -> None:
    """What is left out of the update is what it measures for curves."""
    candidate = candidates("curves", STUDY, quick=True)[0]
    weights = []
    for followed in (True, False):
        trainer = Cohorts(replace(candidate, followed=followed), noise(65), torch.device("cpu"))
        trainer.take(4)
        weights.append(trainer.cohorts[0].weights)
    torch.testing.assert_close(weights[1], weights[0], rtol=1e-6, atol=1e-8)


def test_measuring_is_timed_beside_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "FURTHER", ())
    monkeypatch.setattr(measuring, "TURNS", 1)
    (row,) = measuring.measuring(candidates("measuring", STUDY, quick=True)[1:], torch.device("cpu"))
    assert row["probe_share"] == row["probe_seconds"] / row["training_seconds"] > 0
    assert row["evaluate_seconds"] > 0
