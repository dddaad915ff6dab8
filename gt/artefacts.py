"""What the stages hand to each other: plans, and the parts of a run's record, each a frozen type with a schema version.

    Plan        results/studies/<study>/plan.json                  what is to be trained, and how it is looked at
    Attempt     results/attempts/<run_id>/<attempt>.json           one try to train a run: it is added, never replaced
    Manifest    results/runs/<run_id>/manifest.json                what came of the training, once it has ended
    Evaluation  results/runs/<run_id>/evaluations/<name>.json      one thing that was measured of the trained network
    Probes      results/runs/<run_id>/probes.json                  what was measured inside of it
    Failure     results/runs/<run_id>/failure.json                 why the last attempt ended without a record

Their JSON schemas are in `workflow/schemas/`, generated from here. What is unknown is null, and says why. Documents of the
second schema are read as those of this one, and those of the first in archives alone (`gt.migration`); later ones are refused.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

from gt.asked import HELD_OUT, RECALL, VALIDATION, Asked
from gt.errors import ConfigError
from gt.explain import NAME_PATTERN, validated
from gt.metrics import Measurement
from gt.migration import second
from gt.records import EVALUATIONS, MANIFEST, PROBES, SPEC, check_file, read_json, read_sealed, write_sealed
from gt.spec import Corpus, Diverged, RunSpec, TokenizerSpec, Watch

SCHEMA: Literal[3] = 3

Kind = TypeVar("Kind", bound="Artefact")
Count = Annotated[int, Field(ge=0, lt=2**63)]
Seconds = Annotated[float, Field(ge=0)]
Name = Annotated[str, Field(pattern=NAME_PATTERN, max_length=80)]
FileName = Annotated[str, Field(pattern=r"^[^./\\\x00-\x1f][^/\\\x00-\x1f]*$")]
Sum = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
# A run's label, which becomes the name of a folder, and the first digits of the sum of its specification.
RUN_ID = r"^[A-Za-z0-9_][A-Za-z0-9_.,+-]{0,200}-[0-9a-f]{10}$"
RunId = Annotated[str, Field(pattern=RUN_ID)]
ATTEMPT_ID = r"^\d{8}T\d{6}Z-[0-9a-f]{16}$"
AttemptId = Annotated[str, Field(pattern=ATTEMPT_ID, description="when it started, and 16 hex digits")]
# Module, or "plugin:<distribution>" -> a sum of what the run used of it, or the version; see gt.fingerprint.
Code = dict[str, str]


def _number(key: Any) -> Any:
    """A key of a JSON object that stands for a whole number."""
    return int(key) if isinstance(key, str) and re.fullmatch(r"0|[1-9]\d{0,9}", key) else key


def _time(value: Any) -> Any:
    """ISO 8601, as JSON has it."""
    if not isinstance(value, str):
        return value
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        return value


def _to_the_second(time: datetime) -> datetime:
    try:
        return time.astimezone(UTC).replace(microsecond=0)
    except OverflowError:
        raise ValueError("must be in the years 1 to 9999 of UTC") from None


Number = Annotated[int, BeforeValidator(_number), Field(ge=0, lt=2**32)]
Time = Annotated[AwareDatetime, BeforeValidator(_time), AfterValidator(_to_the_second)]


def _asked(value: str | dict[str, Any]) -> str | dict[str, Any]:
    """An evaluation that is asked for."""
    if isinstance(value, dict) and not (isinstance(value.get("name"), str) and re.fullmatch(NAME_PATTERN, value["name"])):
        raise ValueError("must have the name of an evaluation")
    return value


class Typed(BaseModel):
    """Frozen, strict about types, refuses unknown keys and numbers that are not finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Artefact(Typed):
    """A file that a stage writes."""

    what: ClassVar[str]
    schema_version: Literal[3] = SCHEMA


class Cell(Typed):
    """A variant on a corpus with a tokenizer, and its runs, one a seed."""

    id: FileName = Field(description="unique in the study")
    variant: Name
    corpus: FileName
    tokenizer: FileName
    factors: dict[str, Any] = Field(description="dotted path of a run specification -> the cell's value")
    runs: Annotated[dict[Number, RunId], Field(min_length=1)] = Field(description="seed -> run")


