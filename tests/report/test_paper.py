"""The paper: what was claimed and what became of it, what was planned and what became of it; numbers that have a source."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import records
import typst
from shared import CLAIMS, COMMON, TEMPLATES, make, report, write_claims

from gt.analysis.verdicts import judge, overview
from gt.cli import main
from gt.errors import ConfigError
from gt.report.claim_figures import draw_claims
from gt.report.claim_words import cautioned
from gt.report.document import Document, Section, Tabular, Text, spans, walk
from gt.report.formats import paper_json, pdf
from gt.report.gallery import draw
from gt.report.numbers import load
from gt.report.paper import paper
from gt.report.render import render
from gt.report.supplement import supplement
from gt.report.sweeps import GATE_INIT, pareto, sweeps


@pytest.fixture
def document(study: Path, tmp_path: Path) -> Document:
    rows = [row for row in overview(study.parent / "claims", [study]) if row.judgement or row.arms]
    return paper(load(study), rows, draw_claims(rows, tmp_path), {"other": "GF in its place"})


def titles(document: Document) -> list[str]:
    return [own.title for own in document.sections]


def test_sections_stand_in_the_order_of_a_paper(document: Document) -> None:
    assert titles(document) == [
        "Abstract",
        "What was run, and what names stand for",
        "How to read this",
        "The claims and their verdicts",
        "The claims one by one",
        "Results",
        "Figures",
        "What the models can do",
        "Coverage and deviations from the plan",
        "The models",
        "Compute, energy and cost",
        "Environment",
        "Method",
        "Limitations",
        "Reproducibility checklist",
        "All runs",
        "How to regenerate",
    ]


def test_the_abstract_counts_the_verdicts(study: Path) -> None:
    abstract = (study / "report.md").read_text().split("## What was run")[0]
    assert "Of 3 claims, 1 is supported, 1 opposite and 1 equivalent." in abstract
    assert "over all claims keeps 3 of 3 decided." in abstract
    assert "3 verdicts are exploratory." in abstract  # nobody registered them
    assert "1 claim that fails with the mixers as published holds in another form of them: other." in abstract


def test_a_claim_has_its_sentence_record_runs_verdict_arms_and_figure(study: Path) -> None:
    own = (study / "report.md").read_text().split("### C-2: ")[1].split("\n### ")[0]
    assert "claims/C-2.svg" in own
    assert "**Claimed**: \\<i\\>So\\</i\\> it is." in own
    assert "**By**: document 3, lines 1–5" in own
    assert "flaw F-01" in own
    assert "Study `synthetic`: WS, GPT-2; at least 3 seeds a cell." in own
    assert "**Measured**: Held-out loss in nats per token (`val/loss`)." in own
    assert "**Verdict**: Opposite. p \\< 0.001 against the claim; " in own
    part, form = (
        [cell.strip() for cell in line.split("|")[1:-1]] for line in own.splitlines() if re.match(r"\| (Held|other)", line)
    )
    assert part[0] == "Held-out loss in nats per token: WS − GPT-2 \\< 0"
    assert (part[2], part[3], part[4]) == ("3", "no", "\\< 0.001 against")
    assert (form[0], form[1], form[-1]) == ("other", "supported", "explains that it fails")


def test_claims_are_data_for_programs_too(study: Path) -> None:
    table = pd.read_csv(study / "tables/claims.csv").set_index("id")
    judged = {own["claim"]: own for own in json.loads((study / "claims.json").read_text()) if own["arm"] == "faithful"}
    assert set(table.index) == set(judged) == {"C-1", "C-2", "C-3"}
    for name, own in judged.items():
        assert table.loc[name, "p"] == pytest.approx(own["p"])
        assert (table.loc[name, "verdict"], table.loc[name, "marks"]) == (own["verdict"], "*")
        assert set(table.loc[name, "cautions"].split("; ")) == {caution for caution, _ in cautioned(own)}
    forms = pd.read_csv(study / "tables/forms.csv").set_index("id")
    assert forms.loc["C-2", ["faithful", "other"]].tolist() == ["opposite", "supported"]


def numbers(value: Any) -> Iterator[float]:
    """All numbers in a JSON value."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for own in value:
            yield from numbers(own)
    elif isinstance(value, int | float):
        yield float(value)


