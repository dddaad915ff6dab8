"""Reading a text file: UTF-8, plain, .xz or .gz. What is a file of another kind is refused with what to do about it."""

from __future__ import annotations

import gzip
import json
import lzma
import shlex
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gt.errors import ConfigError

PACKED: dict[str, Callable[..., Any]] = {".xz": lzma.open, ".gz": gzip.open}
LINES, DOCUMENT, TABLE, COLUMNS = "JSON objects a line", "JSON", "a table", "a table in columns"
# What a file holds by the end of its name; `.gz` or `.xz` may come after it.
BY_NAME = {
    **dict.fromkeys((".jsonl", ".ndjson"), LINES),
    **dict.fromkeys((".json", ".ipynb"), DOCUMENT),
    **dict.fromkeys((".csv", ".tsv"), TABLE),
    **dict.fromkeys((".parquet", ".arrow", ".feather"), COLUMNS),
}
# What a file holds by its first bytes. None of these begins a text.
BY_START = {
    b"PAR1": COLUMNS,
    b"ARROW1": COLUMNS,
    b"\x1f\x8b": "data packed by gzip, whose name must end with .gz",
    b"\xfd7zXZ\x00": "data packed by xz, whose name must end with .xz",
    b"(\xb5/\xfd": "data packed by zstd",
    b"BZh": "data packed by bzip2",
    b"PK\x03\x04": "a zip archive",
    b"%PDF-": "a PDF",
}
# How the field `text` of each becomes a text.
RECIPES = {
    LINES: "import json, sys; [print(json.loads(line)['{field}']) for line in open(sys.argv[1])]",
    DOCUMENT: "import json, sys; [print(row['{field}']) for row in json.load(open(sys.argv[1]))]",
    TABLE: "import pandas, sys; print(*pandas.read_csv(sys.argv[1])['{field}'], sep='\\n')",
    COLUMNS: "import pandas, sys; print(*pandas.read_parquet(sys.argv[1])['{field}'], sep='\\n')",
}
# Lines that are looked at to tell JSON objects a line from a text.
LOOKED_AT = 10


def read_text(path: Path) -> bytes:
    """The bytes of a text file. ConfigError if it is missing, cannot be read, is no UTF-8, holds no text, or something else."""
    try:
        if path.exists() and not path.is_file():
            raise ConfigError(f"{path}: is no file.")
        _refuse(path, BY_NAME.get(_kind(path)) if path.exists() else None)
        with PACKED.get(path.suffix, open)(path, "rb") as file:
            data: bytes = file.read()
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file.") from None
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise ConfigError(f"{path}: cannot be read ({error}).") from None
    if not data:
        raise ConfigError(f"{path}: the file is empty.")
    _refuse(path, next((what for start, what in BY_START.items() if data.startswith(start)), None))
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        byte = f"byte {error.start:,}, 0x{data[error.start]:02x}"
        raise ConfigError(
            f"{path}: not UTF-8 at {byte} ({error.reason}); `iconv -f <its encoding> -t utf-8` makes it so."
        ) from None
    if text.isspace():
        raise ConfigError(f"{path}: the file holds nothing but white space.")
    if (at := data.find(b"\0")) >= 0:
        raise ConfigError(f"{path}: byte {at:,} is zero: the file holds binary data, not text.")
    objects = _objects(text)
    _refuse(path, LINES if len(objects) > 1 else DOCUMENT if objects or _is_document(text) else None, objects)
    return data


def _kind(path: Path) -> str:
    """What the name of a file ends with, before .xz or .gz."""
    return (Path(path.stem) if path.suffix in PACKED else path).suffix.lower()


def _refuse(path: Path, what: str | None, objects: list[dict[str, Any]] | None = None) -> None:
    """ConfigError if a file holds something else than text."""
    if what is None:
        return
    if what not in RECIPES:
        raise ConfigError(f"{path}: it holds {what}, not text.")
    texts = [key for key, value in (objects or [{}])[0].items() if isinstance(value, str)]
    recipe = RECIPES[what].format(field="text" if "text" in texts or not texts else texts[0])
    part = "column" if what in (TABLE, COLUMNS) else "field"
    packed = path.suffix in PACKED
    source, target = (
        shlex.quote(str(path.with_suffix("") if packed else path)),
        shlex.quote(f"{path.name.split('.')[0]}_text.txt"),
    )
    raise ConfigError(
        f"{path}: it holds {what}, not text. {'Unpack it, and write' if packed else 'Write'} out one {part} as text: "
        f'python -c "{recipe}" {source} > {target}'
    )


def _objects(text: str) -> list[dict[str, Any]]:
    """The first lines of a text as JSON objects; none where one of them is something else."""
    found = []
    for line in filter(str.strip, text[: 1 << 20].split("\n", 4 * LOOKED_AT)[: 4 * LOOKED_AT]):
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            return []
        if not isinstance(value, dict):
            return []
        found.append(value)
        if len(found) == LOOKED_AT:
            break
    return found


def _is_document(text: str) -> bool:
    """Whether a text is one JSON object or list."""
    if text.lstrip()[:1] not in ("{", "["):
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
