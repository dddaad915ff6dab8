"""What analysis uses of a plan and of a run's record, and which values it may have: checked before anything is computed.

Keys that analysis does not use may be there, with any value.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from gt.analysis import evaluations
from gt.errors import ConfigError
from gt.explain import validated
from gt.spec import RunSpec
from gt.study import Evaluation as Further
from gt.study import Name

if TYPE_CHECKING:
    import pyarrow as pa

Json = dict[str, Any]
Kind = TypeVar("Kind", bound=BaseModel)
# A run's label, which becomes the name of a folder, and the first digits of the sum of its specification.
RUN_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.,+-]{0,200}-[0-9a-f]{10}")
# The columns of tables that say of which run a point of a curve is.
TAKEN = ("cell", "label", "variant", "corpus", "tokenizer", "seed", "run_id", "status")

Count = Annotated[int, Field(ge=0, lt=2**63)]
Positive = Annotated[float, Field(gt=0)]
Digits = Annotated[str, Field(pattern=r"^(0|[1-9]\d{0,9})$")]
FileName = Annotated[str, Field(pattern=r"^[^./\\\x00-\x1f][^/\\\x00-\x1f]*$")]
Sum = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
# ISO 8601, as JSON has it.
Time = Annotated[AwareDatetime, Field(strict=False), BeforeValidator(lambda value: value if isinstance(value, str) else None)]


class Form(BaseModel):
    """A JSON object: strict about types, numbers are finite."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class File(Form):
    bytes: Count
    sha256: Sum


class Manifest(Form):
    run_id: str
    status: Literal["completed", "diverged"]
    steps_completed: Count
    started: Time
    finished: Time
    seconds: Annotated[float, Field(ge=0)]
    tokens: Count
    tokens_per_second: Annotated[float, Field(ge=0)]
    n_params: Count
    n_params_non_embedding: Count
    state_size: Count
    flops_per_token: Annotated[int, Field(gt=0, lt=2**63)]
    stacked: Annotated[int, Field(gt=0)] = 1
    cohorts: Annotated[int, Field(gt=0)] = 1
    peak_memory_bytes: Count | None = None
    energy_joules: float | None = None
    vocab_size: Count | None = None
    threads: Count | None = None
    data_sha256: str | None = None
    git_commit: str | None = None
    git_dirty: bool | None = None
    device: str | None = None
    engine: str | None = None
    backend: dict[str, str] | None = None
    code: dict[str, str] = {}
    versions: dict[str, str] = {}
    resumed_from: list[Count] = []
    files: dict[str, File] = {}


class Split(Form):
    loss: float | None = None
    bits_per_byte: float | None = None
    perplexity: Positive | None = None
    tokens: Count | None = None
    bytes: Count | None = None


class Line(Form):
    bits_per_byte: float


class Evaluation(Form):
    run_id: str
    splits: dict[Literal["val", "test"], Split]
    ngram: dict[str, Line] = {}
    code: str | dict[str, dict[str, str]] | None = None


class Measure(Form):
    value: float | None
    layers: dict[Digits, float | None]


class Probes(Form):
    run_id: str
    measures: dict[str, Measure]


class Failure(Form):
    error: str


class Cell(Form):
    id: FileName
    variant: Name
    corpus: FileName
    tokenizer: FileName
    factors: Json
    runs: Annotated[dict[Digits, str], Field(min_length=1)]


class Plan(Form):
    study: Name
    title: str
    description: str
    baseline: Name
    evaluations: list[Further]
    dollars_per_hour: Positive
    tokens: Count
    cells: Annotated[list[Cell], Field(min_length=1)]
    runs: Annotated[dict[str, Json], Field(min_length=1)]


def check(form: type[Kind], document: Any, source: str) -> Kind:
    """ConfigError names the source, the key and the value."""
    try:
        return validated(form, document, source)
    except ConfigError as error:
        raise ConfigError(str(error).partition("\n")[0]) from None


def check_evaluation(document: Any, source: str) -> None:
    """The same, for all numbers that `gt.analysis.evaluations` finds in an `evaluation.json`."""
    check(Evaluation, document, source)
    try:
        found = evaluations.rows(document, 1.0)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ConfigError(f"{source}: an evaluation is not of its form ({error!r}).") from None
    for row in found:
        for key in ("at", "value", "lower", "upper", "n"):
            if not _is_number(row[key]):
                raise ConfigError(f"{source}: {row['metric']}: {key} is {row[key]!r}, not a finite number.")


def _is_number(value: Any) -> bool:
    """Or nothing."""
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value))


def check_curves(curves: pa.Table, source: str) -> None:
    """ConfigError where curves have no steps and times, or what are no numbers."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for name in ("step", "tokens", "timestamp"):
        if curves.column_names.count(name) != 1:
            raise ConfigError(f"{source}: there must be one column {name!r}.")
        if curves[name].null_count or not pc.all(pc.is_finite(curves[name]), min_count=0).as_py():
            raise ConfigError(f"{source}: column {name!r} has gaps.")
    for name, kind in zip(curves.column_names, curves.schema.types, strict=True):
        integer = name in ("step", "tokens")
        if name in TAKEN or not (pa.types.is_int64(kind) if integer else pa.types.is_floating(kind)):
            raise ConfigError(
                f"{source}: column {name!r} of {kind} is not allowed. Allowed: int64 step and tokens, and floats."
            )


def check_plan(document: Any, source: str) -> Plan:
    """ConfigError where a plan is none, its cells have other runs than it lists, or a run is not of its specification."""
    plan = check(Plan, document, source)
    ids = [cell.id for cell in plan.cells]
    if doubled := next((own for own in ids if ids.count(own) > 1), None):
        raise ConfigError(f"{source}: cells: {doubled!r} stands there twice.")
    if plan.baseline not in (variants := {cell.variant for cell in plan.cells}):
        raise ConfigError(f"{source}: baseline: no cell is called {plan.baseline!r}. There are: {', '.join(sorted(variants))}.")
    for run_id, specification in plan.runs.items():
        if not RUN_ID.fullmatch(run_id):
            raise ConfigError(f"{source}: runs: {run_id!r} is no id of a run.")
        sha256 = check(RunSpec, specification, f"{source}: runs: {run_id}").sha256
        if not run_id.endswith(f"-{sha256[:10]}"):
            raise ConfigError(f"{source}: runs: {run_id!r} is the id of another specification, whose sum is {sha256[:10]}.")
    placed = set()
    for cell in plan.cells:
        for seed, run_id in cell.runs.items():
            placed.add(run_id)
            if run_id not in plan.runs:
                raise ConfigError(f"{source}: cells: {cell.id}: run {run_id!r} is not among the plan's runs.")
            if plan.runs[run_id]["seed"] != int(seed):
                raise ConfigError(f"{source}: cells: {cell.id}: run {run_id!r} is of another seed than {seed}.")
    if left := next((run_id for run_id in plan.runs if run_id not in placed), None):
        raise ConfigError(f"{source}: runs: {left!r} is in no cell.")
    return plan
