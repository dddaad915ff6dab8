"""Which code was executed, by the interpreter's own word, to hold what is said of it against."""

from __future__ import annotations

import ast
import inspect
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Any

from gt.closure import IMPORTED, Code, Place


@contextmanager
def executed() -> Iterator[set[CodeType]]:
    """The functions of gt and gt_upstream that are called meanwhile, and their modules that are imported (as their `<module>`).

    What a module calls only because its import defines something is left out.
    """
    found: set[CodeType] = set()

    def note(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event != "call" or code in found or not _is_ours(frame):
            return
        if code.co_name == "<module>" or (code.co_flags & inspect.CO_OPTIMIZED and not _in_import(frame.f_back)):
            found.add(code)

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        yield found
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def _is_ours(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__")).split(".")[0] in ("gt", "gt_upstream")


def _in_import(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_name == "<module>" and _is_ours(frame):
            return True
        frame = frame.f_back
    return False


def outside(called: set[CodeType], code: Code, closure: set[Place]) -> list[str]:
    """What was executed and is in no definition of a closure."""
    missing = []
    modules = {str(code.module(name).file): code.module(name) for name in _modules(code)}
    for own in called:
        module = modules.get(own.co_filename)
        if module is None:  # what dataclasses and the like have generated
            continue
        if own.co_name == "<module>":
            is_in = (module.name, IMPORTED) in closure
        else:
            names = {name for name, nodes in module.definitions.items() for node in nodes if _holds(node, own)}
            names |= {IMPORTED for node in module.effects if _holds(node, own)}
            is_in = any((module.name, name) in closure for name in names)
        if not is_in:
            missing.append(f"{module.name}:{own.co_qualname}")
    return sorted(missing)


def _holds(node: ast.stmt, own: CodeType) -> bool:
    first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
    return first <= own.co_firstlineno <= (node.end_lineno or first)


def _modules(code: Code) -> list[str]:
    names = [
        ".".join((package, *file.relative_to(folder).with_suffix("").parts))
        for package, folder in code.packages.items()
        for file in folder.rglob("*.py")
    ]
    return [name.removesuffix(".__init__") for name in names]
