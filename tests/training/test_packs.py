"""Runs in a pack: stacked or side by side, each as if it were alone, whatever becomes of its neighbours."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from glob import glob
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
import records
import torch
from corpus import words

from gt.artefacts import Evaluation, Probes, read_evaluations, read_manifest, read_probes, write
from gt.attempts import of_run
from gt.data import ngram
from gt.data.tokens import Tokens
from gt.errors import ConfigError
from gt.grouping import OWN_TRAINING, cohort_key
from gt.measuring import measuring
from gt.records import measurements, read_json
from gt.spec import RunSpec
from gt.stage import is_evaluated, is_probed
from gt.training import packs
from gt.training.cohort import Cohort
from gt.training.loop import Attempt, Job, Settings, together, train
from gt.training.packs import folder_name, train_pack

CPU = torch.device("cpu")
MIXERS = {"r": {"name": "rwkv6", "head_size": 8}, "m": {"name": "mamba2", "head_dim": 8, "d_state": 8}}
MODEL: dict[str, Any] = {"d_model": 16, "n_layer": 1, "layers": "r+m", "mixers": MIXERS, "fusion": {"name": "gated"}}
# Another value for every setting of training that runs of a cohort may differ in.
OTHER: dict[str, Any] = {
    "learning_rate": 0.03,
    "min_learning_rate_ratio": 0.9,
    "warmup_ratio": 0.5,
    "parts": {"mixers.r": {"learning_rate": 3.0, "gradient_scale": 0.2}, "fusion": {"frozen_steps": 2}},
    "weight_decay": 3.0,
    "weight_decay_policy": "all",
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = words(tmp_path_factory.mktemp("data"))
    ngram.prepare(folder)
    return folder


def run_spec(seed: int = 0, model: dict[str, Any] | None = None, **training: Any) -> RunSpec:
    small = {"batch_size": 4, "sequence_length": 16, "evaluate_every": 2, "evaluation_tokens": 128, "log_every": 1}
    return RunSpec.model_validate(
        {
            "corpus": {"name": "embedded"},
            "tokenizer": {"name": "char"},
            "model": MODEL | (model or {}),
            "training": {"steps": 4, "learning_rate": 0.01, **small, **training},
            "seed": seed,
        }
    )


def curves_of(specs: list[RunSpec], data: Path) -> list[pd.DataFrame]:
    """The curves of runs that are trained as one cohort, in float64."""
    cohort = Cohort(specs, Tokens.open(data), CPU, torch.float64)
    while not cohort.done:
        cohort.advance()
        cohort.collect()
    return [pd.DataFrame(c.rows, columns=c.columns).drop(columns="timestamp") for c in cohort.book.curves]


def test_there_is_another_value_for_every_setting_that_may_differ() -> None:
    assert set(OTHER) == OWN_TRAINING


def test_stacked_runs_are_trained_as_if_alone_whatever_they_differ_in(data: Path) -> None:
    specs = [run_spec(), run_spec(seed=1), *(run_spec(**{name: value}) for name, value in OTHER.items())]
    specs += [run_spec(optimizer={"name": "adamw", **own}) for own in ({"beta1": 0.5}, {"beta2": 0.5}, {"epsilon": 0.1})]
    specs += [run_spec(model={"fusion": {"name": "gated", "gate_init": 0.2}}), run_spec(model={"init": {"blanket": True}})]
    assert len(set(map(cohort_key, specs))) == 1
    stacked = curves_of(specs, data)
    for spec, curves in zip(specs, stacked, strict=True):
        (alone,) = curves_of([spec], data)
        pd.testing.assert_frame_equal(curves, alone, rtol=1e-9, atol=1e-12)
    ends = [curves["train/loss"].iloc[-1] for curves in stacked]
    assert len({round(end, 9) for end in ends}) == len(ends), "a setting had no effect, so the test says nothing about it"


@pytest.fixture
def stacking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs are stacked as on a GPU."""
    monkeypatch.setitem(packs.STACK, "cpu", packs.STACK["cuda"])


@pytest.mark.usefixtures("stacking")
def test_runs_that_diverge_or_fail_hurt_no_neighbour(data: Path, tmp_path: Path) -> None:
    specs = {
        "good": run_spec(),
        "diverges": run_spec(clip_norm=None, optimizer="sgd", learning_rate=10.0, parts={"norm": {"learning_rate": 1000.0}}),
        "its neighbour": run_spec(clip_norm=None, optimizer="sgd", learning_rate=0.01),
        "other": run_spec(model={"d_model": 32}),
        "does not fit": run_spec(sequence_length=100_000),
    }
    assert cohort_key(specs["diverges"]) == cohort_key(specs["its neighbour"])
    jobs = [Job(spec, data, tmp_path / name) for name, spec in specs.items()]
    became = {job.out.name: status for job, status in train_pack(jobs, set(), tmp_path / "checkpoints", Settings(CPU, 1e9))}
    assert became == dict.fromkeys(specs, "completed") | {"diverges": "diverged", "does not fit": "failed"}
    assert not (tmp_path / "does not fit").exists()
    trained = [name for name in specs if name != "does not fit"]
    assert [read_json(tmp_path / name / "manifest.json")["status"] for name in trained] == [became[name] for name in trained]
    attempts = {name: of_run(tmp_path / "attempts", spec.run_id) for name, spec in specs.items()}
    assert {name: own.outcome for name, (own,) in attempts.items()} == became
    assert "sequence_length" in (attempts["does not fit"][0].error or "")


