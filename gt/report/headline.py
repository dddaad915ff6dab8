"""What stands at the top of the README: a figure and three sentences on the published studies, from their results alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from gt.analysis.verdicts import VERDICTS, Row
from gt.errors import ConfigError
from gt.report import text
from gt.report.checklist import runs_of
from gt.report.claim_sections import explained
from gt.report.formats import markdown_text
from gt.report.numbers import Results

FIGURE = "final_bits_per_byte"
START, END = "<!-- headline: written by gt headline -->\n", "<!-- end of the headline -->"


def leading(studies: Sequence[Results], rows: Sequence[Row]) -> Results:
    """The study that the figure is of: which judges the most claims, and of those the one with the most runs."""
    judged = Counter((row.judgement or {}).get("study") for row in rows)
    return max(studies, key=lambda own: (judged[own.study], own.coverage["completed"], own.study))


def headline(studies: Sequence[Results], rows: Sequence[Row], folder: str) -> str:
    """The figure, and what was run and judged, what explains it or how many contrasts are decided, and what was lowest.

    rows: of the claims that the studies judge. folder: of the published studies, seen from the README.
    """
    own = leading(studies, rows)
    panel = own.panels[0]
    n = int((runs_of(studies)["status"] == "completed").sum())
    of = f"{text.plural(n, 'run')} of {text.plural(len(studies), 'study', 'studies')}"
    counts = Counter(row.verdict for row in rows)
    verdicts = text.listed([f"{counts[verdict]} {verdict}" for verdict in VERDICTS if counts[verdict]])
    first = f"{of} put {text.plural(len(rows), 'claim')} to the test: {verdicts}." if rows else f"Published: {of}."
    second = explained(rows) or panel.counted
    words = " ".join(filter(None, (first, second, panel.lowest)))
    figure = f"![{own.title}: {panel.title}]({folder}/{own.study}/figures/{FIGURE}.png)"
    more = f"[The report]({folder}/{own.study}/report.md) has all of it; `make headline` writes this anew from the records."
    return f"{figure}\n\n{markdown_text(words)}\n{more}\n"


def insert(readme: str, block: str) -> str:
    """The README with its headline replaced. ConfigError where the README has no place for it."""
    before, start, rest = readme.partition(START)
    _, end, after = rest.partition(END)
    if not (start and end):
        raise ConfigError(f"README: the lines {START.strip()!r} and {END!r} are needed, in this order.")
    return before + start + "\n" + block + "\n" + end + after
