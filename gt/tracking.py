"""Run records -> MLflow: one serial import, which adds nothing when it is repeated.

A study is an experiment, a cell a parent run with the means over its seeds, a run a child run with its curves, parameters
and files. MLflow is a view of the records: it may be deleted, or moved, and is rebuilt by the next `sync`.

Every MLflow run carries `gt.key` (the run's id, or study and cell) and, written last, `gt.content`, a hash of everything that
was imported. A run without the second, or with another value than the record has now, is replaced.

The active runs are those of the present plan. What was replaced, or left the plan, is superseded: deleted in MLflow's sense,
which hides it and loses nothing, with the reason in the tag `gt.superseded`. It is restored when the plan has it again.

Several results folders may import into one server. They share a study's experiment: the seeds of a cell are those of all, a
run that two have is there once, and each folder supersedes only runs of its own (tag `gt.results`), or of another plan for the
same cell (tag `gt.spec`), so that the runs of a cell never differ in more than the seed.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import shlex
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gt.analysis.reading import Record, read_record
from gt.analysis.statistics import mean_interval
from gt.artefacts import Cell, Plan, evaluation_file
from gt.progress import progress
from gt.records import CURVES as CURVES_FILE
from gt.records import EVALUATIONS, FAILURE, MANIFEST, PROBES, SPEC
from gt.registry import plain
from gt.spec import RunSpec
from gt.study import trial_cells
from gt.tracking_store import (
    ATTEMPTS,
    EACH_REQUEST,
    WAIT_SECONDS,
    check_uri,
    connect,
    experiment_of,
    explained,
    hidden,
    is_own,
    limited,
    locked,
    name_of,
    takes_files,
)

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

# Weights are not imported: they are large, and the record has them.
FILES = (SPEC, MANIFEST, CURVES_FILE, PROBES, FAILURE)
# The UI draws one chart a key and slows down with many. With the three of a parent run these are 15, and those that are
# measured by other packages.
CURVES = ("train/loss", "val/loss", "val/bits_per_byte", "learning_rate", "grad_norm", "gate/mean")
FINAL = (
    "final/bits_per_byte",
    "final/loss",
    "final/first_branch_share",
    "final/test_bits_per_byte",
    "tokens_per_second",
    "peak_memory_bytes",
)
# A chart of the UI shows no more than some hundreds, and of all that is sent these cost a server most. The record has the rest.
POINTS_PER_CURVE = 200
COUNTS = ("added", "replaced", "restored", "unchanged", "superseded")
# MLflow's limits on the lengths of texts.
NAME_LENGTH, PARAM_LENGTH, TAG_LENGTH = 250, 6000, 8000
# A server's processes work at once, and while they do the next records are read. A database works in this process.
AT_ONCE = 4
RUNS_PER_PAGE = 500


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


def sync(plan: Plan, runs_dir: Path, uri: str) -> dict[str, int]:
    """Bring the MLflow experiment of a study up to date with its records; runs without a record yet are left out.

    Returns how many MLflow runs were added, replaced, restored, left unchanged and superseded. Waits for another import into
    the same place to end. ConfigError for a uri that cannot be used, a database that cannot be opened, a silent server.
    """
    check_uri(uri)
    study, results = plan.study, runs_dir.parent
    plan_file = results / "studies" / study / "plan.json"
    command = ["python", "-m", "gt", "track", "--plan", str(plan_file), "--runs", str(runs_dir), "--uri", hidden(uri)]
    again = shlex.join(command)
    with explained(uri, again), locked(uri, results):
        client = connect(uri, again)
        with limited(EACH_REQUEST):
            experiment = experiment_of(client, study, uri, results)
            entries = partial(_children, plan, runs_dir, takes_files(experiment, uri))
            name = "" if is_own(uri, results) else name_of(results)
            at_once = AT_ONCE if uri.startswith("http") else 1
            importer = Importer(client, uri, experiment.experiment_id, study, name, at_once)
            return (importer.run_among_others if name else importer.run)(_cells(plan), entries)


@dataclass
class Settled:
    """What an import has left of a cell: the MLflow runs, how many of these the plan has, and what their tag `gt.spec` is."""

    runs: set[str] = field(default_factory=set)
    planned: int = 0
    spec: str | None = None


class Importer:
    """One import into one experiment.

    results: the name of the results folder, "" where the database is its own. at_once: how many cells are imported at a time.
    """

    def __init__(self, client: MlflowClient, uri: str, experiment: str, study: str, results: str, at_once: int) -> None:
        self.client, self.uri, self.experiment, self.study = client, uri, experiment, study
        self.results, self.at_once = results, at_once
        self.counts, self.counting = dict.fromkeys(COUNTS, 0), threading.Lock()
        self.known: dict[str, dict[str, list[Run]]] = {}  # by cell and key, the superseded ones too
        self.cells: dict[str, Settled] = {}
        self.superseded: set[str] = set()

    def run(self, cells: list[Cell], entries: Callable[[Cell], list[Entry]]) -> dict[str, int]:
        """Import every cell, its parent and its runs under it, and supersede the rest. entries: what a cell has."""
        self.known, self.superseded = self._known(), set()
        todo = [cell for cell in cells if not self._is_settled(cell)]
        with ThreadPoolExecutor(self.at_once) as pool:
            done = pool.map(lambda cell: self._put_cell(cell, entries(cell)), todo)
            for cell, own in zip(todo, progress(done, "into MLflow", "cell", len(todo)), strict=True):
                self.cells[cell.id] = own
            list(pool.map(self._supersede_as_unplanned, self._rest()))
        self.counts["unchanged"] = max(0, sum(own.planned for own in self.cells.values()) - self._changes())
        return self.counts

    def run_among_others(self, cells: list[Cell], entries: Callable[[Cell], list[Entry]]) -> dict[str, int]:
        """Import until there is nothing to change: another results folder may change the same runs meanwhile.

        Where both do the same thing to one run, MLflow refuses the second, who then looks again.
        """
        from mlflow.exceptions import MlflowException

        for attempt in range(1, ATTEMPTS + 1):
            before = self._changes()
            try:
                self.run(cells, entries)
            except MlflowException as error:
                if error.error_code in ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE") or attempt == ATTEMPTS:
                    raise
                time.sleep(random.uniform(0.5, 1.5) * WAIT_SECONDS)
            else:
                if self._changes() == before:
                    break
        return self.counts

    def _changes(self) -> int:
        return self.counts["added"] + self.counts["replaced"] + self.counts["restored"]

    def _count(self, what: str) -> None:
        with self.counting:
            self.counts[what] += 1

    def _is_settled(self, cell: Cell) -> bool:
        """Whether nobody has changed what this import left of a cell."""
        runs = (run for several in self.known.get(cell.id, {}).values() for run in several if _is_active(run))
        return cell.id in self.cells and {run.info.run_id for run in runs} == self.cells[cell.id].runs

    def _put_cell(self, cell: Cell, own: list[Entry]) -> Settled:
        if not own:  # no run has a record
            return Settled()
        spec = own[0].tags["gt.spec"]
        others = self._of_others(cell.id, own)
        own = [entry for entry in own if entry.key not in others]
        parent_id = self.put(parent(self.study, cell, own + [_as_entry(run) for run in others.values()]), {})
        links = {"mlflow.parentRunId": parent_id}
        runs = {self.put(entry, {**links, "gt.results": self.results} if self.results else links) for entry in own}
        runs |= {self._keep(run, links) for run in others.values()}
        return Settled({parent_id, *runs}, 1 + len(own) + len(others.keys() & set(cell.runs.values())), spec)

    def put(self, entry: Entry, links: dict[str, str]) -> str:
        """The MLflow run of an entry: an equal one, restored if it was superseded, or else a new one. Others are superseded."""
        old = self.known.get(entry.cell, {}).get(entry.key, [])
        same = min((run for run in old if run.data.tags.get("gt.content") == entry.content), key=_rank, default=None)
        replaced = [run for run in old if run is not same and _is_active(run) and (_is_whole(run) or not self._is_foreign(run))]
        for run in replaced:
            self._supersede(run, "replaced")
        if same is not None:
            if not _is_active(same):
                self._count("restored")
            return self._keep(same, links)
        self._count("replaced" if replaced else "added")
        return self._create(entry, links)

    def _create(self, entry: Entry, links: dict[str, str]) -> str:
        from mlflow.entities import Metric, Param
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        tags = {**entry.tags, **links, "gt.key": entry.key, "gt.cell": entry.cell}
        tags = {name: _fitting(value, TAG_LENGTH) for name, value in tags.items()}
        name = _fitting(entry.name, NAME_LENGTH)
        run = self.client.create_run(self.experiment, start_time=entry.start, tags=tags, run_name=name)
        run_id: str = run.info.run_id
        params = [Param(_fitting(key, NAME_LENGTH), _fitting(value, PARAM_LENGTH)) for key, value in entry.params.items()]
        self.client.log_batch(run_id, [Metric(*point) for point in entry.metrics], params)  # in as few requests as may be
        # The client would ask for the run again, to know where its files go.
        files = get_artifact_repository(run.info.artifact_uri, tracking_uri=self.uri)
        for file in entry.files:
            files.log_artifact(str(file), EVALUATIONS if file.parent.name == EVALUATIONS else None)
        self.client.set_terminated(run_id, entry.status, entry.end)
        self.client.set_tag(run_id, "gt.content", entry.content)
        return run_id

    def _keep(self, run: Run, links: dict[str, str]) -> str:
        """Have a run that is there be active, with these links."""
        run_id: str = run.info.run_id
        if not _is_active(run):
            self.client.restore_run(run_id)
        if "gt.superseded" in run.data.tags:
            self.client.delete_tag(run_id, "gt.superseded")
        for name, value in links.items():
            if run.data.tags.get(name) != value:
                self.client.set_tag(run_id, name, value)
        return run_id

    def _supersede(self, run: Run, reason: str) -> None:
        from mlflow.exceptions import MlflowException

        run_id = run.info.run_id
        try:
            self.client.set_tag(run_id, "gt.superseded", reason)
            self.client.delete_run(run_id)
        except MlflowException:
            if _is_active(self.client.get_run(run_id)):
                raise
            # Another results folder was first.
        self.superseded.add(run_id)

    def _supersede_as_unplanned(self, run: Run) -> None:
        self._supersede(run, "not in the plan")
        self._count("superseded")

    def _rest(self) -> list[Run]:
        """Runs of ours that the plan does not have, runs of others in our cells that differ in more than the seed, and parents
        that have no run left. Runs that somebody has added by hand have no key, and stay."""
        specs = {cell: own.spec for cell, own in self.cells.items()}
        settled = self.superseded.union(*(own.runs for own in self.cells.values()))
        known = [run for by_key in self.known.values() for several in by_key.values() for run in several if _is_active(run)]
        rest = [run for run in known if run.info.run_id not in settled and "gt.key" in run.data.tags]
        seeds = [run for run in rest if "gt.seed" in run.data.tags]
        of_others = [run for run in seeds if self._is_foreign(run)]
        stay = [run for run in of_others if specs.get(run.data.tags["gt.cell"]) in (None, run.data.tags["gt.spec"])]
        # Those that stay, and their parents.
        kept = {run.info.run_id for run in stay} | {run.data.tags.get("mlflow.parentRunId") for run in stay}
        return [run for run in rest if run.info.run_id not in kept]

    def _of_others(self, cell: str, own: list[Entry]) -> dict[str, Run]:
        """By key, the runs of a cell that other results folders have imported and that stand.

        They differ from ours in no more than the seed. Of a run that both have, one that is finished stands before one that
        failed, and else one that is there before another.
        """
        by_key = {entry.key: entry for entry in own}
        stand = {}
        for key, runs in self.known.get(cell, {}).items():
            there = [run for run in runs if _is_active(run) and _is_whole(run)]
            entry = by_key.get(key)
            there = [r for r in there if self._is_foreign(r) or (entry and r.data.tags["gt.content"] == entry.content)]
            best = min(there, key=_rank, default=None)
            if best is None or not self._is_foreign(best) or best.data.tags["gt.spec"] != own[0].tags["gt.spec"]:
                continue
            if entry is None or best.info.status == "FINISHED" or entry.status != "FINISHED":
                stand[key] = best
        return stand

    def _is_foreign(self, run: Run) -> bool:
        return bool(run.data.tags.get("gt.results", self.results) != self.results)

    def _known(self) -> dict[str, dict[str, list[Run]]]:
        """The experiment's runs by cell and key."""
        from mlflow.entities import ViewType

        found: dict[str, Run] = {}  # where another import adds runs meanwhile, the next page begins with some of the last
        token = None
        while True:
            page = self.client.search_runs(
                [self.experiment], run_view_type=ViewType.ALL, max_results=RUNS_PER_PAGE, page_token=token
            )
            found |= {run.info.run_id: run for run in page}
            if not (token := page.token):
                break
        known: dict[str, dict[str, list[Run]]] = {}
        for run in found.values():
            tags = run.data.tags
            known.setdefault(tags.get("gt.cell", ""), {}).setdefault(tags.get("gt.key", ""), []).append(run)
        return known


