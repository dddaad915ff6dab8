"""Claims: what a study is expected to show, written down as data before it runs.

`config/claims/*.yaml` holds claims by their ids, `config/claims/arms.yaml` the arms under which a claim is judged again to see
what it depends on. What a claim asserts is one predicate or several that must all hold, from the closed vocabulary below; there
is no code in it. `gt.analysis.verdicts` judges them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from gt import artefacts
from gt.artefacts import Name, Plan
from gt.documents import Mapping, mark_of, read_yaml
from gt.errors import ConfigError, nearest
from gt.explain import FORMS, NAME_PATTERN, place, validated
from gt.registry import metric as registered
from gt.rungs import FEWEST
from gt.spec import Diverged
from gt.study import Document, by_short_name

Json = dict[str, Any]
ARMS = "arms.yaml"
# The arm of the claim itself: its own study's cells.
FAITHFUL = "faithful"
# Changing these does not change what is claimed.
PROSE = {"title", "source", "note", "again"}
# Nor does what is known of its cells before they run.
KNOWN = {"sd"}
# What else a claim may have that no study tests. Seeds and alpha may be common to the claims of a file.
UNTESTED = {"sentence", "not_testable", "seeds", "alpha"}


def _registered(name: str) -> str:
    """A metric's name, if it is one. A ConfigError is no ValidationError, so it is turned into what pydantic collects."""
    try:
        registered(name)
    except ConfigError as error:
        raise ValueError(str(error)) from None
    return name


Metric = Annotated[str, AfterValidator(_registered), Field(description="a metric's name, with the values of its axes")]


class Cell(Document):
    """One cell of the claim's study, and what is read of it. A bare word is a variant's name in the study."""

    variant: str
    corpus: str | None = None
    tokenizer: str | None = None
    factors: dict[str, Any] = Field({}, description="values of the study's factors, by the last part of their paths")
    metric: Metric | None = Field(None, description="another metric than the predicate's")
    at: Annotated[float, Field(ge=0)] | None = Field(
        None, description="where on a curve (step; the last otherwise) or in an evaluation (tokens of context, pairs ...)"
    )
    tuned_by: str | None = Field(
        None, description="the variant whose cells choose the factors that are left open: those with its lowest loss"
    )


AnyCell = Annotated[Cell, BeforeValidator(lambda value: {"variant": value} if isinstance(value, str) else value)]
Scale = Annotated[
    Literal["difference", "ratio"],
    Field(description="a - b, or a / b; the scale of margins, of which a loss and a perplexity differ"),
]
Margin = Annotated[float, Field(gt=0)]


def _check_ratio(scale: str, **bounds: float | None) -> None:
    """ValueError for a bound of a ratio that leaves only ratios below zero, which no losses have."""
    if scale == "ratio":
        for name, bound in bounds.items():
            if bound is not None and bound >= 1:
                raise ValueError(f"{name} {bound} is a share of b where scale is ratio, and must be below 1")


def _check_scale(part: Any) -> None:
    """ValueError for a scale where there is nothing to compare."""
    if part.b is None and "scale" in part.model_fields_set:
        raise ValueError(f"scale {part.scale} says how a and b are compared, and there is no b")


class Compare(Document):
    """a is lower (higher) than b, than each b if there are several, by at least `by` on average over seeds."""

    test: Literal["compare"]
    metric: Metric
    a: AnyCell
    b: AnyCell | Annotated[list[AnyCell], Field(min_length=1)]
    is_: Literal["lower", "higher"] = Field(alias="is")
    by: Annotated[float, Field(ge=0)] = 0.0
    scale: Scale = "difference"
    margin: Margin | None = Field(None, description="a difference that would not matter: within it, they are equivalent")

    @model_validator(mode="after")
    def _bounds(self) -> Compare:
        _check_ratio(self.scale, by=self.by if self.is_ == "lower" else None, margin=self.margin)
        if self.margin is not None and isinstance(self.b, list) and len(self.b) > 1:
            raise ValueError(f"margin {self.margin} is for one b, not for several")
        return self


class Order(Document):
    """Cells rise (fall) in this order, each step by itself."""

    test: Literal["order"]
    metric: Metric
    cells: Annotated[list[AnyCell], Field(min_length=3)]
    is_: Literal["rising", "falling"] = Field(alias="is")