class Ladder(Typed):
    """Cells of several sizes that a law is fitted to, and tested on the largest, which it has not seen."""

    rungs: Annotated[str, Field(description="what the sizes differ in: scale, or the path of a factor")] = "scale"
    learning_rate: Literal["constant", "1/width", "1/sqrt(width)", "tuned"] = Field(
        description="how it goes on from the first rung, of which the study gives it; tuned: chosen at each rung, by `tune`"
    )


class Point(Typed):
    """A place in a space of settings, and the runs that measured it, one a seed."""

    values: dict[str, float] = Field(description="dotted path of a run specification -> value")
    round: Count = Field(description="in which it was asked for; the first grid is round 0")
    runs: Annotated[dict[Number, RunId], Field(min_length=1)] = Field(description="seed -> run")


class Tuning(Typed):
    """How the settings of a cell were chosen: docs/reference/tuning.md has the rule."""

    cell: FileName
    scales: dict[str, Literal["log", "linear"]] = Field(description="dotted path of a run specification -> how it is spaced")
    points: Annotated[list[Point], Field(min_length=1)] = Field(description="all that were asked for so far, in their order")
    choice: dict[str, float] | None = Field(description="null while runs are missing")
    ended: dict[str, str] = Field({}, description="path -> why the choice is at an edge of what was tried")


class Choice(Typed):
    """What a tuning chose for a run, and which runs it chose by."""

    study: Name
    cell: FileName
    values: dict[str, float] = Field(description="dotted path of a run specification -> value")
    trials: Sum = Field(description="sha256 of the names of the runs that tuned, sorted, a line each")


class Looks(Typed):
    """When claims are looked at: after so many seeds each time, and those that are decided get no more.

    The error that a look may use up is laid down by `spending`, for claims together and for whichever look each stops at
    (`gt.analysis.sequential`).
    """

    looks: Annotated[list[Count], Field(min_length=2, max_length=10)] = Field(description="seeds at each, rising")
    spending: Literal["pocock", "obrien_fleming"] = "obrien_fleming"
    futility: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.1,
        description="a claim also stops where all seeds are less likely than this to decide it, if they go on as so far",
    )

    @model_validator(mode="after")
    def _rising(self) -> Looks:
        if self.looks != sorted(set(self.looks)):
            raise ValueError(f"looks {self.looks} must rise. Write: looks: {sorted(set(self.looks))}")
        if self.looks[0] < 2:
            raise ValueError(f"looks {self.looks}: the first must have 2 seeds or more, for nothing varies over one")
        return self


