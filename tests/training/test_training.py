"""Training is exact: the same run gives the same bits, however often it is killed."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import records
import torch
from corpus import words
from safetensors import safe_open
from safetensors.torch import load_file

from gt.artefacts import read_manifest, write
from gt.attempts import of_run
from gt.data.tokens import Tokens
from gt.errors import ConfigError
from gt.records import RECORD, read_json
from gt.spec import RunSpec
from gt.training import checkpoint
from gt.training.cohort import Cohort
from gt.training.flat import parameter_groups
from gt.training.loop import Attempt, Job, Settings, train
from gt.training.losses import inputs
from gt.training.objective import InRegions
from gt.training.optimizers.base import decays
from gt.training.schedule import learning_rate

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return words(tmp_path_factory.mktemp("data"))


def run_spec(variant: str = "GF", seed: int = 0, **training: Any) -> RunSpec:
    mixers = {"r": {"name": "rwkv6", "head_size": 8}, "m": {"name": "mamba2", "head_dim": 8, "d_state": 8}}
    models: dict[str, Any] = {
        **{
            name: {"layers": "r+m", "mixers": mixers, "fusion": {"name": fusion}, "feed_forward": {"name": "mlp"}}
            for name, fusion in {"GF": "gated", "WS": "weighted", "HY": "gains"}.items()
        },
        "GPT-2": {"layers": "a", "mixers": {"a": {"name": "attention", "n_head": 2}}, "feed_forward": {"name": "mlp"}},
    }
    return RunSpec.model_validate(
        {
            "corpus": {"name": "embedded"},
            "tokenizer": {"name": "char"},
            "model": {"d_model": 16, "n_layer": 2, **models[variant]},
            "training": {
                "steps": 12, "batch_size": 4, "sequence_length": 32, "learning_rate": 0.01,
                "evaluate_every": 5, "evaluation_tokens": 256, "log_every": 2, **training,
            },
            "seed": seed,
        }
    )  # fmt: skip


def run(spec: RunSpec, data: Path, folder: Path, recompute: str = "") -> str:
    """Train into folder/run, without checkpoints but those that are in folder/c."""
    return train(Job(spec, data, folder / "run"), folder / "c", Settings(CPU, 1e9, recompute))


def trained(specs: list[RunSpec], data: Path, until: int | None = None, **options: Any) -> Cohort:
    """A cohort after some steps, or all."""
    cohort = Cohort(specs, Tokens.open(data), CPU, **options)
    while not cohort.done and cohort.step != until:
        cohort.advance(until)
        cohort.collect()
    return cohort


def curves(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder / "curves.parquet").drop(columns="timestamp")


def assert_same_run(a: Path, b: Path) -> None:
    first, second = load_file(a / "model.safetensors"), load_file(b / "model.safetensors")
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    pd.testing.assert_frame_equal(curves(a), curves(b), check_exact=True)


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    assert run(run_spec(), data, folder) == "completed"
    return folder / "run"


def test_a_run_leaves_a_whole_record(finished: Path) -> None:
    assert sorted(f.name for f in finished.iterdir()) == sorted(RECORD)
    manifest = read_json(finished / "manifest.json")
    assert (manifest["status"], manifest["steps_completed"], manifest["tokens"]) == ("completed", 12, 12 * 4 * 32)
    assert RunSpec.model_validate(read_json(finished / "spec.json")) == run_spec()
    table = pd.read_parquet(finished / "curves.parquet")
    assert table["step"].tolist() == [0, 2, 4, 5, 6, 8, 10, 12]
    assert table["val/loss"].notna().tolist() == [s in (0, 5, 10, 12) for s in table["step"]]
    assert table["gate/mean"].iloc[0] == pytest.approx(0.5, abs=1e-6)


def test_training_lowers_the_loss(data: Path, tmp_path: Path) -> None:
    for variant in ("GF", "GPT-2"):
        run(run_spec(variant, steps=60), data, tmp_path / variant)
        losses = curves(tmp_path / variant / "run")["val/loss"].dropna()
        assert losses.iloc[-1] < losses.iloc[0] - 0.3


@pytest.mark.parametrize("stop", [1, 5, 7, 11])
def test_a_run_that_stops_after_any_step_ends_with_the_same_bits(data: Path, finished: Path, tmp_path: Path, stop: int) -> None:
    checkpoint.save(tmp_path / "c", trained([run_spec()], data, stop), checkpoint.Progress())
    run(run_spec(), data, tmp_path)
    assert_same_run(finished, tmp_path / "run")
    assert read_json(tmp_path / "run/manifest.json")["resumed_from"] == [stop]
    assert not (tmp_path / "c").exists()


def test_a_run_killed_with_sigkill_goes_on_to_the_same_bits(data: Path, tmp_path: Path) -> None:
    spec = run_spec("GF", steps=100, optimizer="muon")  # whose state is AdamW's and its own
    plan = tmp_path / "plan.json"
    write(plan, records.of_runs([spec]))

    def command(name: str) -> list[str]:
        paths = {"plan": plan, "run": spec.run_id, "data": data, "out": tmp_path / name, "checkpoints": tmp_path / f"{name}-c"}
        paths["attempts"] = tmp_path / "attempts"
        options = [text for key, value in paths.items() for text in (f"--{key}", str(value))]
        return [sys.executable, "-m", "gt", "train", *options, "--device", "cpu", "--checkpoint-seconds", "0"]

    subprocess.run(command("whole"), check=True, capture_output=True)
    kills = 0
    while True:
        process = subprocess.Popen(command("killed"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        file = tmp_path / "killed-c" / checkpoint.FILE
        before = file.stat().st_mtime_ns if file.exists() else 0
        while process.poll() is None and kills < 2:
            if file.exists() and file.stat().st_mtime_ns != before:
                time.sleep(0.05 * (kills + 1))
                os.kill(process.pid, signal.SIGKILL)
                kills += 1
                break
            time.sleep(0.002)
        if process.wait() == 0:
            break
    assert kills == 2
    assert_same_run(tmp_path / "whole", tmp_path / "killed")
    manifest = read_manifest(tmp_path / "killed")
    assert len(manifest.resumed_from) == 2
    whole, *attempts = of_run(tmp_path / "attempts", spec.run_id)
    assert [attempt.outcome for attempt in (whole, *attempts)] == ["completed", None, None, "completed"]
    assert manifest.attempts == [attempt.id for attempt in attempts]
    assert manifest.started == attempts[0].started
    assert [attempt.resumed_at for attempt in attempts] == [None, *manifest.resumed_from]
    seconds = [attempt.usage.device_seconds or 0.0 for attempt in attempts]
    assert min(seconds) > 0
    assert manifest.usage.device_seconds == pytest.approx(sum(seconds))
    assert manifest.usage.peak_memory_bytes == max(attempt.usage.peak_memory_bytes or 0 for attempt in attempts)
    assert manifest.usage.unknown == {"energy_joules": "no energy counter"}


def test_a_run_that_is_trained_again_adds_to_its_attempts_and_takes_none_away(data: Path, tmp_path: Path) -> None:
    spec, folder = run_spec(steps=1), tmp_path / "attempts" / run_spec(steps=1).run_id
    before: dict[str, bytes] = {}
    for n in (1, 2, 3):
        run(spec, data, tmp_path)
        found = {file.name: file.read_bytes() for file in folder.iterdir()}
        assert before.items() <= found.items()
        assert len(found) == n
        (own,) = read_manifest(tmp_path / "run").attempts
        assert f"{own}.json" in found.keys() - before.keys()
        before = found


def test_an_attempt_that_fails_says_why(data: Path, tmp_path: Path) -> None:
    spec = run_spec(sequence_length=100_000)
    with pytest.raises(ConfigError, match="sequence_length"):
        run(spec, data, tmp_path)
    (attempt,) = of_run(tmp_path / "attempts", spec.run_id)
    assert attempt.outcome == "failed"
    assert "sequence_length: 100,000 does not fit" in (attempt.error or "")
    assert attempt.ended is not None


def test_a_resumed_run_whose_earlier_attempt_is_gone_does_not_know_what_it_took(data: Path, tmp_path: Path) -> None:
    spec = run_spec()
    attempt = Attempt([Job(spec, data, tmp_path / "run")], tmp_path / "c", Settings(CPU, 0.0))
    while attempt.cohort.step < 5:
        attempt.advance()
        attempt.collect()
    (file,) = (tmp_path / "attempts" / spec.run_id).iterdir()
    file.unlink()
    run(spec, data, tmp_path)
    usage = read_manifest(tmp_path / "run").usage
    assert set(usage.unknown.values()) == {f"the file of the attempt {attempt.id} is gone or damaged"}


def test_an_attempt_that_is_killed_before_its_first_checkpoint_counts(data: Path, tmp_path: Path) -> None:
    spec, settings = run_spec(), Settings(CPU, 0.0)
    attempts = [Attempt([Job(spec, data, tmp_path / "run")], tmp_path / "c", settings)]
    while attempts[0].cohort.step < 5:
        attempts[0].advance()
        attempts[0].collect()
    attempts.append(Attempt([Job(spec, data, tmp_path / "run")], tmp_path / "c", settings))
    run(spec, data, tmp_path)
    manifest = read_manifest(tmp_path / "run")
    assert manifest.attempts[:-1] == [attempt.id for attempt in attempts]
    assert manifest.resumed_from == [5, 5]


def test_a_record_has_the_recurrences_of_its_own_model_whatever_the_process_has_trained(data: Path, tmp_path: Path) -> None:
    served = {}
    for name in ("GF", "GPT-2", "HY"):
        run(run_spec(name, steps=1), data, tmp_path / name)
        served[name] = read_manifest(tmp_path / name / "run").backend
    hybrid = {"ssd 8x8": "chunked", "wkv6 8x8": "chunked"}
    assert served == {"GF": hybrid, "GPT-2": {}, "HY": hybrid}


def flip(file: Path, name: str) -> None:
    """Flip the lowest bit of a tensor's first byte, in place."""
    content = bytearray(file.read_bytes())
    header = int.from_bytes(content[:8], "little")
    content[8 + header + json.loads(content[8 : 8 + header])[name]["data_offsets"][0]] ^= 1
    file.write_bytes(content)


