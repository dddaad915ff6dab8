"""The driver's own parts: which trials there are, what a user is told and does, and the table."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from checkouts import ROOT
from faults import table
from faults.driver import Machine
from faults.kinds import KINDS
from faults.study import Call, Study, follow
from faults.trial import OURS

PUBLISHED = ROOT / "results/published/faults.json"


def line(kind: str, trial: int, faults: int, calls: int, outcome: str = "same") -> dict[str, object]:
    """A line of the log."""
    return {"seed": 7, "trial": trial, "kind": kind, "faults": [{}] * faults, "calls_after": calls, "outcome": outcome}


def test_a_seed_decides_the_order_of_the_trials_and_all_kinds_come_up(tmp_path: Path) -> None:
    def kinds(seed: int) -> list[str]:
        machine = Machine(tmp_path, seed, seeds=1, out=tmp_path)
        return [machine.kind(number).name for number in range(sum(kind.turns for kind in KINDS))]

    assert kinds(7) == kinds(7) != kinds(8)
    assert sorted(kinds(7)) == sorted(kinds(8)) == sorted(kind.name for kind in KINDS for _ in range(kind.turns))


@pytest.mark.parametrize(
    ("said", "done"),
    [
        ("gt: results/runs/a/model.safetensors is damaged. Remove it and call again.", ["results/runs/a/model.safetensors"]),
        ("gt: delete results/runs/a, then call again.", ["results/runs/a"]),
        ("Removing output files of failed job: results/runs/a", []),
        ("gt: results/runs/b is damaged: remove it.", []),
    ],
)
def test_what_a_message_tells_the_user_to_remove_is_moved_aside(tmp_path: Path, said: str, done: list[str]) -> None:
    study = Study.__new__(Study)
    study.folder = tmp_path / "study"
    (study.folder / "results/runs/a").mkdir(parents=True)
    (study.folder / "results/runs/a/model.safetensors").write_text("kept")
    output = tmp_path / "1.txt"
    output.write_text(said + "\n")
    process = subprocess.Popen(["true"], text=True)
    assert follow(study, Call(process, output, process.wait()), 0) == done
    assert all(not (study.folder / name).exists() for name in done)
    assert [file.read_text() for file in study.folder.rglob("*") if file.is_file()] == ["kept"]


@pytest.mark.parametrize(
    ("frame", "ours"),
    [
        ('File "/tmp/x/study/gt/cli.py", line 32, in main', True),
        ('File "/tmp/x/study/workflow/rules/common.smk", line 8, in <module>', True),
        ('File "/venv/lib/python3.11/site-packages/snakemake/cli.py", line 8, in main', False),
        ('File "/venv/lib/python3.11/site-packages/torch/workflow/x.py", line 8, in main', False),
    ],
)
def test_a_stack_trace_is_ours_if_it_goes_through_our_code(frame: str, ours: bool) -> None:
    assert bool(OURS.search(f"  {frame}\n")) == ours


def test_the_table_counts_trials_in_which_something_was_disturbed() -> None:
    result = table.summary([line("B", 0, 3, 1), line("A", 1, 1, 2, "lost"), line("A", 2, 2, 1), line("A", 3, 0, 1)])
    assert (result["trials"], result["faults"], result["lost"]) == (3, 6, 1)
    assert result["kinds"][0] == {"kind": "A", "trials": 2, "faults": 3, "calls": 2, "lost": 1, "lost_trials": ["7:1"]}
    assert table.markdown(result).splitlines()[2:] == [
        "| A | 2 | 3 | 2 | 1 |",
        "| B | 1 | 3 | 1 | 0 |",
        "| **all** | 3 | 6 | 2 | 1 |",
    ]


def test_the_readme_has_the_published_table(tmp_path: Path) -> None:
    """Where it fails: `make reliability`, and commit."""
    readme = tmp_path / "README.md"
    readme.write_bytes((ROOT / "README.md").read_bytes())
    table.main(PUBLISHED, readme)
    assert readme.read_bytes() == (ROOT / "README.md").read_bytes()
