"""Attempts are added to the ledger, whole, and stay; and they say what code took part."""

from __future__ import annotations

import json
import os
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import torch

from gt.artefacts import Attempt, Usage
from gt.attempts import Entry, first_start, new_id, of_run, started_at, used
from gt.errors import ConfigError
from gt.records import write_sealed
from gt.training import provenance
from gt.training.provenance import commit, modified

RUN = "GF-char-s0-0123456789"
THEN = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


def attempt(started: datetime = THEN, **changes: Any) -> Attempt:
    about = {
        "id": new_id(started), "run_id": RUN, "started": started, "ended": None, "outcome": None, "error": None,
        "host": "here", "process": 1, "device": "cpu", "gpu": None, "versions": {}, "git_commit": None, "modified": None,
        "code": {}, "resumed_at": None, "usage": Usage.nothing("it has just begun"),
    }  # fmt: skip
    return Attempt.model_validate(about | changes)


def spent(seconds: float) -> Usage:
    unknown = {"energy_joules": "no energy counter"}
    return Usage(device_seconds=seconds, energy_joules=None, peak_memory_bytes=1, unknown=unknown)


def test_an_attempt_stands_in_the_ledger_from_its_start_and_is_written_again_at_its_end(tmp_path: Path) -> None:
    entry = Entry(tmp_path, attempt())
    assert [(a.outcome, a.ended) for a in of_run(tmp_path, RUN)] == [(None, None)]
    entry.note(usage=spent(5.0), resumed_at=7)
    (known,) = of_run(tmp_path, RUN)
    assert (known.outcome, known.resumed_at, known.usage.device_seconds) == (None, 7, 5.0)
    entry.end("failed", spent(6.0), "OSError: the disk is full")
    entry.end("completed", spent(9.0))  # what was said first stands
    (known,) = of_run(tmp_path, RUN)
    assert (known.outcome, known.error, known.resumed_at) == ("failed", "OSError: the disk is full", 7)
    assert known.usage.device_seconds == 6.0
    assert known.ended is not None
    assert [file.name for file in (tmp_path / RUN).iterdir()] == [f"{known.id}.json"]


def test_the_first_start_of_a_run_is_that_of_all_its_attempts_however_they_ended(tmp_path: Path) -> None:
    assert first_start(tmp_path, RUN) is None
    for hours, outcome in ((3, "completed"), (1, None), (2, "failed")):
        entry = Entry(tmp_path, attempt(THEN + timedelta(hours=hours)))
        if outcome:
            entry.end(outcome, spent(1.0))
    assert first_start(tmp_path, RUN) == THEN + timedelta(hours=1)
    assert [a.outcome for a in of_run(tmp_path, RUN)] == [None, "failed", "completed"]
    assert first_start(tmp_path, "GF-char-s1-0123456789") is None


def test_the_time_of_a_start_is_in_the_name() -> None:
    assert started_at(new_id(THEN)) == THEN
    assert new_id(THEN) != new_id(THEN)


def damage(file: Path) -> None:
    file.write_text(file.read_text()[:-40])


def edit(file: Path) -> None:
    file.write_text(file.read_text().replace("2026-03-01", "2026-04-01"))


def predate(file: Path) -> None:
    document = json.loads(file.read_text())
    write_sealed(file, document | {"started": "2026-04-01T12:00:00Z"})


def belong(file: Path) -> None:
    document = json.loads(file.read_text())
    write_sealed(file, document | {"run_id": "GF-char-s1-0123456789"})


def outdate(file: Path) -> None:
    write_sealed(file, json.loads(file.read_text()) | {"schema_version": 3})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (damage, "not valid JSON"),
        (edit, "damaged: the sha256 of its content"),
        (predate, "started: 2026-04-01T12:00:00+00:00 is another time than that of its name"),
        (belong, "at GF-char-s1-0123456789"),
        (outdate, "is of schema 3, and this version of gt reads those up to 2"),
    ],
)
def test_an_attempt_that_is_damaged_or_anothers_is_refused_by_name(tmp_path: Path, change: Any, message: str) -> None:
    entry = Entry(tmp_path, attempt())
    change(entry.path)
    before = entry.path.read_bytes()
    with pytest.raises(ConfigError) as refused:
        first_start(tmp_path, RUN)
    assert str(entry.path) in str(refused.value)
    assert message in str(refused.value)
    assert entry.path.read_bytes() == before