def test_every_number_in_the_text_is_one_of_the_studys_files(document: Document, study: Path) -> None:
    """All with a decimal point: rounded as it is there, it is a number of a table or of claims.json. Sums are tested below."""
    known = set(numbers(json.loads((study / "claims.json").read_text())))
    for file in study.glob("*.parquet"):
        for _, column in pd.read_parquet(file).select_dtypes("number").items():
            known |= set(column.dropna())
    known = {abs(value) for value in known if math.isfinite(value)}
    told = [block.words for block in walk(document.sections) if isinstance(block, Text)]
    told += [meaning for block in walk(document.sections) for _, meaning in getattr(block, "pairs", ())]
    checked = 0
    for number in re.findall(r"(?<![\w.$])\d+\.\d{2,}(?![\w])", " ".join(told)):
        digits = len(number.split(".")[1])
        assert any(abs(value - float(number)) <= 0.5001 * 10**-digits for value in known), number
        checked += 1
    assert checked > 20


def test_a_study_without_claims_probes_and_evaluations_has_no_such_sections(tmp_path: Path) -> None:
    plan = records.plan(seeds=2, variants={"GPT-2": 0.0, "RWKV-6": 0.0}, tokenizers=("char",))
    records.write_runs(plan, tmp_path / "runs")
    for run in tmp_path.glob("runs/*"):
        for file in run.glob("evaluations/*.json"):
            if file.stem != "held_out":
                file.unlink()
        records.without(run, "<split>/by_position")
    folder = make(tmp_path, plan)
    draw(folder)
    report(folder)
    headings = re.findall(r"^##+ (.*)$", (folder / "report.md").read_text(), re.MULTILINE)
    for title in (
        "The claims and their verdicts",
        "Inside the networks",
        "What the models can do",
        "Gates of the fusions",
        "Loss and balance",
    ):
        assert title not in headings
    assert "Final bits per byte" in headings


def test_the_pdf_has_the_sections_and_its_words_are_never_markup(study: Path, document: Document, tmp_path: Path) -> None:
    hostile = Document('#panic("no") *a* $x$ <b>', document.byline, document.sections)
    folder = tmp_path / "typst"
    folder.mkdir()
    shutil.copyfile(TEMPLATES / "report.typ", folder / "report.typ")
    records.write(folder / "report.json", {**paper_json(hostile, folder), "fonts": ""})
    found = json.loads(typst.query(folder / "report.typ", "heading", field="body", root=folder))
    assert len(found) > 10
    assert json.loads(typst.query(folder / "report.typ", "figure", field="kind", root=folder)).count("table") > 8
    links = json.loads(typst.query(folder / "report.typ", "link", field="dest", root=folder))
    assert sorted(set(links)) == ["<claim-C-1>", "<claim-C-2>", "<claim-C-3>"]  # from the tables of claims to their sections
    assert pdf(hostile, TEMPLATES)[:5] == b"%PDF-"
    assert (study / "report.pdf").read_bytes() == pdf(document, TEMPLATES)


def test_a_broken_typst_template_is_bad_input(document: Document, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"report\.typ: no such template"):
        pdf(document, tmp_path)
    (tmp_path / "report.typ").write_text("#nothing")
    with pytest.raises(ConfigError, match="unknown variable: nothing"):
        pdf(document, tmp_path)


def test_several_studies_have_one_report_about_all_claims(study: Path, tmp_path: Path) -> None:
    other = records.plan(seeds=2, variants={"GPT-2": 0.0, "GF": 0.0}, tokenizers=("char",))
    other |= {"study": "other", "title": "Another *study*"}
    records.write_runs(other, tmp_path / "runs", troubled=False)
    second, out = make(tmp_path, other), tmp_path / "out"
    folder = write_claims(tmp_path / "claims")
    draw(second)
    judge(second, folder)
    render([study, second], out, TEMPLATES, folder)
    text = (out / "report.md").read_text()
    assert "## Fusions \\<b\\>bold\\</b\\> \\& more" in text
    assert "## Another \\*study\\*" in text
    assert text.startswith("# 2 studies of small language models\n")
    assert f"Which of {len(CLAIMS) - 1} claims about small language models hold when they are put to the test?" in text
    assert f"Of {len(CLAIMS)} claims, 1 is supported, 1 opposite, 1 equivalent and 1 not testable." in text
    links = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)
    assert links
    assert all((out / link).is_file() for link in links)
    ids = re.findall(r'\bid="([^"]+)"', (out / "report.html").read_text())
    assert len(ids) == len(set(ids))
    tables = {file.name for file in (out / "tables").glob("*.csv")}
    assert {"synthetic.results.embedded.char.csv", "other.results.embedded.char.csv", "claims.csv"} <= tables


