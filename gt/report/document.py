"""What a report is made of, whatever it is written in: sections of text, tables, pictures and lists.

`report_templates/` has one template a format, which says how each of these looks in it. Words are plain text, escaped by the
format; only what stands between backticks is set as code.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from gt.report.tables import Table, anchor


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    words: str
    kind: ClassVar[str] = "text"


@dataclass(frozen=True)
class Items:
    """A list. title: what it is a list of; care: it stands out, as what a reader must know."""

    items: tuple[str, ...]
    title: str = ""
    care: bool = False
    kind: ClassVar[str] = "items"


@dataclass(frozen=True)
class Terms:
    """Words and what they mean."""

    pairs: tuple[tuple[str, str], ...]
    kind: ClassVar[str] = "terms"


@dataclass(frozen=True)
class Code:
    """Commands."""

    source: str
    kind: ClassVar[str] = "code"


@dataclass(frozen=True)
class Tabular:
    """A table. appendix: on paper it stands at the end, where it may run over pages. screen: on paper it is left out, for it is
    part of another one.
    """

    table: Table
    appendix: bool = False
    screen: bool = False
    kind: ClassVar[str] = "table"


@dataclass(frozen=True)
class Picture:
    """A figure that `gt figures` has drawn. file: its SVG. wide: it needs both columns of a page."""

    name: str
    title: str
    caption: str
    alt: str
    file: Path
    wide: bool = False
    kind: ClassVar[str] = "picture"


@dataclass(frozen=True)
class Section:
    """Blocks and sections under a title.

    folded: on a screen it opens on demand; on paper it is left out. wide: on paper it has pages of one column, where tables
    stand in their place and may run over pages. page: on a screen it has a page of its own, where a report has several; under:
    that of this section leads to it, if it is another one than that in which it stands.
    """

    id: str
    title: str
    blocks: tuple[Block, ...]
    folded: bool = False
    wide: bool = False
    page: bool = False
    under: str = ""
    kind: ClassVar[str] = "section"

    @property
    def sections(self) -> list[Section]:
        return [block for block in self.blocks if isinstance(block, Section)]


Block = Text | Items | Terms | Code | Tabular | Picture | Section


@dataclass(frozen=True)
class Document:
    """A report. byline: what it is about, in a line. paged: on a screen it has several pages (`gt.report.pages`)."""

    title: str
    byline: str
    sections: tuple[Section, ...]
    paged: bool = False

    def tables(self) -> list[Table]:
        """All tables, each once."""
        return list({block.table.name: block.table for block in walk(self.sections) if isinstance(block, Tabular)}.values())

    def pictures(self) -> list[Picture]:
        return [block for block in walk(self.sections) if isinstance(block, Picture)]


def section(
    id: str, title: str, *blocks: Block | None, folded: bool = False, wide: bool = False, page: bool = False
) -> Section | None:
    """A section of the blocks that there are; None without any."""
    there = tuple(block for block in blocks if block is not None)
    return Section(anchor(id), title, there, folded, wide, page) if there else None


def walk(blocks: Iterable[Block]) -> Iterator[Block]:
    """All blocks, sections before what is in them."""
    for block in blocks:
        yield block
        if isinstance(block, Section):
            yield from walk(block.blocks)


def named(block: Block, study: str) -> Block:
    """A part of one study where several are reported: the names of its tables and pictures, which are their files', begin with
    the study's.
    """
    match block:
        case Section():
            return replace(block, blocks=tuple(named(own, study) for own in block.blocks))
        case Tabular():
            return replace(block, table=replace(block.table, name=f"{study}.{block.table.name}"))
        case Picture():
            return replace(block, name=f"{study}.{block.name}")
        case _:
            return block


def abridged(document: Document) -> Document:
    """A report with its tables as a reader sees them."""

    def own(block: Block) -> Block:
        match block:
            case Section():
                return replace(block, blocks=tuple(map(own, block.blocks)))
            case Tabular():
                return replace(block, table=block.table.abridged)
            case _:
                return block

    sections = tuple(replace(part, blocks=tuple(map(own, part.blocks))) for part in document.sections)
    return replace(document, sections=sections)


def spans(words: str) -> list[tuple[bool, str]]:
    """A text's parts, each with whether it is code."""
    parts = words.split("`")
    if len(parts) % 2 == 0:  # a backtick without its partner is only that
        parts[-2:] = ["`".join(parts[-2:])]
    return [(bool(i % 2), part) for i, part in enumerate(parts) if part]
