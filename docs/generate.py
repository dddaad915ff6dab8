"""Reference pages from the code itself: docstrings, the models of configuration files, the catalogue and the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import mkdocs_gen_files
from pydantic import BaseModel

from gt.catalogue import KINDS, components
from gt.spec import CorpusSpec, InitSpec, ModelSpec, PartTraining, RunSpec, TaskSpec, TokenizerSpec, TrainingSpec, Watch

SPECIFICATION = (RunSpec, CorpusSpec, TaskSpec, TokenizerSpec, ModelSpec, InitSpec, TrainingSpec, Watch, PartTraining)
BOUNDS = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to", "exclusiveMaximum": "below"}
TITLES = {
    "mixer": "Mixers",
    "fusion": "Fusions",
    "feed_forward": "Feed-forward layers",
    "corpus": "Corpora",
    "optimizer": "Optimizers",
    "evaluation": "Evaluations",
    "probe": "Probes",
}


def table(schema: dict[str, Any]) -> Iterator[str]:
    """The fields of a JSON schema as the lines of a table."""
    if not schema.get("properties"):
        return
    yield "| key | value | default | |"
    yield "| --- | --- | --- | --- |"
    for name, field in schema["properties"].items():
        default = f"`{json.dumps(field['default'])}`" if "default" in field else ""
        about = field.get("description", "").replace("|", "\\|").replace("\n", " ")
        yield f"| `{name}` | {allowed(field)} | {default} | {about} |"


def allowed(field: dict[str, Any]) -> str:
    """What a field may be, in words."""
    if "const" in field:
        return f"`{json.dumps(field['const'])}`"
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if "$ref" in field:
        return f"`{field['$ref'].rsplit('/', 1)[1]}`"
    for key in ("anyOf", "oneOf"):
        if key in field:
            return " or ".join(dict.fromkeys(map(allowed, field[key]))) if len(field[key]) < 6 else "one of the components"
    kind = {"integer": "whole number", "null": "null", "object": "mapping", "array": "list"}.get(field.get("type", ""))
    if field.get("type") == "array" and "items" in field:
        kind = f"list of {allowed(field['items'])}"
    bounds = [f"{word} {number(field[key])}" for key, word in BOUNDS.items() if key in field]
    return " ".join([kind or field.get("type", "anything"), *bounds])


def number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) or (value.is_integer() and value < 1e15) else f"{value:g}"


def specification() -> Iterator[str]:
    yield "# Specification of a run\n"
    yield "What decides a run's numbers, and how it is looked at (`Watch`, which is no part of its name). A study's `model` and"
    yield "`training`, a variant's, and factors are parts of this. Generated from `gt/spec.py`.\n"
    for model in SPECIFICATION:
        yield f"## {model.__name__.removesuffix('Spec')}\n"
        yield (model.__doc__ or "") + "\n"
        yield from table(model.model_json_schema())
        yield ""


def catalogue() -> Iterator[str]:
    yield "# Components\n"
    yield "What a study can name, with the options of each. `gt list` shows the same, and what your own project and installed"
    yield "packages add. Counts are at `d_model` 128 with all options at their defaults.\n"
    for kind in KINDS:
        if not components(kind):
            continue
        yield f"## {TITLES[kind]}\n"
        for component in components(kind).values():
            yield f"### `{component.name}` {{ #{kind}-{component.name} }}\n"
            yield component.summary + "\n"
            if component.formula:
                yield f"    {component.formula}\n"
            source = f"Source: {component.source}. " if component.source else ""
            count = f"{component.parameters:,} parameters. " if component.parameters is not None else ""
            yield f"{source}{count}`{component.module}`\n"
            yield from table(options(component.config))
            yield ""


def options(config: type[BaseModel]) -> dict[str, Any]:
    return config.model_json_schema()


def write(name: str, lines: Iterator[str]) -> None:
    with mkdocs_gen_files.open(f"reference/{name}.md", "w") as page:
        page.write("\n".join(lines) + "\n")


write("specification", specification())
write("components", catalogue())
