"""Words of an author, numbers of the rows: what is looked up, how it is printed, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import records

from gt.analysis.statistics import Estimate
from gt.analysis.verdicts import overview
from gt.errors import ConfigError
from gt.paper.facts import BeliedError, Facts, Shown, Sized, Source
from gt.paper.prose import Prose
from gt.report import text
from gt.report.numbers import load

SOURCE = Source("s", "runs", ("c",), "m", "mean", None)


@pytest.fixture(scope="module")
def facts(study: Path) -> Facts:
    return Facts([load(study)], overview(study.parent / "claims", [study]))


@pytest.fixture
def prose(facts: Facts) -> Prose:
    return Prose(facts, names=["GPT-4", "H200"])


def losses(variant: str) -> np.ndarray:
    return np.array([records.bits_per_byte(variant, "bpe1024", seed) for seed in range(3)])


def test_a_difference_is_that_of_the_runs_paired_by_seed(prose: Prose) -> None:
    own = losses("GF") - losses("GPT-2")
    half = 4.302653 * own.std(ddof=1) / 3**0.5  # Student's t of 2 degrees of freedom
    said = prose.text("GF lies {{ lower('synthetic', 'GF', 'GPT-2', tokenizer='bpe1024', digits=6) }} below.", "here")
    low, high = (f"{value:.6f}" for value in (-own.mean() - half, -own.mean() + half))
    assert said == f"GF lies {-own.mean():.6f} bits per byte (95 % interval {low} to {high}, 3 pairs) below."
    ((where, printed, source),) = prose.printed
    assert where == "here" and printed in said
    assert (source.study, source.table, source.column) == ("synthetic", "runs", "val/bits_per_byte")
    assert source.rows == ("GF.embedded.bpe1024", "GPT-2.embedded.bpe1024")
    assert source.value == pytest.approx(own.mean())


def test_means_settings_claims_and_counts_are_looked_up(prose: Prose, facts: Facts) -> None:
    words = (
        "{% set s = 'synthetic' %}{{ mean(s, 'GF', tokenizer='bpe1024').size }} after "
        "{{ setting(s, 'GF', 'steps', tokenizer='char') }} steps of "
        "{{ setting(s, 'GF', 'tokens_per_step', tokenizer='char') }} at "
        "{{ setting(s, 'GF', 'learning_rate', tokenizer='char') }}; {{ count('claims') }}, "
        "{{ count('claims', verdict='supported') }}, {{ count('studies', noun='none') }}; {{ record('C-1') }}"
    )
    said = prose.text(words, "here")
    assert said == f"{losses('GF').mean():.3f} after 250 steps of 1,024 at 0.003; 3 claims, 1 claim, 1; document 3, lines 1–5"
    assert prose.text("{{ claim('C-1').verdict }}: {{ claim('C-1', digits=3).size }}", "here").startswith("supported: −0.")
    seconds = facts.census.records["device_seconds"].sum()
    assert prose.text("{{ minutes() }}", "here") == f"{seconds / 60:.0f} minutes"
    assert facts.count("runs") == text.plural(int(load(facts.studies["synthetic"].folder).coverage["completed"]), "run")


@pytest.mark.parametrize(
    "words",
    [
        "of 5 pairs",
        "a rate of 0.003",
        "3.12M parameters",
        "in brackets [5]",
        "GPT-3",
        "GF2",
        "GPT-45",
        "a formula $x = 0.5 y$",
        "{{ 5 }}",
        "{{ '5' }}",
        "{{ 2 + 3 }}",
        "{{ count('studies').source.value }}",
        "{{ count('runs') | upper }}",
        "{{ 'a' ~ count('runs') }}",
        "{% if true %}5{% endif %}",
        "{% raw %}5{% endraw %}",
    ],
)
def test_a_digit_that_is_typed_or_made_is_refused(prose: Prose, words: str) -> None:
    with pytest.raises(ConfigError, match=r"has a digit that is|has the number 0\.5"):
        prose.text(words, "here")
    assert prose.printed == []


def test_names_and_formulas_have_digits(prose: Prose) -> None:
    words = "GPT-4 and RWKV-6's, on an H200: $y_1 = (1 - g) x^2$ [C-1: supported; C-4]."
    assert prose.text(words, "here") == words


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("Of C-1 we know.", "C-1 is the name of a claim or study, which stands in brackets alone"),
        ("{{ foo }}", "unknown name: 'foo' is undefined"),
        ("{{ mean('synthetic', 'GFF') }}", "synthetic has no cell 'GFF'. Did you mean 'GF'?"),
        ("{{ mean('synthetic', 'GF') }}", "synthetic has GF several times, on embedded, char and embedded, bpe1024"),
        ("{{ mean('other', 'GF') }}", "there is no study 'other'"),
        ("{{ claim('C-9') }}", "there is no claim 'C-9'"),
        ("{{ claim('C-4') }}", "C-4: there is no test 1 of it"),
        ("{{ setting('synthetic', 'GF', 'rate', tokenizer='char') }}", "a cell has no setting 'rate'"),
        ("{{ count('cows') }}", "nothing counts 'cows'"),
        ("{{ count('claims', verdict='suported') }}", "there is no verdict 'suported'. Did you mean 'supported'?"),
        ("{{ mean('synthetic', 'GF', tokenizer='char', metric='gate/nothing') }}", "gate/nothing"),
        ("{{ mean() }}", "missing 2 required positional arguments"),
        ("{{ mean( }}", "unexpected"),
    ],
)
def test_what_is_not_there_is_bad_input(prose: Prose, words: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        prose.text(words, "here")


def test_words_that_presuppose_the_other_side_give_no_number(prose: Prose) -> None:
    with pytest.raises(BeliedError, match=r"GF lies above GPT-2 in synthetic; the difference is −0\.\d+ bits per byte"):
        prose.text("{{ higher('synthetic', 'GF', 'GPT-2', tokenizer='bpe1024') }}", "here")
    with pytest.raises(BeliedError):  # HY is GPT-2 but for noise
        prose.text("{{ higher('synthetic', 'HY', 'GPT-2', tokenizer='bpe1024') }}", "here")


def sized(mean: float, half: float | None, n: int, of: str = "pair", sign: int = 1, digits: int = 3) -> Sized:
    bounds = (None, None) if half is None else (mean - half, mean + half)
    return Sized(Estimate(n, mean, None, *bounds), SOURCE, of, "bits per byte", digits, sign)


@pytest.mark.parametrize(
    ("own", "full"),
    [
        (sized(0.0384, 0.0115, 5), "0.038 bits per byte (95 % interval 0.027 to 0.050, 5 pairs)"),
        (sized(-0.0384, 0.0115, 5, sign=-1), "0.038 bits per byte (95 % interval 0.027 to 0.050, 5 pairs)"),
        (sized(-0.0384, 0.0115, 5), "−0.038 bits per byte (95 % interval −0.050 to −0.027, 5 pairs)"),
        (sized(-0.00004, 0.00002, 2), "0.000 bits per byte (95 % interval 0.000 to 0.000, 2 pairs)"),
        (sized(1.5, None, 1), "1.500 bits per byte (1 pair)"),
        (sized(1.5, None, 1, "seed"), "1.500 bits per byte (1 seed)"),
        (sized(1.5, 0.1, 1200, "seed", digits=1), "1.5 bits per byte (95 % interval 1.4 to 1.6, 1,200 seeds)"),
    ],
)
def test_a_number_is_printed_with_its_unit_interval_and_plural(own: Sized, full: str) -> None:
    assert str(own) == full


@pytest.mark.parametrize("mean", [0.0, -0.0, 1e-9, -1e-9, -0.0004, -0.0006, 0.9999, -12.3456])
def test_nothing_has_two_signs_or_a_minus_before_zero(mean: float) -> None:
    for own in (sized(mean, 1e-6, 5), sized(mean, 1e-6, 5, sign=-1), sized(mean, 1.0, 2)):
        for said in (own.full, own.brief, own.size, own.percent, own.interval):
            assert "-" not in said and "−−" not in said and "+" not in said
            assert not any(float(number) == 0 for number in said.replace("−", " -").split() if number.startswith("-0.000"))


def test_of_one_seed_there_is_no_interval_to_print() -> None:
    with pytest.raises(BeliedError, match="has an interval; it has one seed"):
        str(sized(1.0, None, 1).brief)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("line 97 of document 1", "document 1, line 97"),
        ("lines 20 and 46-48 of document 0; line 12 of document 1", "document 0, lines 20 and 46–48 and document 1, line 12"),
        ("lines 644 and 660-661 of document 3 (observation 15, D3)", "document 3, lines 644 and 660–661"),
        ("lines 471, 480 and 495-496 of document 3", "document 3, lines 471, 480 and 495–496"),
    ],
)
def test_a_place_in_the_record_is_named_by_document_and_line(facts: Facts, source: str, said: str) -> None:
    claim = facts.claims["C-1"].claim.model_copy(update={"source": source})
    own = Facts([], [])
    own.claims = {"C": facts.claims["C-1"].__class__(**{**vars(facts.claims["C-1"]), "claim": claim})}
    assert own.record("C") == said
    own.claims["C"].claim.__dict__["source"] = "repository HANDOFF.md"
    with pytest.raises(ConfigError, match="names no line of a document"):
        own.record("C")


def test_a_share_is_one_branch_s_rise_over_those_of_both(facts: Facts) -> None:
    results = facts.studies["synthetic"]
    cell = "GF.embedded.char"
    rises = {
        ("zero", "r"): (1.0, 2.0, 1.0),
        ("zero", "m"): (3.0, 2.0, 1.0),
        ("mean", "r"): (1.0,) * 3,
        ("mean", "m"): (0.0,) * 3,
    }
    rows: list[dict[str, Any]] = [
        {"cell": cell, "seed": seed, "name": f"ablation/{way}/{branch}", "layer": np.nan, "value": value}
        for (way, branch), values in rises.items()
        for seed, value in enumerate(values)
    ]
    rows += [{"cell": cell, "seed": 0, "name": f"ablation/share/{branch}", "layer": np.nan, "value": 0.5} for branch in "rm"]
    own = Facts(
        [results.__class__(**{**{f: getattr(results, f) for f in results.__dataclass_fields__}, "probes": pd.DataFrame(rows)})],
        [],
    )
    seeds = own.shares("synthetic", own.cell("synthetic", "GF", tokenizer="char"), "r", "zero")
    assert seeds == {0: 0.25, 1: 0.5, 2: 0.5}
    with pytest.raises(ConfigError, match="has not two branches"):
        own.shares("synthetic", own.cell("synthetic", "GPT-2", tokenizer="char"), "r", "zero")


def test_what_is_shown_is_text_and_knows_its_source() -> None:
    own = Shown("5 pairs", SOURCE)
    assert own == "5 pairs" and own.source is SOURCE and SOURCE.plain()["rows"] == ("c",)
