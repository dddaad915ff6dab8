"""Reading files of text by pieces: plain UTF-8, lines of JSON, tables in columns; plain, or packed as .gz, .xz or .zst.

What is a file of another kind is refused with what to do about it.
"""

from __future__ import annotations

import codecs
import gzip
import hashlib
import json
import lzma
import shlex
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from gt.errors import ConfigError, nearest


def _zstd(path: Path, _mode: str) -> Any:
    import pyarrow

    return pyarrow.CompressedInputStream(pyarrow.OSFile(str(path)), "zstd")


PACKED: dict[str, Callable[..., Any]] = {".xz": lzma.open, ".gz": gzip.open, ".zst": _zstd}
LINES, DOCUMENT, TABLE, COLUMNS = "JSON objects a line", "JSON", "a table", "a table in columns"
# Files of many documents, by the end of their names.
OF_DOCUMENTS = {".jsonl": LINES, ".ndjson": LINES, ".parquet": COLUMNS}
# What else a file holds by the end of its name; `.gz`, `.xz` or `.zst` may come after it.
BY_NAME = {
    **dict.fromkeys((".json", ".ipynb"), DOCUMENT),
    **dict.fromkeys((".csv", ".tsv"), TABLE),
    **dict.fromkeys((".arrow", ".feather"), COLUMNS),
}
# What a file holds by its first bytes. None of these begins a text.
BY_START = {
    b"PAR1": "a table in columns, whose name must end with .parquet",
    b"ARROW1": COLUMNS,
    b"\x1f\x8b": "data packed by gzip, whose name must end with .gz",
    b"\xfd7zXZ\x00": "data packed by xz, whose name must end with .xz",
    b"(\xb5/\xfd": "data packed by zstd, whose name must end with .zst",
    b"BZh": "data packed by bzip2",
    b"PK\x03\x04": "a zip archive",
    b"%PDF-": "a PDF",
}
# How the field `text` of each becomes lines of JSON.
RECIPES = {
    DOCUMENT: "import json, sys; [print(json.dumps({{'text': row['{field}']}})) for row in json.load(open(sys.argv[1]))]",
    TABLE: "import pandas, sys; pandas.read_csv(sys.argv[1])[['{field}']].to_json(sys.stdout, orient='records', lines=True)",
    COLUMNS: "import pandas, sys; "
    "pandas.read_feather(sys.argv[1])[['{field}']].to_json(sys.stdout, orient='records', lines=True)",
}
# Lines that are looked at to tell JSON objects a line from a text.
LOOKED_AT = 10
# Bytes that are read at once, and up to which a text is looked at as one JSON document.
PIECE, LARGE = 1 << 20, 1 << 24
# Rows of a table that are read at once.
ROWS = 1024


def kind(path: Path) -> str:
    """What a file is read as, by its name: LINES, COLUMNS, or text."""
    return OF_DOCUMENTS.get(_suffix(path), "text")


def text_pieces(path: Path, sha256: str | None = None) -> Iterator[str]:
    """A text file by pieces of about a megabyte.

    ConfigError if it is missing, cannot be read, is no UTF-8, holds no text or something else, or, after its last piece, if its
    text has another sum than is given.
    """
    _refuse(path, BY_NAME.get(_suffix(path)) if path.exists() else None)
    decoder, digest = codecs.getincrementaldecoder("utf-8")(), hashlib.sha256()
    n_bytes, is_empty = 0, True
    for i, (data, is_last) in enumerate(_with_last(_chunks(path))):
        digest.update(data)
        if i == 0:
            _refuse(path, next((what for start, what in BY_START.items() if data.startswith(start)), None))
        begun = len(decoder.getstate()[0])  # bytes of a character that the last piece ended in
        try:
            text = decoder.decode(data, is_last)
        except UnicodeDecodeError as error:
            raise ConfigError(
                f"{path}: not UTF-8 at byte {n_bytes - begun + error.start:,}, 0x{error.object[error.start]:02x} "
                f"({error.reason}); `iconv -f <its encoding> -t utf-8` makes it so."
            ) from None
        if (zero := data.find(b"\0")) >= 0:
            raise ConfigError(f"{path}: byte {n_bytes + zero:,} is zero: the file holds binary data, not text.")
        n_bytes += len(data)
        is_empty = is_empty and (not text or text.isspace())
        if i == 0 and not is_empty:
            _refuse_json(path, text, is_last)
        yield text
    if n_bytes == 0:
        raise ConfigError(f"{path}: the file is empty.")
    if is_empty:
        raise ConfigError(f"{path}: the file holds nothing but white space.")
    if sha256 is not None and (got := digest.hexdigest()) != sha256:
        raise ConfigError(f"{path}: sha256 of the text is {got}, expected {sha256}.")


def read_text(path: Path, sha256: str | None = None) -> bytes:
    """The bytes of a small text file; see `text_pieces`."""
    return "".join(text_pieces(path, sha256)).encode()


