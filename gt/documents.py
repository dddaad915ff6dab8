"""Configuration as it was written: YAML values that know in which line of which file they stand.

Values are those of YAML 1.2 (`1e-3` is a number, `2020-01-01` and `1:30` are words), with what people also write: `yes`
and `no`, underscores between digits, merge keys. A whole number may be written `1e5`. What could be taken in two ways is
refused: a key given twice, a key that is no word, two documents, tags of a programming language.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from gt.errors import ConfigError

Json = dict[str, Any]
# A file of aliases to aliases can stand for billions of values.
MOST_VALUES = 100_000
MOST_DEEP = 100
TAG = "tag:yaml.org,2002:"


class Mark(NamedTuple):
    """A place in a file; lines are counted from 1."""

    path: Path
    line: int
    column: int = 0

    def __str__(self) -> str:
        return f"{self.path}, line {self.line}"


class Mapping(dict[str, Any]):
    """A mapping that knows where each of its keys stands. Merging keeps that (`merge`)."""

    def __init__(self, pairs: Any = (), marks: dict[str, Mark] | None = None) -> None:
        super().__init__(pairs)
        self.marks = dict(marks or {})

    def copy(self) -> Mapping:
        return Mapping(self, self.marks)


class Sequence(list[Any]):
    """A list that knows where each of its items stands."""

    def __init__(self, items: Iterable[Any], marks: list[Mark]) -> None:
        super().__init__(items)
        self.marks = marks


def mark_of(document: Any, keys: Iterable[Any]) -> Mark | None:
    """Where the deepest of nested keys stands that is there and is known; None where none is."""
    found = None
    for key in keys:
        if not has(document, key):
            break
        marks = getattr(document, "marks", {})
        if isinstance(marks, list) or key in marks:
            found = marks[key]
        document = document[key]
    return found


def has(document: Any, key: Any) -> bool:
    """Whether a mapping has a key, or a list a place."""
    if isinstance(document, dict):
        return key in document
    return isinstance(document, list) and isinstance(key, int) and 0 <= key < len(document)


def value_at(document: Any, keys: Iterable[Any]) -> Any:
    """What stands under nested keys; None where they lead nowhere."""
    for key in keys:
        document = document[key] if has(document, key) else None
    return document


def merge(general: Json, particular: Json) -> Json:
    """`particular` over `general`, key by key. A component of another name replaces the general one whole; where one of the two
    is a word, it is that component's name.
    """
    marks = {**getattr(general, "marks", {}), **getattr(particular, "marks", {})}
    result = Mapping(general, marks)
    for key, value in particular.items():
        base: Any = result.get(key)
        if isinstance(base, str) and isinstance(value, dict):
            base = _named(general, key)
        elif isinstance(base, dict) and isinstance(value, str):
            value = _named(particular, key)
        both = isinstance(base, dict) and isinstance(value, dict)
        renamed = both and "name" in value and base.get("name", value["name"]) != value["name"]
        result[key] = merge(base, value) if both and not renamed else value
    return result


def _named(document: Json, key: str) -> Mapping:
    """A component of which a document has the name alone."""
    mark = mark_of(document, (key,))
    return Mapping({"name": document[key]}, {"name": mark} if mark else {})


def nested(path: str, value: Any, mark: Mark | None = None) -> Json:
    """A value at a dotted path, in which `parts.mixers.a` is what `parts` says of the mixers of a letter."""
    for part in reversed(re.split(r"(?<!\bparts\.mixers)\.", path)):
        value = Mapping({part: value}, {part: mark} if mark else {})
    result: Json = value
    return result


class _Composer(
    yaml.reader.Reader, yaml.scanner.Scanner, yaml.parser.Parser, yaml.composer.Composer, yaml.resolver.BaseResolver
):
    """PyYAML's, up to the nodes and their lines. Which words are numbers is YAML 1.2's."""

    def __init__(self, stream: str) -> None:
        yaml.reader.Reader.__init__(self, stream)
        yaml.scanner.Scanner.__init__(self)
        yaml.parser.Parser.__init__(self)
        yaml.composer.Composer.__init__(self)
        yaml.resolver.BaseResolver.__init__(self)
        self.depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self.depth += 1
        if self.depth > MOST_DEEP:
            problem = f"lists and mappings stand inside of each other {MOST_DEEP} times"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=self.peek_event().start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


WORDS: dict[str, dict[str, Any]] = {
    "null": dict.fromkeys(("", "~", "null")),
    "bool": {"yes": True, "true": True, "on": True, "no": False, "false": False, "off": False},
}
DIGITS = r"[0-9]+(?:_[0-9]+)*"
for _tag, _pattern, _first in (
    ("null", "~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", "yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF", list("yYnNtTfFoO")),
    ("int", rf"[-+]?{DIGITS}|0o[0-7]+|0x[0-9a-fA-F]+|0b[01]+", list("-+0123456789")),
    (
        "float",
        rf"[-+]?(?:\.[0-9]+|{DIGITS}(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
    ("merge", "<<", ["<"]),
):
    _Composer.add_implicit_resolver(TAG + _tag, re.compile(rf"^(?:{_pattern})$"), _first)


@lru_cache(maxsize=256)
def _composed(text: str) -> yaml.Node | None:
    """The nodes of a text. A process reads the same variants for each of its studies, and this is most of reading them."""
    node: yaml.Node | None = _Composer(text).get_single_node()
    return node


def read_yaml(path: Path) -> Json:
    """Read a YAML mapping. ConfigError names the file, and the line where it is not one."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file.") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}).") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{Mark(path, line)}: not UTF-8 (byte {error.object[error.start]:#04x}).") from None
    try:
        node = _composed(text)
        document = None if node is None else _Constructor(path).value(node)
    except yaml.reader.ReaderError as error:
        mark = Mark(path, text.count("\n", 0, error.position) + 1)
        raise ConfigError(f"{mark}: the character U+{error.character:04X} has no place in YAML.") from None
    except yaml.MarkedYAMLError as error:
        where = error.problem_mark or error.context_mark
        raise ConfigError(f"{Mark(path, where.line + 1) if where else path}: {error.problem or error.context}.") from None
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: must be a mapping of keys to values.")
    return document


