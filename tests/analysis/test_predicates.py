"""Whatever predicate a claims file may hold can be judged, or is refused when the file is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_verdicts import CELLS as LOSSES
from test_verdicts import write_study

from gt.analysis.claims import load_claims
from gt.analysis.verdicts import judge_study
from gt.errors import ConfigError

EDGES = st.sampled_from([-1.0, -0.0, 0, 1, 1.0, 2, 1e-320, 1e-9, 1e308, -1e308, float("inf"), float("nan")])
NUMBERS = st.one_of(st.floats(0.001, 0.999), st.floats(-3, 3), EDGES)
METRICS = st.sampled_from(["val/loss", "n_params"])
CELL = st.sampled_from(["GF", "HY", "WS", "twin", "vague"])
CELLS = st.lists(CELL, min_size=3, max_size=4)
SCALE = {"scale": st.sampled_from(["difference", "ratio"])}
LOWER = {"is": st.sampled_from(["lower", "higher"])}
RISING = {"is": st.sampled_from(["rising", "falling"])}
BOUND = st.one_of(st.fixed_dictionaries({"above": NUMBERS}), st.fixed_dictionaries({"below": NUMBERS}))
MANY = st.lists(NUMBERS, min_size=3, max_size=4)
# What each test needs, and what it may have.
FORMS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "compare": ({"a": CELL, "b": st.one_of(CELL, CELLS), **LOWER}, {"by": NUMBERS, "margin": NUMBERS, **SCALE}),
    "order": ({"cells": CELLS, **RISING}, {}),
    "trend": ({"cells": CELLS, **RISING}, {"x": st.lists(st.floats(-3, 3), min_size=3, max_size=4).map(sorted)}),
    "equivalence": ({"a": CELL, "b": CELL, "margin": NUMBERS}, SCALE),
    "interval": ({"a": CELL, "low": NUMBERS, "high": NUMBERS}, {"b": CELL, **SCALE}),
    "threshold": ({"a": CELL}, {"b": CELL, **SCALE}),
    "rank_correlation": (
        {"with": st.one_of(METRICS, MANY), "cells": CELLS},
        {"kind": st.sampled_from(["kendall", "spearman"])},
    ),
    "exists": ({"cells": CELLS, "b": CELLS, **LOWER}, {"by": NUMBERS, **SCALE}),
}


@st.composite
def predicates(draw: st.DrawFn) -> dict[str, Any]:
    test = draw(st.sampled_from(list(FORMS)))
    needed, possible = FORMS[test]
    keys = draw(st.fixed_dictionaries(needed, optional=possible))
    bound = draw(BOUND) if test in ("threshold", "rank_correlation") else {}
    return {"test": test, "metric": draw(METRICS), **keys, **bound}


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """One whose runs all completed, and one of which a cell lost a run, another one other, and a third all."""
    nan = float("nan")
    lost = {**LOSSES, "HY": [nan, *LOSSES["HY"][1:]], "WS": [*LOSSES["WS"][:4], nan], "vague": [nan] * 5}
    folder = tmp_path_factory.mktemp("study")
    return [write_study(folder / "whole" / "s"), write_study(folder / "lost" / "s", lost)]


@settings(max_examples=400, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    predicate=predicates(), of=st.sampled_from([0, 1]), diverged=st.sampled_from([None, "worst_rank", "excluded", "failure"])
)
def test_what_a_file_may_say_can_be_judged(
    studies: list[Path], predicate: dict[str, Any], of: int, diverged: str | None
) -> None:
    study = studies[of]
    folder = study.parent / "claims"
    folder.mkdir(exist_ok=True)
    claim = {"title": "t", "sentence": "s", "source": "x", "study": "s", "predicate": [predicate], "diverged": diverged}
    text = json.dumps({"C": claim}).replace("Infinity", ".inf").replace("NaN", ".nan")
    (folder / "claims.yaml").write_text(text)
    try:
        load_claims(folder)
    except ConfigError as error:
        assert str(error).startswith(f"{folder}/claims.yaml, line 1: C.predicate.0")  # noqa: PT017 - no raise is right as well
        return
    (judged,) = judge_study(study, folder)
    assert judged.p is None or 0 <= judged.p <= 1


@pytest.mark.parametrize(
    ("predicate", "words"),
    [
        ({"test": "compare", "b": "HY", "is": "lower", "scale": "ratio", "by": 1}, "by 1.0 is a share of b"),
        ({"test": "compare", "b": "HY", "is": "higher", "scale": "ratio", "margin": 1}, "margin 1.0 is a share of b"),
        ({"test": "compare", "b": ["HY", "WS"], "is": "lower", "margin": 0.1}, "margin 0.1 is for one b"),
        ({"test": "equivalence", "b": "HY", "margin": 1}, "margin 1.0 is a share of b"),
        ({"test": "interval", "b": "HY", "low": -2, "high": 0}, "high 0.0 must be above 0"),
        ({"test": "threshold", "b": "HY", "below": 0}, "below 0.0 must be above 0"),
        ({"test": "threshold", "above": 0, "scale": "ratio"}, "there is no b"),
        ({"test": "threshold", "above": 0, "a": {"variant": "GF", "at": 3}}, "is for a curve or an evaluation"),
    ],
)
def test_bounds_that_no_ratio_can_meet_and_settings_that_nothing_reads_are_refused(
    tmp_path: Path, predicate: dict[str, Any], words: str
) -> None:
    claim = {"title": "t", "sentence": "s", "source": "x", "study": "s"}
    claim["predicate"] = [{"metric": "val/loss", "a": "GF", **predicate}]  # type: ignore[assignment]
    (tmp_path / "claims.yaml").write_text(json.dumps({"C": claim}))
    with pytest.raises(ConfigError) as caught:
        load_claims(tmp_path)
    assert words in str(caught.value)
