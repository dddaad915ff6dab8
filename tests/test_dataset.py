"""Published studies as a data set: its numbers are those of the records, and others' tools read it."""

from __future__ import annotations

import json
import lzma
import math
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import records
import yaml

from gt.archive import pack, read_plan
from gt.cli import main
from gt.dataset.card import bibtex, citation, markdown
from gt.dataset.columns import AT, templates
from gt.dataset.folder import write_dataset
from gt.dataset.tables import tables
from gt.errors import ConfigError
from gt.records import write_json
from gt.registry import look_up

ROOT = Path(__file__).parents[1]
TABLES = ("runs", "curves", "verdicts", "measurements")
# Small ones, of which the second has a run that tells tasks apart from texts.
SAMPLED = [ROOT / "results/published" / name for name in ("scale", "fusion_extended")]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with runs that completed, diverged, failed and are missing, one of which was measured in layers too."""
    folder = tmp_path_factory.mktemp("own")
    study = records.plan(seeds=3, tokenizers=("char",), variants=dict.fromkeys(("GPT-2", "GF", "HY", "WS"), 0.0))
    records.write_runs(study, folder / "runs")
    run = folder / "runs" / records.named(study, "GF.char.s0")
    records.write_probes(run, {"gate/mean": {"value": 0.5, "layers": {"0": 0.25, "1": 0.75}}})
    records.write_evaluation(run, "long_context", [records.of("context/loss", 2.5, context=64)])
    pack(records.planned(study), folder / "runs", folder / "published/records")
    write_json(folder / "published/claims.json", [])
    return folder / "published"


@pytest.fixture(scope="module")
def dataset(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sets") / "data"
    assert main(["publish", "--published", str(published), "--dataset", str(out)]) == 0
    return out


def test_a_set_is_its_tables_its_card_and_a_page(dataset: Path) -> None:
    assert {file.name for file in dataset.iterdir()} == {"README.md", "index.html", *(f"{name}.parquet" for name in TABLES)}


def test_every_run_has_a_row_and_what_is_not_known_is_null_with_its_reason(dataset: Path) -> None:
    runs = pq.read_table(dataset / "runs.parquet").to_pylist()
    found = {(row["variant"], row["seed"]): row for row in runs}
    assert len(found) == len(runs) == 4 * 3
    status = {name: found[name]["status"] for name in (("WS", 1), ("HY", 1), ("HY", 2), ("GF", 0))}
    assert list(status.values()) == ["diverged", "failed", "missing", "completed"]
    assert found["HY", 1]["reason"] == "OutOfMemoryError: 40 MiB | asked for"
    assert found["HY", 2]["training"] is None and found["HY", 2]["device"] is None
    for row in runs:
        assert (row["reason"] is None) == (row["status"] == "completed")
        assert (row["val/loss"] is None) == (row["status"] != "completed")
        unknown = [row[name] for name in ("device_seconds", "energy_joules", "peak_memory_bytes")]
        assert (row["unknown"] is not None) == (None in unknown) or row["status"] in ("failed", "missing")
    own = found["GF", 0]
    assert own["val/bits_per_byte"] == records.bits_per_byte("GF", "char", 0)
    assert own["gate/mean"] == 0.5 and own[f"context/loss{AT}64"] == 2.5
    assert own["started"] == datetime(2026, 9, 21, 14, 13, 20, tzinfo=UTC)
    assert json.loads(own["specification"])["training"]["steps"] == own["steps"]


def test_layers_and_intervals_are_in_the_measurements(dataset: Path) -> None:
    table = pd.read_parquet(dataset / "measurements.parquet")
    gates = table[table.metric == "gate/mean"]
    assert dict(zip(gates.layer.fillna(-1), gates.value, strict=True)) == {-1: 0.5, 0: 0.25, 1: 0.75}
    assert set(table[table.metric == "val/bits_per_byte"].unit) == {"bits/byte"}


def test_curves_have_null_where_nothing_was_measured(dataset: Path) -> None:
    curves = pq.read_table(dataset / "curves.parquet")
    for name in curves.column_names:
        if pa.types.is_floating(curves[name].type):
            assert all(value is None or math.isfinite(value) for value in curves[name].to_pylist())
    assert curves["val/loss"].null_count > 0 and curves["step"].null_count == 0


def test_every_column_has_one_type_and_is_told_in_the_card(dataset: Path) -> None:
    card = (dataset / "README.md").read_text()
    for name in TABLES:
        frame = pd.read_parquet(dataset / f"{name}.parquet")
        assert all({type(value) for value in frame[own].dropna()} <= {str} for own in frame if frame[own].dtype == object)
    told = set(re.findall(r"^\| `([^`]+)` \|", card, re.MULTILINE))
    for name in TABLES:
        for column in pq.read_schema(dataset / f"{name}.parquet").names:
            metric, _, at = column.partition(AT)
            named = look_up(metric)
            template = named.metric.name if named and (at or named.axes) else column
            assert template in {own.partition(AT)[0] for own in told}, f"{name}: {column}"
    assert "of a component that is not installed" not in card


def test_the_hub_reads_the_card(dataset: Path) -> None:
    """By what its documentation asks of one: known keys, a licence, a size, and the data files of each table."""
    _, front, body = (dataset / "README.md").read_text().split("---\n", 2)
    about = yaml.safe_load(front)
    assert about["license"] == "mit" and about["language"] == ["en"]
    (size,) = about["size_categories"]
    rows = sum(pq.read_metadata(dataset / f"{name}.parquet").num_rows for name in TABLES)
    assert size == "1K<n<10K" and 1_000 <= rows < 10_000
    assert [own["config_name"] for own in about["configs"]] == list(TABLES)
    assert [own["config_name"] for own in about["configs"] if own.get("default")] == ["runs"]
    assert all((dataset / file["path"]).is_file() for own in about["configs"] for file in own["data_files"])
    assert "@misc{groundthink-synthetic," in body and "The GroundThink authors" in body
    for name in TABLES:
        about = pq.read_metadata(dataset / f"{name}.parquet")
        groups = [about.row_group(i) for i in range(about.num_row_groups)]
        assert all(own.total_byte_size < 300e6 and own.column(0).has_offset_index for own in groups if own.num_rows)


def test_the_page_says_what_the_card_says(dataset: Path) -> None:
    card, page = (dataset / "README.md").read_text(), (dataset / "index.html").read_text()
    assert len(re.findall("^#+ ", card, re.MULTILINE)) == len(re.findall("<h[12]>", page))
    assert len(re.findall(r"^\|", card, re.MULTILINE)) - card.count("| --- |\n") == page.count("<tr>")
    assert not re.findall(r"(src|href)=[\"']http", page) and "<branch>" not in page


def test_names_in_angle_brackets_and_bars_stay_text_in_the_card() -> None:
    from gt.dataset.card import Grid

    assert markdown([Grid(("a",), [("`<b>` is <b> | c",)])]) == "| a |\n| --- |\n| `<b>` is &lt;b> \\| c |\n"


LOAD = """
import json, sys
import datasets
found = {}
for name in sys.argv[3:]:
    own = datasets.load_dataset(sys.argv[1], name, split="train", cache_dir=sys.argv[2])
    found[name] = [own.num_rows, {key: str(value) for key, value in own.features.items()}, own[0]]
