"""Formulas are mathematics in a browser and words elsewhere."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from gt.errors import ConfigError
from gt.paper.formulas import GREEK, mathml, plain


def test_a_mixture_is_mathml() -> None:
    root = ElementTree.fromstring(mathml("y_t = g r + (1 - g) m"))
    assert root.tag == "math" and root.attrib["aria-label"] == "y_t = g r + (1 − g) m"
    (row,) = root
    assert [own.tag for own in row] == ["msub", "mo", "mi", "mi", "mo", "mrow", "mi"]
    assert "".join(row[5].itertext()) == "(1−g)"
    assert [own.attrib for own in row[5] if own.text in "()"] == [{"stretchy": "false"}] * 2


def test_a_fraction_drops_the_brackets_that_only_hold_it_together() -> None:
    ((fraction,),) = ElementTree.fromstring(mathml("(a + b) / (c - d)"))
    assert fraction.tag == "mfrac" and ["".join(own.itertext()) for own in fraction] == ["a+b", "c−d"]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("s = d_r / (d_r + d_m)", "s = d_r / (d_r + d_m)"),
        ("g = sigma(w dot [r, m] + b)", "g = σ (w ⋅ [r, m] + b)"),
        ('N^2 "tokens"', "N^2 tokens"),
        ("a < b", "a < b"),
    ],
)
def test_in_a_line_of_words_it_reads_as_one_says_it(source: str, words: str) -> None:
    assert plain(source) == words


def test_what_is_special_in_html_is_escaped() -> None:
    assert "<mo>&lt;</mo>" in mathml("a < b")
    assert "<b>" not in mathml('"<b>"')


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("sigmo(x)", "Did you mean 'sigma'"),
        ("(a + b", "lacks the bracket"),
        ("a)", "closes nothing"),
        ("(a]", "is to be closed"),
        ("a_", "nothing after"),
        ("#read(x)", "which is no mathematics"),
        ("_a", "nothing before"),
    ],
)
def test_what_stands_for_nothing_is_bad_input(source: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        mathml(source)


def test_typst_knows_the_same_letters() -> None:
    typst = pytest.importorskip("typst")
    source = "#set page(width: auto, height: auto)\n" + "".join(
        f"#assert.eq(sym.{name}, sym.{name})\n$ {name} $\n" for name in GREEK
    )
    assert typst.compile(source.encode()).startswith(b"%PDF")
