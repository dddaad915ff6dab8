"""What `gt init` makes, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from gt.analysis.claims import load_claims
from gt.analysis.registration import read
from gt.errors import ConfigError
from gt.new_project import TEMPLATE, create

ROOT = Path(__file__).parents[2]


def files(folder: Path) -> set[str]:
    """The names of all files in a folder."""
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


def test_a_project_is_the_template_under_another_name(tmp_path: Path) -> None:
    assert create(tmp_path / "ourlab") == "ourlab"
    kept = {name for name in files(TEMPLATE) if "__pycache__" not in name}
    profiles = {f"profiles/{name}" for name in files(ROOT / "workflow/profiles")}
    expected = {name.replace("mylab", "ourlab") for name in kept} | profiles | {"config/claims/registered.jsonl"}
    assert files(tmp_path / "ourlab") == expected
    assert not [name for name in expected if "mylab" in (tmp_path / "ourlab" / name).read_text()]


def test_the_claim_of_the_example_is_registered_as_it_stands(tmp_path: Path) -> None:
    create(tmp_path / "ourlab")
    claims = tmp_path / "ourlab/config/claims"
    entered = read(claims)
    assert {name: entry.sha256 for name, entry in entered.items()} == {
        name: claim.sha256 for name, claim in load_claims(claims).items()
    }


def test_the_example_is_of_three_seeds_and_in_words_of_one_screen() -> None:
    study = yaml.safe_load((TEMPLATE / "config/studies/example.yaml").read_text())
    assert (len(study["variants"]), study["seeds"]) == (2, 3)
    assert len((TEMPLATE / "README.md").read_text().splitlines()) <= 40
    assert len((TEMPLATE / "Snakefile").read_text().splitlines()) <= 25


@pytest.mark.parametrize("name", [".", "here"])
def test_an_empty_folder_that_git_knows_becomes_a_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (tmp_path / "here/.git").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here" if name == "." else tmp_path)
    assert create(Path(name)) == "here"
    assert (tmp_path / "here/here/fusions.py").is_file()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("my-lab", "'my-lab' cannot be the name of a Python package. Did you mean 'my_lab'?"),
        ("2nd", "Did you mean 'lab_2nd'?"),
        ("class", "Did you mean 'lab_class'?"),
        ("numpy", "there is a Python module numpy already"),
        ("sys", "there is a Python module sys already"),
        ("gt", "there is a Python module gt already"),
        ("full", "full: is there already, and nothing in it is overwritten"),
        ("file", "file: is there already, and nothing in it is overwritten"),
    ],
)
def test_a_project_that_cannot_be_made_is_refused_and_nothing_is_written(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/notes.txt").touch()
    (tmp_path / "file").touch()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ConfigError) as caught:
        create(tmp_path / name)
    assert message in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before
