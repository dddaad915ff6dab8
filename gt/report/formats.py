"""A document in three formats: HTML and Markdown by their templates, and a PDF set by typst.

The same document gives the same bytes: nothing here looks at a clock, and typst is told no date.
"""

from __future__ import annotations

import io
import json
import math
import os
import re
import shutil
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterable
from functools import cache, partial
from itertools import groupby
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from gt.errors import ConfigError
from gt.records import atomic_write
from gt.report.document import Block, Code, Document, Items, Picture, Section, Tabular, Terms, Text, spans, walk
from gt.report.drawing import INK
from gt.report.fonts import choose, explanation
from gt.report.pages import FOLDER, Links, Page, pages, relative
from gt.report.svg import size
from gt.report.tables import Table, markdown_words

Json = dict[str, Any]
# A table of more lines than this would fill a page, and stands in the appendix where it may not run over pages.
MOST_LINES = 32
# Letters that a column of words has, or has at least, and that fit into all columns of a table on an upright page together.
LETTERS, FEWEST_LETTERS, PAGE_LETTERS = 30, 15, 138
# Centimetres of a page that a picture may have: of height, and of width in one column or two.
HEIGHT, WIDTHS = 21.0, (8.4, 17.6)


def write(document: Document, folder: Path, templates: Path) -> None:
    """Write `report.html`, `report.md` and `report.pdf`, and of a report of several pages its `pages/`.

    ConfigError for a template that is missing or wrong.
    """
    markdown = fill(templates, "report.md.j2", {"document": document, "path": _relative(folder)}, markdown_text)
    texts = {**screen(document, templates), "report.md": unbroken(markdown)}
    for old in (folder / FOLDER).glob("*"):
        if f"{FOLDER}/{old.name}" not in texts:
            old.unlink()
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    with atomic_write(folder / "report.pdf") as temporary:
        temporary.write_bytes(pdf(document, templates))


def screen(document: Document, templates: Path) -> dict[str, str]:
    """The files of a report's pages, by name. One page has all in it; several share their style and script."""
    whole, files = pages(document), {}
    links, css, js = Links(whole), _source(templates, "style.css"), _source(templates, "script.js")
    below: dict[str, list[Page]] = {}
    for page in whole:
        if page.above:
            below.setdefault(page.above[-1].file, []).append(page)
    for page in whole:
        blocks = page.sections[0].blocks if page.above else page.sections
        drawings = [block for block in walk(blocks) if isinstance(block, Picture)]
        style, drawn = inlined(drawings)
        content: Json = {
            "page": page,
            "blocks": blocks,
            "listed": [block for block in blocks if isinstance(block, Section)],
            "children": below.get(page.file, []),
            "link": partial(relative, page=page),
            "to": partial(links.to, page=page),
            "shared": document.paged,
            "css": Markup(css),
            "js": Markup(js),
            "style": style,
            "drawn": drawn,
            "columns": max((len(own.table.shown) for own in walk(blocks) if isinstance(own, Tabular)), default=0),
        }
        files[page.file] = unbroken(fill(templates, "report.html.j2", content, html_words))
    return files | ({f"{FOLDER}/style.css": css, f"{FOLDER}/script.js": js} if document.paged else {})


def _source(templates: Path, name: str) -> str:
    try:
        return (templates / name).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{templates / name}: no such template.") from None


