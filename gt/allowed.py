"""What the keys of a model may be, in words: for help, and for pages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from pydantic import BaseModel

BOUNDS = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to", "exclusiveMaximum": "below"}


class Key(NamedTuple):
    """One key, as text: what it may be, what it is by default (nothing where it is required), and what it is."""

    name: str
    allowed: str
    default: str
    about: str


def keys(model: type[BaseModel]) -> Iterator[Key]:
    """The options of a component, or the keys of another model."""
    for name, field in model.model_json_schema().get("properties", {}).items():
        default = json.dumps(field["default"]) if "default" in field else ""
        yield Key(name, allowed(field), default, " ".join(field.get("description", "").split()))


def allowed(field: dict[str, Any]) -> str:
    """What a field of a JSON schema may be."""
    if "const" in field:
        return json.dumps(field["const"])
    if "enum" in field:
        return ", ".join(map(str, field["enum"]))
    if "$ref" in field:
        return str(field["$ref"].rsplit("/", 1)[1])
    for key in ("anyOf", "oneOf"):
        if key in field:
            return " or ".join(dict.fromkeys(map(allowed, field[key]))) if len(field[key]) < 6 else "one of the components"
    kind = {"integer": "whole number", "object": "mapping", "array": "list"}.get(field.get("type", ""))
    if field.get("type") == "array" and "items" in field:
        kind = f"list of {allowed(field['items'])}"
    bounds = [f"{word} {_number(field[key])}" for key, word in BOUNDS.items() if key in field]
    return " ".join([kind or field.get("type", "anything"), *bounds])


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) or (value.is_integer() and value < 1e15) else f"{value:g}"