class Trend(Document):
    """Cells rise (fall) along this order as a whole (Page's test). x: where each stands, for the slope; 1, 2 ... otherwise."""

    test: Literal["trend"]
    metric: Metric
    cells: Annotated[list[AnyCell], Field(min_length=3)]
    x: list[float] = []
    is_: Literal["rising", "falling"] = Field(alias="is")

    @model_validator(mode="after")
    def _places(self) -> Trend:
        if self.x and (len(self.x) != len(self.cells) or sorted(set(self.x)) != self.x):
            raise ValueError(f"x {self.x} must rise and have a value for each of {len(self.cells)} cells")
        return self


class Equivalence(Document):
    """a and b are the same within a margin (TOST)."""

    test: Literal["equivalence"]
    metric: Metric
    a: AnyCell
    b: AnyCell
    margin: Margin
    scale: Scale = "ratio"

    @model_validator(mode="after")
    def _bounds(self) -> Equivalence:
        _check_ratio(self.scale, margin=self.margin)
        return self


class Interval(Document):
    """a, or a against b, lies between two bounds on average over seeds."""

    test: Literal["interval"]
    metric: Metric
    a: AnyCell
    b: AnyCell | None = None
    scale: Scale = "ratio"
    low: float
    high: float

    @model_validator(mode="after")
    def _ordered(self) -> Interval:
        if self.low >= self.high:
            raise ValueError(f"low {self.low} must be below high {self.high}")
        _check_scale(self)
        if self.b is not None and self.scale == "ratio" and self.high <= 0:
            raise ValueError(f"high {self.high} must be above 0: no ratio is below")
        return self


class Threshold(Document):
    """a, or a against b, is above or below a bound on average over seeds."""

    test: Literal["threshold"]
    metric: Metric
    a: AnyCell
    b: AnyCell | None = None
    scale: Scale = "ratio"
    above: float | None = None
    below: float | None = None

    @model_validator(mode="after")
    def _one(self) -> Threshold:
        if (self.above is None) == (self.below is None):
            raise ValueError("either above or below is needed")
        _check_scale(self)
        bound = self.above if self.above is not None else self.below
        if self.b is not None and self.scale == "ratio" and bound is not None and bound <= 0:
            raise ValueError(f"{'above' if self.above is not None else 'below'} {bound} must be above 0: no ratio is below")
        return self


class RankCorrelation(Document):
    """The ranks of cells agree between a metric and another, or an order given, by more (less) than a bound over seeds."""

    test: Literal["rank_correlation"]
    metric: Metric
    with_: Metric | list[float] = Field(alias="with", description="another metric, or a number for each cell")
    cells: Annotated[list[AnyCell], Field(min_length=3)]
    kind: Literal["kendall", "spearman"] = "spearman"
    above: Annotated[float, Field(ge=-1, le=1)] | None = None
    below: Annotated[float, Field(ge=-1, le=1)] | None = None

    @model_validator(mode="after")
    def _one(self) -> RankCorrelation:
        if (self.above is None) == (self.below is None):
            raise ValueError("either above or below is needed")
        if isinstance(self.with_, list) and len(self.with_) != len(self.cells):
            raise ValueError(f"with {self.with_} must have a number for each of {len(self.cells)} cells")
        return self


class Exists(Document):
    """At least one of the cells is lower (higher) than every b, by at least `by`."""

    test: Literal["exists"]
    metric: Metric
    cells: Annotated[list[AnyCell], Field(min_length=1)]
    is_: Literal["lower", "higher"] = Field(alias="is")
    b: Annotated[list[AnyCell], Field(min_length=1)]
    by: Annotated[float, Field(ge=0)] = 0.0
    scale: Scale = "difference"

    @model_validator(mode="after")
    def _bounds(self) -> Exists:
        _check_ratio(self.scale, by=self.by if self.is_ == "lower" else None)
        return self


