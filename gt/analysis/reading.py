"""One run's record as analysis reads it: what became of the run, and its numbers."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from gt import registry
from gt.artefacts import (
    Evaluation,
    Failure,
    Manifest,
    Plan,
    Probes,
    check,
    evaluation_file,
    parsed,
    read_evaluations,
    read_probes,
    read_run,
)
from gt.asked import HELD_OUT
from gt.attempts import began
from gt.errors import ConfigError
from gt.records import CURVES, FAILURE, MANIFEST, PROBES, WEIGHTS, read_sealed, within

if TYPE_CHECKING:
    import pyarrow as pa

STATUSES = ("completed", "diverged", "failed", "missing")
# How the reason begins why a run is missing that was made.
DAMAGED = "its record is damaged: "
# The columns of tables that say of which run a point of a curve is.
TAKEN = ("cell", "label", "variant", "corpus", "tokenizer", "seed", "run_id", "status")


@dataclass(frozen=True)
class Record:
    """A planned run.

    status: completed (trained and evaluated) | diverged (its loss or gradient was not finite) | failed (its last attempt
    ended with an error) | missing (not run, not evaluated yet, or its record is damaged). reason: why it is not completed, ""
    if it is. What a run of that status does not have is None or empty. A completed run may lack probes.
    """

    run_id: str
    status: str
    reason: str
    manifest: Manifest | None = None
    evaluations: dict[str, Evaluation] = field(default_factory=dict)
    curves: pa.Table | None = None
    probes: Probes | None = None

    @property
    def held_out(self) -> dict[str, float | None]:
        """Its held-out losses, and those of n-gram models on the same text, by the names of their metrics."""
        return totals(self.evaluations.get(HELD_OUT))


def totals(evaluation: Evaluation | None) -> dict[str, float | None]:
    """The measurements of an evaluation that have no axis beside the name."""
    return {own.name: own.value for own in evaluation.measurements if own.at is None} if evaluation else {}


def read_record(folder: Path, run_id: str) -> Record:
    """Read `folder`, the record of a planned run. Nothing wrong in it raises; it is the run's status and reason."""
    if not folder.is_dir():
        return Record(run_id, "missing", "not run")
    try:
        return _read(folder, run_id)
    except ConfigError as error:
        return Record(run_id, "missing", f"{DAMAGED}{within(folder, error)}")


def _read(folder: Path, run_id: str) -> Record:
    if (failure := folder / FAILURE).exists():
        return Record(run_id, "failed", parsed(Failure, read_sealed(failure), failure).error)
    if not (folder / MANIFEST).exists():
        return Record(run_id, "missing", "not run to its end")
    _, manifest = read_run(folder)
    manifest = _of_run(manifest, run_id, folder / MANIFEST)
    check(manifest, folder / CURVES)
    # What was measured of weights that are there no more says nothing of these.
    found = {name: own for name, own in read_evaluations(folder).items() if is_of(own, manifest)}
    for name, own in found.items():
        registry.check(_of_run(own, run_id, file := evaluation_file(folder, name)).measurements, file)
    record = Record(run_id, "completed", "", manifest, found, read_curves(folder / CURVES))
    if (folder / PROBES).exists() and is_of(probes := _of_run(read_probes(folder), run_id, folder / PROBES), manifest):
        registry.check(probes.measurements, folder / PROBES)
        record = replace(record, probes=probes)
    return judged(record)


def judged(record: Record) -> Record:
    """The record of a run that was trained, with what became of it."""
    assert record.manifest is not None
    if record.manifest.status == "diverged":
        reason = f"loss or gradient not finite at step {record.manifest.steps_completed}"
        return replace(record, status="diverged", reason=reason)
    if HELD_OUT not in record.evaluations:
        return replace(record, status="missing", reason="trained, not evaluated")
    if record.held_out.get("val/bits_per_byte") is None:
        return replace(record, status="diverged", reason="held-out loss not finite")
    return record


class Records(Protocol):
    """Where the records of a study's runs are."""

    def record(self, run_id: str) -> Record:
        """Nothing wrong in it raises; it is the run's status and reason."""
        ...

    def began(self, plan: Plan, record: Record) -> datetime | None:
        """When a run was first begun, as far as it is known."""
        ...


@dataclass(frozen=True)
class Folder:
    """Of run records, which are read one at a time: all of them at once take gigabytes."""

    runs: Path

    def record(self, run_id: str) -> Record:
        return read_record(self.runs / run_id, run_id)

    def began(self, plan: Plan, record: Record) -> datetime | None:
        return began(record.run_id, self.runs, [plan], record.manifest)


OfRun = TypeVar("OfRun", Manifest, Evaluation, Probes)


def _of_run(found: OfRun, run_id: str, path: Path) -> OfRun:
    """A document that says which run it is of, which must be this one."""
    if found.run_id != run_id:
        raise ConfigError(f"{path}: is of run {found.run_id!r}.")
    return found


def is_of(measured: Evaluation | Probes, manifest: Manifest) -> bool:
    """Whether a measurement is of the weights of a record; one of the first schema does not say."""
    known = manifest.files.get(WEIGHTS)
    return known is None or measured.weights in (None, known.sha256)


def read_curves(path: Path) -> pa.Table:
    """The curves of a run. ConfigError where they are no parquet file, or no curves."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        curves = pq.read_table(path)
    except (OSError, pa.ArrowInvalid):
        raise ConfigError(f"{path}: missing or not a parquet file.") from None
    check_curves(curves, str(path))
    return curves


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
