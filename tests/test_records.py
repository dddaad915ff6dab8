"""A file of a record is whole or it is not there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gt.errors import ConfigError
from gt.records import (
    atomic_write,
    damage,
    file_sums,
    read_json,
    read_sealed,
    remove,
    temporary_folder,
    temporary_name,
    write_json,
    write_sealed,
)

HELD_OUT = "evaluations/held_out.json"


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


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[NaN]", b"[1e999]", b'{"a": 1, "a": 2}', b"[" * 100_000])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.json").write_bytes(content)
    with pytest.raises(ConfigError, match=r"m\.json: not valid JSON"):
        read_json(tmp_path / "m.json")


@pytest.fixture
def record(tmp_path: Path) -> Path:
    """Of a run that was trained, evaluated and probed; what its files hold does not matter."""
    folder = tmp_path / "run"
    files = {"spec.json": b"{}", "curves.parquet": b"curves", "model.safetensors": bytes(1000)}
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    write_sealed(folder / "manifest.json", {"seconds": 1.25, 7: [None, True, "\u00fc"], "files": file_sums(folder, files)})
    write_sealed(folder / HELD_OUT, {"loss": 4.11825})
    write_sealed(folder / "probes.json", {"measures": {}})
    return folder


def test_a_sealed_document_reads_as_it_was_written_however_it_is_laid_out(record: Path) -> None:
    path = record / HELD_OUT
    assert read_sealed(path) == {"loss": 4.11825}
    document = read_json(path)
    assert list(document) == ["loss", "sha256"]
    path.write_text(json.dumps({**document, "loss": 4.11825}, indent=7, sort_keys=True) + "\n\n")
    assert read_sealed(path) == {"loss": 4.11825}
    assert damage(record, full=True) is None


def test_every_digit_of_a_sealed_document_counts(record: Path) -> None:
    path = record / HELD_OUT
    text = path.read_text()
    digits = [i for i in range(text.index("4.11825"), text.index("4.11825") + 7) if text[i] != "."]
    for i in digits:
        path.write_text(text[:i] + str((int(text[i]) + 1) % 10) + text[i + 1 :])
        with pytest.raises(ConfigError, match=r"held_out\.json: damaged: the sha256 of its content is [0-9a-f]{64}, not "):
            read_sealed(path)
        assert str(damage(record)).startswith(f"{HELD_OUT}: damaged: ")


def test_a_document_of_before_there_were_sums_is_read(record: Path) -> None:
    write_json(record / HELD_OUT, {"loss": 1.0})
    write_json(record / "manifest.json", {"seconds": 1.0})
    assert read_sealed(record / HELD_OUT) == {"loss": 1.0}
    assert damage(record, full=True) is None


@pytest.mark.parametrize("name", ["spec.json", "curves.parquet", "model.safetensors", "manifest.json"])
def test_files_that_are_cut_short_or_gone_are_damage_that_is_seen_without_reading_them(record: Path, name: str) -> None:
    path = record / name
    path.write_bytes(path.read_bytes()[:-2])
    assert str(damage(record)).startswith(f"{name}: ")
    path.unlink()
    said = damage(record)
    assert said is None if name == "manifest.json" else said == f"{name}: no such file."


@pytest.mark.parametrize("name", ["spec.json", "curves.parquet", "model.safetensors"])
def test_a_flipped_bit_is_damage_that_is_seen_when_the_files_are_read(record: Path, name: str) -> None:
    content = bytearray((record / name).read_bytes())
    content[len(content) // 2] ^= 4
    (record / name).write_bytes(content)
    assert damage(record) is None
    assert str(damage(record, full=True)).startswith(f"{name}: damaged: its sha256 is ")


def test_a_manifest_whose_sums_are_none_is_damage(record: Path) -> None:
    for files in ([], {"spec.json": 3}, {"spec.json": {"bytes": 2}}):
        write_json(record / "manifest.json", {"files": files})
        assert "files" in str(damage(record))


def test_temporary_names_are_hidden_and_never_the_same(tmp_path: Path) -> None:
    path = tmp_path / ("a" * 250)
    names = {temporary_name(path).name for _ in range(100)}
    assert len(names) == 100
    assert all(name.startswith(".a") and name.endswith(".tmp") and len(name) < 250 for name in names)
    with atomic_write(path) as temporary:
        temporary.write_text("whole")
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_temporary_folder_is_gone_afterwards_whatever_becomes_of_it(tmp_path: Path) -> None:
    with temporary_folder(tmp_path / "sub/all") as moved, temporary_folder(tmp_path / "sub/all") as kept:
        assert moved != kept
        (kept / "a").write_text("")
        moved.rename(tmp_path / "sub/all")
    with pytest.raises(OSError, match="full"), temporary_folder(tmp_path / "sub/all"):
        raise OSError("disk full")
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["all"]


def test_files_and_folders_are_removed_and_what_is_gone_is_no_matter(tmp_path: Path) -> None:
    (tmp_path / "folder/sub").mkdir(parents=True)
    (tmp_path / "file").write_text("")
    for name in ("folder", "file", "gone"):
        remove(tmp_path / name)
    assert not list(tmp_path.iterdir())
