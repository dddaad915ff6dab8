"""What is kept of records gives them again, and of another's folder nothing is believed unseen."""

from __future__ import annotations

import json
import lzma
import re
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import records

from gt import artefacts
from gt.analysis.aggregate import aggregate
from gt.archive import BITS, BYTES, KINDS, LOSS, Document, pack, read, read_plan, trained, unpack
from gt.artefacts import SCHEMA, Plan, read_evaluations, read_manifest, read_probes, read_run
from gt.attempts import of_run
from gt.cli import main
from gt.errors import ConfigError
from gt.records import CURVES, FILES, MANIFEST, SPEC, SUM, WEIGHTS, read_json, read_sealed

ROOT = Path(__file__).parents[1]
TEMPLATES = ROOT / "report_templates"
PLAN, RECORDS = "plan.json.xz", "records.parquet"
# Two runs of three, as a study was published in the first schema, and what they are called now.
FIRST = Path(__file__).parent / "first_schema"
TODAY = {
    "r+m-gated.8x192.classics.bpe16000.s0-308f3ddaba": "r+m-gated.8x192.classics.bpe16000.s0-5d01f6414c",
    "r+m-gated.8x192.classics.bpe16000.s1-21dc9d4af4": "r+m-gated.8x192.classics.bpe16000.s1-9abff83e56",
    "r+m-gated.8x192.classics.bpe16000.s2-6486731fe9": "r+m-gated.8x192.classics.bpe16000.s2-769b851c15",
}


@pytest.fixture(scope="module")
def study() -> dict[str, Any]:
    return records.plan(seeds=3, tokenizers=("char",))


@pytest.fixture(scope="module")
def plan(study: dict[str, Any]) -> Plan:
    return records.planned(study)


@pytest.fixture(scope="module")
def run(study: dict[str, Any]) -> str:
    """One of which everything is kept."""
    return records.named(study, "GF.char.s0")


