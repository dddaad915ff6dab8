"""What is finished of a run, what stands aside, and what a kill leaves behind."""

from __future__ import annotations

import os
import platform
import time
from collections import Counter
from pathlib import Path

import pytest
import records
from runs import run_spec

from gt.artefacts import write
from gt.fetch import bring, fetch
from gt.fingerprint import code_of_training
from gt.records import MANIFEST, PROBES, RECORD, SPEC, file_sums, read_json, write_json, write_sealed
from gt.stage import damaged, left_behind, made, outdated, put_away
from gt.wanted import Wanted

HELD_OUT = "evaluations/held_out.json"


def record(folder: Path) -> Path:
    """A folder with the files of a trained run, of which curves and weights are not looked at here."""
    for name in RECORD:
        write_json(folder / name, {"name": name})
    write_json(folder / "spec.json", run_spec().model_dump(mode="json"))
    return described(folder)


def described(folder: Path, *names: str) -> Path:
    """The same with the sums of some files in its manifest."""
    write(folder / "manifest.json", records.manifest(run_spec(), files=file_sums(folder, names)))
    return folder


def test_standing_aside_does_not_touch_the_original(tmp_path: Path) -> None:
    original = record(tmp_path / "run")
    for name in RECORD:
        os.utime(original / name, (1e9, 1e9))
    bring(original, tmp_path / "staged", *RECORD)
    assert {(original / name).stat().st_mtime for name in RECORD} == {1e9}
    assert {(tmp_path / "staged" / name).read_bytes() for name in RECORD} == {(original / n).read_bytes() for n in RECORD}


def test_what_a_pack_has_made_is_fetched_over_what_was_there_and_then_given_up(tmp_path: Path) -> None:
    staged, target = record(tmp_path / "staged"), record(tmp_path / "run")
    for name in (HELD_OUT, "evaluations/needle.json", PROBES):
        write_json(staged / name, {"of": "this training"})
        write_json(target / name, {"of": "an earlier one"})
    write_json(target / "failure.json", {"of": "an earlier one"})
    assert fetch(staged, target, *RECORD)
    assert {file.name for file in target.rglob("*") if file.is_file()} == set(RECORD)
    assert fetch(staged, target, HELD_OUT, "evaluations/needle.json")
    assert not list(staged.glob("evaluations/*"))
    assert {(staged / name).exists() for name in (*RECORD, PROBES)} == {True}
    assert fetch(staged, target, PROBES)
    assert read_json(target / HELD_OUT) == read_json(target / PROBES) == {"of": "this training"}
    assert not staged.exists()


def test_what_a_pack_has_left_of_a_run_that_failed_is_given_up(tmp_path: Path) -> None:
    staged, target = record(tmp_path / "staged"), record(tmp_path / "run")
    assert not fetch(staged, target)
    assert not staged.exists()
    assert (target / "manifest.json").exists()


def test_what_is_staged_counts_as_made_only_where_it_is_of_now(tmp_path: Path) -> None:
    spec, staged = run_spec(), tmp_path / "staged"
    assert made(staged, Wanted((spec,)), tmp_path) == {}
    record(staged)
    write(staged / "manifest.json", records.manifest(spec, code={"gt.models.lm": "of another version"}))
    assert made(staged, Wanted((spec,)), tmp_path) == {}
    write(staged / "manifest.json", records.manifest(spec, code=code_of_training(spec)))
    assert made(staged, Wanted((spec,)), tmp_path) == {"train": list(RECORD)}
    assert made(staged, Wanted((run_spec(seed=spec.seed + 1),)), tmp_path) == {}
    write_json(staged / PROBES, {"of": "no form"})
    assert made(staged, Wanted((spec,)), tmp_path) == {"train": list(RECORD)}


def test_that_a_run_is_current_takes_each_of_its_documents_once_and_the_manifest_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = run_spec()
    run, read = records.write_current(tmp_path / "run", spec), Counter[str]()
    really = Path.read_bytes

    def counted(path: Path) -> bytes:
        if path.is_relative_to(run):
            read[path.relative_to(run).as_posix()] += 1
        return really(path)

    monkeypatch.setattr(Path, "read_bytes", counted)
    assert outdated(run, Wanted((spec,)), tmp_path) == set()
    assert read == {MANIFEST: 2, SPEC: 1, HELD_OUT: 1, PROBES: 1}


