"""A result is current while its sources and its own files are what they were."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import records
from runs import run_spec

from gt.artefacts import write
from gt.fingerprint import PACKAGE
from gt.made import is_current, is_whole, is_whole_database, noted


def result(folder: Path) -> Path:
    """A result of two files, and its note."""
    with noted(folder / "made-of/tables", "abc", folder, "*.csv", "figures/**/*"):
        (folder / "figures").mkdir(parents=True)
        (folder / "table.csv").write_text("1,2\n")
        (folder / "figures/loss.svg").write_text("<svg/>")
    return folder / "made-of/tables"


def test_a_result_is_current_while_its_sources_are_the_same(tmp_path: Path) -> None:
    note = result(tmp_path)
    assert is_current(note, "abc")
    assert not is_current(note, "abd")


def test_it_is_current_wherever_it_is_copied_and_whenever_it_is_touched(tmp_path: Path) -> None:
    result(tmp_path / "here")
    shutil.copytree(tmp_path / "here", tmp_path / "there", copy_function=shutil.copyfile)
    os.utime(tmp_path / "there/table.csv", (0, 0))
    assert is_current(tmp_path / "there/made-of/tables", "abc")


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "table.csv").write_text("1,3\n"),
        lambda folder: os.truncate(folder / "figures/loss.svg", 3),
        lambda folder: (folder / "figures/loss.svg").unlink(),
        lambda folder: shutil.rmtree(folder / "figures"),
        lambda folder: (folder / "made-of/tables").unlink(),
        lambda folder: (folder / "made-of/tables").write_text("abc\n"),
        lambda folder: (folder / "made-of/tables").write_text("[]"),
    ],
    ids=["another number", "cut off", "a file removed", "a folder removed", "no note", "a note of another form", "no object"],
)
def test_it_is_not_current_once_a_file_is_not_what_was_written(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    note = result(tmp_path)
    damage(tmp_path)
    assert not is_current(note, "abc")


def test_work_that_fails_leaves_no_note(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="disk"), noted(tmp_path / "note", "abc", tmp_path, "*"):
        raise OSError("the disk is full")
    assert not is_whole(tmp_path / "note")


def test_a_database_is_whole_that_has_the_pages_of_its_header(tmp_path: Path) -> None:
    file = tmp_path / "runs.db"
    assert not is_whole_database(file)
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("CREATE TABLE runs (id INTEGER)")
        database.executemany("INSERT INTO runs VALUES (?)", [(i,) for i in range(10_000)])
    assert is_whole_database(file)
    os.truncate(file, file.stat().st_size - 4096)
    assert not is_whole_database(file)
    os.truncate(file, 50)
    assert not is_whole_database(file)


def test_a_docstring_that_the_report_quotes_makes_the_report_again_and_nothing_else(tmp_path: Path) -> None:
    package = Path(shutil.copytree(PACKAGE, tmp_path / "gt", ignore=shutil.ignore_patterns("__pycache__")))
    model = {"d_model": 16, "n_layer": 1, "layers": "a", "mixers": {"a": {"name": "attention", "n_head": 2}}}
    write(tmp_path / "study/plan.json", records.of_runs([run_spec(model)]))
    script = (
        "from pathlib import Path; from gt import made; from gt.spec import corpus_spec as corpus;"
        "study, none = Path('study'), Path('none');"
        "print(made.of_report(study, none, none), made.of_figures(study), made.of_verdicts(study, none),"
        "made.of_corpus(corpus('embedded')))"
    )

    def sums() -> list[str]:
        environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
        command = [sys.executable, "-c", script]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout.split()

    before = sums()
    for name, old in (("linear_attention", "Formula: "), ("attention", "Formula: ")):
        file = package / f"models/mixers/{name}.py"
        file.write_text(file.read_text().replace(old, f"{old}z = "))
        after = sums()
        assert after[1:] == before[1:]
        assert (after[0] != before[0]) == (name == "attention"), "the study has no linear attention"