def tensors_of(data: Path, folder: Path) -> list[str]:
    checkpoint.save(folder, trained([run_spec()], data, 7), checkpoint.Progress())
    with safe_open(folder / checkpoint.FILE, framework="pt") as file:
        return list(file.keys())


def test_a_flipped_bit_anywhere_in_a_checkpoint_is_found(data: Path, tmp_path: Path) -> None:
    names = tensors_of(data, tmp_path)
    assert {"state/weights", "state/alive", "curves/0"} < set(names)
    file = tmp_path / checkpoint.FILE
    whole = file.read_bytes()
    for name in names:
        file.write_bytes(whole)
        flip(file, name)
        assert "another sha256" in str(checkpoint.load(tmp_path, trained([run_spec()], data, 0))), name
    for text, other in ((b'\\"step\\": 7', b'\\"step\\": 6'), (b'\\"seconds\\": 0.0', b'\\"seconds\\": 9.0')):
        assert text in whole
        file.write_bytes(whole.replace(text, other))
        assert "another sha256" in str(checkpoint.load(tmp_path, trained([run_spec()], data, 0)))
    file.write_bytes(whole)
    assert isinstance(checkpoint.load(tmp_path, trained([run_spec()], data, 0)), checkpoint.Progress)


def test_a_checkpoint_that_cannot_be_used_is_kept_beside_the_next(data: Path, tmp_path: Path) -> None:
    tensors_of(data, tmp_path / "c")
    flip(tmp_path / "c" / checkpoint.FILE, "state/weights")
    damaged = (tmp_path / "c" / checkpoint.FILE).read_bytes()
    attempt = Attempt([Job(run_spec(), data, tmp_path / "run")], tmp_path / "c", Settings(CPU, 0.0))
    attempt.advance()
    attempt.collect()
    aside, current = sorted((tmp_path / "c").iterdir(), key=lambda path: path.name == checkpoint.FILE)
    assert current.name == checkpoint.FILE
    assert aside.read_bytes() == damaged


