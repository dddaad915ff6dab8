"""A small study with known records, its import into MLflow, and what is read back."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import records
from mlflow.entities import Run, ViewType
from mlflow.tracking import MlflowClient

from gt.tracking import sync


def small() -> dict[str, Any]:
    return records.plan(seeds=2, variants={"GPT-2": 0, "WS": 0, "HY": 0}, tokenizers=("char",))


def of(label: str) -> str:
    """The id of a run of that study, or of one with more seeds."""
    return records.named(records.plan(seeds=4, variants={"GPT-2": 0, "WS": 0, "HY": 0}, tokenizers=("char",)), label)


def other_steps() -> dict[str, Any]:
    """The same study after its steps were changed: every run is another one."""
    plan = small()
    runs = {run: {**spec, "training": {**spec["training"], "steps": 12}} for run, spec in plan["runs"].items()}
    return records.identified({**plan, "runs": runs})


def track(root: Path, plan: dict[str, Any] | None = None, uri: str = "") -> dict[str, int]:
    """What an import did, without what it did not."""
    counts = sync(records.planned(plan or small()), root / "runs", uri or f"sqlite:///{root}/mlflow.db")
    return {name: count for name, count in counts.items() if count}


def found(uri: str, view: int = ViewType.ACTIVE_ONLY, filter_string: str = "", study: str = "synthetic") -> list[Run]:
    """The runs that MLflow lists for the study."""
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(study)
    return list(client.search_runs([experiment.experiment_id], filter_string, view, max_results=1000))


def read(root: Path, uri: str = "") -> tuple[MlflowClient, dict[str, Any]]:
    """All live runs of the study by key."""
    uri = uri or f"sqlite:///{root}/mlflow.db"
    runs = found(uri)
    by_key = {run.data.tags["gt.key"]: run for run in runs}
    assert len(by_key) == len(runs), "a key twice"
    return MlflowClient(uri), by_key


def keys(plan: dict[str, Any]) -> set[str]:
    """Those of a plan's cells and of its runs."""
    return {f"synthetic/{cell['id']}" for cell in plan["cells"]} | set(plan["runs"])


def shown(uri: str, study: str = "synthetic") -> dict[str, Any]:
    """All that MLflow shows of a study's runs, by key, but for the ids that it gives, whose they are, and when one without a
    record was imported."""
    client, mine = MlflowClient(uri), {"mlflow.parentRunId", "mlflow.user", "gt.results"}
    runs = found(uri, study=study)
    keys_of = {run.info.run_id: run.data.tags["gt.key"] for run in runs}
    assert len(set(keys_of.values())) == len(runs), "a key twice"
    return {
        keys_of[run.info.run_id]: {
            "about": (run.info.run_name, run.info.status),
            "times": (run.info.start_time, run.info.end_time) if run.data.tags["gt.status"] != "failed" else None,
            "parent": keys_of.get(run.data.tags.get("mlflow.parentRunId")),
            "params": run.data.params,
            "tags": {name: value for name, value in run.data.tags.items() if name not in mine},
            "curves": {
                name: sorted((m.step, m.timestamp, m.value) for m in client.get_metric_history(run.info.run_id, name))
                for name in run.data.metrics
            },
            "files": sorted(
                file.path for folder in ("", "evaluations") for file in client.list_artifacts(run.info.run_id, folder)
            ),
        }
        for run in runs
    }


def at_once(roots: list[Path], uri: str, plans: Sequence[dict[str, Any] | None] = (None,)) -> None:
    """Import several results folders, each with all of these plans, at the same time."""
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=track, args=(root, plan, uri)) for root in roots for plan in plans]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * len(processes)
