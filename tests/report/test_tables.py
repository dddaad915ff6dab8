"""One table, four formats."""

from __future__ import annotations

import csv
import io
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
import records
from shared import make, plan_of_rates, write_run

from gt.report import text
from gt.report.document import Document, Section, Tabular, abridged
from gt.report.evaluation_tables import evaluation_tables
from gt.report.numbers import load
from gt.report.study_tables import results_table, study_tables
from gt.report.tables import LONGEST, PLACE, Column, Table

TABLE = Table(
    "awkward",
    "A caption with 50 % & a_b. Second sentence.",
    (Column("name", "Name", "left"), Column("value", "Δ (bits)", shown=text.signed)),
    (
        {"name": "a_b & <c> | 5 % #1 $x {y} ~ ^ \\", "value": -0.123456789, "more": 3.0},
        {"name": "", "value": None, "more": float("nan")},
    ),
    raw=("more",),
)


class Cells(HTMLParser):
    """The text of the cells of an HTML table."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.cells: list[str] = []
        self.inside = False
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag in ("td", "th"):
            self.inside = True
            self.cells.append("")
        elif tag in ("tr", "thead", "tbody"):  # with which a cell ends, too
            self.inside = False

    def handle_endtag(self, tag: str) -> None:
        if tag == "table":
            self.inside = False

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.cells[-1] += data.rstrip("\n")


def test_csv_keeps_full_precision_and_leaves_gaps_empty() -> None:
    rows = list(csv.DictReader(io.StringIO(TABLE.csv())))
    assert rows[0] == {"name": TABLE.rows[0]["name"], "value": "-0.123456789", "more": "3"}
    assert rows[1] == {"name": "", "value": "", "more": ""}


def test_html_shows_what_was_meant_and_nothing_of_it_is_markup() -> None:
    assert Cells(TABLE.html()).cells == ["Name", "Δ (bits)", TABLE.rows[0]["name"], "−0.1235", "–", "–"]


def test_markdown_rows_have_as_many_cells_as_columns() -> None:
    lines = [line for line in TABLE.markdown().splitlines() if line.startswith("|")]
    bare = [line.replace("\\\\", "").replace("\\|", "") for line in lines]
    assert {line.count("|") for line in bare} == {3}
    assert "\\<c\\>" in lines[2]


def test_latex_escapes_its_special_characters() -> None:
    latex = TABLE.latex()
    assert r"a\_b \& $<$c$>$ | 5 \% \#1 \$x \{y\} \textasciitilde{} \textasciicircum{} \textbackslash{} & $-$0.1235 \\" in latex
    assert [rule for rule in (r"\toprule", r"\midrule", r"\bottomrule") if rule not in latex] == []
    assert r"\begin{tabular}{lr}" in latex


def test_every_character_of_the_studys_latex_is_one_that_latex_has(study: Path) -> None:
    for file in (study / "tables").glob("*.tex"):
        assert file.read_text().isascii(), file.name


def test_the_studys_tables_are_written_in_every_format(study: Path) -> None:
    names = ["results", "models", "components", "coverage", "runs", "costs", "names"]
    names += ["results.embedded.char", "results.embedded.bpe1024", "context", "recall.mqar", "generation", "quantisation"]
    names += ["cost.speed", "cost.memory", "recall.mqar.length"]
    names += ["claims", "cautions", "forms", "incomplete", "environment", "checklist"]
    assert {file.name for file in (study / "tables").iterdir()} == {f"{n}.{s}" for n in names for s in ("csv", "md", "tex")}


def test_the_results_table_says_what_the_parquet_files_say(study: Path) -> None:
    table = pd.read_csv(study / "tables" / "results.csv").set_index(["label", "tokenizer"])
    cells = pd.read_parquet(study / "cells.parquet").set_index(["label", "tokenizer"])
    contrasts = pd.read_parquet(study / "contrasts.parquet").set_index(["label", "tokenizer"])
    assert len(table) == len(cells)
    for key, row in table.iterrows():
        assert row["mean"] == pytest.approx(cells.loc[key, "val/bits_per_byte_mean"])
        if row["verdict"] != "baseline":
            assert row["p_holm"] == pytest.approx(contrasts.loc[key, "p_holm"], nan_ok=True)
            assert row["verdict"] == contrasts.loc[key, "verdict"]


def test_cells_of_the_same_settings_are_sorted_with_the_best_first(study: Path) -> None:
    for panel in load(study).panels:
        means = [row["mean"] for row in panel.measured]
        assert means == sorted(means)


def test_cells_stand_by_settings_with_the_baseline_of_each(tmp_path: Path) -> None:
    plan = plan_of_rates()
    for i, cell in enumerate(plan["cells"][:-2]):  # the tuned cells have no records
        for seed in cell["runs"]:
            records.shift(write_run(tmp_path / "runs", plan, cell, seed), 0.5 * (i % 2))  # the larger rate is worse for all
    results = load(make(tmp_path, plan))
    (panel,) = results.panels
    assert [[row["label"].split(" ")[0] for row in rows] for rows in panel.groups] == [["GF", "GPT-2", "WS"]] * 2
    table = results_table("results", "", panel.rows)
    assert table.breaks() == [3]
    head, *cells = table.markdown().split("\n\n")[1].splitlines()
    assert head.startswith("| Variant | learning rate |")
    assert [row.split(" | ")[:2] for row in cells[1:3]] == [["| GF", "0.001"], ["| GPT-2", "0.001"]]
    assert [row["verdict"] for row in table.rows].count("baseline") == 2
    assert table.rows[3]["difference"] == pytest.approx(table.rows[0]["difference"], abs=1e-9)  # to GPT-2 at its own rate
    assert table.latex().count(r"\midrule") == 2
    assert table.html().count('class="group"') == 1
    assert panel.best["label"] == "GF (learning_rate=0.001)"
    assert "to the baseline GPT-2 (learning_rate=0.001) is −0.1" in panel.finding
    assert "Of 4 contrasts with GPT-2 at the same learning_rate, 4 are decided" in panel.finding


def test_cells_of_other_seeds_are_in_no_contrast(tmp_path: Path) -> None:
    plan = plan_of_rates()
    for cell in plan["cells"]:
        for seed in cell["runs"]:
            write_run(tmp_path / "runs", plan, cell, seed)
    (panel,) = load(make(tmp_path, plan)).panels
    assert {row["variant"]: row["verdict"] for row in panel.rows}["GF-tuning"] == "no baseline to compare with"
    assert len(panel.contrasts) == 4


def test_a_failed_run_is_in_the_runs_table_with_its_reason(study: Path) -> None:
    row = next(row for row in study_tables(load(study))["runs"].rows if row["status"] == "failed")
    assert row["reason"].startswith("OutOfMemoryError")


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (text.decimals(-1.23456), "−1.2346"),
        (text.decimals(None), "–"),
        (text.plus_minus(2.0, 1.5, 2.5, 2), "2.00 ± 0.50"),
        (text.plus_minus(2.0, None, None, 2), "2.00"),
        (text.interval(-0.1, 0.2, 1, sign=True), "[−0.1, +0.2]"),
        (text.p_value(0.0004), "< 0.001"),
        (text.p_equation(0.0314), "= 0.031"),
        (text.duration(3.14), "3.1 s"),
        (text.duration(59.99), "1 min 00 s"),
        (text.duration(245), "4 min 05 s"),
        (text.duration(11520), "3 h 12 min"),
        (text.listed(["a", "b", "c"]), "a, b and c"),
        (text.plural(1, "seed"), "1 seed"),
        (text.plural(2000, "seed"), "2,000 seeds"),
    ],
)
def test_numbers_as_a_reader_sees_them(shown: str, expected: str) -> None:
    assert shown == expected


def test_the_components_of_the_models_stand_with_their_formulas(study: Path) -> None:
    table = study_tables(load(study))["components"]
    assert [(row["name"], row["kind"]) for row in table.rows] == [
        ("mamba2", "mixer"),
        ("rwkv6", "mixer"),
        ("gated", "fusion"),
        ("mlp", "feed-forward"),
        ("adamw", "optimizer"),
    ]
    rows = list(csv.DictReader(io.StringIO((study / "tables/components.csv").read_text())))
    assert rows[2]["formula"] == "g = sigmoid(w . [r; m] + b), y = g r + (1 - g) m"
    assert rows[2]["parameters"] == "257"
    assert all(row["source"] for row in rows)
    cells = Cells((study / "report.html").read_text()).cells
    assert all(row["formula"] in cells for row in rows)


def test_evaluations_are_means_over_seeds_of_what_the_records_have(study: Path) -> None:
    tables = {table.name: {row["label"]: row for row in table.rows} for table in evaluation_tables(load(study))}
    assert tables["context"]["GF"]["context/loss@1024"] is not None
    assert tables["context"]["GPT-2"]["context/loss@1024"] is None
    assert tables["context"]["GF"]["context/useful_window"] == 256
    assert tables["generation"]["GPT-2"]["generation/state_bytes@1024"] == 512 * 1024
    assert set(tables["quantisation"]) == {"GF"}
    costs = {table.name: table for table in evaluation_tables(load(study))}
    gf = [row for row in costs["cost.memory"].rows if row["cell"] == "GF.embedded.char"]
    assert [(row["batch"], row["training@256"]) for row in gf] == [(1, 2**30), (8, 2**33)]
    assert tables["cost.speed"]["GF"]["forward@64"] == 3000 * 8  # the last row of the label, in the batch of 8
    shown = {column.key: column for column in costs["quantisation"].columns}["quantisation/state/mamba2/int8/difference"]
    assert shown.text(costs["quantisation"].rows[0]) == "+20.0 ± 0.0"
    assert tables["recall.mqar"]["GF"]["4 items"] == "0.75 [0.75, 0.75]"
    assert tables["recall.mqar"]["GF"]["Control"].startswith("0.02 [")
    assert tables["recall.mqar.length"]["GF"]["Whole episodes"].startswith("0.50 [")


def test_costs_know_the_price(study: Path) -> None:
    results = load(study)
    row = next(row for row in results.run_rows if row["status"] == "completed")
    assert row["tokens_per_dollar"] == pytest.approx(row["tokens"] / row["device_seconds"] * 3600 / 2.0)
    assert row["north_star"] == pytest.approx(row["tokens_per_dollar"] / row["val/perplexity"])


def test_no_word_of_a_csv_file_is_a_formula_and_every_number_is_as_it_was() -> None:
    words = ["=1+1", "+cmd", "-WS", "@a", "\ta", "\ra", "-1+1"]
    numbers = ["-1.5", "+2", "-1e-05", -1.5, -3, 0.0]
    rows = [{"label": value, "-x": 1.0} for value in [*words, *numbers, "GF-MH", "a=b", "-"]]
    table = Table("t", "T.", (Column("label", "Label"), Column("-x", "X")), tuple(rows))
    header, *lines = csv.reader(io.StringIO(table.csv()))
    assert header == ["label", "'-x"]
    guarded = [f"'{word}".replace("\r", "\n") for word in words]
    assert [line[0] for line in lines] == [*guarded, "-1.5", "+2", "-1e-05", "-1.5", "-3", "0", "GF-MH", "a=b", "'-"]
    assert {line[1] for line in lines} == {"1"}


@pytest.mark.parametrize("form", ["markdown", "latex", "html", "csv"])
def test_what_a_table_takes_grows_as_its_rows(form: str) -> None:
    """Twice the rows, twice the cells that are put in words, however many columns depend on all rows."""

    def words(n: int) -> int:
        made = []
        columns = (*PLACE, Column("value", "Value", whole_row=lambda row: made.append(row) or "-"))
        rows = tuple({"corpus": "a", "tokenizer": Counted(made, i), "value": i, "of": i // 2} for i in range(n))
        getattr(Table("many", "Many.", columns, rows, groups="of"), form)()
        return len(made)

    assert words(400) <= 2 * words(200)


class Counted:
    """A value that is different in each row, and noted whenever it is put in words."""

    def __init__(self, made: list[object], number: int) -> None:
        self.made, self.number = made, number

    def __str__(self) -> str:
        self.made.append(self)
        return str(self.number)


def test_of_a_long_table_a_report_shows_the_first_rows_and_says_where_all_are(tmp_path: Path) -> None:
    rows = tuple({"name": f"cell {i}"} for i in range(2 * LONGEST))
    table = Table("long", "Cells.", (Column("name", "Name", "left"),), rows)
    table.write(tmp_path)
    assert (tmp_path / "long.csv").read_text().count("cell") == 2 * LONGEST
    for suffix in ("md", "tex"):
        assert (tmp_path / f"long.{suffix}").read_text().count("cell") == LONGEST
    assert table.abridged.caption == "Cells. The first 200 of 400 rows; `tables/long.csv` has all."
    assert TABLE.abridged is TABLE
    shown = abridged(Document("", "", (Section("a", "", (Section("b", "", (Tabular(table),)), Tabular(TABLE))),)))
    assert shown.tables() == [table.abridged, TABLE]


def test_a_table_that_a_reader_may_search_shows_more_rows() -> None:
    rows = tuple({"a": i} for i in range(201))
    shown, searched = (Table("t", "A caption.", (Column("a", "A"),), rows, search=own).abridged for own in (False, True))
    assert len(shown.rows) == 200
    assert "The first 200 of 201 rows" in shown.caption
    assert searched.rows == rows
