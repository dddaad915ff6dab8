"""Tables: one object, written as CSV (plain numbers), Markdown, LaTeX (booktabs) and HTML (as a reader sees them)."""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from gt.records import atomic_write
from gt.report import text
from gt.study import shortest

Row = dict[str, Any]
# Rows of a table that a report shows, and of one that a reader may search.
LONGEST, SEARCHED = 200, 2000


@dataclass(frozen=True)
class Column:
    """key: of the CSV file, and of the row where `shown` is of one value. header: what the reader sees, with its unit.

    wraps: the text may take several lines in HTML. link: to the section whose id is this and the value. filters: in HTML a
    reader may choose rows by what stands in it, of several things between semicolons by each.
    """

    key: str
    header: str
    align: Literal["left", "right"] = "right"
    shown: Callable[[Any], str] | None = None
    whole_row: Callable[[Row], str] | None = None
    wraps: bool = False
    link: str = ""
    filters: bool = False

    def text(self, row: Row) -> str:
        """A cell as a reader sees it."""
        if self.whole_row is not None:
            return self.whole_row(row)
        value = row[self.key]
        if text.absent(value) or value == "":
            return text.NOTHING
        return self.shown(value) if self.shown else str(value)

    def html(self, row: Row, href: Callable[[str], str]) -> str:
        """The same in HTML. href: where a section is, by its id; empty where there is none."""
        words = html.escape(self.text(row))
        target = href(anchor(self.link + str(row[self.key]))) if self.link else ""
        return f'<a href="{html.escape(target)}">{words}</a>' if target else words


@dataclass(frozen=True)
class Table:
    """raw: further keys that the CSV file has, after those of the columns. formats: of the files beside the report.

    groups: the key of which rows that stand together have one value; a line is drawn between them. search: in HTML a reader may
    search its rows. quiet: it stands right below what it is about, so that its caption is for those alone who do not see it.
    """

    name: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    raw: tuple[str, ...] = ()
    formats: tuple[Literal["csv", "md", "tex"], ...] = ("csv", "md", "tex")
    groups: str = ""
    search: bool = False
    quiet: bool = False

    @cached_property
    def shown(self) -> tuple[Column, ...]:
        """The columns that a reader sees: not that of a corpus or tokenizer which is the same in all rows."""
        return tuple(c for c in self.columns if c not in PLACE or len({c.text(row) for row in self.rows}) > 1)

    @cached_property
    def abridged(self) -> Table:
        """What a reader sees of it: not more rows than are read. The CSV file has all."""
        n, most = len(self.rows), SEARCHED if self.search else LONGEST
        if n <= most:
            return self
        caption = f"{self.caption} The first {most:,} of {n:,} rows; `tables/{self.name}.csv` has all."
        return replace(self, caption=caption, rows=self.rows[:most])

    def breaks(self) -> list[int]:
        """The rows that begin a group, but for the first."""
        found = [row[self.groups] for row in self.rows] if self.groups else []
        return [i for i in range(1, len(found)) if found[i] != found[i - 1]]

    def csv(self) -> str:
        """Full precision, nothing for what is absent: for programs. No word is a formula to a spreadsheet."""
        keys = list(dict.fromkeys([*(column.key for column in self.columns), *self.raw]))
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([_plain(key) for key in keys])
        writer.writerows(["" if text.absent(row[key]) else _plain(row[key]) for key in keys] for row in self.rows)
        return file.getvalue()

    def markdown(self) -> str:
        """A pipe table with its caption above it."""
        lines = [
            [_one_line(column.header) for column in self.shown],
            ["---" if column.align == "left" else "---:" for column in self.shown],
            *([_one_line(column.text(row)) for column in self.shown] for row in self.rows),
        ]
        return ("" if self.quiet else f"{self.caption}\n\n") + "".join(f"| {' | '.join(line)} |\n" for line in lines)

    def latex(self) -> str:
        """A floating table for `\\usepackage{booktabs}`."""
        head, *body = [
            " & ".join(_latex(cell) for cell in line) + r" \\"
            for line in [[c.header for c in self.shown], *([c.text(row) for c in self.shown] for row in self.rows)]
        ]
        for i in reversed(self.breaks()):
            body.insert(i, r"\midrule")
        lines = [
            r"\begin{table}",
            r"  \centering",
            rf"  \caption{{{_latex(self.caption)}}}",
            rf"  \label{{tab:{self.name}}}",
            rf"  \begin{{tabular}}{{{''.join(column.align[0] for column in self.shown)}}}",
            *(f"    {line}" for line in [r"\toprule", head, r"\midrule", *body, r"\bottomrule"]),
            r"  \end{tabular}",
            r"\end{table}",
        ]
        return "\n".join(lines) + "\n"

    def html(self, href: Callable[[str], str] = "#{}".format) -> str:
        """A table that scrolls inside its own box, the first column naming the rows. href: as a column has it.

        Its classes say which columns are of words (`l2`), and which of these may take several lines (`w2`); cells need not. Nor
        do these and rows need end tags in HTML.
        """
        e = html.escape
        columns = [(i, c) for i, c in enumerate(self.shown, 1)]
        classes = " ".join([f"l{i}" for i, c in columns if c.align == "left"] + [f"w{i}" for i, c in columns if c.wraps])
        head = "".join(f'<th scope="col"{" data-filter" if c.filters else ""}>{e(c.header)}' for c in self.shown)
        rows, breaks = [], set(self.breaks())
        for i, row in enumerate(self.rows):
            first, *rest = (c.html(row, href) for c in self.shown)
            cells = "".join(f"<td>{cell}" for cell in rest)
            group = ' class="group"' if i in breaks else ""
            rows.append(f'<tr{group}><th scope="row">{first}{cells}')
        label = e(self.caption.split(". ")[0].rstrip("."), quote=True)
        caption = "" if self.quiet else f"<figcaption>{e(self.caption)}</figcaption>"
        return (
            f'<figure class="table"{" data-search" if self.search else ""}>{caption}\n'
            f'<div class="scroll" role="region" tabindex="0" aria-label="{label}">\n'
            f'<table class="{classes}">\n<thead><tr>{head}\n<tbody>\n' + "\n".join(rows) + "\n</table>\n</div></figure>\n"
        )

    def write(self, folder: Path) -> None:
        """`<name>.csv`, `.md` and `.tex`, or those of them that it has."""
        contents = {"csv": self.csv, "md": self.abridged.markdown, "tex": self.abridged.latex}
        for suffix in self.formats:
            with atomic_write(folder / f"{self.name}.{suffix}") as temporary:
                temporary.write_text(contents[suffix](), encoding="utf-8")


