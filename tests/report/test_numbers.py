"""What a study's numbers are in sentences, and their intervals."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from scipy import stats

from gt.report.numbers import Panel, interval_of


@pytest.mark.parametrize(
    ("means", "said"),
    [
        ([2.0, 2.1], "All 2 cells are below the bigram."),
        ([2.0, 2.4], "1 of 2 cells is not below the bigram: B."),
        ([2.4, 2.5, 2.0], "2 of 3 cells are not below the bigram: A and B."),
        ([2.5, 2.4], "2 of 2 cells are not below the bigram: A and B."),
        ([2.0], "The cell is below the bigram."),
        ([2.4], "The cell is not below the bigram."),
    ],
)
def test_cells_that_an_n_gram_model_beats_are_named(means: list[float], said: str) -> None:
    rows: list[dict[str, Any]] = [{"label": name, "mean": mean} for name, mean in zip("ABC", means, strict=False)]
    words = Panel("c", "char", "A", rows, {"unigram": 3.0, "bigram": 2.4}).ngrams
    assert words == f"n-gram models of the same text reach, in bits per byte: unigram 3.000 and bigram 2.400. {said}"


def evaluated(values: list[float], lower: float | None = None, upper: float | None = None) -> pd.DataFrame:
    return pd.DataFrame({"value": values, "lower": lower, "upper": upper}, dtype=float)


def test_an_evaluation_has_a_t_interval_over_seeds_whatever_it_measures() -> None:
    values = [0.9, 1.0, 0.95]
    expected = stats.t.interval(0.95, 2, loc=0.95, scale=stats.sem(values))
    assert interval_of(evaluated(values)) == pytest.approx(expected)
    assert expected[1] > 1
    assert interval_of(evaluated(values, 0.8, 1.0)) == pytest.approx((expected[0], 1.0))  # a share ends at 1


def test_one_seed_has_the_interval_of_the_evaluation_itself() -> None:
    assert interval_of(evaluated([0.9], 0.8, 0.97)) == (0.8, 0.97)
    assert interval_of(evaluated([0.9])) is None
