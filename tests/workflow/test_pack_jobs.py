"""Runs in packs: one process trains many, and nothing that is finished is ever trained again."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from checkouts import Checkout

from gt.records import measurements, read_json

UNTIL = ("--until", "evaluate", "probe")


def ran(result: subprocess.CompletedProcess[str]) -> set[str]:
    """The rules that a call of Snakemake ran."""
    assert result.returncode == 0, result.stderr[-3000:]
    return set(re.findall(r"^(?:local)?rule (\w+):$", result.stderr, re.MULTILINE))


def trained_at(checkout: Checkout) -> dict[str, str]:
    """When each run's training began: when it is trained again, that changes, and when it is merely fetched, it does not."""
    manifests = checkout.folder.glob("results/runs/*/manifest.json")
    return {
        file.parent.name: read_json(file)["started"]
        for file in manifests
        if (file.parent / "evaluations/held_out.json").exists()
    }


def test_all_runs_are_trained_evaluated_and_probed_in_packs(finished: Checkout) -> None:
    assert len(trained_at(finished)) == len(list(finished.folder.glob("results/runs/*/probes.json"))) == 4
    logs = [file.read_text() for file in finished.folder.glob("logs/train/*.log")]
    assert len(logs) == 4
    assert all("in a pack" in log for log in logs)
    assert not list(finished.folder.glob("results/staged/*"))
    assert not list(finished.folder.glob("results/packs/*"))


@pytest.mark.parametrize("size", [1, 3])
def test_a_second_call_has_nothing_to_do_whatever_the_size_of_a_pack(finished: Checkout, size: int) -> None:
    assert finished.planned(pack_size=size) == {}


def test_another_seed_in_packs_of_another_size_trains_only_its_own_runs(checkout: Checkout) -> None:
    before, written = trained_at(checkout), checkout.finished_at()
    checkout.study(seeds=3)
    assert "pack" in ran(checkout.snakemake(*UNTIL, pack_size=4))
    after = trained_at(checkout)
    assert len(after) == 6
    assert before.items() <= after.items()
    assert written.items() <= checkout.finished_at().items()
    assert not ran(checkout.snakemake(*UNTIL, pack_size=4))


def test_what_a_killed_call_has_staged_is_fetched(checkout: Checkout) -> None:
    before = trained_at(checkout)
    runs = checkout.folder / "results/runs"
    for run in before:
        shutil.copytree(runs / run, checkout.folder / "results/staged" / run)
        shutil.rmtree(runs / run)
    assert "pack" in ran(checkout.snakemake(*UNTIL, pack_size=4))
    assert trained_at(checkout) == before


def test_changed_code_of_training_trains_again_what_is_staged_or_finished(checkout: Checkout) -> None:
    before = trained_at(checkout)
    shutil.copytree(checkout.folder / "results/runs", checkout.folder / "results/staged", dirs_exist_ok=True)
    with open(checkout.folder / "gt/models/lm.py", "a") as module:
        module.write("assert True\n")
    assert "pack" in ran(checkout.snakemake(*UNTIL, pack_size=6))
    after = trained_at(checkout)
    assert len(after) == 4
    assert not before.items() & after.items()


def test_changed_evaluation_is_done_in_packs_without_training(checkout: Checkout) -> None:
    before = trained_at(checkout)
    with open(checkout.folder / "gt/evals/language.py", "a") as module:
        module.write("assert True\n")
    assert "pack" in ran(checkout.snakemake(*UNTIL, pack_size=4))
    assert trained_at(checkout) == before
    assert not ran(checkout.snakemake(*UNTIL, pack_size=4))


def test_a_run_alone_has_the_bits_of_one_in_a_pack(finished: Checkout, checkout: Checkout) -> None:
    """With whom it is trained, and in which process it is evaluated and probed, changes nothing that is measured."""
    shutil.rmtree(checkout.folder / "results/runs")
    checkout.study(seeds=1)
    assert ran(checkout.snakemake(*UNTIL, pack_size=1)) == {"train", "evaluate", "probe"}
    records = sorted(checkout.folder.glob("results/runs/*"))
    assert len(records) == 2
    for record in records:
        packed = finished.folder / "results/runs" / record.name
        assert (record / "model.safetensors").read_bytes() == (packed / "model.safetensors").read_bytes()
        curves = [pd.read_parquet(own / "curves.parquet").drop(columns="timestamp") for own in (record, packed)]
        pd.testing.assert_frame_equal(*curves, check_exact=True)
        for name in measurements(record):
            one, other = (read_json(own / name) for own in (record, packed))
            assert one["measurements"] == other["measurements"]
        assert read_json(record / "probes.json")["measurements"]