class Plan(Artefact):
    """All that a study asks for. Published, it also says when each run was first begun.

    Of a cell whose tuning has chosen nothing yet the runs are those of a value in the middle, and are not asked for.
    """

    what = "a plan"
    study: Name
    title: str
    description: str
    baseline: Name = Field(description="the variant that the others are compared with")
    evaluations: list[Annotated[Name | dict[str, Any], AfterValidator(_asked)]] = Field(
        description="what is measured of every run beside its held-out losses: names, and mappings of a name and options"
    )
    dollars_per_hour: Annotated[float, Field(gt=0)] = Field(description="price of the device")
    diverged: Diverged | None = Field(None, description="how a diverged run counts where a claim does not say")
    ladder: Ladder | None = Field(None, description="the cells that are one model at several sizes")
    tokens: Count = Field(description="that all runs train on")
    cells: Annotated[list[Cell], Field(min_length=1)]
    tunings: list[Tuning] = Field([], description="of the cells that are tuned, in their order")
    looks: Looks | None = Field(None, description="when claims are looked at, if before all seeds have run")
    next_look: Count = Field(0, description="which of the looks decides what else is run; 0: none")
    runs: Annotated[dict[str, RunSpec], Field(min_length=1)]
    corpora: dict[str, Corpus]
    tokenizers: dict[str, TokenizerSpec]
    corpus_files: dict[str, str] = Field(description="a user's own text: corpus -> path")
    tokenizer_files: dict[str, str] = Field({}, description="a tokenizer.json: tokenizer -> path")
    started: dict[str, Time] = Field({}, description="run -> the first start that is known of, also of attempts that are gone")

    @model_validator(mode="after")
    def _consistent(self) -> Plan:
        ids = Counter(cell.id for cell in self.cells)
        if doubled := next((own for own, n in ids.items() if n > 1), None):
            raise ValueError(f"cells: {doubled!r} stands there twice")
        if self.baseline not in (variants := {cell.variant for cell in self.cells}):
            raise ValueError(f"baseline: no cell is called {self.baseline!r}. There are: {', '.join(sorted(variants))}")
        for run_id, spec in self.runs.items():
            if not re.fullmatch(RUN_ID, run_id):
                raise ValueError(f"runs: {run_id!r} is no id of a run")
            if not run_id.endswith(f"-{spec.sha256[:10]}"):
                raise ValueError(f"runs: {run_id!r} is the id of another specification, whose sum is {spec.sha256[:10]}")
        parts = [("cells", cell.id, cell.runs) for cell in self.cells]
        parts += [("tunings", own.cell, point.runs) for own in self.tunings for point in own.points]
        placed = set()
        for part, name, runs in parts:
            for seed, run_id in runs.items():
                placed.add(run_id)
                if run_id not in self.runs:
                    raise ValueError(f"{part}: {name}: run {run_id!r} is not among the plan's runs")
                if self.runs[run_id].seed != seed:
                    raise ValueError(f"{part}: {name}: run {run_id!r} is of another seed than {seed}")
        if stranger := next((own.cell for own in self.tunings if own.cell not in ids), None):
            raise ValueError(f"tunings: {stranger!r} is not among the plan's cells")
        if left := next((run_id for run_id in self.runs if run_id not in placed), None):
            raise ValueError(f"runs: {left!r} is in no cell")
        if stranger := next((run_id for run_id in self.started if run_id not in self.runs), None):
            raise ValueError(f"started: {stranger!r} is not among the plan's runs")
        return self

    def asked_of(self, run_id: str) -> set[str]:
        """The evaluations that tables may have of a run, by what their files are called: recall is of tasks, and a slice is
        measured where the curves follow another.
        """
        followed = self.runs[run_id].training.evaluation_tokens
        return {HELD_OUT, RECALL, *(own.label for own in self.asked), f"{VALIDATION}-{followed}"}

    @property
    def asked(self) -> list[Asked]:
        """The evaluations, with their options."""
        return [Asked.read(own) for own in self.evaluations]

    @property
    def tuning(self) -> bool:
        """Whether cells are still without the settings that their tunings are to choose."""
        return any(own.choice is None for own in self.tunings)

    @property
    def compared(self) -> set[str]:
        """The runs of cells. The others only tune."""
        return {run_id for cell in self.cells for run_id in cell.runs.values()}

    @property
    def trials(self) -> dict[str, int]:
        """The runs that tune -> the round in which they were asked for."""
        return {run_id: point.round for own in self.tunings for point in own.points for run_id in point.runs.values()}

    @property
    def waves(self) -> dict[str, tuple[Any, ...]]:
        """The runs that can be made now -> what comes together: a round of a tuning, what waits for a tuning, what a look adds.

        While a tuning goes on, no cell that is tuned has runs that can be made.
        """
        tuned = {own.cell for own in self.tunings}
        own: dict[str, tuple[Any, ...]] = {run_id: (self.study, turn) for run_id, turn in self.trials.items()}
        for cell in self.cells:
            if self.tuning and cell.id in tuned:
                continue
            for seed, run_id in cell.runs.items():
                look = sum(seed >= n for n in self.looks.looks[:-1]) if self.looks else 0
                wave = (self.study, "look", look) if look else (self.study,) if cell.id in tuned else ()
                own.setdefault(run_id, wave)
        return {run_id: own[run_id] for run_id in self.runs if run_id in own}

    def choice(self, run_id: str) -> Choice | None:
        """The tuning that a run has its settings of; None where it has them of none."""
        cells = {cell.id for cell in self.cells if run_id in cell.runs.values()}
        for own in self.tunings:
            if own.cell in cells and own.choice is not None:
                trials = "\n".join(sorted(run for point in own.points for run in point.runs.values()))
                sum_ = hashlib.sha256(trials.encode()).hexdigest()
                return Choice(study=self.study, cell=own.cell, values=own.choice, trials=sum_)
        return None

    def spec(self, cell: Cell) -> RunSpec:
        """The specification of a cell's first run; those of the others differ from it in the seed alone."""
        return self.runs[next(iter(cell.runs.values()))]


