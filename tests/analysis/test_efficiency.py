"""What follows from the costs of a run: N*, and what a dollar buys."""

from __future__ import annotations

import math

import pytest
import records
from hypothesis import given
from hypothesis import strategies as st

from gt.analysis.efficiency import compute_efficiency, north_star, north_stars, tokens_per_dollar
from gt.metrics import Measurement

POSITIVE = st.floats(1e-3, 1e6)


def test_n_star_is_of_the_largest_batch_at_each_length_where_the_loss_is_known() -> None:
    speeds = [
        Measurement("cost/training_tokens_per_second/batch_<batch>", {"batch": batch, "length": length}, 100.0 * batch)
        for length in (64, 4096)
        for batch in (1, 8)
    ]
    found = list(north_stars([*records.further(1.0, "GF")["long_context"], *speeds], 2.0))
    # 800 tokens/s at 2 dollars an hour; the loss is 1 + 2^-3 at 64, and of 4096 tokens none was measured.
    assert [(own.name, own.at) for own in found] == [("cost/north_star", 64)]
    assert found[0].value == pytest.approx(800 * 1800 / math.exp(1 + 2**-3))


def test_a_run_without_evaluations_has_none() -> None:
    assert list(north_stars([], 2.0)) == []


@given(POSITIVE, POSITIVE, POSITIVE, POSITIVE, st.floats(1.01, 10))
def test_better_faster_and_cheaper_is_more(
    tokens: float, seconds: float, price: float, perplexity: float, factor: float
) -> None:
    def star(tokens: float, seconds: float, price: float, perplexity: float) -> float:
        value = north_star(tokens_per_dollar(tokens, seconds, price), perplexity)
        assert value is not None
        return value

    value = star(tokens, seconds, price, perplexity)
    assert star(factor * tokens, seconds, price, perplexity) > value
    assert star(tokens, factor * seconds, price, perplexity) < value
    assert star(tokens, seconds, factor * price, perplexity) < value
    assert star(tokens, seconds, price, factor * perplexity) < value
    efficiency = compute_efficiency(price, perplexity)
    assert compute_efficiency(factor * price, perplexity) < efficiency
    assert compute_efficiency(price, factor * perplexity) < efficiency


def test_an_hour_at_a_price() -> None:
    assert tokens_per_dollar(3_600_000, 3600.0, 2.0) == 1_800_000


def test_five_runs_that_share_a_device_for_a_time_give_five_times_the_tokens_for_a_dollar() -> None:
    alone, stacked = (tokens_per_dollar(1e6, 100.0 / runs, 2.0) for runs in (1, 5))
    assert stacked == pytest.approx(5 * (alone or 0.0))


def test_what_is_not_known_of_the_time_is_not_known_of_the_price() -> None:
    assert tokens_per_dollar(1e6, None, 2.0) is None
    assert north_star(None, 3.0) is None
