"""Run records and how they are written: whole or not at all.

`results/runs/<run_id>/` is the only truth about a run: `spec.json`, `manifest.json`, `curves.parquet`,
`model.safetensors`, then `evaluation.json` and `probes.json`. Tables, MLflow and reports are views of these files.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gt.errors import ConfigError

# What training writes, the manifest last, so that a record which has one is whole; then what is measured.
RECORD = ("spec.json", "curves.parquet", "model.safetensors", "manifest.json")
EVALUATION = "evaluation.json"
PROBES = "probes.json"


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success flush it to disk and rename it there, on failure remove it.

    A reader sees the old file or the new one, never a part, also after a crash or on a full disk.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write JSON that any parser reads: keys in the given order, no NaN or infinity (ValueError)."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file. ConfigError if it is missing or is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file.") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ConfigError(f"{path}: not valid JSON ({error}).") from None