print(json.dumps(found, default=str))
"""


def test_it_is_loaded_without_a_network(dataset: Path, tmp_path: Path) -> None:
    environment = {"HF_DATASETS_OFFLINE": "1", "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-c", LOAD, str(dataset), str(tmp_path), "runs", "curves", "measurements"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name, (rows, features, first) in json.loads(done.stdout.splitlines()[-1]).items():
        table = pq.read_table(dataset / f"{name}.parquet")
        assert rows == table.num_rows
        assert list(features) == table.column_names
        assert first["run_id"] == table["run_id"][0].as_py()
        assert not [own for own in features.values() if "null" in own]


def test_the_same_records_give_the_same_bytes_in_place_of_an_older_set(published: Path, dataset: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(published, tmp_path / "elsewhere/synthetic"))
    (tmp_path / "again").mkdir()
    (tmp_path / "again/runs.parquet").write_bytes(b"old")
    write_dataset([copied], tmp_path / "again")
    assert {file.name: file.read_bytes() for file in dataset.iterdir()} == {
        file.name: file.read_bytes() for file in (tmp_path / "again").iterdir()
    }


def test_nothing_else_is_written_over(published: Path, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own/notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="own: is there already and is no data set"):
        write_dataset([published], tmp_path / "own")
    with pytest.raises(ConfigError, match="synthetic stands there twice"):
        write_dataset([published, published], tmp_path / "new")
    assert [file.name for file in tmp_path.iterdir()] == ["own"]


def test_what_is_damaged_is_named_and_nothing_is_written(published: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(published, tmp_path / "published"))
    (own / "records/plan.json.xz").write_bytes(lzma.compress(b"{}"))
    with pytest.raises(ConfigError, match="plan"):
        write_dataset([own], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("options", ["", "--dataset d", "--plan p --dataset d", "--published p", "--plan p --runs r"])
def test_what_is_asked_for_in_part_is_refused(options: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["publish", *options.split()]) == 2
    assert "--plan, --runs and --out" in capsys.readouterr().err


def test_a_citation_has_what_the_file_has(tmp_path: Path) -> None:
    plan = records.planned(records.plan(seeds=1, tokenizers=("char",)))
    assert bibtex([plan], {}).splitlines()[0] == "@misc{groundthink-synthetic,"
    assert "author" not in bibtex([plan], {})
    people = [{"family-names": "Curie", "given-names": "Marie"}, {"name": "The Lab"}]
    cited = {"authors": people, "date-released": "2026-01-02", "doi": "10.1/2"}
    said = bibtex([plan], cited)
    assert "{Curie, Marie and {The Lab}}" in said and "{2026}" in said and "{10.1/2}" in said
    (tmp_path / "CITATION.cff").write_text("- a list")
    with pytest.raises(ConfigError, match=r"CITATION\.cff: must be a mapping"):
        citation(tmp_path / "CITATION.cff")


@pytest.fixture(scope="module")
def real() -> dict[str, list[dict[str, Any]]]:
    return {name: table.rows.to_pylist() for name, table in tables(SAMPLED).items()}


Place = tuple[str, float | None, int | None]


def kept_numbers(document: Any) -> Iterator[tuple[Place, float | None]]:
    """What a document measured, read as it was written by nothing of gt: by its name, where, and of which layer."""
    for own in document.get("measurements", []):
        axes, name = dict(own["axes"]), own["metric"]
        for axis in re.findall("<([a-z_]+)>", name):
            value = axes.pop(axis)
            name = name.replace(f"<{axis}>", value if isinstance(value, str) else f"{value:.15g}")
        layer = axes.pop("layer", None)
        yield (name, next(iter(axes.values()), None), layer), own["value"]
    for split, own in document.get("splits", {}).items():  # of the first schema, and so what follows
        yield from (((f"{split}/{name}", None, None), own[name]) for name in ("loss", "bits_per_byte", "tokens", "bytes"))
        yield from (((f"{split}/by_position", at["context"], None), at["loss"]) for at in own["by_position"])
    for order, own in document.get("ngram", {}).items():
        yield (f"ngram/{order}", None, None), own["bits_per_byte"]
    for name, own in document.get("measures", {}).items():
        if own["value"] is not None:
            yield (name, None, None), own["value"]
        yield from (((name, None, int(layer)), value) for layer, value in own["layers"].items())


@pytest.mark.skipif(not all(folder.exists() for folder in SAMPLED), reason="they are not published")
def test_the_numbers_of_published_studies_are_those_of_their_records(real: dict[str, list[dict[str, Any]]]) -> None:
    runs = {(row["study"], row["run_id"]): row for row in real["runs"]}
    places = ("study", "run_id", "metric", "at", "layer")
    measured = {tuple(row[name] for name in places): row["value"] for row in real["measurements"]}
    same = ("status", "device", "git_commit", "data_sha256", "vocab_size", "tokens", "seconds", "tokens_per_second", "n_params")
    compared = 0
    for folder in SAMPLED:
        plan, names = read_plan(folder / "records")  # runs of the first schema had other names
        assert {run for study, run in runs if study == plan.study} == set(names.values())
        for document in pq.read_table(folder / "records/records.parquet").to_pylist():
            content, run = json.loads(document["document"]), names[document["run_id"]]
            row = runs[plan.study, run]
            if document["kind"] == "manifest":
                assert [row[name] for name in same] == [content[name] for name in same]
                compared += len(same)
            for (name, at, layer), value in kept_numbers(content):
                assert measured[plan.study, run, name, at, layer] == value
                assert layer is not None or row[name if at is None else f"{name}{AT}{at:g}"] == value
                compared += 1
        curves = {(row["run_id"], row["step"]): row for row in real["curves"] if row["study"] == plan.study}
        for point in pq.read_table(folder / "records/curves.parquet").to_pylist():
            own = curves.pop((names[point["run_id"]], point["step"]))
            loss = None if math.isnan(point["train/loss"]) else point["train/loss"]
            assert (own["tokens"], own["train/loss"]) == (point["tokens"], loss)
            compared += 2
        assert not curves
    assert compared > 5_000


@pytest.mark.skipif(not all(folder.exists() for folder in SAMPLED), reason="they are not published")
def test_the_verdicts_of_published_studies_are_those_of_their_files(real: dict[str, list[dict[str, Any]]]) -> None:
    expected = []
    for folder in SAMPLED:
        for own in json.loads((folder / "claims.json").read_text()):
            for test in own["tests"] or [{}]:
                expected.append((own["claim"], own["arm"], own["verdict"], test.get("estimate"), test.get("n")))
    found = [(row["claim"], row["arm"], row["verdict"], row["estimate"], row["n"]) for row in real["verdicts"]]
    assert found == expected
    assert all(row["sentence"] and row["registered"] for row in real["verdicts"] if row["arm"] == "faithful")


def test_metrics_are_told_once_by_their_templates(dataset: Path) -> None:
    from gt.dataset.columns import of_metric

    names = ["needle/found/depth_0.5@256", "needle/found/depth_0.25@512", "val/loss", "test/loss", "grad_norm"]
    assert [own.name for own in templates([of_metric(name) for name in names])] == [
        "needle/found/depth_<depth>@<length>",
        "<split>/loss",
        "grad_norm",
    ]
