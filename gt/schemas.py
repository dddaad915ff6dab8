"""The JSON schemas of the configuration and of what stages hand on, generated from the models; a test keeps them in step."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import TypeAdapter

from gt import artefacts
from gt.analysis.claims import Arm, Claim
from gt.artefacts import Name
from gt.paper.file import PaperFile
from gt.records import atomic_write
from gt.spec import RunSpec
from gt.study import StudyFile, Variant


def schemas() -> dict[str, dict[str, object]]:
    """Each schema by its file name."""
    return {
        "study.schema.json": StudyFile.model_json_schema(),
        "variants.schema.json": TypeAdapter(dict[Name, Variant]).json_schema(),
        "claims.schema.json": TypeAdapter(dict[str, Claim]).json_schema(),
        "paper.schema.json": PaperFile.model_json_schema(),
        "arms.schema.json": TypeAdapter(dict[Name, Arm]).json_schema(),
        "run.schema.json": RunSpec.model_json_schema(),
        **{f"{kind.__name__.lower()}.schema.json": kind.model_json_schema() for kind in artefacts.KINDS},
    }


def text(schema: dict[str, object]) -> str:
    """A schema as its file holds it."""
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, indent=2) + "\n"


def write(folder: Path) -> None:
    """Write all schemas into a folder."""
    for name, schema in schemas().items():
        with atomic_write(folder / name) as temporary:
            temporary.write_text(text(schema), encoding="utf-8")