def _is_active(run: Run) -> bool:
    return bool(run.info.lifecycle_stage == "active")


def _is_whole(run: Run) -> bool:
    return "gt.content" in run.data.tags


def _rank(run: Run) -> tuple[bool, bool, str]:
    """Which of several MLflow runs of one key stands, the same for every results folder: the least."""
    return not _is_active(run), run.info.status != "FINISHED", run.info.run_id


def _as_entry(run: Run) -> Entry:
    """What a parent has to know of a run that another results folder has imported."""
    info, tags = run.info, run.data.tags
    metrics = [(name, run.data.metrics[name], info.end_time, 0) for name in FINAL if name in run.data.metrics]
    return Entry(tags["gt.key"], tags["gt.cell"], info.run_name, info.status, info.start_time, info.end_time, tags, {}, metrics)


def _cells(plan: Plan) -> list[Cell]:
    """Those of a study, and what tuned them."""
    return [*plan.cells, *(cell for _, _, cell in trial_cells(plan))]


def _children(plan: Plan, runs_dir: Path, with_files: bool, cell: Cell) -> list[Entry]:
    """The entries of a cell's runs that have a record."""
    return [
        child(cell, seed, record, plan.runs[run_id], _files(plan, runs_dir / run_id) if with_files else [])
        for seed, run_id in cell.runs.items()
        if (record := read_record(runs_dir / run_id, run_id)).status != "missing"
    ]


