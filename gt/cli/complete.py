"""What a shell offers where a name of a variant, a claim, a run, a component is wanted.

A shell waits for it at every press of the key, so names are read off the files without what checks them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cyclopts.completion import CompletionContext

KEY = re.compile(r"^([\w.+-]+):", re.MULTILINE)


def variants(_: CompletionContext) -> list[str]:
    """The names in config/variants, and in those of packages that are installed."""
    from gt.shared import configurations

    return sorted({name for folder in configurations() for name in _keys(folder / "variants")})


def studies(_: CompletionContext) -> list[str]:
    """The names in config/studies, and in those of packages that are installed."""
    from gt.shared import configurations

    return sorted({file.stem for folder in configurations() for file in (folder / "studies").glob("*.yaml")})


def claims(_: CompletionContext) -> list[str]:
    """The ids in config/claims."""
    return [name for name in _keys(Path("config/claims")) if name[0].isupper()]  # arms are in lower case


def scales(_: CompletionContext) -> list[str]:
    """The names in config/scales.yaml, and in those of packages that are installed."""
    from gt.shared import configurations

    files = [folder / "scales.yaml" for folder in configurations()]
    return sorted({name for file in files if file.is_file() for name in KEY.findall(file.read_text(encoding="utf-8"))})


def records(_: CompletionContext) -> list[str]:
    """The ids of the runs that have a record."""
    return sorted(folder.name for folder in Path("results/runs").glob("*") if folder.is_dir())


def runs_of_plan(context: CompletionContext) -> list[str]:
    """The ids of the runs in the plan that the command line names already."""
    import json

    files = (context.get("plans") or context["plan"]).raw_tokens
    return sorted({run for file in files for run in json.loads(Path(file).read_text(encoding="utf-8"))["runs"]})


def kinds(_: CompletionContext) -> list[str]:
    """The kinds of components."""
    from gt.catalogue import KINDS

    return [kind.replace("_", "-") for kind in KINDS]


def components(context: CompletionContext) -> dict[str, str]:
    """The components of the kind that the command line names already, each with what it is."""
    from gt import catalogue

    kind = catalogue.kind_called(context["kind"].raw or "")
    return {own.name: own.summary for own in catalogue.components(kind).values()}


def comparisons(_: CompletionContext) -> list[str]:
    """What `gt bench` compares."""
    from gt.bench.candidates import NAMES

    return list(NAMES)


def _keys(folder: Path) -> list[str]:
    return sorted(name for file in folder.glob("*.yaml") for name in KEY.findall(file.read_text(encoding="utf-8")))
