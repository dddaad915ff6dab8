"""Components are found wherever they come from, and their options are read without importing anything of theirs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gt import catalogue, project, shared
from gt.catalogue import MODEL_KINDS, Component, component, components
from gt.errors import ConfigError
from gt.options import Options

CACHES = (
    *(catalogue.components, catalogue._files, catalogue._tree, catalogue._statements, catalogue._attribute),
    *(shared.points, project.package),
)
ALL = [own for kind in MODEL_KINDS for own in components(kind).values()]
# Nobody may import it: what it is, is read.
HEAD = (
    "raise ImportError('it is not imported')\n\nfrom gt.models.fusions.base import Fusion\nfrom gt.options import Options\n\n\n"
)


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of packages where a command is called, which the catalogue has not seen yet."""
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.chdir(tmp_path)
    forget()
    yield tmp_path
    forget()


def forget() -> None:
    """As another process."""
    for cached in CACHES:
        cached.cache_clear()
    for module in [name for name in sys.modules if name.split(".")[0] == "lab"]:
        del sys.modules[module]


def write(folder: Path, **files: str) -> None:
    """Modules of the package lab, by their names."""
    for name, text in {"__init__": "", **files}.items():
        path = folder / "lab" / f"{name.replace('__', '/') if name != '__init__' else name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def fusion(name: str, body: str = "", base: str = "Fusion", title: str = "Own") -> str:
    indented = "".join(f"    {line}\n" for line in body.splitlines())
    return f'class {title}({base}):\n    """One.\n\n    Formula: y = r\n    """\n\n    name = "{name}"\n{indented}\n\n'


def install(folder: Path, value: str, group: str = "groundthink.fusions") -> None:
    """A distribution that names a module, or a class in one, under an entry point."""
    about = folder / "lab_tools-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: lab-tools\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[{group}]\nown = {value}\n")


def open_project(folder: Path) -> None:
    (folder / "pyproject.toml").write_text('[tool.groundthink]\npackage = "lab"\n')


# Where they come from


@pytest.mark.parametrize("module", ["fusions", "fusions__more", "anywhere__else"])
def test_a_component_is_found_by_the_entry_point_of_a_distribution(outside: Path, module: str) -> None:
    packages = {f"{module.partition('__')[0]}____init__": ""} if "__" in module else {}
    write(outside, **packages, **{module: HEAD + fusion("own")})
    before = set(components("fusion"))
    forget()
    install(outside, "lab.fusions" if module.startswith("fusions") else "lab.anywhere")
    found = components("fusion")
    assert set(found) - before == {"own"}
    assert found["own"].module == f"lab.{module.replace('__', '.')}".removesuffix(".__init__")
    assert (found["own"].class_name, found["own"].summary, found["own"].formula) == ("Own", "One.", "y = r")


@pytest.mark.parametrize("module", ["fusions", "fusions__more"])
def test_a_component_is_found_in_the_project_s_package(outside: Path, module: str) -> None:
    write(outside, **{module: HEAD + fusion("own")}, **({"fusions____init__": ""} if "__" in module else {}))
    open_project(outside)
    assert component("fusion", "own").module == f"lab.{module.replace('__', '.')}"


def test_what_is_found_both_ways_is_one(outside: Path) -> None:
    write(outside, fusions=HEAD + fusion("own"))
    install(outside, "lab.fusions")
    open_project(outside)
    assert component("fusion", "own").module == "lab.fusions"


def test_an_entry_point_of_a_class_brings_that_class_alone(outside: Path) -> None:
    write(outside, fusions=HEAD + fusion("own") + fusion("other", title="Other"))
    install(outside, "lab.fusions:Own")
    assert "own" in components("fusion")
    assert "other" not in components("fusion")


def test_a_class_without_a_name_of_its_own_is_no_component(outside: Path) -> None:
    write(outside, fusions=HEAD + "class Base(Fusion):\n    pass\n\n\n" + fusion("own", base="Base"))
    install(outside, "lab.fusions")
    before = set(components("mixer"))
    assert component("fusion", "own").class_name == "Own"
    assert set(components("mixer")) == before, "an entry point counts for its own kind"


# What is wrong is said


def test_an_entry_point_without_a_module_is_refused_by_its_distribution(outside: Path) -> None:
    install(outside, "lab.nowhere")
    with pytest.raises(ConfigError, match=r"entry point 'own' .*of lab-tools: there is no module lab\.nowhere"):
        components("fusion")


def test_a_syntax_error_is_said_with_its_file_and_line(outside: Path) -> None:
    write(outside, fusions="x = 1\nclass Own(:\n")
    open_project(outside)
    with pytest.raises(ConfigError, match=r"lab/fusions\.py:2: "):
        components("fusion")


