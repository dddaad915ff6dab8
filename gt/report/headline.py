"""What stands at the top of the README: a figure and three sentences on the published studies, from their results alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from gt.analysis.verdicts import VERDICTS, Row
from gt.errors import ConfigError
from gt.report import claim_figures, text
from gt.report.checklist import runs_of
from gt.report.claim_sections import explained
from gt.report.formats import markdown_text
from gt.report.numbers import Results

# Where the report of all published studies together stands, beside theirs.
ALL = "all"
# The figures that it may show: of the verdicts, and of one study's runs.
SHOWN = (f"{claim_figures.VERDICTS}.png", "final_bits_per_byte.png")
START, END = "<!-- headline: written by gt headline -->\n", "<!-- end of the headline -->"


def leading(studies: Sequence[Results], rows: Sequence[Row]) -> Results:
    """The study with the most completed runs, and of those the one that judges the most claims."""
    judged = Counter(row.claim.study for row in rows)
    return max(studies, key=lambda own: (own.coverage["completed"], judged[own.study], own.study))


def headline(studies: Sequence[Results], rows: Sequence[Row], folder: str) -> str:
    """A figure, and what was run and judged, what explains it or how many contrasts are decided, and what was lowest.

    The figure is of the verdicts where several studies tested claims, else of one study's runs. rows: of the claims that were
    tested. folder: of the published studies, seen from the README.
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
    if len({row.claim.study for row in rows}) > 1:
        figure = f"![Verdicts by study]({folder}/{ALL}/claims/{SHOWN[0]})"
    else:
        figure = f"![{own.title}: {panel.title}]({folder}/{own.study}/figures/{SHOWN[1]})"
    report = f"{folder}/{ALL if len(studies) > 1 else own.study}/report.md"
    more = f"[The report]({report}) has all of it; `make headline` writes this anew from the records."
    return f"{figure}\n\n{markdown_text(words)}\n{more}\n"


def insert(readme: str, block: str, start: str = START, end: str = END) -> str:
    """The README with what stands between two marks replaced. ConfigError where the README has no place for it."""
    before, found, rest = readme.partition(start)
    _, ended, after = rest.partition(end)
    if not (found and ended):
        raise ConfigError(f"README: the lines {start.strip()!r} and {end!r} are needed, in this order.")
    return before + start + "\n" + block + "\n" + end + after
