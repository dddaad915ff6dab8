"""What stands at the top of the README: a figure, what was found, and what became of the claims, from the records alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from gt.analysis.verdicts import VERDICTS, Row
from gt.errors import ConfigError
from gt.report import text
from gt.report.census import census
from gt.report.claim_figures import verdicts
from gt.report.claim_sections import explained, together
from gt.report.drawing import STYLE
from gt.report.figures import final_bits_per_byte
from gt.report.findings import findings
from gt.report.formats import markdown_text
from gt.report.limitations import other_rates
from gt.report.numbers import Results

# Where the report of all published studies together stands, beside theirs.
ALL = "all"
# Its figure, seen from the README.
FIGURE = Path("docs/headline.png")
START, END = "<!-- headline: written by gt headline -->\n", "<!-- end of the headline -->"


def leading(studies: Sequence[Results], rows: Sequence[Row]) -> Results:
    """The study with the most completed runs, and of those the one that judges the most claims."""
    judged = Counter(row.claim.study for row in rows)
    return max(studies, key=lambda own: (own.coverage["completed"], judged[own.study], own.study))


def tested(claims: Sequence[Row]) -> list[Row]:
    """The claims that runs have put to a test."""
    return [row for row in claims if row.tested and row.judgement and row.judgement["tests"]]


def figure(studies: Sequence[Results], claims: Sequence[Row]) -> Figure | None:
    """Of the verdicts where several studies tested claims, else of one study's runs; None where nothing was measured."""
    rows = tested(claims)
    with matplotlib.rc_context(STYLE):
        return verdicts(rows) if _several(rows) else final_bits_per_byte(leading(studies, rows))


def headline(studies: Sequence[Results], claims: Sequence[Row], folder: str) -> str:
    """The figure, what was found (`gt.report.findings`), that other rates were better, and what became of the claims.

    claims: all, of which those with a test are counted. folder: of the published studies, seen from the README.
    """
    rows = tested(claims)
    own, known = leading(studies, rows), census(studies, rows)
    counts = Counter(row.verdict for row in rows)
    listed = text.listed([f"{counts[verdict]} {verdict}" for verdict in VERDICTS if counts[verdict]])
    of = f"{text.plural(known.completed, 'run')} of {text.plural(known.studies, 'study', 'studies')}"
    judged = (
        f"{known.judging} of {text.plural(known.studies, 'study', 'studies')} put {text.plural(len(rows), 'claim')} to the test"
    )
    found = [markdown_text(said) for said in (*findings(studies), other_rates(studies)) if said]
    became = [
        f"{judged}: {listed}." if rows else "",
        together(claims),
        explained(rows),
        f"{of} {text.are(known.completed)} published.",
    ]
    shown = "Verdicts by study" if _several(rows) else f"{own.title}: {own.panels[0].title}"
    there = _several(rows) or any(panel.measured for panel in own.panels)
    drawn = f"![{shown}]({FIGURE.as_posix()})\n\n" if there else ""
    if len(studies) > 1:
        more = f"The report of each study is [in its folder]({folder}), and `make report` makes one of all of them"
    else:
        more = f"[The report]({folder}/{own.study}/report.html) has all of it"
    items = "".join(f"- {said}\n" for said in found)
    became_of = markdown_text(" ".join(filter(None, became)))
    return f"{drawn}{items}\n{became_of}\n{more}; `make headline` writes this anew from the records.\n"


def _several(rows: Sequence[Row]) -> bool:
    """Whether claims of more than one study were tested."""
    return len({row.claim.study for row in rows}) > 1


def insert(readme: str, block: str, start: str = START, end: str = END) -> str:
    """The README with what stands between two marks replaced. ConfigError where the README has no place for it."""
    before, found, rest = readme.partition(start)
    _, ended, after = rest.partition(end)
    if not (found and ended):
        raise ConfigError(f"README: the lines {start.strip()!r} and {end!r} are needed, in this order.")
    return before + start + "\n" + block + "\n" + end + after
