"""Published studies: what is kept of the records gives the report that the records gave."""

from __future__ import annotations

import errno
import json
import lzma
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pikepdf
import pyarrow.parquet as pq
import pytest
import records

from gt.analysis.verdicts import overview
from gt.archive import read_plan, unpack
from gt.artefacts import Plan, read_manifest
from gt.cli import main
from gt.documents import read_yaml
from gt.errors import ConfigError
from gt.paper.build import Paper
from gt.paper.file import read as read_paper
from gt.paper.headline import END, START, headline, insert
from gt.paper.write import FILES, words_of
from gt.publish import (
    ALL,
    CLAIMS,
    NOTES,
    PAPER,
    REPORT,
    built_paper,
    publish,
    published_in,
    rebuild,
    rebuild_all,
    restore,
)
from gt.records import MANIFEST, read_json
from gt.report.render import render
from gt.study import dumps

ROOT = Path(__file__).parents[1]
TEMPLATES = ROOT / "report_templates"
FIRST = Path(__file__).parent / "first_schema"
PUBLISHED = sorted(folder.parent for folder in ROOT.glob("results/published/*/records"))


@pytest.fixture(scope="module")
def study() -> dict[str, Any]:
    return records.plan(seeds=3, tokenizers=("char",))


@pytest.fixture(scope="module")
def plan(study: dict[str, Any]) -> Plan:
    return records.planned(study)