def test_the_device_seconds_of_all_runs_of_a_process_are_those_of_the_process(data: Path, tmp_path: Path) -> None:
    """Two runs stacked, and one of another form beside them: the three have a third each while both are there."""
    specs = [run_spec(), run_spec(seed=1), run_spec(model={"d_model": 32})]
    settings = Settings(CPU, 1e9)
    assert settings.meter.own == {}
    begin = time.monotonic()
    jobs = [Job(spec, data, tmp_path / f"{i}") for i, spec in enumerate(specs)]
    stacked, beside = (Attempt(own, tmp_path / f"checkpoints-{len(own)}", settings) for own in (jobs[:2], jobs[2:]))
    assert [error for _, error in together([stacked, beside])] == [None, None]
    elapsed = time.monotonic() - begin
    manifests = [read_manifest(job.out) for job in jobs]
    first, second, alone = (manifest.usage.device_seconds or 0.0 for manifest in manifests)
    assert first == second > 0
    assert first + second + alone == pytest.approx(sum(share.seconds for share in settings.meter.shares.values()))
    assert first + second + alone <= elapsed < sum(manifest.seconds for manifest in manifests)
    assert [manifest.cohorts for manifest in manifests] == [2, 2, 2]
    why = {"energy_joules": "no energy counter", "peak_memory_bytes": "several cohorts shared the process"}
    assert all(manifest.usage.unknown == why for manifest in manifests)


def test_on_a_cpu_a_pack_trains_its_runs_one_by_one_to_the_bits_that_they_have_alone(data: Path, tmp_path: Path) -> None:
    specs, settings = [run_spec(seed) for seed in range(2)], Settings(CPU, 1e9)
    jobs = [Job(spec, data, tmp_path / f"{spec.seed}") for spec in specs]
    assert [status for _, status in train_pack(jobs, set(), tmp_path / "checkpoints", settings)] == ["completed"] * 2
    for job in jobs:
        alone = Job(job.spec, data, tmp_path / f"{job.spec.seed}-alone")
        train(alone, tmp_path / "alone", settings)
        assert (alone.out / "model.safetensors").read_bytes() == (job.out / "model.safetensors").read_bytes()
        manifest = read_manifest(job.out)
        assert (manifest.stacked, manifest.cohorts, set(manifest.usage.unknown)) == (1, 1, {"energy_joules"})


def test_a_run_alone_goes_on_from_its_checkpoint_in_a_pack_too(data: Path, tmp_path: Path) -> None:
    jobs = [Job(run_spec(seed), data, tmp_path / f"{seed}") for seed in range(2)]
    killed = Attempt(jobs[:1], tmp_path / "checkpoints" / jobs[0].spec.run_id, Settings(CPU, 0.0))
    while killed.cohort.step < 3:
        killed.advance()
        killed.collect()
    list(train_pack(jobs, set(), tmp_path / "checkpoints", Settings(CPU, 1e9)))
    assert [read_manifest(job.out).resumed_from for job in jobs] == [[3], []]


@pytest.mark.usefixtures("stacking")
def test_a_cohort_that_was_killed_while_it_wrote_its_records_goes_on_from_its_checkpoint(data: Path, tmp_path: Path) -> None:
    jobs = [Job(run_spec(seed), data, tmp_path / f"{seed}") for seed in range(2)]
    checkpoints = tmp_path / "checkpoints"
    attempt = Attempt(jobs, checkpoints / folder_name(jobs), Settings(CPU, 0.0))
    while attempt.cohort.step < 3:
        attempt.advance()
        attempt.collect()
    became = [status for _, status in train_pack(jobs, {jobs[0].spec.run_id}, checkpoints, Settings(CPU, 1e9))]
    assert became == ["completed"] * 2
    for job in jobs:
        manifest, attempts = read_manifest(job.out), of_run(tmp_path / "attempts", job.spec.run_id)
        assert manifest.resumed_from == [3]
        assert set(manifest.attempts) == {own.id for own in attempts}
        assert {own.id: own.outcome for own in attempts} == {attempt.id: None, manifest.attempts[-1]: "completed"}
    assert not list(train_pack(jobs, {job.spec.run_id for job in jobs}, checkpoints, Settings(CPU, 1e9)))