class _Constructor:
    """YAML nodes -> values. Aliases are followed, as far as `MOST_VALUES` and not into themselves."""

    def __init__(self, path: Path) -> None:
        self.path, self.count = path, 0
        self.open: set[int] = set()

    def value(self, node: yaml.Node) -> Any:
        self.count += 1
        if self.count > MOST_VALUES:
            raise self.refusal(node, f"with its aliases written out, the file has more than {MOST_VALUES:,} values")
        if isinstance(node, yaml.ScalarNode):
            return self.scalar(node)
        if id(node) in self.open:
            raise self.refusal(node, "an alias stands inside of what it stands for")
        self.open.add(id(node))
        if node.tag not in (TAG + "map", TAG + "seq"):
            raise self.refusal(node, f"the tag {node.tag.replace(TAG, '!!')} is not for a configuration")
        result: Any = self.sequence(node) if isinstance(node, yaml.SequenceNode) else self.mapping(node)
        self.open.remove(id(node))
        return result

    def sequence(self, node: yaml.SequenceNode) -> Sequence:
        return Sequence([self.value(item) for item in node.value], [self.mark(item) for item in node.value])

    def mapping(self, node: yaml.Node) -> Mapping:
        own, merged, seen = Mapping(), Mapping(), set()
        for key_node, value_node in node.value:
            key = self.key(key_node)
            if key in seen:
                raise self.refusal(key_node, f"the key {key!r} stands here twice")
            seen.add(key)
            if key_node.tag == TAG + "merge":
                for base in self.bases(value_node):
                    merged = Mapping({**base, **merged}, {**base.marks, **merged.marks})
            else:
                own[key], own.marks[key] = self.value(value_node), self.mark(key_node)
        return Mapping({**merged, **own}, {**merged.marks, **own.marks})

    def bases(self, node: yaml.Node) -> Iterator[Mapping]:
        """The mappings that a merge key brings in, the first before the others."""
        for item in node.value if isinstance(node, yaml.SequenceNode) else [node]:
            if not isinstance(item, yaml.MappingNode):
                raise self.refusal(item, "the merge key << takes a mapping or a list of mappings")
            yield self.value(item)

    def key(self, node: yaml.Node) -> str:
        if not isinstance(node, yaml.ScalarNode):
            raise self.refusal(node, "a key is a word, not a list or a mapping")
        if node.tag not in (TAG + "str", TAG + "merge"):
            raise self.refusal(node, f"the key {node.value} is not a word here; in quotes it is: '{node.value}'")
        return str(self.text(node))

    def scalar(self, node: yaml.ScalarNode) -> Any:
        word = node.value.replace("_", "")
        try:
            match node.tag.removeprefix(TAG):
                case "null" | "bool" as kind:
                    return WORDS[kind][word.lower()]
                case "int":
                    prefixes = {"0o": 8, "0x": 16, "0b": 2}
                    return int(word, prefixes.get(word[:2].lower(), 10))
                case "float":
                    number = _float(word)
                    whole = "." not in word and number.is_integer() and abs(number) < 2**53
                    return int(number) if whole else number
                case "str" | "merge":
                    return self.text(node)
        except ValueError as error:
            raise self.refusal(node, f"{_shown(node.value)} is not a number: {error}") from None
        except KeyError:
            raise self.refusal(node, f"{_shown(node.value)} is not {node.tag.removeprefix(TAG)}") from None
        raise self.refusal(node, f"the tag {node.tag.replace(TAG, '!!')} is not for a configuration")

    def text(self, node: yaml.ScalarNode) -> str:
        if found := re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]", node.value):
            raise self.refusal(node, f"the character {found[0]!a} has no place in a text")
        return str(node.value)

    def mark(self, node: yaml.Node) -> Mark:
        return Mark(self.path, node.start_mark.line + 1, node.start_mark.column)

    def refusal(self, node: yaml.Node, problem: str) -> yaml.MarkedYAMLError:
        return yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)


def _float(word: str) -> float:
    """A float of YAML. ValueError where it is so large that it would be infinite without saying so."""
    number = float(re.sub(r"^([-+]?)\.(?=inf|nan)", r"\1", word.lower()))
    if math.isinf(number) and "inf" not in word.lower():
        raise ValueError("it is too large")
    return number


def _shown(text: str) -> str:
    return text if len(text) < 80 else text[:77] + "..."
