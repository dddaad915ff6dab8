"""What a study can name: the components of each kind, wherever they come from. Imports no torch.

A component is a class with a `name`, a docstring with `Formula:` and `Source:`, and a nested `Config`, the frozen pydantic
model of its options (`gt.options.Options`). There is no list to edit. Components are found

- in gt itself,
- in packages that are installed, by an entry point `groundthink.<kinds>` whose value is a module, a package, or `module:Class`,
- in the project's own package (`gt.project`): in its module or subpackage of that kind's name, as `mylab/fusions.py`.

Which components there are is read from their source, and so is `Config`: the statement of the class is executed with what it
names, and not the module around it, which as a rule imports torch; and so are the `metrics` of an evaluation or probe. That
keeps the planning of a study quick, and possible where torch is not installed.
"""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from gt import project
from gt.errors import ConfigError, entry, nearest
from gt.metrics import Metric
from gt.options import Options
from gt.shared import place_of, points

# By kind, what several are called: a group of entry points, and a module of a project's package. And where gt's own are.
KINDS: dict[str, str] = {
    "mixer": "mixers",
    "fusion": "fusions",
    "feed_forward": "feed_forward",
    "corpus": "corpora",
    "optimizer": "optimizers",
    "evaluation": "evaluations",
    "probe": "probes",
    "check": "checks",
}
OWN: dict[str, str] = {
    "mixer": "gt.models.mixers",
    "fusion": "gt.models.fusions",
    "feed_forward": "gt.models.feed_forward",
    "corpus": "gt.data.readers",
    "optimizer": "gt.training.optimizers",
    "evaluation": "gt.evals",
    "probe": "gt.probes",
    "check": "gt.probes.checks",
}
# What models are made of.
MODEL_KINDS = ("mixer", "fusion", "feed_forward")
Statements = dict[str, ast.stmt]


@dataclass(frozen=True)
class Component:
    """One class. `parameters` is the count that its docstring states, at d_model 128 with all options at their defaults."""

    kind: str
    name: str
    module: str
    class_name: str
    summary: str
    formula: str
    source: str
    parameters: int | None

    @property
    def prefix(self) -> str | None:
        """What the names begin with that it stands for, as `file:` of one called `file:<path>`; None of one with one name."""
        return self.name.partition("<")[0] if "<" in self.name else None

    @property
    def origin(self) -> str:
        """Where it comes from: `gt`, the project's package, or the distribution that is installed."""
        top = self.module.split(".")[0]
        if top == "gt" or top == project.package():
            return top
        by = (point.dist.name for point in points(KINDS[self.kind]) if point.dist and point.module.split(".")[0] == top)
        return next(by, top)

    def load(self) -> Any:
        """The class itself (imports its module)."""
        return getattr(importlib.import_module(self.module), self.class_name)

    @cached_property
    def config(self) -> type[Options]:
        """The model of its options. ConfigError for one that is none."""
        found = _attribute(self.module, self.class_name, "Config", Options)
        if not (isinstance(found, type) and issubclass(found, Options)):
            raise ConfigError(f"{self.module}.{self.class_name}.Config must be derived from gt.options.Options.")
        return found

    @cached_property
    def metrics(self) -> tuple[Metric, ...]:
        """What it measures, of an evaluation or a probe."""
        found: tuple[Metric, ...] = _attribute(self.module, self.class_name, "metrics", ())
        return found

    @cached_property
    def is_plain(self) -> bool:
        """Of an evaluation or a probe, whether its metrics are shown as they are: of another package, which does not say that
        something else shows them.
        """
        return self.origin != "gt" and bool(_attribute(self.module, self.class_name, "plain", True))

    @property
    def options(self) -> dict[str, tuple[Any, Any]]:
        """By the name of an option its type and default."""
        return {name: (field.annotation, field.default) for name, field in self.config.model_fields.items()}

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
    """All components of a kind, by name, in alphabetical order. ConfigError where two share a name, or there is no module."""
    found: dict[str, Component] = {}
    for module, only in dict.fromkeys(_places(kind)):
        for name, file in _files(module):
            for node in _tree(file).body:
                if not isinstance(node, ast.ClassDef) or only not in (None, node.name):
                    continue
                if (component := _read(kind, name, node)) is None:
                    continue
                if (other := found.setdefault(component.name, component)) != component:
                    both = " and ".join(f"{own.module}.{own.class_name}" for own in (other, component))
                    raise ConfigError(f"two components of kind {kind} are called {component.name!r}: {both}.")
    return dict(sorted(found.items()))


