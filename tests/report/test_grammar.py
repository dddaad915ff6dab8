"""Sentences are right for every number: one, none, two, a thousand, and of either sign, as rules of grammar have it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields
from itertools import product
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gt.analysis.cautions import Cautions
from gt.analysis.gates import Fault
from gt.report import text
from gt.report.census import Census
from gt.report.claim_sections import explained
from gt.report.claim_words import cautioned, finding, looked, measured, number, power, sureness, survivors
from gt.report.foreseen import foreseen_sentence
from gt.report.numbers import Panel, estimated

COUNTS = (0, 1, 2, 1000)
NOUNS = "run|seed|claim|pair|study|studie|contrast|cell|record|verdict|token|step|arm|part|model|comparison|version|reason"
# What no sentence may have, and why.
ONE, SEVERAL = (
    r"(?<![\d,.])1 (?:planned |tested |decided )?",
    r"(?<![\d,.])(?:0|[2-9]|[1-9][\d,]+) (?:planned |tested |decided )?",
)
RULES = {
    "one of several things": rf"{ONE}(?:{NOUNS})s\b",
    "several of one thing": rf"{SEVERAL}(?:{NOUNS.replace('|studie', '')})\b",
    "one do": r"(?:^|[,;:.] )1 (?:are|were|have|read|rest|fail|do)\b",
    "several does": r"(?:^|[,;:.] )(?:0|[2-9]|[1-9][\d,]+) (?:is|was|has|reads|rests|fails|does)\b",
    "a before a vowel's sound": r"\ba (?:8|11|18|8\d)\b|\ban (?:1|2)\b",
    "nothing with a sign": r"[−+-]0(?:\.0*)?(?![\d.])",
    "a hyphen for a minus": r"(?<![\w.])-\d",
    "a space before a stop": r" [,.;:](?:\s|$)",
    "two stops": r"[.;:,]{2}|\. \.",
    "two spaces": r"  ",
    "what is no word": r"\b(?:None|nan|inf|True|False)\b",
    "a thousand without its comma": r"(?<![\d.,=-])\d{4,}(?![\d.-])",
    "brackets in brackets": r"\([^)]*\([^)]*\)[^()]*\)",
}


def wrong(sentence: str) -> list[str]:
    """The rules that a sentence breaks."""
    found = [name for name, rule in RULES.items() if re.search(rule, sentence)]
    begins = sentence[:1].isupper() or not sentence[:1].isalpha() or sentence.startswith("p ")
    return found + ([] if begins else ["a small letter at the start"]) + ([] if sentence.endswith(".") else ["no stop"])


@pytest.mark.parametrize(
    "sentence",
    [
        "1 runs.",
        "5 seed.",
        "1,000 claim are open.",
        "Of 3 claims, 1 are open.",
        "a 8-seed test.",
        "−0.0000 is nothing.",
        "It is -1.",
        "It , is.",
        "It is..",
        "It  is.",
        "Of None.",
        "of a small letter.",
        "It does not stop",
        "It has 12345 tokens.",
        "It has (a (b) c).",
    ],
)
def test_the_rules_see_what_is_wrong(sentence: str) -> None:
    assert wrong(sentence)


@pytest.mark.parametrize(
    "sentence", ["1 run.", "Of 21 claims, 1 is open.", "It is −1.20.", "1 of 5 seeds.", "An 8-seed test of 1,000 runs."]
)
def test_the_rules_pass_what_is_right(sentence: str) -> None:
    assert wrong(sentence) == []


def part(n: int = 5, estimate: float | None = 0.1, **more: Any) -> dict[str, Any]:
    """A part of a claim."""
    own: dict[str, Any] = {"words": "loss: A − B < 0", "n": n, "scale": "value", "estimate": estimate}
    own |= {"lower": None if estimate is None else estimate - 0.2, "upper": None if estimate is None else estimate + 0.2}
    own |= {"needed": n, "detectable": 0.3, "outside": "", "names": [], "parts": [], "part": 0, "joined": "", "note": ""}
    return own | more


def judgement(*tests: dict[str, Any], **more: Any) -> dict[str, Any]:
    own: dict[str, Any] = {"tests": list(tests), "verdict": "inconclusive", "otherwise": None, "p": 0.2, "p_adjusted": 0.4}
    own |= {"leaning": "for", "family": "f", "alpha": 0.05, "missing": [], "reason": "", "exploratory": None, "mixers": {}}
    own |= {"p_equivalent_adjusted": None, "p_opposite_adjusted": None, "planned": True, "stopped": None, "deviations": []}
    own |= {"decides": 0, "margin": 0.01, "has_margin": True, "repeated": [], "seeds": None}
    return own | more


def of_tests() -> Iterator[str]:
    """What is said of parts and of how sure they are."""
    for n, estimate in product(COUNTS, (None, -0.00001, 0.0, -0.0, 0.3, 12345.6)):
        for own in (
            part(n, estimate),
            part(n, estimate, names=["a", "b"], parts=[{0: 1.0}, {0: -0.0}], joined="all must hold"),
        ):
            yield f"{finding(own)}."
            yield power(own)
    for n, why in product((1, 2, 1000), ("decided", "constant", "futile", "last", "open")):
        yield from looked(judgement(part(), seeds=n, stopped=why))
    for verdict, p in product(("supported", "opposite", "equivalent", "inconclusive"), (0.0, 0.04, 1.0)):
        more = {"p_equivalent_adjusted": p, "p_opposite_adjusted": p, "exploratory": "not registered"}
        yield from sureness(judgement(part(), part(), verdict=verdict, p=p, **more))


def of_cautions() -> Iterator[str]:
    """What verdicts are to be read with, of one cell and of two."""
    none: dict[str, Any] = {own.name: [] for own in fields(Cautions)}
    for k in (1, 2):
        names = ["A", "B"][:k]
        found: dict[str, list[Any]] = {
            "undertrained": [
                {"cell": name, "order": "bigram", "corpus": "c", "tokenizer": "t", "line": 2, "mean": 3} for name in names
            ],
            "edges": [{"cell": name, "setting": "rate", "end": "highest", "tried": 3} for name in names],
            "fixed": [{"cell": name, "rate": 0.001} for name in names],
            "versions": [["A"], ["B", "C"][:k]],
            "unheld": names,
            "edited": ["2026-09-20T10:00:00+00:00"] * k,
            "beyond": [{"cell": "A", "losses": [3.0, 2.0], "context": 2048, "trained": 64}],
            "close": [{"a": "A", "b": "B", "share": -0.004, "margin": 0.01}],
            "unlike": [{"a": "A", "b": "B", "what": "parameters", "values": [10.0, 20000.0], "share": 0.5}],
        }
        for key, value in found.items():
            yield from (words for _, words in cautioned(judgement(part(), verdict="supported", cautions=none | {key: value})))
    for completed, planned in ((0, 1), (1, 2), (2, 1000)):
        lost = {"cell": "A", "completed": completed, "planned": planned, "seeds": {"diverged": [1], "missing": [2, 3]}}
        yield f"A completed {survivors(lost)}."


def of_counts() -> Iterator[str]:
    """What is said of runs, contrasts and claims."""
    nothing = pd.DataFrame({"status": [], "finished": []})
    more = {
        "studies": 1,
        "judging": 1,
        "records": nothing,
        "repeated": [],
        "contrasts": 0,
        "decided": 0,
        "on_two": 0,
        "unpaired": 0,
    }
    for done, left in product(COUNTS, COUNTS):
        if done + left:
            status = ["completed"] * done + ["missing"] * left
            runs = pd.DataFrame({"status": status, "finished": [None] * len(status)})
            yield Census(runs=runs, claims=0, tested=0, deviated=0, late=0, **more).completion
    for better, worse, open_, unrun in product((0, 1, 2), repeat=4):
        rows = [_contrast("better", 5)] * better + [_contrast("worse", 2)] * worse + [_contrast("cannot be decided", 5)] * open_
        if said := Panel("c", "t", "GF", rows, {}, unrun).counted:
            yield said
    for n in (1, 2, 1000):
        row = SimpleNamespace(
            verdict="supported", tested=True, judgement={"exploratory": "not registered", "p": None}, explained_by=["x"]
        )
        yield explained([row] * n)  # type: ignore[list-item]
    for n, mean in product((1, 2, 1000), (-0.00001, 1.5)):
        row_ = {"n": n, "planned": 1000, "mean": mean, "lower": None if n == 1 else mean - 1, "upper": mean + 1}
        yield f"It is {estimated(row_)}."
    for n, gated in ((1, 0), (1, 1), (2, 1), (2, 2), (1000, 2)):
        fault = Fault("cannot see", "a difference of 1 %", "run more seeds")
        gates = [SimpleNamespace(claim="C", faults=[fault] if i < gated else []) for i in range(n)]
        yield foreseen_sentence(gates)  # type: ignore[arg-type]


def _contrast(verdict: str, pairs: int) -> dict[str, Any]:
    own = {"variant": "A", "label": "A", "factors": "{}", "verdict": verdict, "decided": verdict in ("better", "worse")}
    return own | {"pairs": pairs, "pairs_planned": 5}


@pytest.mark.parametrize("sentences", [of_tests, of_cautions, of_counts], ids=lambda own: own.__name__)
def test_sentences_are_right_for_every_number(sentences: Any) -> None:
    said = list(sentences())
    assert len(said) > 20
    assert {sentence: found for sentence in said if (found := wrong(sentence))} == {}


@given(st.floats(-1e6, 1e6), st.integers(0, 6))
def test_no_number_is_nothing_with_a_sign(value: float, digits: int) -> None:
    shown = [
        text.decimals(value, digits),
        text.signed(value, digits),
        text.count(value),
        text.significant(value),
        number(value),
    ]
    shown.append(measured({"estimate": value, "lower": value - 1.0, "upper": value + 1.0}))
    for own in shown:
        assert not re.search(r"[−+-]0(?:\.0*)?(?![\d.e])", own), own
        assert not re.search(r"(?<![\de])-", own), own


@given(st.integers(0, 10**6))
def test_a_count_and_its_noun_agree(n: int) -> None:
    for sentence in (f"{text.plural(n, 'run')}.", f"{text.plural(n, 'study', 'studies')}.", f"{text.out_of(n, n, 'seed')}."):
        assert wrong(sentence) == []


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("line 219 of document 4", "document 4, line 219"),
        ("lines 728 and 751-756 of document 3 (observation 16)", "document 3, lines 728 and 751–756 (observation 16)"),
        ("lines 72-88 and lines 141-144 of document 3", "document 3, lines 72–88 and 141–144"),
        ("repository V5.md L148-153; commit 8194362", "repository V5.md, lines 148–153; commit 8194362"),
        ("repository A.md L38 and L90; B.md L7", "repository A.md, lines 38 and 90; B.md, line 7"),
        ("this study", "this study"),
    ],
)
def test_sources_name_the_document_first_and_no_seed(source: str, said: str) -> None:
    assert text.cited(source) == said
