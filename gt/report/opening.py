"""What a reader must know first: what was asked, what was run, what names and signs stand for, how a verdict is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gt.analysis.verdicts import VERDICTS
from gt.analysis.verdicts import Row as Claim
from gt.report import text
from gt.report.census import census
from gt.report.document import Block, Tabular, Terms, Text
from gt.report.drawing import EXTREMES, MOST_CELLS
from gt.report.measured_text import measured_text
from gt.report.models import names_table
from gt.report.tables import Column, Table

if TYPE_CHECKING:
    from gt.report.numbers import Results, Row


def asked(studies: Sequence[Results], claims: Sequence[Claim]) -> str:
    """The question of several studies, and what was run to answer it, in a paragraph."""
    known = census(studies, claims)
    done, n = known.records, known.completed
    of = f"{text.plural(n, 'run')} of {text.plural(len(studies), 'study', 'studies')}"
    claimed = [row for row in claims if row.claim.study]
    question = "Does a claim about small language models hold when it is put to the test? "
    if len(claimed) > 1:
        question = f"Which of {len(claimed)} claims about small language models hold when they are put to the test? "
    places = list(dict.fromkeys(panel.title for own in studies for panel in own.panels))
    models = len({row["label"] for own in studies for row in own.run_cells})
    train = "trains" if n == 1 else "train"
    what = f"{of} {train} {text.plural(models, 'model')}, a model at other settings counted again"
    sizes = ""
    if len(done):
        parameters, tokens = (text.span(done[column].tolist(), text.short) for column in ("n_params", "tokens"))
        sizes = f", of {parameters} parameters, on {tokens} tokens"
    return f"{question if claimed else ''}{what}{sizes}: {'; '.join(places)}."


def opening(studies: Sequence[Results], claims: Sequence[Claim], arms: dict[str, str]) -> list[Block | None]:
    """What the names of models and forms stand for."""
    return [Tabular(names_table(studies)), *forms_terms(claims, arms)]


def forms_terms(claims: Sequence[Claim], arms: dict[str, str]) -> list[Block | None]:
    """What the branch forms are. arms: what stands in a claim's cells under each."""
    used = dict.fromkeys(arm for row in claims for arm in row.arms)
    forms = tuple((arm, f"{arms[arm]}.") for arm in arms if arm in used)
    about = (
        "A claim that fails is judged again with other models in place of its own, to find what explains it. These are the "
        "forms of it:"
    )
    return [Text(about), Terms(forms)] if forms else []


def studies_table(studies: Sequence[Results], claims: Sequence[Claim]) -> Table:
    """A row a study: what it asks, what was run for it, and what was found."""
    columns = (
        Column("study", "Study", "left", link="study-"),
        Column("title", "What it is about", "left", wraps=True),
        Column("runs", "Runs"),
        Column("seeds", "Seeds a cell"),
        Column("baseline", "Baseline", "left"),
        Column("lowest", "Lowest mean (bits/byte)", "left", wraps=True),
        Column("contrasts", "Contrasts decided"),
        Column("claims", "Claims", "left", wraps=True),
    )
    caption = (
        "The studies. A cell is a model with its settings on a corpus under a tokenizer, a run one seed of it; the lowest mean "
        "is of the cells that are compared with a baseline. A cell that two studies have may have been trained for each, and "
        "has two means then. Claims: those that were judged by the study, as published."
    )
    return Table("studies", caption, columns, tuple(_study_row(own, claims) for own in studies))


def _study_row(own: Results, claims: Sequence[Claim]) -> Row:
    counts = Counter(row.verdict for row in claims if row.claim.study == own.study and row.judgement)
    known = census([own])
    measured = [panel for panel in own.panels if panel.measured]
    several = len(measured) > 1
    lowest = [
        f"{panel.best['label']}: {text.decimals(panel.best['mean'])}" + (f" ({panel.title})" if several else "")
        for panel in measured
    ]
    return {
        "study": own.study,
        "title": own.title,
        "runs": f"{own.coverage['completed']} of {own.coverage['planned']}",
        "seeds": own.seeds.removesuffix(" seeds").removesuffix(" seed"),
        "baseline": own.baseline,
        "lowest": "; ".join(lowest),
        "contrasts": f"{known.decided} of {known.contrasts}" if known.contrasts else "",
        "claims": ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS if counts[verdict]),
    }


