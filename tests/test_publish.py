"""Published studies: what is kept of the records gives the report that the records gave."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import records

from gt.analysis.aggregate import aggregate
from gt.cli import main
from gt.errors import ConfigError
from gt.publish import REPORT, pack, rebuild, unpack
from gt.records import write_json

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


def test_no_weights_are_kept_and_few_files(published: Path) -> None:
    assert sorted(f.name for f in (published / "records").iterdir()) == [
        "curves.parquet",
        "evaluation.json",
        "failure.json",
        "manifest.json",
        "plan.json",
    ]


def test_the_report_is_made_again_in_the_same_bytes(published: Path, tmp_path: Path) -> None:
    rebuild(published, tmp_path, TEMPLATES)
    again = files(tmp_path)
    assert again == {name: content for name, content in files(published).items() if not name.startswith("records/")}
    assert {Path(name).parts[0] for name in again} == set(REPORT) - {"claims"}  # no claim is about this study


def test_nothing_to_publish_is_bad_input(plan: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no run of synthetic has a record here"):
        pack(plan, tmp_path / "nowhere", tmp_path / "records")
    assert not (tmp_path / "records").exists()


@pytest.mark.parametrize("study", PUBLISHED, ids=lambda folder: folder.name)
def test_the_numbers_of_a_published_study_are_those_of_its_records(study: Path, tmp_path: Path) -> None:
    """Where it fails because a table has changed its columns: `make report`, and commit."""
    rebuild(study, tmp_path, TEMPLATES)
    committed, again = numbers(study), numbers(tmp_path)
    assert committed
    assert committed.keys() == again.keys()
    for name, table in again.items():  # to the last digits, in which processors differ
        pd.testing.assert_frame_equal(table, committed[name], check_exact=False, rtol=1e-9)


def numbers(folder: Path) -> dict[str, pd.DataFrame]:
    return {file.name: pd.read_csv(file).select_dtypes("number") for file in folder.glob("tables/*.csv")}