@pytest.fixture(scope="module")
def runs(study: dict[str, Any], run: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records of runs that completed, diverged, failed and are missing, with and without gates; probes and attempts of one."""
    folder = tmp_path_factory.mktemp("records") / "runs"
    records.write_runs(study, folder)
    records.write_probes(folder / run, {"gate/mean": {"value": 0.5, "layers": {"0": 0.25, "1": None}}})
    for day in (19, 20):
        records.write_attempt(folder, run, datetime(2026, 9, day, 12, tzinfo=UTC))
    return folder


@pytest.fixture(scope="module")
def kept(plan: Plan, runs: Path) -> Path:
    folder = runs.parent / "kept"
    pack(plan, runs, folder)
    return folder


@pytest.fixture
def copy(kept: Path, tmp_path: Path) -> Path:
    """Of what is kept, in folders below each other."""
    return Path(shutil.copytree(kept, tmp_path / "deep/deeper/study/records"))


@pytest.fixture
def first(tmp_path: Path) -> Path:
    """A copy of what is kept in the first schema."""
    return Path(shutil.copytree(FIRST, tmp_path / "deep/deeper/first/records"))


def files(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def rows(folder: Path) -> list[Document]:
    return [Document(*row.values()) for row in pq.read_table(folder / RECORDS).to_pylist()]


def write_rows(folder: Path, documents: list[Any]) -> None:
    """As somebody else might."""
    names = ("run_id", "kind", "name", "document")
    pq.write_table(pa.Table.from_pylist([dict(zip(names, own, strict=True)) for own in documents]), folder / RECORDS)


def edit(folder: Path, run: str, kind: str, change: Callable[[str], str]) -> None:
    """Change the text of a run's document, the first of its kind."""
    own = rows(folder)
    i = next(i for i, document in enumerate(own) if document[:2] == (run, kind))
    write_rows(folder, [*own[:i], own[i]._replace(text=change(own[i].text)), *own[i + 1 :]])


def edit_plan(folder: Path, change: Callable[[Any], Any]) -> None:
    plan = json.loads(lzma.decompress((folder / PLAN).read_bytes()))
    (folder / PLAN).write_bytes(lzma.compress(json.dumps(change(plan)).encode()))


def test_the_kept_records_aggregate_to_the_same_tables(plan: Plan, runs: Path, kept: Path, tmp_path: Path) -> None:
    assert unpack(kept, tmp_path / "runs") == plan
    assert {folder.name for folder in (tmp_path / "runs").iterdir()} == {folder.name for folder in runs.iterdir()}
    aggregate(plan, runs, tmp_path / "original")
    aggregate(plan, tmp_path / "runs", tmp_path / "kept")
    aggregate(plan, read(kept), tmp_path / "read")  # without a copy on disk
    assert files(tmp_path / "original") == files(tmp_path / "kept") == files(tmp_path / "read")


def test_what_is_kept_loses_nothing(plan: Plan, runs: Path, kept: Path, tmp_path: Path) -> None:
    """Documents are there to the byte, but for the sums of files in the manifest, which are others; curves to the bit; the
    specification comes from the plan.
    """
    unpack(kept, tmp_path / "runs")
    assert files(tmp_path / "attempts") == files(runs.parent / "attempts")
    for run in plan.runs:
        original, again = files(runs / run), files(tmp_path / "runs" / run)
        assert (original.keys() | ({SPEC} if original else set())) - {WEIGHTS} == again.keys()
        for name in again.keys() - {SPEC, CURVES, MANIFEST}:
            assert again[name] == original[name]
        if MANIFEST in again:
            sealed = read_sealed(runs / run / MANIFEST)
            assert sealed[FILES].keys() == {SPEC, CURVES, WEIGHTS}
            assert read_sealed(tmp_path / "runs" / run / MANIFEST) == {**sealed, FILES: {}}
            assert read_run(tmp_path / "runs" / run)[0] == plan.runs[run]
        if again:
            assert json.loads(again[SPEC]) == plan.runs[run].model_dump(mode="json")
        if CURVES in again:
            curves = [pd.read_parquet(folder / run / CURVES) for folder in (runs, tmp_path / "runs")]
            pd.testing.assert_frame_equal(*curves, check_exact=True)


def test_a_record_has_the_specification_that_it_was_followed_by(plan: Plan, runs: Path, run: str, tmp_path: Path) -> None:
    """Which is the plan's, but for how the run was looked at."""
    own = Path(shutil.copytree(runs / run, tmp_path / "runs" / run))
    watch = read_manifest(own).watch.model_copy(update={"evaluation_tokens": 2048})
    records.edit(own / MANIFEST, watch=watch.model_dump())
    pack(plan, own.parent, tmp_path / "records")
    assert unpack(tmp_path / "records", tmp_path / "again/runs") == plan
    spec, manifest = read_run(tmp_path / "again/runs" / run)
    assert spec.training.evaluation_tokens == manifest.watch.evaluation_tokens == 2048
    assert spec.run_id == plan.runs[run].run_id and spec != plan.runs[run]


def test_every_kind_of_document_is_kept(study: dict[str, Any], runs: Path, tmp_path: Path) -> None:
    """Several of a kind too, to the byte, in whatever order their keys are and however their text is laid out."""
    failed, run = records.named(study, "HY.char.s1"), records.named(study, "GF.char.s0")
    for name in (f"runs/{run}", f"runs/{failed}", f"attempts/{run}"):
        shutil.copytree(runs.parent / name, tmp_path / "one" / name)
    own = tmp_path / "one/runs"
    evaluations = [own / run / f"evaluations/{name}.json" for name in ("recall", "validation-65536")]
    records.write_evaluation(
        own / run, "validation-65536", [records.of("validation/loss", 1.5), records.of("\u00e9/loss", 2.0)]
    )
    for file in evaluations:
        turned = dict(reversed(read_json(file).items()))
        file.write_bytes(json.dumps(turned, indent=3, ensure_ascii=file.stem == "recall").replace("\n", "\r\n").encode())
    (own / run / "evaluations/.recall.json.tmp").write_text("{")
    pack(records.planned(study), own, tmp_path / "kept")
    assert {own.kind for own in rows(tmp_path / "kept")} == {kind for kind, own in KINDS.items() if own.type is not None}
    texts = {own.name: own.text for own in rows(tmp_path / "kept") if own.kind == "evaluations"}
    assert [texts[file.stem].encode() for file in evaluations] == [file.read_bytes() for file in evaluations]
    unpack(tmp_path / "kept", tmp_path / "two/runs")
    assert read_evaluations(tmp_path / "two/runs" / run) == read_evaluations(own / run)
    assert read_probes(tmp_path / "two/runs" / run) == read_probes(own / run)
    assert of_run(tmp_path / "two/attempts", run) == of_run(tmp_path / "one/attempts", run)
    assert len(of_run(tmp_path / "two/attempts", run)) == 2
    assert read_sealed(tmp_path / "two/runs" / failed / "failure.json") == read_sealed(own / failed / "failure.json")


def test_every_artefact_of_a_run_is_kept() -> None:
    assert {own.type for own in KINDS.values()} - {None} == set(artefacts.KINDS) - {Plan}


def test_numbers_are_kept_in_float32_where_they_lose_nothing(plan: Plan, runs: Path, tmp_path: Path) -> None:
    run = next(iter(plan.runs))
    one = Path(shutil.copytree(runs / run, tmp_path / "runs" / run)).parent
    records.edit(one / run / MANIFEST, files={})
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
    plan: Plan, runs: Path, tmp_path: Path, follows: bool
) -> None:
    """With a step before which nothing was measured, and another unit in the last place where they do not follow."""
    run = next(iter(plan.runs))
    one = Path(shutil.copytree(runs / run, tmp_path / "runs" / run)).parent
    records.edit(one / run / MANIFEST, files={})
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


