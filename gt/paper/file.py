"""A paper as its author writes it down, `config/papers/<name>.yaml`: words, the verdicts that they presuppose, and figures.

Words have no numbers. One stands in them as an expression that looks it up (`gt.paper.facts`), so that it cannot differ from
the record, and a formula between dollars, as typst has it (`gt.paper.formulas`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from gt.analysis.aggregate import MAIN
from gt.analysis.verdicts import Word
from gt.documents import Mapping, read_yaml
from gt.explain import validated
from gt.study import Document

Words = Annotated[str, Field(description="text without digits; {{ ... }} looks a number up, $...$ is a formula")]
Claims = Annotated[dict[str, Word], Field(description="claims by their ids, and the verdict that the words presuppose")]


class Pair(Document):
    """Two cells of a study, and what is read of both: a minus b, paired by seed."""

    study: str
    a: Annotated[str, Field(description="a cell's label in the study")]
    b: str
    corpus: str | None = None
    tokenizer: str | None = None


class Question(Document):
    """A question that a pair of cells answers, at the rate that its study gives all models and with each tuned."""

    ask: Words
    untuned: Pair | None = None
    tuned: Pair | None = None


class Drawn(Document):
    """What all figures have. The words for those who cannot see it are made of its numbers."""

    title: Words
    caption: Words


class Studies(Drawn):
    """What was run: a bar a study."""

    kind: Literal["studies"]


class Forest(Drawn):
    """Differences with their intervals, those of tuned models beside those of untuned ones."""

    kind: Literal["forest"]
    contrasts: Annotated[list[Question], Field(min_length=1)]
    margin: bool = Field(default=False, description="a band where one is equivalent to the b of the first pair")


class Sweep(Drawn):
    """A measure along a number that a study varies, each variant a line."""

    kind: Literal["sweep"]
    study: str
    along: Annotated[str, Field(description="a factor of the study, by the last part of its path")]
    variants: Annotated[list[str], Field(min_length=1)]
    axis: Annotated[str, Field(description="what stands beside the y axis")]
    across: Annotated[str, Field(description="what stands below the x axis; the factor otherwise")] = ""
    metric: str = MAIN
    corpora: list[str] = Field([], description="axes beside each other; all that the study has")
    same: bool = Field(default=False, description="a line where the measure is what the number is")


class Curves(Drawn):
    """A measure over the tokens of training: each cell's mean, and its interval as a band."""

    kind: Literal["curves"]
    study: str
    cells: Annotated[list[str], Field(min_length=1)]
    axis: str
    metric: str = "val/bits_per_byte"
    corpus: str | None = None
    tokenizer: str | None = None


class Windows(Drawn):
    """An evaluation over the places at which it was measured, such as lengths of context."""

    kind: Literal["windows"]
    study: str
    cells: Annotated[list[str], Field(min_length=1)]
    metric: str
    axis: str
    along: str


class Shares(Drawn):
    """Which share of what taking either branch out costs is the first branch's, by what takes its place."""

    kind: Literal["shares"]
    study: str
    cells: Annotated[list[str], Field(min_length=1)]


class Ladder(Drawn):
    """Sizes, the law fitted to all but the largest, and what it foretold of that one."""

    kind: Literal["ladder"]
    study: str


class Part(Document):
    """A part of a claim, counted from 1, and what it measures in a few words."""

    claim: str
    label: Words
    part: Annotated[int, Field(ge=1)] = 1


class Claimed(Drawn):
    """What claims said, as bars, and what was measured, as dots, of ratios on a logarithmic axis."""

    kind: Literal["claimed"]
    parts: Annotated[list[Part], Field(min_length=1)]
    axis: str


Figure = Annotated[
    Studies | Forest | Sweep | Curves | Windows | Shares | Ladder | Claimed,
    Field(discriminator="kind", description="drawn from the studies' rows"),
]


class Finding(Document):
    """One thing that was found. overturned: what would; record: what was believed before, and why."""

    heading: Words
    claims: Claims
    text: Words
    overturned: Words
    record: Words
    figure: Figure


class Section(Document):
    """A heading with paragraphs, and a figure where there is one."""

    heading: Words
    text: list[Words]
    figure: Figure | None = None


class PaperFile(Document):
    """A paper. claims: those that the title, the abstract and the three sentences presuppose; names: words with digits."""

    title: Words
    claims: Claims
    names: list[str] = Field([], description="words that have digits and are no numbers, such as GPT-2")
    studies: Annotated[list[str], Field(min_length=1)]
    sentences: Annotated[list[Words], Field(min_length=3, max_length=3, description="what was found, for a stranger")]
    questions: Annotated[list[Question], Field(min_length=1, max_length=12, description="of the figure above the sentences")]
    abstract: list[Words]
    before: list[Section] = Field(description="the question, and what was run")
    findings: Annotated[list[Finding], Field(min_length=1, max_length=10)]
    limits: list[Words]
    reproduce: list[Words]
    commands: Annotated[str, Field(description="what makes all of it again")]


def read(path: Path) -> tuple[PaperFile, Mapping]:
    """A paper, and its document, which knows lines. ConfigError names the file, the line and the key that is wrong."""
    document = read_yaml(path)
    assert isinstance(document, Mapping)
    return validated(PaperFile, document, path), document