def anchor(words: str) -> str:
    """What a link can name."""
    return re.sub(r"[^\w.+-]+", "-", words)


NAME = Column("label", "Variant", "left")
PLACE = (Column("corpus", "Corpus", "left"), Column("tokenizer", "Tokenizer", "left"))
# Before the settings of a row.
FACTOR = "factor/"


def naming(rows: Sequence[Row], with_place: bool = True) -> tuple[Column, ...]:
    """What tells the cells of a table apart: variant, corpus and tokenizer, and a column for each setting that they vary."""
    varied = dict.fromkeys(key for row in rows for key in row if key.startswith(FACTOR) and not text.absent(row[key]))
    name = Column("label", "Variant", "left", whole_row=lambda row: str(row["variant"])) if varied else NAME
    short = shortest(key.removeprefix(FACTOR) for key in varied)
    named = (Column(key, short[key.removeprefix(FACTOR)].replace("_", " "), shown=_setting) for key in varied)
    return (name, *(PLACE if with_place else ()), *named)


def _setting(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


# Words, but for numbers, that begin as a formula does.
FORMULA = re.compile(r"(?![+-]?[\d.]+(e[+-]?\d+)?$)[=+\-@\t\n]")


def _plain(value: Any) -> Any:
    """Floats that are whole numbers, as pandas makes of integers beside gaps, are written as integers.

    Words that a spreadsheet would take for a formula begin with an apostrophe, and lines in them end in one way.
    """
    if isinstance(value, str):
        words = "\n".join(value.splitlines())
        return f"'{words}" if FORMULA.match(words) else words
    return int(value) if isinstance(value, float) and value.is_integer() else value


def markdown_words(words: str) -> str:
    """Words of which nothing is markup."""
    return re.sub(r"([\\`*_|<>\[\]&])", r"\\\1", words)


def _one_line(words: str) -> str:
    return markdown_words(" ".join(words.split()))


# What LaTeX reads otherwise, and what its default fonts do not have.
LATEX = {
    "\\": r"\textbackslash{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"$<$",
    ">": r"$>$",
    "−": r"$-$",
    "±": r"$\pm$",
    "Δ": r"$\Delta$",
    "–": "--",
    "¹": r"$^1$",
    "’": "'",
    "†": r"$^\dagger$",
}


def _latex(cell: str) -> str:
    return "".join(LATEX.get(character, character) for character in " ".join(cell.split()))
