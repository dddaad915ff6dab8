"""Counts over several studies: of runs that studies share, of their records, of contrasts and of claims."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import records
from shared import COMMON, make, write_claims, written

from gt.analysis.claims import load_claims
from gt.analysis.verdicts import judge, overview
from gt.report import checklist
from gt.report.census import census, trained_twice
from gt.report.claim_sections import cautions_table
from gt.report.claim_words import cautions
from gt.report.limitations import limitations
from gt.report.numbers import Results, load
from gt.report.rounding import rounding
from gt.report.supplement import contrasts

Json = dict[str, Any]
TWO = {"GPT-2": 0.0, "GF": -0.12}


def again(plan: Json, runs: Path, name: str, variants: tuple[str, ...] = ("GPT-2",), **manifest: Any) -> Json:
    """A study of some of a plan's cells whose runs were trained again: other records of the same runs, in a folder apart."""
    cells = [cell for cell in plan["cells"] if cell["variant"] in variants]
    ids = [run for cell in cells for run in cell["runs"].values()]
    own = {**plan, "study": name, "cells": cells, "runs": {run: plan["runs"][run] for run in ids}}
    records.write_runs(own, runs, troubled=False)
    for run in ids:
        later = {"started": "2026-09-28T10:00:00+00:00", "finished": "2026-09-28T10:00:30+00:00"}
        records.edit(runs / run / "manifest.json", **later, **manifest)
    return own


def shift(runs: Path, ids: list[str], by: float) -> None:
    """Add to the held-out bits per byte of runs."""
    for run in ids:
        records.shift(runs / run, by)


@pytest.fixture
def twice(tmp_path: Path) -> list[Results]:
    """Two studies that share GPT-2's two runs, which the second has trained for itself, on another device."""
    first = written(tmp_path, variants=TWO)
    second = again(first, tmp_path / "other", "two", device="cuda (Test GPU)")
    shift(tmp_path / "other", list(second["runs"]), 0.01)
    return [
        load(make(tmp_path / plan["study"], plan, runs))
        for plan, runs in ((first, tmp_path / "runs"), (second, tmp_path / "other"))
    ]


def test_a_run_that_two_studies_trained_is_one_run_with_two_records(twice: list[Results]) -> None:
    found = census(twice)
    assert (found.planned, found.completed, len(found.records), len(found.repeated)) == (4, 4, 6, 2)
    assert found.completion == "4 of 4 planned runs have completed."
    assert checklist.warnings(twice) == ["2 records were made on another device than most, in `two`."]
    answers = {row["question"]: row["evidence"] for row in checklist.table(twice, []).rows}
    assert answers["The hardware is recorded"] == "6 of 6 records name its device"
    assert answers["Every planned run has a result"] == "4 of 4 runs have one"
    assert "2 runs were trained more than once" in " ".join(limitations(twice, []))


def test_two_means_of_one_cell_are_said_to_be_of_two_trainings(twice: list[Results]) -> None:
    said = trained_twice(twice)
    first, second = (own.cell_rows_in_order[0]["mean"] for own in twice)
    assert second == pytest.approx(first + 0.01)
    assert f"GPT-2 on embedded, char is {first:.4f} in `one` and {second:.4f} in `two`." in said
    assert "2 runs have records of more than one training, so there are 6 records" in said
    assert said in checklist.deviations(twice)
    assert trained_twice(twice[:1]) == ""


def test_of_contrasts_that_were_trained_twice_rounding_is_set_beside_seeds(tmp_path: Path) -> None:
    """GF's two runs come out 0.004 higher and 0.002 lower the second time: a variance of 5e-6 within a seed on average."""
    first = written(tmp_path, variants=TWO)
    second = again(first, tmp_path / "other", "two", tuple(TWO))
    runs = [run for cell in first["cells"] if cell["variant"] == "GF" for run in cell["runs"].values()]
    for run, by in zip(runs, (0.004, -0.002), strict=True):
        shift(tmp_path / "other", [run], by)
    folders = ((first, tmp_path / "runs"), (second, tmp_path / "other"))
    studies = [load(make(tmp_path / plan["study"], plan, folder)) for plan, folder in folders]
    difference = [records.bits_per_byte("GF", "char", seed) - records.bits_per_byte("GPT-2", "char", seed) for seed in (0, 1)]
    between = abs(difference[0] + 0.002 - (difference[1] - 0.001)) / 2**0.5
    said = (
        "Over 1 contrast whose runs were trained twice, the standard deviation is 0.0022 bits per byte within a seed, by "
        f"rounding alone, and {between:.2g} between seeds, each the mean of its two."
    )
    assert rounding(studies) == said
    assert rounding(studies[:1]) == rounding([studies[0], studies[0]]) == ""
    assert any(said in words for words in limitations(studies, []))


def test_what_was_trained_twice_was_paid_twice_and_what_is_shared_once(twice: list[Results]) -> None:
    seconds = sum(float(own.runs["device_seconds"].sum()) for own in twice)
    assert f": ${2 * seconds / 3600:,.2f} at $2 an hour." in checklist.compute(twice)
    assert checklist.compute([twice[0], twice[0]]) == checklist.compute(twice[:1])


