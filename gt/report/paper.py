"""The content of a study's report: from what it found to sections of text, tables and pictures. Of several studies together
it is `gt.report.supplement`, which is made of the same parts.

Every number comes from the studies' tables (`gt.report.numbers`), from verdicts (`gt.analysis.verdicts`) or from tables made
of them; what a study has no data for has no section.
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
from gt.report.document import Block, Code, Document, Items, Picture, Section, Tabular, Text, section
from gt.report.evaluation_figures import EVALUATION_DRAWINGS
from gt.report.evaluation_tables import evaluation_tables
from gt.report.foretold import foretold_table
from gt.report.gallery import FIGURES, picture
from gt.report.inside import inside_tables
from gt.report.inside_figures import inside_drawings
from gt.report.limitations import limitations
from gt.report.looks import looks_sentences
from gt.report.models import models_table
from gt.report.numbers import Panel, Results
from gt.report.opening import opening, reading
from gt.report.replicated import replications_table
from gt.report.study_tables import components_table, coverage_table, results_table, study_tables
from gt.report.sweeps import sensitivity_tables


def paper(
    study: Results,
    claims: Sequence[Claim],
    pictures: dict[str, Picture],
    arms: dict[str, str],
    gates: Sequence[Gate] = (),
) -> Document:
    """The report of a study: one page.

    claims: those to speak of; pictures: by claim, of the verdicts and of looks; arms: the titles of the branch forms; gates:
    what was known of claims before they ran, of a study that decides.
    """
    studies, judged = [study], [row for row in claims if row.judgement]
    sections = [
        section("abstract", "Abstract", *abstract(study, judged)),
        section("opening", "What was run, and what names stand for", *opening(studies, judged, arms), wide=True),
        section("reading", "How to read this", reading(studies, judged, bool(pictures)), *cautioned(judged), wide=True),
        decisions_section(study, claims, gates, pictures),
        section("claims", "The claims and their verdicts", *claimed(claims, judged, pictures), wide=True),
        section("each-claim", "The claims one by one", *claim_sections(claims, pictures, gates), wide=True),
        *findings(study),
        section(
            "coverage",
            "Coverage and deviations from the plan",
            *coverage(studies, claims),
            *coverage_tables(study, incomplete=False),
        ),
        section("models", "The models", *models(study), Tabular(components_table(studies), appendix=True)),
        section("costs", "Compute, energy and cost", Text(checklist.compute(studies)), *costs(study)),
        section("environment", "Environment", Tabular(checklist.environment_table(studies))),
        section("method", "Method", *map(Text, checklist.method(studies))),
        section("limitations", "Limitations", Items(tuple(limitations(studies, judged)))),
        section("reproducibility", "Reproducibility checklist", Tabular(checklist.table(studies, judged))),
        section("runs", "All runs", runs(study)),
        section("regenerate", "How to regenerate", *regenerate(studies)),
    ]
    byline = f"Study `{study.study}`: {census(studies).completion}"
    return Document(study.title, byline, tuple(own for own in sections if isinstance(own, Section)))


def abstract(study: Results, judged: Sequence[Claim]) -> list[Block | None]:
    """What was asked, what was found, and what became of the claims."""
    warnings = tuple(checklist.warnings([study]))
    return [
        Text(study.description),
        *map(Text, study.findings),
        *([Text(counted(judged))] if judged else []),
        *([Text(looks_sentences(judged, study.plan)[-1])] if judged and study.plan.looks else []),
        Items(warnings, "Read with care. How the runs were made:", care=True) if warnings else None,
    ]


def cautioned(judged: Sequence[Claim]) -> list[Block | None]:
    table = cautions_table(judged)
    return [Tabular(table)] if table.rows else []


def claimed(claims: Sequence[Claim], judged: Sequence[Claim], pictures: dict[str, Picture]) -> list[Block | None]:
    """The verdicts at a glance, their table, and the verdicts by branch form."""
    forms = forms_table(claims)
    return [
        pictures.get(VERDICTS),
        Tabular(claims_table(judged)) if judged else None,
        Tabular(told) if (told := foretold_table(judged)) else None,
        Tabular(replicated) if (replicated := replications_table(judged)) else None,
        Tabular(forms) if forms.rows else None,
    ]


def findings(results: Results) -> list[Block | None]:
    """What one study found: comparisons, figures, evaluations, and what its networks do inside, cell by cell."""
    return [*compared(results), inside(results, cells=True)]


def compared(results: Results) -> list[Block | None]:
    """Comparisons with the baseline, figures, and evaluations."""
    own = results.study
    means = f"Numbers in tables are means over seeds. {survivors(results)}".strip()
    about = Text(f"Measured on the trained models; `gt/evals` says how. {means}")
    tables = [Tabular(table) for table in evaluation_tables(results)]
    sensitive = section(f"{own}-sensitivity", "Sensitivity", *map(Tabular, sensitivity_tables(results)))
    parts = (*(comparison(results, panel) for panel in results.panels), sensitive)
    figures, drawn = (
        [figure(results, made) for drawing in drawings if (made := picture(results, drawing))]
        for drawings in (FIGURES, EVALUATION_DRAWINGS)
    )
    return [
        section(f"{own}-results", "Results", *parts, wide=True),
        section(f"{own}-figures", "Figures", *figures, wide=True),
        section(f"{own}-evaluations", "What the models can do", about, *tables, *drawn, wide=True) if tables or drawn else None,
    ]


def survivors(results: Results) -> str:
    """The cells whose numbers are of fewer seeds than planned; empty where there are none."""
    short = checklist.short(results)
    return f"Some are of fewer seeds than planned: {short}." if short else ""


def comparison(results: Results, panel: Panel) -> Section | None:
    """One corpus and tokenizer; its finding stands in the abstract."""
    order = "the lowest first" if len(panel.groups) == 1 else f"by {text.listed(panel.varied)}, and of each the lowest first"
    caption = f"Validation bits per byte on {panel.title}, {order}; differences are to {panel.against}, paired by seed."
    table = Tabular(results_table(f"results.{panel.id}", caption, panel.rows))
    about = Text(panel.ngrams) if panel.ngrams else None
    return section(f"{results.study}-results-{panel.id}", panel.title, about, table)


def figure(results: Results, drawn: Picture) -> Section | None:
    """A figure under its title."""
    return section(f"{results.study}-figure-{drawn.name}", drawn.title, drawn)


def inside(results: Results, cells: bool = False) -> Section | None:
    """What the probes found: over all cells, and cell by cell."""
    tables, known = inside_tables(results), results.inside
    if not known:
        return None
    about = Text(
        "Measured on the trained models and held-out text, through hooks; `gt/probes` says how. The record’s own form of a "
        f"measure, where it was another, stands beside it: it was taken from untrained models. {survivors(results)}".strip()
    )
    main = [Tabular(tables[name]) for name in ("inside.branches", "inside.substitutes") if name in tables]
    more = [Tabular(tables[name]) for name in ("inside.variance", "inside.states", "inside.softmax") if name in tables]
    looked, drawings = (results.shown.inside, inside_drawings(results.shown)) if cells else ([], [])
    single = [
        section(own.id, own.title, picture(results, drawing, own.alt), *map(Tabular, own.checks), folded=True)
        for own, drawing in zip(looked, drawings, strict=True)
    ]
    others: list[Block] = [Tabular(table) for name, table in tables.items() if name.startswith("probe.")]
    if 0 < len(single) < len(known):
        others.append(Text(f"Of {len(known):,} cells these have a section: each variant’s lowest, and its baseline."))
    title = "Variance, states and predictions of every cell"
    everything = section(f"{results.study}-inside-all", title, *more, folded=True) if cells else None
    blocks = (about, *main, *others, everything, *single)
    return section(f"{results.study}-inside", "Inside the networks", *blocks, wide=True)


def coverage(studies: Sequence[Results], claims: Sequence[Claim], notes: Sequence[str] = ()) -> list[Block]:
    """What became of the plan, why, and what else was not as planned. notes: paragraphs on it."""
    about = census(studies).completion
    if any(own.coverage["diverged"] or own.coverage["failed"] for own in studies):
        about += " Runs that diverged are not in the means; a cell that lost seeds this way looks better than it is."
    found = [*checklist.deviations(studies), *checklist.absent(studies, claims)]
    return [
        Text(about),
        *map(Text, notes),
        Items(tuple(found), "Deviations from the plan:") if found else Text("Nothing else deviates from the plan."),
    ]


def coverage_tables(results: Results, incomplete: bool) -> list[Block | None]:
    """The runs that diverged or failed, and every cell, or those that have not all their runs."""
    lost, cells = checklist.incomplete_table(results), coverage_table(results, incomplete)
    return [Tabular(lost) if lost.rows else None, Tabular(cells, appendix=True) if cells.rows else None]


def models(results: Results) -> list[Block]:
    """What each of them has, and in what it differs from the baseline."""
    return [Tabular(models_table(results), appendix=True)]


def costs(results: Results) -> list[Block]:
    """What each cell cost."""
    return [Tabular(study_tables(results)["costs"], appendix=True)]


def runs(results: Results) -> Section | None:
    """Every run."""
    table = study_tables(results)["runs"]
    return section("every-run", text.plural(len(table.rows), "run"), Tabular(table), folded=True)


def regenerate(studies: Sequence[Results]) -> list[Block]:
    """The commands that make this again."""
    several = len(studies) > 1
    folder = "results/studies/" + ("$study" if several else studies[0].study)
    stages = [
        f"gt aggregate --plan {folder}/plan.json --runs results/runs --out {folder}",
        f"gt claims judge --study {folder}",
        f"gt figures --study {folder}",
    ]
    if several:
        stages = [f"studies='{' '.join(own.study for own in studies)}'", "for study in $studies; do", *stages, "done"]
    reported = "$(printf 'results/studies/%s ' $studies)" if several else folder
    out = " --out results/report" if several else ""
    lines = [*stages, f"gt report --study {reported}{out}"]
    names = ", ".join(own.study for own in studies)
    whole = f"'study=[{names}]'" if several else f"study={names}"
    return [
        Text("From the run records, without training:"),
        Code("\n".join(lines)),
        Text(f"From nothing: `snakemake --cores all --config {whole}`. Runs whose records are there are not trained again."),
    ]
