"""A run is trained again and compared with its record."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from corpus import words
from safetensors.torch import load_file, save_file

from gt.cli import main
from gt.records import file_sums, read_json, write_json, write_sealed
from gt.spec import RunSpec
from gt.training import packs
from gt.training.loop import Job, Settings, train
from gt.training.packs import train_pack
from gt.verify import Trained, _to_rounding, roundoff, verify

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return words(tmp_path_factory.mktemp("data"))


def spec(seed: int = 0, **training: Any) -> RunSpec:
    settings = {
        "steps": 30,
        "batch_size": 4,
        "sequence_length": 16,
        "learning_rate": 0.01,
        "evaluate_every": 10,
        "log_every": 5,
    }
    return RunSpec.model_validate(
        {
            "corpus": {"name": "embedded"},
            "tokenizer": {"name": "char"},
            "model": {"d_model": 16, "n_layer": 1, "layers": "a", "mixers": {"a": {"name": "attention", "n_head": 2}}},
            "training": {**settings, "evaluation_tokens": 256, **training},
            "seed": seed,
        }
    )


@pytest.fixture(scope="module")
def original(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    train(Job(spec(), data, folder / "run"), folder / "c", Settings(CPU, 1e9))
    return folder / "run"


@pytest.fixture
def record(original: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(original, tmp_path / "run"))


def alter_curve(record: Path, step: int, column: str, factor: float) -> None:
    table = pd.read_parquet(record / "curves.parquet")
    table.loc[table["step"] == step, column] *= factor
    table.to_parquet(record / "curves.parquet")
    set_manifest(record)


def set_manifest(record: Path, **changes: Any) -> None:
    """With the sums of the files as they are now: what was altered in them is not damage, but another result."""
    sums = file_sums(record, ("spec.json", "curves.parquet", "model.safetensors"))
    write_sealed(record / "manifest.json", {**read_json(record / "manifest.json"), **changes, "files": sums})


def test_a_record_that_is_right_is_bit_identical(record: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(record), "--data", str(data), "--device", "cpu"]) == 0
    assert capsys.readouterr().out == "run: bit-identical\n"


def test_one_flipped_bit_in_the_weights_is_found(record: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = load_file(record / "model.safetensors")
    weights["embedding.weight"].view(torch.int32)[3, 5] ^= 1
    save_file(weights, record / "model.safetensors")
    set_manifest(record)
    assert main(["verify", str(record), "--data", str(data), "--device", "cpu"]) == 1
    assert "but 1 of" in (said := capsys.readouterr().out) and "embedding.weight" in said


def test_the_first_step_and_column_that_differ_are_named(record: Path, data: Path) -> None:
    alter_curve(record, 20, "val/loss", 1 + 2**-52)
    alter_curve(record, 15, "grad_norm", 1 + 2**-52)
    outcome = verify(record, data, CPU)
    assert not outcome.same
    assert outcome.text.startswith("Parts at step 15 in grad_norm: ")


def test_a_run_of_another_arithmetic_is_the_same_to_rounding(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stacked run, as on a GPU, which is really rounded otherwise than a run alone."""
    monkeypatch.setitem(packs.STACK, "cpu", packs.STACK["cuda"])
    jobs = [Job(spec(seed), data, tmp_path / str(seed)) for seed in (0, 1)]
    assert [status for _, status in train_pack(jobs, set(), tmp_path / "c", Settings(CPU, 1e9))] == ["completed"] * 2
    outcome = verify(tmp_path / "0", data, CPU)
    assert outcome.same, outcome.text
    assert "arithmetic: stacked." in outcome.text


