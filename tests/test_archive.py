"""What is kept of records gives them again, and of another's folder nothing is believed unseen."""

from __future__ import annotations

import json
import lzma
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import records

from gt.analysis.aggregate import aggregate
from gt.archive import BITS, BYTES, CHECKS, KINDS, LOSS, Document, pack, trained, unpack
from gt.cli import main
from gt.errors import ConfigError
from gt.records import CURVES, SPEC, WEIGHTS, read_json, write_sealed

ROOT = Path(__file__).parents[1]
TEMPLATES = ROOT / "report_templates"
PLAN, RECORDS = "plan.json.xz", "records.parquet"


@pytest.fixture(scope="module")
def plan() -> dict[str, Any]:
    return records.identified(records.plan(seeds=3, tokenizers=("char",)))


@pytest.fixture(scope="module")
def runs(plan: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records of runs that completed, diverged, failed and are missing, with and without gates."""
    folder = tmp_path_factory.mktemp("records") / "runs"
    records.write_runs(plan, folder)
    return folder


@pytest.fixture(scope="module")
def kept(plan: dict[str, Any], runs: Path) -> Path:
    folder = runs.parent / "kept"
    pack(plan, runs, folder)
    return folder


@pytest.fixture
def copy(kept: Path, tmp_path: Path) -> Path:
    """Of what is kept, in folders below each other."""
    return Path(shutil.copytree(kept, tmp_path / "deep/deeper/study/records"))


def files(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def rows(folder: Path) -> list[Document]:
    return [Document(*row.values()) for row in pq.read_table(folder / RECORDS).to_pylist()]


def write_rows(folder: Path, documents: list[Any]) -> None:
    """As somebody else might."""
    names = ("run_id", "kind", "name", "document")
    pq.write_table(pa.Table.from_pylist([dict(zip(names, own, strict=True)) for own in documents]), folder / RECORDS)


def edit(folder: Path, run: str, kind: str, change: Callable[[str], str]) -> None:
    """Change the text of a run's document."""
    write_rows(folder, [own._replace(text=change(own.text)) if own[:2] == (run, kind) else own for own in rows(folder)])


def test_the_kept_records_aggregate_to_the_same_tables(plan: dict[str, Any], runs: Path, kept: Path, tmp_path: Path) -> None:
    assert unpack(kept, tmp_path / "runs") == plan
    assert {folder.name for folder in (tmp_path / "runs").iterdir()} == {folder.name for folder in runs.iterdir()}
    aggregate(plan, runs, tmp_path / "original")
    aggregate(plan, tmp_path / "runs", tmp_path / "kept")
    assert files(tmp_path / "original") == files(tmp_path / "kept")


def test_what_is_kept_loses_nothing(plan: dict[str, Any], runs: Path, kept: Path, tmp_path: Path) -> None:
    """Documents are there to the byte, curves to the bit; the specification comes from the plan."""
    unpack(kept, tmp_path)
    for run in plan["runs"]:
        original, again = files(runs / run), files(tmp_path / run)
        assert (original.keys() | ({SPEC} if original else set())) - {WEIGHTS} == again.keys()
        for name in again.keys() - {SPEC, CURVES}:
            assert again[name] == original[name]
        if again:
            assert json.loads(again[SPEC]) == plan["runs"][run]
        if CURVES in again:
            curves = [pd.read_parquet(folder / run / CURVES) for folder in (runs, tmp_path)]
            pd.testing.assert_frame_equal(*curves, check_exact=True)


def test_every_kind_of_document_is_kept(plan: dict[str, Any], runs: Path, tmp_path: Path) -> None:
    """Several of a kind too, in whatever order their keys are and however their text is laid out."""
    run = records.named(plan, "GF.char.s0")
    own = Path(shutil.copytree(runs / run, tmp_path / "one/runs" / run)).parent
    texts = {
        f"runs/{run}/evaluations/recall.json": f'{{"run_id": "{run}",\r\n  "b": 1.50, "a": "\u00e9 \\u00e9"}}',
        f"runs/{run}/evaluations/val-64k.json": f'{{"run_id":"{run}"}}',
        f"attempts/{run}/20260101T000000.json": f'{{"run_id": "{run}", "ended": null}}\n',
    }
    for name, text in texts.items():
        (tmp_path / "one" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "one" / name).write_bytes(text.encode())
    (own / run / "evaluations/.recall.json.tmp").write_text("{")
    pack(plan, own, tmp_path / "kept")
    assert {own.kind for own in rows(tmp_path / "kept")} == {"manifest", "evaluation", "evaluations", "attempts"}
    unpack(tmp_path / "kept", tmp_path / "two/runs")
    assert {name: (tmp_path / "two" / name).read_bytes().decode() for name in texts} == texts


def test_what_is_checked_is_kept() -> None:
    assert CHECKS.keys() <= KINDS.keys()


def test_numbers_are_kept_in_float32_where_they_lose_nothing(plan: dict[str, Any], runs: Path, tmp_path: Path) -> None:
    run = next(iter(plan["runs"]))
    one = Path(shutil.copytree(runs / run, tmp_path / "runs" / run)).parent
    exact, inexact = pa.array([0.5, np.nan, float(np.float32(0.1))]), pa.array([0.5, np.nan, 0.1])
    steps = {"step": [1, 2, 3], "tokens": [8, 16, 24], "timestamp": [0.1, 0.2, 0.3]}
    pq.write_table(pa.table({**steps, "exact": exact, "inexact": inexact}), one / run / CURVES)
    pack(plan, one, tmp_path / "records")
    kept = pq.read_table(tmp_path / "records" / CURVES)
    assert [str(kept.schema.field(name).type) for name in ("step", "exact", "inexact")] == ["int64", "float", "double"]
    unpack(tmp_path / "records", tmp_path / "again")
    original, again = (pd.read_parquet(folder / run / CURVES) for folder in (one, tmp_path / "again"))
    pd.testing.assert_frame_equal(original, again, check_exact=True)


@pytest.mark.parametrize("follows", [True, False])
def test_bits_are_kept_as_the_bytes_of_a_target_where_they_follow(
    plan: dict[str, Any], runs: Path, tmp_path: Path, follows: bool
) -> None:
    """With a step before which nothing was measured, and another unit in the last place where they do not follow."""
    run = next(iter(plan["runs"]))
    one = Path(shutil.copytree(runs / run, tmp_path / "runs" / run)).parent
    loss, n_bytes = np.float32([np.nan, 4.1, 2.7, 0.3]).astype(float), np.float32([1, 3.1, 2.9, 4 / 3]).astype(float)
    bits = loss / np.log(2) / n_bytes
    if not follows:
        bits[2] = np.nextafter(bits[2], 9)
    steps = {"step": [0, 1, 2, 3], "tokens": [0, 8, 16, 24], "timestamp": [0.1, 0.2, 0.3, 0.4]}
    pq.write_table(pa.table({**steps, LOSS: loss, BITS: bits, "more": bits}), one / run / CURVES)
    pack(plan, one, tmp_path / "records")
    assert ({BITS, BYTES} & set(pq.read_schema(tmp_path / "records" / CURVES).names)) == ({BYTES} if follows else {BITS})
    unpack(tmp_path / "records", tmp_path / "again")
    original, again = (pd.read_parquet(folder / run / CURVES) for folder in (one, tmp_path / "again"))
    pd.testing.assert_frame_equal(original, again, check_exact=True)


def test_few_files_are_kept_and_no_weights(kept: Path) -> None:
    assert sorted(own.name for own in kept.iterdir()) == [CURVES, PLAN, RECORDS]


def test_the_runs_that_were_trained_are_known(plan: dict[str, Any], runs: Path, kept: Path) -> None:
    assert trained(kept) == {run for run in plan["runs"] if (runs / run / "manifest.json").exists()}


def test_nothing_to_keep_is_bad_input(plan: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no run of synthetic has a record here"):
        pack(plan, tmp_path / "nowhere", tmp_path / "records")
    assert not (tmp_path / "records").exists()


@pytest.mark.parametrize("name", [PLAN, RECORDS])
def test_a_folder_that_lacks_a_file_is_bad_input(copy: Path, tmp_path: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(ConfigError, match=rf"records: there is no {re.escape(name)} here"):
        unpack(copy, tmp_path / "runs")


@pytest.mark.parametrize("content", [b"no xz", lzma.compress(b"no JSON"), lzma.compress(b"{}" * 99)[:-40]])
def test_a_plan_that_is_damaged_is_named(copy: Path, tmp_path: Path, content: bytes) -> None:
    (copy / PLAN).write_bytes(content)
    with pytest.raises(ConfigError, match=r"plan\.json\.xz: not compressed JSON"):
        unpack(copy, tmp_path / "runs")


# A folder that somebody else has made, and what is said of it: the file, and the run where it is one's.
CASE = {"case": "a", "difference": [1], "perplexity_ratio": 1.0}
Change = Callable[[Any, str], Any]


def put(*path: str, value: Any) -> Change:
    """A change of a document."""

    def change(document: Any, run: str) -> Any:
        place, (*parents, last) = document, path
        for key in parents:
            place = place[key]
        place[last] = value
        return document

    return change


def renamed(to: str) -> Change:
    """The run has another id everywhere in the plan."""
    return lambda plan, run: json.loads(json.dumps(plan).replace(run, to))


def without(key: str) -> Change:
    return lambda document, run: {name: own for name, own in document.items() if name != key}


HOSTILE: dict[str, tuple[str, Change, str]] = {
    "an id that leads out": ("plan", renamed("../../outside-0123456789"), r"runs: '../../outside-0123456789'"),
    "an absolute id": ("plan", renamed("/tmp/outside-0123456789"), "runs: '/tmp/outside-0123456789'"),
    "an id of another specification": ("plan", renamed("GF.char.s0-0123456789"), "id of another specification"),
    "a plan that is a list": ("plan", lambda plan, run: [plan], "must be a JSON object"),
    "a plan without cells": ("plan", put("cells", value=[]), "cells"),
    "a plan of other types": ("plan", put("dollars_per_hour", value="2"), "dollars_per_hour"),
    "a price of nothing": ("plan", put("dollars_per_hour", value=0), "dollars_per_hour"),
    "a cell of runs that are not there": ("plan", lambda plan, run: {**plan, "runs": {run: plan["runs"][run]}}, "not among"),
    "a specification that is none": ("plan", put("runs", value={"GF-0123456789": {"seed": "0"}}), "GF-0123456789"),
    "a study that is a path": ("plan", put("study", value="../study"), "study"),
    "a manifest of another run": ("manifest", put("run_id", value="another"), "RUN/manifest.json: is of run 'another'"),
    "a manifest without a status": ("manifest", without("status"), "RUN/manifest.json: status"),
    "a manifest that is a number": ("manifest", lambda own, run: 1, "RUN/manifest.json: must be a JSON object"),
    "a speed that is a word": ("manifest", put("tokens_per_second", value="fast"), "RUN/manifest.json: tokens_per_second"),
    "code that is a list": ("manifest", put("code", value=["ops"]), "RUN/manifest.json: code"),
    "a time that is none": ("manifest", put("started", value="yesterday"), "RUN/manifest.json: started"),
    "more than 64 bits": ("manifest", put("tokens", value=10**30), "RUN/manifest.json: not JSON (1000"),
    "a loss that is a word": ("evaluation", put("splits", "val", "loss", value="low"), "RUN/evaluation.json: splits.val.loss"),
    "a split that is unknown": ("evaluation", put("splits", "../val", value={}), "RUN/evaluation.json: splits.../val"),
    "an evaluation of another form": (
        "evaluation",
        put("long_context", value={"contexts": [3]}),
        "RUN/evaluation.json: an evaluation",
    ),
    "a number that is a list": (
        "evaluation",
        put("quantisation", "cases", value=[CASE]),
        "RUN/evaluation.json: quantisation/a/difference",
    ),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_what_is_not_as_it_is_kept_is_refused_before_anything_is_written(
    plan: dict[str, Any], copy: Path, tmp_path: Path, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kind, change, says = HOSTILE[what]
    run = records.named(plan, "GF.char.s0")
    if kind == "plan":
        (copy / PLAN).write_bytes(lzma.compress(json.dumps(change(json.loads(json.dumps(plan)), run)).encode()))
    else:
        edit(copy, run, kind, lambda text: json.dumps(change(json.loads(text), run)))
    before = files(tmp_path)
    name = PLAN if kind == "plan" else RECORDS
    with pytest.raises(ConfigError, match=re.escape(name) + ".*" + re.escape(says.replace("RUN", run))) as error:
        unpack(copy, tmp_path / "deep/deeper/runs")
    assert "\n" not in str(error.value)
    assert files(tmp_path) == before
    for command in (["rebuild", "--templates", str(TEMPLATES), "--published"], ["compare", "GF", "GPT-2", "--study"]):
        assert main([*command, str(copy.parent)]) == 2
        assert capsys.readouterr().err == f"gt: {error.value}\n"
    assert files(tmp_path) == before


@pytest.mark.parametrize("text", ['{"a": NaN}', '{"a": 1e999}', '{"a": 1, "a": 2}', '{"a": "\\ud800"}', "[" * 100_000])
def test_what_not_every_parser_reads_alike_is_refused(plan: dict[str, Any], copy: Path, tmp_path: Path, text: str) -> None:
    run = records.named(plan, "GF.char.s0")
    edit(copy, run, "manifest", lambda own: text)
    with pytest.raises(ConfigError, match=rf"records\.parquet: {re.escape(run)}/manifest\.json: not JSON"):
        unpack(copy, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
    (copy / PLAN).write_bytes(lzma.compress(text.encode()))
    with pytest.raises(ConfigError, match=r"plan\.json\.xz: not compressed JSON"):
        unpack(copy, tmp_path / "runs")


ROWS: dict[str, tuple[Callable[[Document], list[Any]], str]] = {
    "a run that is not in the plan": (lambda own: [own._replace(run="../../x")], "'../../x' is not among the runs"),
    "a kind that is unknown": (
        lambda own: [own._replace(kind="manifests")],
        "'manifests' of documents. Did you mean 'manifest'?",
    ),
    "a name where there is one file": (lambda own: [own._replace(name="other")], "'other' is no name of manifest"),
    "no name where there are several": (lambda own: [own, own._replace(kind="evaluations")], "'' is no name of evaluations"),
    "a name that leads out": (lambda own: [own._replace(kind="attempts", name="../../x")], "'../../x' is no name of attempts"),
    "a document in two places": (lambda own: [own, own], "/manifest.json: stands there twice"),
    "no text": (lambda own: [own._replace(text=None)], "column 'document' has gaps"),
    "no run": (lambda own: [own._replace(run=None)], "column 'run_id' has gaps"),
}


@pytest.mark.parametrize("what", ROWS)
def test_rows_that_are_none_are_refused_before_anything_is_written(
    plan: dict[str, Any], copy: Path, tmp_path: Path, what: str
) -> None:
    change, says = ROWS[what]
    first, *rest = rows(copy)
    assert first.kind == "manifest"
    write_rows(copy, [*change(first), *rest])
    before = files(tmp_path)
    with pytest.raises(ConfigError, match=r"records\.parquet: .*" + re.escape(says)):
        unpack(copy, tmp_path / "deep/deeper/runs")
    assert files(tmp_path) == before


@pytest.mark.parametrize("kind", [pa.binary(), pa.list_(pa.string()), pa.int64()])
def test_documents_that_are_no_words_are_refused(copy: Path, tmp_path: Path, kind: pa.DataType) -> None:
    table = pq.read_table(copy / RECORDS)
    pq.write_table(table.set_column(3, "document", pa.nulls(len(table), kind)), copy / RECORDS)
    with pytest.raises(ConfigError, match=r"records\.parquet: there is no column 'document' of words"):
        unpack(copy, tmp_path / "runs")


def twice(curves: pa.Table) -> pa.Table:
    return pa.concat_tables([curves, curves.slice(0, 1)])


def with_column(name: str, values: Callable[[pa.Table], Any]) -> Callable[[pa.Table], pa.Table]:
    def change(curves: pa.Table) -> pa.Table:
        rest = curves.drop_columns(name) if name in curves.column_names else curves
        return rest.append_column(name, pa.array(values(curves)))

    return change


HOSTILE_CURVES: dict[str, tuple[Callable[[pa.Table], pa.Table], str]] = {
    "a run that is not in the plan": (with_column("run_id", lambda c: ["../../outside"] * len(c)), "'../../outside'"),
    "a run without a name": (with_column("run_id", lambda c: [None, *c["run_id"].to_pylist()[1:]]), "None"),
    "a run in two places": (twice, "twice"),
    "no runs": (lambda curves: curves.drop_columns("run_id"), "run_id"),
    "no steps": (lambda curves: curves.drop_columns("step"), "step"),
    "steps that are no integers": (with_column("step", lambda c: [0.5] * len(c)), "step"),
    "words": (with_column("val/loss", lambda c: ["low"] * len(c)), "val/loss"),
    "lists": (with_column("val/loss", lambda c: [[1.0]] * len(c)), "val/loss"),
    "a column of the tables": (with_column("seed", lambda c: [0.0] * len(c)), "seed"),
    "times with gaps": (with_column("timestamp", lambda c: [np.nan] * len(c)), "timestamp"),
}


@pytest.mark.parametrize("what", HOSTILE_CURVES)
def test_curves_that_are_none_are_refused_before_anything_is_written(copy: Path, tmp_path: Path, what: str) -> None:
    change, says = HOSTILE_CURVES[what]
    pq.write_table(change(pq.read_table(copy / CURVES)), copy / CURVES)
    before = files(tmp_path)
    with pytest.raises(ConfigError, match=r"curves\.parquet: .*" + re.escape(says)):
        unpack(copy, tmp_path / "deep/deeper/runs")
    assert files(tmp_path) == before


@pytest.fixture
def less(monkeypatch: pytest.MonkeyPatch) -> None:
    """Little may be held."""
    monkeypatch.setattr("gt.archive.MOST_BYTES", 2**20)


@pytest.mark.usefixtures("less")
def test_a_small_plan_that_holds_much_is_not_read(copy: Path, tmp_path: Path) -> None:
    (copy / PLAN).write_bytes(lzma.compress(b'{"a": "' + b"a" * 2**24 + b'"}'))
    assert (copy / PLAN).stat().st_size < 10_000
    with pytest.raises(ConfigError, match=r"plan\.json\.xz: holds more than 1,048,576 bytes"):
        unpack(copy, tmp_path / "runs")


@pytest.mark.usefixtures("less")
def test_small_curves_that_hold_much_are_not_read(copy: Path, tmp_path: Path) -> None:
    zeros = np.zeros(2**20)
    pq.write_table(pa.table({"run_id": ["a"] * len(zeros), "zeros": zeros}), copy / CURVES, compression="zstd")
    assert (copy / CURVES).stat().st_size < 10_000
    with pytest.raises(ConfigError, match=r"curves\.parquet: holds 16,777,216 bytes"):
        unpack(copy, tmp_path / "runs")


@pytest.mark.usefixtures("less")
@pytest.mark.parametrize("says", ["a large one", "one many times"])
def test_small_records_that_hold_much_are_not_read(plan: dict[str, Any], copy: Path, tmp_path: Path, says: str) -> None:
    """Also where what the file says that it holds is little, since each text is in it once."""
    (run, *_), large, times = plan["runs"], 2**24 if says == "a large one" else 2**15, 1 if says == "a large one" else 2**10
    names = (f"{i:x}" for i in range(times))
    write_rows(copy, [(run, "attempts", name, f'{{"a": "{"a" * large}"}}') for name in names])
    assert (copy / RECORDS).stat().st_size < 50_000 or says == "a large one"
    with pytest.raises(ConfigError, match=r"records\.parquet: holds [\d,]+ bytes. Allowed: 1,048,576"):
        unpack(copy, tmp_path / "runs")


@pytest.mark.parametrize("name", [PLAN, RECORDS, CURVES])
def test_links_are_not_followed(copy: Path, tmp_path: Path, name: str) -> None:
    (copy / name).rename(tmp_path / "elsewhere")
    (copy / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match=f"{re.escape(name)}: is a link"):
        unpack(copy, tmp_path / "runs")


@pytest.mark.parametrize("name", [RECORDS, CURVES])
def test_a_flipped_bit_is_found(copy: Path, tmp_path: Path, name: str) -> None:
    content = bytearray((copy / name).read_bytes())
    place = pq.read_metadata(copy / name).row_group(0).column(3)
    content[place.data_page_offset + place.total_compressed_size - 9] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(ConfigError, match=rf"{re.escape(name)}: not readable"):
        unpack(copy, tmp_path / "runs")


def test_a_changed_digit_of_a_kept_document_is_found(plan: dict[str, Any], runs: Path, tmp_path: Path) -> None:
    run = records.named(plan, "GF.char.s0")
    shutil.copytree(runs / run, tmp_path / "runs" / run)
    for name in ("manifest.json", "evaluation.json"):
        write_sealed(tmp_path / "runs" / run / name, read_json(runs / run / name))
    pack(plan, tmp_path / "runs", tmp_path / "records")
    assert unpack(tmp_path / "records", tmp_path / "again") == plan
    (text,) = (own.text for own in rows(tmp_path / "records") if own.kind == "evaluation")
    (digits,) = re.findall(r'"val": {\s*"loss": (\d\.\d+)', text)
    edit(tmp_path / "records", run, "evaluation", lambda own: own.replace(digits, f"{float(digits) + 1e-9!r}", 1))
    with pytest.raises(ConfigError, match=rf"records\.parquet: {re.escape(run)}/evaluation\.json: damaged: the sha256"):
        unpack(tmp_path / "records", tmp_path / "more")
