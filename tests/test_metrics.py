"""Metrics: their names, written and read back, and what they are called in sentences."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gt.catalogue import components
from gt.errors import ConfigError
from gt.metrics import Axis, Measurement, Metric, fits, over_layers, written
from gt.registry import described, look_up, metric, metrics, named, phrase

CLAIMS = Path(__file__).parents[1] / "config/claims"
ALL = list(metrics().values())
DEPTH, LENGTH = Axis("depth", ("0", "0.5")), Axis("length", r"\d+")


def name_of(own: Metric, value: Any) -> st.SearchStrategy[str]:
    """The names of a metric."""
    forms = {axis.name: axis.form for axis in own.axes}
    places = re.findall("<([a-z_]+)>", own.name)
    ascii_ = st.characters(codec="ascii")
    values = {
        place: st.sampled_from(form)
        if isinstance(form := forms[place], tuple)
        else st.from_regex(form, fullmatch=True, alphabet=ascii_)
        for place in places
    }
    return st.fixed_dictionaries(values).map(lambda axes: written(own.name, axes))


NAMES = st.sampled_from(ALL).flatmap(lambda own: name_of(own, None))


@pytest.mark.parametrize("own", ALL, ids=lambda own: own.name)
def test_every_metric_has_a_phrase_that_is_not_its_name(own: Metric) -> None:
    assert own.phrase != own.name
    assert " " in own.phrase and len(own.phrase) <= 100
    assert own.definition


def test_no_two_metrics_have_the_same_phrase() -> None:
    assert len({own.phrase for own in ALL}) == len(ALL)


@given(NAMES, NAMES)
def test_different_names_have_different_phrases_and_none_has_a_place_left(one: str, other: str) -> None:
    assert (phrase(one) == phrase(other)) == (one == other)
    assert not re.search("[<>]", phrase(one))


@given(NAMES)
def test_a_name_that_is_written_is_read_back(name: str) -> None:
    found = named(name)
    assert written(found.metric.name, found.axes) == name


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
        ("ablation/zero/m", "loss added by zeroing the mamba2 branch"),
        ("ablation/zero/r", "loss added by zeroing the grounded_memory branch"),
        ("ablation/zero/q", "loss added by zeroing the q branch"),
        ("initial/gradient/norm/mixers.r", "initial gradient norm of the grounded_memory branch on held-out text"),
        ("gate/histogram/9", "share of gates from 0.9 to 1"),
        ("quantisation/log_decay/fp16/difference", "loss added by rounding log decays to half precision"),
        ("test/by_position", "test loss by tokens of context"),
        ("state/norm/m/0.25", "norm of the mamba2 state after 0.25 times the trained length"),
    ],
)
def test_places_are_said_in_words_and_branches_by_their_mixers(name: str, said: str) -> None:
    assert phrase(name, {"m": "mamba2", "r": "grounded_memory"}) == said


@pytest.mark.parametrize(("wrong", "nearest"), [("val/los", "val/loss"), ("gate/meen", "gate/mean")])
def test_an_unknown_name_is_answered_with_the_nearest(wrong: str, nearest: str) -> None:
    assert look_up(wrong) is None
    with pytest.raises(ConfigError, match=f"Did you mean '{nearest}'"):
        metric(wrong)


def test_the_names_of_measurements() -> None:
    found = Measurement("needle/found/depth_<depth>", {"depth": 0.5, "length": 64}, 1)
    assert (found.name, found.at, found.layer) == ("needle/found/depth_0.5", 64, None)
    layered = Measurement("state/norm/<branch>/<length>", {"branch": "r", "length": 4.0, "layer": 2}, 1)
    assert (layered.name, layered.at, layered.layer) == ("state/norm/r/4", None, 2)
    assert Measurement("gate/layer_<layer>", {"layer": 3}, 1).layer is None  # it stands in the name


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None])
def test_what_is_not_finite_is_no_number(value: float | None) -> None:
    assert Measurement("val/loss", {}, value).value is None


@pytest.mark.parametrize(
    ("axes", "value", "why"),
    [
        ({}, 1.0, "must say its branch"),
        ({"branch": "r", "context": 8, "length": 2}, 1.0, "one axis beside the name"),
        ({"branch": "r", "context": "long"}, 1.0, "of numbers"),
        ({"branch": "r"}, "1.0", "valid number"),
        ({"branch": "r"}, True, "valid number"),
        ({"branch": None}, 1.0, "branch.str"),
    ],
)
def test_a_measurement_that_cannot_be_one_is_refused(axes: dict[str, Any], value: Any, why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        Measurement("state/rms/<branch>", axes, value)


@pytest.mark.parametrize(
    ("name", "words", "axes", "why"),
    [
        ("a/<depth>", "depth <depth>", (), "<depth> is none of its axes"),
        ("a/<depth>", "a depth", (DEPTH,), "must have the places of its name"),
        ("a", "a thing", (DEPTH, LENGTH), "one axis may be beside the name, not 2"),
    ],
)
def test_a_metric_whose_parts_do_not_fit_is_refused(name: str, words: str, axes: tuple[Axis, ...], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        Metric(name, words, axes=axes)


def test_a_template_may_have_some_values() -> None:
    assert fits("state/norm/r/1", "state/norm/<branch>/1")
    assert not fits("state/norm/r/2", "state/norm/<branch>/1")
    assert not fits("initial/state/norm/r/1", "state/norm/<branch>/1")


def test_a_model_s_value_is_the_mean_of_its_layers_unless_it_is_given() -> None:
    assert [own.value for own in over_layers("gate/mean", {0: 0.25, 1: 0.75})] == [0.5, 0.25, 0.75]
    assert [own.value for own in over_layers("gate/mean", {0: 0.25, 1: 0.75}, 0.4)] == [0.4, 0.25, 0.75]


def test_the_names_of_metrics_are_read_without_importing_what_measures_them() -> None:
    code = "import sys, gt.registry as r; print(len(r.metrics()) > 200, [m for m in ('torch', 'scipy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "True []\n"


def test_what_is_read_of_a_class_is_what_it_has_when_it_is_imported() -> None:
    for kind in ("evaluation", "probe"):
        for component in components(kind).values():
            there = component.load().metrics
            assert [own.name for own in component.metrics] == [own.name for own in there]
            assert [own.phrase for own in component.metrics] == [own.phrase for own in there]


def test_all_that_is_said_of_metrics_is_told_to_what_depends_on_it() -> None:
    said = described()
    assert "loss saved by having seen the needle" in said
    assert "share of gates from <bin>" in said
    assert "mean gate weight at new tokens" in said  # the words of a value
