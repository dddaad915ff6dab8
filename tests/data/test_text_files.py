"""A text file is read as it is, or refused with what it holds and what to do."""

from __future__ import annotations

import csv
import gzip
import json
import lzma
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.feather as feather
import pytest

from gt.data.sums import file_sha256
from gt.data.text_files import json_texts, read_text
from gt.errors import ConfigError

ROWS = [{"id": i, "text": f"It's line {i}.", "note": "x"} for i in range(12)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("empty.txt", b"", "is empty"),
        ("white.txt", "\n \u3000\t\n".encode(), "nothing but white space"),
        ("binary.txt", b"abc\0def", "byte 3 is zero"),
        ("empty.txt.gz", gzip.compress(b"", mtime=0), "is empty"),
        ("latin.txt", b"caf\xe9 au lait", "not UTF-8 at byte 3, 0xe9"),
        ("surrogate.txt", b"ab\xed\xa0\x80", "not UTF-8 at byte 2"),
        ("cut.txt.xz", lzma.compress(b"abc" * 100)[:-8], "cannot be read"),
        ("cut.txt.gz", gzip.compress(b"abc" * 100, mtime=0)[:-8], "cannot be read"),
        ("plain.txt.xz", b"not compressed", "cannot be read"),
        ("plain.txt.gz", b"not compressed", "cannot be read"),
    ],
)
def test_a_file_that_is_not_text_is_refused_by_name(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=rf"{name}: .*{message}"):
        file_sha256(tmp_path / name)


def test_a_missing_file_and_an_empty_folder_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="nowhere.txt: no such file"):
        file_sha256(tmp_path / "nowhere.txt")
    with pytest.raises(ConfigError, match="holds no file"):
        file_sha256(tmp_path)


@pytest.mark.parametrize(
    "name, content, what",
    [
        ("d.txt", LINES, "JSON objects a line"),
        ("d.txt.xz", lzma.compress(LINES), "JSON objects a line"),
        ("d.json", b"no matter what", "JSON"),
        ("d.txt", json.dumps(ROWS, indent=1).encode(), "JSON"),
        ("d.csv", b"text\nabc\n", "a table"),
        ("d.feather", b"no matter what", "a table in columns"),
        ("d.txt", b"PAR1\x15\x04", r"a table in columns, whose name must end with \.parquet"),
        ("d.txt", gzip.compress(b"abc", mtime=0), r"data packed by gzip, whose name must end with \.gz"),
        ("d.txt", lzma.compress(b"abc"), r"data packed by xz, whose name must end with \.xz"),
        ("d.txt", b"PK\x03\x04\x14", "a zip archive"),
        ("d.pdf", b"%PDF-1.7 text", "a PDF"),
    ],
)
def test_what_is_no_plain_text_is_refused_by_name_or_content(name, content, what, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=rf"{name}: it holds {what}, not text\."):
        read_text(tmp_path / name)


@pytest.mark.parametrize("kind", ["json", "csv", "feather"])
def test_the_command_of_the_message_writes_lines_of_json(kind, tmp_path):
    path = tmp_path / f"data.{kind}"
    match kind:
        case "json":
            path.write_text(json.dumps(ROWS))
        case "csv":
            with path.open("w", newline="") as file:
                writer = csv.DictWriter(file, ROWS[0])
                writer.writeheader()
                writer.writerows(ROWS)
        case _:
            feather.write_feather(pa.Table.from_pylist(ROWS), path)
    with pytest.raises(ConfigError) as error:
        read_text(path)
    command = str(error.value).partition("lines of JSON: ")[2]
    assert shlex.split(command)[-2:] == [">", "data_text.jsonl"]
    command = command.replace("python", shlex.quote(sys.executable), 1)
    subprocess.run(command, shell=True, check=True, cwd=tmp_path)
    assert list(json_texts(tmp_path / "data_text.jsonl", "text")) == [row["text"] for row in ROWS]


def test_what_is_packed_is_to_be_unpacked_and_nothing_is_written_over_it(tmp_path):
    path = tmp_path / "my data.csv.gz"
    path.write_bytes(gzip.compress(b"text\nabc\n"))
    with pytest.raises(ConfigError, match=r"Unpack it, and write .*'.*/my data\.csv' > 'my data_text\.jsonl'$"):
        read_text(path)


def test_lines_of_json_without_the_name_are_told_it_and_a_field_that_is_there(tmp_path):
    path = tmp_path / "d.txt.gz"
    path.write_bytes(gzip.compress(b'{"n": 1, "body": "abc"}\n{"n": 2, "body": "def"}\n'))
    with pytest.raises(ConfigError, match=r"Name it d\.jsonl\.gz; the field 'body' of each line"):
        read_text(path)


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1} is a mapping\n',
        "[1] a list of notes\n[2] and on\n",
        "{\n  int x;\n}\n",
        "12\n34\n",
        '"quoted"\n',
        "[\n" * 2000,
    ],
)
def test_text_that_only_looks_like_json_is_text(text, tmp_path: Path):
    (tmp_path / "t.txt").write_text(text)
    assert read_text(tmp_path / "t.txt") == text.encode()


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/null")):
        with pytest.raises(ConfigError, match="is no file"):
            read_text(path)
