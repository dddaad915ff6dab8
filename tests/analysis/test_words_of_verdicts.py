"""The words of verdicts: each says of made-up numbers what is true of them, and no more."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from test_verdicts import NOISE, SEEDS, compare, losses, two_studies, verdicts, write_claims, write_study

from gt.analysis.cautions import Solved
from gt.analysis.claims import load_claims
from gt.analysis.predicates import Region
from gt.analysis.registration import register
from gt.analysis.verdicts import FAILED, Row, judge, judge_study, kept, overview
from gt.artefacts import read_plan, write
from gt.report.claim_sections import claims_table, together
from gt.report.claim_words import attribution, cautions, reasons, table, word

# Around 2.3: GF, and what is lower by .2, higher by .2, and as high but for noise that pairing does not take out.
CELLS = {"GF": losses(0.0), "low": losses(-0.2, shift=1), "high": losses(0.2, shift=2), "near": losses(0.01, 40, shift=4)}


RANKED = {f"r{i}": losses(i / 5, shift=i) for i in range(5)}


def level(test: str, **bounds: float) -> dict[str, Any]:
    """Of numbers of which those of `up` are 1 and those of `down` -1, but for noise."""
    return {"test": test, "metric": "gate/drift", **bounds}


def ranks(order: str, **bound: float) -> dict[str, Any]:
    """Of five cells, which rise in the order of their names, set against another order of them."""
    with_ = [int(place) for place in order]
    return {"test": "rank_correlation", "metric": "val/loss", "with": with_, "cells": list(RANKED), **bound}


def against(test: str, a: str, b: str, **bounds: Any) -> dict[str, Any]:
    return {"test": test, "metric": "val/loss", "a": a, "b": b, **bounds}


SMALLER, LARGER = "smaller than claimed", "larger than claimed"


@pytest.mark.parametrize(
    ("predicate", "verdict"),
    [
        (compare("high", "GF"), "opposite"),
        (compare("high", "GF", by=0.1), "opposite"),
        (compare("low", "GF", by=0.3), SMALLER),
        (compare("near", "GF", by=0.3), SMALLER),  # its mean is on the other side, and not shown to be
        (compare("low", "GF", by=0.2, scale="ratio"), SMALLER),
        (compare("high", "GF", by=0.2, scale="ratio"), "opposite"),
        (against("threshold", "low", "GF", below=0.8), SMALLER),
        (against("threshold", "high", "GF", below=0.8), "opposite"),
        (against("threshold", "high", "GF", below=1.01), LARGER),  # no worse than by 1 %
        (against("threshold", "high", "GF", scale="difference", below=0.1), LARGER),
        (against("threshold", "low", "GF", above=0.99), LARGER),  # the two differ by more than the 1 %
        (against("interval", "low", "GF", low=0.5, high=0.8), SMALLER),
        (against("interval", "low", "GF", low=0.95, high=0.99), LARGER),
        (against("interval", "high", "GF", low=0.5, high=0.8), "opposite"),
        (against("interval", "high", "GF", low=0.99, high=1.01), LARGER),
        (against("equivalence", "low", "GF", margin=0.01), LARGER),
        ({**level("threshold", above=2.0), "a": "up"}, SMALLER),
        ({**level("threshold", below=0.5), "a": "up"}, LARGER),
        ({**level("threshold", above=2.0), "a": "down"}, "opposite"),
        ({**level("threshold", below=0.0), "a": "up"}, "opposite"),
        ({**level("interval", low=2.0, high=3.0), "a": "up"}, SMALLER),
        ({**level("interval", low=0.1, high=0.5), "a": "up"}, LARGER),
        ({**level("interval", low=0.1, high=0.5), "a": "down"}, "opposite"),
        (ranks("54321", above=0.5), "opposite"),
        (ranks("54321", above=0.0), "opposite"),
        (ranks("21435", above=0.95), SMALLER),  # 0.8 in each seed
        (ranks("12345", below=0.5), LARGER),  # no more than 0.5
        (ranks("54321", above=-0.5), LARGER),
        ({"test": "order", "metric": "val/loss", "cells": ["GF", "low", "high"], "is": "rising"}, "opposite"),
        ({"test": "trend", "metric": "val/loss", "cells": ["high", "GF", "low"], "is": "rising"}, "opposite"),
        (
            {"test": "exists", "metric": "val/loss", "cells": ["low", "high"], "is": "lower", "by": 0.5, "b": ["GF"]},
            SMALLER,
        ),
        (
            {"test": "exists", "metric": "val/loss", "cells": ["GF", "high"], "is": "lower", "by": 0.5, "b": ["low"]},
            "opposite",
        ),
    ],
)
def test_how_a_claim_fails(tmp_path: Path, predicate: dict[str, Any], verdict: str) -> None:
    drift = {"up": [1 + noise for noise in NOISE[:SEEDS]], "down": [-1 - noise for noise in NOISE[:SEEDS]]}
    cells = {**CELLS, **RANKED, "up": losses(0.0), "down": losses(0.0)}
    study = write_study(tmp_path / "s", cells, **{"gate/drift": drift})
    assert verdicts(tmp_path, study, C=predicate)["C"].verdict == verdict


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize(("low", "high", "neutral"), [(0.0, math.inf, 0.0), (2.0, 3.0, 1.0), (0.9, 1.1, 1.0), (2, math.inf, 0)])
def test_how_far_from_no_difference_a_value_is_does_not_depend_on_its_sign(
    low: float, high: float, neutral: float, mirrored: bool
) -> None:
    """The words are of sizes, so that what is claimed and found the other way round has the same ones."""
    own, other = Region(low, high, neutral), Region(2 * neutral - high, 2 * neutral - low, neutral)
    for value in np.linspace(-5, 5, 41):
        if not low <= value <= high:
            assert own.missed(value) == other.missed(2 * neutral - value)


def test_of_a_claim_of_several_parts_the_surest_says_how_it_fails(tmp_path: Path) -> None:
    parts = [compare("low", "GF"), compare("low", "GF", by=0.3), compare("high", "GF")]
    study = write_study(tmp_path / "s", CELLS)
    found = verdicts(tmp_path, study, both={"predicate": parts[:2]}, all={"predicate": parts})
    assert (found["both"].verdict, found["both"].decides) == (SMALLER, 1)
    p = [test.p_refute for test in found["all"].tests]
    assert found["all"].decides == int(np.argmin(p))
    rows = {row.id: row for row in overview(tmp_path / "claims", [study])}
    assert "Part 2 of 2 decides." in reasons(rows["both"].judgement or {})


def test_the_opposite_is_said_where_there_is_no_effect_at_most_as_often_as_alpha(tmp_path: Path) -> None:
    """Families of claims that something is lower by a lot, where nothing differs: all fail, and few are the opposite."""
    names = ["a", "b", "c", "d"]
    claims = write_claims(tmp_path / "claims", **{name: compare(name, "o", by=2.0) for name in names})
    rng, wrong, failed, families = np.random.default_rng(1), 0, 0, 150
    for _ in range(families):
        cells = {name: rng.normal(3, 0.1, SEEDS).tolist() for name in ["o", *names]}
        words = [own.verdict for own in judge_study(write_study(tmp_path / "s", cells), claims)]
        wrong += "opposite" in words
        failed += words.count(SMALLER) + words.count("opposite")
    assert failed == families * len(names)
    assert wrong / families <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / families)


def arms_of(tmp_path: Path, own: list[float], arms: dict[str, list[float]], **claimed: Any) -> Row:
    """GF is lower than HY, in the claim's own cells and under arms, by these effects by seed. One arm more has not run."""
    names = [*arms, "late"]
    claim = {"predicate": [compare("GF", "HY", **claimed)], "arms": names}
    claims = write_claims(tmp_path / "claims", registered=False, C=claim)
    stand = {arm: {"title": arm, "study": arm, "cells": {"GF": "GF", "HY": "HY"}} for arm in names}
    (claims / "arms.yaml").write_text(json.dumps(stand))
    register(claims, load_claims(claims))
    folders, other = [], losses(0.0)
    for study, effects in {"s": own, **arms}.items():
        folders.append(write_study(tmp_path / study, {"GF": np.add(other, effects).tolist(), "HY": other}))
        judge(folders[-1], claims)
    (row,) = overview(claims, folders)
    return row


