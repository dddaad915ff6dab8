"""One run's record as analysis reads it: what became of the run, and its numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gt.analysis import forms
from gt.errors import ConfigError
from gt.records import CURVES, EVALUATION, MANIFEST, PROBES, check_file, read_sealed, within

if TYPE_CHECKING:
    import pyarrow as pa

Json = dict[str, Any]
STATUSES = ("completed", "diverged", "failed", "missing")
# How the reason begins why a run is missing that was made.
DAMAGED = "its record is damaged: "


@dataclass(frozen=True)
class Record:
    """A planned run.

    status: completed (trained and evaluated) | diverged (its loss or gradient was not finite) | failed (its last attempt
    ended with an error) | missing (not run, not evaluated yet, or its record is damaged). reason: why it is not completed, ""
    if it is. What a run of that status does not have is empty; curves is None. A completed run may lack probes.
    """

    run_id: str
    status: str
    reason: str
    manifest: Json
    evaluation: Json
    curves: pa.Table | None
    probes: Json = field(default_factory=dict)


def read_record(folder: Path, run_id: str) -> Record:
    """Read `folder`, the record of a planned run. Nothing wrong in it raises; it is the run's status and reason."""
    if not folder.is_dir():
        return Record(run_id, "missing", "not run", {}, {}, None)
    try:
        return _read(folder, run_id)
    except ConfigError as error:
        return Record(run_id, "missing", f"{DAMAGED}{within(folder, error)}", {}, {}, None)


def _read(folder: Path, run_id: str) -> Record:
    if (failure := folder / "failure.json").exists():
        return Record(run_id, "failed", forms.check(forms.Failure, read_sealed(failure), str(failure)).error, {}, {}, None)
    if not (folder / MANIFEST).exists():
        return Record(run_id, "missing", "not run to its end", {}, {}, None)
    manifest = _of_run(folder / MANIFEST, run_id)
    forms.check(forms.Manifest, manifest, str(folder / MANIFEST))
    check_file(folder / CURVES, manifest)
    record = Record(run_id, "completed", "", manifest, {}, read_curves(folder / CURVES))
    if (folder / EVALUATION).exists():
        evaluation = _of_run(folder / EVALUATION, run_id)
        forms.check_evaluation(evaluation, str(folder / EVALUATION))
        record = replace(record, evaluation=evaluation)
    if (folder / PROBES).exists():
        probes = _of_run(folder / PROBES, run_id)
        forms.check(forms.Probes, probes, str(folder / PROBES))
        record = replace(record, probes=probes)
    if manifest["status"] == "diverged":
        reason = f"loss or gradient not finite at step {manifest['steps_completed']}"
        return replace(record, status="diverged", reason=reason)
    if not record.evaluation:
        return replace(record, status="missing", reason="trained, not evaluated")
    if not math.isfinite(record.evaluation["splits"].get("val", {}).get("bits_per_byte") or math.nan):
        return replace(record, status="diverged", reason="held-out loss not finite")
    return record


def _of_run(path: Path, run_id: str) -> Json:
    """A JSON file that says which run it is of, which must be this one."""
    value = read_sealed(path)
    if value.get("run_id") != run_id:
        raise ConfigError(f"{path}: is of run {value.get('run_id')!r}.")
    return value


def read_curves(path: Path) -> pa.Table:
    """The curves of a run. ConfigError where they are no parquet file, or no curves."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        curves = pq.read_table(path)
    except (OSError, pa.ArrowInvalid):
        raise ConfigError(f"{path}: missing or not a parquet file.") from None
    forms.check_curves(curves, str(path))
    return curves
