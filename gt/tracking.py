"""Run records -> MLflow: one serial import, which adds nothing when it is repeated.

A study is an experiment, a cell a parent run with the means over its seeds, a run a child run with its curves, parameters
and files. MLflow is a view of the records: it may be deleted, or moved, and is rebuilt by the next `sync`.

Every MLflow run carries `gt.key` (the run's id, or study and cell) and, written last, `gt.content`, a hash of everything that
was imported. A run without the second, or with another value than the record has now, is replaced.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gt.analysis.records import Record, read_record
from gt.errors import ConfigError

if TYPE_CHECKING:
    from mlflow.entities import Experiment, Metric
    from mlflow.tracking import MlflowClient

Json = dict[str, Any]
# Weights are not imported: they are large, and the record has them.
FILES = ("spec.json", "manifest.json", "curves.parquet", "evaluation.json", "probes.json", "failure.json")
# The UI draws one chart a key and slows down with many. With the three of a parent run these are 15.
CURVES = ("train/loss", "val/loss", "val/bits_per_byte", "learning_rate", "grad_norm", "gate/mean")
FINAL = (
    "final/bits_per_byte",
    "final/loss",
    "final/first_branch_share",
    "final/test_bits_per_byte",
    "tokens_per_second",
    "peak_memory_bytes",
)
POINTS_PER_CURVE = 500
# MLflow's limits on one call.
METRICS_PER_CALL, PARAMS_PER_CALL, VALUE_LENGTH = 1000, 100, 6000
SCHEMES = ("sqlite", "postgresql", "mysql", "mssql", "http", "https")


@dataclass
class Entry:
    """What MLflow shall hold of one cell or one run. Times are Unix milliseconds; None is not known: the run failed."""

    key: str
    cell: str
    name: str
    status: str
    start: int | None
    end: int | None
    tags: dict[str, str]
    params: dict[str, str]
    metrics: list[tuple[str, float, int, int]] = field(default_factory=list)  # key, value, time, step
    files: list[Path] = field(default_factory=list)

    @property
    def content(self) -> str:
        """A hash of all of it."""
        digest = hashlib.sha256()
        parts = [self.key, self.cell, self.name, self.status, self.start, self.end, self.tags, self.params, self.metrics]
        digest.update(json.dumps(parts, sort_keys=True).encode())
        for file in self.files:
            digest.update(file.name.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
        return digest.hexdigest()


def sync(plan: Json, runs_dir: Path, uri: str) -> dict[str, int]:
    """Bring the MLflow experiment of a study up to date with its records; runs without a record yet are left out.

    Artifacts go to `mlartifacts/` beside `runs_dir`, unless a server keeps them. Returns how many MLflow runs were added,
    replaced and left unchanged. Waits for another import into the same place to end. ConfigError for a uri that cannot be used.
    """
    check_uri(uri)
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    with _lock(runs_dir.parent / "mlflow.lock"):
        if uri.startswith("sqlite:///"):
            Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        try:
            client = MlflowClient(tracking_uri=uri)
            location = None if uri.startswith("http") else (runs_dir.parent / "mlartifacts" / plan["study"]).resolve().as_uri()
            return Importer(client, _experiment(client, plan["study"], location), plan["study"]).run(plan, runs_dir)
        except MlflowException as error:
            raise ConfigError(f"MLflow at {uri}: {error.message}") from None


class Importer:
    """One import into one experiment."""

    def __init__(self, client: MlflowClient, experiment: str, study: str) -> None:
        self.client, self.experiment, self.study = client, experiment, study
        self.counts = {"added": 0, "replaced": 0, "unchanged": 0}
        self.known = self._known()

    def run(self, plan: Json, runs_dir: Path) -> dict[str, int]:
        """Import every cell: its parent, then its runs under it."""
        for cell in plan["cells"]:
            children = [
                child(cell, int(seed), record, plan["runs"][run_id], runs_dir / run_id)
                for seed, run_id in cell["runs"].items()
                if (record := read_record(runs_dir / run_id, run_id)).status != "missing"
            ]
            if children:
                parent_id = self.put(parent(self.study, cell, children), {})
                for entry in children:
                    self.put(entry, {"mlflow.parentRunId": parent_id})
        return self.counts

    def put(self, entry: Entry, links: dict[str, str]) -> str:
        """The MLflow run of an entry, made anew unless a whole and equal one is there."""
        old = self.known.pop((entry.key, entry.cell), [])
        same = [run for run in old if run.data.tags.get("gt.content") == entry.content]
        for run in old:
            if run not in same[:1]:
                self.client.delete_run(run.info.run_id)
        if same:
            self.counts["unchanged"] += 1
            run_id = same[0].info.run_id
            for name, value in links.items():
                if same[0].data.tags.get(name) != value:
                    self.client.set_tag(run_id, name, value)
            return run_id
        self.counts["replaced" if old else "added"] += 1
        return self._create(entry, links)

    def _create(self, entry: Entry, links: dict[str, str]) -> str:
        from mlflow.entities import Metric, Param

        tags = {**entry.tags, **links, "gt.key": entry.key, "gt.cell": entry.cell}
        run = self.client.create_run(self.experiment, start_time=entry.start, tags=tags, run_name=entry.name)
        run_id = run.info.run_id
        params = [Param(name, value[:VALUE_LENGTH]) for name, value in entry.params.items()]
        for part in _parts(params, PARAMS_PER_CALL):
            self.client.log_batch(run_id, params=part)
        metrics: list[Metric] = [Metric(*point) for point in entry.metrics]
        for part in _parts(metrics, METRICS_PER_CALL):
            self.client.log_batch(run_id, metrics=part)
        for file in entry.files:
            self.client.log_artifact(run_id, str(file))
        self.client.set_terminated(run_id, entry.status, entry.end)
        self.client.set_tag(run_id, "gt.content", entry.content)
        return run_id

    def _known(self) -> dict[tuple[str, str], list[Any]]:
        """The experiment's runs by key and cell."""
        known: dict[tuple[str, str], list[Any]] = {}
        token = None
        while True:
            page = self.client.search_runs([self.experiment], max_results=1000, page_token=token)
            for run in page:
                tags = run.data.tags
                known.setdefault((tags.get("gt.key", ""), tags.get("gt.cell", "")), []).append(run)
            if not (token := page.token):
                return known