def test_an_arm_explains_a_failure_if_its_difference_to_the_claim_s_own_is_shown(tmp_path: Path) -> None:
    own, arms = (
        [0.02, 0.03, 0.02, 0.01, 0.02],
        {"far": [-0.3, -0.2, -0.3, -0.4, -0.3], "farther": [-0.5, -0.6, -0.5, -0.6, -0.4]},
    )
    row = arms_of(tmp_path, own, arms)
    assert (row.verdict, row.explained_by, row.unshown) == ("opposite", ["far", "farther"], [])
    expected = {arm: stats.ttest_rel(effects, own).pvalue for arm, effects in arms.items()}
    assert {arm: row.interactions[arm].p for arm in arms} == pytest.approx(expected)
    # the arm that has not run is the third of the family
    low, high = sorted(expected.values())
    assert sorted(row.interactions[arm].p_adjusted or 1 for arm in arms) == pytest.approx([3 * low, max(3 * low, 2 * high)])
    assert row.interactions["late"].p_adjusted is None
    assert "paired by seed, Holm over 3 arms: far −0.32 (p" in attribution(row)


def test_an_arm_that_holds_and_hardly_differs_explains_nothing(tmp_path: Path) -> None:
    """GF is no lower than HY, within the margin, and in the arm it is, by little: that is decided, and their difference not."""
    own, arm = [0.004, -0.005, 0.003, -0.004, 0.001], [-0.003, -0.002, -0.004, -0.001, -0.003]
    row = arms_of(tmp_path, own, {"arm": arm}, margin=0.05)
    assert (row.verdict, row.arms["arm"]["verdict"]) == ("equivalent", "supported")
    p = stats.ttest_rel(arm, own).pvalue
    assert row.interactions["arm"].p_adjusted == pytest.approx(min(1.0, 2 * p))
    assert (row.explained_by, row.unshown, row.confounded) == ([], ["arm"], [])
    assert "Holds under arm, which is not shown to make the difference: " in attribution(row)