def component(kind: str, name: str) -> Component:
    """The one of this name, or that stands for it. ConfigError with the nearest for one that is not there."""
    own = components(kind)
    found = own.get(name) or next((c for c in own.values() if c.prefix and name.startswith(c.prefix)), None)
    if found is None:
        raise ConfigError(f"unknown {kind.replace('_', ' ')} {name!r}." + nearest(name, own))
    return found


def kind_called(name: str) -> str:
    """The kind that is meant by its name or by that of several: `feed-forward`, `fusions`. ConfigError for none."""
    called = {text.replace("_", "-"): kind for kind, several in KINDS.items() for text in (kind, several)}
    return entry(name.replace("_", "-"), called, f"unknown kind of components {name!r}.")


def used_in(model: dict[str, Any]) -> list[Component]:
    """The components of a model, which is written as in a specification."""
    names = {("mixer", mixer["name"]) for mixer in model["mixers"].values()}
    names |= {(kind, model[kind]["name"]) for kind in ("fusion", "feed_forward") if model[kind]}
    return [components(kind)[name] for kind, name in sorted(names)]


def _places(kind: str) -> Iterator[tuple[str, str | None]]:
    """The modules that components of a kind are in, each with the one class that is meant, or none."""
    yield OWN[kind], None
    for point in points(KINDS[kind]):
        if not _files(point.module):
            by = f" of {point.dist.name}" if point.dist else ""
            raise ConfigError(f"entry point {point.name!r} in {point.group}{by}: there is no module {point.module}.")
        yield point.module, point.attr or None
    if own := project.package():
        yield f"{own}.{KINDS[kind]}", None


@cache
def _files(module: str) -> tuple[tuple[str, Path], ...]:
    """The name and the file of a module, and of all modules inside if it is a package; nothing is imported."""
    first, *inner = module.split(".")
    if (top := place_of(first)) is None:
        return ()
    path = top.joinpath(*inner) if top.is_dir() else top
    if path.is_dir():
        files = sorted(file for file in path.rglob("*.py") if "__pycache__" not in file.parts)
        names = [".".join([module, *file.relative_to(path).with_suffix("").parts]) for file in files]
        return tuple((name.removesuffix(".__init__"), file) for name, file in zip(names, files, strict=True))
    file = path.with_suffix(".py")
    return ((module, file),) if file.is_file() else ()


@cache
def _tree(file: Path) -> ast.Module:
    try:
        return ast.parse(file.read_bytes())
    except SyntaxError as error:
        raise ConfigError(f"{file}:{error.lineno}: {error.msg}.") from None


def _read(kind: str, module: str, node: ast.ClassDef) -> Component | None:
    """The component that a class definition describes; None for a base class, which has no `name`."""
    if (name := _name(node)) is None:
        return None
    doc = ast.get_docstring(node) or ""
    count = re.match(r"([\d,]+)", _field(doc, "Parameters"))
    return Component(
        kind=kind,
        name=name,
        module=module,
        class_name=node.name,
        summary=doc.split("\n\n")[0].replace("\n", " "),
        formula=_field(doc, "Formula"),
        source=_field(doc, "Source"),
        parameters=int(count.group(1).replace(",", "")) if count else None,
    )


def _name(node: ast.ClassDef) -> str | None:
    """The text that a class assigns to `name`."""
    for statement in node.body:
        if isinstance(statement, ast.Assign | ast.AnnAssign) and _bound(statement) == ["name"]:
            return value.value if isinstance(value := statement.value, ast.Constant) and isinstance(value.value, str) else None
    return None


def _field(doc: str, label: str) -> str:
    """The text after `Label:` up to the next label or blank line."""
    match = re.search(rf"^{label}:\s*(.+?)(?=\n\s*\n|\n[A-Z]\w+:|\Z)", doc, re.MULTILINE | re.DOTALL)
    return " ".join(match.group(1).split()) if match else ""


