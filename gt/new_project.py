"""A project of one's own, from the one in gt/templates/project, which is called mylab."""

from __future__ import annotations

import keyword
import re
import shutil
from importlib.util import find_spec
from pathlib import Path

from gt.analysis.claims import load_claims
from gt.analysis.registration import register
from gt.errors import ConfigError
from gt.shared import shared

TEMPLATE = Path(__file__).parent / "templates/project"
CALLED = "mylab"
# What a folder may have already, as one that git or a forge has made.
ALLOWED = {".git"}


def create(folder: Path) -> str:
    """Make a project in a folder that is new or empty; the name of its package, which is the folder's, is returned.

    The claim of its example is registered now, before any run. ConfigError, and nothing is written, for another folder, and
    for a name that no package can have.
    """
    name = folder.resolve().name
    _check_name(name, folder)
    if folder.exists() and (not folder.is_dir() or {own.name for own in folder.iterdir()} - ALLOWED):
        raise ConfigError(f"{folder}: is there already, and nothing in it is overwritten. Name a new or empty folder.")
    for source in sorted(TEMPLATE.rglob("*")):
        if source.is_file() and "__pycache__" not in source.parts:
            file = folder / str(source.relative_to(TEMPLATE)).replace(CALLED, name)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(source.read_text(encoding="utf-8").replace(CALLED, name), encoding="utf-8")
    shutil.copytree(shared("workflow") / "profiles", folder / "profiles")
    claims = folder / "config/claims"
    register(claims, load_claims(claims))
    return name


def _check_name(name: str, folder: Path) -> None:
    """ConfigError for what cannot be the name of a package beside those that are there."""
    if not name.isidentifier() or keyword.iskeyword(name):
        near = re.sub(r"\W+", "_", name).strip("_").lower()
        near = near if near.isidentifier() and not keyword.iskeyword(near) else f"lab_{near}".rstrip("_")
        raise ConfigError(f"{folder}: {name!r} cannot be the name of a Python package. Did you mean {near!r}?")
    if (spec := find_spec(name)) is not None and spec.origin is not None:
        raise ConfigError(
            f"{folder}: there is a Python module {name} already, which one of this name would hide. Choose another."
        )
