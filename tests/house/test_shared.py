"""What a project does not have is looked for in the plug-ins that are installed."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from gt import shared as module
from gt.errors import ConfigError
from gt.shared import configurations, linked, points, shared
from gt.study import load_scales, load_variants, study_file

ROOT = Path(__file__).parents[2]
VARIANT = "{name}: {{title: {title}, source: s, model: {{layers: a, mixers: {{a: {{name: attention}}}}}}}}\n"


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The configuration of an installed package, which has a study, a scale and a variant."""
    config = tmp_path / "site/visitor/config"
    for folder in ("studies", "variants", "claims"):
        (config / folder).mkdir(parents=True)
    (config.parent / "__init__.py").touch()
    (config / "studies/tour.yaml").touch()
    (config / "scales.yaml").write_text("S: {d_model: 8}\n")
    (config / "variants/v.yaml").write_text(VARIANT.format(name="VISIT", title="theirs"))
    metadata = tmp_path / "site/visitor-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: visitor\nVersion: 1.0\n")
    (metadata / "RECORD").write_text("visitor-1.0.dist-info/entry_points.txt,,\n")
    (metadata / "entry_points.txt").write_text("[groundthink.config]\nvisitor = visitor\n")
    monkeypatch.syspath_prepend(tmp_path / "site")
    points.cache_clear()
    yield config
    points.cache_clear()


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A project's configuration."""
    for folder in ("studies", "variants"):
        (tmp_path / "lab/config" / folder).mkdir(parents=True)
    return tmp_path / "lab/config"


def test_a_checkout_says_itself_what_it_has() -> None:
    named = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    groups = [group.removeprefix("groundthink.") for group in named if group.startswith("groundthink.")]
    assert "config" in groups
    for group in groups:
        assert named[f"groundthink.{group}"].items() <= {(point.name, point.value) for point in points(group)}


def test_a_projects_own_configuration_comes_first(own: Path, plugin: Path) -> None:
    assert configurations(own) == [own, shared("config", "gt_upstream"), plugin]


def test_the_configuration_that_ships_is_not_found_twice() -> None:
    assert configurations(ROOT / "config") == [ROOT / "config"]


def test_a_plug_in_in_its_own_repository_is_the_project(plugin: Path) -> None:
    project = plugin.parents[1]
    (project / "pyproject.toml").write_text('[tool.groundthink]\npackage = "visitor"\n')
    (project / "config").mkdir()
    assert configurations(project / "config") == [project / "config", shared("config", "gt_upstream")]


def test_a_plug_in_without_the_folder_that_it_names_is_refused(own: Path, plugin: Path) -> None:
    plugin.rename(plugin.parent / "other")
    with pytest.raises(ConfigError, match="visitor comes with no folder config"):
        configurations(own)


def test_a_study_is_the_projects_or_else_one_that_is_installed(own: Path, plugin: Path) -> None:
    tour = own / "studies/tour.yaml"
    assert study_file(tour) == plugin / "studies/tour.yaml"
    tour.touch()
    assert study_file(tour) == tour
    with pytest.raises(ConfigError, match=r"there is no study 'smok'\. Did you mean 'smoke'\?"):
        study_file(own / "studies/smok.yaml")


def test_variants_and_scales_of_plug_ins_are_there_and_keep_their_names(own: Path, plugin: Path) -> None:
    folders = configurations(own)
    mine = own / "variants/mine.yaml"
    mine.write_text(VARIANT.format(name="OURS", title="ours"))
    assert {"OURS", "VISIT", "GF"} <= load_variants(*(folder / "variants" for folder in folders)).keys()
    assert {"S", "8M"} <= load_scales(*(folder / "scales.yaml" for folder in folders)).keys()
    mine.write_text(VARIANT.format(name="VISIT", title="ours"))
    with pytest.raises(ConfigError, match=r"mine\.yaml, line 1: VISIT: .*v\.yaml, line 1 has another variant of this name"):
        load_variants(*(folder / "variants" for folder in folders))
    (own / "scales.yaml").write_text("S: {d_model: 16}\n")
    with pytest.raises(ConfigError, match=r"lab/config/scales\.yaml, line 1: S: there is another scale of this name"):
        load_scales(*(folder / "scales.yaml" for folder in folders))


def test_links_lead_to_gt_and_the_plug_ins_and_to_nothing_else(plugin: Path, tmp_path: Path) -> None:
    folder = linked(tmp_path / "links")
    found = {link.name: link.resolve() for link in folder.iterdir()}
    assert found["gt"] == Path(module.__file__).parent
    assert found["visitor"] == plugin.parent
    assert {"visitor-1.0.dist-info", "gt", "visitor"} <= found.keys()
    assert not found.keys() & {"numpy", "torch", "pydantic"}
    before = {link.name: link.lstat().st_ino for link in folder.iterdir()}
    assert {link.name: link.lstat().st_ino for link in linked(folder).iterdir()} == before
