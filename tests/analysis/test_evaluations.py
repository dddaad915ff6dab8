"""Evaluations in long form, and what is made of them."""

from __future__ import annotations

import math

import pytest
import records
from hypothesis import given
from hypothesis import strategies as st

from gt.analysis import evaluations
from gt.analysis.efficiency import compute_efficiency, north_star, tokens_per_dollar
from gt.artefacts import Evaluation
from gt.probes.metrics import metric

POSITIVE = st.floats(1e-3, 1e6)


def measured() -> dict[str, Evaluation]:
    share = {"accuracy": 0.25, "lower": 0.2, "upper": 0.3, "n": 128}
    cells = [{"length": 64, "depth": d, "found": share, "exact": share, "gain": d} for d in (0.0, 1.0)]
    costs = [
        {"length": length, "batch": batch, "flops_per_token": 10, "state_size": 20, "forward_tokens_per_second": 400.0,
         "forward_peak_bytes": None, "training_tokens_per_second": 100.0 * batch, "training_peak_bytes": None}
        for length in (64, 4096) for batch in (1, 8)
    ]  # fmt: skip
    values = {**records.further(1.0, "GF"), "needle": {"cells": cells}, "cost": {"cells": costs}}
    return {name: records.evaluation(name, "GF.char.s0-0123456789", value) for name, value in values.items()}


def test_every_number_has_one_place_and_a_registered_name() -> None:
    rows = evaluations.rows(measured(), 2.0)
    places = [(row["metric"], row["at"]) for row in rows]
    assert len(places) == len(set(places))
    for name in {row["metric"] for row in rows}:
        assert metric(name).table == "evaluations"
    assert not any(row["value"] is None for row in rows)


def test_what_is_derived_is_what_its_definition_says() -> None:
    found = {(row["metric"], row["at"]): row["value"] for row in evaluations.rows(measured(), 2.0)}
    # Losses are 1 + 2^-i at contexts 8 * 2^i, and the trained length is 64.
    assert found["context/perplexity_ratio", 512] == pytest.approx(math.exp(2**-6 - 2**-3))
    assert found["context/slope", None] == pytest.approx(((1.5 * 0.125 + 0.5 * 0.25) - (1.5 * 1 + 0.5 * 0.5)) / 5)
    assert found["needle/gain", None] == 0.5
    # 800 tokens/s at 2 dollars an hour; of 4096 tokens no loss was measured.
    assert found["cost/north_star", 64] == pytest.approx(800 * 1800 / math.exp(1 + 2**-3))
    assert ("cost/north_star", 4096) not in found


def test_a_run_without_evaluations_has_no_rows() -> None:
    assert evaluations.rows({}, 2.0) == []


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
