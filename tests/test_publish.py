"""Published studies: what is kept of the records gives the report that the records gave."""

from __future__ import annotations

import errno
import json
import lzma
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import records

from gt.archive import unpack
from gt.cli import main
from gt.errors import ConfigError
from gt.publish import CLAIMS, NOTES, REPORT, publish, rebuild, rebuild_all, restore, write_headline
from gt.records import read_json, write_json, write_sealed
from gt.report.headline import ALL, END, START
from gt.report.render import render

ROOT = Path(__file__).parents[1]
TEMPLATES = ROOT / "report_templates"
PUBLISHED = sorted(folder.parent for folder in ROOT.glob("results/published/*/records"))


@pytest.fixture(scope="module")
def plan() -> dict[str, Any]:
    return records.identified(records.plan(seeds=3, tokenizers=("char",)))


@pytest.fixture(scope="module")
def runs(plan: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records of runs that completed, diverged, failed and are missing, with and without gates."""
    folder = tmp_path_factory.mktemp("records") / "runs"
    records.write_runs(plan, folder)
    return folder


@pytest.fixture(scope="module")
def published(plan: dict[str, Any], runs: Path) -> Path:
    """The study, published from the command line."""
    write_json(runs.parent / "plan.json", plan)
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
    assert {Path(name).parts[0] for name in again} == set(REPORT) - {"claims"}  # no claim is about this study


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
    assert sum(sizes) <= 18 * 2**20


def test_models_of_a_published_study_are_compared(published: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "GF", "GPT-2", "--study", str(published)]) == 0
    first, second = (sum(records.bits_per_byte(name, "char", seed) for seed in range(3)) / 3 for name in ("GF", "GPT-2"))
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("val/bits_per_byte "))
    assert line.split()[1:4] == ["3", f"{first:.4g}", f"{second:.4g}"]


@pytest.mark.parametrize("without", ["records", "templates"])
def test_what_is_published_stays_whole_where_it_cannot_be_published_again(
    plan: dict[str, Any], runs: Path, published: Path, tmp_path: Path, without: str
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


def test_a_damaged_record_is_not_published(plan: dict[str, Any], runs: Path, published: Path, tmp_path: Path) -> None:
    own, folder = Path(shutil.copytree(runs, tmp_path / "runs")), Path(shutil.copytree(published, tmp_path / "published"))
    run = records.named(plan, "GF.char.s0")
    write_sealed(own / run / "evaluation.json", read_json(own / run / "evaluation.json"))
    text = (own / run / "evaluation.json").read_text()
    (own / run / "evaluation.json").write_text(text.replace("0.01", "0.02", 1))
    before = files(folder)
    with pytest.raises(ConfigError, match=rf"{re.escape(run)}/evaluation\.json: damaged"):
        publish(plan, own, folder, TEMPLATES)
    assert files(folder) == before


def test_several_studies_are_made_again_together(plan: dict[str, Any], published: Path, tmp_path: Path) -> None:
    folders = [Path(shutil.copytree(published / "records", tmp_path / name / "records")).parent for name in ("one", "two")]
    renamed = {**plan, "study": "two", "title": "The second"}
    (folders[1] / "records/plan.json.xz").write_bytes(lzma.compress(json.dumps(renamed).encode()))
    (tmp_path / NOTES).write_text("Cut short.\n\nIn two.\n")
    rebuild_all(folders, TEMPLATES)
    assert (folders[0] / "report.md").read_bytes() == (published / "report.md").read_bytes()
    text = (tmp_path / ALL / "report.md").read_text()
    assert "## The second" in text and "\nCut short.\n" in text and "\nIn two.\n" in text
    links = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)
    assert links
    assert all((tmp_path / ALL / link).is_file() for link in links)
    readme = tmp_path / "README.md"
    readme.write_text(f"{START}{END}")
    write_headline(folders, readme)
    links = re.findall(r"\]\(([^)]+)\)", readme.read_text())
    assert str(tmp_path) in links
    assert all((tmp_path / link).exists() for link in links)


def test_the_headline_is_between_its_marks_and_says_what_was_found(published: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(published, tmp_path / "synthetic"))
    readme = tmp_path / "README.md"
    readme.write_text(f"# Name\n\n{START}old\n{END}\n\nMore.\n")
    write_headline([folder], readme)
    text = readme.read_text()
    write_headline([folder], readme)
    assert readme.read_text() == text
    assert text.startswith("# Name\n") and text.endswith(f"{END}\n\nMore.\n") and "old" not in text
    (figure,) = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)
    assert (tmp_path / figure).read_bytes().startswith(b"\x89PNG")
    assert "15 runs of 1 study are published." in text
    mean = sum(records.bits_per_byte("GF", "char", seed) for seed in range(3)) / 3
    assert "is that of GF in `synthetic`, after 250 steps of 1,024 tokens at a learning rate of 0.003: " in text
    assert f"{mean:.4f} bits per byte" in text


def test_a_readme_without_the_marks_is_bad_input(published: Path, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# Name\n")
    with pytest.raises(ConfigError, match="headline"):
        write_headline([published], tmp_path / "README.md")


@pytest.mark.skipif(not PUBLISHED, reason="nothing is published")
def test_the_readme_is_in_step_with_what_is_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it fails: `make headline`, and commit."""
    monkeypatch.chdir(ROOT)
    readme = tmp_path / "README.md"
    readme.write_text((ROOT / "README.md").read_text(encoding="utf-8"), encoding="utf-8")
    write_headline([folder.relative_to(ROOT) for folder in PUBLISHED], readme)
    assert readme.read_text(encoding="utf-8") == (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("study", PUBLISHED, ids=lambda folder: folder.name)
def test_the_numbers_of_a_published_study_are_those_of_its_records(study: Path, tmp_path: Path) -> None:
    """Verdicts, and the tables of its report. Where it fails because these have other columns: `make report`, and commit."""
    again = tmp_path / study.name
    restore(study, again)
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
    lost = next(iter(plan["runs"]))
    shutil.rmtree(tmp_path / "runs" / lost)
    before = {file: file.read_bytes() for file in own.rglob("*") if file.is_file()}
    with pytest.raises(ConfigError, match=rf"{re.escape(lost)} has no record here any more, and .* as of 1 in all"):
        publish(plan, tmp_path / "runs", own, TEMPLATES)
    assert {file: file.read_bytes() for file in own.rglob("*") if file.is_file()} == before


def test_the_place_of_the_report_of_all_studies_is_no_study_s(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="all: this is the place of the report of all studies"):
        publish({"runs": {}}, tmp_path, tmp_path / "all", TEMPLATES)