def test_an_arm_without_seeds_in_common_is_said_to_have_none(tmp_path: Path) -> None:
    claims, folders = two_studies(tmp_path, C={"predicate": [compare("GF", "HY")], "arms": ["record"]})
    (judged,) = json.loads((folders[1] / "claims.json").read_text())
    (test,) = judged["tests"]
    test["by_seed"] = {str(int(seed) + 100): value for seed, value in test["by_seed"].items()}
    (folders[1] / "claims.json").write_text(json.dumps([judged]))
    (row,) = overview(claims, folders)
    assert (row.explained_by, row.unshown) == ([], ["record"])
    assert "which is not shown to make the difference: the two have 0 seeds in common." in attribution(row)


def test_a_decided_difference_within_the_margin_says_so_as_contrasts_do(tmp_path: Path) -> None:
    cells = {"GF": losses(0.0), "close": losses(0.01, shift=1), "high": losses(0.2, shift=2)}
    study = write_study(tmp_path / "s", cells)
    found = verdicts(
        tmp_path,
        study,
        near=compare("GF", "close"),
        wrong=compare("close", "GF", margin=0.02),
        far=compare("GF", "high"),
        by=compare("GF", "close", by=0.001),
    )
    rows = {row.id: row for row in overview(tmp_path / "claims", [study])}
    assert {name: word(row.judgement or {}) for name, row in rows.items()} == {
        "near": "supported, within margin",
        "wrong": "opposite, within margin",
        "far": "supported",
        "by": "supported",  # it is about more than a direction
    }
    ratio = np.log(np.divide(cells["GF"], cells["close"]))
    sides = [
        stats.ttest_1samp(ratio, math.log(bound), alternative=side).pvalue
        for bound, side in ((0.99, "greater"), (1.01, "less"))
    ]
    assert found["near"].p_equivalent == pytest.approx(max(sides))
    assert found["near"].p_equivalent_adjusted == pytest.approx(2 * max(sides))  # of two claims that have this margin
    assert "within the 1 % of contrasts" in " ".join(reasons(rows["near"].judgement or {}))
    assert {row["id"]: row["verdict"] for row in claims_table(list(rows.values())).rows}["near"] == "supported, within margin"
    assert "near   supported, within margin" in table(rows.values())