def child(cell: Json, seed: int, record: Record, spec: Json, folder: Path) -> Entry:
    """A run: its specification as parameters, its curves at the times and steps at which they were logged, its results."""
    manifest = record.manifest
    start, end = _milliseconds(manifest.get("started")), _milliseconds(manifest.get("finished"))
    tags = {"gt.status": record.status, "gt.seed": str(seed)}
    if record.reason:
        tags["gt.reason"] = record.reason[:VALUE_LENGTH]
    if commit := manifest.get("git_commit"):
        tags["mlflow.source.git.commit"] = commit
    return Entry(
        key=record.run_id,
        cell=cell["id"],
        name=f"{cell['id']}.s{seed}",
        status="FINISHED" if record.status == "completed" else "FAILED",
        start=start,
        end=end,
        tags=tags,
        params={**_cell_params(cell), "seed": str(seed), **dict(_flat(spec))},
        metrics=[*_curve_points(record), *_final_points(record, end or 0)],
        files=[folder / name for name in FILES if (folder / name).exists()],
    )


def parent(study: str, cell: Json, children: list[Entry]) -> Entry:
    """A cell: means over its completed runs, and the 95 % interval of the bits per byte."""
    from gt.analysis.statistics import mean_interval

    done = [entry for entry in children if entry.status == "FINISHED"]
    starts, ends = ([t for entry in children if (t := getattr(entry, name))] for name in ("start", "end"))
    values = {"seeds_completed": float(len(done))}
    for name in FINAL:
        estimate = mean_interval([value for entry in done for key, value, _, _ in entry.metrics if key == name])
        if estimate.mean is not None:
            values[name] = estimate.mean
        if name == FINAL[0] and estimate.lower is not None and estimate.upper is not None:
            values |= {f"{name}_lower": estimate.lower, f"{name}_upper": estimate.upper}
    return Entry(
        key=f"{study}/{cell['id']}",
        cell=cell["id"],
        name=cell["id"],
        status="FINISHED" if len(done) == len(cell["runs"]) else "FAILED",
        start=min(starts, default=None),
        end=max(ends, default=None),
        tags={
            "gt.status": f"{len(done)} of {len(cell['runs'])} completed",
            "gt.runs": ",".join(sorted(cell["runs"].values()))[:5000],
        },
        params=_cell_params(cell),
        metrics=[(name, value, max(ends, default=0), 0) for name, value in values.items()],
    )


