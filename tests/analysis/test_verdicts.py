"""Verdicts on studies whose numbers are made up, so that what must be found is known."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import records
from scipy import stats

from gt.analysis.cautions import Lost
from gt.analysis.claims import load_claims
from gt.analysis.registration import register
from gt.analysis.statistics import detectable, holm, paired_difference, rank_correlation, trend
from gt.analysis.verdicts import FAILED, Judgement, judge, judge_study, overview
from gt.artefacts import read_plan, write
from gt.cli import main
from gt.errors import ConfigError

SEEDS = 5
STARTED = "2999-01-01T00:00:00+00:00"
# Seed 3 is bad for all: only pairing sees differences of hundredths.
SHARED = (0.0, 0.3, -0.2, 1.0, 0.1, -0.4, 0.25, 0.6, -0.1, 0.05)
NOISE = (0.001, -0.002, 0.0005, 0.0015, -0.001, 0.0008, -0.0012, 0.0003, 0.0011, -0.001)


def losses(effect: float, spread: float = 1.0, seeds: int = SEEDS, shift: int = 0) -> list[float]:
    return [2 + effect + SHARED[i] + spread * NOISE[(i + shift) % len(NOISE)] for i in range(seeds)]


CELLS = {
    "GF": losses(0.0),
    "HY": losses(0.2, shift=1),
    "WS": losses(0.4, shift=2),
    "twin": losses(0.0, shift=3),
    "vague": losses(0.01, spread=40, shift=4),
}


def write_study(
    folder: Path, cells: dict[str, list[float]] = CELLS, started: str = STARTED, **probes: dict[str, list[float]]
) -> Path:
    """A study's plan and tables with these validation losses by cell and seed. probes: by metric, values by cell."""
    folder.mkdir(parents=True, exist_ok=True)
    planned, runs, rows = [], [], []
    for name, values in cells.items():
        cell = {"id": f"{name}.c.char", "variant": name, "corpus": "c", "tokenizer": "char", "factors": {}}
        planned.append((cell, max(SEEDS, len(values))))
        for seed in range(max(SEEDS, len(values))):
            value = values[seed] if seed < len(values) else None
            status = "missing" if value is None else "diverged" if math.isnan(value) else "completed"
            loss = value if status == "completed" else None
            begun = started if value is not None else None
            count = {"n_params": 1000 + len(name), "started": begun}
            runs.append({"cell": cell["id"], "seed": seed, "status": status, "val/loss": loss, **count})
            for metric, own in probes.items():
                if name in own:
                    rows.append({"cell": cell["id"], "seed": seed, "name": metric, "layer": None, "value": own[name][seed]})
    write(folder / "plan.json", records.planned(records.sketched(folder.name, planned)))
    pd.DataFrame(runs).to_parquet(folder / "runs.parquet")
    pd.DataFrame(rows, columns=["cell", "seed", "name", "layer", "value"]).to_parquet(folder / "probes.parquet")
    return folder


def write_claims(folder: Path, registered: bool = True, **predicates: Any) -> Path:
    """Claims about the study `s`, by id: a predicate, or a claim's keys."""
    folder.mkdir(parents=True, exist_ok=True)
    documents = {}
    for name, given in predicates.items():
        own = given if "predicate" in given or "not_testable" in given else {"predicate": [given]}
        study = {} if "not_testable" in own else {"study": "s"}
        documents[name] = {"title": name, "sentence": "s", "source": "x", **study, **own}
    (folder / "claims.yaml").write_text(json.dumps(documents))
    if registered:
        register(folder, load_claims(folder))
    return folder


def verdicts(tmp_path: Path, study: Path | None = None, **predicates: Any) -> dict[str, Judgement]:
    claims = write_claims(tmp_path / "claims", **predicates)
    return {own.claim: own for own in judge(study or write_study(tmp_path / "s"), claims)}


def compare(a: str, b: str | list[str], is_: str = "lower", **more: Any) -> dict[str, Any]:
    return {"test": "compare", "metric": "val/loss", "a": a, "b": b, "is": is_, **more}


def excluding(a: str, b: str) -> dict[str, Any]:
    """A claim of which runs that diverged are no part."""
    return {"predicate": [compare(a, b)], "diverged": "excluded"}


def test_a_comparison_is_a_paired_t_test(tmp_path: Path) -> None:
    own = verdicts(tmp_path, C=compare("GF", "HY"))["C"]
    d = paired_difference(dict(enumerate(CELLS["GF"])), dict(enumerate(CELLS["HY"])))
    (test,) = own.tests
    assert (own.verdict, own.p) == ("supported", pytest.approx(d.p))
    assert (test.estimate, test.lower, test.upper) == (pytest.approx(d.mean), pytest.approx(d.lower), pytest.approx(d.upper))
    assert test.p_sign_flip == d.p_sign_flip == 0.0625
    assert test.by_seed == pytest.approx({i: a - b for i, (a, b) in enumerate(zip(CELLS["GF"], CELLS["HY"], strict=True))})


