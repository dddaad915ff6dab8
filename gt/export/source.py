"""The Python files of an exported model, made from the sources that it was trained with.

What a model executes is the closure (`gt.closure`) of transformers' model class and of the model's components. Of each module
in it, the definitions that are used are written to a file of the folder, as they stand; imports between them become relative,
and some modules have a stand-in (`gt.export.standalone`). So there is no second implementation to keep in step.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Mapping

from gt import __version__
from gt.catalogue import Component
from gt.closure import ALL, Code, Definition, Module, Place
from gt.errors import ConfigError
from gt.fingerprint import PACKAGE, places

HERE = "gt.export.standalone"
MODEL = f"{HERE}.modelling:GroundThinkForCausalLM"
# What another module stands in for; that of the catalogue is made for each model.
STAND_INS = {
    "gt.spec": f"{HERE}.spec",
    "gt.options": f"{HERE}.options",
    "gt.explain": f"{HERE}.explain",
    "gt.ops.backend": f"{HERE}.backend",
    "gt.ops.fused": f"{HERE}.fused",
}
CATALOGUE = "gt.catalogue"
FILES = {f"{HERE}.modelling": "modeling_groundthink", f"{HERE}.configuration": "configuration_groundthink"}
# What whoever loads a folder has.
AT_HAND = {"torch", "transformers", "numpy", *sys.stdlib_module_names}
WIDTH = 120
# From a line and column to a line and column, and what is there then.
Cut = tuple[int, int, int, int, str]


def files(components: list[Component]) -> dict[str, str]:
    """The files of a model of these components, by their names. ConfigError for code that cannot be taken out of its place."""
    return Sources(components).files()


def needs(texts: Mapping[str, str]) -> list[str]:
    """The packages that some files import beside torch and transformers."""
    nodes = [node for text in texts.values() for node in ast.walk(ast.parse(text))]
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level]
    return sorted({name.split(".")[0] for name in names} - AT_HAND)


class Sources(Code):
    """The sources of gt and of the packages that components come from, with stand-ins in them."""

    def __init__(self, components: list[Component]) -> None:
        self.components = components
        self.texts: dict[str, str] = {}
        super().__init__({"gt": PACKAGE, **places({component.module.split(".")[0] for component in components} - {"gt"})})

    def _module(self, name: str) -> Module | None:
        found = super()._module(name)
        if found is None:
            return None
        text = self._catalogue() if name == CATALOGUE else edited(found.file.read_text(encoding="utf-8"))
        self.texts[name] = text
        return Module(name, found.file, text.encode())

    def _catalogue(self) -> str:
        """The module that says which class a component's name stands for."""
        names = [f"{c.class_name} as {c.kind}_{i}" for i, c in enumerate(self.components)]
        lines = [f"    from {c.module} import {name}" for c, name in zip(self.components, names, strict=True)]
        entries = [f"({c.kind!r}, {c.name!r}): {c.kind}_{i}" for i, c in enumerate(self.components)]
        return CATALOGUE_TEXT.format(imports="\n".join(lines), entries=", ".join(entries))

    def files(self) -> dict[str, str]:
        places = self.closure(MODEL)
        while missing := set(self._missing(places)):
            places |= self.closure(*missing)
        texts = {name: self._text(name, {own for module, own in places if module == name}) for name in {m for m, _ in places}}
        return {f"{file_name(name)}.py": text for name, text in sorted(texts.items()) if text}

    def _missing(self, places: set[Place]) -> Iterator[str]:
        """What statements that are kept name, and is in no closure, as a class that is only asked about."""
        for name in {module for module, _ in places}:
            module = self.module(name)
            assert module is not None
            for used in _names(kept(module, {own for place, own in places if place == name})):
                if used in module.definitions and (name, used) not in places and (name, ALL) not in places:
                    yield f"{name}:{used}"
                elif used in module.imports and module.imports[used][1] is not None:
                    source, own = module.imports[used]
                    other = self.module(source)
                    if other is not None and own in other.definitions and not {(source, own), (source, ALL)} & places:
                        yield f"{source}:{own}"

    def _text(self, name: str, names: set[str]) -> str:
        """What is used of a module, as a file; nothing where that is nothing."""
        module = self.module(name)
        assert module is not None
        statements = kept(module, names)
        if not statements:
            return ""
        lines = self.texts[name].splitlines()
        for node in (node for statement in statements for node in ast.walk(statement)):
            if isinstance(node, ast.ImportFrom) and (target := self._target(module, node, node.names)):
                before, after = lines[node.lineno - 1][: node.col_offset], lines[node.lineno - 1][node.col_offset :]
                lines[node.lineno - 1] = before + re.sub(r"^from\s+\S+", f"from {target}", after)
            elif isinstance(node, ast.Import) and any(alias.name.split(".")[0] in self.packages for alias in node.names):
                raise ConfigError(f"{module.file}:{node.lineno}: `{ast.unparse(node)}` cannot be exported; import names.")
        parts = [f'"""{doc}"""\n' if (doc := ast.get_docstring(module.tree, clean=False)) else ""]
        parts.append("from __future__ import annotations\n")
        parts += self._imports(module, _names(statements))
        previous = None
        for statement in statements:
            block = "\n".join(lines[_first_line(statement, lines) - 1 : statement.end_lineno])
            simple = not isinstance(previous, Definition) and not isinstance(statement, Definition) and previous is not None
            parts.append(block if simple else f"\n\n{block}")
            previous = statement
        origin = f"# From {name} of GroundThink {__version__} (MIT), made by `gt export`: edit it there.\n"
        return origin + "\n".join(part for part in parts if part).rstrip() + "\n"

    def _imports(self, module: Module, used: set[str]) -> Iterator[str]:
        """The imports at the top of a module, of what is used."""
        for node in module.tree.body:
            if not isinstance(node, ast.Import | ast.ImportFrom) or getattr(node, "module", "") == "__future__":
                continue
            aliases = [a for a in node.names if (a.asname or a.name.split(".")[0]) in used]
            if isinstance(node, ast.ImportFrom) and aliases:
                target = self._target(module, node, aliases) or node.module
                yield _import_line(f"from {target} import ", [ast.unparse(alias) for alias in aliases])
            elif aliases:
                for alias in aliases:
                    if alias.name.split(".")[0] in self.packages:
                        raise ConfigError(f"{module.file}: `import {alias.name}` cannot be exported; import names.")
                    yield f"import {ast.unparse(alias)}"

    def _target(self, module: Module, node: ast.ImportFrom, aliases: list[ast.alias]) -> str | None:
        """Where names that a module imports are in the folder; None for a package that is not taken along."""
        source = next(source for source, _ in module.loaded(node))
        if source.split(".")[0] not in self.packages:
            return None
        for alias in aliases:
            own = self.module(source)
            if alias.name == "*" or own is None or not (alias.name in own.definitions or alias.name in own.imports):
                raise ConfigError(f"{module.file}:{node.lineno}: `{ast.unparse(node)}` cannot be exported; import names.")
        return f".{file_name(source)}"


