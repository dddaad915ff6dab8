"""The claim that the law of the smaller rungs foretells the largest, on tables whose answers are known."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import ladders as sizes
import numpy as np
import pandas as pd
import pytest
import records
from scipy import stats

from gt.analysis.claims import load_claims
from gt.analysis.gate_words import findings
from gt.analysis.gates import outlook
from gt.analysis.verdicts import Judgement, judge_study
from gt.artefacts import evaluation_file, write
from gt.errors import ConfigError
from gt.records import MANIFEST

WIDTHS = (32, 64, 128, 256)
SIZES = np.array([24.0 * width**2 for width in WIDTHS])
RUNGS = {"d_model": list(WIDTHS)}
LAWS = {"GPT-2": (1.0, 1.0, 0.3), "GF": (1.05, 0.8, 0.4)}


def losses(variant: str, seed: int, more: float = 0.0) -> np.ndarray:
    """Of each rung. more: what the largest has beyond the law."""
    floor, reducible, exponent = LAWS[variant]
    noise = np.random.default_rng([seed, *variant.encode()]).normal(0, 0.001, len(WIDTHS))
    offset = 0.02 * math.sin(7 * seed) + more * (np.arange(len(WIDTHS)) == 3)
    return floor + reducible * (SIZES / SIZES[0]) ** -exponent + offset + noise


def study(root: Path, more: float = 0.0, seeds: int = 5, diverged: tuple[str, int, int] | None = None) -> Path:
    """Plan and tables. more: of GF's largest rung; diverged: variant, width and seed of a run that did."""
    folder = root / "s"
    folder.mkdir(parents=True)
    cells, rows = [], []
    for variant in LAWS:
        for i, width in enumerate(WIDTHS):
            cell = {"id": f"{variant}.c.char.{width}", "variant": variant, "corpus": "c", "tokenizer": "char"}
            cells.append(({**cell, "factors": {"model.d_model": width}}, seeds))
            for seed in range(seeds):
                lost = (variant, width, seed) == diverged
                value = losses(variant, seed, more if variant == "GF" else 0.0)[i]
                run = {"status": "diverged" if lost else "completed", "val/loss": None if lost else value}
                rows.append({"cell": cell["id"], "seed": seed, **run, "n_params_non_embedding": int(SIZES[i]), "started": None})
    write(folder / "plan.json", records.planned(records.sketched("s", cells)))
    pd.DataFrame(rows).to_parquet(folder / "runs.parquet")
    return folder


def judged(folder: Path, diverged: str | None = None, **predicate: Any) -> Judgement:
    claims = folder.parent / "claims"
    claims.mkdir(exist_ok=True)
    own = {"test": "extrapolates", "metric": "val/loss", "a": "GF", "rungs": RUNGS, "margin": 0.01, **predicate}
    claim = {"title": "t", "sentence": "s", "source": "x", "study": "s", "predicate": [own], "diverged": diverged}
    (claims / "claims.yaml").write_text(json.dumps({"C": claim}))
    (found,) = judge_study(folder, claims)
    return found


def foretold(rungs: np.ndarray) -> float:
    """The law through three rungs, each four times the last: differences fall by one factor, and so does the next."""
    steps = np.diff(rungs)
    return float(rungs[-1] + steps[1] ** 2 / steps[0])


def test_each_seed_has_one_error_and_the_verdict_is_that_of_two_one_sided_tests(tmp_path: Path) -> None:
    found = judged(study(tmp_path), b="GPT-2", scale="difference")
    errors = {
        seed: (foretold((a := losses("GF", seed))[:3]) - a[3]) - (foretold((b := losses("GPT-2", seed))[:3]) - b[3])
        for seed in range(5)
    }
    (test,) = found.tests
    assert test.by_seed == pytest.approx(errors, abs=1e-6)
    z = list(errors.values())
    p = max(stats.ttest_1samp(z, -0.01, alternative="greater").pvalue, stats.ttest_1samp(z, 0.01, alternative="less").pvalue)
    assert (found.verdict, found.p) == ("supported", pytest.approx(p, rel=1e-3))
    assert test.words == (
        "held-out loss in nats per token: (GF − GPT-2) at d_model=256, foretold by the law of the 3 rungs before − measured, "
        "between −0.01 and 0.01"
    )


def test_of_one_arm_the_loss_itself_is_foretold_as_a_share(tmp_path: Path) -> None:
    (test,) = judged(study(tmp_path)).tests
    expected = {seed: foretold(own[:3]) / own[3] for seed in range(5) if (own := losses("GF", seed)) is not None}
    assert test.by_seed == pytest.approx(expected, abs=1e-6)
    assert test.scale == "ratio"


@pytest.mark.parametrize(("more", "verdict"), [(0.0, "supported"), (0.1, "larger than claimed"), (-0.1, "larger than claimed")])
def test_a_rung_off_its_law_by_more_than_the_margin_is_larger_than_claimed(tmp_path: Path, more: float, verdict: str) -> None:
    assert judged(study(tmp_path, more=more)).verdict == verdict


def test_an_error_as_large_as_the_margin_decides_nothing(tmp_path: Path) -> None:
    folder = study(tmp_path, more=0.05)
    (test,) = judged(folder).tests
    assert test.estimate is not None
    assert judged(folder, margin=1 - test.estimate).verdict == "inconclusive"