def test_over_all_claims_decisions_are_kept_as_benjamini_and_hochberg_keep_them(tmp_path: Path) -> None:
    study = write_study(tmp_path / "s", {**CELLS, "late": losses(0.0)[:2]})
    given = [("low", "GF"), ("GF", "near"), ("high", "low"), ("GF", "late")]
    verdicts(tmp_path, study, **{f"C{i}": {"predicate": [compare(*pair)], "family": f"f{i}"} for i, pair in enumerate(given)})
    rows = overview(tmp_path / "claims", [study])
    p = [1.0 if row.judgement is None or row.judgement["p"] is None else row.judgement["p"] for row in rows]
    decided = np.array([row.verdict in ("supported", "opposite") for row in rows])
    assert kept(rows) == (int((stats.false_discovery_control(p)[decided] < 0.05).sum()), int(decided.sum())) == (2, 2)
    assert together(rows) == "Benjamini–Hochberg at 5 % over all claims keeps 2 of 2 decided."
    assert together(rows[-1:]) == ""


def test_variants_of_other_sizes_are_named_and_a_model_is_not_compared_with_itself(tmp_path: Path) -> None:
    study = write_study(tmp_path / "s", CELLS)
    runs = pd.read_parquet(study / "runs.parquet")
    runs["n_params"] = np.where(runs["cell"] == "GF.c.char", 1_000_000, 1_060_000)
    runs["tokens"], runs["steps_completed"] = 4_000_000, 1000
    runs.to_parquet(study / "runs.parquet")
    alone = {"test": "threshold", "metric": "val/loss", "a": "GF", "below": 9}
    own = verdicts(tmp_path, study, C=compare("low", "GF"), D=alone)
    (unlike,) = own["C"].cautions.unlike
    assert (unlike.what, unlike.a, unlike.b, unlike.share) == ("parameters", "GF", "low", pytest.approx(0.06))
    assert {fixed.cell: fixed.rate for fixed in own["C"].cautions.fixed} == {"GF": 0.003, "low": 0.003}
    assert (own["D"].cautions.unlike, own["D"].cautions.fixed) == ([], [])
    (row, _) = overview(tmp_path / "claims", [study])
    assert "low has 6.0 % more parameters than GF (1.06M against 1M)." in " ".join(cautions(row.judgement or {}))


@pytest.mark.parametrize("tokens", [1024, 65_536])
def test_a_loss_on_few_tokens_is_one_of_these(tmp_path: Path, tokens: int) -> None:
    study = write_study(tmp_path / "s", CELLS)
    runs = pd.read_parquet(study / "runs.parquet")
    runs.assign(**{"val/tokens": tokens}).to_parquet(study / "runs.parquet")
    (own,) = verdicts(tmp_path, study, C=compare("low", "GF")).values()
    assert [(same.cell, same.n, same.error) for same in own.cautions.same_tokens] == (
        [("low", 1024, None), ("GF", 1024, None)] if tokens == 1024 else []
    )


