"""A file of a record is whole or it is not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from gt.errors import ConfigError
from gt.records import atomic_write, read_json, write_json


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    write_json(file, {"old": 1})
    with pytest.raises(OSError, match="full"), atomic_write(file) as temporary:
        temporary.write_text("half")
        raise OSError("disk full")
    assert read_json(file) == {"old": 1}
    assert list(tmp_path.iterdir()) == [file]


def test_a_full_disk_leaves_earlier_records_whole(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", [1])
    # Every write to /dev/full fails with "no space left on device".
    with pytest.raises(OSError, match="No space left"), open("/dev/full", "w", buffering=1) as full:
        full.write("x\n")
        full.flush()
    assert read_json(tmp_path / "a.json") == [1]


def test_nan_is_not_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", float("nan"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe"])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.json").write_bytes(content)
    with pytest.raises(ConfigError, match=r"m\.json: not valid JSON"):
        read_json(tmp_path / "m.json")