def json_texts(path: Path, field: str) -> Iterator[str]:
    """The texts of a field, one a line, which holds a JSON object; null is an empty one. ConfigError names a line without."""
    number = 0
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        where = f"{path}, line {number:,}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:  # also what is no UTF-8
            raise ConfigError(f"{where}: is no JSON ({error}).") from None
        if not isinstance(row, dict):
            raise ConfigError(f"{where}: is no JSON object.")
        if field not in row:
            raise ConfigError(f"{where}: field: there is no {field!r}.{nearest(field, row)}")
        yield as_text(row[field], f"{where}: field {field!r}")
    if number == 0:
        raise ConfigError(f"{path}: the file is empty.")


def column_texts(path: Path, column: str) -> Iterator[str]:
    """The texts of a column of a Parquet file, read by row groups; null is an empty one. ConfigError for a column of others."""
    import pyarrow
    from pyarrow import parquet

    if path.suffix in PACKED:
        raise ConfigError(f"{path}: a Parquet file is packed inside already; unpack it.")
    try:
        with parquet.ParquetFile(path, buffer_size=PIECE, pre_buffer=False) as file:  # a page at a time
            schema = file.schema_arrow
            if column not in schema.names:
                raise ConfigError(f"{path}: column: there is no {column!r}.{nearest(column, schema.names)}")
            for batch in file.iter_batches(batch_size=ROWS, columns=[column]):
                for value in batch.column(0).to_pylist():
                    yield as_text(value, f"{path}: column {column!r}")
    except (OSError, pyarrow.ArrowException) as error:
        raise ConfigError(f"{path}: cannot be read ({error}).") from None


def as_text(value: Any, what: str) -> str:
    """A value that must be a text; null is an empty one. ConfigError for another, and for a text that has no UTF-8."""
    if not isinstance(value, str | None):
        raise ConfigError(f"{what} holds {json.dumps(value, default=str)[:60]}, not text.")
    try:
        (value or "").encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"{what} holds half of a surrogate pair at character {error.start:,}.") from None
    return value or ""


def _chunks(path: Path) -> Iterator[bytes]:
    """The bytes of a file, unpacked; what may be one JSON document is in the first piece up to `LARGE` bytes."""
    try:
        if path.exists() and not path.is_file():
            raise ConfigError(f"{path}: is no file.")
        with PACKED.get(path.suffix, open)(path, "rb") as file:
            data = file.read(PIECE)
            if data.lstrip()[:1] in (b"{", b"["):
                data += file.read(LARGE - len(data))
            while data:
                yield data
                data = file.read(PIECE)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file.") from None
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise ConfigError(f"{path}: cannot be read ({error}).") from None


def _with_last(items: Iterable[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Each item, and whether it is the last."""
    iterator = iter(items)
    if (item := next(iterator, None)) is None:
        return
    for following in iterator:
        yield item, False
        item = following
    yield item, True


def _lines(path: Path) -> Iterator[bytes]:
    """The lines of a file, without their ends."""
    rest = b""
    for data in _chunks(path):
        *lines, rest = (rest + data).split(b"\n")
        yield from lines
    if rest:
        yield rest


def _suffix(path: Path) -> str:
    """What the name of a file ends with, before what it is packed by."""
    return (Path(path.stem) if path.suffix in PACKED else path).suffix.lower()


def _refuse(path: Path, what: str | None) -> None:
    """ConfigError if a file holds something else than text."""
    if what is None:
        return
    if what not in RECIPES:
        raise ConfigError(f"{path}: it holds {what}, not text.")
    recipe = RECIPES[what].format(field="text")
    packed = path.suffix in PACKED
    source, target = (
        shlex.quote(str(path.with_suffix("") if packed else path)),
        shlex.quote(f"{path.name.split('.')[0]}_text.jsonl"),
    )
    part = "field" if what == DOCUMENT else "column"
    raise ConfigError(
        f"{path}: it holds {what}, not text. {'Unpack it, and write' if packed else 'Write'} its {part} of text, here text, as"
        f' lines of JSON: python -c "{recipe}" {source} > {target}'
    )


def _refuse_json(path: Path, text: str, is_whole: bool) -> None:
    """ConfigError for a file without a name that says so of JSON. text: the first piece, or all of it."""
    objects = _objects(text)
    if len(objects) > 1:
        texts = [key for key, value in objects[0].items() if isinstance(value, str)]
        fields = "text" if "text" in texts or not texts else texts[0]
        named = path.name.split(".")[0] + ".jsonl" + (path.suffix if path.suffix in PACKED else "")
        raise ConfigError(
            f"{path}: it holds {LINES}, not text. Name it {named}; the field {fields!r} of each line is then a document."
        )
    _refuse(path, DOCUMENT if objects or (is_whole and _is_document(text)) else None)


def _objects(text: str) -> list[dict[str, Any]]:
    """The first lines of a text as JSON objects; none where one of them is something else."""
    found = []
    for line in filter(str.strip, text[:PIECE].split("\n", 4 * LOOKED_AT)[: 4 * LOOKED_AT]):
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
