"""The project that a command is called in: the folder with `pyproject.toml`, which names the project's own package.

    [tool.groundthink]
    package = "mylab"

Components of that package are found as those of a package that is installed, without being installed.
"""

from __future__ import annotations

import sys
import tomllib
from functools import cache
from pathlib import Path

from gt.errors import ConfigError

FILE, TABLE = "pyproject.toml", "groundthink"


@cache
def package(folder: Path | None = None) -> str | None:
    """The name of the project's package, which can be imported from now on; None where there is no project, or it has none.

    folder: the project's; by default the working directory. ConfigError for a table that says something else.
    """
    folder = (folder or Path.cwd()).resolve()
    file = folder / FILE
    if not file.is_file():
        return None
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8")).get("tool", {}).get(TABLE)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: is no TOML ({error}).") from None
    if table is None:
        return None
    if not isinstance(table, dict) or set(table) - {"package"}:
        raise ConfigError(f"{file}: tool.{TABLE}: allowed is the key package alone.")
    name = table.get("package")
    if not isinstance(name, str) or not name.isidentifier():
        raise ConfigError(f"{file}: tool.{TABLE}.package: {name!r} is not the name of a package.")
    if not (folder / name / "__init__.py").is_file():
        raise ConfigError(f"{file}: tool.{TABLE}.package: there is no {folder / name / '__init__.py'}.")
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    return name