def test_a_foreign_file_among_the_attempts_is_refused_by_name_and_one_in_the_making_is_not(tmp_path: Path) -> None:
    entry = Entry(tmp_path, attempt())
    (tmp_path / RUN / f".{entry.path.name}.host-0123456789abcdef.tmp").write_text("{")
    assert first_start(tmp_path, RUN) == THEN
    (tmp_path / RUN / "notes.txt").write_text("it went well")
    with pytest.raises(ConfigError, match=r"notes\.txt: is no attempt"):
        first_start(tmp_path, RUN)


def test_of_an_attempt_that_is_gone_or_damaged_no_use_is_known(tmp_path: Path) -> None:
    whole, damaged = (Entry(tmp_path, attempt()) for _ in range(2))
    whole.end("completed", spent(2.0))
    damage(damaged.path)
    gone = new_id(THEN)
    first, *others = used(tmp_path, RUN, [whole.attempt.id, damaged.attempt.id, gone])
    assert first == spent(2.0)
    for attempt_id, usage in zip((damaged.attempt.id, gone), others, strict=True):
        assert usage == Usage.nothing(f"the file of the attempt {attempt_id} is gone or damaged")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package in a repository whose commit holds all of it."""
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "A")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "a@example.org")
    folder = tmp_path / "lab/gt"
    (folder / "fusions").mkdir(parents=True)
    for name, text in {"gt/a.py": "1", "gt/fusions/b.py": "2", "README.md": "3", ".gitignore": "__pycache__/\n"}.items():
        (tmp_path / "lab" / name).write_text(text)
    git(tmp_path / "lab", "init", "-q")
    git(tmp_path / "lab", "add", "-A")
    git(tmp_path / "lab", "commit", "-q", "-m", "all of it")
    return folder


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def look(package: Path) -> list[str] | None:
    """As another process would."""
    modified.cache_clear()
    commit.cache_clear()
    return modified(package)


def test_an_edited_a_removed_and_an_unknown_file_of_the_code_took_part_and_no_other(package: Path) -> None:
    assert look(package) == []
    assert commit(package) == git(package, "rev-parse", "HEAD")
    (package.parent / "README.md").write_text("another")
    (package.parent / "notes.txt").write_text("unknown")
    (package / "__pycache__").mkdir()
    (package / "__pycache__/a.pyc").write_text("ignored")
    assert look(package) == []
    (package / "fusions/mine and yours.py").write_text("a component that no commit has")
    assert look(package) == ["gt/fusions/mine and yours.py"]
    (package / "a.py").write_text("edited")
    (package / "fusions/b.py").unlink()
    assert look(package) == ["gt/a.py", "gt/fusions/b.py", "gt/fusions/mine and yours.py"]
    git(package, "add", "-A")
    assert look(package) == ["gt/a.py", "gt/fusions/b.py", "gt/fusions/mine and yours.py"]


def test_code_outside_of_a_repository_has_no_commit(package: Path, tmp_path: Path) -> None:
    (tmp_path / "installed/gt").mkdir(parents=True)
    assert (look(tmp_path / "installed/gt"), commit(tmp_path / "installed/gt")) == (None, None)
    # An environment beside a project is in its repository's folder, and not in the repository.
    (package.parent / ".gitignore").write_text(".venv/\n")
    (package.parent / ".venv/gt").mkdir(parents=True)
    assert (look(package.parent / ".venv/gt"), commit(package.parent / ".venv/gt")) == (None, None)


def test_files_of_plug_ins_count_and_those_that_no_repository_has_do_not(package: Path, tmp_path: Path) -> None:
    (package / "a.py").write_text("edited")
    (tmp_path / "installed/other").mkdir(parents=True)
    (tmp_path / "clean").mkdir()
    git(tmp_path / "clean", "init", "-q")
    modified.cache_clear()
    packages = (tmp_path / "clean", package, tmp_path / "installed/other")
    assert provenance.provenance(torch.device("cpu"), packages)["modified"] == ["gt/a.py"]
    assert provenance.provenance(torch.device("cpu"), packages[::-1])["modified"] == ["gt/a.py"]
    assert provenance.provenance(torch.device("cpu"), packages[2:])["modified"] is None


@pytest.mark.parametrize(
    "script", [None, "#!/bin/sh\nexec sleep 60\n", "#!/bin/sh\nexit 1\n"], ids=["absent", "slow", "broken"]
)
def test_a_training_does_not_wait_for_git(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    if script:
        (programs / "git").write_text(script)
        (programs / "git").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs) + (f"{os.pathsep}/bin:/usr/bin" if script else ""))
    monkeypatch.setattr(provenance, "PATIENCE", 0.2)
    assert look(package) is None
