"""On a GPU: one CUDA graph gives the bits of single operations, and a run those of the same run, whoever shares the device."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import records
import torch
from corpus import words

from gt.artefacts import write
from gt.data.tokens import Tokens
from gt.ops.backend import use
from gt.records import read_json
from gt.spec import RunSpec
from gt.training import checkpoint, regions
from gt.training.cohort import Cohort
from gt.training.loop import Job, Settings, train
from gt.training.objective import InRegions
from gt.training.packs import train_pack
from gt.verify import Trained, difference, verify

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")]
GPU = torch.device("cuda")
MIXERS = {"r": {"name": "rwkv6", "head_size": 32}, "m": {"name": "mamba2", "head_dim": 32, "d_state": 16}}
MODELS: dict[str, Any] = {
    "GF": {"layers": "r+m", "mixers": MIXERS, "fusion": {"name": "gated"}, "feed_forward": {"name": "mlp"}},
    "GPT-2": {"layers": "a", "mixers": {"a": {"name": "attention", "n_head": 2}}, "feed_forward": {"name": "mlp"}},
}

WAYS: dict[str, dict[str, Any]] = {
    "curriculum": {"curriculum": [{"steps": 3, "sequence_length": 16}, {"steps": 4, "sequence_length": 32}]},
    # four steps until the tracks start anew
    "carried states": {"batch_order": "tracks", "carry_state": True, "batch_size": 16, "sequence_length": 256},
    "pretrained branches": {"pretrain_steps": 5},
}


def run_spec(variant: str = "GF", seed: int = 0, **training: Any) -> RunSpec:
    settings = {"steps": 12, "batch_size": 8, "sequence_length": 64, "learning_rate": 0.01, "precision": "bfloat16"}
    often = {"evaluate_every": 5, "evaluation_tokens": 512, "log_every": 1}
    return RunSpec.model_validate(
        {
            "corpus": {"name": "embedded"},
            "tokenizer": {"name": "char"},
            "model": {"d_model": 64, "n_layer": 2, **MODELS[variant]},
            "training": {**settings, **often, **training},
            "seed": seed,
        }
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return words(tmp_path_factory.mktemp("data"))


def finish(*cohorts: Cohort, until: int | None = None) -> None:
    """Train cohorts side by side, as a pack does."""
    while not all(cohort.done or cohort.step == until for cohort in cohorts):
        for cohort in cohorts:
            cohort.advance(until)
        for cohort in cohorts:
            cohort.collect()


def trained(specs: list[RunSpec], data: Path, **options: Any) -> Cohort:
    cohort = Cohort(specs, Tokens.open(data), GPU, **options)
    finish(cohort)
    return cohort


def log(cohort: Cohort, run: int = 0) -> torch.Tensor:
    """A run's curves but for the time."""
    curves = cohort.book.curves[run]
    return curves.tensor()[:, [i for i, column in enumerate(curves.columns) if column != "timestamp"]]


def assert_same_bits(a: Cohort, b: Cohort) -> None:
    for run in range(len(a.specs)):
        torch.testing.assert_close(log(a, run), log(b, run), rtol=0, atol=0, equal_nan=True)
    assert torch.equal(a.weights, b.weights)


@pytest.mark.parametrize("compiled", [False, True], ids=["uncompiled", "compiled"])
@pytest.mark.parametrize("runs", [1, 2])
def test_a_graph_gives_the_bits_of_single_operations(data: Path, runs: int, compiled: bool) -> None:
    specs = [run_spec(seed=seed) for seed in range(runs)]
    graph, eager = (trained(specs, data, engine_name=name, compiled=compiled) for name in ("graph", "eager"))
    assert graph.compiled == compiled
    assert_same_bits(graph, eager)


