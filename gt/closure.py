"""What code a definition uses, read from the syntax of its package: nothing is imported, so it is quick and needs no torch.

The unit is a top-level definition: a function, a class, or the names of an assignment. From some roots the names that each
definition mentions are followed, through imports at the top of a module or inside of a function, to the definitions that they
stand for. A module that is reached, or imported by one that is, also counts with its statements that do something when it is
imported, as where they register an operator. So what a run executes is in its closure, and an unused neighbour is not.

What is left out makes no number: comments, docstrings, positions and formatting; what stands under `if TYPE_CHECKING`; the
`metrics` of a class, which say what its numbers are called; and a class that `isinstance` asks about, which counts where its
objects are made. Annotations are followed: they name the classes of
what is handed in. Where a name cannot be followed precisely, as of a module that is handed on, `getattr` of a module,
`import *`, `globals` or `eval`, all that it could stand for counts. What is looked up by a text that is computed, as a
component is by its name, has to be given as a root.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeGuard

# A module and a name in it; or what it does when it is imported; or all its names.
Place = tuple[str, str]
IMPORTED, ALL = "", "*"
# What an import binds a name to: a module, or a name in one.
Binding = tuple[str, str | None]
# Decorators that change only what they decorate. Another may enter it somewhere: it is a statement that does something.
PURE = {
    *("contextlib.contextmanager", "dataclasses.dataclass", "functools.cache", "functools.lru_cache", "functools.wraps"),
    *("torch.inference_mode", "torch.no_grad", "triton.jit", "typing.overload"),
}
# With these a definition reads names that it does not mention.
READS_ANY = {"eval", "exec", "globals"}
# Fields of a syntax tree that differ between versions of Python, or say nothing.
IGNORED = {"ctx", "kind", "type_comment", "type_ignores"}
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


class Module:
    """The statements of a file by the names that they bind. text: what the file holds, or what to read in its place."""

    def __init__(self, name: str, file: Path, text: bytes) -> None:
        self.name, self.file = name, file
        self.tree = ast.parse(text)
        self.definitions: dict[str, list[ast.stmt]] = {}
        self.imports: dict[str, Binding] = {}
        self.imported: set[Binding] = set()  # by the import of this module itself
        self.effects: list[ast.stmt] = []
        self.mentions = cache(self._mentions)
        self.content = cache(self._content)
        for statement in self.tree.body:
            self._read(statement)

    def statements(self, name: str) -> list[ast.stmt]:
        """Those that define a name; those that its import executes."""
        return self.effects if name == IMPORTED else self.definitions.get(name, [])

    def _mentions(self, name: str) -> Mentions:
        """What the statements of a name mention."""
        return Mentions(self, self.statements(name))

    def _content(self, name: str) -> str:
        """A sum over what the statements of a name say; empty where there are none."""
        if name in self.imports:
            return sha256("{} {}".format(*self.imports[name]))
        statements = self.statements(name)
        return sha256("\n".join(map(canonical, statements))) if statements else ""

    def _read(self, statement: ast.stmt) -> None:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            self._import(statement)
        elif _is_for_types(statement):
            for own in statement.orelse:
                self._read(own)
        elif isinstance(statement, Definition):
            if isinstance(statement, ast.ClassDef):
                statement.body = [own for own in statement.body if not _is_said(own)]
            self._define([statement.name], statement)
            if not all(map(self._is_pure, statement.decorator_list)):
                self.effects.append(statement)
        elif names := _assigned(statement):
            self._define(names, statement)
        elif not _is_idle(statement):
            self.effects.append(statement)
            for node in ast.walk(statement):  # what is bound on a condition is a part of that statement
                if isinstance(node, ast.Import | ast.ImportFrom):
                    self._import(node)
                elif isinstance(node, Definition):
                    self._define([node.name])
                elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                    self._define([node.id])

    def _define(self, names: Iterable[str], *statements: ast.stmt) -> None:
        for name in names:
            self.definitions.setdefault(name, []).extend(statements)

    def _import(self, node: ast.Import | ast.ImportFrom) -> None:
        self.imports |= self.bindings(node)
        self.imported |= self.loaded(node)

    def bindings(self, node: ast.Import | ast.ImportFrom) -> dict[str, Binding]:
        """The names that an import binds; ALL of `import *`."""
        if isinstance(node, ast.ImportFrom):
            return {alias.asname or alias.name: (self._source(node), alias.name) for alias in node.names}
        return {(a.asname or a.name.split(".")[0]): (a.name if a.asname else a.name.split(".")[0], None) for a in node.names}

    def loaded(self, node: ast.Import | ast.ImportFrom) -> set[Binding]:
        """What an import imports."""
        if isinstance(node, ast.ImportFrom):
            return {(self._source(node), alias.name) for alias in node.names}
        return {(alias.name, None) for alias in node.names}

    def _source(self, node: ast.ImportFrom) -> str:
        """The module that names are imported from."""
        package = self.name.split(".")[: None if self.file.stem == "__init__" else -1]
        above = package[: len(package) - node.level + 1] if node.level else []
        return ".".join([*above, *([node.module] if node.module else [])])

    def _is_pure(self, decorator: ast.expr) -> bool:
        name, attributes = _chain(decorator.func if isinstance(decorator, ast.Call) else decorator)
        module, own = self.imports.get(name, (name, None))
        return ".".join(filter(None, [module, own, *attributes])) in PURE


class Mentions:
    """What a statement of a module mentions: names with the attributes that are read of them, imports, and what only
    `isinstance` asks about.
    """

    def __init__(self, module: Module, statements: Iterable[ast.stmt]) -> None:
        self.module = module
        self.names: set[tuple[str, tuple[str, ...]]] = set()
        self.asked: set[str] = set()
        self.bound: dict[str, set[Binding]] = {}
        self.imported: set[Binding] = set()
        todo: list[ast.AST] = list(statements)
        while todo:
            todo += self._read(todo.pop())

    def _read(self, node: ast.AST) -> Iterable[ast.AST]:
        """Returns the nodes inside of it that are still to be read."""
        if isinstance(node, ast.Name):
            self.names.add((node.id, ()))
            return ()
        if isinstance(node, ast.Attribute):
            name, attributes = _chain(node)
            if name:
                self.names.add((name, attributes))
                return ()
        elif isinstance(node, ast.Import | ast.ImportFrom):
            for name, binding in self.module.bindings(node).items():
                self.bound.setdefault(name, set()).add(binding)
            self.imported |= self.module.loaded(node)
            return ()
        elif isinstance(node, ast.Call):
            name, attributes = _chain(node.func)
            if name in ("isinstance", "issubclass") and len(node.args) == 2:
                self.asked |= {own.id for own in ast.walk(node.args[1]) if isinstance(own, ast.Name)}
                return (node.args[0],)
            if (name, *attributes)[-1] in ("import_module", "__import__"):
                self.imported |= {(str(own.value), ALL) for own in node.args[:1] if isinstance(own, ast.Constant)}
        return ast.iter_child_nodes(node)


class Code:
    """The definitions of some packages. packages: their folders, by name."""

    def __init__(self, packages: Mapping[str, Path]) -> None:
        self.packages = packages
        self.module = cache(self._module)
        self.uses = cache(self._uses)
        self.loaded = cache(self._loaded)

    def of(self, *roots: str) -> dict[str, str]:
        """Of each module that some definitions (`module:name`) or modules use, 16 hex digits over what they use there."""
        return self.sums(self.closure(*roots))

    def sums(self, places: Iterable[Place]) -> dict[str, str]:
        """The same of some definitions alone, without what they use."""
        lines: dict[str, list[str]] = {}
        for module, name in places:
            if text := self.content((module, name)):
                lines.setdefault(module, []).append(f"{name} {text}")
        return {module: sha256("\n".join(sorted(own)))[:16] for module, own in sorted(lines.items())}

    def closure(self, *roots: str) -> set[Place]:
        """All that they use, themselves included. LookupError for a root that is not there."""
        todo = [place for root in roots for place in self._root(root)]
        found = set(todo)
        while todo:
            new = self.uses(todo.pop()) - found
            found |= new
            todo += new
        return found

    def _root(self, root: str) -> Iterator[Place]:
        module, _, name = root.partition(":")
        own = self.module(module)
        if own is None or (name and name not in own.definitions and name not in own.imports):
            raise LookupError(f"there is no {root}")
        yield from self._follow((module, name or None), ())

    def _module(self, name: str) -> Module | None:
        """A module of the packages."""
        first, *inner = name.split(".")
        if first not in self.packages:
            return None
        path = self.packages[first].joinpath(*inner)
        file = next((file for file in (path / "__init__.py", path.with_suffix(".py")) if file.is_file()), None)
        return _parsed(name, file, file.read_bytes()) if file else None

    def _uses(self, place: Place) -> frozenset[Place]:
        """What is used where a definition is used."""
        module, name = self.module(place[0]), place[1]
        assert module is not None
        found = {(module.name, IMPORTED)}
        if name == ALL:
            names = [*module.definitions, *module.imports]
            found |= {own for name in names for own in self._follow((module.name, name), ()) if own[1] != ALL}
            if module.file.stem == "__init__":
                found |= {(f"{module.name}.{own}", ALL) for own in _inside(module.file.parent)}
            return frozenset(found)
        if name == IMPORTED:
            for binding in (*module.imported, (module.name, None)):
                found |= self.loaded(binding)
        mentioned = module.mentions(name)
        for binding in mentioned.imported:
            found |= self.loaded(binding)
        for name, attributes in mentioned.names:
            for binding in mentioned.bound.get(name, ()):
                found |= set(self._follow(binding, attributes))
            if name in module.definitions or name in module.imports:
                found |= set(self._follow((module.name, name), attributes))
            if name in READS_ANY:
                found.add((module.name, ALL))
        return frozenset(found | {(module.name, name) for name in mentioned.asked if name in module.imports})

    def _follow(self, binding: Binding, attributes: Sequence[str]) -> Iterator[Place]:
        """What a name stands for, of which these attributes are read."""
        name, own = binding
        module = self.module(name)
        if module is None:
            return
        if own is None:
            yield from self._follow((name, attributes[0]), attributes[1:]) if attributes else [(name, ALL)]
        elif own in module.definitions:
            yield name, own
        elif own in module.imports and module.imports[own] != binding:
            yield name, own
            yield from self._follow(module.imports[own], attributes)
        elif self.module(f"{name}.{own}") is not None:
            yield from self._follow((f"{name}.{own}", None), attributes)
        else:
            yield name, ALL

    def _loaded(self, binding: Binding) -> frozenset[Place]:
        """What an import executes: its module, the packages around that, and what it names if that is a module."""
        name, own = binding
        parts = name.split(".")
        paths = (*(".".join(parts[: i + 1]) for i in range(len(parts))), *([f"{name}.{own}"] if own else []))
        found = {(path, IMPORTED) for path in paths if self.module(path) is not None}
        if own == ALL and self.module(name) is not None:
            found.add((name, ALL))
        return frozenset(found)

    def content(self, place: Place) -> str:
        """A sum over what a place says itself."""
        module = self.module(place[0])
        assert module is not None
        return module.content(place[1])


@cache
def _parsed(name: str, file: Path, text: bytes) -> Module:
    """Once for all sets of packages that have this one."""
    return Module(name, file, text)


def canonical(node: Any) -> str:
    """A syntax tree as a text that is the same in all versions of Python, without statements that do nothing."""
    if isinstance(node, list):
        return f"[{','.join([canonical(own) for own in node if not _is_idle(own)])}]"
    if isinstance(node, ast.Constant):
        return f"{type(node.value).__name__} {node.value!a}"
    if isinstance(node, ast.JoinedStr):  # where some versions have an empty text at the end
        return f"JoinedStr({canonical([own for own in node.values if getattr(own, 'value', None) != ''])})"
    if not isinstance(node, ast.AST):
        return ascii(node)
    kind: Any = type(node)
    values = [(name, getattr(node, name, None)) for name in _fields(kind)]
    own = ",".join([f"{name}={canonical(value)}" for name, value in values if value is not None and value != []])
    return f"{kind.__name__}({own})"


@cache
def _fields(kind: Any) -> list[str]:
    """The fields of a kind of node that say something, in their order in a text."""
    return sorted(name for name in kind._fields if name not in IGNORED)


def sha256(text: str) -> str:
    """In hex digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def _is_idle(node: Any) -> bool:
    """Whether a statement does nothing, as a docstring."""
    return isinstance(node, ast.Pass) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))