class Extrapolates(Document):
    """The law of the smaller rungs foretells a, or a against b, at the last within a margin (`gt.analysis.laws`; TOST)."""

    test: Literal["extrapolates"]
    metric: Metric
    a: AnyCell
    b: AnyCell | None = None
    rungs: Annotated[dict[str, Annotated[list[Any], Field(min_length=1)]], Field(min_length=1, max_length=1)] = Field(
        description="the factor that the sizes differ in, and its values, the smallest first; the last is held out"
    )
    margin: Margin
    scale: Scale = "ratio"

    @model_validator(mode="after")
    def _ladder(self) -> Extrapolates:
        _check_ratio(self.scale, margin=self.margin)
        ((path, values),) = self.rungs.items()
        if len({str(value) for value in values}) < max(FEWEST, len(values)):
            more = ", ".join([*dict.fromkeys(map(str, values)), *["..."] * FEWEST][:FEWEST])
            raise ValueError(
                f"rungs {values} are too few: three are fitted at least, and the last is held out. "
                f"Write rungs: {{{path}: [{more}]}}, each once"
            )
        return self

    def at_rungs(self, arm: Cell) -> list[Cell]:
        """An arm at each rung."""
        ((path, values),) = self.rungs.items()
        return [arm.model_copy(update={"factors": {**arm.factors, path: value}}) for value in values]


Predicate = Annotated[
    Compare | Order | Trend | Equivalence | Interval | Threshold | RankCorrelation | Exists | Extrapolates,
    Field(discriminator="test"),
]


class Where(Document):
    """What all cells of a claim have in common."""

    corpus: str | None = None
    tokenizer: str | None = None
    factors: dict[str, Any] = {}


# What a claim can come to where it is tested, in the words of `gt.analysis.verdicts`.
Expected = Literal["supported", "opposite", "smaller than claimed", "larger than claimed", "equivalent", "inconclusive"]


