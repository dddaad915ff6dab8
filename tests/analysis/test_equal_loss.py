"""What is saved at equal loss: known answers, bounds beyond what the baseline was run with, and what is not known."""

from __future__ import annotations

import math
from pathlib import Path

import ladders as sizes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ladders import STEPS, Law
from scipy import stats

from gt.analysis.aggregate import MAIN
from gt.analysis.equal_loss import budgets, equal_losses, reached, saved
from gt.analysis.ladder import ladders
from gt.analysis.values import Values

BUDGETS = (500.0, 1000.0, 2000.0)


def curve(floor: float, reducible: float, exponent: float) -> list[tuple[float, float]]:
    return [(cost, floor + reducible * cost**-exponent) for cost in BUDGETS]


@settings(max_examples=50, derandomize=True)
@given(reducible=st.floats(0.1, 100), exponent=st.floats(0.01, 2), cost=st.floats(500, 2000))
def test_a_power_law_is_inverted_exactly(reducible: float, exponent: float, cost: float) -> None:
    found = reached(curve(0.0, reducible, exponent), reducible * cost**-exponent)
    assert found is not None
    # at the ends a rounding may put it beyond
    assert (math.isinf(found) and cost in (500, 2000)) or found == pytest.approx(math.log(cost), abs=1e-9)


def test_a_law_with_a_floor_is_inverted_to_a_percent_between_budgets_that_double() -> None:
    """E half of the loss, exponents as published: the error of the cubic, everywhere between 500 and 2000."""
    for exponent in (0.1, 0.3, 0.5):
        points = curve(1.0, 1000.0**exponent, exponent)
        costs = np.geomspace(501, 1999, 50)
        found = [reached(points, 1.0 + 1000.0**exponent * cost**-exponent) for cost in costs]
        assert np.abs(np.array(found, float) - np.log(costs)).max() < 0.01


@given(a=st.floats(0.5, 3), b=st.floats(0.5, 3))
def test_a_lower_loss_is_never_cheaper(a: float, b: float) -> None:
    points = [(1.0, 3.0), (2.0, 2.0), (4.0, 1.9), (8.0, 0.5)]
    low, high = (reached(points, loss) for loss in sorted((a, b)))
    assert low is not None and high is not None
    assert low >= high


@pytest.mark.parametrize("losses", [(2.0, 1.0, 1.5), (2.0, 2.0, 1.0), (1.0, 1.5, 2.0)])
def test_a_baseline_whose_loss_does_not_fall_says_nothing(losses: tuple[float, ...]) -> None:
    points = list(zip(BUDGETS, losses, strict=True))
    assert reached(points, 1.2) is None
    assert saved({0: (1000.0, 1.2)}, {0: points}) is None


def test_a_saving_is_the_t_interval_of_logarithms_over_seeds() -> None:
    """The baseline needs 25 % more in the geometric mean, and in each seed another share more."""
    factors = [1.15, 1.2, 1.25, 1.3, 1.25**5 / (1.15 * 1.2 * 1.25 * 1.3)]
    own = {seed: (1000.0, 8.0 * (1000.0 * factor) ** -0.3) for seed, factor in enumerate(factors)}
    found = saved(own, dict.fromkeys(range(5), curve(0.0, 8.0, 0.3)))
    logs = np.log(factors)
    low, high = stats.t.interval(0.95, 4, loc=logs.mean(), scale=stats.sem(logs))
    assert found is not None
    assert (found.n, found.bound, found.share) == (5, "", pytest.approx(0.2))
    assert (found.lower, found.upper) == (pytest.approx(1 - math.exp(-low)), pytest.approx(1 - math.exp(-high)))


def test_what_costs_more_for_the_same_loss_saves_less_than_nothing() -> None:
    found = saved({0: (1000.0, 8.0 * 800**-0.3)}, {0: curve(0.0, 8.0, 0.3)})
    assert found is not None
    assert (found.share, found.lower) == (pytest.approx(-0.25), None)


