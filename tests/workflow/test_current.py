"""Nothing is lost, nothing is made twice: contents decide what is made again."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from checkouts import Checkout

from gt.artefacts import read_evaluations, read_plan
from gt.records import read_json
from gt.stage import outdated
from gt.wanted import wanted

AFTER_RUNS = {"aggregate": 1, "claims": 1, "figures": 1, "report": 1, "track": 1}

HELD_OUT = "evaluations/held_out.json"


def copied(finished: Checkout, folder: Path) -> Checkout:
    """A fresh clone with a copy of the results: no times, and nothing that Snakemake remembers."""
    shutil.copytree(finished.folder, folder, copy_function=shutil.copyfile, ignore=shutil.ignore_patterns(".snakemake"))
    return Checkout.there(folder)


def first_record(checkout: Checkout) -> Path:
    return min(checkout.folder.glob("results/runs/*"))


def started(checkout: Checkout) -> dict[str, str]:
    """When each run's training began."""
    return {file.parent.name: read_json(file)["started"] for file in checkout.folder.glob("results/runs/*/manifest.json")}


def test_a_touch_of_every_file_makes_nothing_again(checkout: Checkout) -> None:
    files = [file for file in checkout.folder.rglob("*") if file.is_file() and ".snakemake" not in file.parts]
    for file in sorted(files, key=lambda file: file.name):  # no order of making
        file.touch()
    assert checkout.planned() == {}