@pytest.mark.parametrize("measuring", [1, 2])
def test_a_killed_pack_keeps_what_is_finished_and_goes_on_with_the_rest(measuring: int, data: Path, tmp_path: Path) -> None:
    short, long = run_spec(steps=2), run_spec(steps=200)
    plan = records.of_runs([short, long]).model_copy(update={"evaluations": []})
    write(tmp_path / "plan.json", plan)
    folders = {name: str(tmp_path / name) for name in ("runs", "staged", "checkpoints", "attempts")}
    options = {"plans": str(tmp_path / "plan.json"), "data": str(data), "out": str(tmp_path / "pack.json"), **folders}
    command = [sys.executable, "-m", "gt", "pack", "--device", "cpu", "--checkpoint-seconds", "0"]
    command += [text for name, value in options.items() for text in (f"--{name}", value)]
    command += ["--measuring", str(measuring), "--run", short.run_id, long.run_id]
    staged = tmp_path / "staged" / short.run_id / "manifest.json"
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not staged.exists() or not glob(f"{tmp_path}/checkpoints/{long.run_id}/**/*.safetensors", recursive=True):
        assert first.poll() is None, "the pack ended before it could be killed"
        time.sleep(0.01)
    others = psutil.Process(first.pid).children()
    assert len(others) >= (measuring if measuring > 1 else 0)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert not psutil.wait_procs(others, timeout=60)[1], "processes are left behind"
    before = staged.read_bytes()
    assert not (tmp_path / "staged" / long.run_id / "manifest.json").exists()
    subprocess.run(command, check=True, capture_output=True)
    assert staged.read_bytes() == before
    assert read_json(tmp_path / "pack.json")["runs"] == {short.run_id: "kept", long.run_id: "completed"}
    assert all(seconds > 0 for seconds in read_json(tmp_path / "pack.json")["seconds"].values())
    assert read_json(tmp_path / "staged" / long.run_id / "manifest.json")["resumed_from"]
    assert all(is_evaluated(tmp_path / "staged" / spec.run_id, ["held_out"]) for spec in (short, long))
    assert all(is_probed(tmp_path / "staged" / spec.run_id) for spec in (short, long))
    assert not list((tmp_path / "checkpoints").iterdir())


def test_runs_are_measured_side_by_side_and_one_that_cannot_be_hurts_no_other(data: Path, tmp_path: Path) -> None:
    jobs = [Job(run_spec(seed, steps=1), data, tmp_path / f"{seed}") for seed in range(3)]
    assert len(list(train_pack(jobs, set(), tmp_path / "checkpoints", Settings(CPU, 1e9)))) == 3
    (jobs[0].out / "model.safetensors").write_bytes(b"no weights")
    with measuring(2, CPU, 1) as hand:
        first, *others = [hand(job.out, data, CPU, ["held_out"], True) for job in jobs]
        with pytest.raises(ConfigError, match=r"model\.safetensors: damaged"):
            first()
        assert all(set(result()) == {"evaluate", "probe"} for result in others)
    for job in jobs[1:]:
        beside = _measured(job.out)
        for name in measurements(job.out):
            (job.out / name).unlink()
        with measuring(1, CPU, 1) as hand:
            hand(job.out, data, CPU, ["held_out"], True)()
        assert _measured(job.out) == beside


def _measured(record: Path) -> list[Evaluation | Probes]:
    """What was measured, whenever that was."""
    found = [*read_evaluations(record).values(), read_probes(record)]
    return [own.model_copy(update={"measured": None}) for own in found]


def test_no_process_cannot_measure() -> None:
    with pytest.raises(ConfigError, match="--measuring 0 is not allowed"), measuring(0, CPU, 1):
        pass


def test_an_attempt_whose_end_cannot_be_written_hurts_no_neighbour(data: Path, tmp_path: Path) -> None:
    """As on a full disk, here by a file where the attempt's folder was."""
    first, other = run_spec(steps=2), run_spec(steps=2, model={"d_model": 32})
    jobs = {name: Job(spec, data, tmp_path / name) for name, spec in (("first", first), ("other", other))}
    attempts = [Attempt([job], tmp_path / f"{name}-c", Settings(CPU, 1e9)) for name, job in jobs.items()]
    shutil.rmtree(tmp_path / "attempts" / first.run_id)
    (tmp_path / "attempts" / first.run_id).touch()
    ended = {attempt.jobs[0].out.name: error for attempt, error in together(attempts)}
    assert isinstance(ended["first"], OSError)
    assert ended["other"] is None
    assert [own.outcome for own in of_run(tmp_path / "attempts", other.run_id)] == ["completed"]
