"""The card of a data set: README.md with the metadata that the Hub reads, and the same as a plain page, index.html."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from gt.artefacts import Plan
from gt.dataset.columns import AT, Column, templates
from gt.errors import ConfigError

Json = dict[str, Any]
CITATION = Path("CITATION.cff")
# How the Hub calls sizes, by the least number of rows that is larger.
SIZES = {1_000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K", 1_000_000: "100K<n<1M", 10_000_000: "1M<n<10M"}
LARGEST = "10M<n<100M"
ABOUT = {
    "runs": "A row a training: what was trained, what came of it, what it cost, and what was measured of the whole network.",
    "curves": "A row a logged step of a training. A step at which something was not measured has null.",
    "verdicts": "A row a part of a claim that was tested, with what became of the whole claim; also under other forms of its"
    " models (`arm`), and in replications.",
    "measurements": "A row a measurement of a trained network, also of its layers, with intervals within a run.",
}
# Of plain text: what is code, and what is a link.
CODE, LINK = re.compile("`([^`]+)`"), re.compile(r"\[([^\]]+)\]\(([^)]+)\)")
STYLE = (
    "body{max-width:60rem;margin:2rem auto;padding:0 1rem;font:1rem/1.5 system-ui,sans-serif;color:#1a1a1a;background:#fff}"
    "table{border-collapse:collapse;display:block;overflow-x:auto}td,th{padding:.2rem .8rem .2rem 0;text-align:left;"
    "vertical-align:top;border-bottom:1px solid #8884}pre{padding:1rem;overflow-x:auto;background:#8881}"
    "@media(prefers-color-scheme:dark){body{color:#e8e8e8;background:#161616}a{color:#9bf}}"
)


class Heading(NamedTuple):
    level: int
    text: str


class Grid(NamedTuple):
    """A table."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


class Code(NamedTuple):
    language: str
    text: str


Block = str | Heading | Grid | Code


class Described(NamedTuple):
    """A table of the data set: its columns, and how many rows it has."""

    columns: Sequence[Column]
    n_rows: int


def citation(file: Path = CITATION) -> Json:
    """What a project's CITATION.cff says; nothing where there is none. ConfigError where it is no mapping."""
    if not file.exists():
        return {}
    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{file}: not valid YAML ({error}).") from None
    if not isinstance(found, dict):
        raise ConfigError(f"{file}: must be a mapping, as Citation File Format 1.2 has it.")
    return found


def metadata(plans: Sequence[Plan], tables: Mapping[str, Described], cited: Json) -> str:
    """The YAML at the top of the card: what the Hub's search and viewer go by."""
    rows, licence = sum(table.n_rows for table in tables.values()), cited.get("license", "unknown")
    document = {
        "pretty_name": _title(plans),
        "license": [own.lower() for own in licence] if isinstance(licence, list) else licence.lower(),
        "language": ["en"],
        "tags": ["groundthink", "ablation", "language-models", "training-curves", "replication"],
        "size_categories": [next((name for most, name in SIZES.items() if rows < most), LARGEST)],
        "configs": [
            {"config_name": name, "data_files": [{"split": "train", "path": f"{name}.parquet"}]}
            | ({"default": True} if name == "runs" else {})
            for name in tables
        ],
    }
    return f"---\n{yaml.safe_dump(document, sort_keys=False, allow_unicode=True)}---\n"


def card(plans: Sequence[Plan], tables: Mapping[str, Described], cited: Json) -> list[Block]:
    """All that a reader is told, block by block."""
    blocks: list[Block] = [
        Heading(1, _title(plans)),
        "Language models that were trained to be compared with each other, what was measured of them, and what became of the"
        " claims that were written down beforehand. Made by groundthink; nothing here was typed.",
        Grid(
            ("study", "about", "cells", "runs"),
            [(f"`{own.study}`", own.title, f"{len(own.cells):,}", f"{len(own.runs):,}") for own in plans],
        ),
        Heading(2, "How to load it"),
        Code("python", _loading(tables)),
        "Tables are joined by `study` and `run_id`. Each is one split, which is called `train` only because data sets have"
        " splits: nothing here is meant to be trained on. What is not known is null, and where a record says why, a column"
        " beside it does: `reason` and `unknown`. What has no unit is a word, a count or a ratio."
        f" In `name{AT}value` the value is where a metric was measured.",
    ]
    for name, table in tables.items():
        shown = templates(table.columns)
        blocks += [
            Heading(2, f"`{name}`: {table.n_rows:,} rows, {len(table.columns):,} columns"),
            ABOUT[name],
            Grid(("column", "type", "unit", "what it is"), [(f"`{c.name}`", c.kind, c.unit, c.words) for c in shown]),
        ]
    blocks += [
        Heading(2, "How it was made"),
        "Each study is a file that says which models are trained on what, and with which seeds. Its claims were registered"
        " before the runs that judge them, or the verdict says that they were not. Runs that differ in their seed alone are one"
        " cell; verdicts are of cells, paired by seed, and adjusted over their family. Training losses are of batches, held-out"
        " losses of a fixed slice of text that no model was trained on. Seconds and joules are a run's share of its device."
        " Everything is a function of the records that are kept with the studies:",
        Code("sh", f"gt publish --published {' '.join(f'results/published/{own.study}' for own in plans)} --dataset DIR"),
        "Replications are trainings on further seeds, judged alone; their verdicts stand beside the first and replace none.",
        Heading(2, "Limits"),
        "Models, texts and budgets are small. A claim that is supported here is supported for these sizes. The licence is that"
        " of the records; texts are not contained, and have licences of their own.",
        Heading(2, "How to cite"),
        Code("bibtex", bibtex(plans, cited)),
    ]
    return blocks