@pytest.mark.parametrize("what", ["loss", "weights", "rate"])
def test_what_rounding_does_not_explain_is_found_under_another_arithmetic(record: Path, data: Path, what: str) -> None:
    if what == "loss":
        alter_curve(record, 25, "train/loss", 1.001)
    elif what == "rate":
        alter_curve(record, 25, "learning_rate", 1 + 1e-12)
    else:
        weights = load_file(record / "model.safetensors")
        weights["embedding.weight"] *= 1.01
        save_file(weights, record / "model.safetensors")
    set_manifest(record, versions={"torch": "0.0"})
    outcome = verify(record, data, CPU)
    assert not outcome.same
    expected = {"loss": "Parts at step 25 in train/loss", "rate": "at step 25 in learning_rate", "weights": "embedding.weight"}
    assert expected[what] in outcome.text
    assert "arithmetic: versions." in outcome.text


def test_what_no_moved_run_shows_is_within_one_unit_in_the_last_place(original: Path) -> None:
    """As after a few steps, where every moved run may have logged the same loss: 4.11825 for both."""
    again = Trained.read(original)
    assert _to_rounding(again, again, [again] * 4).same
    loss = again.curves["train/loss"].iloc[-1]
    for units, same in ((1, True), (-1, True), (3000, False)):
        moved = again.curves.assign(**{"train/loss": again.curves["train/loss"] + units * float(np.spacing(np.float32(loss)))})
        outcome = _to_rounding(replace(again, curves=moved), again, [again] * 4)
        assert outcome.same == same, outcome.text
    numbers = re.findall(r"([\d.]+) in the record, ([\d.]+) now", outcome.text)
    assert len(set(*numbers)) == 2
    weights = {name: torch.nextafter(weight, weight + 1) for name, weight in again.weights.items()}
    assert _to_rounding(replace(again, weights=weights), again, [again] * 4).same


def test_numbers_that_differ_are_shown_with_the_digits_in_which_they_do(original: Path) -> None:
    again = Trained.read(original)
    rates = again.curves["learning_rate"] * (1 + 1e-12)
    outcome = _to_rounding(replace(again, curves=again.curves.assign(learning_rate=rates)), again, [again] * 4)
    ((recorded, now),) = re.findall(r"learning_rate: (\S+) in the record, (\S+) now", outcome.text)
    assert float(recorded) != float(now)


def test_what_only_neighbours_in_a_pack_needed_is_no_other_arithmetic(record: Path, data: Path) -> None:
    set_manifest(record, backend={"an operation of a neighbour": "its kernel"} | read_json(record / "manifest.json")["backend"])
    alter_curve(record, 15, "grad_norm", 1 + 2**-52)
    assert verify(record, data, CPU).text.startswith("Parts at step 15 in grad_norm: ")


def test_a_run_of_another_seed_is_not_the_same_under_another_arithmetic(record: Path, data: Path) -> None:
    other = spec(seed=1)
    write_json(record / "spec.json", other.model_dump(mode="json"))
    set_manifest(record, threads=64, run_id=other.run_id)
    assert not verify(record, data, CPU).same


def test_the_roundoff_is_that_of_the_precision() -> None:
    sums = 64**0.5 * 2**-24  # over the tokens of a batch
    assert roundoff(spec()) == 2**-24 + sums
    assert roundoff(spec(precision="bfloat16")) == 2**-8 + sums


def test_what_is_no_record_or_not_its_data_is_refused(
    record: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(run: Path, tokens: Path) -> str:
        assert main(["verify", str(run), "--data", str(tokens), "--device", "cpu"]) == 2
        message = capsys.readouterr().err
        assert message.count("\n") == 1
        return message

    assert "no such file" in refused(tmp_path / "nowhere", data)
    assert "no such file" in refused(record, tmp_path)
    set_manifest(record, data_sha256="0" * 64)
    assert "not the tokens" in refused(record, data)
    (record / "model.safetensors").write_bytes(b"garbage")
    assert "model.safetensors: damaged: it has 7 bytes" in refused(record, data)
    set_manifest(record)
    assert "not readable" in refused(record, data)
    (record / "model.safetensors").unlink()
    assert "no model.safetensors" in refused(record, data)
