"""A curriculum: stages on shorter sequences before the run's own length."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from corpus import words
from pydantic import ValidationError
from runs import assert_same, column, resumed, run_spec, trained

from gt.data.tokens import Tokens
from gt.training.schedule import learning_rate

STAGES: list[dict[str, Any]] = [
    {"steps": 3, "sequence_length": 8, "learning_rate": 1.3},
    {"steps": 4, "sequence_length": 16},
]
LENGTHS = [8] * 3 + [16] * 4 + [32] * 5


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Tokens:
    return Tokens.open(words(tmp_path_factory.mktemp("data")))


def test_tokens_are_those_that_were_seen(data: Tokens) -> None:
    spec = run_spec(curriculum=STAGES)
    seen = [4 * sum(LENGTHS[:step]) for step in range(13)]
    assert column(trained([spec], data), "tokens") == seen
    assert [spec.training.tokens(step) for step in range(13)] == seen
    assert spec.tokens == seen[-1]


def test_a_stage_multiplies_the_learning_rate() -> None:
    plain, staged = (run_spec(curriculum=stages).training for stages in ([], STAGES))
    factors = [learning_rate(staged, step) / learning_rate(plain, step) for step in range(12)]
    assert factors == pytest.approx([1.3] * 3 + [1.0] * 9)


def test_validation_stays_at_the_length_of_the_run(data: Tokens) -> None:
    plain, staged = (column(trained([run_spec(curriculum=stages)], data, 1), "val/loss")[0] for stages in ([], STAGES))
    assert plain == staged


@pytest.mark.parametrize("stop", [2, 3, 7, 8])
def test_a_run_that_stops_around_a_border_goes_on_to_the_same_bits(data: Tokens, tmp_path: Path, stop: int) -> None:
    spec = run_spec(curriculum=STAGES)
    assert_same(resumed([spec], data, stop, tmp_path), 0, trained([spec], data))


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([{"steps": 12, "sequence_length": 8}], "leaves none of steps 12"),
        ([{"steps": 2, "sequence_length": 64}], "longer than sequence_length 32"),
        ([{"steps": 2, "sequence_length": 1}], "greater than or equal to 2"),
    ],
)
def test_a_curriculum_that_cannot_be_is_refused(stages: list[dict[str, int]], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        run_spec(curriculum=stages)
