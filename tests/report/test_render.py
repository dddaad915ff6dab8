"""The report: complete, offline, honest about gaps, and the same bytes for the same input."""

from __future__ import annotations

import io
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pikepdf
import pytest
import records
from shared import TEMPLATES, make, report

from gt.errors import ConfigError
from gt.report.census import census
from gt.report.document import Picture
from gt.report.formats import fill, html_words, inlined, markdown_text
from gt.report.numbers import load
from gt.report.render import render, summary

VOID = {"meta", "link", "br", "img", "hr", "input"}
# What ends where the next of these begins, and with the table.
CELLS, ROWS, PARTS = {"td", "th"}, {"tr"}, {"thead", "tbody"}


class Page(HTMLParser):
    """Tags with their attributes; fails on a tag that is not closed in order, but for what HTML closes by itself."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(source)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in CELLS | ROWS | PARTS:
            self.end(CELLS if tag in CELLS else CELLS | ROWS if tag in ROWS else CELLS | ROWS | PARTS)
        if tag not in VOID:
            self.open.append(tag)

    def end(self, tags: set[str]) -> None:
        while self.open[-1] in tags:
            self.open.pop()

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag == "table":
            self.end(CELLS | ROWS | PARTS)
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def page(study: Path) -> Page:
    return Page((study / "report.html").read_text())


def test_the_page_asks_nothing_of_the_network(page: Page, study: Path) -> None:
    for tag, attributes in page.tags:
        assert tag not in ("iframe", "object", "embed")
        for name in ("src", "href", "xlink:href", "srcset", "data"):
            if (value := attributes.get(name)) is not None:
                assert value.startswith(("#", "data:")), (tag, value)
    css = (study / "report.html").read_text()
    assert "@import" not in css
    assert "fetch(" not in css
    assert not re.search(r"url\((?!#)", css)


def test_ids_are_unique_and_every_link_has_its_target(page: Page) -> None:
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.tags:
        for name in ("href", "xlink:href"):
            if (link := attributes.get(name)) and link.startswith("#"):
                assert link[1:] in ids


def drawn(study: Path) -> list[Path]:
    return [*study.glob("figures/*.svg"), *study.glob("claims/*.svg")]


def test_the_page_is_for_phones_readers_and_both_themes(page: Page, study: Path) -> None:
    assert ("html", {"lang": "en"}) in page.tags
    assert any(a.get("name") == "viewport" for _, a in page.tags)
    assert "prefers-color-scheme: dark" in (study / "report.html").read_text()
    pictures = [a for tag, a in page.tags if tag == "svg"]
    assert len(pictures) == len(drawn(study))
    assert all(a["role"] == "img" and a["aria-label"] for a in pictures)


def test_words_of_the_study_are_never_markup(study: Path) -> None:
    source = (study / "report.html").read_text()
    assert "<b>bold</b>" not in source
    assert "&lt;b&gt;bold&lt;/b&gt; &amp; more" in source


def test_both_reports_give_the_same_findings_and_gaps(study: Path) -> None:
    results = load(study)
    markdown = (study / "report.md").read_text().replace("\u00a0", " ")
    for sentence in (*results.findings, census([results]).completion):
        assert markdown_text(sentence) in markdown
    for source in (markdown, (study / "report.html").read_text()):
        assert "OutOfMemoryError: 40 MiB" in source
        assert "loss or gradient not finite at step 120" in source
        assert "cannot be decided" in source


def test_findings_name_the_best_cell_and_count_the_decisions(study: Path) -> None:
    finding = load(study).findings[1]
    best = min(("GF", "GF-MH"), key=lambda v: sum(records.bits_per_byte(v, "bpe1024", seed) for seed in range(3)))
    mean = sum(records.bits_per_byte(best, "bpe1024", seed) for seed in range(3)) / 3
    assert f"lowest mean is that of {best}: {mean:.4f} bits per byte" in finding
    assert "Of 5 contrasts with GPT-2, 5 are decided (3 better, 1 worse and 1 equivalent)." in finding


def test_markdown_links_to_the_figures_that_there_are(study: Path) -> None:
    links = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", (study / "report.md").read_text())
    assert sorted(study / link for link in links) == sorted(drawn(study))


def test_rendering_again_gives_the_same_bytes(study: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(study, tmp_path / "another place")
    render([copy], copy, TEMPLATES, study.parent / "claims")
    for name in ("report.html", "report.md", "report.pdf"):
        assert (copy / name).read_bytes() == (study / name).read_bytes()


@pytest.mark.parametrize("seeds", [1, 2])
def test_few_seeds_are_said_to_be_few(tmp_path: Path, seeds: int) -> None:
    plan = records.plan(seeds=seeds, tokenizers=("char",))
    records.write_runs(plan, tmp_path / "runs")
    folder = make(tmp_path, plan)
    report(folder)
    assert "cannot be decided with 1 seed" in (folder / "report.md").read_text()
    assert "nan" not in (folder / "report.md").read_text().lower().split("environment")[0]


def test_nothing_run_yet_is_a_report_too(tmp_path: Path) -> None:
    folder = make(tmp_path, records.plan(seeds=2))
    report(folder)
    assert "On embedded, char no run has completed." in (folder / "report.html").read_text()
    assert "0 of 24 planned runs have completed; 24 missing." in summary(folder)


def test_warnings_stand_at_the_top(tmp_path: Path) -> None:
    plan = records.plan(seeds=2, tokenizers=("char",))
    records.write_runs(plan, tmp_path / "runs")
    records.edit(tmp_path / "runs" / plan["cells"][0]["runs"]["0"] / "manifest.json", data_sha256="0" * 64)
    folder = make(tmp_path, plan)
    report(folder)
    source = (folder / "report.html").read_text()
    assert source.index("trained on other data") < source.index("How to read this</h2>")


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ results.no_such_number }}", "no_such_number"),
        ("{{ bits }}", "bits"),
        ("{{ tables.unknown.html() }}", "unknown"),
        ("{% for x in %}", "line 1"),
    ],
)
def test_an_unknown_name_in_a_template_fails_the_build(study: Path, tmp_path: Path, template: str, said: str) -> None:
    templates = shutil.copytree(TEMPLATES, tmp_path / "templates")
    (templates / "report.md.j2").write_text(template)
    with pytest.raises(ConfigError, match=rf"report\.md\.j2.*{said}"):
        fill(templates, "report.md.j2", {"results": load(study), "tables": {}}, markdown_text)


def test_a_missing_template_is_named(study: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"report\.md\.j2: no such template"):
        render([study], tmp_path, tmp_path, tmp_path)


def test_a_study_that_was_not_aggregated_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="gt aggregate"):
        report(tmp_path)


def test_inlined_pictures_take_the_pages_ink_and_share_its_styles_but_no_ids(tmp_path: Path) -> None:
    shape = '<path id="i0" class="s0" d="M1 2"/><g clip-path="url(#i0)" class="s1 s0"/>'
    for name, style in (("one", ".s0{fill:none}.s1{fill:#24292f}"), ("two", ".s0{fill:#24292f}.s1{fill:red}")):
        (tmp_path / f"{name}.svg").write_text(f'<svg xmlns="http://www.w3.org/2000/svg"><style>{style}</style>{shape}</svg>\n')
    style, drawn = inlined(Picture(name, "", "", f'"{name}"', tmp_path / f"{name}.svg") for name in ("one", "two"))
    names = {said: name for name, said in re.findall(r"\.(\w+){(.*)}", style)}
    assert names.keys() == {"fill:none", "fill:currentColor", "fill:red"}
    for name, styles in (("one", ("fill:none", "fill:currentColor")), ("two", ("fill:currentColor", "fill:red"))):
        (own,) = set(re.findall(r"(\w+)-i0", drawn[name]))
        assert drawn[name] == (
            f'<svg role="img" aria-label="&#34;{name}&#34;"><path id="{own}-i0" class="{names[styles[0]]}" d="M1 2"/>'
            f'<g clip-path="url(#{own}-i0)" class="{names[styles[1]]} {names[styles[0]]}"/></svg>'
        )
    assert len(set(re.findall(r"(\w+)-i0", "".join(drawn.values())))) == 2


def test_a_table_says_once_which_columns_are_of_words(page: Page, study: Path) -> None:
    """Each has a rule of its own in the page, and cells have no classes."""
    source = (study / "report.html").read_text()
    tables = [attributes["class"] or "" for tag, attributes in page.tags if tag == "table"]
    assert any("w" in own for own in tables)
    for column in {own for classes in tables for own in classes.split()}:
        assert re.search(rf"\.{column} [^{{}}]*:nth-child\({column[1:]}\)[^{{}}]* {{", source)
    assert not any("class" in attributes for tag, attributes in page.tags if tag in ("td", "th"))


def test_a_paper_is_small_and_still_says_what_its_parts_are(study: Path) -> None:
    with pikepdf.open(study / "report.pdf") as paper:
        assert paper.Root.MarkInfo.Marked
        assert {str(own.S) for own in paper.objects if isinstance(own, pikepdf.Dictionary) and "/S" in own} >= {"/H1", "/TD"}
        loose = io.BytesIO()
        paper.save(loose, object_stream_mode=pikepdf.ObjectStreamMode.disable)
    assert (study / "report.pdf").stat().st_size < 0.6 * len(loose.getvalue())


def test_only_what_stands_between_backticks_is_code() -> None:
    assert html_words("a `b<c>` & `d") == "a <code>b&lt;c&gt;</code> &amp; `d"
    assert markdown_text("1. *a* `b*c` `d") == "1\\. \\*a\\* `b*c` \\`d"


def test_a_summary_is_short_and_ends_with_the_report(study: Path, plan: dict[str, Any]) -> None:
    lines = summary(study).splitlines()
    assert 4 <= len(lines) <= 10
    assert lines[0].startswith(f"{plan['study']}: 33 of 36 planned runs have completed")
    assert lines[-1].endswith(str(study / "report.html"))
    assert json.loads((study / "coverage.json").read_text())["completed"] == 33
