"""A paper's document: an author's words with the record's numbers, and what stands in place of words that the record belies.

The words of a finding presuppose verdicts, and differences that go one way. Where the record says otherwise, as when a study
was run again, they are not printed: in their place stand the claims with what was measured, and the line that says why. All
else is written as ever, so that the draft can be read and rewritten, and building it fails with the list of such places: so
a paper that is out of date cannot be published unseen, and nothing needs a switch to be looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from gt.documents import Mapping
from gt.errors import ConfigError
from gt.explain import Keys, place
from gt.paper import figures
from gt.paper.facts import BeliedError, Facts, Shown
from gt.paper.file import Claims, Figure, Finding, PaperFile, Question, Section, read
from gt.paper.prose import Prose
from gt.report import document, text
from gt.report.document import Block, Code, Document, Items, Picture, Tabular, Terms, Text
from gt.report.tables import Column, Table

if TYPE_CHECKING:
    from gt.analysis.verdicts import Row as Claim
    from gt.report.numbers import Results

Json = dict[str, Any]
Made = TypeVar("Made")


@dataclass
class Paper:
    """A paper that has been built. numbers: each as printed, with where and its source; drafts: what the record belies."""

    path: Path
    file: PaperFile
    document: Document
    numbers: list[Json]
    drafts: list[str]
    sentences: list[str]
    questions: figures.Made


def build(path: Path, studies: Sequence[Results], claims: Sequence[Claim], folder: Path) -> Paper:
    """Draw the figures of a paper into a folder, and set its words. claims: all that there are.

    ConfigError names the line of what is wrong: a number that is typed, a name, a cell or claim that is not there.
    """
    written, source = read(path)
    known = {own.study: own for own in studies}
    if absent := [name for name in written.studies if name not in known]:
        raise ConfigError(f"{place(source, ('studies',), path)}: studies: {text.listed(absent)} is not among those given.")
    facts = Facts(
        [known[name] for name in written.studies], [row for row in claims if row.claim.study in (None, *written.studies)]
    )
    return _Builder(path, written, source, facts, folder).paper()


@dataclass
class _Builder:
    path: Path
    file: PaperFile
    source: Mapping
    facts: Facts
    folder: Path
    drafts: list[str] = field(default_factory=list)
    shown: list[tuple[str, Shown]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.prose = Prose(self.facts, self.file.names)
        self.palette = figures.Palette()
        for part in ("before", "findings"):
            for i, own in enumerate(getattr(self.file, part)):
                self.at((part, i, "figure"), partial(self.palette.add, own.figure, self.facts))

    def paper(self) -> Paper:
        written = self.file
        belied = self.belied(written.claims, ("claims",))
        questions = self.at(("questions",), lambda: self.headline(written.questions))
        sections = [
            document.section(
                "abstract", "Abstract", *([Text(belied)] if belied else self.texts(written.abstract, ("abstract",)))
            ),
            *(self.section(own, ("before", i)) for i, own in enumerate(written.before)),
            document.section("findings", "Findings", *self.findings()),
            document.section("limits", "Limits", Items(tuple(own.words for own in self.texts(written.limits, ("limits",))))),
            document.section(
                "reproduce",
                "How to make all of it again",
                *self.texts(written.reproduce, ("reproduce",)),
                Code(written.commands),
            ),
        ]
        title = (
            f"A draft: {text.plural(len(written.questions), 'question')}" if belied else self.words(written.title, ("title",))
        )
        sentences = [] if belied else [own.words for own in self.texts(written.sentences, ("sentences",))]
        runs, studies = self.facts.count("runs"), self.facts.count("studies")
        self.shown += [("byline", runs), ("byline", studies)]
        whole = Document(title, f"{runs} in {studies}", tuple(own for own in sections if own is not None))
        return Paper(self.path, written, whole, list(self.numbers()), self.drafts, sentences, questions)

    def numbers(self) -> Iterator[Json]:
        """Every number that is printed, or read out in place of a figure."""
        for where, printed, source in self.prose.printed:
            yield {"where": where, "printed": printed, **source.plain()}
        for where, shown in self.shown:
            yield {"where": where, "printed": str(shown), **shown.source.plain()}

    def headline(self, questions: list[Question]) -> figures.Made:
        made = figures.questions(questions, self.facts, self.palette, lambda words: self.prose.text(words, "questions"))
        self.shown += [("questions", shown) for shown in made.shown]
        return made

    def section(self, own: Section, at: Keys) -> document.Section | None:
        blocks: list[Block] = [*self.texts(own.text, (*at, "text"))]
        if own.figure is not None:
            blocks.append(self.picture(own.figure, (*at, "figure")))
        heading = self.words(own.heading, (*at, "heading"))
        return document.section(heading.lower(), heading, *blocks)

    def findings(self) -> Iterator[Block | None]:
        for i, own in enumerate(self.file.findings):
            at = ("findings", i)
            drawn = self.picture(own.figure, (*at, "figure"))
            heading, blocks = self.finding(own, at, drawn)
            yield document.section(f"finding-{i + 1}", heading, *blocks)

    def finding(self, own: Finding, at: Keys, drawn: Picture) -> tuple[str, list[Block]]:
        """Its heading and its words with its figure, or what stands in the place of the words."""
        belied, before = self.belied(own.claims, at), len(self.prose.printed)
        if not belied:
            try:
                heading, words, overturned, record = (
                    self.text(getattr(own, part), (*at, part)) for part in ("heading", "text", "overturned", "record")
                )
            except BeliedError as error:
                del self.prose.printed[before:]
                belied = self.draft(at, str(error))
            else:
                verdicts = "; ".join(f"{name}: {self.facts.claims[name].verdict}" for name in own.claims)
                rest = (("What would overturn this", overturned), ("What the record believed, and why", record))
                return heading, [Text(f"{words} [{verdicts}]" if verdicts else words), drawn, Terms(rest)]
        titles = [row.claim.title for name in own.claims if (row := self.facts.claims.get(name))]
        return text.listed(titles) or "A finding", [Text(belied), drawn, *self.tables(list(own.claims))]

    def belied(self, claims: Claims, at: Keys) -> str:
        """A line on the first claims whose verdict is another than words presuppose; empty where none is."""
        for name in claims:
            if name not in self.facts.claims:
                raise ConfigError(f"{place(self.source, (*at, 'claims', name), self.path)}: there is no claim {name!r}.")
        other = [(name, self.facts.claims[name].verdict, own) for name, own in claims.items()]
        wrong = [f"{name} is {own}; the verdict is {found}" for name, found, own in other if found != own]
        return self.draft(at, "; and that ".join(wrong)) if wrong else ""

    def draft(self, at: Keys, what: str) -> str:
        """Notes a place whose words are not printed, and says it to a reader."""
        key = ".".join(map(str, at))
        self.drafts.append(f"{place(self.source, at, self.path)}: {key}: the words presuppose that {what}.")
        return f"The words written here presuppose that {what}."

    def tables(self, names: list[str]) -> Iterator[Block]:
        """What was measured of claims, a row a part."""
        columns = (
            Column("claim", "Claim", "left"),
            Column("words", "What was measured", "left", wraps=True),
            Column("estimate", "Estimate", shown=text.significant),
            Column("interval", "95 % interval"),
            Column("n", "Seeds"),
            Column("verdict", "Verdict", "left"),
        )
        rows = []
        for row in (self.facts.claims[name] for name in names):
            for test in row.judgement["tests"] if row.judgement else []:
                inside = text.NOTHING if test["lower"] is None else text.interval(test["lower"], test["upper"])
                own = {key: test[key] for key in ("words", "estimate", "n")}
                rows.append({"claim": row.id, "interval": inside, "verdict": row.verdict, **own})
        if rows:
            yield Tabular(Table(f"draft.{names[0]}", "What was measured.", columns, tuple(rows)))

    def picture(self, own: Figure, at: Keys) -> Picture:
        """Draws a figure into the folder. Its title and caption are words as others are."""
        title, caption = (self.words(getattr(own, part), (*at, part)) for part in ("title", "caption"))
        where = ".".join(map(str, at))
        made = self.at(at, lambda: figures.draw(own, self.facts, self.palette, lambda words: self.prose.text(words, where)))
        file = self.folder / f"{'-'.join(map(str, at[:2]))}.svg"
        figures.keep(made, file)
        self.shown += [(where, shown) for shown in made.shown]
        return Picture(file.stem, title, caption, made.alt, file, made.wide)

    def texts(self, written: list[str], at: Keys) -> list[Text]:
        return [Text(self.words(words, (*at, i))) for i, words in enumerate(written)]

    def words(self, written: str, at: Keys) -> str:
        """A text, or the line that says why it is not printed."""
        try:
            return self.text(written, at)
        except BeliedError as error:
            return self.draft(at, str(error))

    def text(self, written: str, at: Keys) -> str:
        """A text. `BeliedError` where the record is not as it presupposes, and then none of its numbers is printed."""
        before = len(self.prose.printed)
        try:
            return self.at(at, lambda: self.prose.text(written, ".".join(map(str, at))))
        except BeliedError:
            del self.prose.printed[before:]
            raise

    def at(self, keys: Keys, make: Callable[[], Made]) -> Made:
        """A ConfigError in it says where in the file."""
        try:
            return make()
        except ConfigError as error:
            raise ConfigError(f"{place(self.source, keys, self.path)}: {'.'.join(map(str, keys))}: {error}") from None