def test_beyond_the_budgets_there_is_a_bound_and_beyond_both_ends_none() -> None:
    points = curve(0.0, 8.0, 0.3)
    better, worse = (1000.0, 8.0 * 9000**-0.3), (1000.0, 8.0 * 100**-0.3)
    between = (1000.0, 8.0 * 1000**-0.3)
    more = saved({0: better, 1: better, 2: between}, dict.fromkeys(range(3), points))
    less = saved({0: worse}, {0: points})
    assert more is not None and less is not None
    assert (more.bound, more.share, more.lower) == ("more", pytest.approx(1 - 2 ** (-2 / 3)), None)
    assert (less.bound, less.share) == ("less", pytest.approx(-1.0))
    assert saved({0: better, 1: worse}, dict.fromkeys(range(2), points)) is None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """GF's loss takes the baseline 0.9 ** -5 of its tokens, and 0.9 ** (-1 / 0.3) of its parameters."""
    laws = {"GPT-2": Law(0.0, 1.0, 0.3), "GF": Law(0.0, 0.9, 0.3)}
    return sizes.make(tmp_path_factory.mktemp("equal"), laws=laws, noise=1e-4, seeds=3, variants=list(laws))


def pairs(values: Values) -> dict[str, str]:
    ids = [cell.id for cell in values.plan.cells]
    return {name: name.replace("GF", "GPT-2") for name in ids if name.startswith("GF")}


def test_a_study_with_budgets_and_a_ladder_says_what_is_saved_where_it_is_known(folder: Path) -> None:
    values = Values(folder)
    runs = values.tables["runs"]
    # without the offset of the seed, which is the same at all sizes, and no power law
    runs[MAIN] -= [sizes.SHARED[seed] for seed in runs["seed"]]
    found = equal_losses(values, ladders(values), pairs(values))
    at_64 = found["GF.embedded.char.d_model=64"]
    assert at_64["tokens"].share == pytest.approx(1 - 0.9**5, abs=0.003)
    assert at_64["device_seconds"].share == pytest.approx(at_64["tokens"].share)
    assert at_64["parameters"].share == pytest.approx(1 - 0.9 ** (1 / 0.3), abs=0.003)
    assert set(found["GF.embedded.char.d_model=128"]) == {"parameters"}
    assert found["GF.embedded.char.d_model=256"]["parameters"].bound == "more"


def test_budgets_are_runs_of_the_baseline_that_differ_in_their_steps_alone(folder: Path) -> None:
    plan = Values(folder).plan
    found = budgets(plan)
    assert set(found) == {f"GPT-2.embedded.char.d_model=64{more}" for more in ("", ".steps=50", ".steps=200")}
    assert sorted(plan.spec(cell).training.steps for cell in found["GPT-2.embedded.char.d_model=64"]) == list(STEPS)


def test_budgets_may_each_be_tuned(tmp_path: Path) -> None:
    decided = sizes.Chosen(lambda spec: 0.01 if spec.training.steps == STEPS[0] else 0.003162)
    plan = sizes.read(tmp_path, **{**sizes.TUNED, "also": sizes.STUDY["also"]}).plan(decided)
    (*_, found) = budgets(plan).values()
    assert {plan.spec(cell).training.steps: plan.spec(cell).training.learning_rate for cell in found} == {
        STEPS[0]: 0.01,
        STEPS[1]: 0.003162,
        STEPS[2]: 0.003162,
    }


@pytest.mark.parametrize(
    ("column", "value"), [("device_seconds", 1e-12), ("device_seconds", math.nan), ("device", "another")], ids=str
)
def test_seconds_of_a_device_that_was_shared_or_is_another_are_not_compared(folder: Path, column: str, value: object) -> None:
    values = Values(folder)
    runs = values.tables["runs"]
    runs.loc[(runs["cell"] == "GPT-2.embedded.char.d_model=64.steps=50") & (runs["seed"] == 1), column] = value
    at_64 = equal_losses(values, ladders(values), pairs(values))["GF.embedded.char.d_model=64"]
    assert set(at_64) == {"tokens", "parameters"}