@pytest.mark.parametrize("name", ["own", "gated"])
def test_two_components_of_one_name_are_refused_by_both(outside: Path, name: str) -> None:
    twice = fusion("own") + fusion("own", title="Again") if name == "own" else fusion("gated")
    write(outside, fusions=HEAD + twice)
    open_project(outside)
    both = "lab.fusions.Own and lab.fusions.Again" if name == "own" else "gt.models.fusions.gated.Gated and lab.fusions.Own"
    with pytest.raises(ConfigError, match=f"two components of kind fusion are called '{name}': {both}"):
        components("fusion")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("class Config:\n    width: int = 1", r"lab\.fusions\.Own\.Config must be derived from gt\.options\.Options"),
        ("Config = 7", r"lab\.fusions\.Own\.Config must be derived from gt\.options\.Options"),
        ("class Config(Options):\n    width: Wdith = 1", r"lab/fusions\.py:\d+: Own\.Config: name 'Wdith' is not defined"),
    ],
)
def test_a_config_that_is_no_model_of_options_is_refused_by_name(outside: Path, body: str, said: str) -> None:
    write(outside, fusions=HEAD.partition("\n\n")[2] + fusion("own", body))
    open_project(outside)
    with pytest.raises(ConfigError, match=said):
        _ = component("fusion", "own").config


# Options


def defaults(outside: Path) -> dict[str, object]:
    """Of the options of the project's fusion `own`, which is not imported for it."""
    open_project(outside)
    config = component("fusion", "own").config
    assert "lab.fusions" not in sys.modules
    assert issubclass(config, Options)
    return {name: field.default for name, field in config.model_fields.items()}


def test_a_component_without_a_config_has_no_options(outside: Path) -> None:
    write(outside, fusions=HEAD + fusion("own"))
    assert defaults(outside) == {}


def test_a_config_may_name_constants_and_helpers_of_its_module(outside: Path) -> None:
    helpers = (
        "from typing import Annotated\n\nfrom pydantic import Field, model_validator\n\nLOW, HIGH = 2, 9\nWIDTH = LOW + 1\n\n\n"
        "def even(n):\n    return n if n % 2 == 0 else odd(n)\n\n\ndef odd(n):\n    return even(n + 1)\n\n\n"
        "Small = Annotated[int, Field(ge=LOW, le=HIGH)]\n\n\n"
    )
    body = (
        "class Config(Options):\n    width: Small = even(WIDTH)\n\n    @model_validator(mode='after')\n    def check(self):\n"
        "        if self.width == 6:\n            raise ValueError('six is not')\n        return self"
    )
    write(outside, fusions=HEAD + helpers + fusion("own", body))
    assert defaults(outside) == {"width": 4}
    config = component("fusion", "own").config
    for width in (1, 10, 6):
        with pytest.raises(ValueError, match="six is not|greater than|less than"):
            config.model_validate({"width": width})


BASE = HEAD + "class Base(Fusion):\n    class Config(Options):\n        width: int = 3\n"
OWN = fusion("own", base="Base")
EXTENDED = fusion("own", "class Config(Base.Config):\n    depth: int = 5", base="Base")


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"base": BASE, "fusions": "from lab.base import Base\n" + OWN}, {"width": 3}),
        ({"base": BASE, "fusions": "from .base import Base\n" + OWN}, {"width": 3}),
        ({"base": BASE, "fusions": "from lab.base import Base as B\n" + OWN.replace("(Base)", "(B)")}, {"width": 3}),
        ({"base": BASE, "all": "from lab.base import Base\n", "fusions": "from lab.all import Base\n" + OWN}, {"width": 3}),
        ({"base": BASE, "fusions": "from lab.base import Base\n" + EXTENDED}, {"width": 3, "depth": 5}),
        ({"fusions": BASE + EXTENDED}, {"width": 3, "depth": 5}),
        ({"fusions": HEAD + "from gt.models.fusions.constant import Weighted\n" + fusion("own", base="Weighted")}, None),
        ({"base": "from gt.options import Options\n\n\nclass Wide(Options):\n    width: int = 3\n",
          "fusions": "from lab.base import Wide\n" + HEAD + fusion("own", "Config = Wide")}, {"width": 3}),
    ],
    ids=["from another module", "relative", "under another name", "handed on", "extended", "in its own module", "of ours",
         "shared"],
)  # fmt: skip
def test_a_config_may_be_that_of_another_class(
    outside: Path, files: dict[str, str], expected: dict[str, object] | None
) -> None:
    write(outside, **files)
    assert defaults(outside) == (expected or {"gate_init": 0.5})


@pytest.mark.parametrize("own", ALL, ids=lambda own: f"{own.kind}-{own.name}")
def test_options_that_are_read_are_those_that_are_imported(own: Component) -> None:
    imported = own.load().Config
    assert own.config is not imported or imported is Options
    assert own.config.model_json_schema() == imported.model_json_schema()
    assert own.config.model_config == imported.model_config
    assert {name: repr(field) for name, field in own.config.model_fields.items()} == {
        name: repr(field) for name, field in imported.model_fields.items()
    }
