"""Laws of loss over size: known ones are found again, what is none is said, and the bands hold what they promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from gt.analysis.laws import drawn_means, fit
from gt.analysis.statistics import mean_interval

SIZES = np.array([5e5, 2e6, 8e6, 3.2e7])


def law(sizes: np.ndarray, floor: float, reducible: float, exponent: float) -> np.ndarray:
    return floor + reducible * (sizes / sizes[0]) ** -exponent


@settings(max_examples=60, derandomize=True)
@given(floor=st.floats(0.1, 3), reducible=st.floats(0.05, 3), exponent=st.floats(0.05, 2), rungs=st.integers(3, 6))
def test_a_law_without_noise_is_found_again(floor: float, reducible: float, exponent: float, rungs: int) -> None:
    sizes = np.geomspace(1e5, 1e5 * 3 ** (rungs - 1), rungs)
    found = fit(sizes, law(sizes, floor, reducible, exponent)[None])
    assert (found.floor[0], found.reducible[0], found.exponent[0]) == pytest.approx((floor, reducible, exponent), rel=1e-3)
    assert found.at(4 * sizes[-1])[0] == pytest.approx(
        law(np.append(sizes, 4 * sizes[-1]), floor, reducible, exponent)[-1], rel=1e-5
    )
    assert found.edge == ""


def test_no_other_search_finds_a_smaller_error() -> None:
    """Nelder and Mead's from many starts, over all three numbers, on rungs with noise."""
    random = np.random.default_rng(5)
    for _ in range(5):
        losses = law(SIZES, 1.0, 0.8, 0.3) + random.normal(0, 0.02, len(SIZES))
        found = fit(SIZES, losses[None])

        def error(p: np.ndarray, losses: np.ndarray = losses) -> float:
            floor, reducible, exponent = np.abs(p)
            return float(((law(SIZES, floor, reducible, np.clip(exponent, 0.01, 3)) - losses) ** 2).sum())

        starts = [(e, 1.0, a) for e in (0.1, 1.0) for a in (0.1, 0.5, 1.5)]
        others = [optimize.minimize(error, start, method="Nelder-Mead", options={"maxiter": 4000}).fun for start in starts]
        assert error(np.array([found.floor[0], found.reducible[0], found.exponent[0]])) <= min(others) * (1 + 1e-6)


@pytest.mark.parametrize(
    ("losses", "edge"),
    [
        ([2.0, 2.1, 2.2, 2.3], "does not fall"),
        ([2.0, 2.0, 2.0, 2.0], "does not fall"),
        ([2.0, 1.8, 1.5, 1.1], "no floor: E at 0"),
        ([2.0, 1.5, 1.5, 1.5], "exponent at its upper bound"),
        ([2.0, 1.6, 1.4, 1.3], ""),
    ],
)
def test_what_is_no_law_is_said(losses: list[float], edge: str) -> None:
    assert fit(SIZES, np.array([losses])).edge == edge


@pytest.mark.parametrize(
    ("sizes", "losses"),
    [
        ([1.0, 2.0], [[2.0, 1.0]]),
        ([1.0, 2.0, 2.0], [[2.0, 1.0, 0.5]]),
        ([1.0, 2.0, 3.0], [[2.0, 1.0, np.inf]]),
        ([1.0, 2.0, 3.0], [[2.0, 1.0]]),
    ],
)
def test_no_law_is_fitted_to_what_has_none(sizes: list[float], losses: list[list[float]]) -> None:
    with pytest.raises(ValueError, match=r"sizes|losses"):
        fit(np.array(sizes), np.array(losses))


def test_of_a_difference_the_draws_have_the_quantiles_of_the_paired_t_interval() -> None:
    values = np.random.default_rng(1).normal(size=(5, 2)) + np.random.default_rng(2).normal(size=(5, 1))
    drawn = drawn_means(values, 200_000) @ [1, -1]
    e = mean_interval((values @ [1, -1]).tolist())
    assert e.lower is not None and e.upper is not None
    share = np.mean((e.lower <= drawn) & (drawn <= e.upper))
    assert share == pytest.approx(0.95, abs=4 * np.sqrt(0.95 * 0.05 / len(drawn)))


def test_draws_of_two_seeds_that_go_below_zero_have_a_law_too() -> None:
    found = fit(SIZES, np.array([[-2.0, 1.0, 0.5, 0.2], [-1.0, -1.0, -2.0, -3.0], [2.0, -1.0, -2.0, -3.0]]))
    assert np.isfinite(found.at(1e9)).all()
    assert (found.floor >= 0).all() and (found.reducible >= 0).all()


def test_one_seed_has_no_draws() -> None:
    with pytest.raises(ValueError, match="1 seeds; two are needed"):
        drawn_means(np.ones((1, 3)))


def test_the_band_of_a_law_holds_the_true_loss_of_the_next_rung_as_often_as_it_says() -> None:
    """Five seeds with an offset that all rungs share, in 300 ladders: 0.82, as of seeds drawn again, would be seen."""
    random, true = np.random.default_rng(3), law(np.append(SIZES, 1.28e8), 1.0, 0.8, 0.3)
    inside = 0
    for _ in range(300):
        losses = true[:-1] + random.normal(0, 0.01, (5, 1)) + random.normal(0, 0.004, (5, len(SIZES)))
        low, high = np.quantile(fit(SIZES, drawn_means(losses, 200)).at(1.28e8), (0.025, 0.975))
        inside += bool(low <= true[-1] <= high)
    rate = stats.binomtest(inside, 300).proportion_ci(0.99)
    assert rate.low <= 0.95 <= rate.high
    assert rate.low > 0.85
