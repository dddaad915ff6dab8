"""The pages that a report of several studies has on a screen: its own, and one for each section that asks for one.

A page's file is called after its section, so that a link to it stays what it is whatever else the report has. Above it is the
page of the section that it says, as of a claim that of its study, or that in which it stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from gt.report.document import Block, Document, Section, walk

# The folder of all pages but the first, beside it.
FOLDER = "pages"


@dataclass(frozen=True)
class Page:
    """file: seen from the report's folder. above: the pages that it stands in, the outermost first. before, after: its
    neighbours on the same page.
    """

    file: str
    title: str
    byline: str
    sections: tuple[Section, ...]
    above: tuple[Page, ...] = ()
    before: Page | None = None
    after: Page | None = None

    @property
    def id(self) -> str:
        """Of the section that it is; empty of the first page."""
        return self.file.removeprefix(f"{FOLDER}/").removesuffix(".html") if self.above else ""


def pages(document: Document) -> list[Page]:
    """The report's own page first, then those of its sections, a page's own right after it."""
    if not document.paged:
        return [Page("report.html", document.title, document.byline, document.sections)]
    kept, taken = _parted(document.sections)
    home = Page("report.html", document.title, document.byline, tuple(own for own in kept if isinstance(own, Section)))
    below: dict[str, list[Section]] = {}
    known = {own.id for own in taken}
    for own in taken:
        below.setdefault(own.under if own.under in known else "", []).append(own)
    return [home, *_row((home,), below.pop("", []), below)]


def _row(above: tuple[Page, ...], sections: Sequence[Section], below: dict[str, list[Section]]) -> list[Page]:
    """The pages of sections, each with those below it. below: the sections under each, by its id."""
    row = [Page(f"{FOLDER}/{own.id}.html", own.title, "", (replace(own, page=False),), above) for own in sections]
    found = []
    for page, before, after in zip(row, [None, *row], [*row[1:], None], strict=False):
        beside = replace(page, before=before, after=after)
        found += [beside, *_row((*above, beside), below.get(page.id, []), below)]
    return found


def _parted(blocks: Sequence[Block]) -> tuple[list[Block], list[Section]]:
    """The blocks that stay, and the sections among and in them that have pages of their own. What is left empty goes."""
    kept: list[Block] = []
    taken: list[Section] = []
    for block in blocks:
        if not isinstance(block, Section):
            kept.append(block)
        elif block.page:
            inner, found = _parted(block.blocks)
            taken += [replace(block, blocks=tuple(inner)), *(replace(own, under=own.under or block.id) for own in found)]
        else:
            inner, found = _parted(block.blocks)
            taken += found
            if inner:
                kept.append(replace(block, blocks=tuple(inner)))
    return kept, taken


class Links:
    """Where each section of a report is: on which page, and whether it is all of it."""

    def __init__(self, whole: Sequence[Page]) -> None:
        self.files = {block.id: page.file for page in whole for block in walk(page.sections) if isinstance(block, Section)}
        self.own = {page.id for page in whole if page.id}

    def to(self, id: str, page: Page) -> str:
        """The link to a section from a page; empty where there is no such section."""
        if (file := self.files.get(id)) is None:
            return ""
        if file == page.file:
            return f"#{id}"
        return relative(file, page) + ("" if id in self.own else f"#{id}")


def relative(file: str, page: Page) -> str:
    """A file of the report, seen from a page. All files but the first page's are in one folder."""
    inside = page.file.startswith(f"{FOLDER}/")
    if file.startswith(f"{FOLDER}/"):
        return file.removeprefix(f"{FOLDER}/") if inside else file
    return f"../{file}" if inside else file
