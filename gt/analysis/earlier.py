"""What records at hand say of cells that have not run: how much a metric varies from seed to seed, and how fast they train.

At hand are the run records of this project's studies, and those that are published with it. Which of them stand for cells that
have not run is the first of these steps that has an answer (`Step`):

    same cells   runs of these cells themselves, whatever their seeds
    same text    cells on the same corpus with the same tokenizer
    same metric  any cells

On the second and third step, the cells of one study count: those that are closest in training tokens and in size, by the sum of
|ln| of the ratios of their tokens and of their n_layer * d_model^2. Where several are as close, their variances are pooled.
Spreads are those of what a claim's test is made of: paired differences, log ratios, or values of one cell (`paired`).

Nothing here imports torch.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, cached_property, partial
from itertools import groupby, product
from pathlib import Path
from statistics import median, variance
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from gt.analysis.aggregate import SIZES
from gt.analysis.efficiency import DERIVED
from gt.analysis.reading import read_curves
from gt.archive import KEPT, PLAN, glanced, kept_curves
from gt.archive import read_plan as read_archived
from gt.artefacts import Cell, Plan, read_plan
from gt.errors import ConfigError
from gt.metrics import LAYER, written
from gt.migration import second
from gt.records import CURVES, EVALUATIONS, MANIFEST, PROBES, read_sealed
from gt.registry import metric as registered
from gt.spec import RunSpec

if TYPE_CHECKING:
    import pyarrow as pa

Json = dict[str, Any]
Step = Literal["declared", "same cells", "same text", "same metric"]
# A variance of fewer seeds says next to nothing.
FEW = 3


@dataclass(frozen=True)
class Read:
    """What a claim reads of a cell."""

    spec: RunSpec
    metric: str
    at: float | None = None

    @property
    def text(self) -> tuple[str, str]:
        return self.spec.corpus.id, self.spec.tokenizer.id


@dataclass(frozen=True)
class Spread:
    """sd: over seeds, on the scale of the test. seeds: that each variance is of. pairs: how many are pooled. study: of whose
    records; "" where it is declared.
    """

    sd: float
    step: Step
    seeds: int = 0
    pairs: int = 0
    study: str = ""


# What a metric is called where it is written, and where it stands -> its value.
Values = dict[tuple[str, float | None], float]
# Of documents of these kinds their runs and contents.
Documents = Callable[[Collection[str]], Iterator[tuple[str, Json]]]
MEASURED = ("evaluation", "evaluations", "probes")
Part = TypeVar("Part")


class Study:
    """The records of one study, which are read when they are first asked for, as far as they are readable."""

    def __init__(self, plan: Plan, documents: Documents, curves: Callable[[str], pa.Table | None]) -> None:
        self.plan, self._documents, self._curves = plan, documents, curves

    @cached_property
    def trained(self) -> dict[str, Trained]:
        """The runs that completed."""
        found = dict(self._readable(("manifest",), _trained))
        return {run: own for run, own in found.items() if own is not None}

    @cached_property
    def measured(self) -> dict[str, Values]:
        """What was measured of each of them."""
        found: dict[str, Values] = {run: dict(own.values) for run, own in self.trained.items()}
        for run, values in self._readable(MEASURED, _measured):
            if run in found:
                found[run] |= values
        return found

    def _readable(self, kinds: Collection[str], read: Callable[[Json], Part]) -> Iterator[tuple[str, Part]]:
        """Published records may be anybody's, and are not checked here as `gt.archive.unpack` does."""
        try:
            for run, document in self._documents(kinds):
                yield run, read(document)
        except (ArithmeticError, AttributeError, ConfigError, LookupError, TypeError, ValueError) as error:
            print(
                f"{self.plan.study}: its records are not all readable, and say less of what will be ({error}).", file=sys.stderr
            )

    def of(self, cell: Cell, metric: str, at: float | None) -> dict[int, float]:
        """Seed -> value of a cell's completed runs that have one."""
        found = {seed: self._value(run, metric, at) for seed, run in cell.runs.items() if run in self.trained}
        return {seed: value for seed, value in sorted(found.items()) if value is not None and math.isfinite(value)}

    def _value(self, run: str, metric: str, at: float | None) -> float | None:
        if metric == "gate/final" or registered(metric).table == "curves":
            return self._point(run, "gate/mean" if metric == "gate/final" else metric, at)
        return self.measured[run].get((metric, at))

    def _point(self, run: str, metric: str, at: float | None) -> float | None:
        """Of a curve: at a step, or the last."""
        table = None
        with suppress(ConfigError):  # a damaged record is made again when the study runs
            table = self._curves(run)
        if table is None or metric not in table.column_names:
            return None
        points = dict(zip(table["step"].to_pylist(), table[metric].to_pylist(), strict=True))
        known = [step for step, value in points.items() if value is not None and at in (None, step)]
        return points[max(known)] if known else None


