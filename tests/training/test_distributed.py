"""One run in several processes is the run of one process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import records
import torch
from safetensors.torch import load_file

from gt.artefacts import write
from gt.data import corpora, tokenizers
from gt.data.tokens import Tokens
from gt.errors import ConfigError
from gt.records import read_json
from gt.spec import RunSpec, TokenizerSpec, corpus_spec
from gt.training.cohort import Cohort
from gt.training.distributed import World


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    corpora.prepare(corpus_spec("embedded", max_bytes=100_000), folder)
    tokenizers.prepare(folder, TokenizerSpec(name="char"), folder / "char")
    return folder / "char"


def test_every_process_has_an_equal_share_of_a_batch() -> None:
    batch = torch.arange(24).view(1, 6, 4)
    shares = [World(rank, 3).share(batch, dim=1) for rank in range(3)]
    assert torch.equal(torch.cat(shares, dim=1), batch)


def run_spec(**training: Any) -> RunSpec:
    mixers = {"r": {"name": "rwkv6", "head_size": 8}, "m": {"name": "mamba2", "head_dim": 8, "d_state": 8}}
    return RunSpec.model_validate(
        {
            "corpus": {"name": "embedded"}, "tokenizer": {"name": "char"}, "seed": 0,
            "model": {"d_model": 16, "n_layer": 2, "layers": "r+m", "mixers": mixers, "fusion": {"name": "gated"}},
            "training": {"steps": 5, "batch_size": 4, "sequence_length": 32, "grad_accumulation": 2, "evaluation_tokens": 256,
                         "optimizer": "sgd", **training},
        }
    )  # fmt: skip


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("batch_size", [2, 6])
def test_a_piece_of_a_batch_must_have_the_same_of_every_process(data: Path, batch_size: int, compiled: bool) -> None:
    """One or three sequences over two processes."""
    with pytest.raises(ConfigError, match=f"pieces of {batch_size // 2} cannot be divided over 2"):
        specs = [run_spec(batch_size=batch_size)]
        Cohort(specs, Tokens.open(data), torch.device("cpu"), compiled=compiled, world=World(0, 2))


def test_two_processes_train_the_run_of_one(data: Path, tmp_path: Path) -> None:
    """In float32: the sums of a gradient are the same terms in another order, which five small steps do not blow up."""
    spec = run_spec()
    plan = tmp_path / "plan.json"
    write(plan, records.of_runs([spec]))
    launchers = {
        "one": [sys.executable, "-m"],
        "two": [str(Path(sys.executable).parent / "torchrun"), "--standalone", "--nproc-per-node=2", "-m", "--"],
    }
    for name, launcher in launchers.items():
        paths = {"plan": plan, "run": spec.run_id, "data": data, "out": tmp_path / name, "checkpoints": tmp_path / f"{name}-c"}
        paths["attempts"] = tmp_path / "attempts"
        options = [text for key, value in paths.items() for text in (f"--{key}", str(value))]
        result = subprocess.run([*launcher, "gt", "train", *options, "--device", "cpu"], capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
    assert [read_json(tmp_path / name / "manifest.json")["processes"] for name in launchers] == [1, 2]
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in launchers)
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, rtol=1e-5, atol=1e-6)
