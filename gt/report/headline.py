"""What stands at the top of the README: a figure, what was found, and what became of the claims, from the records alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from gt.analysis.verdicts import VERDICTS, Row
from gt.errors import ConfigError
from gt.report import claim_figures, text
from gt.report.census import census
from gt.report.claim_sections import explained
from gt.report.findings import findings
from gt.report.formats import markdown_text
from gt.report.limitations import other_rates
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
    """A figure, what was found (`gt.report.findings`), that other rates were better, and what became of the claims.

    The figure is of the verdicts where several studies tested claims, else of one study's runs. rows: of the claims that were
    tested. folder: of the published studies, seen from the README.
    """
    own, known = leading(studies, rows), census(studies, rows)
    counts = Counter(row.verdict for row in rows)
    verdicts = text.listed([f"{counts[verdict]} {verdict}" for verdict in VERDICTS if counts[verdict]])
    of = f"{text.plural(known.completed, 'run')} of {text.plural(known.studies, 'study', 'studies')}"
    judged = (
        f"{known.judging} of {text.plural(known.studies, 'study', 'studies')} put {text.plural(len(rows), 'claim')} to the test"
    )
    found = [markdown_text(said) for said in (*findings(studies), other_rates(studies)) if said]
    became = [f"{judged}: {verdicts}." if rows else "", explained(rows), f"{of} {text.are(known.completed)} published."]
    if len({row.claim.study for row in rows}) > 1:
        figure = f"![Verdicts by study]({folder}/{ALL}/claims/{SHOWN[0]})"
    else:
        figure = f"![{own.title}: {own.panels[0].title}]({folder}/{own.study}/figures/{SHOWN[1]})"
    report = f"{folder}/{ALL if len(studies) > 1 else own.study}/report.md"
    more = f"[The report]({report}) has all of it; `make headline` writes this anew from the records."
    items = "".join(f"- {said}\n" for said in found)
    return f"{figure}\n\n{items}\n{markdown_text(' '.join(filter(None, became)))}\n{more}\n"


def insert(readme: str, block: str, start: str = START, end: str = END) -> str:
    """The README with what stands between two marks replaced. ConfigError where the README has no place for it."""
    before, found, rest = readme.partition(start)
    _, ended, after = rest.partition(end)
    if not (found and ended):
        raise ConfigError(f"README: the lines {start.strip()!r} and {end!r} are needed, in this order.")
    return before + start + "\n" + block + "\n" + end + after
