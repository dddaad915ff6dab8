"""What metrics are called in sentences."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gt.analysis.phrases import PHRASES, phrase
from gt.errors import ConfigError
from gt.probes.metrics import METRICS, Metric, pattern

CLAIMS = Path(__file__).parents[2] / "config/claims"
ASCII = st.characters(codec="ascii")
NAMES = st.sampled_from(METRICS).flatmap(lambda own: st.from_regex(pattern(own.name), fullmatch=True, alphabet=ASCII))


@pytest.mark.parametrize("own", METRICS, ids=lambda own: own.name)
def test_every_metric_has_a_phrase_that_is_not_its_name(own: Metric) -> None:
    said = PHRASES[own.name]
    assert said != own.name
    assert " " in said and len(said) <= 90
    assert set(re.findall("<[a-z]+>", said)) == set(re.findall("<[a-z]+>", own.name)), "says where it was measured"


def test_no_two_metrics_have_the_same_phrase_and_no_phrase_is_of_none() -> None:
    assert set(PHRASES) == {own.name for own in METRICS}
    assert len(set(PHRASES.values())) == len(PHRASES)


@given(NAMES, NAMES)
def test_different_names_have_different_phrases_and_none_has_a_place_left(one: str, other: str) -> None:
    assert (phrase(one) == phrase(other)) == (one == other)
    assert not re.search("[<>]", phrase(one))


def metrics_of(claims: Any) -> Iterator[str]:
    for key, value in claims.items() if isinstance(claims, dict) else enumerate(claims):
        if isinstance(value, (dict, list)):
            yield from metrics_of(value)
        elif key == "metric" or (key == "with" and isinstance(value, str)):
            yield value


def test_no_metric_of_a_shipped_claim_is_called_by_its_name() -> None:
    files = [yaml.safe_load(file.read_text()) for file in sorted(CLAIMS.glob("*.yaml"))]
    names = {name for claims in files for name in metrics_of(claims)}
    assert len(names) > 50
    assert not [name for name in names if name in phrase(name)]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ablation/zero/m", "loss added by zeroing the Mamba branch"),
        ("ablation/zero/q", "loss added by zeroing the q branch"),
        ("initial/gradient/norm/mixers.r", "initial gradient norm of the RWKV branch on held-out text"),
        ("gate/histogram/9", "share of gates from 0.9 to 1"),
        ("quantisation/log_decay/fp16/difference", "loss added by rounding log decays to half precision"),
        ("test/by_position", "test loss by tokens of context"),
    ],
)
def test_places_are_said_in_words(name: str, said: str) -> None:
    assert phrase(name) == said


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="val/loss"):
        phrase("val/los")