@pytest.mark.parametrize(("path", "said"), [("model.fusion.gate_init", ["GF", "GF"]), ("training.learning_rate", [])])
def test_that_no_tuning_chose_a_rate_is_said_of_one_variant_s_models_too(tmp_path: Path, path: str, said: list[str]) -> None:
    study = write_study(tmp_path / "s", CELLS)
    plan = read_plan(study / "plan.json")
    cells = [cell.model_copy(update={"variant": "GF", "factors": {path: i / 10}}) for i, cell in enumerate(plan.cells)]
    write(study / "plan.json", plan.model_copy(update={"cells": cells}))
    one, other = ({"variant": "GF", "factors": {path: i / 10}} for i in (0, 1))
    own = verdicts(tmp_path, study, C={"test": "compare", "metric": "val/loss", "a": one, "b": other, "is": "lower"})["C"]
    assert [fixed.cell.partition(" ")[0] for fixed in own.cautions.fixed] == said


def measured(study: Path, metric: str, values: dict[str, list[float]], at: float | None = None, **more: Any) -> None:
    """Add measures of an evaluation to a study's tables."""
    rows = [
        {"cell": f"{name}.c.char", "seed": seed, "metric": metric, "at": at, "value": value, **more}
        for name, own in values.items()
        for seed, value in enumerate(own)
    ]
    path = study / "evaluations.parquet"
    columns = ["cell", "seed", "metric", "at", "value", "lower", "upper", "n"]
    table_ = pd.DataFrame(rows, columns=columns).astype({"at": float, "lower": float, "upper": float, "n": float})
    pd.concat([pd.read_parquet(path), table_] if path.exists() else [table_]).to_parquet(path)


def test_an_evaluation_s_own_error_is_said_where_it_was_recorded(tmp_path: Path) -> None:
    study = write_study(tmp_path / "s", {"GF": losses(0.0)})
    length = next(iter(read_plan(study / "plan.json").runs.values())).training.sequence_length
    measured(study, "context/slope", {"GF": [-0.02, -0.021, -0.019, -0.02, -0.022]})
    measured(study, "context/gain_se", {"GF": [0.006, 0.007, 0.008, 0.007, 0.007]}, at=length)
    measured(study, "context/gain_se", {"GF": [1.0] * 5}, at=8 * length)
    measured(study, "needle/exact/depth_0.5", {"GF": [0.5, 0.6, 0.5, 0.5, 0.4]}, at=512, lower=0.402, upper=0.598, n=100)
    found = verdicts(
        tmp_path,
        study,
        S={"test": "threshold", "metric": "context/slope", "a": "GF", "below": 0},
        N={"test": "threshold", "metric": "needle/exact/depth_0.5", "a": {"variant": "GF", "at": 512}, "above": 0.1},
    )
    (slope,), (exact,) = (found[name].cautions.same_tokens for name in "SN")
    assert (slope.n, slope.error) == (None, pytest.approx(0.007))
    assert (exact.n, exact.error) == (100, pytest.approx(0.05, abs=1e-4))


def test_a_model_that_is_worse_in_longer_contexts_than_it_was_trained_in_is_named(tmp_path: Path) -> None:
    study = write_study(tmp_path / "s", {"GF": losses(0.0), "RoPE": losses(0.1)})
    trained = next(iter(read_plan(study / "plan.json").runs.values())).training.sequence_length
    measured(study, "context/loss", {"GF": losses(0.0), "RoPE": losses(0.2, shift=1)}, at=trained)
    measured(study, "context/loss", {"GF": losses(0.001), "RoPE": losses(0.8, shift=2)}, at=4 * trained)
    long, short = ({"variant": "RoPE", "at": at * trained} for at in (4, 1))
    claim = {**compare("GF", "RoPE"), "metric": "context/loss", "a": {"variant": "GF", "at": 4 * trained}, "b": [long, short]}
    (beyond,) = verdicts(tmp_path, study, D=claim)["D"].cautions.beyond
    assert (beyond.cell, beyond.context, beyond.trained) == ("RoPE", 4 * trained, trained)
    (row,) = overview(tmp_path / "claims", [study])
    assert any(words.startswith("RoPE is read in contexts of 256 tokens") for words in cautions(row.judgement or {}))
    # Both comparisons stand there, with the differences that they were made with.
    said = reasons(row.judgement or {})[0]
    assert all(f"RoPE at {at} < 0" in said for at in (trained, 4 * trained))
    assert "measured −0.199" in said
    assert "measured −0.799" in said