def _curve_points(record: Record) -> Iterator[tuple[str, float, int, int]]:
    """The points of the curves that are finite: MLflow would store infinity as a large number."""
    if record.curves is None:
        return
    columns = record.curves.to_pydict()
    for name in CURVES:
        values = columns.get(name, [])
        kept = [i for i, value in enumerate(values) if value is not None and math.isfinite(value)]
        stride = math.ceil(len(kept) / POINTS_PER_CURVE) or 1
        # From the end backwards, so that the last point is among those kept.
        for i in sorted(kept[::-1][::stride]):
            yield name, values[i], round(1000 * columns["timestamp"][i]), columns["step"][i]


def _final_points(record: Record, end: int) -> Iterator[tuple[str, float, int, int]]:
    splits, measures = record.evaluation.get("splits", {}), record.probes.get("measures", {})
    val, test, manifest = splits.get("val", {}), splits.get("test", {}), record.manifest
    shares = [measure["value"] for name, measure in measures.items() if name.startswith("ablation/share/")]
    measured = [val.get("bits_per_byte"), val.get("loss"), next(iter(shares), None), test.get("bits_per_byte")]
    measured += [manifest.get("tokens_per_second"), manifest.get("peak_memory_bytes")]
    for name, value in zip(FINAL, measured, strict=True):
        if value is not None and math.isfinite(value):
            yield name, float(value), end, manifest["steps_completed"]


def _cell_params(cell: Json) -> dict[str, str]:
    return {name: str(cell[name]) for name in ("variant", "corpus", "tokenizer")}


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Dotted path and text of every leaf but the seed, which stands by itself; what is not set is left out."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield from _flat(part, f"{path}.{name}" if path else name)
    elif value is not None and path != "seed":
        yield path, value if isinstance(value, str) else json.dumps(value)


def _milliseconds(timestamp: str | None) -> int | None:
    return round(1000 * datetime.fromisoformat(timestamp).timestamp()) if timestamp else None


def _parts(items: list[Any], size: int) -> Iterator[list[Any]]:
    for i in range(0, len(items), size):
        yield items[i : i + size]


def _experiment(client: MlflowClient, name: str, location: str | None) -> str:
    """The id of the study's experiment.

    MLflow keeps the place of the artifacts as an absolute path. Where results/ has been moved since, the old experiment is put
    aside under another name, and all is imported anew. One that was deleted in the UI comes back.
    """
    found: Experiment | None = client.get_experiment_by_name(name)
    if found is not None and found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    if found is not None and location is not None and found.artifact_location.rstrip("/") != location:
        client.rename_experiment(found.experiment_id, f"{name} (moved, {found.experiment_id})")
        client.delete_experiment(found.experiment_id)
        found = None
    return found.experiment_id if found is not None else client.create_experiment(name, artifact_location=location)


def check_uri(uri: str) -> None:
    """ConfigError for what no tracking store has as its address."""
    scheme = uri.split(":", 1)[0].split("+", 1)[0]
    if "://" not in uri or scheme not in SCHEMES:
        raise ConfigError(
            f"mlflow_uri: {uri!r} is not a database or a server, and MLflow no longer writes into folders. "
            "Allowed: sqlite:///results/mlflow.db, another database's URI, or http(s)://host:port."
        )


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """One importer at a time: looking a run up and adding it are two steps."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
