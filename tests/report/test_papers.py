"""A paper from its file to its pages: what is printed, what is a draft, what is bad input; and its figures."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import ladders as sizes
import numpy as np
import pandas as pd
import pikepdf
import pytest
import records
from matplotlib.colors import to_rgb
from shared import TEMPLATES, make, overhang, plan_of_rates, write_run

from gt.analysis.verdicts import Row, overview
from gt.errors import ConfigError
from gt.paper import figures, file
from gt.paper.build import Paper, build
from gt.paper.facts import Facts
from gt.paper.write import FILES, check, pieces, words_of, write
from gt.report.document import Picture, Tabular, Terms, Text, walk
from gt.report.numbers import Results, load

PAIR = {"study": "synthetic", "a": "GF", "b": "GPT-2", "tokenizer": "bpe1024"}
LOWER = "{{ lower('synthetic', 'GF', 'GPT-2', tokenizer='bpe1024').brief }}"
FOREST = {
    "kind": "forest",
    "title": "Forest",
    "caption": "All of them.",
    "contrasts": [{"ask": "Is it lower?", "untuned": PAIR}],
}
SHARES = {"kind": "shares", "title": "Shares", "caption": "Of both.", "study": "synthetic", "cells": ["GF"]}
FINDING = {
    "heading": "Gates help",
    "claims": {"C-1": "supported"},
    "text": f"It is lower by {LOWER}, with $g = sigma(x)$.",
    "overturned": "More seeds.",
    "record": "The same ({{ record('C-1') }}).",
    "figure": FOREST,
}
PAPER: dict[str, Any] = {
    "title": "Gates help & <b>more</b>",
    "claims": {"C-1": "supported"},
    "studies": ["synthetic"],
    "sentences": ["One.", f"It is lower by {LOWER}.", "Three."],
    "questions": [{"ask": "Is it lower?", "untuned": PAIR}],
    "abstract": [f"We ran {{{{ count('runs') }}}}, and it is lower by {LOWER}."],
    "before": [
        {"heading": "The question", "text": ["Is it lower?"], "figure": {"kind": "studies", "title": "Run", "caption": "All."}}
    ],
    "findings": [FINDING],
    "limits": ["One text."],
    "reproduce": ["From the records."],
    "commands": "make report\n",
}

Made = Callable[..., Paper]


@pytest.fixture(scope="module")
def known(study: Path) -> tuple[Results, list[Row]]:
    return load(study), overview(study.parent / "claims", [study])


@pytest.fixture
def built(known: tuple[Results, list[Row]], tmp_path: Path) -> Made:
    """A function: changes of the paper -> the paper, built."""

    def made(**changes: Any) -> Paper:
        (tmp_path / "paper.yaml").write_text(json.dumps(PAPER | changes, indent=1))
        return build(tmp_path / "paper.yaml", [known[0]], known[1], tmp_path / "out/figures")

    return made


def texts(paper: Paper) -> str:
    return " ".join(block.words for block in walk(paper.document.sections) if isinstance(block, Text))


def lower() -> float:
    return float(
        -np.mean([records.bits_per_byte("GF", "bpe1024", s) - records.bits_per_byte("GPT-2", "bpe1024", s) for s in range(3)])
    )


def test_a_finding_is_its_words_with_the_claims_in_brackets_a_figure_and_what_would_overturn_it(built: Made) -> None:
    paper = built()
    finding = next(own for own in paper.document.sections if own.id == "findings").sections[0]
    words, picture, terms = finding.blocks
    assert isinstance(words, Text) and isinstance(picture, Picture) and isinstance(terms, Terms)
    assert words.words.startswith(f"It is lower by {lower():.3f} (") and words.words.endswith("$. [C-1: supported]")
    assert picture.alt.startswith(f"Differences in bits per byte. Is it lower?: all at one rate −{lower():.3f} (95 % interval ")
    assert terms.pairs[1] == ("What the record believed, and why", "The same (document 3, lines 1–5).")
    assert paper.drafts == [] and paper.document.title == PAPER["title"]


def test_every_number_is_listed_with_where_it_stands_and_comes_from(built: Made) -> None:
    paper = built()
    said = texts(paper)
    digits = re.sub(r"\[[^\]]*\]|\$[^$]*\$", "", said)
    for number in paper.numbers:
        if number["where"].split(".")[0] in ("abstract", "findings") and "figure" not in number["where"]:
            digits = digits.replace(number["printed"], "")
    assert not re.search(r"\d", digits)
    assert {number["where"] for number in paper.numbers} >= {
        "abstract.0",
        "findings.0.text",
        "findings.0.figure",
        "byline",
        "questions",
    }
    (own,) = (number for number in paper.numbers if number["where"] == "findings.0.text")
    assert own["rows"] == ("GF.embedded.bpe1024", "GPT-2.embedded.bpe1024")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"claims": {"C-1": "opposite"}}, "C-1 is opposite; the verdict is supported"),
        ({"text": LOWER.replace("lower", "higher")}, "GF lies above GPT-2 in synthetic; the difference is −"),
        ({"record": LOWER.replace("lower", "higher")}, "GF lies above GPT-2 in synthetic"),
    ],
)
def test_words_that_the_record_belies_are_not_printed_but_what_was_measured(
    built: Made, tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    paper = built(findings=[{**FINDING, **change}])
    finding = next(own for own in paper.document.sections if own.id == "findings").sections[0]
    assert finding.title == "GF beats GPT-2"  # the claim's own title
    words, _, table = finding.blocks
    assert isinstance(words, Text) and words.words.startswith(f"The words written here presuppose that {says}")
    assert isinstance(table, Tabular) and "GF − GPT-2 &lt; 0" in table.table.html()
    assert "It is lower" not in "".join(own.words for own in finding.blocks if isinstance(own, Text))
    assert not [number for number in paper.numbers if re.match(r"findings\.0\.(?!figure)", number["where"])]
    (draft,) = paper.drafts
    assert re.match(rf"{re.escape(str(paper.path))}, line \d+: findings\.0: the words presuppose that ", draft)
    write(paper, tmp_path / "out", TEMPLATES)
    assert {own.name for own in (tmp_path / "out").iterdir()} == set(FILES)
    with pytest.raises(ConfigError, match="is a draft, which says so"):
        check(paper, tmp_path / "out")


def test_a_title_that_the_record_belies_is_not_printed_nor_are_the_sentences(built: Made) -> None:
    paper = built(claims={"C-1": "opposite"})
    assert paper.document.title == "A draft: 1 question" and paper.sentences == []
    assert "The words written here presuppose that C-1 is opposite" in texts(paper)
    assert "We ran" not in texts(paper)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"abstract": ["Of 5 seeds."]}, r"line \d+: abstract\.0: '5' has a digit that is typed"),
        ({"limits": ["{{ mean('synthetic', 'X') }}"]}, r"line \d+: limits\.0: synthetic has no cell 'X'"),
        ({"claims": {"C-7": "supported"}}, "there is no claim 'C-7'"),
        ({"claims": {"C-1": "true"}}, "claims.C-1: "),
        ({"studies": ["synthetic", "more"]}, "studies: more is not among those given"),
        ({"findings": [{**FINDING, "figure": {**FOREST, "kind": "pie"}}]}, r"findings\.0\.figure"),
        (
            {"findings": [{**FINDING, "figure": {**SHARES, "cells": ["X"]}}]},
            r"line \d+: findings\.0\.figure: synthetic has no cell 'X'",
        ),
        ({"limits": ["$sigmo(x)$"]}, r"limits\.0: a formula has the name 'sigmo'"),
        ({"questions": [{"ask": "Which?"}]}, "needs `untuned`, `tuned` or both"),
        ({"sentences": ["One."]}, "sentences"),
        ({"findings": [{**FINDING, "heading": "C-1 holds"}]}, r"findings\.0\.heading: C-1 is the name of a claim"),
    ],
)
def test_bad_input_is_named_by_line_and_key(built: Made, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        built(**changes)


def test_its_pages(built: Made, tmp_path: Path) -> None:
    paper = built()
    write(paper, tmp_path / "out", TEMPLATES)
    page = (tmp_path / "out/paper.html").read_text(encoding="utf-8")
    assert "<h1>Gates help &amp; &lt;b&gt;more&lt;/b&gt;</h1>" in page
    assert '<math aria-label="g = σ (x)">' in page and "$" not in re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    assert "<script" not in page and "http://" not in page.replace("http://www.w3.org/", "") and "https://" not in page
    assert page.count("<svg role=") == 2 and page.count('aria-label="Differences in bits per byte.') == 1
    markdown = (tmp_path / "out/paper.md").read_text(encoding="utf-8")
    assert "with `g = σ (x)`." in markdown
    links = re.findall(r"!\[[^\]]*(?:\\\][^\]]*)*\]\(([^)]+)\)", markdown)
    assert len(links) == 2 and all((tmp_path / "out" / link).exists() for link in links)
    with pikepdf.open(tmp_path / "out/paper.pdf") as document:
        assert len(document.pages) <= 2
    numbers = json.loads((tmp_path / "out/numbers.json").read_text())["numbers"]
    assert len(numbers) == len(paper.numbers)
    assert 50 < words_of(paper.document) < 200


def test_a_text_is_parts_of_words_code_and_mathematics() -> None:
    assert pieces("a `b` $c$ d") == [("text", "a "), ("code", "b"), ("text", " "), ("math", "c"), ("text", " d")]


# The figures.


def asked(kind: str, **own: Any) -> file.Figure:
    paper = file.PaperFile.model_validate(
        PAPER | {"findings": [{**FINDING, "figure": {"kind": kind, "title": "A", "caption": "B", **own}}]}
    )
    return paper.findings[0].figure


@pytest.fixture(scope="module")
def rates(tmp_path_factory: pytest.TempPathFactory) -> Results:
    root, plan = tmp_path_factory.mktemp("rates"), plan_of_rates()
    for cell in plan["cells"]:
        for seed in cell["runs"]:
            write_run(root / "runs", plan, cell, seed)
    return load(make(root, plan))


@pytest.fixture(scope="module")
def ladder(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return load(sizes.make(tmp_path_factory.mktemp("ladder"), seeds=3))


@pytest.fixture(scope="module")
def taken_out(known: tuple[Results, list[Row]]) -> Results:
    """With branches taken out of GF on characters."""
    rows = [
        {"cell": "GF.embedded.char", "seed": seed, "name": f"ablation/{name}", "layer": np.nan, "value": value + seed / 100}
        for seed in range(3)
        for name, value in [
            (f"{way}/{branch}", 1.0 + i) for i, branch in enumerate("rm") for way in ("zero", "mean", "shuffle")
        ]
        + [("share/r", 0.3), ("share/m", 0.7)]
    ]
    own = known[0]
    cells = own.cells[own.cells["tokenizer"] == "char"]
    return replace(own, probes=pd.DataFrame(rows), cells=cells)


def drawn(own: file.Figure, results: Results, claims: list[Row] | None = None) -> figures.Made:
    facts = Facts([results], claims or [])
    palette = figures.Palette()
    palette.add(own, facts)
    return figures.draw(own, facts, palette, lambda words: words)


def test_a_forest_has_hollow_marks_at_one_rate_and_filled_ones_where_each_is_tuned(rates: Results) -> None:
    low, high = (
        {"study": "synthetic", "a": f"GF (learning_rate={rate})", "b": f"GPT-2 (learning_rate={rate})"}
        for rate in (0.001, 0.01)
    )
    made = drawn(asked("forest", contrasts=[{"ask": "Is it lower?", "untuned": low, "tuned": high}], margin=True), rates)
    marks = [line for ax in made.figure.axes for line in ax.lines if line.get_marker() == "o"]
    assert [line.get_markerfacecolor() == "white" for line in marks] == [True, False]
    found = [float(line.get_xdata()[0]) for line in marks]
    assert found == pytest.approx([-0.12, -0.12], abs=0.002)
    assert "all at one rate −0.1" in made.alt and "; " not in made.alt and "each at its best rate −0.1" in made.alt
    assert overhang(made.figure) < 1 / 72


def test_every_kind_is_drawn_whole_with_words_that_have_its_numbers(
    known: tuple[Results, list[Row]], rates: Results, ladder: Results, taken_out: Results
) -> None:
    own, claims = known
    shown = {
        "studies": drawn(asked("studies"), own),
        "sweep": drawn(asked("sweep", study="synthetic", along="learning_rate", variants=["GPT-2", "GF"], axis="loss"), rates),
        "curves": drawn(asked("curves", study="synthetic", cells=["GPT-2", "GF"], tokenizer="char", axis="loss"), own),
        "windows": drawn(
            asked("windows", study="synthetic", cells=["GPT-2", "GF"], metric="context/loss", axis="loss", along="tokens"),
            taken_out,
        ),
        "shares": drawn(asked("shares", study="synthetic", cells=["GF"]), taken_out),
        "ladder": drawn(asked("ladder", study=ladder.study), ladder),
    }
    for kind, made in shown.items():
        assert overhang(made.figure) < 1 / 72, kind
        assert made.shown and all(str(number).split(" ")[0] in made.alt for number in made.shown), kind
        size = made.figure.get_size_inches()[0]
        assert size == (figures.WIDE if made.wide else figures.COLUMN)
        assert min(words.get_fontsize() for words in made.figure.findobj(lambda own: hasattr(own, "get_fontsize"))) >= 7, kind
    assert "33.4 % with zero, 33.4 % with its mean" in shown["shares"].alt  # 1.00 / 3.00, 1.01 / 3.02, 1.02 / 3.04
    with pytest.raises(ConfigError, match="is of the test compare, of which a forest shows the difference"):
        drawn(asked("claimed", axis="ratio", parts=[{"claim": "C-1", "label": "It"}]), own, claims)


@pytest.mark.parametrize(
    ("kind", "own", "says"),
    [
        ("sweep", {"along": "steps", "variants": ["GF"], "axis": "loss"}, "no cell of GF on embedded varies steps alone"),
        ("curves", {"cells": ["GF"], "axis": "loss", "tokenizer": "char", "metric": "gate/none"}, "gate/none"),
        ("shares", {"cells": ["GPT-2"]}, "GPT-2"),
        ("ladder", {}, "has no ladder"),
    ],
)
def test_a_figure_of_what_is_not_there_is_bad_input(
    known: tuple[Results, list[Row]], kind: str, own: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        drawn(asked(kind, study="synthetic", **own), known[0])


def test_a_variant_has_one_look_in_all_figures_and_looks_differ_in_grey(rates: Results) -> None:
    facts = Facts([rates], [])
    sweep = asked("sweep", study="synthetic", along="learning_rate", variants=["GF", "GPT-2", "WS"], axis="loss")
    other = asked("curves", study="synthetic", cells=["WS (learning_rate=0.01)", "GF (learning_rate=0.001)"], axis="loss")
    palette = figures.Palette()
    for figure in (sweep, other):
        palette.add(figure, facts)
    assert list(palette.looks) == ["GF", "GPT-2", "WS"]
    assert len({look.marker for look in palette.looks.values()}) == len({look.colour for look in palette.looks.values()}) == 3
    grey = [0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b in (to_rgb(look.colour) for look in palette.looks.values())]
    assert max(grey) < 0.75  # on white
    assert palette.of("never drawn").marker == "o"
