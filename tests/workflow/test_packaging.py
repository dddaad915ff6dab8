"""The places that name a dependency agree."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def pins(lines: list[str]) -> dict[str, str]:
    """Package -> its exact version."""
    return {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}


def lock() -> dict[str, str]:
    return pins([line for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#")])


def test_the_lock_pins_every_dependency_at_an_allowed_version() -> None:
    locked = lock()
    extras = PROJECT["optional-dependencies"]
    own = f"{PROJECT['name']}[docs]"  # which the tests build as well
    assert own in extras["test"]
    for text in [*PROJECT["dependencies"], *extras["docs"], *(text for text in extras["test"] if text != own)]:
        requirement = Requirement(text)
        assert requirement.specifier.contains(locked[canonicalize_name(requirement.name)]), text


def test_the_lock_is_for_every_machine() -> None:
    locked = lock()
    assert "groundthink" not in locked
    assert not [f"{name}=={version}" for name, version in locked.items() if "+" in version or name.startswith("nvidia")]


def test_the_rules_environment_is_the_lock_without_what_no_job_needs() -> None:
    *_, packages = yaml.safe_load((ROOT / "workflow/envs/gt.yaml").read_text())["dependencies"]
    locked = lock()
    needed = {canonicalize_name(Requirement(text).name) for text in PROJECT["dependencies"]} - {"snakemake", "pytest"}
    assert pins(packages["pip"]) == {name: locked[name] for name in needed}


@pytest.mark.parametrize("file", ["environment.yml", "workflow/envs/gt.yaml"])
def test_environments_name_the_one_channel_that_every_conda_knows(file: str) -> None:
    # conda takes the pseudo-channel `nodefaults`, which some write beside it, for a server's name.
    assert yaml.safe_load((ROOT / file).read_text())["channels"] == ["conda-forge"]


@pytest.mark.parametrize("file", sorted((ROOT / "workflow/envs").iterdir()), ids=lambda file: file.name)
def test_a_rules_environment_names_packages_and_no_file(file: Path) -> None:
    # Snakemake makes it from a copy of its file in --conda-prefix, where a relative path leads nowhere.
    *_, packages = yaml.safe_load(file.read_text())["dependencies"]
    assert [str(Requirement(line)) for line in packages["pip"]] == packages["pip"]


def test_a_setting_that_is_left_out_is_as_the_configuration_here_has_it() -> None:
    (settings,) = re.findall(
        r"^SETTINGS = (\{.*?^\})", (ROOT / "workflow/rules/common.smk").read_text(), re.MULTILINE | re.DOTALL
    )
    here = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    assert {**ast.literal_eval(settings), "study": here["study"]} == here


def test_the_whole_environment_is_this_project_at_the_versions_of_the_lock() -> None:
    *_, packages = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert packages["pip"] == ["--constraint requirements.lock", "--editable ."]