def test_the_runs_that_were_trained_are_known(plan: Plan, runs: Path, kept: Path) -> None:
    assert trained(kept) == {run for run in plan.runs if (runs / run / "manifest.json").exists()}


def test_nothing_to_keep_is_bad_input(plan: Plan, tmp_path: Path) -> None:
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


def test_records_of_the_first_schema_are_read_as_those_of_the_second(tmp_path: Path) -> None:
    """With the ids of today, and the numbers of then."""
    plan, old = unpack(FIRST, tmp_path / "runs"), json.loads(lzma.decompress((FIRST / PLAN).read_bytes()))
    assert read_plan(FIRST) == (plan, TODAY)
    assert {run: spec.run_id for run, spec in plan.runs.items()} == {run: run for run in TODAY.values()}
    assert [dict(enumerate(TODAY.values()))] == [cell.runs for cell in plan.cells]
    assert {run: time.isoformat() for run, time in plan.started.items()} == {TODAY[run]: old["started"][run] for run in TODAY}
    assert trained(FIRST) == {own.name for own in (tmp_path / "runs").iterdir()} == set(list(TODAY.values())[:2])
    curves = pd.read_parquet(FIRST / CURVES)
    for was, run in list(TODAY.items())[:2]:
        documents = {own.kind: json.loads(own.text) for own in rows(FIRST) if own.run == was}
        assert not any("schema_version" in own for own in (old, *documents.values()))
        spec, manifest = read_run(tmp_path / "runs" / run)
        assert spec == plan.runs[run] and manifest.run_id == run
        for name in ("steps_completed", "tokens", "seconds", "n_params", "versions", "git_commit"):
            assert getattr(manifest, name) == documents["manifest"][name]
        (held_out,) = read_evaluations(tmp_path / "runs" / run).values()
        assert held_out.run_id == run
        losses = {own.name: own.value for own in held_out.measurements}
        for split, then in documents["evaluation"]["splits"].items():
            assert losses[f"{split}/bits_per_byte"] == then["bits_per_byte"]
        probes = read_probes(tmp_path / "runs" / run)
        measures = {name: own["value"] for name, own in documents["probes"]["measures"].items()}
        assert probes.run_id == run
        assert {own.name: own.value for own in probes.measurements if own.layer is None} == measures
        again = pd.read_parquet(tmp_path / "runs" / run / CURVES)
        assert again["val/loss"].tolist() == pytest.approx(curves[curves.run_id == was]["val/loss"].tolist(), nan_ok=True)
        assert not again["val/loss"].isna().all()


def test_records_of_the_first_schema_are_kept_again_in_the_second(tmp_path: Path) -> None:
    plan = unpack(FIRST, tmp_path / "runs")
    pack(plan, tmp_path / "runs", tmp_path / "records")
    assert read_plan(tmp_path / "records") == (plan, {run: run for run in plan.runs})
    assert {json.loads(own.text)["schema_version"] for own in rows(tmp_path / "records")} == {SCHEMA}
    assert unpack(tmp_path / "records", tmp_path / "again") == plan
    documents = [
        {name: own for name, own in files(tmp_path / folder).items() if CURVES not in name} for folder in ("runs", "again")
    ]
    assert documents[0] == documents[1]


