"""What studies want of a run, of one that several have and of one that only tunes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from gt.artefacts import Plan
from gt.study import load_study
from gt.wanted import Wanted, wanted

TUNE = {
    "space": {"training.learning_rate": {"scale": "log", "from": 0.001, "to": 0.01, "low": 0.0001, "high": 0.1}},
    "seeds": [100],
    "runs": 6,
}


@pytest.fixture
def planned(tmp_path: Path) -> Any:
    def plan(study: str, **changes: Any) -> Plan:
        document = {
            "title": study,
            "description": "d",
            "baseline": "GPT-2",
            "variants": ["GPT-2"],
            "corpora": ["tinyshakespeare"],
            "tokenizers": [{"name": "char"}],
            "seeds": [0],
            "model": {"d_model": 32, "n_layer": 1, "mixers": {"attention": {"n_head": 2}}},
            "training": {"steps": 4, "batch_size": 2, "sequence_length": 16, "evaluate_every": 2, "evaluation_tokens": 64},
        }
        file = tmp_path / f"{study}.yaml"
        file.write_text(yaml.safe_dump({**document, **changes}))
        return load_study(file).plan()

    return plan


def test_a_run_that_only_tunes_is_wanted_for_its_losses_alone(planned: Any) -> None:
    plan = planned("tuned", tune=TUNE, evaluations=["quantisation"])
    every = wanted([plan])
    assert set(every) == set(plan.runs)
    assert {run for run, own in every.items() if not own.probed} == set(plan.trials) == {r for r in every if not every[r].asked}
    assert all(every[run].evaluations(plan.runs[run]) == ["held_out"] for run in plan.trials)


def test_what_one_study_tunes_by_and_another_compares_is_wanted_whole(planned: Any) -> None:
    tuned = planned("tuned", tune=TUNE, evaluations=["quantisation"])
    other = planned("other", seeds=[100], factors={"training.learning_rate": [0.001]}, evaluations=["generation"])
    (run,) = other.runs
    assert run in tuned.trials
    for plans in ([tuned, other], [other, tuned]):
        specs = tuple(plan.runs[run] for plan in plans)
        assert wanted(plans)[run] == Wanted(specs, frozenset({"generation"}), probed=True)