def test_what_no_seed_changes_is_said_to_be_constant(tmp_path: Path) -> None:
    study = write_study(tmp_path / "s", {"GF": losses(0.0), "HY": losses(0.1)})
    measured(study, "needle/exact/depth_0.5", {"GF": [0.0] * 5, "HY": [0.0, 0.0, 0.1, 0.0, 0.0]}, at=512)
    cell = {name: {"variant": name, "at": 512} for name in ("GF", "HY")}
    exact = {"test": "threshold", "metric": "needle/exact/depth_0.5", "below": 0.5}
    found = verdicts(tmp_path, study, A={**exact, "a": cell["GF"]}, B={**exact, "a": cell["HY"]}, L=compare("GF", "HY"))
    assert {name: own.cautions.constant for name, own in found.items()} == {
        "A": ["needle/exact/depth_0.5"],
        "B": [],
        "L": [],
    }
    (row, *_) = overview(tmp_path / "claims", [study])
    numbers, no_test = reasons(row.judgement or {})
    assert numbers.endswith("GF at 512 < 0.5; measured 0 in each of 5 seeds.")
    assert no_test == ("No test: no seed changes what it reads, so that nothing is left to chance; the numbers are as claimed.")
    assert not any("No seed changes" in words for words in cautions(row.judgement or {}))


def test_where_runs_solve_a_task_or_do_not_their_counts_are_tested_beside_the_mean(tmp_path: Path) -> None:
    """GF solves it with six of seven seeds, HY with none; with one GF is far off. McNemar: six to none, of one half each."""
    cells = {name: losses(0.0, seeds=7) for name in ("GF", "HY", "WS")}
    study = write_study(tmp_path / "s", cells)
    task = "recall/mqar/accuracy"
    measured(study, task, {"GF": [0.99] * 6 + [0.2], "HY": [0.3] * 7, "WS": [0.91] * 7})
    found = verdicts(
        tmp_path,
        study,
        C={**compare("GF", ["HY", "WS"], "higher"), "metric": task},
        D={**compare("WS", "HY", "higher"), "metric": task},
    )
    assert found["C"].cautions.solved == [
        Solved(task, {"GF": (6, 7), "HY": (0, 7), "WS": (7, 7)}, [("GF", "HY", 2 / 2**6), ("GF", "WS", 1.0)])
    ]
    assert found["D"].cautions.solved == []  # all of either kind
    rows = overview(tmp_path / "claims", [study])
    said = " ".join(cautions(rows[0].judgement or {}))
    assert "From 0.9 on, GF 6 of 7, HY 0 of 7 and WS 7 of 7 solved it." in said
    assert "By McNemar's exact test of these counts, GF against HY p = 0.031 and GF against WS p = 1.000." in said


def test_verdicts_of_when_a_claim_was_refuted_can_be_read(tmp_path: Path) -> None:
    claims, studies = two_studies(tmp_path, C={"predicate": [compare("GF", "HY")], "arms": ["record"]})
    for study in studies:
        old = json.loads((study / "claims.json").read_text())
        for own in old:
            own["leaning"] = {"for": "supported", "against": "refuted"}[own["leaning"]]
            own["verdict"] = "refuted" if own["verdict"] in FAILED else own["verdict"]
            for key in ("margin", "decides", "misses", "p_opposite", "p_opposite_adjusted"):
                del own[key]
            for test in own["tests"]:
                for key in ("misses", "p_opposite", "parts", "part"):
                    del test[key]
            for key in ("fixed", "unlike", "same_tokens", "constant", "solved"):
                del own["cautions"][key]
        (study / "claims.json").write_text(json.dumps(old))
    (row,) = overview(claims, studies)
    assert (row.verdict, row.explained_by, row.unshown) == ("refuted", [], ["record"])
    assert "these verdicts do not say which part decides" in attribution(row)
    assert any("against the claim" in line for line in reasons(row.judgement or {}))
    assert "1 refuted" in table([row])