# A folder that somebody else has made, and what is said of it: the file, and the run where it is one's.
CASE = {"case": "a", "difference": [1], "perplexity_ratio": 1.0}
Change = Callable[[Any, str], Any]


def put(*path: str | int, value: Any) -> Change:
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


def nested(levels: int) -> Any:
    return json.loads("[" * levels + "]" * levels)


LATER, IS_LATER = put("schema_version", value=4), "is of schema 4, and this version of gt reads those up to 3."
CONTRADICTS = "contradicts the specification of its run in plan.json"
# Of both schemas.
HOSTILE_PLANS: dict[str, tuple[str, Change, str]] = {
    "an id that leads out": ("plan", renamed("../../outside-0123456789"), "../../outside-0123456789"),
    "an id that leads out beside its run": (
        "plan",
        lambda plan, run: {**plan, "runs": {**plan["runs"], f"../../{run}": plan["runs"][run]}},
        "runs: '../../RUN' is",
    ),
    "an absolute id": ("plan", renamed("/tmp/outside-0123456789"), "/tmp/outside-0123456789"),
    "an id of another specification": ("plan", renamed("GF.char.s0-0123456789"), "id of another specification"),
    "a plan that is a list": ("plan", lambda plan, run: [plan], "must be a JSON object"),
    "a plan without cells": ("plan", put("cells", value=[]), "cells"),
    "a plan of other types": ("plan", put("dollars_per_hour", value="2"), "dollars_per_hour"),
    "a price of nothing": ("plan", put("dollars_per_hour", value=0), "dollars_per_hour"),
    "a cell of runs that are not there": ("plan", lambda plan, run: {**plan, "runs": {run: plan["runs"][run]}}, "not among"),
    "a specification that is none": ("plan", put("runs", value={"GF-0123456789": {"seed": "0"}}), "GF-0123456789"),
    "a study that is a path": ("plan", put("study", value="../study"), "study"),
    "starts that are a list": ("plan", put("started", value=[]), "started: "),
    "a start that is no time": ("plan", lambda plan, run: {**plan, "started": {run: "early"}}, "started."),
    "a start of a run that is not there": ("plan", put("started", value={"x": "2026-01-01T00:00:00Z"}), "'x' is not among"),
    "a plan of a later schema": ("plan", LATER, IS_LATER),
    "a plan that is nested too deeply": ("plan", put("title", value=nested(300)), "nested too deeply"),
}
HOSTILE: dict[str, tuple[str, Change, str]] = {
    **HOSTILE_PLANS,
    "a manifest of another run": ("manifest", put("run_id", value="another"), "RUN/manifest.json: is of run 'another'"),
    "a manifest without a status": ("manifest", without("status"), "RUN/manifest.json: status"),
    "a manifest that is a number": ("manifest", lambda own, run: 1, "RUN/manifest.json: must be a JSON object"),
    "a speed that is a word": ("manifest", put("tokens_per_second", value="fast"), "RUN/manifest.json: tokens_per_second"),
    "code that is a list": ("manifest", put("code", value=["ops"]), "RUN/manifest.json: code"),
    "a time that is none": ("manifest", put("started", value="yesterday"), "RUN/manifest.json: started"),
    "a time before all others": (
        "manifest",
        put("started", value="0001-01-01T00:00:00+14:00"),
        "RUN/manifest.json: started",
    ),
    "more than 64 bits": ("manifest", put("tokens", value=10**30), "RUN/manifest.json: not JSON (1000"),
    "steps that are missing": (
        "manifest",
        put("steps_completed", value=249),
        f"RUN/manifest.json: {CONTRADICTS}: completed after 249 steps of 250.",
    ),
    "more tokens than there were": (
        "manifest",
        put("tokens", value=256_001),
        f"RUN/manifest.json: {CONTRADICTS}: tokens are 256001, and 250 steps have 256000.",
    ),
    "a loss that is a word": (
        "held_out",
        put("measurements", 0, "value", value="low"),
        "RUN/evaluations/held_out.json: measurements.0.value",
    ),
    "a split that is unknown": (
        "held_out",
        put("measurements", 0, "axes", "split", value="../val"),
        "RUN/evaluations/held_out.json: '../val/loss' is no name of the metric '<split>/loss'",
    ),
    "an evaluation of another form": (
        "long_context",
        put("measurements", value=[3]),
        "RUN/evaluations/long_context.json: measurements.0",
    ),
    "a number that is a list": (
        "quantisation",
        put("measurements", 0, "value", value=[1]),
        "RUN/evaluations/quantisation.json: measurements.0.value",
    ),
    "a value that is nested too deeply": (
        "held_out",
        put("measurements", 0, "value", value=nested(300)),
        "RUN/evaluations/held_out.json: not JSON (it is nested too deeply)",
    ),
    "an evaluation of the second schema of another form": (
        "long_context",
        lambda document, run: {**document, "schema_version": 2, "value": {"contexts": [3]}},
        "RUN/evaluations/long_context.json: what was measured is not of its form",
    ),
    "weights that lead out": ("held_out", put("weights", value="../x"), "RUN/evaluations/held_out.json: weights"),
    "probes of another form": ("probes", put("measurements", 0, value=0.5), "RUN/probes.json: measurements.0"),
    "an attempt at another run": ("attempts", put("run_id", value="another"), "is of run 'another'"),
    "an attempt of another name": (
        "attempts",
        put("id", value="20260919T120000Z-0123456789abcdef"),
        "and it is '20260919T120000Z-0123456789abcdef'",
    ),
    "an attempt that began at another time": (
        "attempts",
        put("started", value="2026-09-18T12:00:00Z"),
        "started: 2026-09-18T12:00:00+00:00 is another time than that of its name",
    ),
    "a manifest of a later schema": ("manifest", LATER, f"RUN/manifest.json: {IS_LATER}"),
    "an evaluation of a later schema": ("held_out", LATER, f"RUN/evaluations/held_out.json: {IS_LATER}"),
    "probes of a later schema": ("probes", LATER, f"RUN/probes.json: {IS_LATER}"),
    "an attempt of a later schema": ("attempts", LATER, IS_LATER),
    "an attempt without a schema": ("attempts", without("schema_version"), "the first schema had no attempts"),
}
HOSTILE_FIRST: dict[str, tuple[str, Change, str]] = {
    **HOSTILE_PLANS,
    "runs that are a list": ("plan", put("runs", value=[]), "runs: must be a mapping"),
    "a cell that is a number": ("plan", put("cells", value=[3]), "cells: must be a list of cells"),
    "a manifest by the name of today": (
        "manifest",
        lambda own, run: {**own, "run_id": TODAY[run]},
        "RUN/manifest.json: is of run 'r+m-gated.8x192.classics.bpe16000.s0-5d01f6414c'",
    ),
    "a manifest of the second schema by the name of then": (
        "manifest",
        put("schema_version", value=2),
        "RUN/manifest.json: is of run",
    ),
    "a manifest without a status": ("manifest", without("status"), "RUN/manifest.json: status"),
    "steps that are missing": (
        "manifest",
        put("steps_completed", value=999),
        f"RUN/manifest.json: {CONTRADICTS}: completed after 999 steps of 1000.",
    ),
    "a loss that is a word": (
        "evaluation",
        put("splits", "val", "loss", value="low"),
        "RUN/evaluation.json: held_out: measurements.0.value",
    ),
    "a split that is unknown": (
        "evaluation",
        put("splits", "../val", value={"loss": 1.0}),
        "RUN/evaluation.json: held_out: '../val/loss' is no name",
    ),
    "an evaluation of another form": (
        "evaluation",
        put("long_context", value={"contexts": [3]}),
        "RUN/evaluation.json: long_context: what was measured",
    ),
    "a number that is a list": (
        "evaluation",
        put("quantisation", value={"cases": [CASE]}),
        "RUN/evaluation.json: quantisation: measurements.0.value",
    ),
    "evaluations that are a number": ("evaluation", put("evaluations", value=3), "RUN/evaluation.json: evaluations: must be"),
    "evaluations that are lists": ("evaluation", put("evaluations", value=[[1]]), "RUN/evaluation.json: evaluations: must be"),
    "an evaluation that leads out": ("evaluation", put("evaluations", value=["../../x"]), "RUN/evaluation.json: ../../x: name"),
    "probes of another form": ("probes", put("measures", "gate/mean", value=0.5), "RUN/probes.json: what was measured"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_what_is_not_as_it_is_kept_is_refused_before_anything_is_written(
    run: str, copy: Path, tmp_path: Path, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert_refused(copy, run, *HOSTILE[what], tmp_path, capsys)


@pytest.mark.parametrize("what", HOSTILE_FIRST)
def test_what_is_not_of_the_first_schema_is_refused_before_anything_is_written(
    first: Path, tmp_path: Path, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert_refused(first, next(iter(TODAY)), *HOSTILE_FIRST[what], tmp_path, capsys)


def assert_refused(
    folder: Path, run: str, kind: str, change: Change, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """kind: of the document that is changed, or the name of an evaluation."""
    if kind == "plan":
        edit_plan(folder, lambda plan: change(plan, run))
    else:
        own = next(own for own in rows(folder) if own.run == run and kind in (own.kind, own.name))
        content = {key: value for key, value in json.loads(own.text).items() if key != SUM}
        text = json.dumps(change(content, run))
        write_rows(folder, [other._replace(text=text) if other[:3] == own[:3] else other for other in rows(folder)])
    before = files(tmp_path)
    name = PLAN if kind == "plan" else RECORDS
    with pytest.raises(ConfigError, match=re.escape(name) + ".*" + re.escape(says.replace("RUN", run))) as error:
        unpack(folder, tmp_path / "deep/deeper/runs")
    assert "\n" not in str(error.value)
    assert files(tmp_path) == before
    for command in (["rebuild", "--templates", str(TEMPLATES), "--published"], ["compare", "GF", "GPT-2", "--study"]):
        assert main([*command, str(folder.parent)]) == 2
        assert capsys.readouterr().err == f"gt: {error.value}\n"
    assert files(tmp_path) == before


@pytest.mark.parametrize("text", ['{"a": NaN}', '{"a": 1e999}', '{"a": 1, "a": 2}', '{"a": "\\ud800"}', "[" * 100_000])
def test_what_not_every_parser_reads_alike_is_refused(run: str, copy: Path, tmp_path: Path, text: str) -> None:
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
    "a name of another": (
        lambda own: [own, own._replace(kind="attempts", name="20260919T120000Z-0123456789abcdef")],
        "attempts/RUN/20260919T120000Z-0123456789abcdef.json: ",
    ),
    "a kind that only the first schema had": (
        lambda own: [own._replace(kind="evaluation")],
        "RUN/evaluation.json: is of schema 3, which has no evaluation",
    ),
    "a document in two places": (lambda own: [own, own], "/manifest.json: stands there twice"),
    "no text": (lambda own: [own._replace(text=None)], "column 'document' has gaps"),
    "no run": (lambda own: [own._replace(run=None)], "column 'run_id' has gaps"),
}


@pytest.mark.parametrize("what", ROWS)
def test_rows_that_are_none_are_refused_before_anything_is_written(plan: Plan, copy: Path, tmp_path: Path, what: str) -> None:
    change, says = ROWS[what]
    first, *rest = rows(copy)
    assert first.kind == "manifest"
    write_rows(copy, [*change(first), *rest])
    before = files(tmp_path)
    with pytest.raises(ConfigError, match=r"records\.parquet: .*" + re.escape(says.replace("RUN", first.run))):
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
def test_small_records_that_hold_much_are_not_read(plan: Plan, copy: Path, tmp_path: Path, says: str) -> None:
    """Also where what the file says that it holds is little, since each text is in it once."""
    (run, *_), large, times = plan.runs, 2**24 if says == "a large one" else 2**15, 1 if says == "a large one" else 2**10
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


def test_a_changed_digit_of_a_kept_document_is_found(run: str, copy: Path, tmp_path: Path) -> None:
    text = next(own.text for own in rows(copy) if own[:3] == (run, "evaluations", "held_out"))
    digits = re.findall(r'"value": (\d\.\d+)', text)[0]
    changed = text.replace(digits, f"{float(digits) + 1e-9!r}", 1)
    write_rows(copy, [own._replace(text=changed) if own.text == text else own for own in rows(copy)])
    with pytest.raises(
        ConfigError, match=rf"records\.parquet: {re.escape(run)}/evaluations/held_out\.json: damaged: the sha256"
    ):
        unpack(copy, tmp_path / "more")
    assert not (tmp_path / "more").exists()