@cache
def _environment(templates: Path, html: bool) -> jinja2.Environment:
    """HTML is escaped; an unknown name is an error. Kept, for a report has a hundred pages of one template."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(templates),
        undefined=jinja2.StrictUndefined,
        autoescape=html,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def fill(templates: Path, name: str, content: Json, words: Callable[[str], str]) -> str:
    """The text of a template. HTML is escaped; an unknown name is an error. words: the filter for plain words."""
    environment = _environment(templates, name.endswith(".html.j2"))
    environment.filters["words"] = words
    try:
        return environment.get_template(name).render(content)
    except jinja2.TemplateNotFound as error:
        raise ConfigError(f"{templates / str(error.name)}: no such template.") from None
    except jinja2.TemplateSyntaxError as error:
        raise ConfigError(f"{error.filename}, line {error.lineno}: {error.message}.") from None
    except jinja2.UndefinedError as error:
        raise ConfigError(f"{templates / name}: unknown name: {error.message}.") from None


def unbroken(page: str) -> str:
    """A line never ends between a number and its per cent sign."""
    return re.sub(r"(\d) %", "\\1\u00a0%", page)


def html_words(words: str) -> Markup:
    """Escaped, with code between backticks."""
    return Markup("").join(Markup("<code>{}</code>").format(part) if code else escape(part) for code, part in spans(words))


def markdown_text(words: str) -> str:
    """The same in Markdown, as a paragraph's or an item's only words."""
    flat = spans(" ".join(words.split()))
    text = "".join(f"`{part}`" if code else markdown_words(part) for code, part in flat)
    return re.sub(r"^([#+-])", r"\\\1", re.sub(r"^(\d+)([.)])", r"\1\\\2", text))


def inlined(pictures: Iterable[Picture]) -> tuple[Markup, dict[str, Markup]]:
    """SVGs as parts of one HTML page: a style sheet for all of them, and each by its name."""
    classes: dict[str, str] = {}
    drawn = {picture.name: _inline(picture, f"f{i:x}-", classes) for i, picture in enumerate(pictures)}
    return Markup("\n".join(f".{name}{{{said}}}" for said, name in classes.items())), drawn


def _inline(picture: Picture, prefix: str, classes: dict[str, str]) -> Markup:
    """Its ids begin with the prefix, its ink is the page's text colour, its styles are classes of the page.

    classes: the names of all styles, by what they say; those that are not there yet are added.
    """
    svg = picture.file.read_text(encoding="utf-8").strip().replace(INK, "currentColor")
    svg = re.sub(r'( id="|url\(#)', rf"\g<1>{prefix}", svg)
    style = re.search("<style>(.*?)</style>", svg)
    said = re.findall(r"\.(\w+){(.*?)}", style[1]) if style else []
    named = {name: classes.setdefault(own, f"s{len(classes):x}") for name, own in said}
    svg = svg.replace(style[0], "") if style else svg
    svg = re.sub(r'(?<= class=")[\w ]+', lambda found: " ".join(named.get(name, name) for name in found[0].split()), svg)
    opening = Markup('<svg role="img" aria-label="{}"').format(picture.alt)
    return Markup(re.sub(r'<svg( xmlns="[^"]*")?', lambda _: opening, svg, count=1))


def _relative(folder: Path) -> Callable[[Picture], str]:
    """Where a picture lies, seen from the report."""
    return lambda picture: Path(os.path.relpath(picture.file, folder)).as_posix()


def pdf(document: Document, templates: Path, name: str = "report") -> bytes:
    """The document as typst sets it by the template of this name. ConfigError where the template is missing or wrong.

    Characters that no font has are named in a message, which the template has too.
    """
    import typst

    template = f"{name}.typ"
    if not (templates / template).exists():
        raise ConfigError(f"{templates / template}: no such template.")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        shutil.copyfile(templates / template, folder / template)
        content = paper_json(document, folder)
        drawn = [json.dumps(content, ensure_ascii=False), *(file.read_text("utf-8") for file in folder.glob("*.svg"))]
        fonts, missing = choose(set().union(*drawn), folder / "fonts")
        if message := explanation(missing):
            print(f"{name}.pdf: {message}", file=sys.stderr)
        text = unbroken(json.dumps({**content, "fonts": message}, ensure_ascii=False))
        (folder / "report.json").write_text(text, encoding="utf-8")
        try:
            return packed(bytes(typst.compile(folder / template, root=folder, font_paths=fonts)))
        except RuntimeError as error:
            raise ConfigError(f"{templates / template}: {error}") from None


def packed(document: bytes) -> bytes:
    """A PDF in half the bytes: its thousands of small objects, which say what is a heading or a cell, compressed together."""
    import pikepdf

    result = io.BytesIO()
    with pikepdf.open(io.BytesIO(document)) as own:
        own.save(result, object_stream_mode=pikepdf.ObjectStreamMode.generate, deterministic_id=True)
    return result.getvalue()


def paper_json(document: Document, folder: Path) -> Json:
    """What the typst template reads. Pictures are copied into the folder; what is folded on a screen is left out."""
    abstract, *sections = [own for own in document.sections if not own.folded]
    plain = _Plain(folder)
    result = {"title": document.title, "byline": spans(document.byline), "abstract": plain.blocks(abstract.blocks)}
    parts = [{"wide": wide, "sections": plain.blocks(own)} for wide, own in groupby(sections, key=lambda own: own.wide)]
    return {**result, "parts": parts, "appendix": plain.appendix}


class _Plain:
    """Blocks as JSON; tables that are too large for where they stand are put by for the appendix."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.appendix: list[Json] = []
        self.wide = False

    def _is_large(self, table: Json) -> bool:
        return _letters(table) > PAGE_LETTERS if self.wide else _lines(table) > MOST_LINES

    def blocks(self, blocks: Iterable[Block]) -> list[Json]:
        made = [own for block in blocks if (own := self.block(block)) is not None]
        return paired(made) if self.wide else made

    def block(self, block: Block) -> Json | None:
        match block:
            case Text(words):
                own: Json = {"words": spans(words)}
            case Items(items, title):
                own = {"items": [spans(item) for item in items], "title": title}
            case Terms(pairs):
                own = {"pairs": [[spans(term), spans(meaning)] for term, meaning in pairs]}
            case Code(source):
                own = {"source": source}
            case Tabular(table, appendix, screen_only):
                if screen_only:
                    return None
                own = _table(table)
                if appendix or (not table.quiet and self._is_large(own)):
                    self.appendix.append(own)
                    return None
            case Picture():
                name = f"{len(list(self.folder.iterdir()))}.svg"
                shutil.copyfile(block.file, self.folder / name)
                own = {"file": name, "title": block.title, "alt": block.alt, "caption": spans(block.caption)}
                own |= {"wide": block.wide, "share": _share(block)}
            case Section():
                before, self.wide = self.wide, self.wide or block.wide
                inner = [] if block.folded else self.blocks(block.blocks)
                self.wide = before
                if not inner:
                    return None
                own = {"id": block.id, "title": spans(block.title), "blocks": inner}
        return {"kind": block.kind, **own}