@pytest.mark.parametrize(
    ("predicate", "verdict"),
    [
        (compare("HY", "GF"), "opposite"),
        (compare("HY", "GF", "higher"), "supported"),
        (compare("GF", "twin"), "inconclusive"),
        (compare("GF", "twin", margin=0.05), "equivalent"),
        (compare("GF", "HY", margin=0.5), "supported"),
        (compare("GF", "vague"), "inconclusive"),
        (compare("GF", "HY", by=0.1), "supported"),
        (compare("GF", "HY", by=0.3), "smaller than claimed"),
        (compare("GF", "HY", by=0.2), "inconclusive"),
        (compare("GF", "HY", by=0.02, scale="ratio"), "supported"),
        (compare("GF", "HY", by=0.5, scale="ratio"), "smaller than claimed"),
        (compare("GF", ["HY", "WS"]), "supported"),
        (compare("HY", ["GF", "WS"]), "opposite"),
        (compare("GF", ["HY", "vague"]), "inconclusive"),
        ({"test": "order", "metric": "val/loss", "cells": ["GF", "HY", "WS"], "is": "rising"}, "supported"),
        ({"test": "order", "metric": "val/loss", "cells": ["WS", "HY", "GF"], "is": "falling"}, "supported"),
        ({"test": "order", "metric": "val/loss", "cells": ["GF", "WS", "HY"], "is": "rising"}, "opposite"),
        ({"test": "order", "metric": "val/loss", "cells": ["GF", "twin", "WS"], "is": "rising"}, "inconclusive"),
        ({"test": "trend", "metric": "val/loss", "cells": ["GF", "HY", "WS"], "is": "rising"}, "supported"),
        ({"test": "trend", "metric": "val/loss", "cells": ["GF", "HY", "WS"], "is": "falling"}, "opposite"),
        ({"test": "equivalence", "metric": "val/loss", "a": "GF", "b": "twin", "margin": 0.01}, "supported"),
        ({"test": "equivalence", "metric": "val/loss", "a": "GF", "b": "HY", "margin": 0.01}, "larger than claimed"),
        ({"test": "equivalence", "metric": "val/loss", "a": "GF", "b": "vague", "margin": 0.01}, "inconclusive"),
        (
            {"test": "equivalence", "metric": "val/loss", "a": "GF", "b": "HY", "margin": 0.3, "scale": "difference"},
            "supported",
        ),
        ({"test": "interval", "metric": "val/loss", "a": "GF", "low": 1, "high": 4}, "supported"),
        ({"test": "interval", "metric": "val/loss", "a": "GF", "low": 4, "high": 5}, "smaller than claimed"),
        ({"test": "interval", "metric": "val/loss", "a": "GF", "low": 2, "high": 2.2}, "inconclusive"),
        ({"test": "interval", "metric": "val/loss", "a": "HY", "b": "GF", "low": 1.0, "high": 1.2}, "supported"),
        ({"test": "threshold", "metric": "val/loss", "a": "GF", "above": 1}, "supported"),
        ({"test": "threshold", "metric": "val/loss", "a": "GF", "below": 1}, "larger than claimed"),
        ({"test": "threshold", "metric": "val/loss", "a": "GF", "above": 2}, "inconclusive"),
        ({"test": "threshold", "metric": "val/loss", "a": "GF", "b": "HY", "below": 0.95}, "supported"),
        ({"test": "exists", "metric": "val/loss", "cells": ["WS", "GF"], "is": "lower", "b": ["HY"]}, "supported"),
        ({"test": "exists", "metric": "val/loss", "cells": ["WS", "HY"], "is": "lower", "b": ["GF"]}, "opposite"),
        ({"test": "exists", "metric": "val/loss", "cells": ["WS", "vague"], "is": "lower", "b": ["GF"]}, "inconclusive"),
    ],
)
def test_the_vocabulary(tmp_path: Path, predicate: dict[str, Any], verdict: str) -> None:
    assert verdicts(tmp_path, C=predicate)["C"].verdict == verdict


def test_all_predicates_of_a_claim_must_hold(tmp_path: Path) -> None:
    yes, no, open_ = compare("GF", "HY"), compare("WS", "HY"), compare("GF", "vague")
    found = verdicts(tmp_path, both={"predicate": [yes, yes]}, one={"predicate": [yes, no]}, unsure={"predicate": [yes, open_]})
    assert {name: own.verdict for name, own in found.items()} == {
        "both": "supported",
        "one": "opposite",
        "unsure": "inconclusive",
    }