class Usage(Typed):
    """What a run took of a device, as its share: docs/reference/accounting.md has the rule. What cannot be known is null."""

    device_seconds: Seconds | None = Field(description="seconds of the device")
    energy_joules: Seconds | None = Field(description="joules that the device drew meanwhile")
    peak_memory_bytes: Count | None = Field(description="bytes, at most at any time")
    unknown: dict[str, str] = Field({}, description="why each of these is null")

    @model_validator(mode="after")
    def _reasons(self) -> Usage:
        measures = ("device_seconds", "energy_joules", "peak_memory_bytes")
        if wrong := [name for name in measures if (getattr(self, name) is None) != (name in self.unknown)]:
            raise ValueError(f"unknown must say why of what is null, and of nothing else: {wrong[0]}")
        return self

    @classmethod
    def nothing(cls, why: str) -> Usage:
        """Of which nothing is known."""
        names = ("device_seconds", "energy_joules", "peak_memory_bytes")
        return cls(device_seconds=None, energy_joules=None, peak_memory_bytes=None, unknown=dict.fromkeys(names, why))


class Attempt(Artefact):
    """One try to train a run, written when it starts and again when it ends; one that was killed has no end."""

    what = "an attempt"
    id: AttemptId
    run_id: RunId
    started: Time
    ended: Time | None
    outcome: Literal["completed", "diverged", "failed"] | None = Field(description="null: it is under way, or was killed")
    error: str | None = Field(description="of one that failed")
    host: str
    process: Count = Field(description="its number on the host")
    device: str
    gpu: str | None = Field(description="its number or UUID, as CUDA_VISIBLE_DEVICES has it")
    versions: dict[str, str] = Field(description="of Python and of packages")
    git_commit: str | None = Field(description="null: the code is in no repository")
    modified: list[str] | None = Field(
        description="files of the code, gt or a plug-in, that this commit does not hold as they were, also such that git does"
        " not know; null: the code is in no repository"
    )
    code: Code
    resumed_at: Count | None = Field(description="step of the checkpoint that it went on from")
    usage: Usage


class File(Typed):
    """Of a record."""

    bytes: Count
    sha256: Sum


class Manifest(Artefact):
    """What came of a run's training. Written last, so that a record which has one is whole."""

    what = "a manifest"
    run_id: RunId
    status: Literal["completed", "diverged"]
    steps_completed: Count
    watch: Watch = Field(description="how its curves were followed; a study may ask for another way")
    data_sha256: str | None
    vocab_size: Count | None
    code: Code
    versions: dict[str, str]
    git_commit: str | None
    modified: list[str] | None = Field(description="see Attempt; of the first schema ['?'] where any file was modified")
    attempts: list[AttemptId] = Field(description="that it took, the first first; one goes on from another's checkpoint")
    resumed_from: list[Count] = Field(description="steps at which attempts went on")
    device: str | None
    gpu: str | None
    threads: Count | None
    engine: str | None
    compiled: bool | None
    processes: Annotated[int, Field(gt=0)] = Field(description="that shared each batch")
    backend: dict[str, str] = Field(description="operation and state of a head -> what computed it")
    stacked: Annotated[int, Field(gt=0)] = Field(description="runs that one launch served")
    cohorts: Annotated[int, Field(gt=0)] = Field(description="stacks of this process on the device at once, at most")
    started: Time = Field(description="of the first of its attempts")
    finished: Time
    seconds: Seconds = Field(description="of training, over all attempts, whoever else was on the device")
    tokens: Count
    tokens_per_second: Seconds = Field(description="of the last attempt, whoever else was on the device")
    usage: Usage = Field(description="over all attempts")
    n_params: Count
    n_params_non_embedding: Count
    state_size: Count = Field(description="floats of a sequence's state")
    flops_per_token: Annotated[int, Field(gt=0, lt=2**63)]
    files: dict[str, File] = Field(description="of the others that training wrote; {} in the first schema")
    chosen: list[Choice] = Field([], description="the tunings that it was trained for with what they chose, one a study")


class Evaluation(Artefact):
    """One thing that was measured of a trained network: nothing of a run that diverged, nor where the corpus has nothing to
    measure it on.
    """

    what = "an evaluation"
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+(-[0-9a-f]+)?$", description="also of its file: gt.asked")]
    run_id: RunId
    weights: Sum | None = Field(description="sha256 of the weights that it is of; null in the first schema")
    code: Code
    settings: dict[str, Any] = Field(description="its options")
    measured: Time | None
    device: str | None
    measurements: list[Measurement]