def paired(blocks: list[Json]) -> list[Json]:
    """Pictures that fit into a half of the page, and sections of nothing else, stand two by two: in a block `pictures`."""
    result: list[Json] = []
    for halves, own in groupby(blocks, key=lambda block: bool(_halves(block))):
        found = list(own)
        pictures = [picture for block in found for picture in _halves(block)]
        rows = [{"kind": "pictures", "pictures": pictures[i : i + 2]} for i in range(0, len(pictures), 2)]
        result += rows if halves else found
    return result


def _halves(block: Json) -> list[Json]:
    """The pictures of half a page that are all of a block; none where it is anything else."""
    if block["kind"] == "picture":
        return [] if block["wide"] else [block]
    inner = block["blocks"] if block["kind"] == "section" else []
    return [picture for own in inner for picture in own["pictures"]] if all(own["kind"] == "pictures" for own in inner) else []


def _share(picture: Picture) -> float:
    """How much of the width that it has a picture may take, in per cent, to be no higher than a page."""
    width, height = size(picture.file)
    return min(100.0, 100 * HEIGHT / (WIDTHS[picture.wide] * height / width))


def _table(table: Table) -> Json:
    """A header has as many lines as make its column no wider than what stands below it.

    Columns of words share the width that is left by how much they hold; by the root of it, since long texts bear more lines.
    """
    rows = [[" ".join(column.text(row).split()) for column in table.shown] for row in table.rows]
    columns = []
    for i, c in enumerate(table.shown):
        widest = max(len(part) for part in [*c.header.split(), *(row[i] for row in rows if not c.wraps)])
        header = c.header if c.wraps else textwrap.fill(c.header, widest, break_long_words=False)
        share = math.sqrt(1 + sum(len(row[i]) for row in rows))
        columns.append({"header": header, "align": c.align, "wraps": c.wraps, "share": round(share, 2), "link": c.link})
    return {"caption": "" if table.quiet else table.caption, "columns": columns, "rows": rows, "breaks": table.breaks()}


def _lines(table: Json) -> int:
    """About how many lines a table takes."""
    wraps = [column["wraps"] for column in table["columns"]]
    lines = sum(max(len(cell) // LETTERS + 1 if w else 1 for cell, w in zip(row, wraps, strict=True)) for row in table["rows"])
    return lines if _letters(table) <= PAGE_LETTERS else 2 * lines


def _letters(table: Json) -> int:
    """About how many letters wide a table is. Headers and columns of words may take several lines."""
    widths = []
    for i, column in enumerate(table["columns"]):
        widest = max((len(row[i]) for row in table["rows"]), default=0)
        header = max(map(len, column["header"].split()))
        widths.append(2 + max(header, min(widest, FEWEST_LETTERS) if column["wraps"] else widest))
    return sum(widths)