def test_a_touch_of_a_large_text_makes_nothing_again(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    (tmp_path / "text.txt").write_text("one two three four " * 160_000)  # 3 MB
    checkout.study()
    assert checkout.snakemake("--until", "tokenize").returncode == 0
    (tmp_path / "text.txt").touch()
    assert checkout.planned("--until", "tokenize") == {}


@pytest.mark.parametrize(
    ("file", "again"),
    [
        ("text.txt", {"corpus": 1, "tokenize": 1, "pack": 2, "train": 4, "evaluate": 4, "probe": 4, **AFTER_RUNS}),
        ("gt/training/loop.py", {"pack": 2, "train": 4, "evaluate": 4, "probe": 4, **AFTER_RUNS}),
        ("gt/evals/language.py", {"pack": 2, "evaluate": 4, **AFTER_RUNS}),
        ("gt/probes/states.py", {"pack": 2, "probe": 4, **AFTER_RUNS}),
        ("gt/analysis/aggregate.py", {"aggregate": 1, "claims": 1, "figures": 1, "report": 1}),
        ("gt/tracking.py", {"track": 1}),
        ("config/claims/gates.yaml", {"claims": 1, "report": 1}),
        ("report_templates/report.md.j2", {"report": 1}),
    ],
)  # fmt: skip
def test_a_change_makes_again_what_it_changes_in_a_copy_too(
    finished: Checkout, tmp_path: Path, file: str, again: dict[str, int]
) -> None:
    clone = copied(finished, tmp_path / "clone")
    with open(clone.folder / file, "a") as opened:
        opened.write("\nassert True\n" if file.endswith(".py") else "\n# another version\n")
    assert clone.planned() == again


def test_a_copy_without_times_makes_nothing_again_nor_do_comments_new_files_and_lost_data(
    finished: Checkout, tmp_path: Path
) -> None:
    clone = copied(finished, tmp_path / "clone")
    for module in ("training/loop", "evals/language", "probes/states", "analysis/aggregate", "tracking"):
        with open(clone.folder / f"gt/{module}.py", "a") as opened:
            opened.write("\n# another version\n")
    (clone.folder / "gt/training/more.py").write_text("assert False\n")
    with open(clone.folder / "workflow/envs/gt.yaml", "a") as opened:
        opened.write("\n# another version\n")
    assert clone.planned() == {}
    shutil.rmtree(clone.folder / "results/data")
    assert clone.planned() == {}


def remove(path: Path) -> None:
    path.unlink()


def halve(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


WHOLE = {"train", "evaluate", "probe"}


@pytest.mark.parametrize(
    ("harm", "name", "again"),
    [
        (shutil.rmtree, "", WHOLE),
        (remove, "curves.parquet", WHOLE),
        (remove, "model.safetensors", WHOLE),
        (halve, "model.safetensors", WHOLE),
        (halve, "manifest.json", WHOLE),
        (halve, HELD_OUT, {"evaluate"}),
        (remove, "evaluations/quantisation.json", {"evaluate"}),
        (remove, "probes.json", {"probe"}),
    ],
)
def test_what_is_missing_or_damaged_of_a_record_is_found(
    finished: Checkout, tmp_path: Path, harm: Callable[[Path], object], name: str, again: set[str]
) -> None:
    plan = read_plan(finished.folder / "results/studies/tiny/plan.json")
    run, spec = min(plan.runs.items())
    record = Path(shutil.copytree(finished.folder / "results/runs" / run, tmp_path / run))
    own, data = wanted([plan])[run], finished.folder / f"results/data/{spec.corpus.id}/{spec.tokenizer.id}"
    assert outdated(record, own, data) == set()
    harm(record / name)
    assert outdated(record, own, data) == again


@pytest.mark.parametrize(
    ("harm", "name", "again"),
    [
        (shutil.rmtree, "", {"pack": 1, "train": 1, "evaluate": 1, "probe": 1}),
        (halve, HELD_OUT, {"pack": 1, "evaluate": 1}),
        (remove, "probes.json", {"pack": 1, "probe": 1}),
    ],
)
def test_it_is_made_again_and_nothing_else(
    checkout: Checkout, harm: Callable[[Path], object], name: str, again: dict[str, int]
) -> None:
    harm(first_record(checkout) / name)
    assert checkout.planned() == {**again, **AFTER_RUNS}


def test_of_runs_that_are_current_no_jobs_are_gone_through_but_where_they_are_asked_for(checkout: Checkout) -> None:
    """So what a call takes that has little to do does not grow with the study."""

    def considered() -> set[str]:
        """The runs that Snakemake looks for jobs of."""
        said = checkout.snakemake("-n", "--debug-dag")
        assert said.returncode == 0, said.stderr[-3000:]
        return set(re.findall(r"candidate job \w+\s+wildcards: run=(\S+)", said.stdout + said.stderr))

    assert considered() == set()
    assert checkout.snakemake("--dag").stdout.count("train") == 4
    assert checkout.planned("--forcerun", "train")["train"] == 4
    (first_record(checkout) / "probes.json").unlink()
    assert considered() == {first_record(checkout).name}


def test_damaged_tokens_are_made_again_for_the_run_that_needs_them_and_no_other_is_trained(checkout: Checkout) -> None:
    shutil.rmtree(first_record(checkout))
    halve(next(checkout.folder.glob("results/data/*/char/train.bin")))
    assert checkout.planned() == {"tokenize": 1, "pack": 1, "train": 1, "evaluate": 1, "probe": 1, **AFTER_RUNS}


def test_the_study_is_whole_again_after_damage_and_an_interruption(checkout: Checkout) -> None:
    before, (lost, harmed, *_) = started(checkout), sorted(checkout.folder.glob("results/runs/*"))
    shutil.rmtree(lost)
    halve(harmed / HELD_OUT)
    halved = (harmed / HELD_OUT).read_bytes()
    assert checkout.snakemake("--until", "evaluate", "probe").returncode == 0
    after = started(checkout)
    assert {run for run in before if after[run] != before[run]} == {lost.name}
    assert [file.read_bytes() for file in checkout.folder.glob(f"results/damaged/*/{HELD_OUT}")] == [halved]
    assert checkout.planned() == AFTER_RUNS
    assert checkout.snakemake("--until", "aggregate").returncode == 0
    runs = pd.read_parquet(checkout.folder / "results/studies/tiny/runs.parquet").set_index("run_id")
    assert dict(runs["started"]) == after
    assert "aggregate" not in checkout.planned()


def test_studies_that_share_runs_keep_the_evaluations_of_each_other(checkout: Checkout) -> None:
    tiny, other = (checkout.folder / "config/studies" / name for name in ("tiny.yaml", "other.yaml"))
    other.write_text(tiny.read_text().replace("quantisation", "long_context"))
    run = first_record(checkout)
    wanted = str(run.relative_to(checkout.folder) / HELD_OUT)
    before = {file: file.read_bytes() for file in run.glob("evaluations/*.json")}
    assert checkout.snakemake("--", wanted, study="other").returncode == 0
    assert set(read_evaluations(run)) == {"held_out", "long_context", "quantisation"}
    assert {file: file.read_bytes() for file in before} == before
    values = {name: own.measurements for name, own in read_evaluations(run).items()}
    assert checkout.planned(wanted, study="other") == {}
    assert "evaluate" not in checkout.planned()

    # One that fails takes nothing with it.
    other.write_text(tiny.read_text().replace("quantisation", "needle"))
    with open(checkout.folder / "gt/evals/needle.py", "a") as module:
        module.write("\n\ndef broken(self, subject):\n    raise RuntimeError('broken on purpose')\n")
        module.write("\n\nNeedle.measure = broken\n")
    assert checkout.snakemake("--", wanted, study="other").returncode == 1
    assert {name: own.measurements for name, own in read_evaluations(run).items()} == values


def test_a_setting_that_cannot_work_is_refused_when_planned(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """tests/test_preflight.py has what else is."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    checkout = Checkout(tmp_path / "c")
    checkout.study()
    assert_refused(checkout.snakemake("-n", device="cuda"), "device: 'cuda' needs a GPU, and this machine has none")
    assert not (checkout.folder / "results").exists()


def assert_refused(result: subprocess.CompletedProcess[str], message: str) -> None:
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_folders_that_cannot_be_written_are_refused_when_planned_and_long_names_cut(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path / "c")
    checkout.study()
    (checkout.folder / "results").symlink_to("/proc")
    assert_refused(checkout.snakemake("-n"), "results: cannot be written into")
    (checkout.folder / "results").unlink()
    text = "t" * 230
    (checkout.folder / f"{text}.txt").write_text("one two three four " * 1000)
    checkout.study(corpora=[f"file:{text}.txt"])
    assert checkout.planned()["train"] == 4


def test_a_report_is_written_when_the_workflow_is_stopped_before_the_first_evaluation(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    checkout.study()
    running = subprocess.Popen(**checkout.call(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list(checkout.folder.glob("results/data/*/corpus.json")):
        time.sleep(0.1)
    running.send_signal(signal.SIGTERM)
    assert running.wait() == 1
    study = checkout.folder / "results/studies/tiny"
    assert set(pd.read_parquet(study / "runs.parquet")["status"]) == {"missing"}
    assert (study / "report.html").exists()


def test_two_calls_do_not_work_in_the_same_results(checkout: Checkout) -> None:
    (checkout.folder / "results/studies/tiny/runs.parquet").unlink()
    with open(checkout.folder / "results/.lock", "w") as lock:
        lock.write("process 1 on elsewhere, in /another/checkout")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert_refused(checkout.snakemake(), "results/ is in use by process 1 on elsewhere, in /another/checkout.")
        assert checkout.planned()["aggregate"] == 1
    assert checkout.snakemake("--until", "aggregate").returncode == 0


def test_a_call_with_triggers_that_make_current_results_again_is_refused(checkout: Checkout) -> None:
    for file in checkout.folder.glob("results/studies/tiny/report.*"):
        file.unlink()
    result = checkout.snakemake("--workflow-profile", "none")
    assert result.returncode == 2
    assert "call snakemake with --rerun-triggers mtime, as its profile does" in result.stderr