def test_a_conjunctions_p_values(tmp_path: Path) -> None:
    parts = [compare("GF", "HY"), compare("GF", "vague"), compare("HY", "GF")]
    found = verdicts(tmp_path, **{f"C{i}": part for i, part in enumerate(parts)}, all={"predicate": parts})
    # It holds if its least sure part does; that it fails is the surest of three, times three.
    refuting = found["C2"].tests[0].p_refute
    assert found["all"].leaning == "against"
    assert found["all"].p == pytest.approx(3 * refuting)


def test_a_trend_and_a_rank_correlation_are_those_of_the_statistics(tmp_path: Path) -> None:
    cells = {"GF": [0.5, 0.4, 0.7, 0.6, 0.5], "HY": [0.3, 0.2, 0.4, 0.1, 0.3], "WS": [0.6, 0.1, 0.3, 0.2, 0.9]}
    study = write_study(tmp_path / "s", **{"ablation/share/r": cells})
    names = list(cells)
    found = verdicts(
        tmp_path,
        study,
        T={"test": "trend", "metric": "val/loss", "cells": names, "x": [0.1, 0.2, 0.9], "is": "rising"},
        R={"test": "rank_correlation", "metric": "ablation/share/r", "with": "val/loss", "cells": names, "above": 0.5},
        G={"test": "rank_correlation", "metric": "val/loss", "with": [3, 2, 1], "cells": names, "kind": "kendall", "below": 0},
    )
    table = np.array([CELLS[name] for name in names]).T
    expected = trend([0.1, 0.2, 0.9], table.tolist())
    assert found["T"].p == pytest.approx(2 * expected.p_rising)
    assert found["T"].tests[0].estimate == pytest.approx(expected.slope.mean)
    shares = np.array([cells[name] for name in names]).T
    ranks = rank_correlation(table.tolist(), shares.tolist(), "spearman", 0.5)
    assert (found["R"].tests[0].estimate, found["R"].p) == (pytest.approx(ranks.mean), pytest.approx(ranks.p))
    assert found["R"].leaning == ("for" if ranks.mean > 0.5 else "against")  # type: ignore[operator]
    assert (found["G"].tests[0].estimate, found["G"].leaning) == (-1.0, "for")


def test_two_metrics_of_a_cell_can_be_set_against_each_other(tmp_path: Path) -> None:
    shares = {"ablation/zero/r": {"GF": [0.5, 0.4, 0.7, 0.6, 0.5]}, "ablation/zero/m": {"GF": [0.1, 0.2, 0.2, 0.1, 0.1]}}
    study = write_study(tmp_path / "s", **shares)
    other = {"variant": "GF", "metric": "ablation/zero/m"}
    own = verdicts(tmp_path, study, C={"test": "compare", "metric": "ablation/zero/r", "a": "GF", "b": other, "is": "higher"})[
        "C"
    ]
    differences = np.subtract(shares["ablation/zero/r"]["GF"], shares["ablation/zero/m"]["GF"])
    assert own.p == pytest.approx(stats.ttest_1samp(differences, 0).pvalue)
    assert own.verdict == "supported"


@pytest.mark.parametrize(
    ("predicate", "words"),
    [
        (compare("GF", "HY"), "held-out loss in nats per token: GF − HY < 0"),
        (compare("GF", "HY", scale="ratio", by=0.05), "held-out loss in nats per token: GF / HY < 0.95"),
        (compare("GF", "HY", by=0.05), "held-out loss in nats per token: GF − HY < −0.05"),
        (compare("GF", ["HY", "WS"]), "held-out loss in nats per token: GF − HY < 0"),
        (
            {"test": "interval", "metric": "val/loss", "a": "GF", "low": 2, "high": 3},
            "held-out loss in nats per token: GF between 2 and 3",
        ),
        (
            compare("GF", "x", metric="ablation/zero/r") | {"b": {"variant": "GF", "metric": "ablation/zero/m"}},
            "loss added by zeroing the rwkv6 branch − loss added by zeroing the m branch: GF < 0",
        ),
        (
            compare("GF", "x", metric="ablation/zero/r") | {"b": {"variant": "HY", "metric": "ablation/zero/m"}},
            "loss added by zeroing the rwkv6 branch (GF) − loss added by zeroing the m branch (HY) < 0",
        ),
        (
            {"test": "trend", "metric": "val/loss", "cells": ["GF", "HY", "WS"], "is": "rising"},
            "held-out loss in nats per token: rising over GF, HY, WS",
        ),
        (
            {
                "test": "rank_correlation",
                "metric": "ablation/zero/r",
                "with": "val/loss",
                "cells": ["GF", "HY", "WS"],
                "above": 0.5,
            },
            "Spearman's rank correlation of loss added by zeroing the rwkv6 branch with held-out loss in nats per token: "
            "over 3 cells > 0.5",
        ),
    ],
)
def test_what_is_compared_stands_in_words(tmp_path: Path, predicate: dict[str, Any], words: str) -> None:
    probes = {f"ablation/zero/{letter}": {name: losses(i) for i, name in enumerate(CELLS)} for letter in "rm"}
    (test,) = verdicts(tmp_path, write_study(tmp_path / "s", **probes), C=predicate)["C"].tests
    assert test.words == words


