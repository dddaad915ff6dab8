"""What a component's `Config` is made of. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(gt=0, le=10_000_000_000)]
CountOrNone = Annotated[int, Field(ge=0, le=10_000_000_000)]  # 0: there is none
Fraction = Annotated[float, Field(ge=0, le=1)]
Probability = Annotated[float, Field(gt=0, lt=1)]  # one that has a logit


class Options(BaseModel):
    """The options of a component, each with a type, bounds, a default and, where its name does not say it, a description.

    Frozen, strict about types, refuses unknown keys and values that are not finite. A run's identity leaves out what has its
    default, so an option that is added later renames no run.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


# The words for the bounds in a JSON schema.
BOUNDS = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to", "exclusiveMaximum": "below"}


class Option(NamedTuple):
    """One key of a model, as text: what it may be, what it is by default (nothing where it is required), and what it is."""

    name: str
    allowed: str
    default: str
    about: str


def described(config: type[BaseModel]) -> Iterator[Option]:
    """The options of a component, or the keys of another model."""
    for name, field in config.model_json_schema().get("properties", {}).items():
        default = json.dumps(field["default"]) if "default" in field else ""
        yield Option(name, allowed(field), default, " ".join(field.get("description", "").split()))


def allowed(field: dict[str, Any]) -> str:
    """What a field of a JSON schema may be, in words."""
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
    low = [
        f"{word} {_number(field[key])}" for key, word in (("minimum", "from"), ("exclusiveMinimum", "above")) if key in field
    ]
    high = [f"{word} {_number(field[key])}" for key, word in (("maximum", "to"), ("exclusiveMaximum", "below")) if key in field]
    return " ".join([kind or field.get("type", "anything"), *low, *high])


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) or (value.is_integer() and value < 1e15) else f"{value:g}"
