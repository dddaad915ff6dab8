"""Gates before a run: what seeds see against simulations and statsmodels, and what is refused with the line to write."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import records
import yaml
from scipy import stats
from statsmodels.stats.power import TTestPower

from gt.analysis.claims import load_claims
from gt.analysis.controls import Sizes, unequal
from gt.analysis.earlier import Earlier
from gt.analysis.gates import Gate, Outlook, bounds, cost, outlook
from gt.analysis.registration import FILE, chain
from gt.artefacts import Cell, Plan, evaluation_file, write
from gt.cli import main
from gt.errors import ConfigError
from gt.metrics import Measurement
from gt.records import MANIFEST
from gt.study import load_study

ROOT = Path(__file__).parents[2]
STUDY: dict[str, Any] = {
    "title": "Mine",
    "baseline": "GF",
    "variants": ["GF", "HY", "Mamba-2", {"variant": "GF", "label": "GF-again"}],
    "corpora": ["embedded"],
    "tokenizers": [{"name": "char"}],
    "seeds": 5,
    "model": {"d_model": 64, "n_layer": 2, "mixers": {"mamba2": {"head_dim": 32}, "rwkv6": {"head_size": 32}}},
    "training": {"steps": 10, "batch_size": 2, "sequence_length": 16, "learning_rate": 0.001},
}
EQUAL = {"test": "compare", "metric": "val/loss", "a": "GF", "b": "HY", "is": "lower", "margin": 0.01}


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with variants, a study and no records."""
    for folder in ("config/studies", "config/claims"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "config/variants").symlink_to(ROOT / "config/variants")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_study(**changes: Any) -> None:
    Path("config/studies/mine.yaml").write_text(yaml.safe_dump({**STUDY, **changes}, sort_keys=False))


def write_claims(*claims: dict[str, Any]) -> None:
    about = {"title": "t", "sentence": "s", "source": "x", "study": "mine"}
    document = {f"C-{i}": {**about, **claim} for i, claim in enumerate(claims, 1)}
    Path("config/claims/mine.yaml").write_text(yaml.safe_dump(document, sort_keys=False))


def line_of(text: str) -> str:
    """The line of the study that begins so."""
    lines = Path("config/studies/mine.yaml").read_text().splitlines()
    return f"config/studies/mine.yaml, line {next(i for i, line in enumerate(lines, 1) if line.startswith(text))}"


def looked(*claims: dict[str, Any], **changes: Any) -> Outlook:
    """What is said of these claims about the study."""
    write_study(**changes)
    write_claims(*claims)
    study = load_study("config/studies/mine.yaml")
    return outlook(study, plan := study.plan(), Path("config/claims"), plan.runs, 0)


def gate(predicate: dict[str, Any], sd: float | None = None, **changes: Any) -> Gate:
    (found,) = looked({"predicate": [predicate], **({"sd": sd} if sd else {})}, **changes).gates
    return found


def remember(plan: Plan, value: Callable[[Cell, int], float], name: str = "old", **known: Any) -> None:
    """Records of these runs, of another study."""
    write(Path("results/studies") / name / "plan.json", plan.model_copy(update={"study": name}))
    for cell in plan.cells:
        for seed, run in cell.runs.items():
            folder = Path("results/runs") / run
            write(folder / MANIFEST, records.manifest(plan.runs[run], **known))
            held_out = [Measurement("<split>/loss", {"split": "val"}, value(cell, seed))]
            write(evaluation_file(folder, "held_out"), records.evaluation("held_out", run, held_out))


def share_found(draws: np.ndarray, alpha: float) -> float:
    return float(np.mean(stats.ttest_1samp(draws, 0.0, axis=1).pvalue < alpha))


def is_four_fifths(share: float, n: int) -> bool:
    low, high = stats.binom.interval(0.999, n, 0.8)
    return bool(low <= share * n <= high)


@pytest.mark.parametrize(("seeds", "family"), [(3, 1), (5, 1), (8, 3)])
def test_the_effect_that_is_printed_is_found_in_four_of_five_studies(lab: Path, seeds: int, family: int) -> None:
    claims = [{"predicate": [EQUAL], "sd": 0.02, "seeds": seeds}] * family
    (sight, *_), *_ = (own.sights for own in looked(*claims, seeds=seeds).gates)
    assert sight.alpha == pytest.approx(0.05 / family)
    assert sight.detectable is not None
    n = 20_000
    draws = np.random.default_rng(seeds).normal(sight.detectable, 0.02, (n, seeds))
    assert is_four_fifths(share_found(draws, sight.alpha), n)


