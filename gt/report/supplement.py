"""The content of the report of several studies: what they asked together, then a page a study and a page a claim.

The first page has what was found and one table of all claims. What is of single cells stands in a study's own report.
"""

from __future__ import annotations

from collections.abc import Sequence

from gt.analysis.gates import Gate
from gt.analysis.verdicts import Row as Claim
from gt.report import checklist, text
from gt.report.census import census
from gt.report.claim_figures import VERDICTS
from gt.report.claim_sections import cautions_table, claim_sections, claims_table, counted, forms_table
from gt.report.decisions import decisions_section
from gt.report.document import Block, Document, Items, Picture, Section, Tabular, Text, named, section
from gt.report.findings import findings
from gt.report.foretold import foretold_table
from gt.report.limitations import limitations
from gt.report.models import names_table
from gt.report.numbers import Results
from gt.report.opening import asked, forms_terms, reading, studies_table
from gt.report.paper import compared, costs, coverage, coverage_tables, inside, models, regenerate
from gt.report.replicated import replications_table
from gt.report.study_tables import components_table


def supplement(
    studies: Sequence[Results],
    claims: Sequence[Claim],
    pictures: dict[str, Picture],
    arms: dict[str, str],
    notes: Sequence[str] = (),
    gates: Sequence[Gate] = (),
) -> Document:
    """claims: all; pictures: by claim, of the verdicts and of looks; arms: the titles of the branch forms; notes: paragraphs on
    what deviates from the plan; gates: what was known of claims before they ran, of studies that decide.
    """
    forms, cautions = forms_table(claims), cautions_table(claims)
    told, again = foretold_table(claims), replications_table(claims)
    known = {own.study for own in studies}
    tested = [row for row in claims if row.claim.study in known]
    others = [row for row in claims if row.claim.study not in known]
    listed = Tabular(claims_table(others, "Claims that are not testable, or that wait for a study."), screen=True)
    sections = [
        section("abstract", "What was asked and found", *_abstract(studies, claims)),
        section("claims", "The claims and their verdicts", Tabular(claims_table(claims)), pictures.get(VERDICTS), wide=True),
        section("studies", "The studies", Tabular(studies_table(studies, claims)), wide=True),
        section(
            "reading",
            "How to read this, and what names stand for",
            reading(studies, claims, bool(pictures)),
            Tabular(cautions) if cautions.rows else None,
            Tabular(names_table(studies)),
            *forms_terms(claims, arms),
            wide=True,
            page=True,
        ),
        section("foretold", "What was expected, and what is asked again", Tabular(told), wide=True, page=True)
        if told
        else None,
        section("replicated", "Trained again on other seeds", Tabular(again), wide=True, page=True) if again else None,
        section("forms", "Verdicts by branch form", Tabular(forms), wide=True, page=True) if forms.rows else None,
        *(_study(own, claims, pictures, gates) for own in studies),
        section("each-claim", "The claims one by one", *claim_sections(tested, pictures, gates)),
        section("others", "Claims that no study here tests", listed, *claim_sections(others, pictures), page=True)
        if others
        else None,
        section("made", "Limits, and how it was made", *_made(studies, claims, notes), page=True),
    ]
    title = f"{text.plural(len(studies), 'study', 'studies')} of small language models"
    names = text.listed([f"`{own.study}`" for own in studies])
    byline = f"Supplement. Studies {names}: {census(studies).completion}"
    return Document(title, byline, tuple(own for own in sections if own is not None), paged=True)


def _abstract(studies: Sequence[Results], claims: Sequence[Claim]) -> list[Block | None]:
    """What was asked, what was found, and what became of the claims."""
    found = tuple(findings(studies))
    return [
        Text(asked(studies, claims)),
        Items(found, "What was found:") if found else None,
        Text(contrasts(studies)),
        Text(counted(claims)) if claims else None,
    ]


def contrasts(studies: Sequence[Results]) -> str:
    """How many contrasts of all studies are decided."""
    known = census(studies)
    few = f", {known.on_two} of them on two pairs" if known.on_two else ""
    unpaired = f"; {known.unpaired} {'has' if known.unpaired == 1 else 'have'} no pair of seeds" if known.unpaired else ""
    return (
        f"Each study compares its models with a baseline, paired by seed: {known.decided} of "
        f"{text.plural(known.contrasts, 'contrast')} {text.are(known.decided)} decided{few}{unpaired}."
    )


def _study(results: Results, claims: Sequence[Claim], pictures: dict[str, Picture], gates: Sequence[Gate]) -> Section | None:
    """What a study asked and found, and what became of its claims."""
    own = [row for row in claims if row.claim.study == results.study]
    about = [gate for gate in gates if gate.claim in {row.id for row in own}]
    listed = claims_table(own, "The study’s claims, each with a page of its own.")
    blocks: list[Block | None] = [
        Text(results.description),
        *map(Text, results.findings),
        section(f"{results.study}-claims", "Claims", Tabular(listed, screen=True)) if own else None,
        decisions_section(results, own, about, pictures),
        *compared(results),
        inside(results),
        section(f"{results.study}-coverage", "Coverage", *coverage_tables(results, incomplete=True)),
        section(f"{results.study}-models", "Models and costs", *models(results), *costs(results)),
    ]
    whole = section(f"study-{results.study}", results.title, *blocks, wide=True, page=True)
    named_whole = named(whole, results.study) if whole else None
    return named_whole if isinstance(named_whole, Section) else None


def _made(studies: Sequence[Results], claims: Sequence[Claim], notes: Sequence[str]) -> list[Block | None]:
    """What these studies cannot say, what became of their plans, and how they were run."""
    return [
        section("limitations", "Limitations", Items(tuple(limitations(studies, claims)))),
        section("coverage", "Coverage and deviations from the plan", *coverage(studies, claims, notes)),
        section("method", "Method", *map(Text, checklist.method(studies))),
        section("costs", "Compute, energy and cost", Text(checklist.compute(studies))),
        section("components", "Components", Tabular(components_table(studies), appendix=True)),
        section("environment", "Environment", Tabular(checklist.environment_table(studies))),
        section("reproducibility", "Reproducibility checklist", Tabular(checklist.table(studies, claims))),
        section("regenerate", "How to regenerate", *regenerate(studies)),
    ]