def reading(studies: Sequence[Results], claims: Sequence[Claim], pictures: bool) -> Terms:
    """What the words, signs and colours mean. claims: those that the report is about; pictures: whether some have figures."""
    own = studies[0]
    baseline = "the study's baseline" if len(studies) > 1 else own.baseline
    terms = [
        (
            "Bits per byte",
            "The cross-entropy on held-out text in bits, divided by the bytes that were predicted. Lower is better. It "
            "does not depend on the tokenizer, so it is the only measure by which models with different tokenizers may be "
            f"compared; losses and perplexities per token may not. {measured_text(studies)}".strip(),
        ),
        ("± and brackets", "95 % Student-t intervals over seeds. One seed has no interval."),
        (
            "Δ baseline",
            f"The mean difference to {baseline} at the same settings, paired by seed; below zero is better. Its interval is "
            "for this one contrast; the verdict is for all contrasts of the table together.",
        ),
        (
            "Verdict of a contrast",
            f"Better or worse where Holm’s p is below {own.alpha}; equivalent where the ratio to the baseline lies within "
            f"{own.margin} of one; within margin where both hold; else it cannot be decided with the seeds there are, "
            "which is not the same as no difference.",
        ),
    ]
    if any(row.judgement for row in claims):
        terms += _claims_terms(claims, pictures)
    if any(len(known.branches("ablation/zero/<branch>")) > 1 for study in studies for known in study.inside):
        terms += BRANCHES
    figures = "A variant has one colour in all figures of a study; its settings differ in dashes and markers."
    if any(len(rows) > MOST_CELLS for study in studies for panel in study.panels for rows in panel.groups):
        some = f"the {EXTREMES} lowest and the {EXTREMES} highest means and of the baseline"
        figures += f" Of lines of more than {MOST_CELLS} cells, those of {some} are coloured and named; the others are grey."
    terms.append(("Figures", figures))
    return Terms(tuple(terms))


BRANCHES = [
    (
        "Gate",
        "The weight that a gated fusion gives to its first branch; the second has the rest. It says how outputs are mixed, not "
        "what they contribute.",
    ),
    (
        "Contribution",
        "What the loss on held-out text rises by when the output of one branch is replaced by zero, as a share of what it "
        "rises by for either.",
    ),
    ("R/M", "The gradient norm of the first branch over that of the second: of RWKV-6’s over Mamba-2’s, where they are these."),
]


def _claims_terms(claims: Sequence[Claim], pictures: bool) -> list[tuple[str, str]]:
    alpha = text.listed(sorted({f"{100 * row.claim.alpha:g} %" for row in claims if row.judgement}))
    figures = (
        "Dots are seeds, the stroke is their mean and the bar its 95 % interval; the dotted line is the claim’s bound. Green "
        "is supported, red the opposite, orange smaller and brown larger than claimed, blue equivalent, grey inconclusive and "
        "pink deviated."
    )
    return [
        (
            "Verdict of a claim",
            "A claim says what runs must show: that one cell’s value is lower, that a number lies between two bounds. It is "
            f"decided where the p that speaks for or against it, adjusted over its family, is below {alpha}. One that fails is "
            "the opposite where the effect is shown to be on the other side of no difference (0, or a ratio of 1) than what "
            "is claimed; smaller than claimed where it is nearer to no difference, and larger than claimed where it is further "
            "from it, beyond the far end of an interval or outside of what was said to be the same. It is equivalent where it "
            "asks for a difference and what there is lies within a margin set beforehand, and within margin where that is so "
            "and the difference is decided all the same; of losses that are compared without a margin, it is that of "
            "contrasts. It is inconclusive where these seeds cannot tell, or where the speeds that it is about are of devices "
            "in use; deviated where its plan was not followed, with the reasons and what its numbers would have said; not "
            "testable where no run could, or where no seed changes what it rests on, of which the numbers are given; not yet "
            "run where cells are missing. A claim of several parts is supported where all hold; where one fails it has that "
            "one’s word, of several the one of which it is surest.",
        ),
        *([("Figures of claims", figures)] if pictures else []),
        (
            "The record",
            "The documents and code that the claims were taken from, and what these report, for the most part of one run each. "
            "Under By stands where: a document and its lines, or a path of its repository. Flaw and a number: a mistake in it.",
        ),
    ]
