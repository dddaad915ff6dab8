"""What a study can name: mixers, fusions and feed-forward layers, read from their source without importing torch.

A component is a class with a `name`, a docstring with `Formula:`, `Source:` and `Parameters:` lines, and keyword-only
constructor arguments: its options. Reading them syntactically keeps `gt --help` and the parsing of a workflow quick, and
makes the class the only place where a component is described.
"""

from __future__ import annotations

import ast
import importlib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

MODELS = Path(__file__).parent / "models"
KINDS: dict[str, str] = {"mixer": "mixers", "fusion": "fusions", "feed_forward": "feed_forward"}


@dataclass(frozen=True)
class Component:
    """One registered class. `options` maps an option's name to (type, default); `parameters` is the count that the
    docstring states, at d_model 128 with all options at their defaults.
    """

    kind: str
    name: str
    module: str
    class_name: str
    summary: str
    formula: str
    source: str
    parameters: int | None
    options: dict[str, tuple[Any, Any]]

    def load(self) -> Any:
        """The class itself (imports torch)."""
        return getattr(importlib.import_module(self.module), self.class_name)

    def costs(self, context: int) -> tuple[int, int]:
        """Floats of state and FLOPs a token at d_model 128 and `context` tokens, options at their defaults (imports torch)."""
        import torch

        with torch.device("meta"):
            if self.kind == "fusion":
                fusion = self.load()(128)
                return fusion.state_size(), fusion.flops_per_token()
            module = self.load()(128, 0, 1)
            return module.state_size(context), module.flops_per_token(context)


@cache
def components(kind: str) -> dict[str, Component]:
    """All components of a kind, by name, in alphabetical order."""
    folder = MODELS / KINDS[kind]
    found = [
        component
        for file in sorted(folder.glob("*.py"))
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef) and (component := _read(kind, file, node))
    ]
    names = [component.name for component in found]
    if duplicates := {name for name in names if names.count(name) > 1}:
        raise TypeError(f"two {kind} classes share the name {duplicates.pop()!r}")
    return {component.name: component for component in sorted(found, key=lambda c: c.name)}


def used_in(model: dict[str, Any]) -> list[Component]:
    """The components of a model, which is written as in a specification."""
    names = {("mixer", mixer["name"]) for mixer in model["mixers"].values()}
    names |= {(kind, model[kind]["name"]) for kind in ("fusion", "feed_forward") if model[kind]}
    return [components(kind)[name] for kind, name in sorted(names)]


def _read(kind: str, file: Path, node: ast.ClassDef) -> Component | None:
    """The component that a class definition describes; None for a base class, which has no `name`."""
    name = next(
        (
            ast.literal_eval(statement.value)
            for statement in node.body
            if isinstance(statement, (ast.Assign, ast.AnnAssign))
            and statement.value is not None
            and _target(statement) == "name"
        ),
        None,
    )
    if name is None:
        return None
    doc = ast.get_docstring(node) or ""
    return Component(
        kind=kind,
        name=name,
        module=f"gt.models.{KINDS[kind]}.{file.stem}",
        class_name=node.name,
        summary=doc.split("\n\n")[0].replace("\n", " "),
        formula=_field(doc, "Formula"),
        source=_field(doc, "Source"),
        parameters=int(count.group(1).replace(",", ""))
        if (count := re.match(r"([\d,]+)", _field(doc, "Parameters")))
        else None,
        options=_options(node),
    )


def _target(statement: ast.Assign | ast.AnnAssign) -> str | None:
    target = statement.targets[0] if isinstance(statement, ast.Assign) else statement.target
    return target.id if isinstance(target, ast.Name) else None


def _field(doc: str, label: str) -> str:
    """The text after `Label:` up to the next label or blank line."""
    match = re.search(rf"^{label}:\s*(.+?)(?=\n\s*\n|\n[A-Z]\w+:|\Z)", doc, re.MULTILINE | re.DOTALL)
    return " ".join(match.group(1).split()) if match else ""


def _options(node: ast.ClassDef) -> dict[str, tuple[Any, Any]]:
    """The keyword-only arguments of `__init__`, each with a plain annotation and a constant default."""
    init = next((s for s in node.body if isinstance(s, ast.FunctionDef) and s.name == "__init__"), None)
    if init is None:
        return {}
    options = {}
    for argument, default in zip(init.args.kwonlyargs, init.args.kw_defaults, strict=True):
        if argument.annotation is None or default is None:
            raise TypeError(f"{node.name}: option {argument.arg!r} needs an annotation and a default")
        annotation = ast.unparse(argument.annotation)
        options[argument.arg] = (eval(annotation, {"Literal": Literal}), ast.literal_eval(default))
    return options