@pytest.fixture(scope="module")
def runs(study: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records of runs that completed, diverged, failed and are missing, with and without gates."""
    folder = tmp_path_factory.mktemp("records") / "runs"
    records.write_runs(study, folder)
    return folder


@pytest.fixture(scope="module")
def published(plan: Plan, runs: Path) -> Path:
    """The study, published from the command line."""
    (runs.parent / "plan.json").write_text(dumps(plan), encoding="utf-8")
    folder = runs.parent / "published"
    options = {"plan": runs.parent / "plan.json", "runs": runs, "out": folder, "templates": TEMPLATES}
    assert main(["publish", *(text for name, path in options.items() for text in (f"--{name}", str(path)))]) == 0
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_the_report_is_made_again_in_the_same_bytes(published: Path, tmp_path: Path) -> None:
    rebuild(published, tmp_path, TEMPLATES)
    again = files(tmp_path)
    assert again == {name: content for name, content in files(published).items() if not name.startswith("records/")}
    # No claim is about this study, and its report is one page.
    assert {Path(name).parts[0] for name in again} == set(REPORT) - {"claims", "pages"}


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="this is no clone")
def test_making_the_reports_leaves_the_tree_clean() -> None:
    """Of what `make report` writes git knows the reports and verdicts of single studies, and ignores the rest."""
    made = [f"results/published/{study}/{name}" for study in ("one", ALL) for name in REPORT]
    asked = subprocess.run(["git", "check-ignore", *made], cwd=ROOT, capture_output=True, text=True, check=True)
    kept = ("report.html", "report.pdf", "claims.json")
    assert set(made) - set(asked.stdout.split()) == {f"results/published/one/{name}" for name in kept}


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="this is no clone")
def test_what_is_published_is_a_small_part_of_a_clone() -> None:
    listed = subprocess.run(["git", "ls-files", "results/published"], cwd=ROOT, capture_output=True, text=True, check=True)
    sizes = [(ROOT / name).stat().st_size for name in listed.stdout.splitlines()]
    assert len(sizes) <= 120
    assert sum(sizes) <= 24 * 2**20


def test_models_of_a_published_study_are_compared(published: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "GF", "GPT-2", "--study", str(published)]) == 0
    first, second = (sum(records.bits_per_byte(name, "char", seed) for seed in range(3)) / 3 for name in ("GF", "GPT-2"))
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("val/bits_per_byte "))
    assert line.split()[1:4] == ["3", f"{first:.4g}", f"{second:.4g}"]


@pytest.mark.parametrize("without", ["records", "templates"])
def test_what_is_published_stays_whole_where_it_cannot_be_published_again(
    plan: Plan, runs: Path, published: Path, tmp_path: Path, without: str
) -> None:
    folder = Path(shutil.copytree(published, tmp_path / "published"))
    (folder / "notes.txt").write_text("Of another's hand.\n")
    before = files(tmp_path)
    places = (tmp_path / "empty", TEMPLATES) if without == "records" else (runs, tmp_path / "empty")
    with pytest.raises(ConfigError):
        publish(plan, places[0], folder, places[1])
    assert files(tmp_path) == before


def test_a_report_stays_whole_where_it_cannot_be_made_again(published: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(published, tmp_path / "published"))
    before = files(folder)
    with pytest.raises(ConfigError, match="no such template"):
        rebuild(folder, folder, tmp_path / "empty")
    assert files(folder) == before
    assert [path.name for path in tmp_path.iterdir()] == ["published"]


@pytest.mark.parametrize(("module", "function"), [(shutil, "copyfile"), (os, "rename")])
def test_a_report_stays_whole_where_the_disk_is_full(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: Any, function: str
) -> None:
    folder = Path(shutil.copytree(published, tmp_path / "published"))
    (folder / "tables/runs.csv").write_text("Of an earlier version.\n")
    before, real = files(folder), getattr(module, function)

    def full(source: Any, target: Any, **options: Any) -> Any:
        """Fails once, for the first of the tables that is put in its place."""
        if Path(target).suffix == ".csv" or Path(target) == folder / "tables":
            monkeypatch.setattr(module, function, real)
            raise OSError(errno.ENOSPC, "No space left on device", str(target))
        return real(source, target, **options)

    monkeypatch.setattr(module, function, full)
    with pytest.raises(OSError, match="No space left"):
        rebuild(folder, folder, TEMPLATES)
    assert files(folder) == before
    assert [path.name for path in tmp_path.iterdir()] == ["published"]


DAMAGE: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "of another number": (
        "long_context.json",
        lambda file: file.write_text(file.read_text().replace("0.01", "0.02", 1)),
        "evaluations/long_context.json: damaged",
    ),
    "of a later schema": ("held_out.json", lambda file: records.edit(file, schema_version=4), "held_out.json: is of schema 4"),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_record_is_not_published(
    study: dict[str, Any], plan: Plan, runs: Path, published: Path, tmp_path: Path, what: str
) -> None:
    name, change, says = DAMAGE[what]
    own, folder = Path(shutil.copytree(runs, tmp_path / "runs")), Path(shutil.copytree(published, tmp_path / "published/own"))
    run = records.named(study, "GF.char.s0")
    change(own / run / "evaluations" / name)
    before = files(tmp_path / "published")
    with pytest.raises(ConfigError, match=re.escape(run) + ".*" + re.escape(says)):
        publish(plan, own, folder, TEMPLATES)
    assert files(tmp_path / "published") == before


def test_several_studies_are_made_again_together(published: Path, tmp_path: Path) -> None:
    folders = [Path(shutil.copytree(published / "records", tmp_path / name / "records")).parent for name in ("one", "two")]
    renamed = read_plan(folders[1] / "records")[0].model_copy(update={"study": "two", "title": "The second"})
    (folders[1] / "records/plan.json.xz").write_bytes(lzma.compress(dumps(renamed).encode()))
    (tmp_path / NOTES).write_text("Cut short.\n\nIn two.\n")
    rebuild_all(folders, TEMPLATES)
    assert (folders[0] / "report.md").read_bytes() == (published / "report.md").read_bytes()
    text = (tmp_path / ALL / "report.md").read_text()
    assert "## The second" in text and "\nCut short.\n" in text and "\nIn two.\n" in text
    links = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)
    assert links
    assert all((tmp_path / ALL / link).is_file() for link in links)


LOWER = "{{ lower('synthetic', 'GF', 'GPT-2').size }}"
PAIR = {"study": "synthetic", "a": "GF", "b": "GPT-2"}


@pytest.fixture
def project(published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a published study and a paper about it."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(published, tmp_path / "results/published/synthetic")
    claims = tmp_path / "config/claims"
    claims.mkdir(parents=True)
    (claims / "arms.yaml").write_text("{}\n")
    figure = {"kind": "studies", "title": "What was run", "caption": "All of it."}
    finding = {
        "heading": "It is lower",
        "claims": {},
        "text": f"By {LOWER}.",
        "overturned": "Seeds.",
        "record": "-",
        "figure": figure,
    }
    paper = {
        "title": "Gates help",
        "claims": {},
        "studies": ["synthetic"],
        "sentences": ["One.", f"It is lower by {LOWER}.", "Three."],
        "questions": [{"ask": "Is it lower?", "untuned": PAIR}],
        "abstract": [f"Lower by {LOWER}."],
        "before": [],
        "findings": [finding],
        "limits": ["One text."],
        "reproduce": ["From records."],
        "commands": "make report",
    }
    (tmp_path / "config/paper.yaml").write_text(json.dumps(paper))
    return tmp_path


def command(name: str, **options: str) -> int:
    given = {"published": "results/published/synthetic", "paper": "config/paper.yaml", "templates": str(TEMPLATES), **options}
    return main([name, *(text for key, value in given.items() if value for text in (f"--{key}", value))])


def test_a_paper_about_published_studies_has_the_same_bytes_each_time(project: Path) -> None:
    assert command("paper", out="results/published/paper") == 0
    before = files(project / "results/published/paper")
    assert {Path(name).parts[0] for name in before} == set(FILES)
    assert command("rebuild") == 0
    assert files(project / "results/published" / PAPER) == before


def test_a_draft_is_written_and_refused(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paper = project / "config/paper.yaml"
    paper.write_text(paper.read_text().replace("lower(", "higher("))
    assert command("paper", out="paper") == 2
    said = capsys.readouterr().err
    assert (
        "config/paper.yaml, line 1: findings.0: the words presuppose that GF lies above GPT-2 in synthetic; the difference is"
        in said
    )
    assert "is a draft, which says so in these places" in said
    assert {own.name for own in (project / "paper").iterdir()} == set(FILES)
    assert "The words written here presuppose that GF lies above GPT-2" in (project / "paper/paper.md").read_text()
    readme = project / "README.md"
    readme.write_text(f"{START}old\n{END}")
    assert command("headline", readme="README.md", templates="") == 2
    assert "old" in readme.read_text()


def test_the_headline_is_the_paper_s_questions_and_sentences_between_their_marks(project: Path) -> None:
    readme = project / "README.md"
    readme.write_text(f"# Name\n\n{START}old\n{END}\n\nMore.\n")
    (project / "docs").mkdir()
    assert command("headline", readme="README.md", templates="") == 0
    text = readme.read_text()
    assert command("headline", readme="README.md", templates="") == 0
    assert readme.read_text() == text
    assert text.startswith("# Name\n") and text.endswith(f"{END}\n\nMore.\n") and "old" not in text
    assert (project / "docs/headline.png").read_bytes().startswith(b"\x89PNG")
    apart = sum(records.bits_per_byte("GPT-2", "char", s) - records.bits_per_byte("GF", "char", s) for s in range(3)) / 3
    assert f"One.\n\nIt is lower by {apart:.3f}.\n\nThree.\n" in text
    assert f"Is it lower?: all at one rate −{apart:.3f} (95 % interval " in text


def test_a_readme_without_the_marks_is_bad_input(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "README.md").write_text("# Name\n")
    assert command("headline", readme="README.md", templates="") == 2
    assert "headline" in capsys.readouterr().err


@pytest.fixture(scope="module")
def restored(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """A function: a study that is published here -> its tables and verdicts, which are made again once."""
    out, beside = tmp_path_factory.mktemp("restored"), published_in(ROOT / "results/published")

    @cache
    def made(study: Path) -> Path:
        restore(study, out / study.name, beside)
        return out / study.name

    return made


@pytest.fixture(scope="module")
def paper(restored: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory) -> Paper:
    """The paper, from the records that are published."""
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(ROOT)
        own = Path("config/papers/groundthink.yaml")
        about = read_paper(own)[0].studies
        return built_paper(
            own, [restored(folder) for folder in PUBLISHED if folder.name in about], tmp_path_factory.mktemp("figures")
        )


@pytest.mark.skipif(not PUBLISHED, reason="nothing is published")
def test_the_paper_and_the_readme_are_in_step_with_what_is_published(paper: Paper) -> None:
    """Where it fails: `make report headline`, and commit."""
    assert paper.drafts == []
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert insert(readme, headline(paper, Path("results/published", PAPER))) == readme
    kept = json.loads((ROOT / "results/published" / PAPER / "numbers.json").read_text())["numbers"]
    assert close(kept, json.loads(json.dumps(paper.numbers)))


@pytest.mark.skipif(not PUBLISHED, reason="nothing is published")
def test_the_paper_is_short_enough_to_be_read(paper: Paper) -> None:
    assert 2_500 <= words_of(paper.document) <= 4_000
    assert 8 <= len(paper.file.findings) <= 10
    with pikepdf.open(ROOT / "results/published" / PAPER / "paper.pdf") as document:
        assert len(document.pages) <= 10
    assert (ROOT / "results/published" / PAPER / "paper.html").stat().st_size <= 2 * 2**20


@pytest.mark.skipif(not PUBLISHED, reason="nothing is published")
def test_every_number_of_the_paper_is_that_of_its_row(restored: Callable[[Path], Path], paper: Paper) -> None:
    """Worked out again from the tables that `numbers.json` names, by other code."""
    folders = [restored(ROOT / "results/published" / study) for study in paper.file.studies]
    every_one = [one for folder in folders for one in json.loads((folder / "claims.json").read_text())]
    judged = {one["claim"]: one for one in every_one if one["arm"] == "faithful"}
    written: dict[str, Any] = {}
    for place in (ROOT / CLAIMS).glob("*.yaml"):
        written |= read_yaml(place)
    tables: dict[tuple[str, str], pd.DataFrame] = {}
    checked = Counter[str]()

    def table(study: str, name: str) -> pd.DataFrame:
        if (study, name) not in tables:
            place = restored(ROOT / "results/published" / study) / f"{name}.parquet"
            empty = pd.DataFrame(columns=["cell", "metric", "at", "seed", "value"])
            tables[study, name] = pd.read_parquet(place) if place.exists() else empty
        return tables[study, name]

    def by_seed(own: dict[str, Any], cell: str, column: str) -> pd.Series:
        rows = table(own["study"], own["table"])
        rows = rows[rows["cell"] == cell]
        if own["table"] in ("runs", "curves"):
            rows = rows[(rows["status"] == "completed") & rows[column].notna()]
            values = rows.groupby("seed")[column].last()
        else:
            key = "name" if own["table"] == "probes" else "metric"
            rows = rows[rows[key] == column]
            rows = rows[rows["layer"].isna()] if key == "name" else rows[rows["at"] == own["at"]] if "at" in own else rows
            values = rows.set_index("seed")["value"]
        again = table(own["study"], "repeated")
        again = again[(again["cell"] == cell) & (again["metric"] == column)]
        again = again[again["at"] == own["at"]] if "at" in own else again[again["at"].isna()]
        others = again.groupby("seed")["value"].agg(["sum", "count"]).reindex(values.index).fillna(0)
        return (values + others["sum"]) / (1 + others["count"])

    for own in paper.numbers:
        match own["statistic"]:
            case "mean":
                found = by_seed(own, own["rows"][0], own["column"]).mean()
            case "paired difference":
                first, second = (by_seed(own, cell, own["column"]) for cell in own["rows"])
                found = (first - second).dropna().mean()
            case "mean share of both branches":
                way, _, branch = own["column"].rpartition("/")
                rises = {b: by_seed(own, own["rows"][0], f"{way}/{b}") for b in "rm"}
                found = (rises[branch] / (rises["r"] + rises["m"])).mean()
            case "estimate":
                found = judged[own["rows"][0]]["tests"][int(own["column"].rpartition("/")[2]) - 1]["estimate"]
            case "value" if own["table"] == "cells":
                rows = table(own["study"], "cells").set_index("cell")
                found = rows.loc[own["rows"][0], own["column"]]
            case "count" if own["column"] == "runs" and own["study"] != "all":
                found = (table(own["study"], "runs")["status"] == "completed").sum()
            case "count" if own["column"] == "runs":
                every = [table(study, "runs") for study in paper.file.studies]
                found = pd.concat([rows[rows["status"] == "completed"] for rows in every])["run_id"].nunique()
            case "value":
                plan = json.loads((restored(ROOT / "results/published" / own["study"]) / "plan.json").read_text())
                (cell,) = (cell for cell in plan["cells"] if cell["id"] == own["rows"][0])
                spec = plan["runs"][next(iter(cell["runs"].values()))]
                per_step = spec["training"]["batch_size"] * spec["training"]["sequence_length"]
                sizes = {"width": spec["model"]["d_model"], "layers": spec["model"]["n_layer"], "tokens_per_step": per_step}
                found = {**spec["training"], **sizes}[own["column"]]
            case "bound":
                predicate = written[own["rows"][0]]["predicate"][int(own["column"].rpartition("/")[2]) - 1]
                found = own["value"]
                assert found in predicate.values(), own
            case "citation":
                assert set(re.findall(r"\d+", own["printed"])) <= set(re.findall(r"\d+", written[own["rows"][0]]["source"])), (
                    own
                )
                checked["citation"] += 1
                continue
            case "count" if own["column"] == "studies":
                found = len(paper.file.studies)
            case "count" if own["column"] == "explained":
                found = sum(bool(row.explained_by) for row in overview(ROOT / CLAIMS, folders))
            case "count":
                verdict = own["column"].partition(", ")[2]
                found = sum(bool(one["tests"]) and verdict in ("", one["verdict"]) for one in judged.values())
                found -= (
                    0 if verdict else sum(bool(one["tests"]) and one["verdict"] == "not testable" for one in judged.values())
                )
            case other:
                pytest.fail(f"nothing here works out {other!r} again: {own}")
        checked[own["statistic"]] += 1
        assert own["value"] == pytest.approx(found, rel=1e-9), own
        shown = re.match(r"[−\d.,]+", own["printed"])
        assert shown
        number, said = abs(float(found)), float(shown[0].replace("−", "").replace(",", ""))
        scale = 100 if own["printed"].endswith("%") and own["column"].startswith("ablation") else 1
        places = len(shown[0].partition(".")[2])
        if " to " not in own["printed"].partition("(")[0] and not re.search(r"[kMG]\b|^95 %|pairs?$|seeds?$", own["printed"]):
            assert said == pytest.approx(scale * number, abs=0.5001 * 10**-places if places else 0.5), own
    assert checked["paired difference"] > 60 and checked["mean"] > 20 and checked["mean share of both branches"] > 10
    assert checked["estimate"] > 10 and checked["count"] > 20 and checked["value"] > 10 and checked["citation"] > 5


# One of texts with claims and arms, a recall task, several sizes, a single cell, and one that is tuned and looked at.
# `make report` makes all of them again.
SAMPLED = [folder for folder in PUBLISHED if folder.name in ("v4_char", "recall_mqar", "scale", "fusion_extended", "decide")]


@pytest.mark.parametrize("study", SAMPLED, ids=lambda folder: folder.name)
def test_the_numbers_of_a_published_study_are_those_of_its_records(study: Path, restored: Callable[[Path], Path]) -> None:
    """Verdicts, and the tables of its report. Where it fails because these have other columns: `make report`, and commit."""
    again = restored(study)
    render([again], again, TEMPLATES, CLAIMS)  # without the figures of the study, which take long
    committed, judged = (read_json(folder / "claims.json") for folder in (study, again))
    assert close(committed, judged)
    assert tables(study)
    assert tables(study) == tables(again)


def tables(folder: Path) -> list[str]:
    return re.findall(r"<table.*?</table>", (folder / "report.html").read_text(encoding="utf-8"), re.DOTALL)


def close(one: Any, other: Any) -> bool:
    """Whether two JSON values are the same, but for the last digits of numbers, in which processors differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(close(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(close, one, other))
    return bool(one == pytest.approx(other, rel=1e-9)) if isinstance(one, float) else bool(one == other)


def test_what_is_published_is_not_replaced_by_less(published: Path, tmp_path: Path) -> None:
    plan = unpack(published / "records", tmp_path / "runs")
    own = tmp_path / "published" / published.name
    shutil.copytree(published, own)
    lost = next(iter(plan.runs))
    shutil.rmtree(tmp_path / "runs" / lost)
    before = {file: file.read_bytes() for file in own.rglob("*") if file.is_file()}
    with pytest.raises(ConfigError, match=rf"{re.escape(lost)} has no record here any more, and .* as of 1 in all"):
        publish(plan, tmp_path / "runs", own, TEMPLATES)
    assert {file: file.read_bytes() for file in own.rglob("*") if file.is_file()} == before


def test_the_place_of_the_report_of_all_studies_is_no_study_s(plan: Plan, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="all: this is the place of what is about all studies"):
        publish(plan, tmp_path, tmp_path / "all", TEMPLATES)


# When the records say that their runs were begun, and when an attempt of which nothing came was begun before.
BEGUN, BEFORE = datetime(2026, 9, 21, 14, 13, 20, tzinfo=UTC), datetime(2026, 9, 20, 12, tzinfo=UTC)
# When they are trained again.
LATER = datetime(2026, 10, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def small() -> dict[str, Any]:
    return records.plan(seeds=2, variants={"GPT-2": 0.0}, tokenizers=("char",))


@pytest.fixture(scope="module")
def begun_twice(small: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small study, published, of whose first run an attempt was begun before the one that made the record."""
    results = tmp_path_factory.mktemp("results")
    records.write_runs(small, results / "runs")
    records.write_attempt(results / "runs", next(iter(small["runs"])), BEFORE)
    publish(records.planned(small), results / "runs", results / "published/synthetic", TEMPLATES)
    return results / "published/synthetic"


def train_later(small: dict[str, Any], results: Path) -> Path:
    """Records and attempts of the same runs, none of which knows of what was before."""
    records.write_runs(small, results / "runs")
    for run in small["runs"]:
        records.edit(results / "runs" / run / MANIFEST, started=LATER.isoformat(), finished="2026-10-01T12:01:00Z")
        records.write_attempt(results / "runs", run, LATER)
    return results / "runs"


def first_starts(published: Path) -> list[datetime]:
    plan, _ = read_plan(published / "records")
    assert plan.started.keys() == plan.runs.keys()
    return list(plan.started.values())


def test_a_published_plan_says_when_each_run_was_first_begun(begun_twice: Path, published: Path, runs: Path) -> None:
    """By attempts and records; nothing of a run that has neither."""
    assert first_starts(begun_twice) == [BEFORE, BEGUN]
    plan, _ = read_plan(published / "records")
    assert set(plan.started) == {run for run in plan.runs if (runs / run / MANIFEST).exists()} != set(plan.runs)


def test_a_study_that_was_trained_again_keeps_the_first_starts(
    small: dict[str, Any], begun_twice: Path, tmp_path: Path
) -> None:
    """Also where it is published by another name beside what was published of it, and the first of both is removed."""
    own = Path(shutil.copytree(begun_twice, tmp_path / "published/synthetic"))
    runs, plan = train_later(small, tmp_path), records.planned(small)
    publish(plan, runs, own, TEMPLATES)
    assert first_starts(own) == [BEFORE, BEGUN]
    restore(own, tmp_path / "tables")
    rows = pq.read_table(tmp_path / "tables/runs.parquet").to_pylist()
    assert [row["first_started"] for row in rows] == [time.isoformat() for time in (BEFORE, BEGUN)]
    assert all(datetime.fromisoformat(row["started"]) == LATER for row in rows)
    other = tmp_path / "published/other"
    publish(plan.model_copy(update={"study": "other"}), runs, other, TEMPLATES)
    assert first_starts(other) == [BEFORE, BEGUN]
    shutil.rmtree(own)
    publish(plan, runs, own, TEMPLATES)
    assert first_starts(own) == [BEFORE, BEGUN]


def test_the_first_starts_of_a_study_of_the_first_schema_stay_known(tmp_path: Path) -> None:
    """By the ids of today, where it is published again in the second."""
    own = tmp_path / "published/first"
    shutil.copytree(FIRST, own / "records")
    plan = unpack(own / "records", tmp_path / "runs")
    first = dict(plan.started)
    assert len(first) == 3
    for run in (tmp_path / "runs").iterdir():
        records.edit(run / MANIFEST, started="2026-12-01T12:00:00Z", finished="2026-12-01T12:01:00Z")
        assert read_manifest(run).started > first[run.name]
    publish(plan.model_copy(update={"study": "first", "started": {}}), tmp_path / "runs", own, TEMPLATES)
    again, names = read_plan(own / "records")
    assert names == {run: run for run in plan.runs}
    assert again.started == first


@pytest.mark.skipif(not (ROOT / "results/published/scale").exists(), reason="it is not published")
def test_what_is_published_is_judged_as_it_is_when_it_is_made_again(begun_twice: Path, tmp_path: Path) -> None:
    """By all that is published beside it: claims were registered after others' runs had begun, or before."""
    own, runs = tmp_path / "published/scale", tmp_path / "runs"
    plan = unpack(ROOT / "results/published/scale/records", runs)
    shutil.copytree(begun_twice, tmp_path / "published/synthetic")
    publish(plan, runs, own, TEMPLATES)
    restore(own, tmp_path / "again/scale")
    assert read_json(own / "claims.json") == read_json(tmp_path / "again/scale/claims.json")
    shutil.rmtree(tmp_path / "published/synthetic")
    restore(own, tmp_path / "alone/scale")
    assert read_json(own / "claims.json") != read_json(tmp_path / "alone/scale/claims.json")


def test_a_damaged_study_beside_is_named_and_nothing_is_published(
    small: dict[str, Any], begun_twice: Path, tmp_path: Path
) -> None:
    """Since it may know of earlier starts."""
    other = Path(shutil.copytree(begun_twice, tmp_path / "published/other"))
    later = {**json.loads(dumps(records.planned(small))), "schema_version": 4}
    (other / "records/plan.json.xz").write_bytes(lzma.compress(json.dumps(later).encode()))
    runs, before = train_later(small, tmp_path), files(tmp_path / "published")
    with pytest.raises(ConfigError, match=r"other/records/plan\.json\.xz: is of schema 4"):
        publish(records.planned(small), runs, tmp_path / "published/synthetic", TEMPLATES)
    assert files(tmp_path / "published") == before
