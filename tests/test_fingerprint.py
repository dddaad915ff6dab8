"""What code a result is said to be made by is all the code that made it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from gt.fingerprint import PACKAGE, PROBING_PARTS, TRAINING_PARTS

# Messages, files, and what a study may name: they decide no number of a run that is being measured.
NEUTRAL = ("catalogue", "documents", "errors", "explain", "fingerprint", "records", "study")


def imported(file: Path) -> Iterator[Path]:
    """The modules of the package that one imports, wherever in it."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            path = PACKAGE.parent / name.replace(".", "/")
            if name.startswith("gt.") and path.with_suffix(".py").exists():
                yield path.with_suffix(".py")


def test_all_that_the_probes_import_is_in_their_fingerprint() -> None:
    found = set((PACKAGE / "probes").rglob("*.py"))
    todo = list(found)
    while todo:
        new = set(imported(todo.pop())) - found
        found |= new
        todo += new
    reached = {file.relative_to(PACKAGE).with_suffix("").as_posix() for file in found}
    listed = (*TRAINING_PARTS, *PROBING_PARTS, *NEUTRAL)
    assert [name for name in sorted(reached) if not any(name == part or name.startswith(f"{part}/") for part in listed)] == []
    assert "evals/generation" in reached