@dataclass(frozen=True)
class Trained:
    """A run that completed. started, finished: its training, ISO 8601. seconds: of the device, for a token: its share, or where
    that is not known the time that it took divided by the runs that were trained beside it. values: the metrics that a manifest
    has.
    """

    device: str
    started: str
    finished: str
    seconds: float
    values: Values

    @property
    def parameters(self) -> int:
        """Without embeddings."""
        return int(self.values["n_params_non_embedding", None])

    @property
    def flops(self) -> int:
        """Of a token, forward."""
        return int(self.values["flops_per_token", None])


def _trained(manifest: Json) -> Trained | None:
    """What a manifest says of a run, if it completed."""
    if manifest["status"] != "completed":
        return None
    share, usage = manifest["seconds"] / (manifest["stacked"] * manifest["cohorts"]), manifest["usage"]
    if usage["device_seconds"] is not None:
        share = usage["device_seconds"]
    numbers = {name: manifest[name] for name in (*SIZES, "seconds", "tokens_per_second")}
    numbers |= {"peak_memory_bytes": usage["peak_memory_bytes"]}
    values: Values = {(name, None): float(value) for name, value in numbers.items() if value is not None}
    times = str(manifest["started"]), str(manifest["finished"])
    return Trained(str(manifest["device"]), *times, share / manifest["tokens"], values)


def _measured(document: Json) -> Values:
    """The measurements of a whole model in a document."""
    found: Values = {}
    for own in document["measurements"]:
        name, axes = own["metric"], own["axes"]
        beside = [value for axis, value in axes.items() if f"<{axis}>" not in name]
        if own["value"] is not None and (LAYER.name not in axes or f"<{LAYER.name}>" in name):
            found[written(name, axes), float(beside[0]) if beside else None] = float(own["value"])
    return found


class Earlier:
    """All records at hand under `results/`, None for no folder, but for studies that are not readable. study: whose are
    looked at first.
    """

    def __init__(self, results: Path | None = Path("results"), study: str = "") -> None:
        found = _studies(results) if results else ()
        self.studies = sorted(found, key=lambda own: own.plan.study != study)

    @cached_property
    def cells(self) -> list[tuple[Study, Cell, RunSpec]]:
        return [(study, cell, study.plan.spec(cell)) for study in self.studies for cell in study.plan.cells]

    @cached_property
    def _alike(self) -> dict[str, list[tuple[Study, Cell]]]:
        """Cells by what all their runs have in common."""
        found: dict[str, list[tuple[Study, Cell]]] = {}
        for study, cell, spec in self.cells:
            found.setdefault(_unseeded(spec), []).append((study, cell))
        return found

    def spread(self, a: Read, b: Read | None, log: bool) -> Spread | None:
        """How much `paired` values of a, or of a and b, vary from seed to seed; None where no record has the metric."""
        if any(registered(own.metric) in DERIVED for own in (a, b or a)):  # of what a study says that it costs
            return None
        return self._same(a, b, log) or self._closest(a, b, log, text=True) or self._closest(a, b, log, text=False)

    def _same(self, a: Read, b: Read | None, log: bool) -> Spread | None:
        """Of the study with the most seeds of both cells; those that have fewer planned are not read for it."""
        found = []
        for study, cell in self._alike.get(_unseeded(a.spec), []):
            others = [own for of, own in self._alike.get(_unseeded(b.spec), []) if of is study] if b else [cell]
            found += [(len(cell.runs.keys() & other.runs.keys()), study, cell, other) for other in others]
        best: list[float] = []
        where = ""
        for planned, study, cell, other in sorted(found, key=lambda own: -own[0]):
            if planned <= len(best):
                break
            values = paired(study.of(cell, a.metric, a.at), study.of(other, b.metric, b.at) if b else None, log)
            if len(values) > len(best):
                best, where = values, study.plan.study
        return Spread(math.sqrt(variance(best)), "same cells", len(best), 1, where) if len(best) >= FEW else None

    def _closest(self, a: Read, b: Read | None, log: bool, text: bool) -> Spread | None:
        """Of the closest cells of the study that has them: pairs of two, or, where a claim reads one cell alone, of each."""
        single = b is None or _unseeded(a.spec) == _unseeded(b.spec)
        near: list[tuple[float, int]] = []
        pairs: dict[int, list[tuple[float, Cell, Cell]]] = {}
        for i, study in enumerate(self.studies):
            first, second_ = (_near(study, own, text) for own in (a, b or a))
            if single:
                pairs[i] = [(distance, cell, cell) for distance, cell in first]
            else:
                both = product(first, second_)
                pairs[i] = [(max(x, y), cell, other) for (x, cell), (y, other) in both if cell.runs != other.runs]
            if pairs[i]:
                near.append((min(distance for distance, *_ in pairs[i]), i))
        for _, i in sorted(near):
            study = self.studies[i]
            for _, group in groupby(sorted(pairs[i], key=lambda own: own[0]), key=lambda own: own[0]):
                members = [
                    paired(study.of(cell, a.metric, a.at), study.of(other, b.metric, b.at) if b else None, log)
                    for _, cell, other in group
                ]
                if members := [own for own in members if len(own) >= FEW]:
                    return _pooled(members, "same text" if text else "same metric", study.plan.study)
        return None

    def table(self, reads: list[Read]) -> tuple[str, list[list[float]]]:
        """The values of these cells, a row a seed that all of them have, and the study with the most; none below `FEW` rows."""
        where = ""
        best: list[list[float]] = []
        for study in self.studies:
            own = [[cell for of, cell in self._alike.get(_unseeded(read.spec), []) if of is study][:1] for read in reads]
            cells = [cell for found in own for cell in found]
            if len(cells) < len(reads) or len(set.intersection(*(set(cell.runs) for cell in cells))) <= len(best):
                continue
            values = [study.of(cell, read.metric, read.at) for cell, read in zip(cells, reads, strict=True)]
            seeds = sorted(set.intersection(*map(set, values)))
            if len(seeds) >= max(FEW, len(best) + 1):
                where, best = study.plan.study, [[value[seed] for value in values] for seed in seeds]
        return where, best

    @cached_property
    def trained(self) -> list[tuple[RunSpec, Trained]]:
        """The runs that completed, each once, with the specification of a run of their cell."""
        found: dict[str, tuple[RunSpec, Trained]] = {}
        for study, cell, spec in self.cells:
            for run in cell.runs.values():
                if run in study.trained:
                    found.setdefault(run, (spec, study.trained[run]))
        return list(found.values())


