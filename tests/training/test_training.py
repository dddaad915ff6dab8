"""Training is exact: the same run gives the same bits, however often it is killed."""

from __future__ import annotations

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
import torch
from safetensors.torch import load_file

from gt.data import corpora, tokenizers
from gt.data.tokens import Tokens
from gt.records import read_json, write_json
from gt.spec import CorpusSpec, RunSpec, TokenizerSpec
from gt.training import checkpoint
from gt.training.loop import RECORD, Trainer, train
from gt.training.optimizer import build_optimizer, learning_rate, parameter_groups

CPU = torch.device("cpu")
NEVER = 1e9


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tokens of a small text with structure to learn."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abcdefgh"), 4)) for _ in range(30)]
    text = folder / "words.txt"
    text.write_text(" ".join(rng.choice(words, 5000)))
    corpora.prepare(CorpusSpec(name="file:words", sha256=corpora.file_sha256(text)), folder, text)
    tokenizers.prepare(folder, TokenizerSpec(name="char"), folder / "char")
    return folder / "char"


def run_spec(variant: str = "GF", seed: int = 0, **training: Any) -> RunSpec:
    mixers = {"r": {"name": "rwkv6", "head_size": 8}, "m": {"name": "mamba2", "head_dim": 8, "d_state": 8}}
    models: dict[str, Any] = {
        "GF": {"layers": "r+m", "mixers": mixers, "fusion": {"name": "gated"}, "feed_forward": {"name": "mlp"}},
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
    assert train(run_spec(), data, folder / "run", folder / "checkpoints", CPU, NEVER) == "completed"
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
        train(run_spec(variant, steps=60), data, tmp_path / variant, tmp_path / "c", CPU, NEVER)
        losses = curves(tmp_path / variant)["val/loss"].dropna()
        assert losses.iloc[-1] < losses.iloc[0] - 0.3


@pytest.mark.parametrize("stop", [1, 5, 7, 11])
def test_a_run_that_stops_after_any_step_ends_with_the_same_bits(data: Path, finished: Path, tmp_path: Path, stop: int) -> None:
    interrupted = Trainer(run_spec(), Tokens.open(data), CPU)
    for _ in interrupted.steps():
        if interrupted.step == stop:
            break
    interrupted.progress = checkpoint.Progress(stop, 1.0, [])
    interrupted.save(tmp_path / "c")
    train(run_spec(), data, tmp_path / "run", tmp_path / "c", CPU, NEVER)
    assert_same_run(finished, tmp_path / "run")
    assert read_json(tmp_path / "run/manifest.json")["resumed_from"] == [stop]
    assert not (tmp_path / "c").exists()


def test_a_run_killed_with_sigkill_goes_on_to_the_same_bits(data: Path, tmp_path: Path) -> None:
    spec = run_spec("GF", steps=150)
    plan = tmp_path / "plan.json"
    write_json(plan, {"study": "t", "runs": {spec.run_id: spec.model_dump(mode="json")}})

    def command(name: str) -> list[str]:
        paths = {"plan": plan, "run": spec.run_id, "data": data, "out": tmp_path / name, "checkpoints": tmp_path / f"{name}-c"}
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
        if process.wait() == 0:
            break
    assert kills == 2
    assert_same_run(tmp_path / "whole", tmp_path / "killed")
    assert len(read_json(tmp_path / "killed/manifest.json")["resumed_from"]) == 2


@pytest.mark.parametrize("damage", ["truncated", "foreign", "garbage"])
def test_a_checkpoint_that_cannot_be_used_is_said_so_and_the_run_starts_over(
    data: Path, finished: Path, tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Trainer(run_spec(seed=1 if damage == "foreign" else 0), Tokens.open(data), CPU)
    next(other.steps())
    other.save(tmp_path / "c")
    file = tmp_path / "c" / checkpoint.FILE
    if damage == "truncated":
        file.write_bytes(file.read_bytes()[:-100])
    elif damage == "garbage":
        file.write_bytes(b"\x80\x04K\x01.")
    train(run_spec(), data, tmp_path / "run", tmp_path / "c", CPU, NEVER)
    assert "cannot be used" in capsys.readouterr().err
    assert_same_run(finished, tmp_path / "run")


@pytest.mark.parametrize("letters", ["r", "m", "rm"])
def test_recomputing_a_branch_changes_no_bit(data: Path, finished: Path, tmp_path: Path, letters: str) -> None:
    train(run_spec(), data, tmp_path / "run", tmp_path / "c", CPU, NEVER, recompute=letters)
    assert_same_run(finished, tmp_path / "run")


def test_gradient_accumulation_is_the_mean_over_the_batch(data: Path, tmp_path: Path) -> None:
    trainers = [Trainer(run_spec(grad_accumulation=n, steps=3), Tokens.open(data), CPU) for n in (1, 4)]
    for trainer in trainers:
        trainer.model.double()
        list(trainer.steps())
    for a, b in zip(*(t.model.parameters() for t in trainers), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-9)


def test_a_run_that_diverges_keeps_its_curves(data: Path, tmp_path: Path) -> None:
    spec = run_spec("GPT-2", steps=200, learning_rate=10.0, warmup_ratio=0.0, clip_norm=None, weight_decay=10.0)
    assert train(spec, data, tmp_path / "run", tmp_path / "c", CPU, NEVER) == "diverged"
    manifest, table = read_json(tmp_path / "run/manifest.json"), curves(tmp_path / "run")
    assert manifest["status"] == "diverged"
    assert table["step"].iloc[-1] == manifest["steps_completed"] < 200
    assert math.isfinite(table["val/loss"].iloc[0])
    assert not math.isfinite(table["train/loss"].iloc[-1]) or not math.isfinite(table["grad_norm"].iloc[-1])


def test_all_models_of_a_seed_see_the_same_batches(data: Path) -> None:
    hybrid, gpt = (Trainer(run_spec(v), Tokens.open(data), CPU).batches for v in ("GF", "GPT-2"))
    assert all(np.array_equal(hybrid.batch(i), gpt.batch(i)) for i in range(40))


def test_bits_per_byte_is_the_loss_in_bits_where_a_token_is_a_byte(finished: Path) -> None:
    table = curves(finished).dropna(subset=["val/loss"])
    np.testing.assert_allclose(table["val/bits_per_byte"], table["val/loss"] / math.log(2), rtol=1e-12)


def test_weight_decay_is_for_matrices_only(data: Path) -> None:
    model = Trainer(run_spec(), Tokens.open(data), CPU).model
    names = {id(p): name for name, p in model.named_parameters()}
    groups = {g["name"]: [names[id(p)] for p in g["params"]] for g in parameter_groups(model, run_spec().training)}
    decayed = [name for key, group in groups.items() if key.endswith("/decay") for name in group]
    bare = ("bias", "A_log", "D", "dt_bias", "bonus", "norm", "mu", "x_bias", "w_proj")
    assert not [name for name in decayed if any(part in name.split(".")[-1] or part in name.split(".") for part in bare)]
    assert {"embedding.weight", "body.blocks.0.feed_forward.up.weight", "body.blocks.0.mixers.m.in_proj.weight"} <= set(decayed)
    assert {"mixers.r/decay", "mixers.m/no_decay", "fusion/decay", "norm/no_decay"} <= set(groups)


def test_a_parameter_left_out_of_the_groups_is_caught(data: Path) -> None:
    model = Trainer(run_spec("GPT-2"), Tokens.open(data), CPU).model
    optimizer = build_optimizer(model, run_spec().training)
    assert sum(len(g["params"]) for g in optimizer.param_groups) == len(list(model.parameters()))


def test_the_learning_rate_warms_up_and_falls_to_its_floor() -> None:
    training = run_spec(steps=100, warmup_ratio=0.1, min_learning_rate_ratio=0.1).training
    rates = [learning_rate(training, step) for step in range(100)]
    assert rates[0] == pytest.approx(0.001)
    assert max(rates) == rates[9] == 0.01
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert rates[-1] == pytest.approx(0.001)


def test_bfloat16_activations_keep_float32_weights(data: Path, tmp_path: Path) -> None:
    train(run_spec(precision="bfloat16"), data, tmp_path / "run", tmp_path / "c", CPU, NEVER)
    assert all(w.dtype == torch.float32 for w in load_file(tmp_path / "run/model.safetensors").values())
    assert curves(tmp_path / "run")["val/loss"].iloc[-1] < 2.6