def test_a_ratio_is_compared_in_logarithms_and_shown_as_it_is(tmp_path: Path) -> None:
    (test,) = verdicts(tmp_path, C=compare("GF", "HY", scale="ratio"))["C"].tests
    ratios = np.log(np.divide(CELLS["GF"], CELLS["HY"]))
    low, high = stats.t.interval(0.95, SEEDS - 1, loc=ratios.mean(), scale=stats.sem(ratios))
    assert (test.scale, test.estimate) == ("ratio", pytest.approx(math.exp(ratios.mean())))
    assert (test.lower, test.upper) == (pytest.approx(math.exp(low)), pytest.approx(math.exp(high)))


def test_a_ratio_whose_interval_ends_beyond_all_floats_is_judged(tmp_path: Path) -> None:
    study = write_study(tmp_path / "s", {"GF": [1e300, 1e-300, 1e300, 1e-300, 1.0], "HY": [1.0] * 5})
    own = verdicts(tmp_path, study, C=compare("GF", "HY", scale="ratio"))["C"]
    assert own.verdict == "inconclusive"
    assert (own.tests[0].estimate, own.tests[0].lower, own.tests[0].upper) == (pytest.approx(1.0), 0.0, math.inf)
    assert json.loads((study / "claims.json").read_text())[0]["tests"][0]["upper"] is None


def test_a_ratio_of_what_is_not_above_zero_is_not_tested(tmp_path: Path) -> None:
    study = write_study(tmp_path / "s", **{"gate/drift": {"GF": [0.1, -0.1, 0.2, 0.1, 0.1], "HY": [1.0] * 5}})
    own = verdicts(tmp_path, study, C={**compare("GF", "HY", scale="ratio"), "metric": "gate/drift"})["C"]
    assert (own.verdict, own.p) == ("inconclusive", None)
    assert "not all above zero" in own.reason


def test_holm_over_the_family_with_what_has_not_run_as_one(tmp_path: Path) -> None:
    cells = {**CELLS, "late": losses(1.0)[:2]}
    study = write_study(tmp_path / "s", cells)
    found = verdicts(
        tmp_path,
        study,
        A=compare("GF", "HY"),
        B=compare("GF", "vague"),
        C=compare("GF", "late"),
        D={"predicate": [compare("GF", "WS")], "family": "other"},
    )
    adjusted = holm([float(found["A"].p or 0), float(found["B"].p or 0), 1.0])
    assert [found["A"].p_adjusted, found["B"].p_adjusted] == pytest.approx(adjusted[:2])
    assert found["D"].p_adjusted == found["D"].p
    assert (found["C"].verdict, found["C"].p, found["C"].p_adjusted) == ("not yet run", None, None)
    assert found["C"].missing == ["late.c.char: 2 of 5 seeds"]


def test_what_was_not_measured_is_missing(tmp_path: Path) -> None:
    own = verdicts(tmp_path, C={"test": "threshold", "metric": "gate/mean", "a": "GF", "above": 0.5})["C"]
    assert (own.verdict, own.missing) == ("not yet run", ["GF.c.char: 0 of 5 seeds with mean gate weight of the first branch"])


def test_what_a_model_does_not_have_is_not_testable(tmp_path: Path) -> None:
    study = write_study(tmp_path / "s", **{"variance/residual": dict.fromkeys(CELLS, [1.0] * SEEDS)})
    own = verdicts(tmp_path, study, C={"test": "threshold", "metric": "gate/mean", "a": "GF", "above": 0.5})["C"]
    assert (own.verdict, own.missing) == ("not testable", [])
    assert own.reason == "GF.c.char has no mean gate weight of the first branch"


