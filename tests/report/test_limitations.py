"""What studies cannot say: rates that were not tuned, claims that share runs, claims with weak cells."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import records
from shared import COMMON, RATE, make, plan_of_rates, write_claims, write_run, written

from gt.analysis.verdicts import judge, overview
from gt.report.claim_sections import cautions_table, claims_table
from gt.report.limitations import dependence, limitations
from gt.report.numbers import load


def test_claims_that_share_runs_are_counted_by_the_runs_whatever_their_names(tmp_path: Path) -> None:
    """Two claims of one study read GF and GPT-2; one of another reads the same runs of GF, which it calls HGF."""
    first = written(tmp_path)
    gf = next(cell for cell in first["cells"] if cell["variant"] == "GF")
    cells = [{**gf, "variant": "HGF", "id": "HGF.embedded.char"}]
    runs = {run: first["runs"][run] for run in gf["runs"].values()}
    second = {**first, "study": "two", "baseline": "HGF", "cells": cells, "runs": runs}
    folders = [make(tmp_path / plan["study"], plan, tmp_path / "runs") for plan in (first, second)]
    compare = {"test": "compare", "metric": "val/loss", "a": "GF", "b": "GPT-2", "is": "lower"}
    alone = {"test": "threshold", "metric": "val/loss", "a": "HGF", "below": 9.0}
    of = {"A": ("one", compare), "B": ("one", compare | {"is": "higher"}), "C": ("two", alone)}
    common = {**COMMON, "title": "t", "seeds": 2}
    claims = tmp_path / "claims"
    claims.mkdir()
    documents = {name: {**common, "study": study, "predicate": [own]} for name, (study, own) in of.items()}
    (claims / "claims.yaml").write_text(json.dumps(documents))
    for folder in folders:
        judge(folder, claims)
    studies, rows = [load(folder) for folder in folders], overview(claims, folders)
    said = dependence(studies, rows)
    assert "Of 3 tested claims, 3 read GF on embedded, char and 2 read GPT-2 on embedded, char: " in said
    assert "within 2 families of up to 2 claims" in said
    assert said in limitations(studies, rows)
    assert dependence(studies, rows[2:]) == ""
    as_read = "2 read GF on embedded, char and 2 read GPT-2 on embedded, char: "  # of as many, the one that is read first
    assert as_read in dependence(studies, rows[:2])


def test_claims_with_reason_for_care_are_counted_by_the_reason(tmp_path: Path) -> None:
    plan = written(tmp_path, "synthetic", tokenizers=("bpe1024",))
    for run in plan["cells"][0]["runs"].values():  # GPT-2, which all three claims read
        records.edit_value(tmp_path / "runs" / run, **{"ngram/trigram": 1.0})
    folder, claims = make(tmp_path, plan), write_claims(tmp_path / "claims", seeds=2)
    judge(folder, claims)
    rows = overview(claims, [folder])
    table = cautions_table(rows)
    counts = {row["name"]: row["claims"] for row in table.rows}
    assert counts == {"worse than n-grams": 3, "rate not tuned": 3, "sizes differ": 3, "few tokens": 3}
    assert "of 3 tested claims" in table.caption
    listed = [row["cautions"].split("; ") for row in claims_table(rows).rows if row["cautions"]]
    assert counts == Counter(name for names in listed for name in names)


def test_that_other_rates_are_better_than_the_one_of_all_is_counted(tmp_path: Path) -> None:
    """All train at 0.003. GPT-2 is best there, GF at 0.01, WS at 0.001; GF's tuning cells are GF once more."""
    fixed, plan = written(tmp_path), {**plan_of_rates((0.001, 0.003, 0.01)), "study": "rates"}
    best = {"GPT-2": 0.003, "GF": 0.01, "WS": 0.001}
    for cell in plan["cells"]:
        variant, rate = cell["variant"].removesuffix("-tuning"), cell["factors"][RATE]
        for seed in cell["runs"]:
            run = write_run(tmp_path / "runs", plan, cell, seed)
            if rate == best[variant]:
                records.edit_val(run, bits_per_byte=0.5)
    studies = [load(make(tmp_path / own["study"], own, tmp_path / "runs")) for own in (fixed, plan)]
    said = " ".join(limitations(studies, []))
    assert "No learning rate was tuned in one: " in said
    assert "Where the rate of the studies that tune none, 0.003, was tried beside others, " in said
    assert "a higher one has the lowest loss in 1 of 3 cases" in said
    assert "and the highest that was tried in 1." in said
    assert "tried" not in " ".join(limitations(studies[:1], []))
