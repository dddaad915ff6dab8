"""The numbers of a paper: each is looked up in the studies' tables, and knows where it stands there.

What is printed of one is a `Shown`: its characters, and the rows that they come from. Words that say of a difference which way
it goes look it up with `lower` or `higher`, which give no number where it does not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from gt.analysis.aggregate import MAIN
from gt.analysis.claims import Place
from gt.analysis.statistics import Difference, Estimate, mean_interval, paired_difference
from gt.analysis.verdicts import VERDICTS
from gt.artefacts import Cell
from gt.errors import ConfigError, entry
from gt.registry import metric as registered
from gt.report import text
from gt.report.census import Census, census
from gt.spec import RunSpec

if TYPE_CHECKING:
    from gt.analysis.verdicts import Row as Claim
    from gt.report.numbers import Results

Json = dict[str, Any]
# What a document's place in a claim's source is like: lines 20 and 46-48 of document 0.
CITED = re.compile(r"lines? ([\d, and-]*\d) of document (\d+)")


class BeliedError(Exception):
    """The record is not as words presuppose."""


@dataclass(frozen=True)
class Source:
    """Where a number comes from: rows and a column of a study's table, and what was made of them."""

    study: str
    table: str
    rows: tuple[str, ...]
    column: str
    statistic: str
    value: float | None
    at: float | None = None

    def plain(self) -> Json:
        return {name: value for name, value in asdict(self).items() if value is not None}


class Shown(str):
    """A number as it is printed."""

    source: Source

    def __new__(cls, words: str, source: Source) -> Shown:
        own = super().__new__(cls, words)
        own.source = source
        return own


