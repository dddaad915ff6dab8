"""The ladder in a report: its figure, its tables and sentences, and what is saved beside each difference."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import ladders as sizes
import pytest
from shared import make, overhang, written

from gt.analysis.equal_loss import Saved
from gt.report import text
from gt.report.document import Tabular, Text
from gt.report.gallery import DECIDING
from gt.report.ladders import LADDER_DRAWING, drawn, ladder_blocks
from gt.report.numbers import Results, load
from gt.report.study_tables import results_table
from gt.report.tables import Table


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return load(sizes.make(tmp_path_factory.mktemp("ladder"), seeds=3))


def rows(table: Table) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(table.csv())))


def test_the_figure_has_axes_for_parameters_and_compute_and_nothing_of_it_is_cut_off(results: Results) -> None:
    figure = drawn(results)
    assert figure is not None
    assert [ax.get_xlabel() for ax in figure.axes] == ["parameters without embeddings", "FLOPs of training"]
    assert overhang(figure) < 1 / 72
    assert LADDER_DRAWING in DECIDING


def test_the_report_says_how_well_the_laws_foretell_the_largest_rung_beside_the_baselines(results: Results) -> None:
    said = " ".join(block.words for block in ladder_blocks(results) if isinstance(block, Text))
    (ladder,) = results.ladders
    off = abs(ladder.predicted["parameters"][0] - ladder.losses[0, :, -1]).mean()
    assert "the rungs 32, 64, 128 and 256 of `d_model`, of 3 seeds that all arms have." in said
    assert "The learning rate is that of the first rung, divided by how much wider a rung is." in said
    same = abs(ladder.losses[0, :, -2] - ladder.losses[0, :, -1]).mean()
    assert f"At 256 the laws of parameters are off by {text.decimals(float(off))} bits per byte on average" in said
    assert f"; the losses at 128 are by {text.decimals(float(same))}." in said
    decisions = ladder.decisions()
    assert decisions is not None
    assert f"Of 3 pairs of arms the laws have the sign of {100 * decisions.laws.value:.0f} %" in said
    assert f"and the ranks at 128 of {100 * decisions.rank.value:.0f} %" in said


def test_of_two_arms_there_is_one_sign(results: Results) -> None:
    (ladder,) = results.ladders
    own = load(results.folder)
    two = replace(ladder, arms=ladder.arms[:2])
    own.__dict__["ladders"] = [two]
    said = " ".join(block.words for block in ladder_blocks(own) if isinstance(block, Text))
    # GF is below GPT-2 at each rung, by the laws too.
    assert "Of the one pair of arms the laws have the sign right, and the ranks at 128 have it right." in said


def test_seeds_and_arms_that_are_left_out_are_named(results: Results) -> None:
    (ladder,) = results.ladders
    own = load(results.folder)
    own.__dict__["ladders"] = [replace(ladder, lost=[3, 4], short=["WS"])]
    first = ladder_blocks(own)[0]
    assert isinstance(first, Text)
    assert "The others, 3 and 4, have not all completed." in first.words
    assert first.words.endswith("Left out, without runs at all rungs or not growing from each to the next: WS.")


def test_the_table_has_the_law_of_each_arm_and_its_error(results: Results) -> None:
    held_out, pairs, laws = [block.table for block in ladder_blocks(results) if isinstance(block, Tabular)]
    found = rows(held_out)
    assert [(row["arm"], row["over"]) for row in found] == [
        (arm, over) for over in ("parameters", "compute") for arm in ("GPT-2", "GF", "HY")
    ]
    for row in found:
        assert float(row["error"]) == pytest.approx(float(row["predicted"]) - float(row["measured"]))
        assert float(row["predicted_lower"]) < float(row["predicted"]) < float(row["predicted_upper"])
    (ladder,) = results.ladders
    assert float(rows(laws)[1]["exponent"]) == ladder.laws["parameters"][1].exponent[0]
    assert [row["pair"] for row in rows(pairs)] == ["GPT-2 − GF", "GPT-2 − HY", "GF − HY"]


def test_what_is_saved_stands_beside_each_difference_where_it_is_known(results: Results) -> None:
    (panel,) = results.panels
    table = results_table("results", "All.", panel.rows)
    found = {row["label"]: row for row in rows(table)}
    known, own = results.saved["GF.embedded.char.d_model=64"]["tokens"], found["GF (d_model=64)"]
    assert float(own["tokens_saved"]) == known.share
    assert (float(own["tokens_saved_lower"]), own["tokens_saved_bound"]) == (known.lower, "")
    assert found["HY (d_model=64)"]["tokens_saved_bound"] == "more"
    assert found["GF (d_model=128)"]["tokens_saved"] == ""
    assert known.lower is not None and known.upper is not None
    said = table.markdown()
    assert f"| +{100 * known.share:.1f} % \\[+{100 * known.lower:.1f}, +{100 * known.upper:.1f}\\] |" in said
    assert "\\> +50.0 %" in said


@pytest.mark.parametrize(
    ("saving", "says"),
    [
        (Saved(5, 0.2, 0.15, 0.24), "It saves 20.0 % (95 % interval [15.0, 24.0]) of the tokens that the baseline needs"),
        (Saved(5, -0.25, -0.3, -0.19), "It takes 25.0 % (95 % interval [19.0, 30.0]) more tokens than the baseline needs"),
        (Saved(5, 0.5, None, None, "more"), "It saves more than 50.0 % of the tokens that the baseline needs"),
        (Saved(5, -1.0, None, None, "less"), "It takes more than 100.0 % more tokens than the baseline needs"),
        (Saved(1, 0.1, None, None), "It saves 10.0 % of the tokens that the baseline needs"),
    ],
)
def test_what_was_found_says_what_the_baseline_needs_for_the_same_loss(results: Results, saving: Saved, says: str) -> None:
    best = results.panels[0].best["cell"]
    # an attribute that is computed once may be set before
    own = load(results.folder)
    own.__dict__["saved"] = {best: {"tokens": saving}}
    assert f"better. {says} for the same loss." in own.panels[0].lowest


def test_a_study_without_a_ladder_or_budgets_says_nothing_of_either(tmp_path: Path) -> None:
    results = load(make(tmp_path, written(tmp_path)))
    assert (drawn(results), ladder_blocks(results), results.saved) == (None, [], {})
    assert "saved" not in results_table("results", "All.", results.cell_rows).markdown()