def test_a_verdict_needs_its_seeds_completed_and_not_only_run(tmp_path: Path) -> None:
    """Of the five that the claim asks for one has diverged, and is excluded: the four others do not speak for it."""
    cells = {**CELLS, "HY": [*CELLS["HY"][:4], math.nan]}
    own = verdicts(tmp_path, write_study(tmp_path / "s", cells), C=excluding("GF", "HY"), D=compare("GF", "WS"))
    assert (own["C"].verdict, own["C"].missing, own["C"].tests, own["C"].p) == ("inconclusive", [], [], None)
    assert own["C"].reason == "1 of 5 seeds of HY.c.char diverged (4); 4 completed, and a verdict needs 5"
    assert own["D"].p_adjusted == pytest.approx(2 * float(own["D"].p or 0))  # it counts as p = 1


def test_where_seeds_enough_completed_those_that_diverged_are_named(tmp_path: Path) -> None:
    cells = {**{name: losses(i / 5, seeds=7, shift=i) for i, name in enumerate(("GF", "WS"))}}
    cells["WS"][2] = math.nan
    own = verdicts(tmp_path, write_study(tmp_path / "s", cells), C=excluding("GF", "WS"))["C"]
    assert (own.verdict, own.tests[0].n) == ("supported", 6)
    assert own.cautions.lost == [Lost("WS", 6, 7, {"diverged": [2]})]


def test_cells_that_lost_different_seeds_have_too_few_in_common(tmp_path: Path) -> None:
    """Either has five of six, as the claim asks, and the two have four."""
    cells = {name: losses(i / 5, seeds=6, shift=i) for i, name in enumerate(("GF", "WS"))}
    cells["GF"][0] = cells["WS"][1] = math.nan
    own = verdicts(tmp_path, write_study(tmp_path / "s", cells), C=excluding("GF", "WS"))["C"]
    assert (own.verdict, own.p) == ("inconclusive", None)
    assert own.reason == "seeds of GF.c.char, WS.c.char diverged; 4 completed in all cells, and a verdict needs 5"


def test_a_cell_of_which_all_seeds_diverged_is_not_waited_for(tmp_path: Path) -> None:
    cells = {**CELLS, "HY": [math.nan] * SEEDS}
    own = verdicts(tmp_path, write_study(tmp_path / "s", cells), C=excluding("GF", "HY"))["C"]
    assert (own.verdict, own.missing) == ("inconclusive", [])
    assert own.reason == "5 of 5 seeds of HY.c.char diverged (0, 1, 2, 3, 4); 0 completed, and a verdict needs 5"


@pytest.mark.parametrize("seeds", [1, SEEDS])
@pytest.mark.parametrize(("bound", "words"), [(1, "as claimed"), (0.5, "not as claimed")])
def test_a_count_is_as_claimed_or_not_and_is_not_tested(tmp_path: Path, seeds: int, bound: float, words: str) -> None:
    study = write_study(tmp_path / "s", {"GF": [2.0] * seeds, "longer": [2.0] * seeds})
    predicate = {"test": "threshold", "metric": "n_params", "a": "GF", "b": "longer", "below": bound}
    own = verdicts(tmp_path, study, C={"predicate": [predicate], "seeds": 1})["C"]
    assert (own.verdict, own.p, own.p_adjusted) == ("not testable", None, None)
    assert own.tests[0].estimate == pytest.approx(1002 / 1006)
    assert own.reason.endswith(f"the numbers are {words}")


LOST = {"test": "threshold", "metric": "gate/drift", "a": "GF", "above": 1.0}
KEPT = {"test": "threshold", "metric": "gate/drift", "a": "GF", "below": 1.0}


@pytest.mark.parametrize(
    ("predicates", "verdict"),
    [
        ([KEPT, compare("GF", "HY")], "supported"),
        ([KEPT, compare("HY", "GF")], "opposite"),
        ([LOST, compare("GF", "HY")], "not testable"),
        ([LOST, compare("HY", "GF")], "not testable"),
        ([KEPT, KEPT], "not testable"),
        ([{"test": "compare", "metric": "val/loss", "a": "GF", "b": "GF", "is": "lower"}], "not testable"),
        ([{"test": "equivalence", "metric": "val/loss", "a": "GF", "b": "GF", "margin": 0.01}], "not testable"),
        ([{"test": "exists", "metric": "gate/drift", "cells": ["GF", "HY"], "b": ["WS"], "is": "lower"}], "supported"),
        ([{"test": "exists", "metric": "gate/drift", "cells": ["GF"], "b": ["twin"], "is": "lower"}], "not testable"),
        ([{"test": "trend", "metric": "n_params", "cells": ["GF", "vague", "longest"], "is": "rising"}], "not testable"),
    ],
)
def test_what_no_seed_changes_is_no_test_and_leaves_the_other_parts_theirs(
    tmp_path: Path, predicates: list[dict[str, Any]], verdict: str
) -> None:
    """GF's drift is 0 in every seed, as is the twin's; HY's varies, below WS's."""
    drift = {"GF": [0.0] * 5, "twin": [0.0] * 5, "HY": [-1.0, -1.1, -0.9, -1.0, -1.05], "WS": [0.0, -0.01, 0.01, 0.0, 0.0]}
    study = write_study(tmp_path / "s", {**CELLS, "longest": losses(0.1)}, **{"gate/drift": drift})
    own = verdicts(tmp_path, study, C={"predicate": predicates})["C"]
    assert own.verdict == verdict
    assert len(own.tests) == len(predicates)
    alone = verdicts(tmp_path / "alone", study, C={"predicate": predicates[-1:]})["C"]
    assert own.p == (alone.p if verdict != "not testable" else None)


