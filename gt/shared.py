"""The folders that come with a package: inside of it where it is installed, and beside it in its repository.

A wheel of this repository has gt/workflow, gt/report_templates and gt_upstream/config, which stand at the repository's top
(setup.py). A plug-in ships a config/ folder in the same way, under an entry point whose value is its package:

    [project.entry-points."groundthink.config"]
    mylab = "mylab"
"""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.metadata import Distribution, EntryPoint, distribution, entry_points
from importlib.util import find_spec
from pathlib import Path

from gt import project
from gt.errors import ConfigError

CONFIG = Path("config")
NAME = "groundthink"


@cache
def points(group: str) -> tuple[EntryPoint, ...]:
    """What packages say under `groundthink.<group>`. A checkout of gt speaks for itself, whatever is installed of it."""
    group = f"{NAME}.{group}"
    found = entry_points(group=group)
    file = Path(__file__).parents[1] / project.FILE
    own = tomllib.loads(file.read_text(encoding="utf-8")).get("project", {}) if file.is_file() else {}
    if own.get("name") != NAME:
        return tuple(sorted(found))
    others = [point for point in found if point.dist is None or point.dist.name != NAME]
    named = own["entry-points"].get(group, {})
    return tuple(sorted([*(EntryPoint(name, value, group) for name, value in named.items()), *others]))


def place_of(package: str) -> Path | None:
    """The folder of a package, or the file of one that is a single module; None where there is none. It is not imported."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        return None
    origin = Path(spec.origin)
    return origin.parent if origin.stem == "__init__" else origin


def shared(name: str, package: str = "gt") -> Path:
    """The folder of this name that comes with a package, which is not imported. ConfigError where there is none."""
    if (place := place_of(package)) is None:
        raise ConfigError(f"there is no package {package}.")
    home = place if place.is_dir() else place.parent
    for folder in (home / name, home.parent / name):
        if folder.is_dir():
            return folder
    raise ConfigError(f"{package} comes with no folder {name}: neither {home / name} nor {home.parent / name} is one.")


def configurations(own: Path = CONFIG) -> list[Path]:
    """A configuration folder and, after it, those that are installed. That of the project's own package is `own` itself."""
    mine = project.package(own.absolute().parent)
    packages = sorted({point.value for point in points("config")} - {mine})
    found = [own, *(shared("config", package) for package in packages)]
    return list({folder.resolve(): folder for folder in reversed(found)}.values())[::-1]


def templates() -> Path:
    """The report's templates: the project's own, if it has a folder of them, or else gt's."""
    own = Path("report_templates")
    return own if own.is_dir() else shared("report_templates")


def linked(folder: Path) -> Path:
    """Let a folder have links to gt and the plug-ins that are installed, and to nothing beside them; returns it.

    A Python of another environment, which has their dependencies, finds them there as they are.
    """
    known = entry_points()
    groups = [group for group in known.groups if group.startswith(f"{NAME}.")]
    found = [point for group in groups for point in known.select(group=group)]
    distributions = [distribution(NAME), *(point.dist for point in found if point.dist)]
    packages = {"gt", *(point.module.partition(".")[0] for point in found)}
    wanted = {place.name: place for place in (*map(_metadata, distributions), *filter(None, map(place_of, packages)))}
    folder.mkdir(parents=True, exist_ok=True)
    for name, place in wanted.items():
        link = folder / name
        if not link.is_symlink() or link.readlink() != place:
            link.unlink(missing_ok=True)
            link.symlink_to(place)
    return folder


def _metadata(own: Distribution) -> Path:
    """The folder that says of a distribution with entry points which ones it has."""
    (file,) = [file for file in own.files or () if file.name == "entry_points.txt"]
    return Path(str(own.locate_file(file))).parent