@pytest.mark.parametrize("compiled", [False, True], ids=["uncompiled", "compiled"])
def test_so_it_does_with_matrices_that_are_orthogonalised_and_a_run_that_was_stopped_goes_on(
    data: Path, tmp_path: Path, compiled: bool
) -> None:
    specs = [run_spec(seed=seed, optimizer={"name": "muon", "momentum": momentum}) for seed, momentum in ((0, 0.95), (1, 0.8))]
    graph, eager = (trained(specs, data, engine_name=name, compiled=compiled) for name in ("graph", "eager"))
    assert graph.engine.name == "graph"
    assert_same_bits(graph, eager)
    losses = [log(graph, run)[:, graph.book.curves[run].columns.index("train/loss") - 1] for run in (0, 1)]
    assert all(loss[-1] < loss[1] for loss in losses)
    stopped, resumed = (Cohort(specs, Tokens.open(data), GPU, compiled=compiled) for _ in range(2))
    finish(stopped, until=5)
    checkpoint.save(tmp_path, stopped, checkpoint.Progress())
    assert isinstance(checkpoint.load(tmp_path, resumed), checkpoint.Progress)
    finish(resumed)
    assert_same_bits(resumed, graph)


def test_a_stacked_run_under_muon_is_the_run_alone_to_rounding(data: Path) -> None:
    """In float64; in bfloat16, in which the matrices are orthogonalised by default, rounding would be a part of each step."""
    muon = {"name": "muon", "ns_precision": "float32"}
    specs = [
        run_spec(seed=seed, optimizer=muon, learning_rate=rate, precision="float32") for seed, rate in ((0, 0.01), (1, 0.003))
    ]
    with use("chunked"):
        stacked = trained(specs, data, dtype=torch.float64, compiled=False)
        for i, spec in enumerate(specs):
            alone = trained([spec], data, dtype=torch.float64, compiled=False)
            torch.testing.assert_close(stacked.weights[i], alone.weights[0], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("model", [{}, {"branch_norm": "rms"}], ids=["plain", "branch norms"])
def test_mixers_on_two_streams_give_the_bits_of_one(data: Path, monkeypatch: pytest.MonkeyPatch, model: dict[str, Any]) -> None:
    specs = [spec.model_copy(update={"model": spec.model.model_copy(update=model)}) for spec in (run_spec(), run_spec(seed=1))]
    beside = trained(specs, data)
    assert isinstance(beside.objective, InRegions)
    assert beside.objective.regions.lane is not None
    monkeypatch.setattr(regions, "Lane", lambda _device: None)
    assert_same_bits(beside, trained(specs, data))


@pytest.mark.parametrize("way", WAYS)
def test_steps_of_several_kinds_have_a_graph_each(data: Path, tmp_path: Path, way: str) -> None:
    """And a run that was stopped captures what is left of them."""
    specs = [run_spec(seed=seed, **WAYS[way]) for seed in (0, 1)]
    graph, eager = (trained(specs, data, engine_name=name) for name in ("graph", "eager"))
    assert len(graph.engine.graphs) == 1 + (3 if way == "curriculum" else 2 if way == "carried states" else 1)
    assert_same_bits(graph, eager)
    stopped, resumed = (Cohort(specs, Tokens.open(data), GPU) for _ in range(2))
    finish(stopped, until=5)
    checkpoint.save(tmp_path, stopped, checkpoint.Progress())
    assert isinstance(checkpoint.load(tmp_path, resumed), checkpoint.Progress)
    finish(resumed)
    assert_same_bits(resumed, graph)


def test_the_same_run_in_two_processes_has_the_same_bits(data: Path, tmp_path: Path) -> None:
    """Which share no compiled code, and so no choice that one of them made."""
    spec = run_spec()
    train(Job(spec, data, tmp_path / "here"), tmp_path / "c", Settings(GPU, 1e9))
    plan = tmp_path / "plan.json"
    write(plan, records.of_runs([spec]))
    paths = {"plan": plan, "run": spec.run_id, "data": data, "out": tmp_path / "there", "checkpoints": tmp_path / "c"}
    paths["attempts"] = tmp_path / "attempts"
    options = [text for key, value in paths.items() for text in (f"--{key}", str(value))]
    caches = {name: str(tmp_path / name) for name in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")}
    subprocess.run([sys.executable, "-m", "gt", "train", *options, "--device", "cuda"], check=True, env=os.environ | caches)
    here, there = Trained.read(tmp_path / "here"), Trained.read(tmp_path / "there")
    assert here.manifest.engine == "graph"
    assert here.manifest.compiled
    assert difference(here, there) is None


def test_a_stacked_run_is_the_run_alone_to_rounding(data: Path) -> None:
    """In float64, where rounding is far from what any leak between neighbours would be; our kernels have none."""
    specs = [run_spec(seed=seed, learning_rate=rate, precision="float32") for seed, rate in ((0, 0.01), (1, 0.01), (1, 0.003))]
    with use("chunked"):
        stacked = trained(specs, data, dtype=torch.float64, compiled=False)
        for i, spec in enumerate(specs):
            alone = trained([spec], data, dtype=torch.float64, compiled=False)
            torch.testing.assert_close(stacked.weights[i], alone.weights[0], rtol=1e-9, atol=1e-12)
            torch.testing.assert_close(log(stacked, i), log(alone), rtol=1e-8, atol=1e-10, equal_nan=True)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_run_of_a_pack_is_verified(data: Path, tmp_path: Path, precision: str) -> None:
    """Stacked, compiled and in a graph, against the run alone: what rounding explains is measured (gt/verify.py)."""
    jobs = [Job(run_spec(seed=seed, precision=precision), data, tmp_path / str(seed)) for seed in (0, 1)]
    assert [status for _, status in train_pack(jobs, set(), tmp_path / "c", Settings(GPU, 1e9))] == ["completed"] * 2
    assert read_json(tmp_path / "1/manifest.json")["stacked"] == 2
    outcome = verify(tmp_path / "1", data, GPU)
    assert outcome.same, outcome.text


def test_cohorts_on_streams_of_their_own_do_not_meet(data: Path) -> None:
    groups = [[run_spec(seed=0), run_spec(seed=1)], [run_spec("GPT-2", seed=2)], [run_spec(seed=3)]]
    together = [Cohort(specs, Tokens.open(data), GPU) for specs in groups]
    finish(*together)
    for cohort, specs in zip(together, groups, strict=True):
        assert_same_bits(cohort, trained(specs, data))


@pytest.mark.parametrize("stop", [1, 5, 7])
def test_a_cohort_that_was_stopped_goes_on_to_the_same_bits(data: Path, tmp_path: Path, stop: int) -> None:
    specs = [run_spec(seed=seed) for seed in (0, 1)]
    stopped, resumed = (Cohort(specs, Tokens.open(data), GPU) for _ in range(2))
    finish(stopped, until=stop)
    checkpoint.save(tmp_path, stopped, checkpoint.Progress())
    assert isinstance(checkpoint.load(tmp_path, resumed), checkpoint.Progress)
    finish(resumed)
    assert_same_bits(resumed, trained(specs, data))


def test_a_run_that_diverges_in_a_graph_leaves_its_neighbour_as_it_was(data: Path) -> None:
    wild = {"steps": 150, "warmup_ratio": 0.0, "clip_norm": None, "weight_decay": 10.0}
    specs = [run_spec("GPT-2", learning_rate=rate, **wild) for rate in (10.0, 0.003)]
    diverging, steady = trained(specs, data), trained([specs[1], specs[1]], data)
    assert diverging.engine.name == "graph"
    assert diverging.book.status == ["diverged", "completed"]
    assert torch.equal(diverging.weights[1], steady.weights[1])
    torch.testing.assert_close(log(diverging, 1), log(steady, 1), rtol=0, atol=0, equal_nan=True)


def test_cpu_and_gpu_agree_over_20_steps_in_float32(data: Path, tmp_path: Path) -> None:
    """The tolerance is derived and measured as gt/verify.py says.

    Both devices do the same operations on float32, so both trajectories are the exact one's, disturbed at each step by a
    relative error of the weights of at most d = u + sqrt(n) u, with u = 2^-24 and n = 512 tokens in a batch: 1.4e-6. The run
    is trained again on the CPU from weights that are moved by d, and the distance h(t) that this has grown to bounds that of
    errors made later; t independent ones add up to sqrt(t) h(t), and three of these are allowed: about 1e-5 nats after 20
    steps at this learning rate.
    """
    spec = run_spec(steps=20, precision="float32", learning_rate=0.001)
    train(Job(spec, data, tmp_path / "run"), tmp_path / "c", Settings(GPU, 1e9))
    outcome = verify(tmp_path / "run", data, torch.device("cpu"))
    assert outcome.same, outcome.text
    assert "device" in outcome.text