def test_a_record_is_damaged_where_a_file_is_lost_or_of_another_size_or_no_document(tmp_path: Path) -> None:
    assert damaged(tmp_path / "not yet") == []
    assert damaged(record(tmp_path / "run")) == []
    assert damaged(described(tmp_path / "run", "curves.parquet", "model.safetensors")) == []
    (tmp_path / "run/curves.parquet").write_bytes((tmp_path / "run/curves.parquet").read_bytes().swapcase())
    assert damaged(tmp_path / "run") == ["curves.parquet"]
    os.truncate(tmp_path / "run/model.safetensors", 1)
    assert damaged(tmp_path / "run") == ["curves.parquet", "model.safetensors"]
    (tmp_path / "run/model.safetensors").unlink()
    assert damaged(tmp_path / "run") == ["curves.parquet", "model.safetensors"]
    (tmp_path / "run/manifest.json").unlink()  # a run that was killed while its record was written
    assert damaged(tmp_path / "run") == []
    (tmp_path / "run/evaluations").mkdir()
    (tmp_path / "run" / HELD_OUT).write_text('{"code": ')
    assert damaged(tmp_path / "run") == [HELD_OUT]


def test_a_manifest_that_contradicts_its_specification_or_is_none_is_damaged(tmp_path: Path) -> None:
    run = record(tmp_path / "run")
    write(run / "manifest.json", records.manifest(run_spec(), steps_completed=7))
    assert damaged(run) == ["manifest.json"]
    write_sealed(run / "manifest.json", {"run_id": "of something else"})
    assert damaged(run) == ["manifest.json"]


def test_a_flipped_bit_of_large_weights_is_found_where_they_are_to_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gt.stage.LARGE", 0)
    run = described(record(tmp_path / "run"), "model.safetensors")
    (run / "model.safetensors").write_bytes((run / "model.safetensors").read_bytes().swapcase())
    assert damaged(run) == ["model.safetensors"]
    for name in (HELD_OUT, PROBES):
        write_sealed(run / name, {})
    assert damaged(run) == []
    monkeypatch.setattr("gt.stage.LARGE", 1 << 24)
    assert damaged(run) == ["model.safetensors"]


def test_what_is_damaged_is_moved_aside_and_never_over_another(tmp_path: Path) -> None:
    for _ in range(2):
        run = record(tmp_path / "run")
        (run / "evaluations").mkdir()
        (run / HELD_OUT).write_text("{")
        put_away(run, [HELD_OUT], tmp_path / "damaged")
        assert sorted(file.name for file in run.rglob("*.*")) == sorted(RECORD)
        (run / "evaluations").rmdir()
    put_away(run, ["curves.parquet"], tmp_path / "damaged")
    assert not run.exists()
    kept = {folder.name: len(list(folder.iterdir())) for folder in (tmp_path / "damaged").iterdir()}
    assert kept == {"run.0": 1, "run.1": 1, "run.2": len(RECORD)}


def test_what_a_kill_leaves_behind_is_found_and_what_is_being_written_is_not(tmp_path: Path) -> None:
    here, hexadecimal, now = platform.node(), "0123456789abcdef", time.time()
    dead = [tmp_path / f".weights.{here}-{hexadecimal}.tmp", tmp_path / ".weights.123.tmp"]
    elsewhere = tmp_path / f".weights.another-{hexadecimal}.tmp"
    folder = tmp_path / f".corpus.{here}-{hexadecimal}.tmp"
    folder.mkdir()
    for file in [*dead, elsewhere, folder / "text", tmp_path / "notes.tmp"]:
        file.write_text("")
    with open(tmp_path / f".curves.{here}-{hexadecimal}.tmp", "w"):
        assert left_behind(tmp_path, now) == sorted(dead)
        assert left_behind(tmp_path, now + 25 * 3600) == sorted([*dead, elsewhere, folder])


def test_a_folder_that_is_still_written_to_is_not_left_behind(tmp_path: Path) -> None:
    folder, now = tmp_path / ".corpus.another-0123456789abcdef.tmp", time.time()
    folder.mkdir()
    os.utime(folder, (now - 48 * 3600, now - 48 * 3600))
    assert left_behind(tmp_path, now) == [folder]
    (folder / "text").write_text("")
    os.utime(folder, (now - 48 * 3600, now - 48 * 3600))
    assert left_behind(tmp_path, now) == []