def test_a_ratio_that_is_printed_is_found_as_often_in_its_logarithms(lab: Path) -> None:
    (sight,) = gate({**EQUAL, "scale": "ratio"}, sd=0.02).sights
    assert sight.detectable is not None
    draws = np.random.default_rng(0).normal(math.log(1 + sight.detectable), 0.02, (20_000, 5))
    assert is_four_fifths(share_found(draws, 0.05), 20_000)


def test_bounds_as_wide_as_is_printed_are_shown_to_hold_a_value_in_their_middle(lab: Path) -> None:
    (sight,) = gate({"test": "interval", "metric": "val/loss", "a": "GF", "low": 1.4, "high": 1.6}, sd=0.05).sights
    assert sight.margin == pytest.approx(0.1)
    assert sight.detectable is not None
    draws = np.random.default_rng(1).normal(1.5, 0.05, (20_000, 5))
    below = stats.ttest_1samp(draws, 1.5 - sight.detectable, axis=1, alternative="greater").pvalue
    above = stats.ttest_1samp(draws, 1.5 + sight.detectable, axis=1, alternative="less").pvalue
    assert is_four_fifths(float(np.mean(np.maximum(below, above) < 0.05)), 20_000)


@pytest.mark.parametrize("sd", [0.004, 0.01, 0.03])
def test_the_seeds_that_a_margin_needs_are_those_of_statsmodels(lab: Path, sd: float) -> None:
    (sight,) = gate(EQUAL, sd=sd).sights
    assert sight.needed == math.ceil(TTestPower().solve_power(0.01 / sd, None, 0.05, 0.8))


def test_a_family_shares_its_alpha_and_no_other(lab: Path) -> None:
    own = {"predicate": [EQUAL], "sd": 0.01}
    found = looked(own, own, {**own, "family": "other"})
    assert [sight.alpha for one in found.gates for sight in one.sights] == [0.025, 0.025, 0.05]


def test_one_of_several_is_tested_at_a_share_of_alpha(lab: Path) -> None:
    exists = {"test": "exists", "metric": "val/loss", "cells": ["GF", "HY"], "is": "lower", "b": ["Mamba-2"], "by": 0.1}
    (sight,) = gate(exists, sd=0.01).sights
    assert sight.alpha == 0.025


def test_the_line_that_is_offered_mends_it(lab: Path) -> None:
    blind = gate(EQUAL, sd=0.01)
    (fault,) = blind.faults
    file, line, fix = re.fullmatch(r"(.+), line (\d+): (seeds: \d+)", fault.fix).groups()  # type: ignore[union-attr]
    text = Path(file).read_text().splitlines()
    assert text[int(line) - 1] == "seeds: 5"
    text[int(line) - 1] = fix
    Path(file).write_text("\n".join(text))
    study = load_study(file)
    (mended,) = outlook(study, plan := study.plan(), Path("config/claims"), plan.runs, 0).gates
    assert mended.faults == []


def test_the_line_is_that_of_the_block_whose_cells_are_read(lab: Path) -> None:
    also = [{"variants": [{"variant": "GF", "label": "GF-2", "training": {"learning_rate": 0.1}}], "seeds": [100, 101]}]
    (fault,) = gate({**EQUAL, "a": "GF-2", "b": "GF"}, sd=0.01, also=also).faults
    assert fault.why == "anything: its cells have 0 seeds in common"
    assert fault.fix.startswith(f"{line_of('  seeds:')}: seeds: [100, 101, 102")


@pytest.mark.parametrize("tuned", ["a", "b"])
def test_a_cell_that_others_choose_is_not_taken_for_what_it_is_compared_with(lab: Path, tuned: str) -> None:
    factors = {"factors": {"training.learning_rate": [0.001, 0.01]}}
    write_study(**factors)
    rng = np.random.default_rng(0)
    plan = load_study("config/studies/mine.yaml").plan()
    remember(plan, lambda cell, seed: float(rng.normal(2, 0.1)))
    fixed = {"variant": "GF", "factors": {"learning_rate": 0.001}}
    cells = {"a": fixed, "b": fixed} | {tuned: {"variant": "GF", "tuned_by": "HY"}}
    found = gate({**EQUAL, **cells}, **factors)
    assert "cannot fail" not in [fault.kind for fault in found.faults]
    assert found.sights[0].spread is not None
    assert found.sights[0].spread.sd > 0