def test_a_run_that_fails_in_a_pack_stops_no_other_tries_again_with_a_gpu_and_is_named_in_the_report(
    monkeypatch: pytest.MonkeyPatch, checkout: Checkout
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    shutil.rmtree(checkout.folder / "results/runs")
    checkout.study(seeds=1)
    checkout.break_mamba2()
    result = checkout.snakemake(pack_size=4)
    assert result.returncode == 1
    job = r"^(?:local)?rule train:.*?wildcards: run=(\S+).*?resources: [^\n]*?(gpu=1)?, device"
    jobs = re.findall(job, result.stderr, re.MULTILINE | re.DOTALL)
    assert {run.split(".")[0]: gpu for run, gpu in jobs} == {"attention": "", "r+m-gated": "gpu=1"}
    runs = pd.read_parquet(checkout.folder / "results/studies/tiny/runs.parquet").set_index("variant")["status"]
    assert dict(runs) == {"GPT-2": "completed", "GF": "failed"}
    assert "broken on purpose" in (checkout.folder / "results/studies/tiny/report.md").read_text()
    assert "Logs: logs/" in result.stderr
    logs = {log.name.split(".")[0]: log.read_text() for log in checkout.folder.glob("logs/train/*.s0-*.log")}
    # What fails by chance would succeed the second time.
    assert {run: log.count("RuntimeError: broken on purpose") for run, log in logs.items()} == {"attention": 0, "r+m-gated": 2}


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout of which nothing has run."""
    checkout = Checkout(tmp_path_factory.mktemp("new") / "checkout")
    checkout.study()
    return checkout


def test_the_gpu_profile_packs_runs_and_gives_packs_alone_a_gpu(monkeypatch: pytest.MonkeyPatch, new: Checkout) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    lines = new.snakemake("-n", "--profile", "workflow/profiles/gpu").stdout.splitlines()
    resources = [line for line in lines if "resources:" in line and "device=" in line]
    assert len(resources) == 1 + 3 * 4  # a pack; train, evaluate and probe
    assert all("device=cuda" in line for line in resources)
    assert sum("gpu=1" in line for line in resources) == 1


def test_what_a_sent_job_asks_for_is_not_left_to_the_machine_that_plans(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With --jobs, on a login node without a GPU."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    checkout = Checkout(tmp_path)
    checkout.study()
    job = re.compile(r"^rule (\w+):\n(?:    [^\n]*\n)*?    resources: [^\n]* gpu=(\d), device=cuda", re.MULTILINE)
    planned = job.findall(checkout.snakemake("-n", "--jobs", "8", device="cuda", pack_size=2).stdout)
    fetched = [(rule, "0") for rule in ("evaluate", "probe", "train")]
    assert sorted(planned) == sorted([("pack", "1")] * 2 + fetched * 4)
    result = checkout.snakemake("-n", "--jobs", "8")
    assert result.returncode == 2
    assert "config: device: 'auto' looks at this machine, and the jobs run on others." in result.stderr


def test_no_more_jobs_have_a_gpu_than_there_are_gpus(monkeypatch: pytest.MonkeyPatch, new: Checkout) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    jobs = new.snakemake("-n").stdout
    assert jobs.count("gpu=1, device=auto") == 2  # packs, one a place; what fetches from them needs none
    alone = new.snakemake("-n", pack_size=1).stdout
    assert alone.count("gpu=1, device=auto") == 12
    for options, limit in (((), 2), (("--resources", "gpu=1"), 1), (("--resources", "gpu=9"), 2)):
        result = new.snakemake("--until", "corpus", "--forcerun", "corpus", *options)
        assert result.returncode == 0
        assert f'Resource("gpu", {limit})' in result.stderr
