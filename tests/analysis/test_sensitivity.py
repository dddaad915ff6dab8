"""How claims come out at each value of what was tuned, from tables whose numbers are made up."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from test_verdicts import compare, write_claims, write_study

from gt.analysis.verdicts import Judgement, judge_study
from gt.artefacts import Point, Tuning, read_plan, write
from gt.report.claim_words import sensitive

RATE = "training.learning_rate"
# By cell and rate the losses of two seeds; None is a run that diverged.
TRIALS: dict[str, dict[float, list[float | None]]] = {
    "GF": {0.001: [2.0, 2.2], 0.003: [1.8, 1.9], 0.01: [1.5, None]},
    "HY": {0.001: [1.9, 2.0], 0.003: [1.9, 2.0], 0.03: [1.0, 1.0]},
}


def judged(folder: Path, predicate: dict[str, Any]) -> Judgement:
    study = write_study(folder / "s")
    plan, rows, tunings = read_plan(study / "plan.json"), [], []
    run = next(iter(plan.runs))  # its specification is of no account here
    for name, points in TRIALS.items():
        for rate, losses in points.items():
            for seed, loss in enumerate(losses, 100):
                status = "diverged" if loss is None else "completed"
                values = json.dumps({RATE: rate})
                rows.append({"cell": f"{name}.c.char", "values": values, "seed": seed, "status": status, "val/loss": loss})
        own = [Point(values={RATE: rate}, round=0, runs={plan.runs[run].seed: run}) for rate in points]
        tunings.append(Tuning(cell=f"{name}.c.char", scales={RATE: "log"}, points=own, choice={RATE: 0.003}))
    write(study / "plan.json", plan.model_copy(update={"tunings": tunings}))
    pd.DataFrame(rows).to_parquet(study / "tuning.parquet")
    (own,) = judge_study(study, write_claims(folder / "claims", C=predicate))
    return own


def test_a_claim_is_set_against_the_values_that_both_cells_were_tried_at(tmp_path: Path) -> None:
    found = judged(tmp_path, compare("GF", "HY")).sensitivity
    assert [(own.value, own.holds) for own in found] == [(0.001, False), (0.003, True)]
    assert [own.estimate for own in found] == pytest.approx([0.15, -0.1])


def test_a_ratio_is_the_geometric_mean(tmp_path: Path) -> None:
    (first, _) = judged(tmp_path, compare("GF", "HY", scale="ratio")).sensitivity
    assert first.estimate == pytest.approx(math.sqrt(2.0 / 1.9 * 2.2 / 2.0))


def test_a_run_that_diverged_is_worse_than_any(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TRIALS, "HY", {0.01: [3.0, 3.0]})
    (own,) = judged(tmp_path, compare("GF", "HY")).sensitivity
    assert (own.holds, own.estimate) == (False, math.inf)


def test_other_metrics_are_not_known_of_the_runs_that_tune(tmp_path: Path) -> None:
    assert judged(tmp_path, {**compare("GF", "HY"), "metric": "n_params"}).sensitivity == []


def test_it_is_said_in_one_sentence(tmp_path: Path) -> None:
    values = [{"a": "GF", "b": "HY", "setting": RATE, "value": v, "holds": v > 0.001} for v in (0.001, 0.003, 0.01)]
    assert (
        sensitive({"sensitivity": values})[0] == "GF against HY: as claimed at a learning rate of 0.003 and 0.01, not at 0.001."
    )
    said = [sensitive({"sensitivity": own})[0] for own in (values, values[:1], values[1:])]
    assert said == [
        "GF against HY: as claimed at a learning rate of 0.003 and 0.01, not at 0.001.",
        "GF against HY: not as claimed at a learning rate of 0.001.",
        "GF against HY: as claimed at a learning rate of 0.003 and 0.01.",
    ]
