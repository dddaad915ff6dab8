"""Verdicts that were kept, in the form of today: nobody's are lost because later ones say more."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from gt.analysis.cautions import Cautions

Json = dict[str, Any]


def of_today(judged: Json) -> Json:
    """A judgement of `claims.json`. Those of before claims were held to their plans say nothing of it, nor of mixers; those of
    when a claim that fails was refuted do not say how, nor by which part.
    """
    plan = {"planned": judged["exploratory"] is None, "deviations": [], "otherwise": None, "mixers": {}}
    how: Json = {
        "sensitivity": [],
        "repeated": [],
        "seeds": None,
        "stopped": None,
        "margin": None,
        "decides": None,
        "misses": None,
        "p_opposite_adjusted": None,
        "claimed": {},
        "registered": [],
    }
    leaning = "for" if judged["leaning"] in ("for", "supported") else "against"
    of_a_test: Json = {"parts": [], "names": [], "part": 0, "constant": None, "joined": "", "note": ""}
    tests = [{**of_a_test, **test} for test in judged["tests"]]
    known = {own.name: [] for own in fields(Cautions)} | judged["cautions"]
    return {**plan, **how, **judged, "leaning": leaning, "tests": tests, "cautions": known}
