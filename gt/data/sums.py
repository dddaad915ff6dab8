"""The sums of what a study names by its path. Imports nothing heavy: planning happens in Snakemake's own environment."""

from __future__ import annotations

import hashlib
from pathlib import Path

from gt.catalogue import component
from gt.data.reader import text_sum
from gt.errors import ConfigError
from gt.records import read_json


def file_sha256(path: Path, **options: str) -> str:
    """The sum of a user's own text (`gt.data.reader.text_sum`). options: of the reader `file:`. ConfigError if it is none."""
    found = component("corpus", "file:").load()
    return text_sum(found(found.Config(**options), path.name, path=path).documents())


def tokenizer_sha256(path: Path) -> str:
    """The sum of a tokenizer.json. ConfigError where it is none of the `tokenizers` library."""
    document = read_json(path)
    if not isinstance(document, dict) or not isinstance(document.get("model"), dict):
        raise ConfigError(f"{path}: is no tokenizer.json of the `tokenizers` library: it has no model.")
    return hashlib.sha256(path.read_bytes()).hexdigest()
