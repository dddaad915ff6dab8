"""One run's record as analysis reads it: what became of the run, and its numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gt.errors import ConfigError
from gt.records import PROBES, read_json

if TYPE_CHECKING:
    import pyarrow as pa

Json = dict[str, Any]
STATUSES = ("completed", "diverged", "failed", "missing")


@dataclass(frozen=True)
class Record:
    """A planned run.

    status: completed (trained and evaluated) | diverged (its loss or gradient was not finite) | failed (its last attempt
    ended with an error, or its record cannot be read) | missing (not run, or not evaluated yet). reason: why it is not
    completed, "" if it is. What a run of that status does not have is empty; curves is None. A completed run may lack probes.
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
        record = _read(folder, run_id)
        return replace(record, probes=_of_run(folder / PROBES, run_id)) if (folder / PROBES).exists() else record
    except ConfigError as error:
        return Record(run_id, "failed", str(error), {}, {}, None)


def _read(folder: Path, run_id: str) -> Record:
    if (failure := folder / "failure.json").exists():
        return Record(run_id, "failed", str(_mapping(failure).get("error", "unknown error")), {}, {}, None)
    if not (folder / "manifest.json").exists():
        return Record(run_id, "missing", "not run to its end", {}, {}, None)
    manifest = _of_run(folder / "manifest.json", run_id)
    curves = _curves(folder / "curves.parquet")
    if manifest.get("status") == "diverged":
        evaluation = _of_run(folder / "evaluation.json", run_id) if (folder / "evaluation.json").exists() else {}
        reason = f"loss or gradient not finite at step {manifest.get('steps_completed')}"
        return Record(run_id, "diverged", reason, manifest, evaluation, curves)
    if manifest.get("status") != "completed":
        raise ConfigError(f"manifest.json: status {manifest.get('status')!r}; allowed: completed, diverged.")
    if not (folder / "evaluation.json").exists():
        return Record(run_id, "missing", "trained, not evaluated", manifest, {}, curves)
    evaluation = _of_run(folder / "evaluation.json", run_id)
    if not math.isfinite(evaluation.get("splits", {}).get("val", {}).get("bits_per_byte") or math.nan):
        return Record(run_id, "diverged", "held-out loss not finite", manifest, evaluation, curves)
    return Record(run_id, "completed", "", manifest, evaluation, curves)


def _mapping(path: Path) -> Json:
    try:
        value = read_json(path)
    except ConfigError as error:
        raise ConfigError(str(error).replace(f"{path}:", f"{path.name}:", 1)) from None
    if not isinstance(value, dict):
        raise ConfigError(f"{path.name}: must be a JSON object.")
    return value


def _of_run(path: Path, run_id: str) -> Json:
    """A JSON file that says which run it is of, which must be this one."""
    value = _mapping(path)
    if value.get("run_id") != run_id:
        raise ConfigError(f"{path.name}: is of run {value.get('run_id')!r}.")
    return value


def _curves(path: Path) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowInvalid):
        raise ConfigError(f"{path.name}: missing or not a parquet file.") from None
