"""On a GPU: what the runs on it have of its seconds, joules and memory is what it did."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import records
import torch
from corpus import words

from gt.artefacts import Manifest, read_manifest, write
from gt.data.tokens import Tokens
from gt.metering import Event, Share, shares
from gt.spec import RunSpec
from gt.training.cohort import Cohort
from gt.training.loop import Job, Settings, train
from gt.training.packs import train_pack

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")]
GPU = torch.device("cuda")
MIXERS = {"r": {"name": "rwkv6", "head_size": 32}, "m": {"name": "mamba2", "head_dim": 32, "d_state": 16}}
MODEL: dict[str, Any] = {"layers": "r+m", "mixers": MIXERS, "fusion": {"name": "gated"}, "feed_forward": {"name": "mlp"}}
ATTENTION: dict[str, Any] = {"layers": "a", "mixers": {"a": {"name": "attention", "n_head": 2}}, "fusion": None}
# Why something may not be known: what a container hides, and other tests that run on the same GPU.
HIDDEN = {"other processes on the device cannot be seen", "no energy counter", "shared with other processes"}


def run_spec(seed: int = 0, d_model: int = 64, model: dict[str, Any] | None = None, **training: Any) -> RunSpec:
    settings = {"steps": 60, "batch_size": 8, "sequence_length": 64, "learning_rate": 0.01, "precision": "bfloat16"}
    often = {"evaluate_every": 10, "evaluation_tokens": 512, "log_every": 1}
    return RunSpec.model_validate(
        {
            "corpus": {"name": "embedded"},
            "tokenizer": {"name": "char"},
            "model": {"d_model": d_model, "n_layer": 2, **MODEL, **(model or {})},
            "training": {**settings, **often, **training},
            "seed": seed,
        }
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return words(tmp_path_factory.mktemp("data"))


def trained(specs: list[RunSpec], data: Path, folder: Path) -> list[Manifest]:
    """Their records, of one pack."""
    jobs = [Job(spec, data, folder / f"{i}") for i, spec in enumerate(specs)]
    became = train_pack(jobs, set(), folder / "checkpoints", Settings(GPU, 1e9, devices=folder / "devices"))
    assert [status for _, status in became] == ["completed"] * len(jobs)
    return [read_manifest(job.out) for job in jobs]


def log_of(folder: Path) -> list[Event]:
    (file,) = (folder / "devices").iterdir()
    return [Event.model_validate_json(line) for line in file.read_text().splitlines()]


def in_use(events: list[Event]) -> Share:
    """Seconds and joules of the device from the first line with something on it to the last, if something always was."""
    first = next(event for event in events if any(event.on.values()))
    last = next(event for event in reversed(events) if not any(event.on.values()))
    joules = 0.0 if first.joules is None or last.joules is None else last.joules - first.joules
    return Share(last.clock - first.clock, joules)


def test_what_two_stacks_have_of_the_device_is_what_it_did(data: Path, tmp_path: Path) -> None:
    manifests = trained([run_spec(0), run_spec(1), run_spec(0, model=ATTENTION), run_spec(1, model=ATTENTION)], data, tmp_path)
    device, found = in_use(log_of(tmp_path)), shares(log_of(tmp_path))
    assert sum(share.seconds for share in found.values()) == pytest.approx(device.seconds)
    assert sum(share.joules for share in found.values()) == pytest.approx(device.joules)
    assert {manifest.stacked for manifest in manifests} == {2}
    usages = [manifest.usage for manifest in manifests]
    assert {why for usage in usages for why in usage.unknown.values()} <= HIDDEN
    if all(usage.device_seconds is not None for usage in usages):
        assert sum(usage.device_seconds or 0.0 for usage in usages) == pytest.approx(device.seconds)
    if all(usage.energy_joules is not None for usage in usages):
        assert sum(usage.energy_joules or 0.0 for usage in usages) == pytest.approx(device.joules)
        assert device.joules > 0
    assert [set(manifest.backend) for manifest in manifests] == [{"ssd 16x32", "wkv6 32x32"}] * 2 + [set()] * 2


def test_a_small_model_after_a_large_one_has_the_memory_of_a_small_one(data: Path, tmp_path: Path) -> None:
    """In one process, and beside the large one, against the small one alone in a process of its own."""
    small, large = run_spec(steps=4), run_spec(d_model=1024, steps=4)
    settings = Settings(GPU, 1e9)
    peaks = {}
    for name, spec in (("large", large), ("small", small)):
        train(Job(spec, data, tmp_path / name), tmp_path / f"{name}-c", settings)
        peaks[name] = read_manifest(tmp_path / name).usage.peak_memory_bytes or 0
    beside = [m.usage.peak_memory_bytes or 0 for m in trained([small, large], data, tmp_path / "pack")]
    plan = tmp_path / "plan.json"
    write(plan, records.of_runs([small]))
    paths = {"plan": plan, "run": small.run_id, "data": data, "out": tmp_path / "alone", "checkpoints": tmp_path / "c"}
    paths["attempts"] = tmp_path / "attempts"
    options = [text for key, value in paths.items() for text in (f"--{key}", str(value))]
    subprocess.run([sys.executable, "-m", "gt", "train", *options, "--device", "cuda"], check=True)
    alone = read_manifest(tmp_path / "alone").usage.peak_memory_bytes or 0
    assert peaks["large"] > 4 * alone > 0
    # Of workspaces that stay, some are the first one's of a process.
    assert 0 < peaks["small"] <= 1.1 * alone
    assert beside[0] <= 1.1 * alone
    assert beside[1] <= 1.1 * peaks["large"]


def test_the_memory_of_a_cohort_holds_its_weights_and_moments(data: Path, tmp_path: Path) -> None:
    spec = run_spec(d_model=512, steps=2)
    (manifest,) = trained([spec], data, tmp_path)
    cohort = Cohort([spec], Tokens.open(data), GPU)
    least = sum(tensor.numel() * tensor.element_size() for tensor in cohort.state().values())
    assert (manifest.usage.peak_memory_bytes or 0) > least
