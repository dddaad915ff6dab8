"""Published studies: what is kept of the records gives the report that the records gave."""

from __future__ import annotations

import errno
import json
import lzma
import os
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
from gt.cli import main
from gt.errors import ConfigError
from gt.publish import CLAIMS, DOCUMENTS, NOTES, REPORT, pack, publish, rebuild, rebuild_all, restore, unpack, write_headline
from gt.records import read_json, write_json, write_sealed
from gt.report.headline import ALL, END, START
from gt.report.render import render

ROOT = Path(__file__).parents[1]
TEMPLATES = ROOT / "report_templates"
PUBLISHED = sorted(folder.parent for folder in ROOT.glob("results/published/*/records"))


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
def published(plan: dict[str, Any], runs: Path) -> Path:
    """The study, published from the command line."""
    write_json(runs.parent / "plan.json", plan)
    folder = runs.parent / "published"
    options = {"plan": runs.parent / "plan.json", "runs": runs, "out": folder, "templates": TEMPLATES}
    assert main(["publish", *(text for name, path in options.items() for text in (f"--{name}", str(path)))]) == 0
    return folder


CASE = {"case": "a", "difference": [1], "perplexity_ratio": 1.0}


def files(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_the_kept_records_aggregate_to_the_same_tables(
    plan: dict[str, Any], runs: Path, published: Path, tmp_path: Path
) -> None:
    assert unpack(published / "records", tmp_path / "runs") == plan
    assert {folder.name for folder in (tmp_path / "runs").iterdir()} == {folder.name for folder in runs.iterdir()}
    aggregate(plan, runs, tmp_path / "original")
    aggregate(plan, tmp_path / "runs", tmp_path / "kept")
    assert files(tmp_path / "original") == files(tmp_path / "kept")


def test_what_is_kept_loses_nothing(plan: dict[str, Any], runs: Path, published: Path, tmp_path: Path) -> None:
    unpack(published / "records", tmp_path)
    for run in plan["runs"]:
        for name in DOCUMENTS:
            assert (runs / run / name).exists() == (tmp_path / run / name).exists()
            if (runs / run / name).exists():
                assert json.loads((runs / run / name).read_text()) == json.loads((tmp_path / run / name).read_text())
        if (runs / run / "curves.parquet").exists():
            original, again = (pd.read_parquet(folder / run / "curves.parquet") for folder in (runs, tmp_path))
            pd.testing.assert_frame_equal(original, again, check_exact=True)


def test_numbers_are_kept_in_float32_where_they_lose_nothing(plan: dict[str, Any], runs: Path, tmp_path: Path) -> None:
    run = next(iter(plan["runs"]))
    one = Path(shutil.copytree(runs / run, tmp_path / "runs" / run)).parent
    exact, inexact = pa.array([0.5, np.nan, float(np.float32(0.1))]), pa.array([0.5, np.nan, 0.1])
    steps = {"step": [1, 2, 3], "tokens": [8, 16, 24], "timestamp": [0.1, 0.2, 0.3]}
    pq.write_table(pa.table({**steps, "exact": exact, "inexact": inexact}), one / run / "curves.parquet")
    pack(plan, one, tmp_path / "records")
    kept = pq.read_table(tmp_path / "records/curves.parquet")
    assert [str(kept.schema.field(name).type) for name in ("step", "exact", "inexact")] == ["int64", "float", "double"]
    unpack(tmp_path / "records", tmp_path / "again")
    original, again = (pd.read_parquet(folder / run / "curves.parquet") for folder in (one, tmp_path / "again"))
    pd.testing.assert_frame_equal(original, again, check_exact=True)


def test_records_of_before_they_were_compressed_are_read(plan: dict[str, Any], published: Path, tmp_path: Path) -> None:
    old = tmp_path / "records"
    shutil.copytree(published / "records", old)
    for path in old.glob("*.xz"):
        path.with_suffix("").write_bytes(lzma.decompress(path.read_bytes()))
        path.unlink()
    assert unpack(old, tmp_path / "old") == unpack(published / "records", tmp_path / "new") == plan
    assert files(tmp_path / "old") == files(tmp_path / "new")


@pytest.mark.parametrize("content", [b"no xz", lzma.compress(b"no JSON"), lzma.compress(b"{}" * 99)[:-40]])
def test_a_kept_file_that_is_damaged_is_named(published: Path, tmp_path: Path, content: bytes) -> None:
    folder = Path(shutil.copytree(published / "records", tmp_path / "records"))
    (folder / "probes.json.xz").write_bytes(content)
    with pytest.raises(ConfigError, match=r"probes\.json\.xz: not compressed JSON"):
        unpack(folder, tmp_path / "runs")


# A published folder that somebody else has made, and what is said of it: the file, and the run where it is one's.
PLAN, MANIFEST, EVALUATION = ("plan.json.xz", "manifest.json.xz", "evaluation.json.xz")
Change = Callable[[Any, str], Any]


def put(*path: str, value: Any) -> Change:
    """A change of the document of a run, or of the whole file for a path that begins with nothing."""

    def change(document: Any, run: str) -> Any:
        place = document if path[0] == "" else document[run]
        *parents, last = path[path[0] == "" :]
        for key in parents:
            place = place[key]
        place[last] = value
        return document

    return change


def renamed(to: str) -> Change:
    """The run has another id everywhere in the plan."""
    return lambda plan, run: json.loads(json.dumps(plan).replace(run, to))


def without(key: str) -> Change:
    return lambda document, run: {**document, run: {name: own for name, own in document[run].items() if name != key}}


HOSTILE: dict[str, tuple[str, Change, str]] = {
    "an id that leads out": (PLAN, renamed("../../outside-0123456789"), r"runs: '\.\./\.\./outside-0123456789'"),
    "an absolute id": (PLAN, renamed("/tmp/outside-0123456789"), "runs: '/tmp/outside-0123456789'"),
    "an id of another specification": (PLAN, renamed("GF.char.s0-0123456789"), "id of another specification"),
    "a plan that is a list": (PLAN, lambda plan, run: [plan], "must be a JSON object"),
    "a plan without cells": (PLAN, put("", "cells", value=[]), "cells"),
    "a plan of other types": (PLAN, put("", "dollars_per_hour", value="2"), "dollars_per_hour"),
    "a price of nothing": (PLAN, put("", "dollars_per_hour", value=0), "dollars_per_hour"),
    "a cell of runs that are not there": (PLAN, lambda plan, run: {**plan, "runs": {run: plan["runs"][run]}}, "not among"),
    "a specification that is none": (PLAN, put("", "runs", value={"GF-0123456789": {"seed": "0"}}), "GF-0123456789"),
    "a study that is a path": (PLAN, put("", "study", value="../study"), "study"),
    "a run that is not in the plan": (
        MANIFEST,
        lambda kept, run: {**kept, "../../x": kept[run]},
        r"'\.\./\.\./x' is not among",
    ),
    "a manifest of another run": (MANIFEST, put("run_id", value="another"), "RUN: is of run 'another'"),
    "a manifest without a status": (MANIFEST, without("status"), "RUN: status"),
    "a manifest that is a number": (MANIFEST, lambda kept, run: {**kept, run: 1}, "RUN: must be a JSON object"),
    "a speed that is a word": (MANIFEST, put("tokens_per_second", value="fast"), "RUN: tokens_per_second"),
    "code that is a list": (MANIFEST, put("code", value=["ops"]), "RUN: code"),
    "a time that is none": (MANIFEST, put("started", value="yesterday"), "RUN: started"),
    "more than 64 bits": (MANIFEST, put("tokens", value=10**30), "64 bits"),
    "a loss that is a word": (EVALUATION, put("splits", "val", "loss", value="low"), r"RUN: splits\.val\.loss"),
    "a split that is unknown": (EVALUATION, put("splits", "../val", value={}), r"RUN: splits\.\.\./val"),
    "an evaluation of another form": (EVALUATION, put("long_context", value={"contexts": [3]}), "RUN: an evaluation"),
    "a number that is a list": (EVALUATION, put("quantisation", "cases", value=[CASE]), "RUN: quantisation/a/difference"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_what_is_not_as_it_is_published_is_refused_before_anything_is_written(
    plan: dict[str, Any], published: Path, tmp_path: Path, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name, change, says = HOSTILE[what]
    folder = Path(shutil.copytree(published, tmp_path / "deep/deeper/published"))
    run = records.named(plan, "GF.char.s0")
    kept = change(json.loads(lzma.decompress((folder / "records" / name).read_bytes())), run)
    (folder / "records" / name).write_bytes(lzma.compress(json.dumps(kept).encode()))
    before = files(tmp_path)
    with pytest.raises(ConfigError, match=re.escape(name) + ".*" + says.replace("RUN", re.escape(run))) as error:
        unpack(folder / "records", tmp_path / "deep/deeper/runs")
    assert "\n" not in str(error.value)
    assert files(tmp_path) == before
    for command in (["rebuild", "--templates", str(TEMPLATES), "--published"], ["compare", "GF", "GPT-2", "--study"]):
        assert main([*command, str(folder)]) == 2
        assert capsys.readouterr().err == f"gt: {error.value}\n"
    assert files(tmp_path) == before


@pytest.mark.parametrize("text", ['{"a": NaN}', '{"a": 1e999}', '{"a": 1, "a": 2}', '{"a": "\\ud800"}', "[" * 100_000])
def test_what_not_every_parser_reads_alike_is_refused(published: Path, tmp_path: Path, text: str) -> None:
    folder = Path(shutil.copytree(published / "records", tmp_path / "records"))
    (folder / MANIFEST).write_bytes(lzma.compress(text.encode()))
    with pytest.raises(ConfigError, match=r"manifest\.json\.xz: not compressed JSON"):
        unpack(folder, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def twice(curves: pa.Table) -> pa.Table:
    return pa.concat_tables([curves, curves.slice(0, 1)])


def with_column(name: str, values: Callable[[pa.Table], Any]) -> Callable[[pa.Table], pa.Table]:
    def change(curves: pa.Table) -> pa.Table:
        rest = curves.drop_columns(name) if name in curves.column_names else curves
        return rest.append_column(name, pa.array(values(curves)))

    return change


CURVES: dict[str, tuple[Callable[[pa.Table], pa.Table], str]] = {
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


@pytest.mark.parametrize("what", CURVES)
def test_curves_that_are_none_are_refused_before_anything_is_written(published: Path, tmp_path: Path, what: str) -> None:
    change, says = CURVES[what]
    folder = Path(shutil.copytree(published / "records", tmp_path / "a/b/records"))
    pq.write_table(change(pq.read_table(folder / "curves.parquet")), folder / "curves.parquet")
    before = files(tmp_path)
    with pytest.raises(ConfigError, match=r"curves\.parquet: .*" + re.escape(says)):
        unpack(folder, tmp_path / "a/b/runs")
    assert files(tmp_path) == before


def test_a_small_file_that_holds_much_is_not_read(published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gt.publish.MOST_BYTES", 2**20)
    folder = Path(shutil.copytree(published / "records", tmp_path / "records"))
    kept = (folder / MANIFEST).read_bytes()
    (folder / MANIFEST).write_bytes(lzma.compress(b'{"a": "' + b"a" * 2**24 + b'"}'))
    assert (folder / MANIFEST).stat().st_size < 10_000
    with pytest.raises(ConfigError, match=r"manifest\.json\.xz: holds more than 1,048,576 bytes"):
        unpack(folder, tmp_path / "runs")
    (folder / MANIFEST).write_bytes(kept)
    zeros = np.zeros(2**20)
    pq.write_table(pa.table({"run_id": ["a"] * len(zeros), "zeros": zeros}), folder / "curves.parquet", compression="zstd")
    assert (folder / "curves.parquet").stat().st_size < 10_000
    with pytest.raises(ConfigError, match=r"curves\.parquet: holds 16,777,216 bytes"):
        unpack(folder, tmp_path / "runs")


@pytest.mark.parametrize("name", ["manifest.json.xz", "curves.parquet"])
def test_links_are_not_followed(published: Path, tmp_path: Path, name: str) -> None:
    folder = Path(shutil.copytree(published / "records", tmp_path / "records"))
    (folder / name).rename(tmp_path / "elsewhere")
    (folder / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match=f"{re.escape(name)}: is a link"):
        unpack(folder, tmp_path / "runs")


def test_a_flipped_bit_of_kept_curves_is_found(published: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(published / "records", tmp_path / "records"))
    content = bytearray((folder / "curves.parquet").read_bytes())
    place = pq.read_metadata(folder / "curves.parquet").row_group(0).column(3)
    content[place.data_page_offset + place.total_compressed_size - 9] ^= 1
    (folder / "curves.parquet").write_bytes(content)
    with pytest.raises(ConfigError, match=r"curves\.parquet: not readable"):
        unpack(folder, tmp_path / "runs")


def test_a_changed_digit_of_a_kept_document_is_found(plan: dict[str, Any], runs: Path, tmp_path: Path) -> None:
    run = records.named(plan, "GF.char.s0")
    shutil.copytree(runs / run, tmp_path / "runs" / run)
    for name in ("manifest.json", "evaluation.json"):
        write_sealed(tmp_path / "runs" / run / name, read_json(runs / run / name))
    pack(plan, tmp_path / "runs", tmp_path / "records")
    assert unpack(tmp_path / "records", tmp_path / "again") == plan
    path = tmp_path / "records" / EVALUATION
    text = lzma.decompress(path.read_bytes()).decode()
    (digits,) = re.findall(r'"val": {"loss": (\d\.\d+)', text)
    path.write_bytes(lzma.compress(text.replace(digits, f"{float(digits) + 1e-9!r}", 1).encode()))
    with pytest.raises(ConfigError, match=rf"evaluation\.json\.xz: {re.escape(run)}: damaged: the sha256"):
        unpack(tmp_path / "records", tmp_path / "more")


def test_of_figures_the_svg_is_kept_and_one_png(published: Path) -> None:
    figures = {path.name for path in (published / "figures").iterdir()}
    assert {name for name in figures if name.endswith(".png")} == {"final_bits_per_byte.png"}
    assert {"final_bits_per_byte.svg", "learning_curves.svg"} <= figures


def test_no_weights_are_kept_and_few_files(published: Path) -> None:
    assert sorted(f.name for f in (published / "records").iterdir()) == [
        "curves.parquet",
        "evaluation.json.xz",
        "failure.json.xz",
        "manifest.json.xz",
        "plan.json.xz",
    ]


def test_the_report_is_made_again_in_the_same_bytes(published: Path, tmp_path: Path) -> None:
    rebuild(published, tmp_path, TEMPLATES)
    again = files(tmp_path)
    assert again == {name: content for name, content in files(published).items() if not name.startswith("records/")}
    assert {Path(name).parts[0] for name in again} == set(REPORT) - {"claims"}  # no claim is about this study


def test_models_of_a_published_study_are_compared(published: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "GF", "GPT-2", "--study", str(published)]) == 0
    first, second = (sum(records.bits_per_byte(name, "char", seed) for seed in range(3)) / 3 for name in ("GF", "GPT-2"))
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("val/bits_per_byte "))
    assert line.split()[1:4] == ["3", f"{first:.4g}", f"{second:.4g}"]


def test_nothing_to_publish_is_bad_input(plan: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no run of synthetic has a record here"):
        pack(plan, tmp_path / "nowhere", tmp_path / "records")
    assert not (tmp_path / "records").exists()


@pytest.mark.parametrize("without", ["records", "templates"])
def test_what_is_published_stays_whole_where_it_cannot_be_published_again(
    plan: dict[str, Any], runs: Path, published: Path, tmp_path: Path, without: str
) -> None:
    folder = Path(shutil.copytree(published, tmp_path / "published"))
    (folder / "notes.txt").write_text("Of another's hand.\n")
    before = files(tmp_path)
    places = (tmp_path / "empty", TEMPLATES) if without == "records" else (runs, tmp_path / "empty")
    with pytest.raises(ConfigError):
        publish(plan, places[0], folder, places[1])
    assert files(tmp_path) == before


def test_a_report_stays_whole_where_it_cannot_be_made_again(published: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(published, tmp_path / "published"))
    before = files(folder)
    with pytest.raises(ConfigError, match="no such template"):
        rebuild(folder, folder, tmp_path / "empty")
    assert files(folder) == before
    assert [path.name for path in tmp_path.iterdir()] == ["published"]


@pytest.mark.parametrize(("module", "function"), [(shutil, "copyfile"), (os, "rename")])
def test_a_report_stays_whole_where_the_disk_is_full(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: Any, function: str
) -> None:
    folder = Path(shutil.copytree(published, tmp_path / "published"))
    (folder / "tables/runs.csv").write_text("Of an earlier version.\n")
    before, real = files(folder), getattr(module, function)

    def full(source: Any, target: Any, **options: Any) -> Any:
        """Fails once, for the first of the tables that is put in its place."""
        if Path(target).suffix == ".csv" or Path(target) == folder / "tables":
            monkeypatch.setattr(module, function, real)
            raise OSError(errno.ENOSPC, "No space left on device", str(target))
        return real(source, target, **options)

    monkeypatch.setattr(module, function, full)
    with pytest.raises(OSError, match="No space left"):
        rebuild(folder, folder, TEMPLATES)
    assert files(folder) == before
    assert [path.name for path in tmp_path.iterdir()] == ["published"]


def test_a_damaged_record_is_not_published(plan: dict[str, Any], runs: Path, published: Path, tmp_path: Path) -> None:
    own, folder = Path(shutil.copytree(runs, tmp_path / "runs")), Path(shutil.copytree(published, tmp_path / "published"))
    run = records.named(plan, "GF.char.s0")
    write_sealed(own / run / "evaluation.json", read_json(own / run / "evaluation.json"))
    text = (own / run / "evaluation.json").read_text()
    (own / run / "evaluation.json").write_text(text.replace("0.01", "0.02", 1))
    before = files(folder)
    with pytest.raises(ConfigError, match=rf"{re.escape(run)}/evaluation\.json: damaged"):
        publish(plan, own, folder, TEMPLATES)
    assert files(folder) == before


def test_several_studies_are_made_again_together(plan: dict[str, Any], published: Path, tmp_path: Path) -> None:
    folders = [Path(shutil.copytree(published / "records", tmp_path / name / "records")).parent for name in ("one", "two")]
    renamed = {**plan, "study": "two", "title": "The second"}
    (folders[1] / "records/plan.json.xz").write_bytes(lzma.compress(json.dumps(renamed).encode()))
    (tmp_path / NOTES).write_text("Cut short.\n\nIn two.\n")
    rebuild_all(folders, TEMPLATES)
    assert (folders[0] / "report.md").read_bytes() == (published / "report.md").read_bytes()
    text = (tmp_path / ALL / "report.md").read_text()
    assert "## The second" in text and "\nCut short.\n" in text and "\nIn two.\n" in text
    links = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)
    assert links
    assert all((tmp_path / ALL / link).is_file() for link in links)
    readme = tmp_path / "README.md"
    readme.write_text(f"{START}{END}")
    write_headline(folders, readme)
    links = re.findall(r"\]\(([^)]+)\)", readme.read_text())
    assert f"{tmp_path}/{ALL}/report.md" in links
    assert all(Path(link).is_file() for link in links)


def test_the_headline_is_between_its_marks_and_says_what_was_found(published: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(published, tmp_path / "synthetic"))
    readme = tmp_path / "README.md"
    readme.write_text(f"# Name\n\n{START}old\n{END}\n\nMore.\n")
    write_headline([folder], readme)
    text = readme.read_text()
    write_headline([folder], readme)
    assert readme.read_text() == text
    assert text.startswith("# Name\n") and text.endswith(f"{END}\n\nMore.\n") and "old" not in text
    (figure,) = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)
    assert Path(figure).is_file()
    assert "15 runs of 1 study are published." in text
    mean = sum(records.bits_per_byte("GF", "char", seed) for seed in range(3)) / 3
    assert "is that of GF in `synthetic`, after 250 steps of 1,024 tokens at a learning rate of 0.003: " in text
    assert f"{mean:.4f} bits per byte" in text


def test_a_readme_without_the_marks_is_bad_input(published: Path, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# Name\n")
    with pytest.raises(ConfigError, match="headline"):
        write_headline([published], tmp_path / "README.md")


@pytest.mark.skipif(not PUBLISHED, reason="nothing is published")
def test_the_readme_is_in_step_with_what_is_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it fails: `make headline`, and commit."""
    monkeypatch.chdir(ROOT)
    readme = tmp_path / "README.md"
    readme.write_text((ROOT / "README.md").read_text(encoding="utf-8"), encoding="utf-8")
    write_headline([folder.relative_to(ROOT) for folder in PUBLISHED], readme)
    assert readme.read_text(encoding="utf-8") == (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("study", PUBLISHED, ids=lambda folder: folder.name)
def test_the_numbers_of_a_published_study_are_those_of_its_records(study: Path, tmp_path: Path) -> None:
    """Where it fails because a table has changed its columns: `make report`, and commit."""
    restore(study, tmp_path / study.name)
    render([tmp_path / study.name], tmp_path, TEMPLATES, CLAIMS)  # without the figures of the study, which take long
    committed, again = numbers(study), numbers(tmp_path)
    assert committed
    assert committed.keys() == again.keys()
    for name, table in again.items():  # to the last digits, in which processors differ
        pd.testing.assert_frame_equal(table, committed[name], check_exact=False, rtol=1e-9)


def numbers(folder: Path) -> dict[str, pd.DataFrame]:
    return {file.name: pd.read_csv(file).select_dtypes("number") for file in folder.glob("tables/*.csv")}


def test_what_is_published_is_not_replaced_by_less(published: Path, tmp_path: Path) -> None:
    plan = unpack(published / "records", tmp_path / "runs")
    own = tmp_path / "published" / published.name
    shutil.copytree(published, own)
    lost = next(iter(plan["runs"]))
    shutil.rmtree(tmp_path / "runs" / lost)
    before = {file: file.read_bytes() for file in own.rglob("*") if file.is_file()}
    with pytest.raises(ConfigError, match=rf"{re.escape(lost)} has no record here any more, and .* as of 1 in all"):
        publish(plan, tmp_path / "runs", own, TEMPLATES)
    assert {file: file.read_bytes() for file in own.rglob("*") if file.is_file()} == before


def test_the_place_of_the_report_of_all_studies_is_no_study_s(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="all: this is the place of the report of all studies"):
        publish({"runs": {}}, tmp_path, tmp_path / "all", TEMPLATES)
