"""What is said of a claim beside its verdict: what weakens it, and nothing that was not measured."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import records
from shared import COMMON, RATE, make, plan_of_rates, write_run

from gt.analysis.cautions import Cautions
from gt.analysis.verdicts import Row, judge, overview
from gt.report.claim_sections import claim_sections, claims_table, parts_table
from gt.report.claim_words import attribution, cautions, measured, reasons, surely, why
from gt.report.document import Terms, walk

# Of the records' known answers in characters, bits per byte: GPT-2 2.30, GF 2.18, WS 2.35; the seeds' offsets are small.
LOSS = {"test": "compare", "metric": "val/loss", "a": "GF", "b": ["GPT-2", "WS"], "is": "lower"}


# What is true of all these records: one rate, slices of 8,192 tokens, and as many parameters as a variant's name decides.
ALWAYS = re.compile("No tuning chose|.*: all seeds of .* 8,192 tokens|.* more parameters than")


@pytest.fixture
def plan(tmp_path: Path) -> dict[str, Any]:
    plan = records.plan(seeds=3, variants={"GPT-2": 0.0, "GF": 0.0, "WS": 0.0}, tokenizers=("char",))
    records.write_runs(plan, tmp_path / "runs", troubled=False)
    for run in plan["runs"]:
        lines = {"ngram/unigram": 4.4, "ngram/bigram": 2.33, "ngram/trigram": 2.25}
        records.edit_value(tmp_path / "runs" / run, **lines)
    return plan


def judged(root: Path, plan: dict[str, Any], *predicates: dict[str, Any], **more: Any) -> Row:
    """A claim of these predicates on the records in `root/runs`."""
    claims = root / "claims"
    claims.mkdir(exist_ok=True)
    claim = {**COMMON, "title": "It is so", "study": "synthetic", "predicate": predicates, **more}
    (claims / "claims.yaml").write_text(json.dumps({"C": claim}))
    folder = make(root, plan)
    judge(folder, claims)
    return overview(claims, [folder])[0]


def said(row: Row) -> list[str]:
    return [words for words in cautions(row.judgement or {}) if not ALWAYS.match(words)]


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
    terms = [block for block in walk([own for own in claim_sections([row], {}) if own]) if isinstance(block, Terms)]
    assert ("Worse than n-grams", " ".join(expected)) in [pair for own in terms for pair in own.pairs]
    table = claims_table([row])
    assert r"| supported \* |" in table.markdown()
    assert (table.rows[0]["verdict"], table.rows[0]["marks"]) == ("supported", "*")
    assert "worse than n-grams" in table.rows[0]["cautions"]


def test_what_was_counted_needs_no_training(tmp_path: Path, plan: dict[str, Any]) -> None:
    assert said(judged(tmp_path, plan, {**LOSS, "metric": "n_params"})) == []


def test_a_branch_that_does_nothing_is_named(tmp_path: Path, plan: dict[str, Any]) -> None:
    for run in plan["cells"][1]["runs"].values():
        measures = {
            f"ablation/share/{letter}": {"value": value, "layers": {}} for letter, value in (("r", 0.9998), ("m", 2e-4))
        }
        records.write_probes(tmp_path / "runs" / run, measures)
    row = judged(tmp_path, plan, {"test": "threshold", "metric": "ablation/share/r", "a": "GF", "above": 0.5})
    assert said(row) == ["GF's branch m (mamba2) does nothing: it has 0.02 % of what zeroing either branch costs."]


@pytest.mark.parametrize("letter", ["s", "q"])
def test_a_branch_is_known_by_whatever_letter_its_model_has(tmp_path: Path, plan: dict[str, Any], letter: str) -> None:
    odd = {"layers": f"r+{letter}", "mixers": {"r": {"name": "rwkv6"}, letter: {"name": "attention"}}}
    for run in plan["cells"][1]["runs"].values():
        plan["runs"][run]["model"] = {**plan["runs"][run]["model"], **odd}
    plan = records.identified(plan)
    records.write_runs(plan, tmp_path / "runs", troubled=False)
    for run in plan["cells"][1]["runs"].values():
        measures = {f"ablation/share/{own}": {"value": value, "layers": {}} for own, value in (("r", 0.9998), (letter, 2e-4))}
        records.write_probes(tmp_path / "runs" / run, measures)
    row = judged(tmp_path, plan, {"test": "threshold", "metric": "ablation/share/r", "a": "GF", "above": 0.5})
    assert said(row) == [f"GF's branch {letter} (attention) does nothing: it has 0.02 % of what zeroing either branch costs."]


def test_seeds_that_a_number_does_not_rest_on_are_named(tmp_path: Path, plan: dict[str, Any]) -> None:
    cell = plan["cells"][1]
    for seed in (3, 4):
        run = cell["runs"]["0"].replace(".s0-", f".s{seed}-")
        cell["runs"][str(seed)], plan["runs"][run] = run, {**plan["runs"][cell["runs"]["0"]], "seed": seed}
    plan = records.identified(plan)
    for seed in ("3", "4"):
        write_run(tmp_path / "runs", plan, plan["cells"][1], seed, "diverged")
    row = judged(tmp_path, plan, {"test": "threshold", "metric": "val/loss", "a": "GF", "below": 9.0}, diverged="excluded")
    assert row.verdict == "supported"
    assert said(row) == ["GF completed 3 of 5 seeds: 3 and 4 diverged."]
    assert "completed 3 of 5 seeds" in " ".join(why(row).split())


def test_a_difference_that_would_not_matter_is_said_to_be_one(tmp_path: Path, plan: dict[str, Any]) -> None:
    """GF is made 0.4 % worse than GPT-2 in every seed: that is decided, and less than contrasts call a difference."""
    other, cell = plan["cells"][0], plan["cells"][1]
    for seed, run in cell["runs"].items():
        theirs = records.value(tmp_path / "runs" / other["runs"][seed], "val/loss")
        records.edit_val(tmp_path / "runs" / run, loss=theirs * (1.004 + 1e-5 * int(seed)))
    row = judged(tmp_path, plan, {**LOSS, "b": "GPT-2", "is": "higher"})
    assert row.verdict == "supported"
    (words,) = [words for words in said(row) if "differ" in words]
    assert words == "GF and GPT-2 differ by 0.40 %, less than the 1 % that would matter."


def test_cells_that_other_code_trained_are_named_where_they_are_compared(tmp_path: Path, plan: dict[str, Any]) -> None:
    for run in plan["cells"][1]["runs"].values():
        file = tmp_path / "runs" / run / "manifest.json"
        records.edit(file, code={**json.loads(file.read_text())["code"], "training": "f" * 16})
    words = "2 versions of the code trained what is compared, GF by one, GPT-2 and WS by another."
    row = judged(tmp_path, plan, LOSS)
    assert said(row)[-1] == words
    assert "code versions" in claims_table([row]).rows[0]["cautions"]
    sections = [own for own in claim_sections([row], {}) if own]  # of which none says it again
    assert not any("versions" in str(pair) for block in walk(sections) for pair in getattr(block, "pairs", ()))
    alone = [{"test": "threshold", "metric": "val/loss", "a": name, "below": 9.0} for name in ("GF", "GPT-2")]
    assert not any("versions" in words for words in said(judged(tmp_path, plan, *alone)))


def test_speeds_on_a_device_that_other_runs_shared_are_not_judged(tmp_path: Path, plan: dict[str, Any]) -> None:
    faster = {"test": "compare", "metric": "tokens_per_second", "a": "GF", "is": "higher", "b": "WS"}
    for run in plan["cells"][1]["runs"].values():
        seconds = json.loads((tmp_path / "runs" / run / "manifest.json").read_text())["seconds"]
        records.edit_usage(tmp_path / "runs" / run, device_seconds=seconds / 2)
    assert judged(tmp_path, plan, LOSS).verdict == "supported"  # which is about no speed
    row = judged(tmp_path, plan, faster)
    assert (row.verdict, (row.judgement or {})["tests"]) == ("inconclusive", [])
    (why_not,) = reasons(row.judgement or {})
    assert why_not.startswith("No test: other runs were on the devices that the speeds of GF are of, or ")


@pytest.mark.parametrize(("low", "high", "side"), [(2.0, 2.1, ", above both"), (2.0, 2.6, ""), (2.5, 2.6, ", below both")])
def test_what_is_not_between_two_bounds_is_said_to_be_on_a_side(
    tmp_path: Path, plan: dict[str, Any], low: float, high: float, side: str
) -> None:
    interval = {"test": "interval", "metric": "val/bits_per_byte", "a": "GPT-2", "low": low, "high": high}
    row = judged(tmp_path, plan, interval)
    assert f"between {low:g} and {high:g}; measured 2.285" in reasons(row.judgement or {})[0]
    assert f"]{side}, 3 seeds." in reasons(row.judgement or {})[0]


@pytest.mark.parametrize("tokens", [256_000, 512_000])
def test_a_form_explains_a_failure_only_where_it_was_trained_as_long(tmp_path: Path, plan: dict[str, Any], tokens: int) -> None:
    """GF is not above GPT-2; in the other form, where WS stands for it, it is, in runs of 1,024 or 2,048 tokens a step."""
    batch = {"batch_size": 16 * tokens // 256_000}
    longer = {run: {**spec, "training": {**spec["training"], **batch}} for run, spec in plan["runs"].items()}
    other = records.identified({**plan, "study": "other", "runs": longer})
    records.write_runs(other, tmp_path / "other/runs", troubled=False)
    for run in other["runs"]:
        records.edit_value(tmp_path / "other/runs" / run, **{"ngram/trigram": 2.25})
    claims = tmp_path / "claims"
    claims.mkdir()
    claim = {
        **COMMON,
        "title": "t",
        "study": "synthetic",
        "predicate": [{**LOSS, "b": "GPT-2", "is": "higher"}],
        "arms": ["form"],
    }
    (claims / "claims.yaml").write_text(json.dumps({"C": claim}))
    arm = {"title": "WS in its place", "study": "other", "cells": {"GF": "WS", "GPT-2": "GPT-2"}}
    (claims / "arms.yaml").write_text(json.dumps({"form": arm}))
    folders = [make(tmp_path, plan), make(tmp_path / "other", other)]
    for folder in folders:
        judge(folder, claims)
    (row,) = overview(claims, folders)
    same = tokens == 256_000
    assert (row.verdict, row.arms["form"]["verdict"]) == ("opposite", "supported")
    assert (row.explained_by, row.confounded) == ((["form"], []) if same else ([], ["form"]))
    rather = "Holds under form, but in runs of 250 steps of 2,048 tokens, not 250 steps of 1,024 tokens: that may be why."
    said = "Fails with the mixers as published, and holds under form." if same else rather
    assert attribution(row).startswith(said)
    assert " Of form: WS (" in attribution(row)  # does not beat a trigram model
    assert said in " ".join(why(row).split())


@pytest.mark.parametrize(("best", "end"), [(0.001, "lowest"), (0.01, None), (0.1, "highest")])
def test_a_tuned_cell_at_the_end_of_what_was_tried_is_named(tmp_path: Path, best: float, end: str | None) -> None:
    plan = plan_of_rates((0.001, 0.01, 0.1))
    for cell in plan["cells"]:
        for seed in cell["runs"]:
            write_run(tmp_path / "runs", plan, cell, seed)
    (tuning,) = [cell for cell in plan["cells"] if cell["variant"] == "GF-tuning" and cell["factors"] == {RATE: best}]
    for run in tuning["runs"].values():
        records.edit_val(tmp_path / "runs" / run, loss=0.5)
    tuned = {"variant": "GF", "tuned_by": "GF-tuning"}
    row = judged(tmp_path, plan, {"test": "threshold", "metric": "val/loss", "a": tuned, "below": 9.0})
    words = f"GF (learning_rate={best}) has the {end} learning_rate of the 3 that were tried."
    assert [own for own in said(row) if "tried" in own] == ([words] if end else [])


def test_cells_at_the_same_end_share_a_sentence() -> None:
    edges = [{"cell": name, "setting": "learning_rate", "end": "highest", "tried": 3} for name in ("A", "B")]
    found: Any = {**{own.name: [] for own in fields(Cautions)}, "edges": edges}
    words = "A and B have the highest learning_rate of the 3 that were tried."
    assert cautions({"tests": [{}], "verdict": "supported", "otherwise": None, "mixers": {}, "cautions": found}) == [words]
    assert cautions({"tests": [], "cautions": found}) == []  # nothing was tested


@pytest.mark.parametrize(
    ("lower", "estimate", "upper", "shown"),
    [
        (0.8144, 0.8199, 0.8256, "0.8199 [0.8144, 0.8256]"),
        (2.151, 2.3449, 2.5388, "2.34 [2.15, 2.54]"),
        (234.04, 278.18, 322.32, "278 [234, 322]"),
        (-15580.0, -4699.0, 6178.0, "−4,700 [−15,600, 6,200]"),
        (-0.0002962, -0.0001858, -0.0000753, "−0.000186 [−0.000296, −7.53e−05]"),
        (18371.0, 18588.0, 18805.0, "18,588 [18,371, 18,805]"),
        (-2.0e6, 1.0e6, 4.0e6, "1e+06 [−2e+06, 4e+06]"),
        (-0.112, -0.0004, 0.111, "0.00 [−0.11, 0.11]"),
        (1.19713, 1.19713, 1.19713, "1.197"),
        (None, 2.0, None, "2"),
    ],
)
def test_an_estimate_has_the_digits_that_its_interval_supports(
    lower: float | None, estimate: float, upper: float | None, shown: str
) -> None:
    assert measured({"estimate": estimate, "lower": lower, "upper": upper}) == shown


def judgement(*tests: dict[str, Any], **more: Any) -> dict[str, Any]:
    """An inconclusive judgement of the family `f`, whose smaller p speaks for the claim."""
    own = {
        "words": "a < b",
        "n": 5,
        "scale": "value",
        "estimate": 0.1,
        "lower": -0.1,
        "upper": 0.3,
        "needed": 40,
        "outside": "",
        "names": [],
        "parts": [],
        "part": 0,
        "joined": "",
        "note": "",
    }
    made = [{**own, "detectable": 0.3, **test} for test in tests]
    shown = {"p": 0.2, "p_adjusted": 0.4, "leaning": "for", "family": "f", "verdict": "inconclusive", "alpha": 0.05}
    rest = {"missing": [], "reason": "", "exploratory": None, "p_equivalent_adjusted": None, "p_opposite_adjusted": None}
    kept = {
        "planned": True,
        "stopped": None,
        "deviations": [],
        "otherwise": None,
        "decides": 0,
        "margin": 0.01,
        "has_margin": True,
        "repeated": [],
    }
    return {"tests": made, **shown, **rest, **kept, **more}


def test_a_claim_that_is_looked_at_says_where_it_stopped() -> None:
    (said,) = [line for line in reasons(judgement({}, stopped="decided", seeds=5)) if "looked at" in line]
    assert said == (
        "It was looked at after 5 seeds, where it was decided; p values and intervals hold for whichever look it stops at."
    )
    assert not any("looked at" in line for line in reasons(judgement({})))


def test_a_p_of_one_speaks_for_neither_side() -> None:
    assert "p = 0.200 for the claim; Shaffer in the family f: p = 0.400." in reasons(judgement({}))
    assert "p = 0.200 for the claim; Holm in the family f: p = 0.400." in reasons(judgement({}, has_margin=False))
    assert (surely(judgement(p=0.2)), surely(judgement(p=1.0)), surely(judgement(p=None))) == (" (p = 0.200)", "", "")
    (said,) = [line for line in reasons(judgement({}, p=1.0, p_adjusted=1.0)) if "measured" not in line]
    assert said == "No test decides: neither that the claim holds nor that it does not has a p below 1."


def test_the_power_is_told_of_what_is_not_settled() -> None:
    few = "seeds would decide it"
    open_, settled, still = reasons(judgement({}, {"needed": 3}, {"needed": 2, "detectable": 0.0}))[:3]
    assert open_.endswith(
        f"They see a distance of 0.3 from the bound with a power of 80 %; were the truth as estimated, 40 {few}."
    )
    assert few not in settled + still
    assert not any(few in line for line in reasons(judgement({}, verdict="opposite", leaning="against")))
    assert all("no number of seeds up to 1,000 would" in reasons(judgement({"needed": n}))[0] for n in (None, 1001))
    assert "distance of 382 %" in reasons(judgement({"scale": "ratio", "detectable": 3.82}))[0]


def test_what_is_the_same_in_every_seed_is_said_to_be() -> None:
    assert "measured 0 in each of 5 seeds." in reasons(judgement({"estimate": 0.0, "lower": 0.0, "upper": 0.0}))[0]
    assert "measured 0.10 [−0.10, 0.30], 5 seeds." in reasons(judgement({}))[0]


@pytest.mark.parametrize(
    ("scale", "others", "said"),
    [
        ("value", [], ""),
        ("value", [[-1.0, -3.0]], " (beside it b, measured −2)"),
        ("ratio", [[0.5, 2.0], [4.0, 4.0]], " (beside it b, measured 1 and c, measured 4)"),
        ("value", [[1.0], [2.0], [-3.0], [4.0]], " (the 4 others measured −3 to 4)"),
    ],
)
def test_what_is_joined_with_a_comparison_stands_beside_it(scale: str, others: list[list[float]], said: str) -> None:
    parts = [dict(enumerate(values)) for values in ([9.0, 9.0], *others)]
    (line, *_) = reasons(judgement({"scale": scale, "names": list("abcdef"[: len(parts)]), "parts": parts}))
    assert f"5 seeds{said}. They see" in line


def test_a_sure_difference_that_is_too_small_to_matter_is_said_to_be() -> None:
    within = "All the same it is too small to matter: the interval lies within its margin, p = 0.010, adjusted."
    assert within in reasons(judgement({}, verdict="supported", p_equivalent_adjusted=0.01))
    assert not any("matter" in line for line in reasons(judgement({}, verdict="supported", p_equivalent_adjusted=1.0)))
    assert "That the difference does not matter: p = 0.010, adjusted." in reasons(
        judgement({}, verdict="equivalent", p_equivalent_adjusted=0.01)
    )


def test_the_parts_of_a_claim_are_a_table_of_what_was_asked_and_measured(tmp_path: Path, plan: dict[str, Any]) -> None:
    """GF is below GPT-2 and WS, as the first part says; the second, that WS is below GPT-2, is not so and decides."""
    row = judged(tmp_path, plan, LOSS, {**LOSS, "a": "WS", "b": "GPT-2"})
    own = judgement_of(row)
    table = parts_table(row)
    assert [line["part"] for line in table.rows] == ["1a", "1b", "2, decides"]
    loss = "Held-out loss in nats per token"
    assert [line["words"] for line in table.rows] == [f"{loss}: {pair} < 0" for pair in ("GF − GPT-2", "GF − WS", "WS − GPT-2")]
    assert [line["as_claimed"] for line in table.rows] == ["yes", "yes", "no"]
    assert [line["p"] and line["p"].split()[-1] for line in table.rows].count(
        None
    ) == 1  # of the comparison that does not decide
    assert table.rows[2]["measured"] == measured(own["tests"][1])
    differences = [
        [records.value(tmp_path / "runs" / run, "val/loss") for run in cell["runs"].values()] for cell in plan["cells"]
    ]
    mean = sum(a - b for a, b in zip(differences[1], differences[2], strict=True)) / 3
    beside = next(line for line in table.rows if line["words"].endswith("GF − WS < 0"))
    assert float(beside["measured"].split(" [")[0].replace("−", "-")) == pytest.approx(mean, abs=0.01)
    assert not any("(" in line["words"] for line in table.rows)


def judgement_of(row: Row) -> dict[str, Any]:
    assert row.judgement is not None
    return row.judgement
