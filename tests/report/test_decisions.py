"""How a study was decided, in its report: gates before the runs, looks, tuning, the ladder and what a difference is worth."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ladders as sizes
import pandas as pd
import pytest
from shared import make, overhang, written

from gt.analysis.claims import load_claims
from gt.analysis.gates import foreseen
from gt.analysis.verdicts import Row, judge, judge_study, overview
from gt.artefacts import read_plan
from gt.report.checklist import compute, method
from gt.report.decisions import decides, decisions_section
from gt.report.document import Section, Tabular, Text, walk
from gt.report.equal_loss import drawn as equal_losses
from gt.report.looks import draw_looks, drawn, looks_sentences, looks_table
from gt.report.numbers import Results, load
from gt.report.paper import abstract
from gt.report.tuning import tuning_sentence
from gt.spec import RunSpec
from gt.study import Undecided

SEEDS = (3, 5, 8)
# WS is GPT-2 but for noise, GF far below, and HY by twice the noise of a pair.
LAWS = {name: sizes.Law(1.0, far, 0.3) for name, far in {"GPT-2": 1.0, "GF": 0.5, "WS": 1.0, "HY": 0.9955}.items()}
COMPARE = {"test": "compare", "metric": "val/bits_per_byte", "is": "lower", "b": "GPT-2"}
CLAIMS: dict[str, Any] = {
    "C-sure": {"predicate": [{**COMPARE, "a": "GF"}]},
    "C-late": {"predicate": [{**COMPARE, "a": "HY"}]},
    "C-none": {"predicate": [{**COMPARE, "a": "WS"}]},
    "C-counted": {"predicate": [{"test": "threshold", "metric": "n_params", "a": "GF", "above": 1}]},
    "C-blind": {
        "predicate": [{"test": "equivalence", "metric": "val/bits_per_byte", "a": "WS", "b": "GPT-2", "margin": 0.0001}],
        "sd": 0.01,
    },
}


class Looked(Undecided):
    """Two cells get more seeds after each look."""

    def looked(self, number: int, runs: Sequence[str]) -> set[str] | None:
        return {f"{name}.embedded.char.d_model=64" for name in ("GPT-2", "HY")}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tables of a study that was looked at twice, and its claims, judged."""
    root = tmp_path_factory.mktemp("decisions")
    looks = {"looks": list(SEEDS), "futility": 0.3}
    folder = sizes.make(root, LAWS, variants=list(LAWS), seeds=looks, decided=Looked())
    (root / "claims").mkdir()
    about = {"title": "t", "sentence": "s", "source": "x", "study": "sizes", "where": {"factors": {"d_model": 64}}, "seeds": 3}
    (root / "claims/c.yaml").write_text(json.dumps({name: {**about, **own} for name, own in CLAIMS.items()}))
    judge(folder, root / "claims")
    return root


@pytest.fixture(scope="module")
def results(root: Path) -> Results:
    return load(root / "study")


@pytest.fixture(scope="module")
def rows(root: Path) -> list[Row]:
    return overview(root / "claims", [root / "study"])


@pytest.fixture(scope="module")
def section(root: Path, results: Results, rows: list[Row]) -> Section:
    gates = foreseen(load_claims(root / "claims"), results.plan)
    found = decisions_section(results, rows, gates, {})
    assert found is not None
    return found


def words(section: Section, part: str) -> str:
    (own,) = [own for own in section.sections if own.id == f"sizes-{part}"]
    return " ".join(block.words for block in walk([own]) if isinstance(block, Text))


def test_the_parts_stand_in_the_order_in_which_it_was_decided(section: Section) -> None:
    assert [own.id for own in section.sections] == ["sizes-gates", "sizes-looks", "sizes-ladder", "sizes-equal-loss"]
    tables = [block.table.name for block in walk([section]) if isinstance(block, Tabular)]
    assert tables == [
        "foreseen",
        "looks",
        "ladder.embedded.char",
        "ladder.pairs.embedded.char",
        "ladder.laws.embedded.char",
        "equal_loss",
    ]


def test_the_table_of_looks_has_each_claim_as_it_was_at_each(root: Path, rows: list[Row]) -> None:
    table = pd.read_parquet(root / "study/looks.parquet")
    assert table[table["claim"] == "C-sure"]["seeds"].tolist() == [3]
    (own,) = [own for own in judge_study(root / "study", root / "claims") if own.claim == "C-late"]
    found = table[table["claim"] == "C-late"]
    assert len(found) > 1
    assert found["seeds"].tolist() == list(SEEDS[: len(found)])
    assert found["stopped"].tolist() == [*["open"] * (len(found) - 1), "decided"]
    last, (test,) = found.iloc[-1], own.tests
    assert (last["estimate"], last["lower"], last["upper"]) == (test.estimate, test.lower, test.upper)
    assert found["p"].iloc[-1] < 0.05 <= found["p"].iloc[-2]
    late = [row for row in looks_table(rows).rows if row["id"] == "C-late"]
    assert [row["became"] for row in late] == [*["goes on"] * (len(found) - 1), "decided"]
    # The estimate of a look is of its seeds.
    first = [[sizes.bits_per_byte(name, spec, LAWS) for spec in specs(root, name)[:3]] for name in ("HY", "GPT-2")]
    assert found["estimate"].iloc[0] == pytest.approx(sum(first[0]) / 3 - sum(first[1]) / 3)