def test_a_run_is_as_far_as_the_study_where_it_came_furthest(tmp_path: Path) -> None:
    """The second study has lost the records of the runs that it shares, and one of the first was not evaluated."""
    first = written(tmp_path, variants=TWO)
    shutil.rmtree(tmp_path / "runs" / list(first["runs"])[-1] / "evaluations")
    second = {**first, "study": "two"}
    studies = [load(make(tmp_path / "a", first, tmp_path / "runs")), load(make(tmp_path / "b", second, tmp_path / "nowhere"))]
    found = census(studies)
    assert found.completion == "3 of 4 planned runs have completed; 1 missing (1 of these trained and not evaluated)."
    assert (found.trained_only, len(found.records), found.repeated) == (1, 4, [])


def test_studies_that_judge_no_claim_are_no_judges(tmp_path: Path) -> None:
    first = written(tmp_path, "synthetic", tokenizers=("bpe1024",))
    second = {**first, "study": "two"}
    claims = write_claims(tmp_path / "claims", seeds=2)
    folders = [make(tmp_path / plan["study"], plan, tmp_path / "runs") for plan in (first, second)]
    for folder in folders:
        judge(folder, claims)
    rows = overview(claims, folders)
    found = census([load(folder) for folder in folders], rows)
    assert (found.studies, found.judging, found.claims, found.tested) == (2, 1, 4, 3)


def test_contrasts_are_all_that_are_planned(tmp_path: Path) -> None:
    """Of the baseline's two seeds: GF is decided on both, WS has one that is left, HY none."""
    plan = written(tmp_path, variants={**TWO, "WS": 0.05, "HY": 0.0})
    for cell in plan["cells"]:
        for seed, run in cell["runs"].items():
            if cell["variant"] == "HY" or (cell["variant"], seed) == ("WS", "1"):
                (tmp_path / "runs" / run / "manifest.json").unlink()
    study = load(make(tmp_path, plan))
    found = census([study])
    assert (found.contrasts, found.decided, found.on_two, found.unpaired) == (3, 1, 1, 1)
    assert contrasts([study]).endswith("1 of 3 contrasts is decided, 1 of them on two pairs; 1 has no pair of seeds.")
    (panel,) = study.panels
    assert panel.counted == (
        "Of 3 contrasts with GPT-2, 1 is decided (1 better); 1 cannot be decided with the seeds there are; 1 has no pair of "
        "seeds. 1 of the decided rests on two pairs. Runs did not complete: fewer seeds speak for WS (1 of 2 pairs)."
    )
    assert "1 of 1 decided contrast rests on two pairs" in " ".join(limitations([study], []))


def enter(folder: Path, *registrations: tuple[str, str, str]) -> None:
    """A chain of registrations: claim, sum and time."""
    previous, lines = "0" * 64, []
    for number, (claim, sha256, time) in enumerate(registrations, 1):
        own = {"number": number, "claim": claim, "sha256": sha256, "time": time, "commit": None, "previous": previous}
        previous = hashlib.sha256(json.dumps(own, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
        lines.append(json.dumps({**own, "hash": previous}) + "\n")
    (folder / "registered.jsonl").write_text("".join(lines))


def test_a_claim_is_no_older_than_the_first_record_of_its_runs_in_any_study(tmp_path: Path) -> None:
    """The study that judges trained its runs after the claims were entered; another has older records of the same runs."""
    first = written(tmp_path, "old", variants=TWO)
    second = again(first, tmp_path / "other", "synthetic", ("GPT-2", "GF"))
    claims = tmp_path / "claims"
    claims.mkdir()
    below = {**COMMON, "title": "t", "study": "synthetic", "seeds": 2}
    predicates = {
        name: [{"test": "threshold", "metric": "val/loss", "a": "GF", "below": bound}] for name, bound in (("A", 9), ("B", 8))
    }
    (claims / "claims.yaml").write_text(json.dumps({name: {**below, "predicate": own} for name, own in predicates.items()}))
    known = {name: claim.sha256 for name, claim in load_claims(claims).items()}
    enter(
        claims,
        ("B", "f" * 64, "2026-09-20T10:00:00+00:00"),
        ("A", known["A"], "2026-09-25T10:00:00+00:00"),
        ("B", known["B"], "2026-09-25T12:00:00+00:00"),
    )
    folders = [make(tmp_path / "a", first, tmp_path / "runs"), make(tmp_path / "b", second, tmp_path / "other")]
    judge(folders[1], claims)
    studies, rows = [load(folder) for folder in folders], overview(claims, folders)
    question = "Claims stood as they are before the runs"

    def said(*own: Results) -> tuple[str, str]:
        return next((row["answer"], row["evidence"]) for row in checklist.table(own, rows).rows if row["question"] == question)

    later = "; 1 claim was edited and entered again after the first run of all was begun, be it one that others read"
    assert said(studies[1]) == ("yes", "2 of 2 verdicts, by the records here")
    assert said(*studies) == ("no", f"0 of 2 verdicts, by the records here{later}")
    assert [row.judgement["cautions"]["edited"] for row in rows if row.judgement] == [
        [],
        ["2026-09-20T10:00:00+00:00", "2026-09-25T12:00:00+00:00"],
    ]
    assert {row["name"]: row["claims"] for row in cautions_table(rows).rows}["edited"] == 1
    edited = "It was registered on 2026-09-20 10:00 and 2026-09-25 12:00, before its own runs; others may have"
    assert any(words.startswith(edited) for words in cautions(rows[1].judgement or {}))
