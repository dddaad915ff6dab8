"""Studies of which little or nothing is there: every command ends, and the report says what became of them."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import records
from shared import TEMPLATES, write_claims

from gt.cli import main

Json = dict[str, Any]
VARIANTS = {"GPT-2": 0.0, "GF": -0.12, "WS": 0.05, "HY": 0.0, "GF-MH": -0.12}


def plan(seeds: int = 3, variants: dict[str, float] = VARIANTS) -> Json:
    return records.plan(seeds=seeds, variants=variants, tokenizers=("bpe1024",))


def each(status: str | None) -> Callable[[Json, Path], None]:
    """Records of all runs with this status; None: not run."""

    def write(study: Json, runs: Path) -> None:
        runs.mkdir()
        for cell in study["cells"]:
            for seed, run in cell["runs"].items():
                if status == "failed":
                    records.write_failure(runs / run, "OutOfMemoryError")
                elif status == "trained":
                    records.write_run(runs / run, run, cell, int(seed), study["runs"][run])
                    shutil.rmtree(runs / run / "evaluations")
                elif status is not None:
                    records.write_run(runs / run, run, cell, int(seed), study["runs"][run], status)

    return write


def first_alone(study: Json, runs: Path) -> None:
    """The first run of the baseline, and no other."""
    cell = study["cells"][0]
    seed, run = next(iter(cell["runs"].items()))
    records.write_run(runs / run, run, cell, int(seed), study["runs"][run])


# What became of a study, and what its report says of it.
CASES: dict[str, tuple[Json, Callable[[Json, Path], None], str]] = {
    "nothing run": (plan(), each(None), "0 of 15 planned runs have completed; 15 missing."),
    "nothing evaluated": (
        plan(),
        each("trained"),
        "0 of 15 planned runs have completed; 15 missing (15 of these trained and not evaluated).",
    ),
    "all diverged": (plan(), each("diverged"), "0 of 15 planned runs have completed; 15 diverged."),
    "all failed": (plan(), each("failed"), "0 of 15 planned runs have completed; 15 failed."),
    "one run of many": (plan(), first_alone, "1 of 15 planned runs has completed; 14 missing."),
    "one run": (plan(1, {"GPT-2": 0.0}), each("completed"), "1 of 1 planned run has completed."),
    "one cell": (plan(3, {"GPT-2": 0.0}), each("completed"), "3 of 3 planned runs have completed."),
    "one seed": (plan(1), each("completed"), "5 of 5 planned runs have completed."),
}


def command(*words: str | Path) -> int:
    return main([str(word) for word in words])


@pytest.mark.parametrize("case", CASES)
def test_every_command_ends_and_the_report_says_what_became_of_the_study(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study, write, said = CASES[case]
    runs, folder = tmp_path / "runs", tmp_path / "study"
    write(study, runs)
    records.write(folder / "plan.json", study)
    claims = tmp_path / "none"
    if len(study["cells"]) == len(VARIANTS):
        claims = write_claims(tmp_path / "claims")
    given = ("--plan", folder / "plan.json", "--runs", runs)
    assert command("aggregate", *given, "--out", folder) == 0
    assert command("claims", "judge", "--study", folder, "--claims", claims) == 0
    assert command("figures", "--study", folder) == 0
    assert command("report", "--study", folder, "--templates", TEMPLATES, "--claims", claims) == 0
    text = re.sub(r"\\(.)", r"\1", (folder / "report.md").read_text())
    assert said in text
    assert said in (folder / "report.html").read_text()
    assert (folder / "report.pdf").read_bytes().startswith(b"%PDF")
    if said.startswith("0 "):
        assert "On embedded, bpe1024 no run has completed." in text
    assert "nan" not in re.split(r"\W+", text.lower())
    assert command("summary", "--study", folder) == 0
    if claims.exists():
        judged = {own["claim"]: own["verdict"] for own in json.loads((folder / "claims.json").read_text())}
        assert set(judged.values()) <= {"inconclusive", "not yet run", *({"deviated"} if case == "all diverged" else ())}
        assert command("claims", "list", "--study", folder, "--claims", claims) == 0
        assert command("why", "C-1", "--study", folder, "--claims", claims) == 0
    names = [cell["variant"] for cell in study["cells"]]
    assert command("compare", names[0], names[-1], "--study", folder) == 0
    if case not in ("nothing run", "nothing evaluated", "all diverged", "one run"):
        return  # what is published is the same report
    capsys.readouterr()
    published = tmp_path / "published"
    code = command("publish", *given, "--out", published, "--templates", TEMPLATES)
    if case == "nothing run":
        assert (code, capsys.readouterr().err.count("\n")) == (2, 1)  # there is nothing to keep, in a line
    else:
        assert code == 0
        assert said in re.sub(r"\\(.)", r"\1", (published / "report.md").read_text())