def specs(root: Path, name: str) -> list[RunSpec]:
    """The runs of a variant at the width that claims are about."""
    plan = read_plan(root / "study/plan.json")
    (cell,) = [cell for cell in plan.cells if cell.id == f"{name}.embedded.char.d_model=64"]
    return [plan.runs[run] for run in cell.runs.values()]


def test_a_claim_that_was_decided_has_no_further_look_and_says_so(rows: list[Row], results: Results, tmp_path: Path) -> None:
    taken = [row for row in rows if row.looks]
    figure = drawn(taken, SEEDS)
    assert len(figure.axes) == 2 * len(taken)
    assert overhang(figure) < 1 / 72
    assert figure.axes[0].get_title() == "C-sure: supported after 3 seeds"
    (picture,) = draw_looks(rows, results.plan, tmp_path).values()
    assert picture.file == tmp_path / "sizes.looks.svg"
    assert "C-sure: supported after 3 seeds" in picture.file.read_text()


def test_the_sentences_count_where_claims_stopped_and_what_was_run(rows: list[Row], results: Results) -> None:
    planned, stopped = looks_sentences(rows, results.plan)
    assert "after 3, 5 and 8 seeds" in planned
    assert "with a chance below 30 % stops" in planned
    assert stopped.startswith("Of 5 claims, 1 is stopped without a test after 3 seeds, 1 is decided after 3 seeds, ")
    cells = 4 * len(LAWS) + 2
    runs = cells * 3 + 2 * 5  # two cells have gone on, twice
    assert stopped.endswith(f"The cells have {runs} runs, where all seeds of all cells would be {cells * 8}.")


def test_what_could_not_fail_or_not_see_is_said_whatever_has_run(section: Section) -> None:
    said = words(section, "gates")
    assert said.startswith("Before anything was trained, 2 of 5 claims were gated: C-counted cannot fail: ")
    assert "C-blind cannot see its margin of 0.01 %: 8 seeds see " in said


def test_arms_of_a_ladder_have_lost_no_seed_that_others_were_given_by_a_look(results: Results, section: Section) -> None:
    (ladder,) = results.ladders
    assert (ladder.seeds, ladder.lost) == ([0, 1, 2], [])
    assert "have not all completed" not in words(section, "ladder")


def test_contrasts_are_of_the_seeds_that_hang_on_no_look(results: Results) -> None:
    found = results.contrasts.set_index("cell")
    assert found.loc["WS.embedded.char.d_model=64", ["n", "planned"]].tolist() == [3, 3]
    assert len(results.plan.cells[0].runs) == 3


def test_the_abstract_and_the_method_tell_of_the_looks(results: Results, rows: list[Row]) -> None:
    said = [block.words for block in abstract(results, rows) if isinstance(block, Text)]
    assert any(words.startswith("Of 5 claims, 1 is stopped without a test after 3 seeds, ") for words in said)
    assert any("contrasts are of the seeds of the first" in words for words in method([results]))


def test_what_a_difference_is_worth_has_a_figure_with_the_budgets(results: Results, section: Section) -> None:
    (table,) = [block.table for block in walk([section]) if isinstance(block, Tabular) and block.table.name == "equal_loss"]
    assert [column.header for column in table.columns[-3:]] == ["Tokens", "Device time", "Parameters"]
    said = {row["label"]: column.text(row) for row in table.rows for column in table.columns if column.header == "Tokens"}
    assert said["GF (d_model=64)"] == "> +50.0 %"
    assert said["HY (d_model=64)"].startswith("+2.")
    assert said["HY (d_model=128)"] == "–"
    figure = equal_losses(results)
    assert figure is not None
    (ax,) = figure.axes
    points = sorted(tick for tick in ax.get_xticks())
    assert points == [steps * 32 for steps in sizes.STEPS]
    assert overhang(figure) < 1 / 72


def test_the_sentence_on_tuning_says_how_grids_grew_and_which_optima_are_inside(tmp_path: Path) -> None:
    best = {32: 0.003, 64: 0.01, 128: 0.2, 256: 0.003}
    decided = sizes.Chosen(lambda spec: best[spec.model.d_model])
    results = load(sizes.make(tmp_path, variants=["GPT-2"], decided=decided, seeds=1, **sizes.TUNED))
    said = tuning_sentence(results)
    assert said.startswith("4 models were tuned over learning rate with ")
    assert "runs of the seed 100, which judge nothing." in said
    assert "of the grids 2 did not grow, 1 grew once and 1 grew twice" in said
    assert said.endswith("worse: 3 of 4; 1 at an edge.")
    runs = sum(len(own.points) for own in results.plan.tunings)
    assert f"What tuned them is not in it: {runs} runs more, of " in compute([results])
    found = decisions_section(results, [], [], {})
    assert found is not None
    assert found.sections[0].title == "How the models were tuned"


def test_a_study_that_decides_nothing_while_it_runs_has_no_such_section(tmp_path: Path) -> None:
    results = load(make(tmp_path, written(tmp_path)))
    assert not decides(results.plan)
    assert decisions_section(results, [], [], {}) is None
    assert draw_looks([], results.plan, tmp_path) == {}