COUNTED = {"test": "threshold", "metric": "n_params", "a": "GF", "above": 10}
NEVER = {"test": "threshold", "a": "GF"}


@pytest.mark.parametrize(
    ("predicate", "changes", "words"),
    [
        (COUNTED, {}, "number of parameters is counted on the model, the same in every seed"),
        ({**EQUAL, "b": "GF-again"}, {}, "GF and GF-again share every run"),
        ({**NEVER, "metric": "val/loss", "above": 0}, {}, "never below 0, so that this always holds"),
        ({**NEVER, "metric": "recall/mqar/accuracy", "above": 0}, {}, "between 0 and 1, so that this always holds"),
        ({**NEVER, "metric": "needle/exact", "below": 2}, {}, "between 0 and 1, so that this always holds"),
        ({**NEVER, "metric": "recall/mqar/accuracy", "above": 1}, {}, "this never holds"),
        ({"test": "interval", "metric": "softmax/saturated", "a": "GF", "low": -1, "high": 1}, {}, "this always holds"),
        (EQUAL, {"seeds": 1}, "anything: its cells have 1 seed in common"),
    ],
)
def test_what_cannot_fail_is_said_with_its_line(
    lab: Path, predicate: dict[str, Any], changes: dict[str, Any], words: str
) -> None:
    (fault,) = gate(predicate, **changes).faults
    assert words in fault.why
    assert re.match(r"config/(claims|studies)/mine.yaml, line \d+: \w+: ", fault.fix)


@pytest.mark.parametrize(
    "predicate",
    [
        {**NEVER, "metric": "val/loss", "above": 1.5},
        {**NEVER, "metric": "recall/mqar/accuracy", "below": 0.5},
        {**NEVER, "metric": "ablation/zero/m", "above": 0},
        {**NEVER, "metric": "ablation/share/m", "below": 2},
        EQUAL,
    ],
)
def test_what_can_fail_is_not_held_against_a_claim(lab: Path, predicate: dict[str, Any]) -> None:
    assert gate(predicate).faults == []


def test_a_number_that_all_earlier_seeds_gave_is_no_finding(lab: Path) -> None:
    write_study()
    remember(load_study("config/studies/mine.yaml").plan(), lambda cell, seed: 2.0)
    (fault,) = gate({**NEVER, "metric": "val/loss", "above": 1.5}).faults
    assert "all 5 seeds of old gave the same number" in fault.why


def test_the_spread_is_that_of_earlier_records_unless_it_is_declared(lab: Path) -> None:
    write_study()
    values = np.random.default_rng(0).normal(2, 0.1, (5, 5))
    plan = load_study("config/studies/mine.yaml").plan()
    remember(plan, lambda cell, seed: float(values[seed, ["GF", "HY", "Mamba-2", "GF-again"].index(cell.variant)]))
    (known,), (declared,) = gate({**EQUAL, "a": "HY", "b": "Mamba-2"}).sights, gate(EQUAL, sd=0.5).sights
    assert known.spread is not None
    assert known.spread.sd == pytest.approx(np.std(values[:, 1] - values[:, 2], ddof=1))
    assert declared.spread is not None
    assert (declared.spread.sd, declared.spread.step) == (0.5, "declared")


def test_ranks_have_the_spread_of_the_same_cells(lab: Path) -> None:
    write_study()
    values = {"GF": [1, 1, 1, 2, 3], "HY": [2, 3, 2, 1, 2], "Mamba-2": [3, 2, 3, 3, 1]}
    plan = load_study("config/studies/mine.yaml").plan()
    remember(plan, lambda cell, seed: float(values[cell.variant.removesuffix("-again")][seed]))
    ranks = {"test": "rank_correlation", "metric": "val/loss", "with": [1, 2, 3], "cells": list(values), "above": 0.5}
    (sight,) = gate(ranks).sights
    rho = [stats.spearmanr([1, 2, 3], [own[seed] for own in values.values()]).statistic for seed in range(5)]
    assert sight.spread is not None
    assert sight.spread.sd == pytest.approx(np.std(rho, ddof=1))