def test_a_constant_is_in_no_family(tmp_path: Path) -> None:
    tested = {"A": compare("GF", "HY"), "B": compare("GF", "vague"), "C": compare("twin", "GF")}
    study = write_study(tmp_path / "s", **{"gate/drift": {"GF": [0.0] * 5}})
    alone, beside = verdicts(tmp_path / "1", study, **tested), verdicts(tmp_path / "2", study, **tested, K=KEPT, L=LOST)
    assert beside["K"].verdict == beside["L"].verdict == "not testable"
    assert {name: beside[name].p_adjusted for name in tested} == {name: own.p_adjusted for name, own in alone.items()}


def test_an_inconclusive_claim_says_what_could_have_been_seen(tmp_path: Path) -> None:
    found = verdicts(tmp_path, A=compare("GF", "vague"), B=compare("GF", "vague", margin=0.05))
    test = found["A"].tests[0]
    d = paired_difference(dict(enumerate(CELLS["GF"])), dict(enumerate(CELLS["vague"])))
    # alpha is that of Holm's first step among two claims
    assert test.detectable == pytest.approx(detectable(float(d.sd or 0), SEEDS, 0.025))
    assert test.needed is not None
    assert test.needed > SEEDS
    # where the margin is more than what was seen, it is the margin that must be seen
    assert found["B"].tests[0].needed == pytest.approx(test.needed, abs=10**4)
    assert (found["B"].tests[0].needed or 0) <= test.needed


def test_ten_seeds_have_a_bootstrap_beside(tmp_path: Path) -> None:
    cells = {"GF": losses(0.0, seeds=10), "HY": losses(0.2, seeds=10, shift=1)}
    (test,) = verdicts(tmp_path, write_study(tmp_path / "s", cells), C=compare("GF", "HY"))["C"].tests
    assert test.bootstrap is not None
    assert test.bootstrap[0] < -0.2 < test.bootstrap[1]


def test_the_best_rate_is_chosen_by_cells_of_its_own(tmp_path: Path) -> None:
    study = write_study(tmp_path / "s", {"GF": losses(0.0), "HY": losses(0.1, shift=1)})
    runs = pd.read_parquet(study / "runs.parquet")
    # 0.01 is better where it counts, and 0.001 where rates are chosen
    rates = {("HY", 0.001): 0.5, ("HY", 0.01): -0.5, ("HY-tuning", 0.001): 0.1, ("HY-tuning", 0.01): 0.2}
    cells = [({"id": "GF.c.char", "variant": "GF", "corpus": "c", "tokenizer": "char", "factors": {}}, SEEDS)]
    rows = [runs[runs["cell"] == "GF.c.char"]]
    for (name, rate), effect in rates.items():
        own = {"id": f"{name}.{rate}", "variant": name, "corpus": "c", "tokenizer": "char"}
        cells.append(({**own, "factors": {"training.learning_rate": rate}}, SEEDS))
        rows.append(rows[0].assign(cell=own["id"], **{"val/loss": losses(effect, shift=1)}))
    write(study / "plan.json", records.planned(records.sketched("s", cells)))
    pd.concat(rows).to_parquet(study / "runs.parquet")
    own = verdicts(tmp_path, study, C=compare("GF", {"variant": "HY", "tuned_by": "HY-tuning"}))["C"]
    assert (own.verdict, own.tests[0].estimate) == ("supported", pytest.approx(-0.5, abs=0.01))
    pd.concat(rows[:-1]).to_parquet(study / "runs.parquet")
    own = judge(study, tmp_path / "claims")[0]
    assert (own.verdict, own.missing) == ("not yet run", ["HY-tuning.0.01: 0 of 5 seeds"])
    # the lower mean of those that a rate did not make diverge chooses no rate
    last = rows[-1].copy()
    last["val/loss"] = losses(0.0, shift=1)
    last.loc[last.index[0], ["status", "val/loss"]] = ["diverged", math.nan]
    pd.concat([*rows[:-1], last]).to_parquet(study / "runs.parquet")
    own = judge(study, tmp_path / "claims")[0]
    assert own.tests[0].estimate == pytest.approx(-0.5, abs=0.01)
    assert [lost.seeds for lost in own.cautions.lost] == [{"diverged": [0]}]


