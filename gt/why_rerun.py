"""Why a run, or a measurement of it, would be made again: what is not there, not whole, or of other tokens or code than now."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gt import stage
from gt.artefacts import Evaluation, Plan, Probes, evaluation_file, read_evaluation, read_probes, read_run
from gt.asked import Asked
from gt.errors import ConfigError, nearest
from gt.fingerprint import code_of_evaluation, code_of_probes, code_of_training, differences
from gt.records import EVALUATIONS, MANIFEST, PROBES, RECORD, WEIGHTS, within
from gt.spec import RunSpec
from gt.wanted import Wanted, wanted


def why_rerun(run: str, runs: Path, plan: Plan | None = None) -> str:
    """What of a run is current, a line each for its training, its evaluations and its probes, and why what is not.

    plan: of a study that asks for the run; without one, what its record says and has counts as asked for. ConfigError for a run
    that is neither planned nor has a record.
    """
    record, planned = runs / run, plan.runs if plan else {}
    if run not in planned and not record.is_dir():
        known = [*planned, *(folder.name for folder in runs.glob("*") if folder.is_dir())]
        raise ConfigError(f"unknown run {run!r}." + (nearest(run, known) if known else f" There is none in {runs}."))
    spec = planned[run] if run in planned else read_run(record)[0]
    data = runs.parent / "data" / spec.corpus.id / spec.tokenizer.id
    own = wanted([plan])[run] if plan and run in planned else Wanted((spec,), probed=(record / PROBES).exists())
    return "\n".join(_line(what, why) for what, why in reasons(record, own, data).items())


def reasons(record: Path, own: Wanted, data: Path) -> dict[str, list[str]]:
    """Of the training, each evaluation and the probes of a run, why it would be made again; nothing where it is current."""
    spec = own.looks[0]
    training = _of_training(record, spec, data)
    there = [file.stem for file in (record / EVALUATIONS).glob("*.json")]
    trained = spec if training else read_run(record)[0]
    names = sorted({*(Asked.of(own).label for own in own.evaluations(trained)), *there})
    if training:
        again = ["the training is made again"]
        return {"training": training, **dict.fromkeys((*names, "probes"), again)}
    found = {name: _of(record, name, evaluation_file(record, name), spec) for name in names}
    return {"training": [], **found, "probes": _of(record, PROBES, record / PROBES, spec)}


def _line(what: str, why: list[str]) -> str:
    return f"{what}: {'would be made again: ' + '; '.join(why) if why else 'is current'}"


def _of_training(record: Path, spec: RunSpec, data: Path) -> list[str]:
    if not (record / MANIFEST).exists():
        return ["there is no record"]
    if damaged := [name for name in stage.damaged(record) if name in RECORD]:
        return [f"damaged or missing: {', '.join(damaged)}"]
    (recorded, manifest), tokens, why = read_run(record), stage.tokens_sum(data), []
    if recorded.sha256 != spec.sha256:
        why.append("it is of another specification than the plan's")
    if tokens is not None and manifest.data_sha256 != tokens:
        why.append(f"it was trained on other tokens than {data} holds")
    return why + differences(manifest.code, code_of_training(spec))


def _of(record: Path, name: str, file: Path, spec: RunSpec) -> list[str]:
    """Of a measurement."""
    if not file.exists():
        return ["it was not measured"]
    read: Callable[[], Evaluation | Probes] = (
        (lambda: read_probes(record)) if name == PROBES else (lambda: read_evaluation(record, name))
    )
    try:
        found = read()
    except ConfigError as error:
        return [within(record, error)]
    if found.weights != read_run(record)[1].files[WEIGHTS].sha256:
        return ["it is of earlier weights"]
    return differences(found.code, code_of_probes(spec) if name == PROBES else code_of_evaluation(spec, name))
