"""Published studies: what is kept of the records gives the report that the records gave."""

from __future__ import annotations

import json
import lzma
import re
import shutil
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
from gt.publish import CLAIMS, DOCUMENTS, NOTES, REPORT, pack, rebuild, rebuild_all, restore, unpack, write_headline
from gt.records import write_json
from gt.report.headline import ALL, END, START
from gt.report.render import render

ROOT = Path(__file__).parents[1]
TEMPLATES = ROOT / "report_templates"
PUBLISHED = sorted(folder.parent for folder in ROOT.glob("results/published/*/records"))


@pytest.fixture(scope="module")
def plan() -> dict[str, Any]:
    return records.plan(seeds=3, tokenizers=("char",))


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


def test_numbers_are_kept_in_float32_where_they_lose_nothing(tmp_path: Path) -> None:
    exact, inexact = pa.array([0.5, np.nan, float(np.float32(0.1))]), pa.array([0.5, np.nan, 0.1])
    plan = {"study": "one", "runs": {"run": {}}}
    write_json(tmp_path / "runs/run/manifest.json", {})
    pq.write_table(pa.table({"step": [1, 2, 3], "exact": exact, "inexact": inexact}), tmp_path / "runs/run/curves.parquet")
    pack(plan, tmp_path / "runs", tmp_path / "records")
    kept = pq.read_table(tmp_path / "records/curves.parquet")
    assert [str(kept.schema.field(name).type) for name in ("step", "exact", "inexact")] == ["int64", "float", "double"]
    unpack(tmp_path / "records", tmp_path / "again")
    original, again = (pd.read_parquet(tmp_path / folder / "run/curves.parquet") for folder in ("runs", "again"))
    pd.testing.assert_frame_equal(original, again, check_exact=True)


def test_records_of_before_they_were_compressed_are_read(plan: dict[str, Any], published: Path, tmp_path: Path) -> None:
    old = tmp_path / "records"
    shutil.copytree(published / "records", old)
    for path in old.glob("*.xz"):
        path.with_suffix("").write_bytes(lzma.decompress(path.read_bytes()))
        path.unlink()
    assert unpack(old, tmp_path / "old") == unpack(published / "records", tmp_path / "new") == plan
    assert files(tmp_path / "old") == files(tmp_path / "new")


@pytest.mark.parametrize("content", [b"no xz", lzma.compress(b"no JSON")])
def test_a_kept_file_that_is_damaged_is_named(published: Path, tmp_path: Path, content: bytes) -> None:
    folder = Path(shutil.copytree(published / "records", tmp_path / "records"))
    (folder / "probes.json.xz").write_bytes(content)
    with pytest.raises(ConfigError, match=r"probes\.json\.xz: not compressed JSON"):
        unpack(folder, tmp_path / "runs")


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
