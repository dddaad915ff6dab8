"""A record that was found current is not read as documents again until anything changes that this hangs on."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import records
from runs import run_spec

from gt import stage
from gt.fingerprint import code_of_evaluation
from gt.records import CURVES, EVALUATIONS, MANIFEST, PROBES, SPEC, WEIGHTS, read_json, write_json
from gt.seen import Seen
from gt.spec import RunSpec
from gt.wanted import Wanted

SPEC_OF = run_spec()
ALL = {"train", "evaluate", "probe"}


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A folder of one record."""
    records.write_current(tmp_path / "runs" / SPEC_OF.run_id, SPEC_OF)
    return tmp_path / "runs"


def outdated(runs: Path, *looks: RunSpec, asked: tuple[str, ...] = ()) -> set[str]:
    """What a call finds, which looks at the record once."""
    seen = Seen(runs.parent / ".seen.json")
    found = seen.outdated(runs / SPEC_OF.run_id, Wanted(looks or (SPEC_OF,), frozenset(asked)), runs.parent / "data")
    seen.keep()
    return found


def read_by(call: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are read as documents meanwhile."""
    names, really = list[str](), Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: names.append(path.name) or really(path))
    call()
    monkeypatch.undo()
    return names


def test_a_record_that_has_not_changed_is_not_read_as_documents_again(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert {MANIFEST, SPEC, PROBES} < set(read_by(lambda: outdated(runs), monkeypatch))
    assert read_by(lambda: outdated(runs), monkeypatch) == [".seen.json", "tokens.json"]
    assert outdated(runs) == set()


def test_a_touch_and_a_copy_are_no_changes(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outdated(runs)
    shutil.copytree(tmp_path, tmp_path / "copy", copy_function=shutil.copyfile)
    for file in (tmp_path / "copy").rglob("*"):
        os.utime(file, (1e9, 1e9))
    assert read_by(lambda: outdated(tmp_path / "copy/runs"), monkeypatch) == [".seen.json", "tokens.json"]


def change(name: str) -> Callable[[Path], object]:
    """As many bytes, of which the last is another."""

    def changed(record: Path) -> None:
        content = (record / name).read_bytes()
        (record / name).write_bytes(content[:-2] + bytes([content[-2] ^ 1]) + content[-1:])

    return changed


@pytest.mark.parametrize(
    ("harm", "due"),
    [
        *((change(name), ALL) for name in (SPEC, CURVES, WEIGHTS, MANIFEST)),
        (change(f"{EVALUATIONS}/held_out.json"), {"evaluate"}),
        (change(PROBES), {"probe"}),
        (lambda record: (record / PROBES).unlink(), {"probe"}),
        (lambda record: (record / CURVES).unlink(), ALL),
        (shutil.rmtree, ALL),
    ],
)
def test_whatever_changes_in_a_record_is_seen(runs: Path, harm: Callable[[Path], object], due: set[str]) -> None:
    assert outdated(runs) == set()
    harm(runs / SPEC_OF.run_id)
    assert outdated(runs) == due == stage.outdated(runs / SPEC_OF.run_id, Wanted((SPEC_OF,)), runs.parent / "data")
    assert outdated(runs) == due


def test_what_is_asked_of_a_run_and_its_tokens_count_too(runs: Path) -> None:
    assert outdated(runs) == set()
    assert outdated(runs, asked=("generation",)) == {"evaluate"}
    followed = run_spec(evaluation_tokens=SPEC_OF.training.evaluation_tokens + 1)
    assert outdated(runs, SPEC_OF, followed) == {"evaluate"}
    write_json(runs.parent / "data/tokens.json", {"sha256": "f" * 64})
    assert outdated(runs) == ALL


def test_a_record_with_a_damaged_measurement_that_nobody_asks_for_is_current_and_not_whole(runs: Path) -> None:
    record, seen = runs / SPEC_OF.run_id, Seen(runs.parent / ".seen.json")
    other = records.evaluation("generation", SPEC_OF.run_id, [])
    write = {**other.model_dump(mode="json"), "code": code_of_evaluation(SPEC_OF, "generation"), "sha256": "0" * 64}
    write_json(record / EVALUATIONS / "generation.json", write)
    assert seen.outdated(record, Wanted((SPEC_OF,)), runs.parent / "data") == set()
    assert not seen.is_whole(record)
    assert stage.damaged(record) == [f"{EVALUATIONS}/generation.json"]


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": 1'])
def test_where_the_sums_are_lost_or_damaged_all_is_checked(runs: Path, text: str) -> None:
    outdated(runs)
    (runs.parent / ".seen.json").write_text(text)
    assert outdated(runs) == set()
    assert list(read_json(runs.parent / ".seen.json")) == [SPEC_OF.run_id]