def _title(plans: Sequence[Plan]) -> str:
    return plans[0].title if len(plans) == 1 else f"{len(plans)} studies of small language models"


def _loading(tables: Mapping[str, Described]) -> str:
    lines = ["from datasets import load_dataset", ""]
    lines += [f'{name} = load_dataset("DIR", "{name}", split="train")' for name in tables]
    return "\n".join([*lines, "", "import pandas as pd", "", 'runs = pd.read_parquet("DIR/runs.parquet")'])


def bibtex(plans: Sequence[Plan], cited: Json) -> str:
    """An entry for the data set, with the authors, year and address of the project's CITATION.cff as far as it has them."""
    names = [_author(own) for own in cited.get("authors") or [] if isinstance(own, dict)]
    fields = {
        "title": f"{{{_title(plans)}}}",
        "author": " and ".join(filter(None, names)),
        "year": str(cited.get("date-released", ""))[:4],
        "version": str(cited.get("version", "")),
        "doi": str(cited.get("doi", "")),
        "url": str(cited.get("repository-code", cited.get("url", ""))),
        "note": f"Data set; made by {{{cited['title']}}}" if cited.get("title") else "Data set",
    }
    key = re.sub(r"[^a-z0-9]+", "-", "-".join(own.study for own in plans[:1]).lower()).strip("-")
    lines = [f"  {name:7} = {{{value}}}," for name, value in fields.items() if value]
    return "\n".join([f"@misc{{groundthink-{key},", *lines, "}"])


def _author(own: Json) -> str:
    """A person as BibTeX has one, or a body's name, which must not be taken apart."""
    if name := own.get("name"):
        return f"{{{name}}}"
    return ", ".join(str(own[key]) for key in ("family-names", "given-names") if own.get(key))


def markdown(blocks: Sequence[Block]) -> str:
    """The blocks as Markdown."""
    return "\n\n".join(map(_markdown, blocks)) + "\n"


def _markdown(block: Block) -> str:
    match block:
        case Heading(level, text):
            return f"{'#' * level} {text}"
        case Grid(header, rows):
            lines = [header, ["---"] * len(header), *([_escaped(value) for value in row] for row in rows)]
            return "\n".join(f"| {' | '.join(line)} |" for line in lines)
        case Code(language, text):
            return f"```{language}\n{text}\n```"
    return block


def _escaped(text: str) -> str:
    """A value of a table as Markdown has it, where a bar would end it and a name in angle brackets is HTML."""
    parts = CODE.split(text.replace("|", "\\|"))
    return "".join(f"`{part}`" if i % 2 else part.replace("<", "&lt;") for i, part in enumerate(parts))


def page(blocks: Sequence[Block]) -> str:
    """The blocks as a page that needs nothing else."""
    title = next(block.text for block in blocks if isinstance(block, Heading))
    head = (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{STYLE}</style>\n"
    )
    return head + "\n".join(map(_html, blocks)) + "\n</html>\n"


def _html(block: Block) -> str:
    match block:
        case Heading(level, text):
            return f"<h{level}>{_inline(text)}</h{level}>"
        case Grid(header, rows):
            lines = [("th", header), *(("td", row) for row in rows)]
            made = ["<tr>" + "".join(f"<{tag}>{_inline(value)}</{tag}>" for value in row) + "</tr>" for tag, row in lines]
            return "<table>\n" + "\n".join(made) + "\n</table>"
        case Code(_, text):
            return f"<pre><code>{html.escape(text)}</code></pre>"
    return f"<p>{_inline(block)}</p>"


def _inline(text: str) -> str:
    return LINK.sub(r'<a href="\2">\1</a>', CODE.sub(r"<code>\1</code>", html.escape(text)))
