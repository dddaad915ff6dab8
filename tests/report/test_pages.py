"""A report of several studies is pages: a study's, a claim's, and one that leads to all of them."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
import records
from shared import TEMPLATES, make, write_claims

from gt.analysis.verdicts import judge
from gt.report.document import Document, Section, Text
from gt.report.gallery import draw
from gt.report.pages import Links, pages
from gt.report.render import render


class Page(HTMLParser):
    """The ids of a page, what it links to, what it loads, and the attributes of its tags."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.loads: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        own = dict(attrs)
        self.tags.append((tag, own))
        self.ids += [own["id"] or ""] if "id" in own else []
        if tag == "a":
            self.links.append(own["href"] or "")
        else:
            self.loads += [value for name in ("src", "href") if (value := own.get(name))]


@pytest.fixture(scope="module")
def out(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of two studies, of which one judges claims."""
    root = tmp_path_factory.mktemp("pages")
    other = records.plan(seeds=2, variants={"GPT-2": 0.0, "GF": 0.0}, tokenizers=("char",))
    records.write_runs(other | {"study": "other"}, root / "runs", troubled=False)
    second, claims = make(root, other | {"study": "other", "title": "Another"}), write_claims(root / "claims")
    draw(second, png=False)
    judge(second, claims)
    render([study, second], root / "out", TEMPLATES, claims)
    return root / "out"


@pytest.fixture(scope="module")
def found(out: Path) -> dict[Path, Page]:
    return {file: Page(file.read_text(encoding="utf-8")) for file in (out / "report.html", *out.glob("pages/*.html"))}


def test_each_study_and_claim_has_a_page_that_is_called_after_it(out: Path, found: dict[Path, Page]) -> None:
    named = {file.stem for file in found}
    assert named >= {"report", "study-synthetic", "study-other", *(f"claim-C-{i}" for i in range(1, 5)), "reading", "made"}


def test_every_link_leads_to_a_page_and_a_place_on_it(found: dict[Path, Page]) -> None:
    reached = set()
    for file, page in found.items():
        assert len(page.ids) == len(set(page.ids)), file.name
        for link in page.links:
            path, _, place = link.partition("#")
            target = (file.parent / unquote(path)).resolve() if path else file
            assert target in found, f"{file.name}: {link}"
            assert not place or unquote(place) in found[target].ids, f"{file.name}: {link}"
            reached.add(target)
    assert reached == set(found)


def test_pages_load_what_lies_beside_them_and_nothing_else(out: Path, found: dict[Path, Page]) -> None:
    for file, page in found.items():
        for own in page.loads:
            assert own.startswith(("#", "data:")) or (file.parent / own).is_file(), f"{file.name}: {own}"
    for file in out.glob("pages/*.*s*"):
        assert not re.search(r"@import|fetch\(|https?://", file.read_text(encoding="utf-8"))


def test_a_claim_s_page_leads_to_its_study_s_and_to_the_first(out: Path, found: dict[Path, Page]) -> None:
    links = found[out / "pages/claim-C-2.html"].links
    assert links[1:3] == ["../report.html", "study-synthetic.html"]  # after the one that skips to the content
    assert {"claim-C-1.html", "claim-C-3.html"} <= set(links)


def test_the_first_page_has_all_claims_in_one_table_that_is_searched_and_filtered(out: Path, found: dict[Path, Page]) -> None:
    source, page = (out / "report.html").read_text(encoding="utf-8"), found[out / "report.html"]
    assert [f"pages/claim-C-{i}.html" in page.links for i in range(1, 5)] == [True] * 4
    heads = re.findall(r'<th scope="col" data-filter>([^<]*)', source)
    assert heads == ["Verdict", "Study", "Read with care"]
    assert sum("data-search" in attributes for _, attributes in page.tags) == 1


def test_drawings_say_what_they_drew_of_which_series_and_on_which_scales(out: Path) -> None:
    source = (out / "pages/study-other.html").read_text(encoding="utf-8")
    series = {own.split("|")[0] for own in re.findall(r'data-series="([^"]*)"', source)}
    assert series == {"GPT-2", "GF"}
    assert "GF|seed|0|1" in source  # a dot a seed, in this order
    scales = [own.split("|") for own in re.findall(r'data-axes="([^"]*)"', source)]
    assert all(len(own) == 12 and {own[6], own[10]} <= {"linear", "log", "names"} for own in scales)
    assert any(own[6:8] == ["log", "tokens"] for own in scales)


def test_links_lead_to_pages_and_to_places_on_them() -> None:
    one, two = (Section(name, name, (Text("x"),), page=True) for name in ("one", "two"))
    document = Document("t", "b", (Section("first", "First", (Text("x"),)), one, two), paged=True)
    home, *others = pages(document)
    assert [page.file for page in others] == ["pages/one.html", "pages/two.html"]
    assert (others[0].before, others[0].after and others[0].after.file) == (None, "pages/two.html")
    links = Links([home, *others])
    assert [links.to(name, home) for name in ("first", "two", "none")] == ["#first", "pages/two.html", ""]
    assert [links.to(name, others[0]) for name in ("first", "two")] == ["../report.html#first", "two.html"]
    alone = pages(Document("t", "b", document.sections))
    assert [page.file for page in alone] == ["report.html"]
