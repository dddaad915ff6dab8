"""What is said first of several studies: the lowest of all, what one change does, and the furthest from its baseline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import records
from shared import RATE, make, plan_of_rates

from gt.report.findings import findings, leading
from gt.report.numbers import Results, load

LOWER = 0.5


def lower(runs: Path, cell: dict[str, Any], by: float) -> None:
    for run in cell["runs"].values():
        records.shift(runs / run, -by)


@pytest.fixture
def studies(tmp_path: Path) -> list[Results]:
    """A large study at one rate, and a small one of rates in which GF and WS are lower by half a bit at the higher rate, GF's
    tuning runs on two seeds by a whole one.
    """
    large = records.plan(seeds=5, tokenizers=("char",)) | {"study": "large"}
    small = plan_of_rates((0.003, 0.01)) | {"study": "small"}
    for cell in small["cells"]:
        if cell["variant"] == "GF-tuning":
            small["runs"].pop(cell["runs"].popitem()[1])
    records.write_runs(large, tmp_path / "runs", troubled=False)
    for cell in small["cells"]:
        variant = cell["variant"].removesuffix("-tuning")
        for seed, run in cell["runs"].items():
            records.write_run(tmp_path / "runs" / run, run, {**cell, "variant": variant}, int(seed) % 100, small["runs"][run])
        if cell["factors"][RATE] == 0.01 and variant != "GPT-2":
            lower(tmp_path / "runs", cell, LOWER * (2 if cell["variant"] == "GF-tuning" else 1))
    return [load(make(tmp_path / plan["study"], plan, tmp_path / "runs")) for plan in (large, small)]


def mean(variant: str, by: float = 0.0, seeds: int = 3) -> float:
    return sum(records.bits_per_byte(variant, "char", seed) for seed in range(seeds)) / seeds - by


def test_the_lowest_is_the_lowest_of_all_studies_and_not_of_the_one_with_most_runs(studies: list[Results]) -> None:
    assert studies[0].coverage["completed"] > studies[1].coverage["completed"]
    said = findings(studies)[0]
    assert said.startswith("On embedded, char the lowest and so the best mean loss of ")
    assert "is that of GF (learning_rate=0.01) in `small`, after 250 steps of 1,024 tokens at a learning rate of 0.01: " in said
    assert f"{mean('GF', LOWER):.4f} bits per byte" in said
    assert "3 seeds)" in said
    assert f"Lower still, with 2 seeds, GF-tuning (learning_rate=0.01) in `small` has {mean('GF', 2 * LOWER, 2):.4f}." in said


def test_one_change_alone_is_between_cells_that_have_nothing_else_different(studies: list[Results]) -> None:
    """Of GF and WS at two rates half a bit comes with the rate; they have other fusions, 0.17 bits apart at either rate."""
    said = findings(studies)[1]
    rate, fusion = said.index("with the learning rate (WS"), said.index("with the fusion (")
    assert rate < fusion
    assert f"moves the loss by {LOWER:.4f}" in said
    assert "with the learning rate (WS: lowest with 0.01, highest with 0.003, of 2 tried)" in said
    assert f"by {mean('WS') - mean('GF'):.4f}" in said
    assert "number of steps" not in said


def test_the_furthest_from_a_baseline_to_either_side(studies: list[Results]) -> None:
    said = findings(studies)[2]
    assert f"the furthest, −{abs(mean('GF', LOWER) - mean('GPT-2')):.4f}" in said
    assert "is GF (learning_rate=0.01) against GPT-2 (learning_rate=0.01) (`small`); and to the other side, +" in said


def test_a_cell_that_lost_a_run_makes_no_finding(studies: list[Results], tmp_path: Path) -> None:
    small = studies[1].plan
    cell = next(cell for cell in small.cells if cell.variant == "GF" and cell.factors[RATE] == 0.01)
    records.edit(tmp_path / "runs" / cell.runs[0] / "manifest.json", status="diverged")
    again = [studies[0], load(make(tmp_path / "again", small.model_dump(), tmp_path / "runs"))]
    assert cell.id not in [own.row["cell"] for own in leading(again)]
    assert f"{mean('GF', LOWER):.4f}" not in findings(again)[0]


def test_studies_without_a_completed_run_have_found_nothing(tmp_path: Path) -> None:
    plan = records.plan(seeds=2, tokenizers=("char",))
    assert findings([load(make(tmp_path, plan))]) == []
