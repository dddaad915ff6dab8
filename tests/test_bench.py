"""What `gt bench` writes, at sizes that a CPU can afford. How fast anything is, is no test."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

from gt.bench import measure, measuring
from gt.bench.candidates import COMPARISONS, NAMES, Candidate, affordable, candidates
from gt.bench.events import Event, events, summary, with_bytes
from gt.bench.noise import noise
from gt.bench.report import table
from gt.bench.size_figure import ratios
from gt.bench.sizes import Size, entrants, merged
from gt.bench.starts import starts
from gt.bench.step_drawing import picture, tables
from gt.bench.step_record import packed, unpacked
from gt.bench.trainers import Cohorts
from gt.bench.worlds import digests
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


def test_rivals_are_set_beside_ours_of_the_same_work() -> None:
    rows = [
        {"name": "ours", "rival": None, "run": "a", "stacked": 16, "tokens_per_second": 300.0},
        {"name": "theirs", "rival": "JAX", "run": "a", "stacked": 16, "tokens_per_second": 200.0},
        {"name": "of another size", "rival": "JAX", "run": "a", "stacked": 1, "tokens_per_second": 200.0},
        {"name": "broken", "error": "no memory"},
    ]
    assert [row.get("ours_over_it") for row in measure.with_leads(rows)] == [None, 1.5, None, None]


def test_both_of_a_size_do_the_same_work_but_for_who_does_it() -> None:
    specs = {"GPT-2": candidates("models", STUDY, quick=False)[1].spec}
    ours, theirs = entrants("GPT-2", Size(width=512, time=256, stack=4), specs)
    assert replace(theirs, name=ours.name, rival=None) == ours
    assert (ours.spec.model.d_model, ours.spec.training.sequence_length, ours.stacked) == (512, 256, 4)
    assert ours.spec.model.mixers["a"].n_head * 64 == 512


def test_sizes_that_were_measured_again_take_the_place_of_those_before() -> None:
    at = {"model": "GPT-2", "width": 128, "time": 64, "entrant": "ours"}
    before = [{**at, "stack": 1, "x": 1}, {**at, "stack": 4, "x": 1}]
    assert merged(before, [{**at, "stack": 4, "x": 2}]) == [{**at, "stack": 1, "x": 1}, {**at, "stack": 4, "x": 2}]


def test_a_size_lies_on_the_axes_along_which_it_differs() -> None:
    """The one where they meet lies on all three, and one of which JAX has no number on none."""
    speeds = [(Size(), "ours", 3.0), (Size(), "JAX", 2.0), (Size(stack=4), "JAX", 1.0), (Size(stack=4), "ours", 2.0)]
    speeds.append((Size(width=256), "ours", 1.0))
    rows = [{"model": "GPT-2", **vars(size), "entrant": who, "tokens_per_second": speed} for size, who, speed in speeds]
    found = [tuple(line) for line in ratios(rows).itertuples(index=False)]
    at_base = [("GPT-2", axis, value, 1.5) for axis, value in vars(Size()).items()]
    assert found == [*at_base, ("GPT-2", "stack", 4, 2.0)]


def test_kernels_of_a_trace_have_the_bytes_of_what_launched_them() -> None:
    """A product of (2, 3) and (3, 4) in bfloat16 moves 6 + 12 + 8 numbers. Of others a trace tells nothing."""
    product = {"Input Dims": [[2, 3], [3, 4]], "Input type": ["c10::BFloat16", "c10::BFloat16"], "External id": 1}
    trace = [
        {"ph": "X", "cat": "cpu_op", "name": "aten::mm", "ts": 0.0, "dur": 5.0, "tid": 1, "args": product},
        {"ph": "X", "cat": "kernel", "name": "gemm", "ts": 12.0, "dur": 2.0, "tid": 7, "args": {"stream": 7, "External id": 1}},
        {
            "ph": "X",
            "cat": "kernel",
            "name": "other",
            "ts": 10.0,
            "dur": 1.0,
            "tid": 8,
            "args": {"stream": 8, "External id": 9},
        },
        {
            "ph": "X",
            "cat": "gpu_memcpy",
            "name": "Memcpy",
            "ts": 15.0,
            "dur": 1.0,
            "tid": 7,
            "args": {"stream": 7, "bytes": 40},
        },
        {"ph": "i", "name": "mark", "ts": 0.0},
    ]
    found = events(trace)
    assert found == [Event("other", "8", 0.0, 1.0), Event("gemm", "7", 2.0, 2.0, 52), Event("Memcpy", "7", 5.0, 1.0, 40)]
    assert [event.kind for event in found] == ["other", "products", "copies"]
    timed = [replace(event, bytes=None) for event in found]
    assert with_bytes(timed, found) == found
    assert (summary(found)["kernels"], summary(found)["busy_ms"]) == (3, 0.004)


def test_on_a_cpu_operations_stand_in_for_kernels() -> None:
    own = Cohorts(candidates("models", STUDY, quick=True)[1], noise(65), torch.device("cpu"))
    own.take(1)
    found = own.events(captured=False)
    assert {"products", "copies"} <= {event.kind for event in found}
    assert unpacked(json.loads(json.dumps(packed(found)))) == found


def test_the_drawing_of_a_step_has_a_bar_for_each_kernel_in_the_lane_of_its_stream() -> None:
    found = [Event("gemm", "7", 0.0, 100.0, 10**8), Event("wkv6_forward", "9", 50.0, 100.0), Event("gemm", "7", 200.0, 50.0)]
    bars = [bar for bar in ElementTree.fromstring(picture(found, "a < b")).iter() if bar.tag.endswith("rect") and len(bar)]
    assert [bar[0].text for bar in bars] == ["gemm: 100.0 us, 100.0 MB", "gemm: 50.0 us", "wkv6_forward: 100.0 us"]
    assert [bar.get("y") == bars[0].get("y") for bar in bars] == [True, True, False]
    widths = [float(bar.get("width", 0)) for bar in bars]
    assert widths == pytest.approx([2 * widths[1], widths[1], 2 * widths[1]], rel=1e-2)
    assert "| products | 2 | 150 | 100.0 (1 of 2) | 1.00 |" in list(tables(found))


def test_the_shares_of_a_pack_are_the_runs_of_the_whole() -> None:
    candidate = replace(candidates("models", STUDY, quick=True)[1], stacked=1)
    whole, first, second = (
        Cohorts(replace(candidate, cohorts=cohorts), noise(65), torch.device("cpu"), first_seed)
        for cohorts, first_seed in ((2, 0), (1, 0), (1, 1))
    )
    assert digests(whole) == [*digests(first), *digests(second)]
    assert len(set(digests(whole))) == 2