class Claim(Document):
    """A sentence that a study can show to be wrong; or one that cannot be tested, and why."""

    title: str
    sentence: Annotated[str, Field(description="what is claimed, as it is tested")]
    source: Annotated[str, Field(description="who says so: seed and lines, or repository path")]
    note: str = Field("", description="what is known about the evidence on record")
    again: str | None = Field(None, description="an earlier claim that it asks again, of other runs")
    not_testable: str | None = None
    study: Name | None = None
    where: Where = Where()
    predicate: list[Predicate] = Field([], description="all must hold")
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    family: Name | None = Field(None, description="the claims of a study that share its alpha; by default all of them")
    seeds: Annotated[int, Field(ge=1)] = Field(5, description="the least number of completed seeds of each cell")
    diverged: Diverged | None = Field(None, description="how a run that diverged counts; by default as the study says")
    sd: Annotated[float, Field(gt=0)] | None = Field(
        None,
        description="how much what is tested varies from seed to seed: differences, or log ratios; else by earlier records",
    )
    arms: list[Name] = Field([], description="arms of arms.yaml under which it is judged again")
    expected: Expected | None = Field(None, description="the verdict that its author expects, who need not believe it")

    @model_validator(mode="after")
    def _testable(self) -> Claim:
        fields = {name: field.default for name, field in Claim.model_fields.items() if name not in {*PROSE, *UNTESTED}}
        given = [name for name, default in fields.items() if getattr(self, name) != default]
        if self.not_testable is not None and given:
            raise ValueError(f"not_testable leaves no study and no predicate, so {given[0]} has nothing to say")
        if self.not_testable is None and not (self.study and self.predicate):
            raise ValueError("a claim needs a study and a predicate, or not_testable: why")
        return self

    @model_validator(mode="after")
    def _all_read(self) -> Claim:
        """A margin and an sd are for a claim of one predicate, and `at` for metrics that are measured at several places."""
        if self.sd is not None and len(self.predicate) > 1:
            raise ValueError(f"sd {self.sd} is for a claim of one predicate")
        for i, predicate in enumerate(self.predicate):
            if isinstance(predicate, Compare) and predicate.margin is not None and len(self.predicate) > 1:
                raise ValueError(f"predicate {i}: margin {predicate.margin} is for a claim of one predicate")
            metrics: dict[str, list[str]] = {}
            for cell, metric in cells_of(predicate):
                if cell.at is not None:
                    metrics.setdefault(f"{title(cell)}: at {cell.at:g}", []).append(metric)
            for words, own in metrics.items():
                if all(registered(metric).table not in ("curves", "evaluations") for metric in own):
                    raise ValueError(
                        f"predicate {i}: {words} is for a curve or an evaluation, and {own[0]} has one value a run"
                    )
        return self

    @property
    def group(self) -> str:
        """The study, and the family if it has several."""
        return f"{self.study}/{self.family}" if self.family else str(self.study)

    @property
    def document(self) -> Json:
        """As it is written in a file, without what is at its default."""
        return self.model_dump(mode="json", exclude_defaults=True, by_alias=True)

    @property
    def sha256(self) -> str:
        """Of all that is claimed, in a canonical form; title, source and note may be mended later."""
        document = self.model_dump(mode="json", exclude_defaults=True, exclude=PROSE | KNOWN, by_alias=True)
        return hashlib.sha256(json.dumps(document, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


class Arm(Document):
    """Other cells in place of a claim's: the same question with one thing changed."""

    title: str
    study: Name
    where: Where = Where()
    cells: dict[str, str] = Field(description="a claim's cell, as tables call it -> the variant that stands for it here")


class Claims(dict[str, Claim]):
    """Claims by their ids, and the documents that they were read from, which know their lines."""

    def __init__(self) -> None:
        super().__init__()
        self.documents = Mapping()

    def place(self, *keys: Any) -> str:
        """File and line of a key of a claim."""
        return str(mark_of(self.documents, keys) or "config/claims")


def load_claims(folder: Path) -> Claims:
    """All claims of `config/claims/*.yaml`, if there is one. ConfigError names the file, line, claim and key."""
    claims = Claims()
    for file in sorted(folder.glob("*.yaml")):
        if file.name == ARMS:
            continue
        documents = read_yaml(file)
        for name, document in documents.items():
            where = place(documents, (name,), file)
            if name in claims:
                raise ConfigError(f"{where}: {name}: another file has a claim of this id already.")
            _check_name(name, where)
            claims[name] = validated(Claim, document, file, at=(name,), file=documents)
        claims.documents.update(documents)
        claims.documents.marks.update(getattr(documents, "marks", {}))
    arms = load_arms(folder)
    for name, claim in claims.items():
        if claim.again is not None and claim.again not in claims:
            unknown = f"{name}.again: unknown claim {claim.again!r}.{nearest(claim.again, claims)}"
            raise ConfigError(f"{claims.place(name, 'again')}: {unknown}")
        for i, arm in enumerate(claim.arms):
            if arm not in arms:
                raise ConfigError(f"{claims.place(name, 'arms', i)}: {name}.arms: unknown arm {arm!r}." + nearest(arm, arms))
    return claims


def load_arms(folder: Path) -> dict[str, Arm]:
    """The arms of `config/claims/arms.yaml`, none without it, in its order: from what the record ran to single changes."""
    path = folder / ARMS
    if not path.exists():
        return {}
    documents = read_yaml(path)
    arms = {}
    for name, document in documents.items():
        where = place(documents, (name,), path)
        _check_name(name, where)
        arms[name] = validated(Arm, document, path, at=(name,), file=documents)
    return arms


def _check_name(name: str, where: str) -> None:
    """ConfigError for the id of a claim or arm that cannot be the name of a file."""
    if not re.fullmatch(NAME_PATTERN, name):
        raise ConfigError(f"{where}: {name!r} is not allowed. Allowed: {FORMS[NAME_PATTERN]}.")


@dataclass(frozen=True)
class Place:
    """Which cell of which study a part of a claim reads, and what."""

    study: str
    cell: artefacts.Cell
    metric: str
    at: float | None


MISSING = object()
Cells = list[artefacts.Cell]
Choose = Callable[[Cells, Cells], Cells]


def first(cells: Cells, tuning: Cells) -> Cells:
    """Any of several cells that differ in what is tuned, where it does not matter which."""
    return cells[:1]


class Places:
    """Finds the cells that a claim speaks of, among the plans of studies. ConfigError for one that no plan has.

    In an arm, cells stand for others; what the arm has no cell for is None.
    """

    def __init__(self, name: str, claim: Claim, plans: dict[str, Plan], arm: Arm | None = None) -> None:
        self.name, self.claim, self.arm = name, claim, arm
        self.study = str(arm.study if arm else claim.study)
        if self.study not in plans:
            raise ConfigError(f"{name}: study: there is no study {self.study!r}." + nearest(self.study, plans))
        self.plan = plans[self.study]

    def find(self, cell: Cell, metric: str, choose: Choose = first) -> Place | None:
        """choose: which of several cells it is, by those of the variant that tunes."""
        wanted = self._wanted(cell)
        if wanted is None:
            return None
        found = self._matching(*wanted)
        # One cell may have factors that its neighbour of the same name has not.
        found = [own for own in found if len(own.factors) == len(wanted[3])] or found
        if len(found) > 1 and cell.tuned_by is not None:
            found = choose(found, self.tuning(cell))
        if len(found) > 1:
            open_ = sorted({path for own in found for path in own.factors}) or ["corpus", "tokenizer"]
            where = f"{self.name}: {len(found)} cells of {self.study} fit {title(cell)!r}"
            raise ConfigError(f"{where}; say which by {', '.join(open_)}.")
        return Place(self.study, found[0], cell.metric or metric, cell.at)

    def check_where(self) -> None:
        """ConfigError if what all cells have in common is of no cell."""
        where = self.arm.where if self.arm else self.claim.where
        whose = "where of its arm" if self.arm else "where"
        for key in ("corpus", "tokenizer"):
            value, values = getattr(where, key), {getattr(cell, key) for cell in self.plan.cells}
            if value is not None and value not in values:
                raise ConfigError(f"{self.name}: {whose}: {self.study} has no {key} {value!r}." + nearest(value, values))
        for key, value in where.factors.items():
            found = [own for cell in self.plan.cells if (own := _factor(cell, key)) is not MISSING]
            if value not in found:
                paths = {path: None for cell in self.plan.cells for path in cell.factors}
                words = f"no {key} {value!r}." if found else f"no factor {key!r}."
                close = nearest(value, set(map(str, found))) if found else nearest(key, by_short_name(paths))
                raise ConfigError(f"{self.name}: {whose}: factors: {self.study} has {words}{close}")

    def tuning(self, cell: Cell) -> Cells:
        """The cells that choose the factors that a cell leaves open."""
        wanted = self._wanted(cell)
        return self._matching(cell.tuned_by, *wanted[1:]) if wanted and cell.tuned_by else []

    def _wanted(self, cell: Cell) -> tuple[str, str | None, str | None, Json] | None:
        """Variant, corpus, tokenizer and factors of a cell; None where the arm has none for it."""
        where = self.claim.where
        corpus, tokenizer = cell.corpus or where.corpus, cell.tokenizer or where.tokenizer
        if self.arm is None:
            return cell.variant, corpus, tokenizer, {**where.factors, **cell.factors}
        if (stands := self.arm.cells.get(title(cell))) is None:
            return None
        return stands, self.arm.where.corpus or corpus, self.arm.where.tokenizer or tokenizer, self.arm.where.factors

    def _matching(self, variant: str, corpus: str | None, tokenizer: str | None, factors: Json) -> Cells:
        cells = self.plan.cells
        for key, value, values in (
            ("variant", variant, {own.variant for own in cells}),
            ("corpus", corpus, {own.corpus for own in cells}),
            ("tokenizer", tokenizer, {own.tokenizer for own in cells}),
        ):
            if value is not None and value not in values:
                raise ConfigError(f"{self.name}: {self.study} has no {key} {value!r}." + nearest(value, values))
        found = [
            own
            for own in cells
            if own.variant == variant
            and corpus in (None, own.corpus)
            and tokenizer in (None, own.tokenizer)
            and all(_factor(own, key) == value for key, value in factors.items())
        ]
        if not found:
            wanted = ", ".join([variant, *filter(None, (corpus, tokenizer)), *(f"{k}={v}" for k, v in factors.items())])
            others = [own.id for own in cells if own.variant == variant]
            raise ConfigError(f"{self.name}: {self.study} has no cell {wanted}." + nearest(wanted, others))
        return found


def _factor(cell: artefacts.Cell, key: str) -> Any:
    """A cell's value of a factor, which is named by the last words of its path; MISSING where it has none of the name."""
    found = [path for path in cell.factors if f".{path}".endswith(f".{key}")]
    if len(found) > 1:
        raise ConfigError(f"factors: {key} may be {' or '.join(found)}; say which by a longer part of the path.")
    return cell.factors[found[0]] if found else MISSING


def title(cell: Cell) -> str:
    """How tables call a cell: its variant, and the factors that the claim gives."""
    factors = ", ".join(f"{name}={value}" for name, value in by_short_name(cell.factors).items())
    return f"{cell.variant} ({factors})" if factors else cell.variant


def on(cell: Cell) -> str:
    """What follows its title in a sentence, where the claim sets corpora or tokenizers against each other."""
    given = ", ".join(name for name in (cell.corpus, cell.tokenizer) if name)
    return f" on {given}" if given else ""


def cells_of(predicate: Predicate) -> Iterator[tuple[Cell, str]]:
    """The cells that a predicate reads, each with its metric."""
    for part in ("a", "b", "cells"):
        value = getattr(predicate, part, None)
        if isinstance(predicate, Extrapolates) and isinstance(value, Cell):
            value = predicate.at_rungs(value)
        for cell in value if isinstance(value, list) else [value]:
            if cell is not None:
                yield cell, cell.metric or predicate.metric
                if isinstance(predicate, RankCorrelation) and isinstance(predicate.with_, str):
                    yield cell, predicate.with_


def comparisons(predicate: Predicate) -> list[tuple[Cell, Cell | None, str]]:
    """What a predicate sets against each other, cell by cell or against a bound alone, and on which scale; none of rows."""
    match predicate:
        case Compare():
            others = predicate.b if isinstance(predicate.b, list) else [predicate.b]
            return [(predicate.a, other, predicate.scale) for other in others]
        case Exists():
            return [(a, b, predicate.scale) for a in predicate.cells for b in predicate.b]
        case Order():
            return [(a, b, "difference") for a, b in pairwise(predicate.cells)]
        case Equivalence() | Interval() | Threshold():
            return [(predicate.a, predicate.b, predicate.scale)]
        case Trend() | RankCorrelation() | Extrapolates():
            return []


def check(claims: Claims, arms: dict[str, Arm], plans: dict[str, Plan]) -> None:
    """ConfigError unless every cell of every claim, under each of its arms, is planned with seeds enough, and all is of use."""
    for name, claim in claims.items():
        for arm in [None, *claim.arms] if claim.study else []:
            for i, cell, found in _read(claims, name, arm, arms, plans):
                where = f"{claims.place(name, 'predicate', i)}: {name}.predicate.{i}"
                if found is None and not isinstance(claim.predicate[i], Trend | RankCorrelation):
                    raise ConfigError(f"{where}: the arm {arm} on {arms[str(arm)].study} has no cell for {title(cell)!r}.")
                if found is not None and len(found.cell.runs) < claim.seeds:
                    n = len(found.cell.runs)
                    raise ConfigError(f"{where}: seeds: {found.cell.id} of {found.study} has {n}, not {claim.seeds}.")
    for arm, own in arms.items():
        under = [claim for claim in claims.values() if arm in claim.arms]
        titles = {title(cell) for claim in under for predicate in claim.predicate for cell, _ in cells_of(predicate)}
        if unused := [key for key in own.cells if under and key not in titles]:
            raise ConfigError(
                f"{ARMS}: {arm}.cells: no claim under this arm has a cell {unused[0]!r}." + nearest(unused[0], titles)
            )


def check_planned(claims: Claims, arms: dict[str, Arm], plans: dict[str, Plan]) -> None:
    """ConfigError for a claim that could not be judged once these studies have run: it is about cells that they lack."""
    for name, claim in claims.items():
        for arm in [None, *claim.arms] if claim.study else []:
            if (arms[arm].study if arm else claim.study) in plans:
                list(_read(claims, name, arm, arms, plans))


def _read(
    claims: Claims, name: str, arm: str | None, arms: dict[str, Arm], plans: dict[str, Plan]
) -> Iterator[tuple[int, Cell, Place | None]]:
    """What each predicate of a claim reads under an arm, by the predicate's number."""
    claim = claims[name]
    keys: list[Any] = ["study"]
    try:
        places = Places(name, claim, plans, arms[arm] if arm else None)
        keys = ["where"]
        places.check_where()
        for i, predicate in enumerate(claim.predicate):
            keys = ["predicate", i]
            for cell, metric in cells_of(predicate):
                places.tuning(cell)
                yield i, cell, places.find(cell, metric)
    except ConfigError as error:
        under = f" (under the arm {arm})" if arm else ""
        raise ConfigError(f"{claims.place(name, *keys)}{under}: {error}") from None