@pytest.mark.parametrize("damage", ["truncated", "foreign", "garbage", "flipped"])
def test_a_checkpoint_that_cannot_be_used_is_said_so_and_the_run_starts_over(
    data: Path, finished: Path, tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    other = trained([run_spec(seed=1 if damage == "foreign" else 0)], data, 1)
    checkpoint.save(tmp_path / "c", other, checkpoint.Progress())
    file = tmp_path / "c" / checkpoint.FILE
    if damage == "truncated":
        file.write_bytes(file.read_bytes()[:-100])
    elif damage == "garbage":
        file.write_bytes(b"\x80\x04K\x01.")
    elif damage == "flipped":
        flip(file, "state/weights")
    run(run_spec(), data, tmp_path)
    assert "cannot be used" in capsys.readouterr().err
    assert_same_run(finished, tmp_path / "run")


@pytest.mark.parametrize("letters", ["r", "m", "rm"])
def test_recomputing_a_branch_changes_no_bit(data: Path, finished: Path, tmp_path: Path, letters: str) -> None:
    run(run_spec(), data, tmp_path, recompute=letters)
    assert_same_run(finished, tmp_path / "run")


def test_a_run_that_diverges_keeps_its_curves(data: Path, tmp_path: Path) -> None:
    spec = run_spec("GPT-2", steps=200, learning_rate=10.0, warmup_ratio=0.0, clip_norm=None, weight_decay=10.0)
    assert run(spec, data, tmp_path) == "diverged"
    manifest, table = read_json(tmp_path / "run/manifest.json"), curves(tmp_path / "run")
    assert manifest["status"] == "diverged"
    assert table["step"].iloc[-1] == manifest["steps_completed"] < 200
    assert math.isfinite(table["val/loss"].iloc[0])
    assert not math.isfinite(table["train/loss"].iloc[-1]) or not math.isfinite(table["grad_norm"].iloc[-1])


def test_all_models_of_a_seed_see_the_same_batches(data: Path) -> None:
    hybrid, gpt = (Cohort([run_spec(v)], Tokens.open(data), CPU).plan for v in ("GF", "GPT-2"))
    for step in range(12):
        hybrid.prepare(step)
        gpt.prepare(step)
        assert torch.equal(hybrid.now()[0], gpt.now()[0])
        hybrid.note(torch.zeros(128, 1, 1), torch.zeros(1, 1))
        gpt.note(torch.zeros(128, 1, 1), torch.zeros(1, 1))


def test_bits_per_byte_is_the_loss_in_bits_where_a_token_is_a_byte(finished: Path) -> None:
    table = curves(finished).dropna(subset=["val/loss"])
    np.testing.assert_allclose(table["val/bits_per_byte"], table["val/loss"] / math.log(2), rtol=1e-12)


def test_weight_decay_is_for_matrices_only(data: Path) -> None:
    groups = parameter_groups(Cohort([run_spec()], Tokens.open(data), CPU).model)
    decayed = [name for group in groups if decays(group, run_spec().training) for name in group.names]
    bare = ("bias", "A_log", "D", "dt_bias", "bonus", "norm", "mu", "x_bias", "w_proj")
    assert not [name for name in decayed if any(part in name.split(".")[-1] or part in name.split(".") for part in bare)]
    assert {"embedding.weight", "body.blocks.0.feed_forward.up.weight", "body.blocks.0.mixers.m.in_proj.weight"} <= set(decayed)
    kinds = {(group.part, group.matrix) for group in groups}
    assert {("mixers.r", True), ("mixers.m", False), ("fusion", True), ("norm", False)} <= kinds


def test_every_parameter_is_in_one_place_of_a_flat_buffer(data: Path) -> None:
    cohort = Cohort([run_spec(), run_spec(seed=1)], Tokens.open(data), CPU)
    buffer = torch.arange(cohort.weights.numel(), dtype=torch.float32).view_as(cohort.weights) + 1
    views = cohort.subject.flat.views(buffer)
    assert sum(view.numel() for view in views.values()) == 2 * sum(p.numel() for p in cohort.model.parameters())
    everything = torch.cat([view.flatten() for view in views.values()])
    assert len(everything.unique()) == len(everything)
    joined = cohort.subject.flat.joined(list(views.values()))
    assert torch.equal(joined[joined != 0].sort().values, everything.sort().values)
    assert all(torch.equal(cohort.subject.flat.views(joined)[name], view) for name, view in views.items())


def test_sums_over_a_part_are_those_of_its_parameters(data: Path) -> None:
    cohort = Cohort([run_spec(), run_spec(seed=1)], Tokens.open(data), CPU, torch.float64)
    sums = cohort.subject.flat.by_part(cohort.weights.sum(2))
    for i, part in enumerate(cohort.subject.flat.parts):
        names = [name for group in cohort.subject.flat.groups if group.part == part for name in group.names]
        expected = [sum(cohort.parameters(run)[name].sum() for name in names) for run in (0, 1)]
        torch.testing.assert_close(sums[:, i], torch.stack(expected), rtol=1e-12, atol=1e-12)


def test_the_learning_rate_warms_up_and_falls_to_its_floor() -> None:
    training = run_spec(steps=100, warmup_ratio=0.1, min_learning_rate_ratio=0.1).training
    rates = [learning_rate(training, step) for step in range(100)]
    assert rates[0] == pytest.approx(0.001)
    assert max(rates) == rates[9] == 0.01
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert rates[-1] == pytest.approx(0.001)


def test_bfloat16_activations_keep_float32_weights(data: Path, tmp_path: Path) -> None:
    run(run_spec(precision="bfloat16"), data, tmp_path)
    assert all(w.dtype == torch.float32 for w in load_file(tmp_path / "run/model.safetensors").values())
    assert curves(tmp_path / "run")["val/loss"].iloc[-1] < 2.6


@pytest.mark.parametrize("runs", [1, 2])
def test_weights_that_are_cast_once_a_step_give_the_bits_of_weights_that_are_cast_where_they_are_read(
    data: Path, runs: int
) -> None:
    ends = []
    for narrow in (False, True):
        specs = [run_spec(seed=seed, steps=3, precision="bfloat16") for seed in range(runs)]
        cohort = Cohort(specs, Tokens.open(data), CPU)
        if narrow:
            cohort.subject.narrow()
            cohort.update.copy = cohort.subject.copy
        leaves = cohort.subject.leaves
        assert (torch.bfloat16 in {leaf.dtype for leaf in leaves.values()}) == narrow
        cohort.stepper.objective = InRegions(cohort.model, leaves, runs, cohort.training, compiled=False)
        while cohort.step < 3:
            cohort.advance()
            cohort.collect()
        ends.append(cohort.weights.clone())
    assert torch.equal(*ends)


def test_a_run_that_diverges_leaves_its_neighbours_as_they_were(data: Path) -> None:
    wild = {"warmup_ratio": 0.0, "clip_norm": None, "weight_decay": 10.0}
    specs = [run_spec("GPT-2", steps=60, learning_rate=rate, **wild) for rate in (10.0, 0.003)]
    diverging, steady = trained(specs, data), trained([specs[1], specs[1]], data)
    assert diverging.book.status == ["diverged", "completed"]
    assert (diverging.book.ended_at[0] or 60) < 60
    assert torch.equal(diverging.weights[1], steady.weights[1])
    assert diverging.weights.isfinite().all()


def test_the_mean_gate_is_over_the_targets_of_the_slice_alone(data: Path) -> None:
    """The last window has more positions than the slice: what a gate does there counts nothing."""
    cohort = Cohort([run_spec("GF")], Tokens.open(data), CPU, torch.float64)
    part = cohort.tokens.slice("val", cohort.training.evaluation_tokens)
    windows, targets = inputs(cohort.validator.windows.flatten(0, 1)), part.end - part.first
    assert targets % windows.shape[1]
    seen: list[torch.Tensor] = []
    with torch.no_grad():
        for parameter in cohort.model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
        cohort.validator(cohort.engine)
        for fusion in cohort.model.fusions().values():
            fusion.register_forward_hook(lambda _module, _inputs, output: seen.append(output.gate))
        cohort.model.eval()(windows)
    expected = torch.stack([gate.flatten()[:targets].mean() for gate in seen])
    torch.testing.assert_close(cohort.validator.found[0, 1:], expected, rtol=1e-12, atol=0)
