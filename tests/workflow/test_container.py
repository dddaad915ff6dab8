"""The image that the Containerfile makes, as far as it can be known without building it, and jobs that run in one.

`make test-container` builds it (tests/container).
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from checkouts import ROOT, Checkout
from environments import apptainer, conda, environment
from packaging.requirements import Requirement

FILE = ROOT / "Containerfile"


def test_hadolint_has_nothing_to_say() -> None:
    result = subprocess.run([Path(sys.executable).with_name("hadolint"), FILE], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, "")


def test_both_images_are_of_one_base_that_its_digest_names() -> None:
    text = FILE.read_text()
    (base,) = re.findall(r"^ARG BASE=(.+)$", text, re.MULTILINE)
    assert re.fullmatch(r"[a-z./-]+:[a-z-]+@sha256:[0-9a-f]{64}", base)
    stages: list[str] = re.findall(r"^FROM .+ AS ([a-z-]+)$", text, re.MULTILINE)
    assert {"cpu", "cuda"} < set(stages)
    assert set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) <= {"${BASE}", *stages}


def test_an_image_has_the_versions_of_the_lock() -> None:
    installs = re.findall(r"bin/pip install(.+)$", FILE.read_text(), re.MULTILINE)
    assert len(installs) == 5
    for options in installs:
        named = [word for word in options.split() if re.match(r"[a-z]", word)]
        assert "--constraint /requirements.lock" in options or all("==" in word for word in named), options
    extras = project()["optional-dependencies"]
    allowed = {Requirement(text).name: Requirement(text).specifier for text in [*extras["gpu"], *extras["s3"]]}
    named = re.findall(r" (nvidia-ml-py|s3fs)==(\S+)", FILE.read_text())
    assert {name for name, _ in named} == {"nvidia-ml-py", "s3fs"}
    assert all(allowed[name].contains(version) for name, version in named)


def test_what_an_image_is_built_from_makes_the_wheel_and_is_no_more() -> None:
    sent = {line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    named = {"pyproject.toml", "setup.py", "requirements.lock", project()["readme"], *project()["license-files"]}
    assert sent == {*named, "gt", "gt_upstream", "workflow", "report_templates", "config"}


def project() -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return found


@dataclass
class Apptainer:
    """An apptainer, Snakemake alone, and an image that has what `make run` installs."""

    folder: Path
    python: Path

    def snakemake(self, checkout: Checkout, *arguments: str, **settings: Any) -> subprocess.CompletedProcess[str]:
        variables = {
            "PATH": f"{self.folder / 'bin'}:/usr/bin:/bin",
            "GT_CORPUS_DIR": str(self.folder),
            **settings.pop("variables", {}),
        }
        return checkout.snakemake("--sdm", "apptainer", *arguments, python=self.python, variables=variables, **settings)

    def calls(self) -> list[dict[str, Any]]:
        file = self.folder / "calls"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Apptainer:
    folder = tmp_path_factory.mktemp("apptainer")
    apptainer(folder)
    environment(folder / "image", project()["dependencies"])
    return Apptainer(folder, environment(tmp_path_factory.mktemp("alone"), ["snakemake"]))


@pytest.fixture
def checkout(host: Apptainer, tmp_path: Path) -> Checkout:
    """One whose results/ lie elsewhere, with an image."""
    checkout = Checkout(tmp_path / "c")
    checkout.study(variants=["GPT-2"], seeds=1, evaluations=[])
    (tmp_path / "scratch").mkdir()
    (checkout.folder / "results").symlink_to(tmp_path / "scratch")
    (checkout.folder / "groundthink.sif").write_text(str(host.folder / "image/bin"))
    return checkout


def test_jobs_run_in_the_image_on_the_same_folders_and_see_the_gpu(host: Apptainer, checkout: Checkout, tmp_path: Path) -> None:
    result = host.snakemake(checkout, "--until", "tokenize", variables={"CUDA_VISIBLE_DEVICES": "0"})
    assert result.returncode == 0, result.stderr[-3000:]
    assert list((tmp_path / "scratch/data").glob("*/char/tokens.json"))
    calls = host.calls()
    assert [re.findall(r";\s+gt (\w+) --", call["command"]) for call in calls] == [["corpus"], ["tokenize"]]
    for call in calls:
        assert call["home"] == str(checkout.folder)
        bound = {after for option, after in zip(call["options"], call["options"][1:], strict=False) if option == "--bind"}
        assert {str(checkout.folder), str(tmp_path / "scratch"), str(host.folder)} <= bound
        assert "--nv" in call["options"]


def test_an_image_that_is_not_there_is_missed_before_anything_runs(host: Apptainer, checkout: Checkout) -> None:
    result = host.snakemake(checkout, "-n", container="other.sif")
    assert result.returncode == 2
    assert "config: container: there is no other.sif." in result.stderr
    assert "podman build --target cpu" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_job_has_one_environment(host: Apptainer, checkout: Checkout, tmp_path: Path) -> None:
    variables = {"PATH": f"{conda(tmp_path / 'conda')}:{host.folder / 'bin'}:/usr/bin:/bin"}
    result = host.snakemake(checkout, "conda", "-n", variables=variables)
    assert result.returncode == 2
    assert "let --sdm be apptainer alone, or conda" in result.stderr
