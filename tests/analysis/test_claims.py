"""Claims as data: what their files may say, and that the claims of this repository are about cells that exist."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import records

from gt.analysis.claims import Claim, check, check_planned, load_arms, load_claims
from gt.errors import ConfigError
from gt.study import load_study

ROOT = Path(__file__).parents[2]
LEDGER = ROOT.parent / "shared/reference/claims_ledger.yaml"
COMPARE = "{test: compare, metric: val/loss, a: GF, b: HY, is: lower}"
TEXT = """\
C-1:
  title: One beats the other
  sentence: GF is lower than HY.
  source: here
  study: study
  predicate:
    - PREDICATE
"""
PLAN = records.planned(
    records.sketched(
        "study",
        [
            *(
                ({"id": f"{name}.c.{t}", "variant": name, "corpus": "c", "tokenizer": t, "factors": {}}, 5)
                for name in ("GF", "HY", "WS")
                for t in ("char", "bpe")
            ),
            *(
                (
                    {
                        "id": f"Gate.c.char.{g}",
                        "variant": "Gate",
                        "corpus": "c",
                        "tokenizer": "char",
                        "factors": {"model.fusion.gate_init": g},
                    },
                    2,
                )
                for g in (0.3, 0.7)
            ),
        ],
    )
)
PREDICATE = {"test": "compare", "metric": "val/loss", "a": "GF", "b": "HY", "is": "lower"}


def folder(tmp_path: Path, predicate: str = COMPARE, more: str = "") -> Path:
    (tmp_path / "claims.yaml").write_text(TEXT.replace("PREDICATE", predicate) + more)
    return tmp_path


def refusal(tmp_path: Path, predicate: str = COMPARE, more: str = "") -> str:
    with pytest.raises(ConfigError) as caught:
        load_claims(folder(tmp_path, predicate, more))
    return str(caught.value)


def test_the_shipped_claims_are_about_cells_that_are_planned_with_seeds_enough() -> None:
    plans = {file.stem: load_study(file).plan() for file in (ROOT / "config/studies").glob("*.yaml")}
    check(load_claims(ROOT / "config/claims"), load_arms(ROOT / "config/claims"), plans)


@pytest.mark.skipif(not LEDGER.exists(), reason="the ledger is not here")
def test_every_entry_of_the_ledger_is_there() -> None:
    import yaml

    ledger = {entry["id"] for entry in yaml.safe_load(LEDGER.read_text())}
    assert len(ledger) == 101
    assert ledger <= set(load_claims(ROOT / "config/claims"))


@pytest.mark.parametrize(
    ("predicate", "words"),
    [
        ("{test: compair, metric: val/loss, a: GF, b: HY, is: lower}", "unknown name 'compair'. Did you mean 'compare'?"),
        ("{test: compare, metric: val/los, a: GF, b: HY, is: lower}", "unknown metric 'val/los'. Did you mean 'val/loss'?"),
        ("{test: compare, metric: val/loss, a: GF, b: HY, iss: lower}", "unknown key 'iss'. Did you mean 'is'?"),
        ("{test: compare, metric: val/loss, a: GF, b: HY, is: better}", '"better" is not allowed'),
        ("{test: compare, metric: val/loss, a: {varian: GF}, b: HY, is: lower}", "Did you mean 'variant'?"),
        ("{test: threshold, metric: val/loss, a: GF, above: 1, below: 2}", "either above or below"),
        ("{test: interval, metric: val/loss, a: GF, low: 2, high: 1}", "low 2.0 must be below high 1.0"),
        ("{test: trend, metric: val/loss, cells: [GF, HY, WS], x: [1, 3, 2], is: rising}", "must rise"),
        ("{test: order, metric: val/loss, cells: [GF, HY], is: rising}", "at least 3"),
        ("{test: equivalence, metric: val/loss, a: GF, b: HY, margin: -1}", "greater than 0"),
        ("{test: compare, metric: val/loss, a: GF, b: HY, is: lower, code: 'exec()'}", "unknown key 'code'"),
    ],
)
def test_anything_else_is_refused_by_file_line_name_and_key(tmp_path: Path, predicate: str, words: str) -> None:
    message = refusal(tmp_path, predicate)
    assert words in message
    assert f"{tmp_path}/claims.yaml, line 7: C-1.predicate.0" in message


def test_the_line_is_that_of_the_key(tmp_path: Path) -> None:
    more = TEXT.replace("C-1", "C-2").replace("PREDICATE", COMPARE).replace("  study: study", "  studdy: study")
    assert "claims.yaml, line 12: C-2.studdy" in refusal(tmp_path, more=more)
    assert "Did you mean 'study'?" in refusal(tmp_path, more=more)


def test_a_claim_is_tested_or_says_why_not(tmp_path: Path) -> None:
    rest = "  title: t\n  sentence: s\n  source: x\n"
    assert "needs a study and a predicate" in refusal(tmp_path, more=f"C-2:\n{rest}")
    assert "leaves no study" in refusal(tmp_path, more=f"C-2:\n{rest}  study: study\n  not_testable: why\n")


def test_an_id_stands_in_one_file(tmp_path: Path) -> None:
    (tmp_path / "also.yaml").write_text(TEXT.replace("PREDICATE", COMPARE))
    assert "another file has a claim of this id" in refusal(tmp_path)


def test_a_claim_that_is_asked_again_is_one_there_is(tmp_path: Path) -> None:
    assert "C-1.again: unknown claim 'C-2'. Did you mean 'C-1'?" in refusal(tmp_path, more="  again: C-2\n")
    more = TEXT.replace("C-1", "C-2").replace("PREDICATE", COMPARE) + "  again: C-1\n  expected: opposite\n"
    again = load_claims(folder(tmp_path, more=more))["C-2"]
    assert (again.again, again.expected) == ("C-1", "opposite")
    assert "opposit" in refusal(tmp_path, more="  expected: opposit\n")


def test_what_is_expected_is_registered_and_what_is_asked_again_is_prose() -> None:
    own: dict[str, Any] = {"title": "t", "sentence": "s", "source": "x", "study": "study", "predicate": [PREDICATE]}
    sums = [Claim.model_validate(own | more).sha256 for more in ({}, {"again": "C-2"}, {"expected": "opposite"})]
    assert sums[0] == sums[1] != sums[2]


def test_an_unknown_arm_is_refused(tmp_path: Path) -> None:
    (tmp_path / "arms.yaml").write_text("wrapped: {title: t, study: study, cells: {GF: WS}}\n")
    assert "unknown arm 'wraped'. Did you mean 'wrapped'?" in refusal(tmp_path, more="  arms: [wraped]\n")


@pytest.mark.parametrize(
    ("predicate", "words"),
    [
        (COMPARE.replace("a: GF", "a: {variant: Gat, tokenizer: char}"), "no variant 'Gat'. Did you mean 'Gate'?"),
        (COMPARE, "2 cells of study fit 'GF'; say which by corpus, tokenizer"),
        (COMPARE.replace("a: GF", "a: {variant: GF, tokenizer: chr}"), "no tokenizer 'chr'. Did you mean 'char'?"),
        (COMPARE.replace("a: GF", "a: Gate"), "2 cells of study fit 'Gate'; say which by model.fusion.gate_init"),
        (COMPARE.replace("a: GF", "a: {variant: Gate, factors: {gate_init: 0.5}}"), "no cell Gate, gate_init=0.5"),
        (COMPARE.replace("a: GF", "a: {variant: Gate, factors: {gate_init: 0.3}}"), "has 2, not 5"),
    ],
)
def test_a_claim_about_cells_that_no_study_has_is_refused(tmp_path: Path, predicate: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check(load_claims(folder(tmp_path, predicate)), {}, {"study": PLAN})
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("  where: {corpus: d}\n", "C-1: where: study has no corpus 'd'. Allowed: c."),
        ("  where: {tokenizer: chars}\n", "C-1: where: study has no tokenizer 'chars'. Did you mean 'char'?"),
        ("  where: {factors: {gate: 0.3}}\n", "C-1: where: factors: study has no factor 'gate'. Did you mean 'gate_init'?"),
        ("  where: {factors: {gate_init: 0.4}}\n", "C-1: where: factors: study has no gate_init 0.4. Did you mean 0.3?"),
        ("  where: {factors: {nonsense: null}}\n", "C-1: where: factors: study has no factor 'nonsense'."),
    ],
)
def test_a_where_of_no_cell_is_refused_though_every_cell_says_its_own(tmp_path: Path, more: str, words: str) -> None:
    own = COMPARE.replace("a: GF", "a: {variant: GF, corpus: c, tokenizer: char}").replace(
        "b: HY", "b: {variant: HY, corpus: c, tokenizer: char}"
    )
    claims = load_claims(folder(tmp_path, own, more))
    for check_ in (check, check_planned):
        with pytest.raises(ConfigError) as caught:
            check_(claims, {}, {"study": PLAN})
        assert words in str(caught.value)
        assert str(caught.value).startswith(f"{tmp_path}/claims.yaml, line 8: ")


def test_before_the_runs_only_the_claims_about_them_are_checked_and_not_for_seeds(tmp_path: Path) -> None:
    few = COMPARE.replace("a: GF", "a: {variant: Gate, factors: {gate_init: 0.3}}").replace(
        "b: HY", "b: {variant: HY, tokenizer: char}"
    )
    claims = load_claims(folder(tmp_path, few))
    check_planned(claims, {}, {"study": PLAN})
    check_planned(load_claims(folder(tmp_path, few.replace("Gate", "Gat"))), {}, {"another": PLAN})
    with pytest.raises(ConfigError, match="no variant 'Gat'"):
        check_planned(load_claims(folder(tmp_path, few.replace("Gate", "Gat"))), {}, {"study": PLAN})


def test_an_arm_s_cell_that_no_claim_has_is_refused(tmp_path: Path) -> None:
    (tmp_path / "arms.yaml").write_text("raw: {title: t, study: study, cells: {GF: WS, HYY: WS, HY: WS}}\n")
    own = COMPARE.replace("a: GF", "a: {variant: GF, tokenizer: char}").replace("b: HY", "b: {variant: HY, tokenizer: char}")
    claims = load_claims(folder(tmp_path, own, "  arms: [raw]\n"))
    with pytest.raises(ConfigError, match="raw.cells: no claim under this arm has a cell 'HYY'. Did you mean 'HY'?"):
        check(claims, load_arms(tmp_path), {"study": PLAN})


def test_what_cannot_be_tested_has_no_settings_of_a_test(tmp_path: Path) -> None:
    rest = "  title: t\n  sentence: s\n  source: x\n  not_testable: why\n"
    assert "so family has nothing to say" in refusal(tmp_path, more=f"C-2:\n{rest}  family: f\n")


def test_an_id_that_cannot_be_a_file_s_name_is_refused(tmp_path: Path) -> None:
    text = (folder(tmp_path) / "claims.yaml").read_text()
    (tmp_path / "claims.yaml").write_text(text.replace("C-1", "a/b"))
    with pytest.raises(ConfigError, match="line 1: 'a/b' is not allowed. Allowed: a name of letters"):
        load_claims(tmp_path)


def test_a_study_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no study 'study'. Did you mean 'studies'"):
        check(load_claims(folder(tmp_path)), {}, {"studies": PLAN})


def claim(**changes: Any) -> Claim:
    document = {"title": "t", "sentence": "s", "source": "x", "study": "study", "predicate": [PREDICATE]}
    return Claim.model_validate({**document, **changes})


def test_what_is_claimed_is_hashed_and_prose_is_not() -> None:
    assert claim(title="u", note="n", source="y").sha256 == claim().sha256
    assert claim(alpha=0.05).sha256 == claim().sha256
    for changed in (
        {"alpha": 0.01},
        {"seeds": 3},
        {"family": "f"},
        {"sentence": "r"},
        {"predicate": [{**PREDICATE, "by": 0.1}]},
    ):
        assert claim(**changed).sha256 != claim().sha256
