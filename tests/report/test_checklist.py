"""How sound studies are, over all their runs: deviations, costs, and the checklist."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import records
from shared import COMMON, make, write_claims, written

from gt.analysis.verdicts import judge, overview
from gt.report import checklist
from gt.report.claim_sections import counted
from gt.report.numbers import Results, load


def answers(*studies: Results) -> dict[str, tuple[str, str]]:
    return {row["question"]: (row["answer"], row["evidence"]) for row in checklist.table(studies, []).rows}


def test_deviations_are_said(study: Path) -> None:
    found = " ".join(checklist.deviations([load(study)]))
    lost = "HY.embedded.char (1 of 3, 1 failed, 1 missing) and WS.embedded.char (2 of 3, 1 diverged)"
    assert f"2 cells are judged with fewer seeds than planned: {lost}." in found
    text = (study / "report.md").read_text()
    assert "33 of 36 planned runs have completed; 1 diverged, 1 failed and 1 missing" in text


def test_kernels_are_a_phrase(tmp_path: Path) -> None:
    plan = written(tmp_path, variants={"GPT-2": 0.0, "GF": -0.12})
    first, second, *_ = plan["runs"]
    records.edit(tmp_path / "runs" / first / "manifest.json", backend={})  # attention alone, which no kernel of ours serves
    records.edit(tmp_path / "runs" / second / "manifest.json", backend={"ssd 64x64": "chunks", "wkv6 32x32": "chunks"})
    rows = {row["what"]: row["value"] for row in checklist.environment_table([load(make(tmp_path, plan))]).rows}
    assert rows["Kernels"] == "chunks for ssd 64x64 (1 run) and wkv6 32x32 (1 run); chunked for wkv6 32x32 (2 runs)"


def test_the_checklist_is_filled_in_from_the_manifests(study: Path, tmp_path: Path) -> None:
    before = answers(load(study))
    assert before["A commit holds the code"][0] == "yes"
    assert before["Energy is recorded"][0] == "no"
    assert before["Every planned run has a result"][0] == "partly"
    assert before["Failures are reported"] == ("yes", "1 diverged, 1 failed and 1 missing, under Coverage")
    plan = written(tmp_path, "one")
    run = tmp_path / "runs" / next(iter(plan["runs"]))
    records.edit(run / "manifest.json", modified=["gt/spec.py"], data_sha256="0" * 64)
    records.edit_usage(run, energy_joules=7.2e6)
    after = answers(load(make(tmp_path, plan)))
    n = len(plan["runs"])
    assert after["A commit holds the code"] == ("partly", f"{n - 1} of {n} runs are of a commit without changes after it")
    assert after["Energy is recorded"] == ("partly", f"1 of {n} runs has it")
    assert after["Runs on the same text saw the same data"][0] == "partly"
    assert after["Every planned run has a result"][0] == "yes"
    assert after["All runs were trained by the same code"] == ("yes", f"{n} of {n} runs are of one version")


def test_a_claim_that_waits_for_seeds_has_no_verdict_to_count(tmp_path: Path) -> None:
    plan = written(tmp_path, "synthetic", tokenizers=("bpe1024",))
    folder, claims = make(tmp_path, plan), write_claims(tmp_path / "claims", seeds=2)
    waits = {**COMMON, "title": "It waits", "study": "synthetic", "seeds": 3}
    waits["predicate"] = [{"test": "compare", "metric": "val/loss", "a": "GF", "b": "GPT-2", "is": "lower"}]
    (claims / "more.yaml").write_text(json.dumps({"C-5": waits}))
    judge(folder, claims)
    rows = overview(claims, [folder])
    assert [row.id for row in rows if row.tested] == ["C-1", "C-2", "C-3"]
    (row,) = [row for row in checklist.table([load(folder)], rows).rows if "Claims" in row["question"]]
    assert (row["answer"], row["evidence"]) == ("no", "0 of 3 verdicts, by the records here")
    assert "3 verdicts are exploratory" in counted(rows)


def test_runs_are_compared_over_all_studies_and_counted_once(tmp_path: Path) -> None:
    """Either study is of one version by itself. The second has two runs of the first as well."""
    first, second = written(tmp_path), written(tmp_path, "two", variants={"GPT-2": 0.0, "GF": 0.0}, tokenizers=("bpe1024",))
    own = list(second["runs"])
    code = json.loads((tmp_path / "runs" / own[0] / "manifest.json").read_text())["code"]
    code |= {"models": "f" * 16, "ops": "f" * 16}
    for run in own:
        records.edit(tmp_path / "runs" / run / "manifest.json", code=code, modified=["gt/spec.py"])
    second["cells"].append(first["cells"][0])
    second["runs"] |= {run: first["runs"][run] for run in first["cells"][0]["runs"].values()}
    studies = [load(make(tmp_path / plan["study"], plan, tmp_path / "runs")) for plan in (first, second)]
    same = "All runs were trained by the same code"
    assert answers(*studies)[same] == ("no", "2 versions trained 12 and 4 of 16 runs")
    assert answers(studies[0])[same] == ("yes", "12 of 12 runs are of one version")
    assert checklist.warnings(studies) == [
        "4 runs were trained by another version of the code than most, in `two`.",
        "4 runs were made from a working tree with uncommitted changes, in `two`.",
    ]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"code": {"ops": "f" * 16}}, "1 run was trained by another version of the code than most."),
        ({"versions": {"torch": "1.0"}}, "1 run was made with another version of torch than most."),
        ({"device": "abacus"}, "1 run was made on another device than most."),
        ({"data_sha256": "0" * 64}, "1 run was trained on other data than most of embedded, char."),
        ({"modified": ["gt/spec.py"]}, "1 run was made from a working tree with uncommitted changes."),
    ],
)
def test_a_warning_says_what_differs(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    plan = written(tmp_path)
    records.edit(tmp_path / "runs" / list(plan["runs"])[-1] / "manifest.json", **changes)
    assert checklist.warnings([load(make(tmp_path, plan))]) == [said]


def test_compute_is_summed_over_the_manifests_and_shared_devices_are_shared(tmp_path: Path) -> None:
    plan = written(tmp_path, variants={"GPT-2": 0.0})  # each of 250 steps of 1,024 tokens
    for run in plan["runs"]:
        records.edit(tmp_path / "runs" / run / "manifest.json", flops_per_token=10**6, seconds=7200.0, stacked=2)
        records.edit_usage(tmp_path / "runs" / run, device_seconds=3600.0, energy_joules=1.8e6)
    words = checklist.compute([load(make(tmp_path, plan))])
    assert "512,000 tokens and 1.54e+12 FLOPs" in words
    # two runs of two hours, side by side
    assert "2 runs of 2 took 2 h 00 min of devices, of which runs that shared one have their shares" in words
    assert "shares: $4.00 at $2 an hour." in words
    assert "The devices drew 1.00 kWh for the 2 runs of which that is known." in words


def test_a_damaged_record_is_among_what_did_not_complete_with_what_is_wrong(tmp_path: Path) -> None:
    plan = records.plan(seeds=2, variants={"GPT-2": 0.0, "GF": 0.0}, tokenizers=("char",))
    records.write_runs(plan, tmp_path / "runs")
    records.edit(tmp_path / "runs" / list(plan["runs"])[-1] / "manifest.json", seconds="long")
    table = checklist.incomplete_table(load(make(tmp_path, plan)))
    assert table.caption == "Runs that diverged or failed, or whose record is damaged, and why."
    (row,) = table.rows
    assert (row["label"], row["seed"], row["status"]) == ("GF", 1, "missing")
    assert row["reason"].startswith("its record is damaged: manifest.json: seconds: ")