ARMS = {"record": {"title": "as it was", "study": "old", "cells": {"GF": "GF-old", "HY": "HY-old"}}}


def two_studies(tmp_path: Path, **predicates: Any) -> tuple[Path, list[Path]]:
    """In `s` GF is worse than HY, and in `old`, with other cells, it was better."""
    claims = write_claims(tmp_path / "claims", registered=False, **predicates)
    (claims / "arms.yaml").write_text(json.dumps(ARMS))
    register(claims, load_claims(claims))
    cells = {"GF": losses(0.5), "HY": losses(0.0, shift=1)}
    studies = [write_study(tmp_path / "s", cells)]
    studies.append(write_study(tmp_path / "old", {"GF-old": losses(0.0), "HY-old": losses(0.5, shift=1)}))
    for study in studies:
        judge(study, claims)
    return claims, studies


def test_what_explains_that_a_claim_fails(tmp_path: Path) -> None:
    claims, studies = two_studies(
        tmp_path,
        C={"predicate": [compare("GF", "HY")], "arms": ["record"]},
        D={"predicate": [compare("GF", "HY", "higher")], "arms": ["record"]},
        N={"not_testable": "no code of it is left"},
    )
    rows = {row.id: row for row in overview(claims, studies)}
    assert {name: row.verdict for name, row in rows.items()} == {"C": "opposite", "D": "supported", "N": "not testable"}
    assert {arm: own["verdict"] for arm, own in rows["C"].arms.items()} == {"record": "supported"}
    assert (rows["C"].explained_by, rows["D"].explained_by) == (["record"], [])
    assert overview(claims, [])[0].verdict == "not yet run"


def test_a_trend_in_an_arm_is_over_the_cells_that_it_has(tmp_path: Path) -> None:
    cells = {name: losses(effect, shift=i) for i, (name, effect) in enumerate([("a", 0), ("b", 1), ("c", 2), ("d", 3)])}
    claims = write_claims(tmp_path / "claims", registered=False, C={"predicate": [], "not_testable": "t"})
    predicate = {"test": "trend", "metric": "val/loss", "cells": list(cells), "is": "rising"}
    document = {"title": "t", "sentence": "s", "source": "x", "study": "s", "predicate": [predicate], "arms": ["few", "two"]}
    (claims / "claims.yaml").write_text(json.dumps({"C": document}))
    stand = {name: f"{name}-old" for name in cells}
    few, two = {name: stand[name] for name in "abd"}, {name: stand[name] for name in "ab"}
    arms = {"few": few, "two": two}
    (claims / "arms.yaml").write_text(json.dumps({k: {"title": k, "study": "old", "cells": v} for k, v in arms.items()}))
    study = write_study(tmp_path / "old", {f"{name}-old": values for name, values in cells.items()})
    found = {own.arm: own for own in judge(study, claims)}
    assert found["few"].verdict == "supported"
    assert "2 cells" in found["two"].reason


def test_verdicts_are_written_as_plain_data_and_as_a_table(tmp_path: Path) -> None:
    own = verdicts(tmp_path, A=compare("GF", "HY"), B={"test": "threshold", "metric": "gate/mean", "a": "GF", "above": 0.5})
    written = json.loads((tmp_path / "s/claims.json").read_text())
    assert [entry["verdict"] for entry in written] == [own[name].verdict for name in ("A", "B")]
    table = pd.read_parquet(tmp_path / "s/verdicts.parquet").set_index("claim")
    assert table.loc["A", "p"] == pytest.approx(own["A"].p)
    assert table.loc["A", "estimate"] == pytest.approx(own["A"].tests[0].estimate)
    assert (table.loc["B", "verdict"], table.loc["B", "missing"]) == (
        "not yet run",
        "GF.c.char: 0 of 5 seeds with mean gate weight of the first branch",
    )
    first = (tmp_path / "s/claims.json").read_bytes(), (tmp_path / "s/verdicts.parquet").read_bytes()
    judge(tmp_path / "s", tmp_path / "claims")
    assert first == ((tmp_path / "s/claims.json").read_bytes(), (tmp_path / "s/verdicts.parquet").read_bytes())