CATALOGUE_TEXT = '''"""Which class a component's name stands for."""

from __future__ import annotations

from types import SimpleNamespace


def component(kind: str, name: str) -> SimpleNamespace:
    """The one of this kind and name: `load()` gives the class."""
{imports}

    classes = {{{entries}}}
    return SimpleNamespace(load=lambda: classes[kind, name])
'''


def file_name(module: str) -> str:
    """The name of a module in the folder, where all stand beside each other."""
    return FILES.get(module) or module.replace(f"{HERE}.", "gt.").replace(".", "_")


def kept(module: Module, names: set[str]) -> list[ast.stmt]:
    """Of a module the statements that bind some names, and those that do something when it is imported, in their order."""
    if ALL in names:
        wanted = [own for statements in module.definitions.values() for own in statements]
    else:
        wanted = [own for name in names for own in module.definitions.get(name, [])]
    chosen = {id(own) for own in [*wanted, *module.effects]}
    return [statement for statement in module.tree.body if id(statement) in chosen]


def edited(text: str) -> str:
    """A module with stand-ins for others, without checks of its components' options, and with torch code alone for operations.

    The fields of each `Config` are cut out, as all values stand in `config.json`, and what `register` enters for a GPU.
    """
    lines = text.splitlines(keepends=True)
    cuts: list[Cut] = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef):
            options = [own for own in node.body if isinstance(own, ast.ClassDef) and own.name == "Config"]
            cuts += [_cut(own, _without_fields(own, text)) for own in options]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "register":
            words = [ast.unparse(argument) for argument in node.args]
            words += [ast.unparse(word) for word in node.keywords if word.arg == "chunked"]
            cuts.append(_cut(node, f"register({', '.join(words)})"))
        elif isinstance(node, ast.ImportFrom) and node.module in STAND_INS:
            names = [ast.unparse(alias) for alias in node.names]
            cuts.append(_cut(node, f"from {STAND_INS[node.module]} import {', '.join(names)}"))
    for first, start, last, end, new in sorted(cuts, reverse=True):
        before, after = lines[first - 1].encode()[:start].decode(), lines[last - 1].encode()[end:].decode()
        lines[first - 1 : last] = [f"{before}{new}{after}"]
    return "".join(lines)


def _cut(node: ast.stmt | ast.expr, new: str) -> Cut:
    """What a node is to be replaced with."""
    first = min([node.lineno, *(own.lineno for own in getattr(node, "decorator_list", []))])
    assert node.end_lineno is not None and node.end_col_offset is not None
    return first, node.col_offset, node.end_lineno, node.end_col_offset, new


def _without_fields(config: ast.ClassDef, text: str) -> str:
    """The source of a class of options with its methods alone."""
    inner = " " * config.body[0].col_offset
    methods = [own for own in config.body if isinstance(own, ast.FunctionDef) and not _checks(own)]
    parts = [f'{inner}"""Its values stand in config.json."""']
    parts += ["\n".join(text.splitlines()[_cut(own, "")[0] - 1 : own.end_lineno]) for own in methods]
    bases = ", ".join(map(ast.unparse, config.bases))
    return f"class Config({bases}):\n" + "\n\n".join(parts)


def _checks(function: ast.FunctionDef) -> bool:
    """Whether a method is pydantic's to call."""
    return any("validator" in ast.unparse(own) or "serializer" in ast.unparse(own) for own in function.decorator_list)


def _names(statements: list[ast.stmt]) -> set[str]:
    """The names that statements mention."""
    return {node.id for statement in statements for node in ast.walk(statement) if isinstance(node, ast.Name)}


def _first_line(statement: ast.stmt, lines: list[str]) -> int:
    """Where a statement begins, with its decorators and the comment above it."""
    first = min([statement.lineno, *(own.lineno for own in getattr(statement, "decorator_list", []))])
    while first > 1 and lines[first - 2].startswith("#"):
        first -= 1
    return first


def _import_line(start: str, names: list[str]) -> str:
    """An import, in brackets where it is long."""
    line = start + ", ".join(names)
    return line if len(line) <= WIDTH else f"{start}(\n    {', '.join(names)},\n)"
