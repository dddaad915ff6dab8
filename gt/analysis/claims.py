"""Claims: what a study is expected to show, written down as data before it runs.

`config/claims/*.yaml` holds claims by their ids, `config/claims/arms.yaml` the arms under which a claim is judged again to see
what it depends on. What a claim asserts is one predicate or several that must all hold, from the closed vocabulary below; there
is no code in it. `gt.analysis.verdicts` judges them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter, ValidationError, model_validator

from gt.errors import ConfigError, nearest
from gt.probes.metrics import metric as registered
from gt.spec import explain
from gt.study import Document, Name, read_yaml

Json = dict[str, Any]
ARMS = "arms.yaml"
# The arm of the claim itself: its own study's cells.
FAITHFUL = "faithful"
# Changing these does not change what is claimed.
PROSE = {"title", "source", "note"}


def _registered(name: str) -> str:
    """A metric's name, if it is one. A ConfigError is no ValidationError, so it is turned into what pydantic collects."""
    try:
        registered(name)
    except ConfigError as error:
        raise ValueError(str(error)) from None
    return name


Metric = Annotated[str, AfterValidator(_registered), Field(description="a name of gt.probes.metrics")]


class Part(Document):
    """A part of a claim, which offers the nearest key for one that it does not have."""

    @model_validator(mode="before")
    @classmethod
    def _known(cls, value: Any) -> Any:
        if isinstance(value, dict):
            allowed = [field.alias or name for name, field in cls.model_fields.items()]
            for key in value:
                if key not in allowed:
                    raise ValueError(f"unknown key {key!r}." + nearest(key, allowed))
        return value


class Cell(Part):
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


class Compare(Part):
    """a is lower (higher) than b, than each b if there are several, by at least `by` on average over seeds."""

    test: Literal["compare"]
    metric: Metric
    a: AnyCell
    b: AnyCell | Annotated[list[AnyCell], Field(min_length=1)]
    is_: Literal["lower", "higher"] = Field(alias="is")
    by: Annotated[float, Field(ge=0)] = 0.0
    scale: Scale = "difference"
    margin: Margin | None = Field(None, description="a difference that would not matter: within it, they are equivalent")


class Order(Part):
    """Cells rise (fall) in this order, each step by itself."""

    test: Literal["order"]
    metric: Metric
    cells: Annotated[list[AnyCell], Field(min_length=3)]
    is_: Literal["rising", "falling"] = Field(alias="is")


class Trend(Part):
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


class Equivalence(Part):
    """a and b are the same within a margin (TOST)."""

    test: Literal["equivalence"]
    metric: Metric
    a: AnyCell
    b: AnyCell
    margin: Margin
    scale: Scale = "ratio"


class Interval(Part):
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
        return self


class Threshold(Part):
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
        return self


class RankCorrelation(Part):
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


class Exists(Part):
    """At least one of the cells is lower (higher) than every b, by at least `by`."""

    test: Literal["exists"]
    metric: Metric
    cells: Annotated[list[AnyCell], Field(min_length=1)]
    is_: Literal["lower", "higher"] = Field(alias="is")
    b: Annotated[list[AnyCell], Field(min_length=1)]
    by: Annotated[float, Field(ge=0)] = 0.0
    scale: Scale = "difference"


Predicate = Annotated[
    Compare | Order | Trend | Equivalence | Interval | Threshold | RankCorrelation | Exists, Field(discriminator="test")
]


class Where(Part):
    """What all cells of a claim have in common."""

    corpus: str | None = None
    tokenizer: str | None = None
    factors: dict[str, Any] = {}