def _files(plan: Plan, record: Path) -> list[Path]:
    """Those of a run's record that MLflow gets: of its evaluations, what the study asks for."""
    evaluations = [evaluation_file(record, name) for name in sorted(plan.asked_of(record.name))]
    return [file for file in (*(record / name for name in FILES), *evaluations) if file.exists()]


def child(cell: Cell, seed: int, record: Record, spec: RunSpec, files: list[Path]) -> Entry:
    """A run: its specification as parameters, its curves at the times and steps at which they were logged, its results.

    files: of the record, those that MLflow gets.
    """
    manifest = record.manifest
    start, end = (_milliseconds(manifest.started), _milliseconds(manifest.finished)) if manifest else (None, None)
    params = {**_cell_params(cell), **dict(_flat(spec.model_dump(mode="json")))}
    tags = {"gt.status": record.status, "gt.seed": str(seed), "gt.spec": _digest(json.dumps(params, sort_keys=True))}
    if record.reason:
        tags["gt.reason"] = record.reason
    if manifest and manifest.git_commit:
        tags["mlflow.source.git.commit"] = manifest.git_commit
    return Entry(
        key=record.run_id,
        cell=cell.id,
        name=f"{cell.id}.s{seed}",
        status="FINISHED" if record.status == "completed" else "FAILED",
        start=start,
        end=end,
        tags=tags,
        params={**params, "seed": str(seed)},
        metrics=[*_curve_points(record), *_final_points(record, end or 0)],
        files=files,
    )