@dataclass(frozen=True)
class Sized:
    """A mean or a difference with its interval. digits: decimals; unit: what follows the number; of: what there are n of."""

    estimate: Estimate | Difference
    source: Source
    of: str
    unit: str = ""
    digits: int = 3
    sign: int = 1

    def __str__(self) -> str:
        return str(self.full)

    @property
    def mean(self) -> float:
        assert self.estimate.mean is not None
        return self.sign * self.estimate.mean

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The interval, from the smaller to the larger; None of one seed."""
        if self.estimate.lower is None or self.estimate.upper is None:
            return None
        low, high = sorted((self.sign * self.estimate.lower, self.sign * self.estimate.upper))
        return low, high

    @property
    def size(self) -> Shown:
        """0.038"""
        return self._shown(self._number(self.mean))

    @property
    def percent(self) -> Shown:
        """97.5 %, of a share"""
        return self._shown(f"{text.decimals(100 * self.mean, 1)} %")

    @property
    def interval(self) -> Shown:
        """0.027 to 0.050"""
        low, high = self._bounds()
        return self._shown(f"{self._number(low)} to {self._number(high)}")

    @property
    def full(self) -> Shown:
        """0.038 bits per byte (95 % interval 0.027 to 0.050, 5 pairs)"""
        size = f"{self._number(self.mean)} {self.unit}".strip()
        inside = f"95 % interval {self.interval}, " if self.bounds else ""
        return self._shown(f"{size} ({inside}{self.n})")

    @property
    def level(self) -> Shown:
        """95 %, which is what an interval covers"""
        return self._shown("95 %")

    @property
    def brief(self) -> Shown:
        """0.038 (0.027 to 0.050), where a reader knows the unit and of what the interval is"""
        return self._shown(f"{self._number(self.mean)} ({self.interval})")

    @property
    def n(self) -> Shown:
        """5 pairs"""
        return self._shown(text.plural(self.estimate.n, self.of))

    def _number(self, value: float) -> str:
        return text.decimals(value, self.digits)

    def _bounds(self) -> tuple[float, float]:
        if self.bounds is None:
            raise BeliedError(f"{self.source.column} of {' and '.join(self.source.rows)} has an interval; it has one seed")
        return self.bounds

    def _shown(self, words: str) -> Shown:
        return Shown(words, self.source)


class Facts:
    """What a paper may look up. ConfigError for what is not there."""

    def __init__(self, studies: Sequence[Results], claims: Sequence[Claim]) -> None:
        self.studies = {own.study: own for own in studies}
        self.claims = {row.id: row for row in claims}

    @cached_property
    def census(self) -> Census:
        return census(list(self.studies.values()), list(self.claims.values()))

    def names(self) -> dict[str, Callable[..., Any]]:
        """The functions that expressions may call."""
        known = (self.mean, self.difference, self.lower, self.higher, self.setting, self.claim, self.record, self.count)
        return {function.__name__: function for function in (*known, self.minutes, self.share)}

    def study(self, name: str) -> Results:
        return entry(name, self.studies, f"there is no study {name!r}.")

    def cell(self, study: str, label: str, corpus: str | None = None, tokenizer: str | None = None) -> Cell:
        """A cell by its label, and its corpus and tokenizer where several have one label. ConfigError where it is not one."""
        own = self.study(study)
        rows = [row for row in own.cell_rows_in_order if corpus in (None, row["corpus"])]
        rows = [row for row in rows if tokenizer in (None, row["tokenizer"])]
        entry(label, {str(row["label"]): row for row in rows}, f"{study} has no cell {label!r}.")
        found = [row for row in rows if row["label"] == label]
        if len(found) > 1:
            places = text.listed([f"{row['corpus']}, {row['tokenizer']}" for row in found])
            raise ConfigError(f"{study} has {label} several times, on {places}: say which by corpus and tokenizer.")
        return next(cell for cell in own.plan.cells if cell.id == found[0]["cell"])

    def spec(self, study: str, cell: Cell) -> RunSpec:
        return self.study(study).plan.spec(cell)

    def values(self, study: str, cell: Cell, metric: str = MAIN, at: float | None = None) -> dict[int, float]:
        """By seed. ConfigError where no run has one."""
        found = self.study(study).values.of(Place(study, cell, metric, at))
        if not found:
            raise ConfigError(f"{study}: no run of {cell.id} has {metric}{'' if at is None else f' at {at:g}'}.")
        return found

    def mean(
        self,
        study: str,
        label: str,
        corpus: str | None = None,
        tokenizer: str | None = None,
        metric: str = MAIN,
        at: float | None = None,
        digits: int = 3,
    ) -> Sized:
        """A cell's mean over seeds."""
        cell = self.cell(study, label, corpus, tokenizer)
        estimate = mean_interval(list(self.values(study, cell, metric, at).values()))
        source = Source(study, str(registered(metric).table), (cell.id,), metric, "mean", estimate.mean, at)
        return Sized(estimate, source, "seed", _unit(metric), digits)

    def difference(
        self,
        study: str,
        a: str,
        b: str,
        corpus: str | None = None,
        tokenizer: str | None = None,
        metric: str = MAIN,
        at: float | None = None,
        digits: int = 3,
        sign: int = 1,
    ) -> Sized:
        """a minus b, paired by seed. ConfigError where no seed has both."""
        cells = [self.cell(study, label, corpus, tokenizer) for label in (a, b)]
        first, second = (self.values(study, cell, metric, at) for cell in cells)
        found = paired_difference(first, second)
        if found.mean is None:
            raise ConfigError(f"{study}: {a} and {b} share no seed.")
        rows = tuple(cell.id for cell in cells)
        source = Source(study, str(registered(metric).table), rows, metric, "paired difference", found.mean, at)
        return Sized(found, source, "pair", _unit(metric), digits, sign)

    def lower(self, study: str, a: str, b: str, **more: Any) -> Sized:
        """How far a lies below b, with its interval. `BeliedError` unless the interval does."""
        return self._sided(-1, study, a, b, more)

    def higher(self, study: str, a: str, b: str, **more: Any) -> Sized:
        """How far a lies above b, with its interval. `BeliedError` unless the interval does."""
        return self._sided(1, study, a, b, more)

    def _sided(self, sign: int, study: str, a: str, b: str, more: Json) -> Sized:
        found = self.difference(study, a, b, sign=sign, **more)
        if found.bounds is None or found.bounds[0] <= 0:
            measured = self.difference(study, a, b, **more)
            raise BeliedError(f"{a} lies {'above' if sign > 0 else 'below'} {b} in {study}; the difference is {measured}")
        return found

    def share(self, study: str, label: str, branch: str, way: str = "zero", digits: int = 3) -> Sized:
        """Of what taking out either branch adds to the loss, the part of one, by what takes its output's place."""
        cell = self.cell(study, label)
        estimate = mean_interval(list(self.shares(study, cell, branch, way).values()))
        source = Source(study, "probes", (cell.id,), f"ablation/{way}/{branch}", "mean share of both branches", estimate.mean)
        return Sized(estimate, source, "seed", "", digits)

    def shares(self, study: str, cell: Cell, branch: str, way: str) -> dict[int, float]:
        """The same by seed. ConfigError where it has not two branches."""
        letters = self.study(study).values.branches(cell.id)
        if len(letters) != 2 or branch not in letters:
            raise ConfigError(f"{study}: {cell.id} has not two branches of which one is {branch!r}.")
        added = {letter: self.values(study, cell, f"ablation/{way}/{letter}") for letter in letters}
        return {seed: own / sum(values[seed] for values in added.values()) for seed, own in added[branch].items()}

    def setting(self, study: str, label: str, name: str, corpus: str | None = None, tokenizer: str | None = None) -> Shown:
        """What a cell was trained with or is: learning_rate, steps, tokens, tokens_per_step, parameters, width, layers."""
        cell = self.cell(study, label, corpus, tokenizer)
        spec = self.spec(study, cell)
        training = spec.training
        per_step = training.batch_size * training.sequence_length * training.grad_accumulation
        known: dict[str, tuple[float, Callable[[float], str]]] = {
            "learning_rate": (training.learning_rate, lambda value: f"{value:g}"),
            "steps": (training.steps, text.count),
            "tokens_per_step": (per_step, text.count),
            "tokens": (per_step * training.steps, text.short),
            "sequence_length": (training.sequence_length, text.count),
            "width": (spec.model.d_model, text.count),
            "layers": (spec.model.n_layer, text.count),
        }
        if name == "parameters":
            rows = [row for row in self.study(study).cell_rows_in_order if row["cell"] == cell.id]
            value = float(rows[0]["n_params"])
            return Shown(text.short(value), Source(study, "cells", (cell.id,), "n_params", "value", value))
        value, shown = entry(name, known, f"a cell has no setting {name!r}.")
        return Shown(shown(value), Source(study, "plan", (cell.id,), name, "value", float(value)))

    def claim(self, name: str, part: int = 1, digits: int = 2) -> Tested:
        """What a claim's test measured, of one of its parts, counted from 1, and what it asked for."""
        row = entry(name, self.claims, f"there is no claim {name!r}.")
        tests = row.judgement["tests"] if row.judgement else []
        if not 1 <= part <= len(tests):
            raise ConfigError(f"{name}: there is no test {part} of it.")
        test = tests[part - 1]
        estimate = Estimate(test["n"], test["estimate"], None, test["lower"], test["upper"])
        source = Source(str(row.claim.study), "claims", (name,), f"tests/{part}", "estimate", test["estimate"])
        return Tested(estimate, source, "seed", "", digits, row=row, part=part)

    def record(self, name: str) -> Shown:
        """Where a claim was made: document 3, lines 590 and 601-604."""
        row = entry(name, self.claims, f"there is no claim {name!r}.")
        if not (found := CITED.findall(row.claim.source)):
            raise ConfigError(f"{name}: source: {row.claim.source!r} names no line of a document.")
        places = [f"document {number}, {'line' if lines.isdigit() else 'lines'} {lines}" for lines, number in found]
        source = Source("", "claims", (name,), "source", "citation", None)
        return Shown(text.listed(places).replace("-", "–"), source)

    def count(self, what: str, verdict: str = "", noun: str = "", study: str = "") -> Shown:
        """How many there are, with the noun: runs, studies, trainings, contrasts, decided (contrasts), claims (as tested)
        or explained (claims), which fail and hold in another form of their cells.

        verdict: of claims, only those with it; noun: called so instead, in the singular, or `none` for the number alone.
        """
        judged = [row for row in self.claims.values() if row.tested and row.judgement and row.judgement["tests"]]
        known: dict[str, tuple[int, str, str]] = {
            "runs": (self.census.completed, "run", ""),
            "trainings": (len(self.census.records), "training", ""),
            "studies": (len(self.studies), "study", "studies"),
            "contrasts": (self.census.contrasts, "contrast", ""),
            "decided": (self.census.decided, "contrast", ""),
            "claims": (len(judged), "claim", ""),
            "explained": (sum(bool(row.explained_by) for row in judged), "claim", ""),
        }
        n, own, plural = entry(what, known, f"nothing counts {what!r}.")
        if what == "claims" and verdict:
            entry(verdict, dict.fromkeys(VERDICTS), f"there is no verdict {verdict!r}.")
            n = sum(row.verdict == verdict for row in judged)
        if what == "runs" and study:
            n = int(self.study(study).coverage["completed"])
        words = f"{n:,}" if noun == "none" else text.plural(n, noun or own, "" if noun else plural)
        column = f"{what}, {verdict}" if verdict else what
        return Shown(words, Source(study or "all", "census", (), column, "count", float(n)))

    def minutes(self) -> Shown:
        """What all trainings took of their devices, in minutes. ConfigError where it is not known of one."""
        seconds = self.census.records["device_seconds"].astype(float)
        if seconds.isna().any():
            raise ConfigError(f"of {int(seconds.isna().sum())} trainings it is not known what they took of a device.")
        value = float(seconds.sum()) / 60
        words = text.plural(round(value), "minute")
        return Shown(words, Source("all", "runs", (), "device_seconds", "sum in minutes", value))


@dataclass(frozen=True)
class Tested(Sized):
    """What a part of a claim measured. row: the claim's."""

    row: Any = None
    part: int = 1

    @property
    def verdict(self) -> str:
        return str(self.row.verdict)

    @property
    def low(self) -> Shown:
        """Where what was claimed begins."""
        return self._bound(min)

    @property
    def high(self) -> Shown:
        """Where what was claimed ends."""
        return self._bound(max)

    @property
    def number(self) -> Shown:
        """What was measured, to three digits: 0.0189, 26.4, 1,240"""
        return self._shown(text.significant(self.mean))

    @property
    def band(self) -> list[float]:
        """The bounds of what was claimed."""
        from gt.report.claim_figures import bounds

        return bounds(self.row.claim.predicate[self.part - 1])

    def _bound(self, which: Callable[[list[float]], float]) -> Shown:
        value = which(self.band)
        source = Source("", "claims", (self.row.id,), f"predicate/{self.part}", "bound", value)
        return Shown(f"{value:g}".replace("-", "−"), source)


def _unit(metric: str) -> str:
    return "bits per byte" if metric.endswith("bits_per_byte") else ""
