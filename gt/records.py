"""Run records and how they are written: whole or not at all, with sums by which a reader can tell that they still are.

`results/runs/<run_id>/` is the only truth about a run: `spec.json`, `manifest.json`, `curves.parquet`, `model.safetensors`,
then `evaluations/<name>.json` and `probes.json`. Tables, MLflow and reports are views of these files.

The manifest holds the size and the sha256 of each other file that training wrote; it and each measurement end with the sha256
of their own content. Records of before there were sums have none: they are read, and not checked.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from gt.errors import ConfigError

Json = dict[str, Any]
# What training writes, the manifest last, so that a record which has one is whole; then what is measured.
SPEC, CURVES, WEIGHTS, MANIFEST = "spec.json", "curves.parquet", "model.safetensors", "manifest.json"
RECORD = (SPEC, CURVES, WEIGHTS, MANIFEST)
# The folder has a file for each thing that was measured.
EVALUATIONS, PROBES = "evaluations", "probes.json"
FAILURE = "failure.json"
# Bytes above which a file is known by its size; its sum is checked where it is read.
LARGE = 1 << 24
# The keys of a sealed document that its sum stands under, and of the manifest that those of the other files do.
SUM, FILES = "sha256", "files"

# How many lists and objects of a JSON text may be inside each other: far more than any artefact has, and fewer than what
# writes them can follow.
DEEPEST = 100

# Of temporary files: whose they are, where several hosts share a disk.
HOST = platform.node().partition(".")[0][:60]


def temporary_name(path: Path) -> Path:
    """A name beside `path` that nobody else has, also of those on other hosts: `.<name>.<host>-<random>.tmp`."""
    return path.with_name(f".{path.name[:120]}.{HOST}-{secrets.token_hex(8)}.tmp")


@contextmanager
def atomic_write(path: Path, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success flush it to disk and rename it there, on failure remove it.

    A reader sees the old file or the new one, never a part, also after a crash or on a full disk; where it is not durable,
    after a crash of the machine perhaps a part.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(path)
    try:
        yield temporary
        if not durable:
            os.replace(temporary, path)
            return
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


@contextmanager
def temporary_folder(path: Path) -> Iterator[Path]:
    """A folder beside `path` meanwhile, for what is to be moved there. What a kill leaves of it can be told by its name."""
    folder = temporary_name(path)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove(path: Path) -> None:
    """A file, or a folder with all that it has; what is gone already, or is another user's to remove, is left."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(FileNotFoundError, PermissionError):
            path.unlink()


def write_json(path: Path, value: Any, durable: bool = True) -> None:
    """Write JSON that any parser reads: keys in the given order, no NaN or infinity (ValueError)."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with atomic_write(path, durable) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file. ConfigError if it is missing or is not JSON that any parser reads."""
    try:
        return parse_json(path.read_bytes())
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file.") from None
    except OSError as error:
        raise ConfigError(f"{path}: not readable ({error.strerror}).") from None
    except ValueError as error:
        raise ConfigError(f"{path}: not valid JSON ({error}).") from None


def parse_json(text: bytes) -> Any:
    """The value of a JSON text in UTF-8. ValueError where it is none, or not one that every parser reads alike: no NaN or
    infinity, no integer of more than 64 bits, no half of a surrogate pair, no key given twice, no more than 100 levels.
    """
    try:
        value = json.loads(
            text.decode("utf-8"),
            parse_constant=_number,
            parse_float=_number,
            parse_int=_integer,
            object_pairs_hook=_unique,
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    _check_depth(value, DEEPEST)
    if b"\\ud" in text.lower():
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    return value


def _check_depth(value: Any, left: int) -> None:
    if isinstance(value, (dict, list)):
        if left == 0:
            raise ValueError("it is nested too deeply")
        for own in value.values() if isinstance(value, dict) else value:
            _check_depth(own, left - 1)


def _number(digits: str) -> float:
    if not math.isfinite(value := float(digits)):
        raise ValueError(f"{digits} is not a finite number")
    return value


def _integer(digits: str) -> int:
    if not -(2**63) <= (value := int(digits)) < 2**63:
        raise ValueError(f"{digits} has more than 64 bits")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> Json:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} stands there twice")
    return found


def write_sealed(path: Path, document: Json, durable: bool = True) -> None:
    """Write a JSON object with the sum of its content as its last key."""
    content = {key: value for key, value in document.items() if key != SUM}
    write_json(path, {**content, SUM: _content_sha256(content)}, durable)


def read_sealed(path: Path) -> Json:
    """The content of a JSON object. ConfigError if it is missing, no JSON object, or not what was written."""
    return unsealed(read_json(path), path)


def unsealed(document: Any, source: object) -> Json:
    """The content of a document. ConfigError, which names its source, if it is no object or its sum is that of another."""
    if not isinstance(document, dict):
        raise ConfigError(f"{source}: must be a JSON object.")
    content = {key: value for key, value in document.items() if key != SUM}
    if SUM in document and document[SUM] != (found := _content_sha256(content)):
        raise ConfigError(f"{source}: damaged: the sha256 of its content is {found}, not {document[SUM]} as it says.")
    return content


def _content_sha256(content: Json) -> str:
    """Of what a reader will find, however the text is laid out."""
    read = json.loads(json.dumps(content, allow_nan=False))
    return hashlib.sha256(json.dumps(read, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def file_sums(folder: Path, names: Iterable[str]) -> Json:
    """The sizes and sums of files, as the manifest has them."""
    return {name: {"bytes": (folder / name).stat().st_size, "sha256": file_sha256(folder / name)} for name in names}


def check_file(path: Path, manifest: Json, full: bool = True) -> None:
    """ConfigError where a file of a record is missing, or not the one that the record's manifest has the size and sum of.

    full: the sum too, for which the file is read.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no such file.")
    try:
        if (known := manifest.get(FILES, {}).get(path.name)) is None:
            return
        n_bytes, sha256 = known["bytes"], known["sha256"]
    except (AttributeError, KeyError, TypeError):
        raise ConfigError(f"{path.parent / MANIFEST}: {FILES}: must have names, and `bytes` and `sha256` of each.") from None
    if (size := path.stat().st_size) != n_bytes:
        raise ConfigError(f"{path}: damaged: it has {size:,} bytes, not {n_bytes:,} as {MANIFEST} says.")
    if full and (found := file_sha256(path)) != sha256:
        raise ConfigError(f"{path}: damaged: its sha256 is {found}, not {sha256} as {MANIFEST} says.")


def file_sha256(path: Path) -> str:
    """The sum of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def measurements(folder: Path) -> list[str]:
    """The files of a record, relative to it, that were measured of the trained network."""
    found = [f"{EVALUATIONS}/{file.name}" for file in sorted((folder / EVALUATIONS).glob("*.json"))]
    return [*found, PROBES] if (folder / PROBES).exists() else found


def damage(folder: Path, full: bool = False) -> str | None:
    """What is wrong with the record of a finished run: the file, and what was expected of it. None where nothing is.

    Looks for the files and their sizes, and at the sums of the JSON documents; full: at all sums, for which the weights are
    read. A folder without a manifest is no finished record, and not damaged.
    """
    if not (folder / MANIFEST).exists():
        return None
    try:
        manifest = read_sealed(folder / MANIFEST)
        for name in RECORD:
            check_file(folder / name, manifest, full)
        for name in measurements(folder):
            read_sealed(folder / name)
    except ConfigError as error:
        return within(folder, error)
    return None


def within(folder: Path, error: Exception) -> str:
    """A message about a file of a folder, wherever the folder lies."""
    return str(error).replace(f"{folder}{os.sep}", "")
