"""A built paper as `paper.pdf`, `paper.html` and `paper.md`, and `numbers.json`: each number in it, and the rows it is of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from gt.errors import ConfigError
from gt.paper.build import Paper
from gt.paper.figures import keep
from gt.paper.formulas import mathml, plain
from gt.paper.prose import FORMULA
from gt.records import atomic_write, write_json
from gt.report.document import Document, Picture, Section, spans, walk
from gt.report.formats import fill, html_words, inlined, markdown_text, pdf, unbroken

Json = dict[str, Any]
NUMBERS = "numbers.json"
FILES = ("paper.pdf", "paper.html", "paper.md", NUMBERS, "figures")
QUESTIONS = "questions.svg"
FIGURES = "figures"


def write(paper: Paper, out: Path, templates: Path) -> None:
    """All of it into a folder."""
    document, numbers = paper.document, {"paper": paper.path.name, "numbers": paper.numbers}
    keep(paper.questions, out / FIGURES / QUESTIONS)
    style, drawn = inlined(document.pictures())
    screen = {"document": document, "walk": walk, "style": style, "drawn": drawn}
    pages = {
        "paper.html": fill(templates, "paper.html.j2", screen, _html),
        "paper.md": fill(templates, "paper.md.j2", {"document": document, "path": _path}, markdown),
    }
    for name, page in pages.items():
        with atomic_write(out / name) as temporary:
            temporary.write_text(unbroken(page), encoding="utf-8")
    with atomic_write(out / "paper.pdf") as temporary:
        temporary.write_bytes(pdf(document, templates, "paper"))
    write_json(out / NUMBERS, numbers)


def check(paper: Paper, out: Path) -> None:
    """ConfigError where what was written is a draft, with all that the record belies."""
    if paper.drafts:
        raise ConfigError(
            "\n".join([*paper.drafts, f"{out}: what is written there is a draft, which says so in these places."])
        )


def pieces(words: str) -> list[tuple[str, str]]:
    """A text's parts, each with what it is: text, code or math."""
    found: list[tuple[str, str]] = []
    for i, part in enumerate(FORMULA.split(words)):
        found += [("math", part)] if i % 2 else [("code" if code else "text", own) for code, own in spans(part)]
    return found


def words_of(document: Document) -> int:
    """How many words a reader reads, captions and headings with them."""
    found = [document.title]
    for block in walk(document.sections):
        match block:
            case Picture():
                found += [block.title, block.caption]
            case Section():
                found.append(block.title)
            case _:
                found += _texts(block)
    return sum(len(words.split()) for words in found)


def _texts(block: Any) -> list[str]:
    match block.kind:
        case "text":
            return [block.words]
        case "items":
            return list(block.items)
        case "terms":
            return [words for pair in block.pairs for words in pair]
    return []


def _html(words: str) -> Markup:
    made = {"math": mathml, "code": lambda part: html_words(f"`{part}`"), "text": escape}
    return Markup("").join(made[kind](part) for kind, part in pieces(words))


def markdown(words: str) -> str:
    """A text in Markdown, its formulas as code."""
    return markdown_text(FORMULA.sub(lambda found: f"`{plain(found[1])}`", words))


def _path(picture: Picture) -> str:
    return f"{FIGURES}/{picture.file.name}"
