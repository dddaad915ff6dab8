"""Why a run, or a measurement of it, would be made again: what is not there, not whole, or of other tokens or code than now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from gt import stage
from gt.errors import ConfigError, nearest
from gt.fingerprint import EVALUATIONS, code_of_evaluation, code_of_probes, code_of_training, differences
from gt.made import content
from gt.records import EVALUATION, MANIFEST, PROBES, RECORD, SPEC, read_sealed
from gt.spec import RunSpec, recorded_spec

Json = dict[str, Any]


def why_rerun(run: str, runs: Path, plan: Json | None = None) -> str:
    """What of a run is current, a line each for its training, its evaluations and its probes, and why what is not.

    plan: of a study that asks for the run; without one, what its record says and has counts as asked for. ConfigError for a run
    that is neither planned nor has a record.
    """
    record, planned = runs / run, plan["runs"] if plan else {}
    if run not in planned and not record.is_dir():
        known = [*planned, *(folder.name for folder in runs.glob("*") if folder.is_dir())]
        raise ConfigError(f"unknown run {run!r}." + (nearest(run, known) if known else f" There is none in {runs}."))
    spec = RunSpec.model_validate(planned[run]) if run in planned else recorded_spec(record)
    further = plan["evaluations"] if plan else []
    data = runs.parent / "data" / spec.corpus.id / spec.tokenizer.id
    return "\n".join(_line(what, why) for what, why in reasons(record, spec, data, further).items())


def reasons(record: Path, spec: RunSpec, data: Path, further: Iterable[str]) -> dict[str, list[str]]:
    """Of the training, each evaluation and the probes of a run, why it would be made again; nothing where it is current."""
    training = _of_training(record, spec, data)
    found = {"training": training}
    evaluation, evaluated = _measurement(record, EVALUATION)
    known: Any = evaluation.get("code", {})
    if not isinstance(known, dict):  # one sum of all of them
        known = {name: {"gt.evals": known} for name in stage.evaluations_of(spec)}
    names = stage.evaluations_of(spec, further) | known.keys()
    for name in (name for name in EVALUATIONS if name in names):
        missing = [] if name in known else ["it was not measured"]
        found[name] = evaluated or missing or _of_code(known[name], code_of_evaluation(spec, name))
    probes, probed = _measurement(record, PROBES)
    found["probes"] = probed or _of_code(probes.get("code"), code_of_probes(spec))
    return {what: (["the training is made again"] if training and what != "training" else why) for what, why in found.items()}


def _line(what: str, why: list[str]) -> str:
    return f"{what}: {'would be made again: ' + '; '.join(why) if why else 'is current'}"


def _of_training(record: Path, spec: RunSpec, data: Path) -> list[str]:
    if not (record / MANIFEST).exists():
        return ["there is no record"]
    if damaged := [name for name in stage.damaged(record) if name in RECORD]:
        return [f"damaged or missing: {', '.join(damaged)}"]
    manifest, tokens, why = read_sealed(record / MANIFEST), stage.tokens_sum(data), []
    if recorded_spec(record) != spec:
        why.append(f"its {SPEC} is not the specification of the plan")
    if tokens is not None and manifest.get("data_sha256") != tokens:
        why.append(f"it was trained on other tokens than {data} holds")
    return why + _of_code(manifest.get("code"), code_of_training(spec))


def _measurement(record: Path, name: str) -> tuple[Json, list[str]]:
    """A measurement of a record, and why none of it counts."""
    if not (record / name).exists():
        return {}, ["there is no record"]
    if not stage.is_document(record / name):
        return {}, [f"damaged: {name}"]
    measured = read_sealed(record / name)
    return measured, [] if measured.get("manifest") == content(record / MANIFEST) else [
        "it is of an earlier training of the run"
    ]


def _of_code(recorded: Any, now: Mapping[str, str]) -> list[str]:
    return differences(recorded if isinstance(recorded, dict) else {}, now)