def test_what_was_not_run_is_said_once_and_claims_that_wait_for_it_are_folded(study: Path, tmp_path: Path) -> None:
    other = records.plan(seeds=2, variants={"GPT-2": 0.0, "GF": 0.0}, tokenizers=("char",))
    other |= {"study": "other", "title": "Another"}
    records.write_runs(other, tmp_path / "runs", troubled=False)
    for run in other["cells"][1]["runs"].values():  # GF was planned and never run
        shutil.rmtree(tmp_path / "runs" / run)
    second, out = make(tmp_path, other), tmp_path / "out"
    own = {**COMMON, "title": "GPT-2 learns", "seeds": 2, "study": "other"}
    own |= {"predicate": [{"test": "threshold", "metric": "val/loss", "a": "GPT-2", "below": 100.0}]}
    folder = write_claims(tmp_path / "claims")
    documents = {"C-5": own, "C-6": {**own, "title": "It waits", "study": "elsewhere"}}
    (folder / "more.yaml").write_text(json.dumps(documents))
    judge(second, folder)
    draw(second)
    render([study, second], out, TEMPLATES, folder, ["There was no time."])

    results = load(second)
    assert [row["variant"] for row in results.panels[0].rows] == ["GPT-2"]
    assert [row["variant"] for row in results.cell_rows_in_order] == ["GPT-2", "GF"]
    text = (out / "report.md").read_text()
    coverage = text.split("## Coverage and deviations")[1].split("\n## ")[0]
    assert "There was no time." in coverage
    assert "other: 1 cell has no completed run: GF." in coverage
    assert "1 study was not run: `elsewhere` (1 claim)." in coverage
    waiting = text.split("### 1 claim not yet run")[1].split("\n## ")[0]
    assert "C-6: It waits" in waiting and "C-5" not in waiting
    rows = overview(folder, [study, second])
    on_paper = json.dumps(paper_json(supplement([load(study), results], rows, {}, {}), out))
    assert on_paper.count("It waits") == 1  # in the table of claims
    assert text.index("| C-5 |") < text.index("| C-4 |") < text.index("| C-6 |")  # tested, not testable, not run
    assert (out / "claims/verdicts.svg").is_file() and "(claims/verdicts.svg)" in text


def test_several_studies_need_a_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--study", "a", "b", "--templates", "t"]) == 2
    assert "--out" in capsys.readouterr().err


def test_sweeps_join_cells_that_differ_in_one_setting_alone(tmp_path: Path) -> None:
    plan = records.plan(seeds=2, tokenizers=("char",))
    for run, spec in plan["runs"].items():
        if spec["model"]["fusion"]:
            spec["model"]["fusion"] = {"name": "gated", "gate_init": 0.3 if run.startswith("GF-MH") else 0.5}
        if run.startswith("WS"):  # in two settings
            spec["training"] = {**spec["training"], "learning_rate": 0.1}
    plan = records.identified(plan)
    records.write_runs(plan, tmp_path / "runs", troubled=False)
    (own,) = sweeps(load(make(tmp_path, plan)), GATE_INIT)
    assert {value: row["variant"] for value, row in own.cells.items()} == {0.5: "GF", 0.3: "GF-MH"}


def test_the_pareto_front_has_what_nothing_beats_in_both() -> None:
    points = [(0.1, 2.0), (0.2, 2.0), (0.3, 2.5), (0.25, 2.6), (0.5, 3.0), (0.4, 3.0)]
    assert pareto(points) == [(0.2, 2.0), (0.3, 2.5), (0.5, 3.0)]


def test_a_backtick_without_its_partner_is_a_backtick() -> None:
    assert spans("a `b` c") == [(False, "a "), (True, "b"), (False, " c")]
    assert spans("a `b` c ` d") == [(False, "a "), (True, "b"), (False, " c ` d")]
    assert [part for _, part in spans("`")] == ["`"]


def test_tables_that_are_too_large_and_folded_ones_are_not_in_the_body_of_the_pdf(document: Document, tmp_path: Path) -> None:
    made = paper_json(document, tmp_path)
    captions = [table["caption"] for table in made["appendix"]]
    assert any(caption.startswith("Planned runs") for caption in captions)
    assert not any(caption.startswith(("The claims and their verdicts", "Validation bits")) for caption in captions)
    assert "Every run." not in json.dumps(made)
    assert all(isinstance(own, Section) for own in document.sections)
    assert any(isinstance(block, Tabular) and block.table.name == "runs" for block in walk(document.sections))


def test_several_studies_share_one_table_of_components_and_list_only_cells_that_lost_runs(study: Path, tmp_path: Path) -> None:
    other = records.plan(seeds=2, variants={"GPT-2": 0.0, "GF": 0.0}, tokenizers=("char",)) | {"study": "other"}
    records.write_runs(other, tmp_path / "runs", troubled=False)
    tables = [table.name for table in supplement([load(study), load(make(tmp_path, other))], [], {}, {}).tables()]
    assert tables.count("components") == 1
    assert "synthetic.coverage" in tables and "other.coverage" not in tables
    own = {table.name: table for table in paper(load(study), [], {}, {}).tables()}
    assert len(own["coverage"].rows) == 12
