"""Studies that look at the same runs in different ways share them: what is trained once is trained for all."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import yaml
from checkouts import TINY, Checkout

from gt.artefacts import read_evaluations, read_manifest

LOOKS = {"evaluate_every": 2, "evaluation_tokens": 2048, "log_every": 3}


@pytest.fixture(scope="module")
def both(finished: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A finished study, and another of the same runs that asks for other evaluations and follows them in another way."""
    checkout = finished.copy(tmp_path_factory.mktemp("both") / "copy")
    other = {**TINY, "title": "Other", "evaluations": ["long_context"], "training": {**TINY["training"], **LOOKS}}
    (checkout.folder / "config/studies/other.yaml").write_text(yaml.safe_dump(other))
    assert not {"train", "probe"} & checkout.planned(study="other").keys()
    result = checkout.snakemake(study="other")
    assert result.returncode == 0, result.stderr[-3000:]
    return checkout


def records(checkout: Checkout) -> list[Path]:
    return sorted(checkout.folder.glob("results/runs/*"))


def test_a_second_study_trains_nothing(both: Checkout, finished: Checkout) -> None:
    assert both.finished_at() == finished.finished_at()


def test_both_have_what_they_asked_for(both: Checkout) -> None:
    for record in records(both):
        names = set(read_evaluations(record))
        assert names == {"held_out", "quantisation", "long_context", "validation-2048"}
    for study, metric in {"tiny": "quantisation/", "other": "context/"}.items():
        found = pd.read_parquet(both.folder / f"results/studies/{study}/evaluations.parquet")["metric"]
        assert found.str.startswith(metric).any()


def test_curves_on_a_slice_that_was_not_followed_have_their_end_alone(both: Checkout) -> None:
    tiny, other = (pd.read_parquet(both.folder / f"results/studies/{study}/curves.parquet") for study in ("tiny", "other"))
    assert tiny["val/loss"].notna().sum() == 3 * len(records(both))
    assert set(other.dropna(subset=["val/loss"])["step"]) == {6}
    assert other["val/loss"].notna().sum() == len(records(both))
    assert other["train/loss"].equals(tiny["train/loss"])


@pytest.mark.parametrize("studies", ["tiny", "other,tiny"])
def test_nothing_is_left_to_do_in_any_order(both: Checkout, studies: str) -> None:
    assert both.planned(study=studies) == {}


def test_two_studies_of_one_call_train_their_runs_once_and_have_both_sets(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path / "c")
    checkout.study(seeds=1, variants=["GPT-2"])
    other = {**TINY, "seeds": 1, "variants": ["GPT-2"], "evaluations": ["long_context"]}
    other["training"] = {**TINY["training"], **LOOKS}
    (checkout.folder / "config/studies/other.yaml").write_text(yaml.safe_dump(other))
    result = checkout.snakemake("--until", "evaluate", study="other,tiny", pack_size=4)
    assert result.returncode == 0, result.stderr[-3000:]
    (record,) = records(checkout)
    assert read_manifest(record).watch.evaluation_tokens == 2048
    assert set(read_evaluations(record)) == {"held_out", "quantisation", "long_context", "validation-64"}
    assert "evaluate" not in checkout.planned(study="tiny,other")