def test_a_trend_that_no_order_could_decide_is_refused(lab: Path) -> None:
    trend = {"test": "trend", "metric": "val/loss", "cells": ["GF", "HY", "Mamba-2"], "is": "rising"}
    claim = {"predicate": [trend], "seeds": 2}
    (fault,) = looked(claim, seeds=2).gates[0].faults
    assert fault.why.startswith("any trend: 2 seeds")
    needed = int(fault.fix.rpartition(" ")[2])
    p = [2 * stats.page_trend_test([[1, 2, 3]] * n).pvalue for n in (needed - 1, needed)]
    assert p[1] < 0.05 <= p[0]


def test_unequal_cells_have_a_control_or_not(lab: Path) -> None:
    wide = {"variant": "Mamba-2", "label": "Mamba-2-matched", "model": {"d_model": 96}}
    # As large as GF, and of other layers than Mamba-2: what tells of neither.
    write_study(variants=["GF", "Mamba-2-bare", "Mamba-2", wide])
    plan = load_study("config/studies/mine.yaml").plan()
    gf, _, mamba, matched = plan.cells
    counts = {"GF": 1000, "Mamba-2-bare": 1000, "Mamba-2": 600, "Mamba-2-matched": 990}
    for cell in plan.cells:
        own = {"cells": [cell], "runs": {run: plan.runs[run] for run in cell.runs.values()}, "baseline": cell.variant}
        remember(plan.model_copy(update=own), lambda cell, seed: 2.0, cell.variant, n_params_non_embedding=counts[cell.variant])
    sizes = Sizes(Earlier())
    found = {(own.what, own.control) for own in unequal(gf, mamba, (False, False), plan, sizes)}
    assert found == {("parameters", "Mamba-2-matched")}
    found = {(own.what, own.control) for own in unequal(gf, matched, (False, False), plan, sizes)}
    assert found == {("width", "Mamba-2")}
    alone = plan.model_copy(update={"cells": [gf, mamba]})
    assert [own.control for own in unequal(gf, mamba, (False, False), alone, sizes)] == [None]


def test_rates_that_were_come_by_in_two_ways_are_said(lab: Path) -> None:
    other = {"variant": "GF", "label": "GF-fast", "training": {"learning_rate": 0.01}}
    write_study(variants=["GF", other])
    plan = load_study("config/studies/mine.yaml").plan()
    sizes = Sizes(Earlier())
    a, b = plan.cells
    assert [own.values for own in unequal(a, b, (False, False), plan, sizes)] == [("0.001", "0.01")]
    assert [own.values for own in unequal(a, b, (True, False), plan, sizes)] == [("tuned", "0.01")]
    assert list(unequal(a, b, (True, True), plan, sizes)) == []


def test_models_are_counted_on_the_meta_device_once_and_then_known_without_torch(lab: Path) -> None:
    from gt.models.lm import check

    write_study()
    spec = next(iter(load_study("config/studies/mine.yaml").plan().runs.values()))
    counting = Sizes(Earlier(), torch=True)
    found = counting.of(spec)
    counting.keep()
    counted = check(spec)
    assert found is not None
    assert (found.parameters, found.flops) == (counted["n_params_non_embedding"], counted["flops_per_token"])
    later = Sizes(Earlier())
    later.torch = False
    assert later.of(spec) == found


def test_minutes_are_those_of_known_cells_and_else_those_of_their_flops(lab: Path) -> None:
    write_study(variants=["GF"])
    known = load_study("config/studies/mine.yaml").plan()
    tokens = 10 * 2 * 16
    remember(known, lambda cell, seed: 2.0, seconds=30.0, tokens=tokens, flops_per_token=1000)
    write_study(variants=["GF", {"variant": "GF", "label": "longer", "training": {"steps": 100}}])
    plan, earlier = load_study("config/studies/mine.yaml").plan(), Earlier()
    sizes = Sizes(earlier)
    found = cost(plan, plan.runs, earlier, sizes, 0)
    # The longer runs are of the same model, so of known FLOPs, with ten times the tokens.
    assert (found.runs, found.known, found.estimated, found.unknown) == (10, 5, 5, 0)
    assert found.minutes == pytest.approx(5 * 0.5 + 5 * 5)
    assert found.here
    assert not cost(plan, plan.runs, earlier, sizes, 1).here


def test_nothing_on_record_is_of_unknown_speed(lab: Path) -> None:
    found = looked({"predicate": [EQUAL]}).cost
    assert (found.runs, found.unknown) == (15, 15)  # GF-again has GF's runs