class Claim(Part):
    """A sentence that a study can show to be wrong; or one that cannot be tested, and why."""

    title: str
    sentence: Annotated[str, Field(description="what is claimed, as it is tested")]
    source: Annotated[str, Field(description="who says so: seed and lines, or repository path")]
    note: str = Field("", description="what is known about the evidence on record")
    not_testable: str | None = None
    study: Name | None = None
    where: Where = Where()
    predicate: list[Predicate] = Field([], description="all must hold")
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    family: Name | None = Field(None, description="the claims of a study that share its alpha; by default all of them")
    seeds: Annotated[int, Field(ge=1)] = Field(5, description="the least number of completed seeds of each cell")
    arms: list[Name] = Field([], description="arms of arms.yaml under which it is judged again")

    @model_validator(mode="after")
    def _testable(self) -> Claim:
        if self.not_testable is not None and (self.study or self.predicate):
            raise ValueError("not_testable leaves no study and no predicate")
        if self.not_testable is None and not (self.study and self.predicate):
            raise ValueError("a claim needs a study and a predicate, or not_testable: why")
        return self

    @property
    def group(self) -> str:
        """The study, and the family if it has several."""
        return f"{self.study}/{self.family}" if self.family else str(self.study)

    @property
    def sha256(self) -> str:
        """Of all that is claimed, in a canonical form; title, source and note may be mended later."""
        document = self.model_dump(mode="json", exclude_defaults=True, exclude=PROSE, by_alias=True)
        return hashlib.sha256(json.dumps(document, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


class Arm(Part):
    """Other cells in place of a claim's: the same question with one thing changed."""

    title: str
    study: Name
    where: Where = Where()
    cells: dict[str, str] = Field(description="a claim's cell, as tables call it -> the variant that stands for it here")


class ArmsFile(Part):
    """`config/claims/arms.yaml`. order: from what the record ran to single changes."""

    arms: dict[Name, Arm]


def load_claims(folder: Path) -> dict[str, Claim]:
    """All claims of `config/claims/*.yaml`, if there is one. ConfigError names the file, line, claim and key."""
    claims: dict[str, Claim] = {}
    for file in sorted(folder.glob("*.yaml")):
        if file.name == ARMS:
            continue
        for name, document in read_yaml(file).items():
            if name in claims:
                raise ConfigError(f"{file}, {_line(file, name)}: {name}: another file has a claim of this id already.")
            try:
                claims[name] = Claim.model_validate(document)
            except ValidationError as error:
                where = f"{file}, {_line(file, name, *error.errors()[0]['loc'])}: {name}"
                raise explain(error, where, document) from None
    arms = load_arms(folder)
    for name, claim in claims.items():
        for arm in claim.arms:
            if arm not in arms:
                raise ConfigError(f"{folder}: {name}: arms: unknown arm {arm!r}." + nearest(arm, arms))
    return claims


def load_arms(folder: Path) -> dict[str, Arm]:
    """The arms of `config/claims/arms.yaml`, none without it."""
    path = folder / ARMS
    if not path.exists():
        return {}
    try:
        return TypeAdapter(ArmsFile).validate_python({"arms": read_yaml(path)}).arms
    except ValidationError as error:
        where = f"{path}, {_line(path, *error.errors()[0]['loc'][1:])}"
        raise explain(error, where, None) from None


def _line(path: Path, *keys: Any) -> str:
    """Where the deepest of nested keys stands in a YAML file. Keys that are not in it are skipped, as a predicate's name is."""
    node, line = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader), 1
    for key in keys:
        if isinstance(node, yaml.MappingNode):
            found = next((pair for pair in node.value if pair[0].value == str(key)), None)
        elif isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
            found = (node.value[key], node.value[key])
        else:
            found = None
        if found is not None:
            line, node = found[0].start_mark.line + 1, found[1]
    return f"line {line}"


@dataclass(frozen=True)
class Place:
    """Which cell of which study a part of a claim reads, and what."""

    study: str
    cell: Json
    metric: str
    at: float | None


Choose = Callable[[list[Json], list[Json]], list[Json]]


def first(cells: list[Json], tuning: list[Json]) -> list[Json]:
    """Any of several cells that differ in what is tuned, where it does not matter which."""
    return cells[:1]


class Places:
    """Finds the cells that a claim speaks of, among the plans of studies. ConfigError for one that no plan has.

    In an arm, cells stand for others; what the arm has no cell for is None.
    """

    def __init__(self, name: str, claim: Claim, plans: dict[str, Json], arm: Arm | None = None) -> None:
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
        found = [own for own in found if len(own["factors"]) == len(wanted[3])] or found
        if len(found) > 1 and cell.tuned_by is not None:
            found = choose(found, self.tuning(cell))
        if len(found) > 1:
            open_ = sorted({path for own in found for path in own["factors"]}) or ["corpus", "tokenizer"]
            where = f"{self.name}: {len(found)} cells of {self.study} fit {title(cell)!r}"
            raise ConfigError(f"{where}; say which by {', '.join(open_)}.")
        return Place(self.study, found[0], cell.metric or metric, cell.at)

    def tuning(self, cell: Cell) -> list[Json]:
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

    def _matching(self, variant: str, corpus: str | None, tokenizer: str | None, factors: Json) -> list[Json]:
        cells = self.plan["cells"]
        for key, value, values in (
            ("variant", variant, {own["variant"] for own in cells}),
            ("corpus", corpus, {own["corpus"] for own in cells}),
            ("tokenizer", tokenizer, {own["tokenizer"] for own in cells}),
        ):
            if value is not None and value not in values:
                raise ConfigError(f"{self.name}: {self.study} has no {key} {value!r}." + nearest(value, values))
        found = [
            own
            for own in cells
            if own["variant"] == variant
            and corpus in (None, own["corpus"])
            and tokenizer in (None, own["tokenizer"])
            and all(_factor(own, key) == value for key, value in factors.items())
        ]
        if not found:
            wanted = ", ".join([variant, *filter(None, (corpus, tokenizer)), *(f"{k}={v}" for k, v in factors.items())])
            others = [own["id"] for own in cells if own["variant"] == variant]
            raise ConfigError(f"{self.name}: {self.study} has no cell {wanted}." + nearest(wanted, others))
        return found


def _factor(cell: Json, key: str) -> Any:
    """A cell's value of a factor, which is named by its path or by the last part of it."""
    for path, value in cell["factors"].items():
        if key in (path, path.rsplit(".", 1)[-1]):
            return value
    return None


def title(cell: Cell) -> str:
    """How tables call a cell: its variant, and the factors that the claim gives."""
    factors = ", ".join(f"{path.rsplit('.', 1)[-1]}={value}" for path, value in cell.factors.items())
    return f"{cell.variant} ({factors})" if factors else cell.variant


def on(cell: Cell) -> str:
    """What follows its title in a sentence, where the claim sets corpora or tokenizers against each other."""
    given = ", ".join(name for name in (cell.corpus, cell.tokenizer) if name)
    return f" on {given}" if given else ""


def cells_of(predicate: Predicate) -> Iterator[tuple[Cell, str]]:
    """The cells that a predicate reads, each with its metric."""
    for part in ("a", "b", "cells"):
        value = getattr(predicate, part, None)
        for cell in value if isinstance(value, list) else [value]:
            if cell is not None:
                yield cell, cell.metric or predicate.metric
                if isinstance(predicate, RankCorrelation) and isinstance(predicate.with_, str):
                    yield cell, predicate.with_


def check(claims: dict[str, Claim], arms: dict[str, Arm], plans: dict[str, Json]) -> None:
    """ConfigError unless every cell of every claim, under each of its arms, is planned with seeds enough."""
    for name, claim in claims.items():
        for arm in [None, *(arms[own] for own in claim.arms)] if claim.study else []:
            places = Places(name, claim, plans, arm)
            for predicate in claim.predicate:
                for cell, metric in cells_of(predicate):
                    place = places.find(cell, metric)
                    if place is None and not isinstance(predicate, Trend | RankCorrelation):
                        raise ConfigError(f"{name}: its arm on {places.study} has no cell for {title(cell)!r}.")
                    if place is not None and len(place.cell["runs"]) < claim.seeds:
                        n = len(place.cell["runs"])
                        raise ConfigError(f"{name}: seeds: {place.cell['id']} of {places.study} has {n}, not {claim.seeds}.")