def test_a_run_that_diverged_has_no_law_and_the_plan_was_not_followed(tmp_path: Path) -> None:
    found = judged(study(tmp_path, seeds=6, diverged=("GF", 64, 2)))
    assert (found.verdict, found.otherwise) == ("deviated", "supported")
    assert found.deviations == ["seed 2 of GF.c.char.64 diverged, which cannot count as the worst: a law has no place for it"]
    assert sorted(found.tests[0].by_seed) == [0, 1, 3, 4, 5]


def test_rungs_that_do_not_grow_are_not_judged(tmp_path: Path) -> None:
    found = judged(study(tmp_path), rungs={"d_model": [64, 32, 128, 256]})
    assert found.verdict == "inconclusive"
    assert "parameters must rise from rung to rung" in found.reason


@pytest.mark.parametrize("rungs", [[32, 64], [32, 64, 128], [32, 64, 128, 128]])
def test_too_few_rungs_are_refused_with_the_line_to_write(tmp_path: Path, rungs: list[int]) -> None:
    claim = {"title": "t", "sentence": "s", "source": "x", "study": "s"}
    own = {"test": "extrapolates", "metric": "val/loss", "a": "GF", "rungs": {"d_model": rungs}, "margin": 0.01}
    (tmp_path / "claims.yaml").write_text(json.dumps({"C": {**claim, "predicate": [own]}}))
    with pytest.raises(ConfigError) as caught:
        load_claims(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}/claims.yaml, line 1: C.predicate.0: rungs {rungs} are too few")
    assert f"Write rungs: {{d_model: [{', '.join([*map(str, dict.fromkeys(rungs)), '...', '...'][:4])}]}}" in str(caught.value)


@pytest.mark.parametrize(("sd", "faults"), [(None, []), (0.001, []), (0.05, ["cannot see"])])
def test_before_a_run_its_gate_knows_the_spread_that_the_claim_declares(
    tmp_path: Path, sd: float | None, faults: list[str]
) -> None:
    study = sizes.read(tmp_path, also=[])
    plan = study.plan()
    own = {"test": "extrapolates", "metric": "val/loss", "a": "GF", "b": "GPT-2", "rungs": RUNGS, "margin": 0.01}
    claim = {"title": "t", "sentence": "s", "source": "x", "study": "sizes", "predicate": [own], "sd": sd}
    (tmp_path / "claims").mkdir()
    (tmp_path / "claims" / "claims.yaml").write_text(json.dumps({"C": claim}))
    (found,) = outlook(study, plan, tmp_path / "claims", plan.runs, 0).gates
    (sight,) = found.sights
    assert [fault.kind for fault in found.faults] == faults
    # half of what is between the bounds, of logarithms
    assert (sight.seeds, sight.margin) == (5, pytest.approx(math.sqrt(1.01 / 0.99) - 1))
    assert (sight.detectable is None) == (sd is None)
    why = "no record has all its rungs, and no other ladder says how much its errors vary, so what its seeds see is not known"
    assert any(words.startswith(why) for words in findings(found)) == (sd is None)


@pytest.mark.parametrize("b", ["GPT-2", None])
def test_the_gate_of_a_ladder_that_has_run_has_the_spread_of_its_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, b: str | None
) -> None:
    """With noise in the largest rung alone its logarithm is all of the errors' spread."""
    study = sizes.read(tmp_path, also=[])
    plan, rng, off = study.plan(), np.random.default_rng(0), dict[tuple[str, int], float]()
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "results/studies/old/plan.json", plan.model_copy(update={"study": "old"}))
    for cell in plan.cells:
        rung = WIDTHS.index(cell.factors["model.d_model"])
        for seed, run in cell.runs.items():
            noise = float(rng.normal(0, 0.01)) if rung == 3 else 0.0
            off[cell.variant, seed] = off.get((cell.variant, seed), 0.0) + noise
            floor, reducible, exponent, _ = sizes.LAWS[cell.variant]
            value = (floor + reducible * float(SIZES[rung] / SIZES[0]) ** -exponent) * math.exp(noise)
            folder = tmp_path / "results/runs" / run
            about = {"n_params": int(SIZES[rung]), "n_params_non_embedding": int(SIZES[rung])}
            write(folder / MANIFEST, records.manifest(plan.runs[run], **about))
            held_out = [records.of("<split>/loss", value, split="val")]
            write(evaluation_file(folder, "held_out"), records.evaluation("held_out", run, held_out))
    own = {"test": "extrapolates", "metric": "val/loss", "a": "GF", "b": b, "rungs": RUNGS, "margin": 0.01}
    claim = {"title": "t", "sentence": "s", "source": "x", "study": "sizes", "predicate": [own]}
    (tmp_path / "claims").mkdir()
    (tmp_path / "claims" / "claims.yaml").write_text(json.dumps({"C": claim}))
    (found,) = outlook(study, plan, tmp_path / "claims", plan.runs, 0).gates
    (sight,) = found.sights
    apart = [off["GF", seed] - (off["GPT-2", seed] if b else 0.0) for seed in range(5)]
    assert sight.spread is not None
    assert (sight.spread.step, sight.spread.seeds) == ("same cells", 5)
    assert sight.spread.sd == pytest.approx(np.std(apart, ddof=1), rel=1e-6)


def test_a_claim_about_sizes_that_a_study_lacks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="s has no cell GF, d_model=512"):
        judged(study(tmp_path), rungs={"d_model": [32, 64, 128, 512]})