def paired(a: dict[int, float], b: dict[int, float] | None, log: bool) -> list[float]:
    """What a test is made of, by seed: a, a - b, or the logarithm of a / b. Nothing where a ratio is not one of numbers above
    zero.
    """
    if b is None:
        return list(a.values())
    seeds = sorted(a.keys() & b.keys())
    if not log:
        return [a[seed] - b[seed] for seed in seeds]
    return [math.log(a[seed] / b[seed]) for seed in seeds] if all(min(a[own], b[own]) > 0 for own in seeds) else []


def _pooled(members: list[list[float]], step: Step, study: str) -> Spread:
    degrees = [len(own) - 1 for own in members]
    within = sum(n * variance(own) for n, own in zip(degrees, members, strict=True)) / sum(degrees)
    return Spread(math.sqrt(within), step, median(map(len, members)).__ceil__(), len(members), study)


def _near(study: Study, read: Read, text: bool) -> list[tuple[float, Cell]]:
    """The cells of a study with how far each is from one that is read."""
    cells = [(cell, study.plan.spec(cell)) for cell in study.plan.cells]
    return [(distance(spec, read.spec), cell) for cell, spec in cells if not text or (cell.corpus, cell.tokenizer) == read.text]


def distance(a: RunSpec, b: RunSpec) -> float:
    """How far two runs are apart in training tokens and in size; 0 for those that are alike."""
    size = [own.model.n_layer * own.model.d_model**2 for own in (a, b)]
    return round(abs(math.log(a.tokens / b.tokens)) + abs(math.log(size[0] / size[1])), 6)


def _unseeded(spec: RunSpec) -> str:
    """What the runs of a cell have in common."""
    return spec.model_copy(update={"seed": 0}).sha256


def _studies(results: Path) -> Iterator[Study]:
    """Those that have been run here, and then those that are published."""
    for file in sorted((results / "studies").glob(f"*/{PLAN}")):
        with suppress(ConfigError):
            yield _own(read_plan(file), results / "runs")
    yield from kept(results / "published")


def kept(folder: Path) -> Iterator[Study]:
    """The studies that are published in a folder."""
    for records in sorted(folder.glob(f"*/{KEPT}")):
        with suppress(ConfigError):
            yield archived(records)


def _own(plan: Plan, runs: Path) -> Study:
    def documents(kinds: Collection[str]) -> Iterator[tuple[str, Json]]:
        files = {"manifest": MANIFEST, "evaluations": f"{EVALUATIONS}/*.json", "probes": PROBES}
        for run, kind in product(plan.runs, [kind for kind in files if kind in kinds]):
            for file in sorted((runs / run).glob(files[kind])):
                yield run, second.upgraded(read_sealed(file), file)

    def curves(run: str) -> pa.Table | None:
        return read_curves(file) if (file := runs / run / CURVES).exists() else None

    return Study(plan, documents, curves)


def archived(folder: Path) -> Study:
    """A study whose records are kept in a folder. ConfigError where its plan is not readable."""
    plan, names = read_archived(folder)

    @cache
    def curves() -> dict[str, pa.Table]:
        return kept_curves(folder, names)

    return Study(plan, partial(glanced, folder, plan, names), lambda run: curves().get(run))