def _is_said(node: ast.stmt) -> bool:
    """Whether a statement of a class says what its numbers are called: the `metrics` of an evaluation or a probe."""
    return isinstance(node, ast.Assign) and _assigned(node) == ["metrics"]


def _is_for_types(node: ast.stmt) -> TypeGuard[ast.If]:
    return isinstance(node, ast.If) and (_chain(node.test)[0], *_chain(node.test)[1])[-1] == "TYPE_CHECKING"


def _assigned(statement: ast.stmt) -> list[str]:
    """The names that an assignment binds; none of one that sets an attribute or an item, which does something."""
    if isinstance(statement, ast.Assign):
        targets = statement.targets
    elif isinstance(statement, ast.AnnAssign):
        targets = [statement.target]
    elif type(statement).__name__ == "TypeAlias":  # since Python 3.12
        targets = [statement.name]  # type: ignore[attr-defined]
    else:
        return []
    flat = [own for target in targets for own in (target.elts if isinstance(target, ast.Tuple | ast.List) else [target])]
    return [own.id for own in flat if isinstance(own, ast.Name)] if all(isinstance(own, ast.Name) for own in flat) else []


def _chain(node: ast.AST) -> tuple[str, tuple[str, ...]]:
    """a.b.c as ("a", ("b", "c")); an empty name where it begins with something else."""
    attributes: list[str] = []
    while isinstance(node, ast.Attribute):
        attributes.insert(0, node.attr)
        node = node.value
    return node.id if isinstance(node, ast.Name) else "", tuple(attributes)


def _inside(package: Path) -> list[str]:
    """The modules and packages right in a folder."""
    files = [file for file in package.iterdir() if file.suffix == ".py" and file.stem != "__init__"]
    return sorted([file.stem for file in files] + [file.parent.name for file in package.glob("*/__init__.py")])
