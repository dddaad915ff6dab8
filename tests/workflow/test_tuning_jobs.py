"""Tuning by the workflow: a grid grows while it runs, and the cells are trained with what it chose."""

from __future__ import annotations

import json
import re
import shutil
from typing import Any

import pandas as pd
import pytest
from checkouts import TINY, Checkout

from gt.artefacts import Plan, read_plan, read_run
from gt.records import measurements

RATE = "training.learning_rate"
# A file, since `--until` ends at the first round.
UP_TO_TABLES = ("--", "results/studies/tiny/runs.parquet")
# Three steps at these rates: the higher, the lower the loss, up to a rate beyond the first grid.
TUNED: dict[str, Any] = {
    "variants": ["GPT-2"],
    "seeds": 1,
    "evaluations": ["quantisation"],
    "tune": {
        "space": {RATE: {"scale": "log", "from": 0.0001, "to": 0.01, "low": 0.0001, "high": 0.1}},
        "seeds": [100],
        "runs": 6,
    },
    "training": {**TINY["training"], "learning_rate": 0.5},
}


def plan_of(checkout: Checkout) -> Plan:
    return read_plan(checkout.folder / "results/studies/tiny/plan.json")


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout whose study was tuned, up to its tables."""
    checkout = Checkout(tmp_path_factory.mktemp("checkout"))
    checkout.study(**TUNED)
    result = checkout.snakemake(*UP_TO_TABLES)
    assert result.returncode == 0, result.stderr[-3000:]
    return checkout


def test_the_grid_grew_until_a_bound_and_the_cell_has_what_was_chosen(tuned: Checkout) -> None:
    plan = plan_of(tuned)
    (tuning,) = plan.tunings
    table = pd.read_parquet(tuned.folder / "results/studies/tiny/tuning.parquet")
    losses = {json.loads(values)[RATE]: loss for values, loss in zip(table["values"], table["val/loss"], strict=True)}
    assert max(point.round for point in tuning.points) > 0
    assert list(losses) == [point.values[RATE] for point in tuning.points]
    assert tuning.choice == {RATE: min(losses, key=lambda rate: (losses[rate], rate))}
    assert table["chosen"].tolist() == [{RATE: rate} == tuning.choice for rate in losses]
    runs = pd.read_parquet(tuned.folder / "results/studies/tiny/runs.parquet")
    assert runs["run_id"].tolist() == list(plan.cells[0].runs.values())
    assert plan.spec(plan.cells[0]).training.learning_rate == tuning.choice[RATE]
    assert set(runs["status"]) == {"completed"}
    # What nobody reads is not measured: a run that tunes has its losses alone.
    found = {run: sorted(measurements(tuned.folder / "results/runs" / run)) for run in plan.runs}
    assert found.pop(runs["run_id"][0]) == ["evaluations/held_out.json", "evaluations/quantisation.json", "probes.json"]
    assert set(map(tuple, found.values())) == {("evaluations/held_out.json",)}
    # The record says of which tuning it is, and those that tuned are of none.
    manifests = {run: read_run(tuned.folder / "results/runs" / run)[1] for run in plan.runs}
    (run,) = runs["run_id"]
    assert manifests.pop(run).chosen == [plan.choice(run)]
    assert all(own.chosen == [] for own in manifests.values())


def test_nothing_is_left_to_do_whatever_is_remembered(tuned: Checkout) -> None:
    copy = tuned.copy(tuned.folder.parent / "remembered")
    shutil.rmtree(copy.folder / ".snakemake")
    shutil.rmtree(copy.folder / "results/studies/tiny/tuning")
    assert copy.planned(*UP_TO_TABLES) == {}


def test_a_run_that_tunes_is_made_again_with_all_that_hangs_on_it(tuned: Checkout) -> None:
    copy = tuned.copy(tuned.folder.parent / "lost")
    before = plan_of(copy)
    shutil.rmtree(copy.folder / "results/runs" / before.tunings[0].points[1].runs[100])
    result = copy.snakemake(*UP_TO_TABLES)
    assert result.returncode == 0, result.stderr[-3000:]
    assert len(re.findall(r"^(?:local)?rule train:$", result.stderr, re.MULTILINE)) == 1
    assert plan_of(copy) == before
