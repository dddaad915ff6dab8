"""Documents of the first schema as those of the second: the one place that knows what they were like.

The first had no `schema_version`. A run's name depended on how the run was looked at; its evaluations stood in one file; its
code was known as sums of whole packages; and what it took of a shared device was divided within its process alone, so that
none of it can be told now.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

from gt.artefacts import HELD_OUT, SCHEMA, Plan, Usage, parsed
from gt.errors import ConfigError
from gt.explain import validated
from gt.spec import Further, RunSpec

Json = dict[str, Any]
VERSION = {"schema_version": SCHEMA}
UNMEASURED = "the first schema divided it within a process alone"
# What a manifest of the second schema has, and the first may lack.
ABSENT: Json = {
    **dict.fromkeys(("data_sha256", "vocab_size", "git_commit", "device", "gpu", "threads", "engine", "compiled")),
    "code": {},
    "versions": {},
    "backend": {},
    "resumed_from": [],
    "files": {},
    "processes": 1,
    "stacked": 1,
    "cohorts": 1,
}
# What the second has under another name, or nowhere.
GONE = ("git_dirty", "energy_joules", "peak_memory_bytes")
# What the first had in `training`, and is an option of the optimizer now.
OF_OPTIMIZER = ("beta1", "beta2", "epsilon")


def is_first(document: Any) -> bool:
    """Whether a document is of the first schema."""
    return isinstance(document, dict) and "schema_version" not in document


def plan(old: Json, source: object) -> tuple[Plan, dict[str, str]]:
    """A plan, and by what each of its runs was called the name that it has now. ConfigError for another form."""
    runs, started = (_mapping(old, key, source) for key in ("runs", "started"))
    runs = {run: _specification(spec) for run, spec in runs.items()}
    specs = {run: validated(RunSpec, spec, f"{source}: runs: {run}", briefly=True) for run, spec in runs.items()}
    then: dict[str, str] = {}
    for run, spec in specs.items():
        if not run.endswith(f"-{(was := _first_sum(spec))[:10]}"):
            raise ConfigError(f"{source}: runs: {run!r} is the id of another specification, whose sum is {was[:10]}.")
        if (other := then.setdefault(spec.run_id, run)) != run:
            raise ConfigError(f"{source}: runs: {run!r} is the run {other!r} by another name.")
    names = {run: name for name, run in then.items()}
    try:
        cells = [{**cell, "runs": {seed: names.get(run, run) for seed, run in cell["runs"].items()}} for cell in old["cells"]]
    except (AttributeError, KeyError, TypeError):
        raise ConfigError(f"{source}: cells: must be a list of cells, each with its runs.") from None
    runs, started = {names[run]: runs[run] for run in runs}, {names.get(run, run): time for run, time in started.items()}
    return parsed(Plan, {**old, **VERSION, "cells": cells, "runs": runs, "started": started}, source), names


def _specification(old: Any) -> Any:
    """A specification without those options, which all have at their defaults: the sum of another is not its run's name."""
    if not isinstance(old, dict) or not isinstance(training := old.get("training"), dict):
        return old
    return {**old, "training": {key: value for key, value in training.items() if key not in OF_OPTIMIZER}}


def _mapping(old: Json, key: str, source: object) -> Json:
    if not isinstance(found := old.get(key, {}), dict):
        raise ConfigError(f"{source}: {key}: must be a mapping of keys to values.")
    return found


def _first_sum(spec: RunSpec) -> str:
    """Of a specification, in the first schema, which counted how a run was looked at."""
    return spec.sum(looks=True)


def documents(kind: str, old: Json, spec: RunSpec, source: object) -> Iterator[tuple[str, str, Json]]:
    """A document of a run's record as those that it is now: of each its kind and name. spec: of the run, followed as it was.

    ConfigError for a kind that the first schema did not have, and for evaluations without names.
    """
    match kind:
        case "manifest":
            yield kind, "", manifest(old, spec)
        case "evaluation":
            names = old.get("evaluations", [])
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                raise ConfigError(f"{source}: evaluations: must be a list of names.")
            yield from (("evaluations", name, own) for name, own in evaluations(old, spec.run_id).items())
        case "probes":
            yield kind, "", probes(old, spec.run_id)
        case "failure":
            yield kind, "", failure(old)
        case _:
            raise ConfigError(f"{source}: schema_version: is missing, and the first schema had no {kind}.")


def manifest(old: Json, spec: RunSpec) -> Json:
    """spec: of the run, followed as it was."""
    kept = {key: value for key, value in old.items() if key not in GONE}
    dirty = old.get("git_dirty")
    usage = Usage.nothing(UNMEASURED).model_dump()
    modified = None if dirty is None else ["?"] if dirty else []
    own = {"run_id": spec.run_id, "watch": spec.training.watch.model_dump(), "modified": modified, "usage": usage}
    return {**ABSENT, **kept, **VERSION, **own, "attempts": []}


def evaluations(old: Json, run_id: str) -> dict[str, Json]:
    """By their names, from the one file that had all."""
    code = {"evals": old["code"]} if "code" in old else {}
    about = {**VERSION, "run_id": run_id, "weights": None, "code": code, "settings": {}, "measured": None, "device": None}
    splits = old.get("splits")
    values: Json = {HELD_OUT: {"splits": splits, "ngram": old.get("ngram", {})} if splits else None}
    values |= {name: old[name] for name in ("recall", *get_args(Further)) if name in old}
    values |= {name: None for name in old.get("evaluations", []) if name not in values}
    return {name: {**about, "name": name, "value": value} for name, value in values.items()}


def probes(old: Json, run_id: str) -> Json:
    """run_id: what the run is called now."""
    code = {"probes": old["code"]} if "code" in old else {}
    about = {**VERSION, "run_id": run_id, "weights": None, "code": code, "measured": None, "device": None}
    return {**about, "measures": old.get("measures")}


def failure(old: Json) -> Json:
    """Which said at what step as well, which nobody knew."""
    return {**VERSION, "error": old.get("error")}
