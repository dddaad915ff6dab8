"""The places that name a dependency agree."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from environments import required as required_by
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


@pytest.mark.parametrize("file", ["environment.yml", "environment.linux-64.yml", "workflow/envs/gt.yaml"])
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


def summed() -> dict[str, tuple[str, list[str]]]:
    """Package -> its version and the sums of its files, of the lock for Linux."""
    lines = (ROOT / "requirements.linux-64.lock").read_text().replace("\\\n", "").splitlines()
    entries = [line.split() for line in lines if not line.startswith("#")]
    requirements = [Requirement(entry) for entry, *_ in entries]
    versions = [str(requirement.specifier).removeprefix("==") for requirement in requirements]
    return {
        canonicalize_name(requirement.name): (version, sums)
        for requirement, version, (_, *sums) in zip(requirements, versions, entries, strict=True)
    }


def test_the_lock_for_linux_has_the_versions_of_the_lock_and_a_sum_for_each() -> None:
    found, locked = summed(), lock()
    assert {name: version for name, (version, _) in found.items() if name in locked} == {
        name: version for name, version in locked.items() if name in found
    }
    assert all(sums and all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", own) for own in sums) for _, sums in found.values())


def test_the_lock_for_linux_is_whole() -> None:
    # Whatever the project requires, as installed here, is in it. A torch for CPUs lacks CUDA, which is looked for by one name.
    found = summed()
    required = {canonicalize_name(text.metadata["Name"]) for text in required_by(PROJECT["dependencies"])}
    assert required - found.keys() == set()
    build = Requirement(*tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"])
    assert build.specifier.contains(found[build.name][0])
    assert "nvidia-cublas" in found


def test_the_environment_of_sums_is_that_of_the_project_with_an_exact_python() -> None:
    python, *others, packages = yaml.safe_load((ROOT / "environment.linux-64.yml").read_text())["dependencies"]
    wanted, *same, _ = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert re.fullmatch(rf"{re.escape(wanted)}\.\d+", python)
    assert others == same
    assert packages["pip"] == ["--require-hashes", "--requirement requirements.linux-64.lock"]