@cache
def _attribute(module: str, class_name: str, name: str, default: Any) -> Any:
    """What a class has under a name: what it says itself, or a class that it is derived from. ConfigError for what is wrong."""
    file = dict(_files(module))[module]
    own = _statements(file)
    node = own[class_name]
    if not isinstance(node, ast.ClassDef):
        raise ConfigError(f"{file}:{node.lineno}: {class_name} is not a class there.")
    statement = next((statement for statement in node.body if name in _bound(statement)), None)
    if statement is None:
        inherited = (_of_base(base, module, own, name) for base in node.bases)
        return next((found for found in inherited if found is not None), default)
    try:
        return _executed(statement, module, own, name)
    except Exception:  # it needs more than its module's source shows: the module itself, imported, says what is wrong
        try:
            return getattr(getattr(importlib.import_module(module), class_name), name)
        except Exception as error:
            raise ConfigError(f"{file}:{statement.lineno}: {class_name}.{name}: {error}") from None


def _of_base(base: ast.expr, module: str, own: Statements, name: str) -> Any:
    """The same of a class that a module names; None where it has nothing, or cannot be looked up in source."""
    if not isinstance(base, ast.Name) or (statement := own.get(base.id)) is None:
        return None
    if isinstance(statement, ast.ClassDef):
        return _attribute(module, base.id, name, None)
    if isinstance(statement, ast.ImportFrom):
        place = _absolute(statement, module)
        there = next(alias.name for alias in statement.names if base.id in (alias.asname, alias.name))
        if file := dict(_files(place)).get(place):
            return _of_base(ast.Name(there), place, _statements(file), name)
    return None


def _executed(statement: ast.stmt, module: str, own: Statements, name: str) -> Any:
    """What a statement in a class binds a name to: executed after those that it needs, and not the module around them.

    Where it names the same of a base class, as in `class Config(Base.Config)`, the base class is not needed either.
    """
    namespace: dict[str, Any] = {"__name__": module}
    for base in (node.value for node in ast.walk(statement) if isinstance(node, ast.Attribute) and node.attr == name):
        if isinstance(base, ast.Name) and (inherited := _of_base(base, module, own, name)) is not None:
            namespace[base.id] = SimpleNamespace(**{name: inherited})
    statements = [*_needed(statement, {key: own[key] for key in own.keys() - namespace.keys()}), statement]
    exec(compile(ast.Module(body=statements, type_ignores=[]), module, "exec", dont_inherit=True), namespace)
    found = namespace[name]
    if not getattr(found, "__pydantic_complete__", True):
        raise NameError("a type of it is not known yet")
    return found


def _needed(node: ast.stmt, own: Statements) -> list[ast.stmt]:
    """The statements of a module that bind what a statement names, and what those name, in the order of the module."""
    found: set[ast.stmt] = set()
    todo = [node]
    while todo:
        names = {n.id for n in ast.walk(todo.pop()) if isinstance(n, ast.Name)}
        new = {own[name] for name in names & own.keys()} - found - {node}
        found |= new
        todo += new
    return sorted(found, key=lambda statement: (statement.lineno, statement.col_offset))


def _absolute(statement: ast.ImportFrom, module: str) -> str:
    """The module that an import names."""
    package = module.split(".")[: None if dict(_files(module))[module].stem == "__init__" else -1]
    above = package[: len(package) - statement.level + 1] if statement.level else []
    return ".".join([*above, *([statement.module] if statement.module else [])])


@cache
def _statements(file: Path) -> Statements:
    """The statements of a file by the names that they bind."""
    return {name: statement for statement in _tree(file).body for name in _bound(statement)}


def _bound(statement: ast.stmt) -> list[str]:
    """The names that a statement binds."""
    if isinstance(statement, ast.ClassDef | ast.FunctionDef):
        return [statement.name]
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return [(alias.asname or alias.name).split(".")[0] for alias in statement.names]
    targets: list[ast.expr] = []
    if isinstance(statement, ast.Assign):
        targets = [own for target in statement.targets for own in (target.elts if isinstance(target, ast.Tuple) else [target])]
    elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
        targets = [statement.target]
    return [target.id for target in targets if isinstance(target, ast.Name)]