class Probes(Artefact):
    """What was measured inside a trained network; nothing of a run that diverged."""

    what = "probes"
    run_id: RunId
    weights: Sum | None = Field(description="sha256 of the weights that they are of; null in the first schema")
    code: Code
    measured: Time | None
    device: str | None
    measurements: list[Measurement] = Field(description="of the network, and with the axis layer of its layers")


class Failure(Artefact):
    """Why the last attempt ended without a record."""

    what = "a failure"
    error: str


KINDS = (Plan, Attempt, Manifest, Evaluation, Probes, Failure)


def refuse_later(document: Any, source: object) -> None:
    """ConfigError, which names the source, for a document of a later version of gt."""
    version = document.get("schema_version") if isinstance(document, dict) else None
    if isinstance(version, int) and version > SCHEMA:
        raise ConfigError(f"{source}: is of schema {version}, and this version of gt reads those up to {SCHEMA}.")


def parsed(kind: type[Kind], document: Any, source: object) -> Kind:
    """A document as what it should be. ConfigError, which names the source, for another form or a later schema."""
    refuse_later(document, source)
    if isinstance(document, dict) and "schema_version" not in document:
        raise ConfigError(f"{source}: has no schema_version, so it is not {kind.what} of this version of gt.")
    if isinstance(document, dict) and repr(document["schema_version"]) == repr(second.VERSION):
        document = second.upgraded(document, source) | {"schema_version": SCHEMA}
    return validated(kind, document, source, briefly=True)


def read_plan(path: Path) -> Plan:
    """ConfigError where it is missing, damaged or none."""
    return parsed(Plan, read_sealed(path), path)


def read_manifest(run: Path) -> Manifest:
    """Of a run's record. ConfigError where it is missing, damaged or none."""
    return parsed(Manifest, read_sealed(run / MANIFEST), run / MANIFEST)


def read_run(run: Path) -> tuple[RunSpec, Manifest]:
    """What was trained, and what came of it. ConfigError where either is missing or damaged, or contradicts the other."""
    manifest = read_manifest(run)
    check(manifest, run / SPEC)
    spec = validated(RunSpec, read_json(run / SPEC), run / SPEC)
    if why := contradiction(spec, manifest):
        raise ConfigError(f"{run / MANIFEST}: contradicts {SPEC}: {why}.")
    return spec, manifest


def contradiction(spec: RunSpec, manifest: Manifest) -> str | None:
    """Why a manifest cannot be of a specification; None where it can."""
    steps, training = manifest.steps_completed, spec.training
    if not manifest.run_id.endswith(f"-{(own := spec.sha256[:10])}"):
        return f"run_id is {manifest.run_id!r}, and that of the specification ends in {own}"
    if manifest.watch != training.watch:
        return "watch is another"
    if not (steps == training.steps if manifest.status == "completed" else 0 < steps <= training.steps):
        return f"{manifest.status} after {steps} steps of {training.steps}"
    if manifest.tokens != (tokens := training.tokens(steps)):
        return f"tokens are {manifest.tokens}, and {steps} steps have {tokens}"
    return None


def read_evaluation(run: Path, name: str) -> Evaluation:
    """One of a run's record. ConfigError where it is missing, damaged or none."""
    path = evaluation_file(run, name)
    found = parsed(Evaluation, read_sealed(path), path)
    if found.name != name:
        raise ConfigError(f"{path}: is the evaluation {found.name!r}.")
    return found


def read_evaluations(run: Path) -> dict[str, Evaluation]:
    """All of a run's record, by their names."""
    return {file.stem: read_evaluation(run, file.stem) for file in sorted((run / EVALUATIONS).glob("*.json"))}


def read_probes(run: Path) -> Probes:
    """Of a run's record. ConfigError where they are missing, damaged or none."""
    return parsed(Probes, read_sealed(run / PROBES), run / PROBES)


def check(manifest: Manifest, path: Path) -> None:
    """ConfigError where a file of a record is missing, or not the one that the record's manifest has the size and sum of."""
    check_file(path, manifest.model_dump())


def evaluation_file(run: Path, name: str) -> Path:
    """Where an evaluation of a run is."""
    return run / EVALUATIONS / f"{name}.json"


def write(path: Path, artefact: Artefact, durable: bool = True) -> None:
    """Write an artefact whole or not at all, with the sum of its content."""
    write_sealed(path, artefact.model_dump(mode="json"), durable)


def now() -> datetime:
    """The time, to the second, as artefacts have it."""
    return _to_the_second(datetime.now(UTC))