def parent(study: str, cell: Cell, children: list[Entry]) -> Entry:
    """A cell: means over its completed runs, the 95 % interval of the bits per byte, the time from first to last."""
    planned = {*cell.runs.values(), *(entry.key for entry in children)}
    done = sorted((entry for entry in children if entry.status == "FINISHED"), key=lambda entry: entry.key)
    end = max((entry.end for entry in done if entry.end), default=None)
    values = {"seeds_completed": float(len(done))}
    for name in FINAL:
        estimate = mean_interval([value for entry in done for key, value, _, _ in entry.metrics if key == name])
        if estimate.mean is not None:
            values[name] = estimate.mean
        if name == FINAL[0] and estimate.lower is not None and estimate.upper is not None:
            values |= {f"{name}_lower": estimate.lower, f"{name}_upper": estimate.upper}
    return Entry(
        key=f"{study}/{cell.id}",
        cell=cell.id,
        name=cell.id,
        status="FINISHED" if len(done) == len(planned) else "FAILED",
        start=min((entry.start for entry in done if entry.start), default=None),
        end=end,
        tags={"gt.status": f"{len(done)} of {len(planned)} completed", "gt.runs": ",".join(sorted(planned))},
        params=_cell_params(cell),
        metrics=[(name, value, end or 0, 0) for name, value in values.items()],
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
    if (manifest := record.manifest) is None:
        return
    found, probes = record.held_out, record.probes.measurements if record.probes else []
    share = next((own.value for own in probes if own.metric == "ablation/share/<branch>"), None)
    val, test = (found.get(f"{split}/bits_per_byte") for split in ("val", "test"))
    measured = (val, found.get("val/loss"), share, test, manifest.tokens_per_second, manifest.usage.peak_memory_bytes)
    for name, value in (*zip(FINAL, measured, strict=True), *_plain(record)):
        if value is not None and math.isfinite(value):
            yield name, float(value), end, manifest.steps_completed


def _plain(record: Record) -> Iterator[tuple[str, float | None]]:
    """What evaluations and probes of other packages measured of the network, with the value of an axis beside the name."""
    shown = {**plain("evaluation"), **plain("probe")}
    measured = [own for evaluation in record.evaluations.values() for own in evaluation.measurements]
    for own in (*measured, *(record.probes.measurements if record.probes else ())):
        if own.metric in shown and own.layer is None:
            yield own.name if own.at is None else f"{own.name}/at_{own.at:g}", own.value


def _cell_params(cell: Cell) -> dict[str, str]:
    return {"variant": cell.variant, "corpus": cell.corpus, "tokenizer": cell.tokenizer}


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Dotted path and text of every leaf but the seed, which stands by itself; what is not set is left out."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield from _flat(part, f"{path}.{name}" if path else name)
    elif value is not None and path != "seed":
        yield path, value if isinstance(value, str) else json.dumps(value)


def _milliseconds(time: datetime) -> int:
    return round(1000 * time.timestamp())


def _fitting(text: str, length: int) -> str:
    """A text that MLflow would cut, cut here with a hash of all of it, so that texts which differ are logged as different."""
    return text if len(text) <= length else f"{text[: length - 20]}... {_digest(text)}"


def _digest(text: str) -> str:
    """16 hex digits."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]