@pytest.mark.parametrize(("families", "seeds", "lost"), [(100, SEEDS, 0.0), (60, 8, 0.15)])
def test_under_the_null_a_family_is_decided_wrongly_at_most_as_often_as_alpha(
    tmp_path: Path, families: int, seeds: int, lost: float
) -> None:
    """Whole families of claims of every kind, on cells that are all alike: none may be decided too often.

    lost: the share of the runs that diverged, of no cell more than of others.
    """
    names = ["a", "b", "c", "d"]
    claims = write_claims(
        tmp_path / "claims",
        compare=compare("a", "b"),
        ratio=compare("b", "c", "higher", scale="ratio"),
        several=compare("c", ["a", "b", "d"]),
        order={"test": "order", "metric": "val/loss", "cells": names[:3], "is": "rising"},
        trend={"test": "trend", "metric": "val/loss", "cells": names, "is": "falling"},
        ranks={"test": "rank_correlation", "metric": "val/loss", "with": [1, 2, 3, 4], "cells": names, "above": 0},
        exists={"test": "exists", "metric": "val/loss", "cells": ["a", "b"], "is": "lower", "b": ["c", "d"]},
        both={"predicate": [compare("a", "d"), compare("b", "d")]},
    )
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(families):
        shared = rng.normal(0, 1, seeds)
        cells = {name: 3 + 0.1 * shared + rng.normal(0, 0.1, seeds) for name in names}
        if lost:
            cells = {name: np.where(rng.random(seeds) < lost, math.nan, values) for name, values in cells.items()}
        study = write_study(tmp_path / "s", {name: values.tolist() for name, values in cells.items()})
        wrong += any(own.verdict in ("supported", *FAILED) for own in judge_study(study, claims))
    # three standard errors of 5 % over so many families
    assert wrong / families <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / families)


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    claims, studies = two_studies(
        tmp_path,
        C={"predicate": [compare("GF", "HY")], "arms": ["record"], "note": "one run"},
        V={"predicate": [compare("GF", "HY", by=0.5, is_="higher")]},
        N={"not_testable": "no code of it is left"},
    )
    folders = ["--claims", str(claims), "--study", *map(str, studies)]
    assert main(["claims", *folders]) == 0
    listed = capsys.readouterr().out
    assert "C  opposite" in listed
    assert "1 opposite, 1 inconclusive, 1 not testable" in listed
    assert main(["why", "C", *folders]) == 0
    said = capsys.readouterr().out
    assert "Verdict: opposite." in said
    assert "Measured: Held-out loss in nats per token (`val/loss`)." in said
    assert "Under record: supported" in said
    assert "holds under record" in said
    assert main(["why", "V", *folders]) == 0
    assert "with a power of 80 %" in capsys.readouterr().out
    assert main(["compare", "GF", "HY", "--study", str(studies[0])]) == 0
    compared = capsys.readouterr().out
    assert "GF.c.char less HY.c.char" in compared
    assert "val/loss" in compared
    assert max(map(len, (listed + said + compared).splitlines())) <= 100
    first = [cell.runs[0] for cell in read_plan(studies[0] / "plan.json").cells]
    assert main(["compare", *first, "--study", str(studies[0])]) == 0
    assert f"{0.5 + NOISE[0] - NOISE[1]:.4g}" in capsys.readouterr().out
    assert main(["why", "X", *folders]) == main(["compare", "GF", "HX", "--study", str(studies[0])]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "gt: unknown claim 'X'. Allowed: C, N, V.",
        "gt: s has no variant, cell or run 'HX'. Allowed: GF, GF.c.char, HY, HY.c.char.",
    ]


def test_tables_that_are_not_there_are_one_message(tmp_path: Path) -> None:
    (write_study(tmp_path / "s") / "runs.parquet").unlink()
    with pytest.raises(ConfigError, match="no runs.parquet"):
        judge(tmp_path / "s", write_claims(tmp_path / "claims", C=compare("GF", "HY")))


def test_verdicts_of_studies_that_were_not_run_here_are_those_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    claims, studies = two_studies(tmp_path, C={"predicate": [compare("GF", "HY")]})
    kept = tmp_path / "results/published" / studies[0].name / "claims.json"
    kept.parent.mkdir(parents=True)
    kept.write_bytes((studies[0] / "claims.json").read_bytes())
    monkeypatch.chdir(tmp_path)
    assert main(["claims", "--claims", str(claims)]) == main(["why", "C", "--claims", str(claims)]) == 0
    assert "1 opposite" in capsys.readouterr().out
    here = tmp_path / "results/studies" / studies[0].name / "claims.json"
    here.parent.mkdir(parents=True)
    here.write_text("[]")
    assert main(["claims", "--claims", str(claims)]) == 0
    assert "1 not yet run" in capsys.readouterr().out
