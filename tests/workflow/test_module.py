"""The workflow as a module of a laboratory's own workflow, which has its configuration, studies and variants."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
import yaml
from checkouts import ROOT, Checkout, write_text

SNAKEFILE = repr(str(ROOT / "workflow/Snakefile"))
# More tracks than the text has windows, which is known once it is tokenized.
TOO_WIDE = {"batch_order": "tracks", "batch_size": 4096}
# As docs/howto/cluster.md shows it.
(SHOWN,) = re.findall(r"```python\n(configfile:.*?)```", (ROOT / "docs/howto/cluster.md").read_text(), re.DOTALL)
MODULE, USE = SHOWN.split("use rule")
PREFIXED = f"use rule{USE}"
PROFILE = ("--workflow-profile", str(ROOT / "workflow/profiles/default"))
PLAIN = "use rule * from groundthink\n"
WITH_OWN_TARGET = """\
rule all:
    input:
        "words.txt",

use rule * from groundthink exclude all

rule words:
    input:
        "results/studies/tiny/report.md",
    output:
        "words.txt",
    shell:
        "wc -w {input:q} > {output:q}"
"""
VARIANT = {
    "title": "Attention",
    "source": "this laboratory",
    "model": {
        "layers": "a",
        "mixers": {"a": {"name": "attention"}},
        "feed_forward": {"name": "mlp"},
    },
}


class Laboratory(Checkout):
    """A folder with a Snakefile and a configuration, and with no copy of this repository."""

    def __init__(self, folder: Path, rules: str, snakefile: str = SNAKEFILE, **settings: str) -> None:
        self.folder = folder
        (folder / "config/studies").mkdir(parents=True)
        (folder / "config/variants").mkdir()
        (folder / "Snakefile").write_text(MODULE.replace('"groundthink/workflow/Snakefile"', snakefile) + rules)
        (folder / "config/config.yaml").write_text(yaml.safe_dump({"groundthink": {"study": "tiny", **settings}}))
        (folder / "config/variants/ours.yaml").write_text(yaml.safe_dump({"OURS": VARIANT}))
        self.study()
        write_text(folder / "text.txt")

    def study(self, **changes: object) -> None:
        super().study(**{"variants": ["OURS"], "baseline": "OURS", "seeds": 1, "evaluations": [], **changes})


def planned(result: subprocess.CompletedProcess[str]) -> set[str]:
    """The rules that a dry run lists."""
    assert result.returncode == 0, result.stderr[-3000:]
    return set(re.findall(r"^(?!total)(\w+) +\d+$", result.stdout, re.MULTILINE))


STAGES = {"corpus", "tokenize", "pack", "train", "evaluate", "probe", "aggregate", "track", "claims", "figures", "report"}


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (PREFIXED, {f"gt_{name}" for name in (*STAGES, "all")}),
        (PLAIN, {*STAGES, "all"}),
        (WITH_OWN_TARGET, {*STAGES - {"track"}, "words", "all"}),
    ],
    ids=["prefixed", "plain", "with a target of its own"],
)
def test_the_default_target_is_the_laboratorys_or_else_the_modules(tmp_path: Path, rules: str, expected: set[str]) -> None:
    assert planned(Laboratory(tmp_path / "lab", rules).snakemake("-n")) == expected


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Laboratory:
    """One whose study has run."""
    laboratory = Laboratory(tmp_path_factory.mktemp("laboratory") / "lab", PREFIXED)
    result = laboratory.snakemake(*PROFILE)
    assert result.returncode == 0, result.stderr[-3000:]
    return laboratory


def test_a_laboratory_runs_its_own_study_of_its_own_variant(laboratory: Laboratory) -> None:
    assert "OURS" in (laboratory.folder / "results/studies/tiny/report.md").read_text()
    assert "Nothing to be done" in laboratory.snakemake(*PROFILE).stderr
    assert laboratory.snakemake("--report", "report.html").returncode == 0
    assert "The study as a paper" in (laboratory.folder / "report.html").read_text()


def test_a_job_that_is_refused_is_not_tried_again_and_a_report_says_so(laboratory: Laboratory, tmp_path: Path) -> None:
    other = laboratory.copy(tmp_path / "lab")
    other.study(variants=["OURS", {"variant": "OURS", "label": "WIDE", "training": TOO_WIDE}])
    result = other.snakemake(*PROFILE)
    assert result.returncode == 1
    assert "Some jobs failed. Logs: logs/" in result.stderr
    logs = [log.read_text() for log in other.folder.glob("logs/train/*.log")]
    assert sorted(log.count("too few for 4,096 tracks") for log in logs) == [0, 1]
    study = other.folder / "results/studies/tiny"
    runs = pd.read_parquet(study / "runs.parquet").set_index("variant")["status"]
    assert dict(runs) == {"OURS": "completed", "WIDE": "failed"}
    report = (study / "report.md").read_text()
    assert "1 of 2 planned runs has completed; 1 failed." in report
    assert "too few for 4,096 tracks" in report
    # What was written in passing is not taken for done.
    stages = ("all", "pack", "train", "evaluate", "probe", "aggregate", "claims", "figures", "report", "track")
    assert other.planned(*PROFILE) == {f"gt_{stage}": 1 for stage in stages}


def test_a_wrong_key_of_the_modules_configuration_is_one_message(tmp_path: Path) -> None:
    result = Laboratory(tmp_path / "lab", PREFIXED, stduy="tiny").snakemake("-n")
    assert result.returncode == 2
    assert "unknown key 'stduy'. Did you mean 'study'?" in result.stderr
    assert "Traceback" not in result.stderr


def test_rules_without_the_code_beside_them_are_refused(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "workflow", tmp_path / "repository/workflow")
    for arguments in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", "rules"]):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", "-C", tmp_path / "repository", *identity, *arguments], check=True)
    hosted = f'gitfile("{tmp_path / "repository"}", path="workflow/Snakefile", ref="HEAD")'
    result = Laboratory(tmp_path / "lab", PREFIXED, hosted).snakemake("-n")
    assert result.returncode == 2
    assert "clone the repository" in result.stderr
    assert "Traceback" not in result.stderr