def test_no_published_value_is_beyond_the_bounds_of_its_metric() -> None:
    studies = {own.plan.study: own for own in Earlier(ROOT / "results").studies}
    n = 0
    for name in ("fusion_extended", "recall_mqar", "scale"):
        for values in studies[name].measured.values():
            for (metric, _), value in values.items():
                low, high = bounds(metric)
                assert low <= value <= high, metric
                n += low > -math.inf
    assert n > 1000


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sd": -1.0}, "C-1.sd: -1.0: input should be greater than 0"),
        ({"sd": 0.1, "predicate": [COUNTED, COUNTED]}, "sd 0.1 is for a claim of one predicate"),
        ({"sd": 0.1, "study": None, "predicate": [], "not_testable": "why"}, "so sd has nothing to say"),
    ],
)
def test_an_sd_that_says_nothing_is_refused(lab: Path, changes: dict[str, Any], words: str) -> None:
    write_claims({"predicate": [EQUAL], **changes})
    with pytest.raises(ConfigError, match="config/claims/mine.yaml, line ") as caught:
        load_claims(Path("config/claims"))
    assert words in str(caught.value)


def test_what_is_declared_of_the_spread_does_not_change_what_is_claimed(lab: Path) -> None:
    write_claims({"predicate": [EQUAL]}, {"predicate": [EQUAL], "sd": 0.1})
    first, second = load_claims(Path("config/claims")).values()
    assert first.sha256 == second.sha256


def test_a_gate_that_is_neither_refuse_nor_warn_is_refused(lab: Path) -> None:
    write_study(gate="mabye")
    with pytest.raises(ConfigError, match=r"mine.yaml, line \d+: gate: \"mabye\" is not allowed"):
        load_study("config/studies/mine.yaml")


def test_gt_plan_shows_the_table_and_the_fix(lab: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_study()
    write_claims({"predicate": [EQUAL], "sd": 0.01})
    assert main(["plan", "mine"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("mine: 4 cells, 15 runs")
    assert re.search(r"C-1 +5 +0\.0168 +0\.01 +10 +val/loss: GF − HY +SD 0\.01, declared", out)
    assert re.search(r"C-1  cannot see its margin of 0\.01: 5 seeds see 0\.0168 -> .+mine.yaml, line \d+: seeds: 10", out)
    assert main(["plan", "mine", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["gates"][0]["sights"][0]["needed"] == 10


@pytest.mark.parametrize("refuses", [True, False])
def test_gate_refuse_ends_planning_and_writes_nothing(lab: Path, refuses: bool, capsys: pytest.CaptureFixture[str]) -> None:
    write_study(**({"gate": "refuse"} if refuses else {}))
    write_claims({"predicate": [EQUAL], "sd": 0.01})
    assert main(["plan", "mine", "--out", "plan.json"]) == (2 if refuses else 0)
    assert Path("plan.json").exists() is not refuses
    assert (f"{line_of('seeds: 5')}: seeds: 10" in capsys.readouterr().err) is refuses


def test_registration_refuses_what_cannot_fail_unless_the_study_says_warn(
    lab: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_study()
    write_claims({"predicate": [{**EQUAL, "margin": 0.1}], "sd": 0.01})
    assert main(["claims", "register"]) == 0
    before = Path("config/claims", FILE).read_bytes()
    write_claims({"predicate": [{**EQUAL, "margin": 0.1}], "sd": 0.01}, {"predicate": [COUNTED]})
    capsys.readouterr()
    assert main(["claims", "register"]) == 2
    error = capsys.readouterr().err
    assert "C-2  cannot fail" in error
    assert "gate: warn" in error
    assert Path("config/claims", FILE).read_bytes() == before
    write_study(gate="warn")
    assert main(["claims", "register"]) == 0
    assert "C-2  cannot fail" in capsys.readouterr().err
    assert [entry.claim for entry in chain(Path("config/claims"))] == ["C-1", "C-2"]


def test_what_is_registered_stays_so_whatever_the_gates_say(lab: Path) -> None:
    write_study(gate="warn")
    write_claims({"predicate": [COUNTED]})
    assert main(["claims", "register"]) == 0
    write_study()
    assert main(["claims", "register"]) == 0
    assert len(chain(Path("config/claims"))) == 1
