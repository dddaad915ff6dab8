"""Words of an author with numbers of the record: expressions are looked up, and nothing else may bring a digit in.

A text is a Jinja template that knows the functions of `gt.paper.facts` alone. Digits stand in it in names (`GPT-2`, the names
of variants and corpora, those that the paper lists) and in formulas, where they are 0, 1 or 2; any other is refused, be it
typed or made by an expression. Of each number that is printed it is kept where it comes from.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import jinja2

from gt.errors import ConfigError
from gt.paper.facts import Facts, Shown, Sized, Source
from gt.paper.formulas import parsed

# Around a formula. In a text it is typst's.
FORMULA = re.compile(r"\$([^$]+)\$")
IN_FORMULA = re.compile(r"(?<![\d.])[012](?![\d.])")
# Around claims and studies, whose identifiers stand nowhere else.
BRACKETS = re.compile(r"\[[^\]]*\]")


@dataclass
class Prose:
    """What turns templates into text. printed: the numbers so far: the key of the text, what is printed, and its source."""

    facts: Facts
    names: Iterable[str] = ()
    printed: list[tuple[str, str, Source]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._where = ""
        known = {*self.names, *self._named()}
        joined = "|".join(re.escape(name) for name in sorted(known, key=len, reverse=True))
        self.known = re.compile(rf"(?<![\w.])(?:{joined})(?![\w.]*\d)") if joined else re.compile("(?!)")
        # A study of one word, such as gates, is a word of the language too.
        self.ids = {*self.facts.claims} | {name for name in self.facts.studies if "_" in name}
        self.environment = jinja2.Environment(
            undefined=jinja2.StrictUndefined, autoescape=False, finalize=self._finalized, keep_trailing_newline=False
        )
        self.environment.globals = dict(self.facts.names())

    def _named(self) -> Iterator[str]:
        """Variants, corpora, studies and claims whose names have digits."""
        yield from (name for name in (*self.facts.claims, *self.facts.studies) if re.search(r"\d", name))
        for own in self.facts.studies.values():
            for cell in own.plan.cells:
                yield from (name for name in (cell.variant, cell.corpus) if re.search(r"\d", name))

    def text(self, source: str, where: str) -> str:
        """The text of a template. where: its key in the paper. ConfigError for a digit or a name that is not known."""
        self._where = where
        try:
            self._check_typed(source)
            made = self.environment.from_string(source).render()
        except jinja2.TemplateSyntaxError as error:
            raise ConfigError(f"{error.message}.") from None
        except jinja2.UndefinedError as error:
            raise ConfigError(f"unknown name: {error.message}.") from None
        except TypeError as error:  # of a function that is called with what it does not take
            raise ConfigError(f"{error}.") from None
        self._check_ids(made)
        return re.sub(r"[ \t\n]+", " ", made).strip()

    def _check_typed(self, source: str) -> None:
        for _, kind, value in self.environment.lex(source):
            if kind == "data":
                self._check(value, "typed")

    def _check(self, words: str, how: str) -> None:
        """ConfigError where words have a digit that is of no name and no formula, or a formula that is none."""
        for formula in FORMULA.findall(words):
            parsed(formula)
            if digits := re.search(r"\d[\d.]*", IN_FORMULA.sub("", formula)):
                raise ConfigError(f"the formula ${formula}$ has the number {digits[0]}: {HINT}")
        rest = self.known.sub("", FORMULA.sub("", words))
        if found := re.search(r"\S*\d\S*", rest):
            raise ConfigError(f"{found[0]!r} has a digit that is {how} and not looked up: {HINT}")

    def _check_ids(self, made: str) -> None:
        """ConfigError for an identifier outside of brackets."""
        for word in re.findall(r"[\w-]+", BRACKETS.sub("", made)):
            if word in self.ids:
                raise ConfigError(f"{word} is the name of a claim or study, which stands in brackets alone: [{word}].")

    def _finalized(self, value: Any) -> Any:
        """What an expression prints: of a number its characters, whose source is kept."""
        if isinstance(value, Sized):
            value = value.full
        if isinstance(value, Shown):
            self.printed.append((self._where, str(value), value.source))
            return str(value)
        if isinstance(value, jinja2.Undefined):
            return value
        self._check(str(value), "made by an expression")
        return value


HINT = "a number is an expression, such as {{ mean('study', 'cell') }}, and a name with a digit stands under `names`"
