"""What a disturbed study has other than its twin: weights to the last bit, numbers but for times, MLflow's runs, left-overs."""

from __future__ import annotations

import hashlib
import re
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd
from faults.study import Study
from safetensors.numpy import load_file

from gt.records import read_json

# What two undisturbed runs differ in: times, and what is made of them.
VARIES = re.compile(
    r"seconds|timestamp|per_second|per_dollar|north_star|compute_efficiency|memory|energy|started|finished|resumed|attempt|(?<!data_)sha256|^measured$"
)
# Of a manifest, what says which run it is and what came of it.
MANIFEST = ("run_id", "status", "steps_completed", "data_sha256", "vocab_size", "code", "tokens", "n_params")
TABLES = ("runs", "cells", "contrasts", "curves", "evaluations", "probes", "verdicts")
# What is there for a while only, or is not the same every time: a call's locks, copies that were moved aside, and what only
# saves time.
PASSING = re.compile(r"results/(attempts|checkpoints|devices|packs|staged|\.code)/|\.seen\.json$|lock$|\.snakemake_timestamp$")


def differences(twin: Study, other: Study) -> list[str]:
    """One line for each thing that is missing, is not the twin's, or should not be there."""
    return [line for part in (missing, left_over, records, tables, tracked) for line in part(twin, other)]


def missing(twin: Study, other: Study) -> Iterator[str]:
    """Files that the twin has and the other has not, or has empty."""
    there = set(other.files())
    for name in twin.files():
        if PASSING.search(name):
            continue
        if name not in there:
            yield f"{name}: missing"
        elif (twin.folder / name).stat().st_size and not (other.folder / name).stat().st_size:
            yield f"{name}: empty"


def left_over(_: Study, other: Study) -> Iterator[str]:
    """Locks, parts of files, checkpoints of runs that are done."""
    for name in other.files():
        if name.endswith(".tmp") or re.match(r"results/(checkpoints|staged|packs)/", name):
            yield f"{name}: left over"
    for lock in (other.folder / ".snakemake/locks").glob("*"):
        yield f"{lock.relative_to(other.folder)}: left over"


def records(twin: Study, other: Study) -> Iterator[str]:
    """Every run's record, and the data."""
    for own in sorted((twin.results / "runs").iterdir()):
        run = other.results / "runs" / own.name
        for pattern, read in RECORD.items():
            for file in sorted(own.glob(pattern)):
                yield from compared(run / file.relative_to(own), file, read, other)
    yield from alike(twin, other, "data/**/*.*")


def tables(twin: Study, other: Study) -> Iterator[str]:
    """The tables, verdicts and figures of the study."""
    own, study = (each.results / "studies/tiny" for each in (twin, other))
    for name in TABLES:
        yield from compared(study / f"{name}.parquet", own / f"{name}.parquet", table, other)
    for name in ("claims.json", "coverage.json"):
        yield from compared(study / name, own / name, json_without_times, other)
    for pattern in ("plan.json", "figures/*.*", "claims/*.*"):
        yield from alike(twin, other, f"studies/tiny/{pattern}")


def tracked(twin: Study, other: Study) -> Iterator[str]:
    """The runs that MLflow shows: each once, under its parent."""
    yield from compared(other.results / "mlflow.db", twin.results / "mlflow.db", shown, other)


def alike(twin: Study, other: Study, pattern: str) -> Iterator[str]:
    """Files that are the twin's byte for byte."""
    for own in sorted(twin.results.glob(pattern)):
        yield from compared(other.folder / own.relative_to(twin.folder), own, digest, other)


def compared(path: Path, own: Path, read: Any, other: Study) -> Iterator[str]:
    """A line if a file cannot be read, or says something else than the twin's."""
    if not path.exists():
        return  # said by `missing`
    name = path.relative_to(other.folder)
    try:
        same = read(path) == read(own)
    except Exception as error:
        yield f"{name}: cannot be read ({type(error).__name__})"
        return
    if not same:
        yield f"{name}: not the twin's"


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def weights(path: Path) -> dict[str, tuple[Any, bytes]]:
    return {name: (w.dtype, w.tobytes()) for name, w in load_file(path).items()}


def table(path: Path) -> str:
    """The numbers of a table to their last bit, as text, in which NaN is NaN."""
    frame = pd.read_parquet(path)
    kept = frame[[name for name in frame if not VARIES.search(name)]]
    return "\n".join(map(repr, [list(kept), *kept.itertuples(index=False, name=None)]))


def json_without_times(path: Path) -> Any:
    return without_times(read_json(path))


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_times(part) for key, part in value.items() if not VARIES.search(key)}
    return [without_times(part) for part in value] if isinstance(value, list) else value


def manifest(path: Path) -> dict[str, Any]:
    value = read_json(path)
    return {key: value[key] for key in MANIFEST}


def shown(path: Path) -> Counter[Any]:
    """The active runs of a database: experiment, name, status, and the name of the parent."""
    query = """
        select e.name, r.name, r.status, p.name, count(distinct m.key)
        from runs r join experiments e on e.experiment_id = r.experiment_id
        left join tags t on t.run_uuid = r.run_uuid and t.key = 'mlflow.parentRunId'
        left join runs p on p.run_uuid = t.value and p.lifecycle_stage = 'active'
        left join latest_metrics m on m.run_uuid = r.run_uuid
        where r.lifecycle_stage = 'active' group by r.run_uuid
    """
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        return Counter(database.execute(query))


RECORD = {
    "spec.json": json_without_times,
    "manifest.json": manifest,
    "curves.parquet": table,
    "model.safetensors": weights,
    "evaluations/*.json": json_without_times,
    "probes.json": json_without_times,
}
