"""What is said of a claim beside its verdict: what weakens it, and nothing that was not measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import records
from shared import COMMON, make

from gt.analysis.verdicts import Row, judge, overview
from gt.report.claim_sections import claim_sections
from gt.report.claims import cautions, why
from gt.report.document import Terms, walk

# Of the records' known answers in characters, bits per byte: GPT-2 2.30, GF 2.18, WS 2.35; the seeds' offsets are small.
LOSS = {"test": "compare", "metric": "val/loss", "a": "GF", "b": ["GPT-2", "WS"], "is": "lower"}


@pytest.fixture
def plan(tmp_path: Path) -> dict[str, Any]:
    plan = records.plan(seeds=3, variants={"GPT-2": 0.0, "GF": 0.0, "WS": 0.0}, tokenizers=("char",))
    records.write_runs(plan, tmp_path / "runs", troubled=False)
    for run in plan["runs"]:
        bits = {"unigram": 4.4, "bigram": 2.33, "trigram": 2.25}
        lines = {order: {"loss": 1.0, "bits_per_byte": value} for order, value in bits.items()}
        records.edit(tmp_path / "runs" / run / "evaluation.json", ngram=lines)
    return plan


def judged(root: Path, plan: dict[str, Any], *predicates: dict[str, Any]) -> Row:
    """A claim of these predicates on the records in `root/runs`."""
    claims = root / "claims"
    claims.mkdir(exist_ok=True)
    claim = {**COMMON, "title": "It is so", "study": "synthetic", "predicate": predicates}
    (claims / "claims.yaml").write_text(json.dumps({"C": claim}))
    folder = make(root, plan)
    judge(folder, claims)
    return overview(claims, [folder])[0]


def said(row: Row) -> list[str]:
    return cautions(row.judgement or {})


def test_cells_that_do_not_beat_an_n_gram_model_are_named_with_the_numbers(tmp_path: Path, plan: dict[str, Any]) -> None:
    row = judged(tmp_path, plan, LOSS)
    mean = {name: sum(records.bits_per_byte(name, "char", seed) for seed in range(3)) / 3 for name in ("GPT-2", "WS")}
    expected = [
        f"GPT-2 ({mean['GPT-2']:.3f}) does not beat a trigram model of embedded, char (2.250 bits per byte).",
        f"WS ({mean['WS']:.3f}) does not beat a bigram model of embedded, char (2.330 bits per byte).",
    ]
    assert row.verdict == "supported"
    assert said(row) == expected
    assert " ".join(why(row).split()).count("does not beat") == 2
    (terms,) = [block for block in walk([own for own in claim_sections([row], {}) if own]) if isinstance(block, Terms)]
    assert dict(terms.pairs)["Read with care"] == " ".join(expected)


def test_what_was_counted_needs_no_training(tmp_path: Path, plan: dict[str, Any]) -> None:
    assert said(judged(tmp_path, plan, {**LOSS, "metric": "n_params"})) == []


def test_a_branch_that_does_nothing_is_named(tmp_path: Path, plan: dict[str, Any]) -> None:
    for run in plan["cells"][1]["runs"].values():
        measures = {
            f"ablation/share/{letter}": {"value": value, "layers": {}} for letter, value in (("r", 0.9998), ("m", 2e-4))
        }
        records.write(tmp_path / "runs" / run / "probes.json", {"run_id": run, "measures": measures})
    row = judged(tmp_path, plan, {"test": "threshold", "metric": "ablation/share/r", "a": "GF", "above": 0.5})
    assert said(row) == ["GF's Mamba branch does nothing: it has 0.02 % of what zeroing either branch costs."]


def test_cells_that_other_code_trained_are_named_where_they_are_compared(tmp_path: Path, plan: dict[str, Any]) -> None:
    for run in plan["cells"][1]["runs"].values():
        file = tmp_path / "runs" / run / "manifest.json"
        records.edit(file, code={**json.loads(file.read_text())["code"], "training": "f" * 16})
    words = "2 versions of the code trained what is compared, GF by one, GPT-2 and WS by another: "
    assert said(judged(tmp_path, plan, LOSS))[-1].startswith(words)
    alone = [{"test": "threshold", "metric": "val/loss", "a": name, "below": 9.0} for name in ("GF", "GPT-2")]
    assert not any("versions" in words for words in said(judged(tmp_path, plan, *alone)))
