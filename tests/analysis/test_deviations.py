"""A claim whose plan was not followed is not what it would be otherwise, and says why first."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import records
from scipy import stats
from test_verdicts import CELLS, SEEDS, compare, losses, verdicts, write_claims, write_study

from gt.analysis.cautions import Lost
from gt.analysis.claims import load_claims
from gt.analysis.registration import register
from gt.analysis.statistics import holm
from gt.analysis.verdicts import Judgement, judge, judge_study, overview
from gt.cli import main
from gt.report.claim_sections import claims_table, counted

Json = dict[str, Any]
NAN = math.nan
EARLY, LATE = "2020-01-01T00:00:00+00:00", "2999-01-01T00:00:00+00:00"


def alter(study: Path, cell: str, column: str, value: Callable[[int], Any]) -> None:
    """What a column of `runs.parquet` has for the seeds of a cell; for those of others it stays, or is unknown."""
    runs = pd.read_parquet(study / "runs.parquet")
    here = runs["cell"] == f"{cell}.c.char"
    known = runs[column].astype(object) if column in runs else pd.Series(None, index=runs.index, dtype=object)
    runs[column] = [value(seed) if own else kept for own, seed, kept in zip(here, runs["seed"], known, strict=True)]
    runs.to_parquet(study / "runs.parquet")


def one(tmp_path: Path, study: Path, predicate: Json | None = None, **more: Any) -> Judgement:
    """The verdict on one claim about the study, by default that GF is below HY, as it is."""
    return verdicts(tmp_path, study, C={"predicate": [predicate or compare("GF", "HY")], **more})["C"]


def test_a_claim_whose_plan_was_followed_has_not_deviated(tmp_path: Path) -> None:
    own = one(tmp_path, write_study(tmp_path / "s"))
    assert (own.verdict, own.otherwise, own.deviations, own.planned) == ("supported", None, [], True)


def test_a_claim_that_comes_after_its_runs_has_deviated_and_is_adjusted_with_those_that_were_never_registered(
    tmp_path: Path,
) -> None:
    study = write_study(tmp_path / "s", started=EARLY)
    claims = write_claims(tmp_path / "claims", A=compare("GF", "HY"), B=compare("GF", "WS"))
    write_claims(tmp_path / "claims", registered=False, A=compare("GF", "HY"), B=compare("GF", "WS"), C=compare("HY", "WS"))
    found = {own.claim: own for own in judge(study, claims)}
    assert found["A"].deviations[0].startswith("registered on ")
    assert found["A"].deviations[0].endswith("after the first run that it reads had started (2020-01-01 00:00)")
    assert (found["A"].verdict, found["A"].otherwise, found["A"].planned) == ("deviated", "supported", False)
    assert (found["C"].verdict, found["C"].exploratory, found["C"].deviations) == ("supported", "not registered", [])
    expected = stats.false_discovery_control([own.p for own in found.values()])
    assert [own.p_adjusted for own in found.values()] == pytest.approx(expected)


def test_a_claim_that_was_edited_after_its_runs_has_deviated(tmp_path: Path) -> None:
    study = write_study(tmp_path / "s", started="2021-01-01T00:00:00+00:00")
    claims = write_claims(tmp_path / "claims", C=compare("GF", "HY"))
    write_claims(claims, registered=False, C=compare("GF", "WS"))
    assert judge(study, claims)[0].deviations[0].startswith("edited since it was registered on ")
    register(claims, load_claims(claims))
    assert judge(study, claims)[0].deviations[0].startswith("edited and registered again on ")


def test_the_first_start_of_a_run_counts_and_not_that_of_its_last_attempt(tmp_path: Path) -> None:
    study = write_study(tmp_path / "s")
    assert one(tmp_path, study).deviations == []
    alter(study, "HY", "first_started", lambda seed: EARLY if seed == 3 else None)
    assert "(2020-01-01 00:00)" in one(tmp_path, study).deviations[0]
    assert one(tmp_path, study, compare("GF", "WS")).deviations == []


def tuned(tmp_path: Path) -> Path:
    """HY at two rates, of which cells of their own choose the lower."""
    effects = {"GF": 0.0, "HY-0.001": 0.1, "HY-0.01": 0.3, "tuning-0.001": 0.1, "tuning-0.01": 0.2}
    study = write_study(tmp_path / "s", {name: losses(effect, shift=i) for i, (name, effect) in enumerate(effects.items())})
    plan = json.loads((study / "plan.json").read_text())
    for cell in plan["cells"][1:]:
        cell["variant"], _, rate = cell["variant"].partition("-")
        cell["factors"] = {"training.learning_rate": float(rate)}
    records.edit(study / "plan.json", cells=plan["cells"])
    return study


def test_a_claim_reads_the_runs_that_chose_its_cells_too(tmp_path: Path) -> None:
    study, chosen = tuned(tmp_path), compare("GF", "HY")
    chosen["b"] = {"variant": "HY", "tuned_by": "tuning"}
    assert one(tmp_path, study, chosen).verdict == "supported"
    alter(study, "HY-0.01", "first_started", lambda seed: EARLY)
    assert one(tmp_path, study, chosen).verdict == "supported"  # it was not chosen
    alter(study, "tuning-0.01", "first_started", lambda seed: EARLY)
    assert one(tmp_path, study, chosen).verdict == "deviated"


def test_planned_seeds_without_a_result_are_a_deviation_and_too_few_are_not_yet_run(tmp_path: Path) -> None:
    study = write_study(tmp_path / "s", {**CELLS, "HY": CELLS["HY"][:4]})
    own = one(tmp_path, study, seeds=3)
    assert (own.verdict, own.otherwise) == ("deviated", "supported")
    assert own.deviations == ["seed 4 of HY.c.char was planned and has no result"]
    assert own.tests[0].n == 4
    own = one(tmp_path, study, seeds=5)
    assert (own.verdict, own.missing, own.deviations) == ("not yet run", ["HY.c.char: 4 of 5 seeds"], [])


def test_what_is_counted_needs_no_seeds(tmp_path: Path) -> None:
    study = write_study(tmp_path / "s", {"GF": CELLS["GF"], "longer": [2.0]})
    own = one(tmp_path, study, compare("GF", "longer", metric="n_params"), seeds=1)
    assert (own.verdict, own.deviations, own.tests[0].constant) == ("not testable", [], True)


def test_seeds_that_were_not_looked_at_are_a_deviation(tmp_path: Path) -> None:
    study = write_study(tmp_path / "s", **{"ablation/zero/r": {"GF": losses(0.0)}})
    probes = pd.read_parquet(study / "probes.parquet")
    probes[probes["seed"] != 2].to_parquet(study / "probes.parquet")
    own = one(tmp_path, study, {"test": "threshold", "metric": "ablation/zero/r", "a": "GF", "above": 0}, seeds=4)
    assert (own.verdict, own.otherwise) == ("deviated", "supported")
    assert own.deviations == ["seed 2 of GF.c.char was not looked at for loss added by zeroing the rwkv6 branch"]


def test_seeds_without_the_evaluation_that_others_of_the_cell_have_are_a_deviation(tmp_path: Path) -> None:
    """All were evaluated: of seed 3 only what studies ask for that share it, of seed 4 the context without a useful window."""
    study = write_study(tmp_path / "s")
    metrics = {"val/by_position": range(5), "context/slope": (0, 1, 2, 4), "context/useful_window": (0, 1, 2)}
    rows = [
        {"cell": "GF.c.char", "seed": seed, "metric": metric, "at": None, "value": 100.0 + seed}
        for metric, seeds in metrics.items()
        for seed in seeds
    ]
    pd.DataFrame(rows).astype({"at": float}).to_parquet(study / "evaluations.parquet")
    own = one(tmp_path, study, {"test": "threshold", "metric": "context/useful_window", "a": "GF", "above": 50}, seeds=3)
    assert (own.verdict, own.otherwise) == ("deviated", "supported")
    assert len(own.deviations) == 1
    assert own.deviations[0].startswith("seed 3 of GF.c.char was not looked at for ")


def test_a_run_of_a_seed_that_was_not_planned_is_a_deviation(tmp_path: Path) -> None:
    study = write_study(tmp_path / "s")
    plan = json.loads((study / "plan.json").read_text())
    del plan["runs"][plan["cells"][1]["runs"].pop("4")]
    records.edit(study / "plan.json", **plan)
    own = one(tmp_path, study, seeds=4)
    assert (own.verdict, own.deviations) == ("deviated", ["seed 4 of HY.c.char was run and not planned"])


CODE = {"gt.training.loop": "a", "gt.models.lm": "a"}


def write_code(study: Path, **changed: Callable[[int], Json]) -> None:
    """What each cell used: what all use, one component, and what is changed for its seeds."""
    for cell in CELLS:
        changes = changed.get(cell, lambda seed: {})
        alter(study, cell, "code", lambda seed, c=cell, f=changes: json.dumps({**CODE, f"gt.fusions.{c}": c} | f(seed)))


def test_other_components_are_no_other_code_and_another_module_of_both_is(tmp_path: Path) -> None:
    study = write_study(tmp_path / "s")
    write_code(study)
    assert one(tmp_path, study).verdict == "supported"
    write_code(study, HY=lambda seed: {"gt.models.lm": "b"} if seed > 2 else {})
    own = one(tmp_path, study)
    assert (own.verdict, own.otherwise) == ("deviated", "supported")
    assert own.deviations == ["other code than that of most (gt.models.lm) trained seeds 3 and 4 of HY.c.char"]
    assert one(tmp_path, study, compare("GF", "WS")).verdict == "supported"  # which does not read HY
    apart = {"predicate": [{"test": "threshold", "metric": "val/loss", "a": name, "below": 9} for name in ("GF", "WS")]}
    write_code(study, WS=lambda seed: {"gt.models.lm": "b"})
    assert verdicts(tmp_path, study, C=apart)["C"].verdict == "supported"  # which does not set them against each other


def test_of_whole_packages_it_is_not_known_what_the_runs_used(tmp_path: Path) -> None:
    study = write_study(tmp_path / "s")
    alter(study, "GF", "code", lambda seed: json.dumps({"models": "a", "training": "a"}))
    alter(study, "HY", "code", lambda seed: json.dumps({"models": "b", "training": "a"}))
    own = one(tmp_path, study)
    assert (own.verdict, own.cautions.versions) == ("supported", [["GF"], ["HY"]])
    alter(study, "HY", "code", lambda seed: json.dumps(CODE))
    own = one(tmp_path, study)
    assert (own.verdict, own.cautions.versions) == ("supported", [["GF"], ["HY"]])
    alter(study, "GF", "code", lambda seed: json.dumps(CODE))
    assert one(tmp_path, study).cautions.versions == []


def test_a_dirty_tree_is_a_deviation_and_one_in_no_repository_a_caution(tmp_path: Path) -> None:
    study = write_study(tmp_path / "s")
    for cell in CELLS:
        alter(study, cell, "modified", lambda seed: "[]")
    own = one(tmp_path, study)
    assert (own.verdict, own.cautions.unheld) == ("supported", [])
    alter(study, "HY", "modified", lambda seed: json.dumps(["gt/models/lm.py"] if seed == 1 else []))
    alter(study, "WS", "modified", lambda seed: json.dumps(["?"]))
    own = one(tmp_path, study, compare("GF", ["HY", "WS"]))
    assert (own.verdict, own.otherwise) == ("deviated", "supported")
    assert own.deviations == [
        "files that no commit holds (gt/models/lm.py) trained seed 1 of HY.c.char",
        "files that no commit holds trained seeds 0 to 4 of WS.c.char",
    ]
    alter(study, "HY", "modified", lambda seed: None if seed == 1 else "[]")
    own = one(tmp_path, study)
    assert (own.verdict, own.cautions.unheld) == ("supported", ["HY"])


# WS diverged in seed 2, of seven.
SEVEN = {name: losses(effect, seeds=7, shift=i) for i, (name, effect) in enumerate([("GF", 0.0), ("HY", 0.1), ("WS", -0.2)])}
DIVERGED = {**SEVEN, "WS": [*SEVEN["WS"][:2], NAN, *SEVEN["WS"][3:]]}


def by_all_signs(distances: list[float]) -> float:
    """Two-sided p of signed ranks, over all signs."""
    ranks = stats.rankdata([abs(d) for d in distances]).tolist()
    sums = [sum(itertools.compress(ranks, signs)) for signs in itertools.product((0, 1), repeat=len(ranks))]
    seen = sum(itertools.compress(ranks, [d > 0 for d in distances]))
    return min(1.0, 2 * min(sum(s >= seen for s in sums), sum(s <= seen for s in sums)) / len(sums))


@pytest.mark.parametrize(("is_", "leaning"), [("lower", "against"), ("higher", "for")])
@pytest.mark.parametrize("scale", ["difference", "ratio"])
def test_a_run_that_diverged_ranks_as_the_worst(tmp_path: Path, is_: str, leaning: str, scale: str) -> None:
    """GF is worse than WS in every seed but the one in which WS diverged."""
    own = one(tmp_path, write_study(tmp_path / "s", DIVERGED), compare("GF", "WS", is_, scale=scale))
    distances = [a - b for a, b in zip(DIVERGED["GF"], DIVERGED["WS"], strict=True)]
    distances[2] = -1e9
    test = own.tests[0]
    assert (own.verdict, own.deviations, own.leaning, test.n) == ("inconclusive", [], leaning, 7)
    assert own.p == pytest.approx(by_all_signs(distances))
    assert list(test.by_seed) == [0, 1, 3, 4, 5, 6]
    middle = [a / b if scale == "ratio" else a - b for a, b in zip(DIVERGED["GF"], DIVERGED["WS"], strict=True)]
    middle[2] = -1e9
    assert test.estimate == pytest.approx(sorted(middle)[3])
    assert test.note == "the median, by signed ranks: runs diverged, which rank as the worst: WS.c.char, seed 2"
    assert (test.lower, test.upper, test.bootstrap, test.detectable) == (None, None, None, None)
    assert own.cautions.lost == [Lost("WS", 6, 7, {"diverged": [2]})]


def test_what_diverges_is_worse_than_what_does_not_and_as_bad_as_what_does(tmp_path: Path) -> None:
    cells = {**SEVEN, "WS": [NAN] * 7, "twin": [NAN] * 7}
    study = write_study(tmp_path / "s", cells)
    own = one(tmp_path, study, compare("GF", "WS"))
    assert (own.verdict, own.p, own.tests[0].estimate) == ("supported", pytest.approx(2 / 2**7), None)
    assert one(tmp_path, study, compare("twin", "WS")).p == 1.0
    # of a metric that is the better the higher
    alter(study, "GF", "tokens_per_second", lambda seed: 100.0 + seed)
    fast = {**compare("GF", "WS", "higher"), "metric": "tokens_per_second"}
    assert one(tmp_path, study, fast).verdict == "supported"


def test_five_seeds_cannot_decide_by_ranks(tmp_path: Path) -> None:
    """The smallest p is 2 of 2^5 signs."""
    own = one(tmp_path, write_study(tmp_path / "s", {**CELLS, "WS": [NAN] * SEEDS}), compare("GF", "WS"))
    assert (own.verdict, own.p) == ("inconclusive", pytest.approx(1 / 16))


def test_a_bound_is_held_to_the_ranks_too(tmp_path: Path) -> None:
    study = write_study(tmp_path / "s", DIVERGED)
    own = one(tmp_path, study, compare("WS", "GF", by=0.1))
    distances = [b - a + 0.1 for a, b in zip(DIVERGED["GF"], DIVERGED["WS"], strict=True)]
    distances[2] = 1e9
    assert own.p == pytest.approx(by_all_signs(distances))
    own = one(tmp_path, study, {"test": "threshold", "metric": "val/loss", "a": "WS", "below": 9})
    assert own.p == pytest.approx(by_all_signs([1e9 if math.isnan(value) else value - 9 for value in DIVERGED["WS"]]))


def test_a_trend_and_ranks_of_cells_take_what_diverged_as_the_worst(tmp_path: Path) -> None:
    study, names = write_study(tmp_path / "s", DIVERGED), ["WS", "GF", "HY"]
    far = [[math.inf if math.isnan(v) else v for v in DIVERGED[name]] for name in names]
    table = [[min(v, 99.0) for v in row] for row in zip(*far, strict=True)]
    own = one(tmp_path, study, {"test": "trend", "metric": "val/loss", "cells": names, "is": "rising"})
    assert own.p == pytest.approx(min(1.0, 2 * stats.page_trend_test(table).pvalue))
    assert (own.tests[0].n, len(own.tests[0].by_seed)) == (7, 6)
    assert own.tests[0].note == "slopes of the other seeds: runs diverged, which rank as the worst: WS.c.char, seed 2"
    ranks = {"test": "rank_correlation", "metric": "val/loss", "with": [1, 2, 3], "cells": names, "above": 0}
    own = one(tmp_path, study, ranks)
    expected = [stats.spearmanr(row, [1, 2, 3]).statistic for row in table]
    assert list(own.tests[0].by_seed.values()) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("predicate", "why"),
    [
        ({"test": "equivalence", "metric": "val/loss", "a": "GF", "b": "WS", "margin": 0.5}, "no rank lies between bounds"),
        ({"test": "interval", "metric": "val/loss", "a": "WS", "low": 1, "high": 4}, "no rank lies between bounds"),
        (compare("WS", "GF", margin=0.5), "no rank lies within a margin"),
        (
            {**compare("WS", "GF"), "metric": "ablation/share/r"},
            "share of the rwkv6 branch in the loss added by zeroing either has no worst value",
        ),
    ],
)
def test_where_no_rank_says_it_a_run_that_diverged_is_a_deviation(tmp_path: Path, predicate: Json, why: str) -> None:
    study = write_study(tmp_path / "s", DIVERGED, **{"ablation/share/r": SEVEN})
    probes = pd.read_parquet(study / "probes.parquet")
    probes[~((probes["cell"] == "WS.c.char") & (probes["seed"] == 2))].to_parquet(study / "probes.parquet")
    own = one(tmp_path, study, predicate)
    assert (own.verdict, len(own.deviations)) == ("deviated", 1)
    assert own.deviations[0] == f"seed 2 of WS.c.char diverged, which cannot count as the worst: {why}"
    # What its numbers would say is said of the other six.
    assert own.otherwise is not None
    assert {test.n for test in own.tests} == {6}
    said = one(tmp_path, study, predicate, diverged="excluded")
    assert (said.verdict, said.deviations, said.p) == (own.otherwise, [], own.p)


def test_what_is_excluded_is_left_out_of_all_that_it_is_paired_with_and_named(tmp_path: Path) -> None:
    own = one(tmp_path, write_study(tmp_path / "s", DIVERGED), compare("GF", "WS", "higher"), diverged="excluded")
    distances = [a - b for i, (a, b) in enumerate(zip(DIVERGED["GF"], DIVERGED["WS"], strict=True)) if i != 2]
    assert (own.verdict, own.p) == ("supported", pytest.approx(stats.ttest_1samp(distances, 0).pvalue))
    assert own.cautions.lost == [Lost("WS", 6, 7, {"diverged": [2]})]


@pytest.mark.parametrize(
    ("predicate", "verdict"),
    [
        (compare("WS", "GF"), "opposite"),
        (compare("GF", "WS"), "supported"),
        (compare("GF", "WS", margin=0.5), "supported"),
        (compare("GF", "HY"), "supported"),
        ({"test": "equivalence", "metric": "val/loss", "a": "GF", "b": "WS", "margin": 0.5}, "larger than claimed"),
        ({"test": "threshold", "metric": "val/loss", "a": "WS", "below": 9}, "larger than claimed"),
        ({"test": "order", "metric": "val/loss", "cells": ["GF", "HY", "WS"], "is": "rising"}, "supported"),
        ({"test": "trend", "metric": "val/loss", "cells": ["GF", "HY", "WS"], "is": "rising"}, "supported"),
        (compare("WS", "out"), "inconclusive"),
    ],
)
def test_a_variant_with_a_run_that_diverged_can_be_said_to_fail(tmp_path: Path, predicate: Json, verdict: str) -> None:
    """WS is the lowest in all seeds but the one in which it diverged."""
    study = write_study(tmp_path / "s", {**DIVERGED, "out": [NAN] * 7})
    own = one(tmp_path, study, predicate, diverged="failure")
    assert (own.verdict, own.deviations) == (verdict, [])


def test_a_failure_is_no_test_and_says_so(tmp_path: Path) -> None:
    own = one(tmp_path, write_study(tmp_path / "s", DIVERGED), compare("GF", "WS"), diverged="failure")
    assert own.p == 0.0
    assert own.tests[0].note == "without a test: runs diverged, with which a cell fails: WS.c.char, seed 2"


def test_the_study_says_how_divergence_counts_where_the_claim_does_not(tmp_path: Path) -> None:
    study = write_study(tmp_path / "s", DIVERGED)
    records.edit(study / "plan.json", diverged="failure")
    assert one(tmp_path, study, compare("GF", "WS")).verdict == "supported"
    assert one(tmp_path, study, compare("GF", "WS"), diverged="worst_rank").verdict == "inconclusive"


def test_a_rate_is_not_chosen_by_what_is_left_of_its_runs(tmp_path: Path) -> None:
    """Each of two rates lost runs, and the one that lost more has the lower mean."""
    study, chosen = tuned(tmp_path), compare("GF", "HY")
    chosen["b"] = {"variant": "HY", "tuned_by": "tuning"}
    for cell, lost in (("tuning-0.001", {0, 1}), ("tuning-0.01", {0})):
        alter(study, cell, "status", lambda seed, lost=lost: "diverged" if seed in lost else "completed")
        alter(study, cell, "val/loss", lambda seed, lost=lost, cell=cell: None if seed in lost else len(cell) / 10)
    runs = pd.read_parquet(study / "runs.parquet")
    runs["val/loss"] = runs["val/loss"].astype(float)
    runs.to_parquet(study / "runs.parquet")
    assert one(tmp_path, study, chosen).cells == ["GF.c.char", "HY-0.01.c.char"]


def test_in_a_family_one_that_deviated_counts_with_one(tmp_path: Path) -> None:
    """The family is what was registered: D departed from its plan, and neither leaves it nor helps the others."""
    study = write_study(tmp_path / "s")
    alter(study, "HY", "modified", lambda seed: json.dumps(["?"]))
    found = verdicts(
        tmp_path, study, D=compare("GF", "HY"), A=compare("GF", "WS"), B=compare("GF", "vague"), E=compare("HY", "WS")
    )
    assert [own.verdict for own in found.values()] == ["deviated", "supported", "inconclusive", "deviated"]
    p = {name: float(own.p or 0) for name, own in found.items()}
    assert [found[name].p_adjusted for name in "AB"] == pytest.approx(holm([p["A"], p["B"], 1.0, 1.0])[:2])
    # What it would be is said as if of those that deviated it alone counted.
    assert found["D"].p_adjusted == pytest.approx(holm([p["D"], p["A"], p["B"], 1.0])[0])


def test_what_deviated_is_said_wherever_verdicts_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = write_study(tmp_path / "s", started=EARLY)
    alter(study, "HY", "modified", lambda seed: json.dumps(["gt/models/lm.py"]))
    claims = write_claims(tmp_path / "claims", C=compare("GF", "HY"), D=compare("GF", "WS"))
    judged = {own["claim"]: own for own in [judge(study, claims), json.loads((study / "claims.json").read_text())][1]}
    assert (judged["C"]["verdict"], judged["C"]["otherwise"]) == ("deviated", "supported")
    table = pd.read_parquet(study / "verdicts.parquet").set_index("claim")
    assert table.loc["C", "deviations"] == "; ".join(judged["C"]["deviations"])
    assert (table.loc["C", "verdict"], table.loc["C", "otherwise"]) == ("deviated", "supported")
    rows = overview(claims, [study])
    assert counted(rows) == "Of 2 claims, 2 are deviated."
    shown = claims_table(rows).markdown()
    assert "| deviated | Registered on " in shown
    assert "(and 1 other reason); else supported. |" in shown
    folders = ["--claims", str(claims), "--study", str(study)]
    assert main(["claims", *folders]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert listed[1].startswith("C  deviated ")
    assert listed[2].strip().startswith("Registered on ")
    assert "2 deviated" in listed
    assert main(["why", "C", *folders]) == 0
    said = " ".join(capsys.readouterr().out.split())
    first = said.index("Verdict: deviated. Registered on ")
    second = said.index("Files that no commit holds (gt/models/lm.py) trained seeds 0 to 4 of HY.c.char.")
    assert (
        first
        < second
        < said.index("The numbers alone would say: supported.")
        < said.index("Held-out loss in nats per token: GF")
    )


def test_verdicts_of_before_claims_were_held_to_their_plans_can_be_read(tmp_path: Path) -> None:
    study, claims = write_study(tmp_path / "s"), write_claims(tmp_path / "claims", C=compare("GF", "HY"))
    judge(study, claims)
    (own,) = json.loads((study / "claims.json").read_text())
    for key in ("planned", "deviations", "otherwise"):
        del own[key]
    del own["cautions"]["unheld"], own["cautions"]["edited"]
    (study / "claims.json").write_text(json.dumps([own]))
    (row,) = overview(claims, [study])
    assert row.verdict == "supported"
    assert "not as planned" not in claims_table([row]).markdown().lower()


def test_judging_twice_says_the_same(tmp_path: Path) -> None:
    study, claims = write_study(tmp_path / "s", DIVERGED), write_claims(tmp_path / "claims", C=compare("GF", "WS"))
    assert judge_study(study, claims) == judge_study(study, claims)
