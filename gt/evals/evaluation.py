"""Evaluating a run: a file for each thing that is measured, `evaluations/<name>.json` of its record.

Held-out losses are measured always, and the recall of a task; what else, a study says (`gt.asked`). Studies that share a run
add to what is there, in any order and at the same time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import torch

from gt.artefacts import Evaluation, evaluation_file, now, read_manifest, write
from gt.asked import Asked
from gt.catalogue import Component
from gt.errors import ConfigError, nearest
from gt.evals.subject import Subject
from gt.fingerprint import code_of_evaluation
from gt.metrics import Measurement
from gt.records import WEIGHTS
from gt.stage import is_evaluated
from gt.training.provenance import device_name


def evaluate(run: Path, data: Path, device: torch.device, names: Iterable[str]) -> None:
    """Add evaluations to a run's record. Of a run that diverged, they have no measurements.

    names: as `gt.asked.Asked` has them. What the record has already, measured by this version of the code on these very
    weights, is not measured again. ConfigError where the record has no weights, is damaged, belongs to other data or code,
    or a name is not one.
    """
    due = [Asked.of(name) for name in names]
    due = [asked for asked in due if not is_evaluated(run, [asked.text])]
    if not due:
        return
    manifest, subject = read_manifest(run), Subject.load(run, data, device)
    for asked in due:
        found = Evaluation(
            name=asked.label,
            run_id=manifest.run_id,
            weights=manifest.files[WEIGHTS].sha256,
            code=code_of_evaluation(subject.spec, asked.name),
            settings=asked.config.model_dump(mode="json"),
            measured=now(),
            device=device_name(device),
            measurements=list(measured(asked, subject)) if manifest.status == "completed" else [],
        )
        write(evaluation_file(run, asked.label), found)


def measured(asked: Asked, subject: Subject) -> Iterator[Measurement]:
    """What an evaluation measures of a model; nothing where it is of other corpora."""
    evaluation = asked.component.load()(asked.config)
    if evaluation.on in ("both", "texts" if subject.spec.corpus.task is None else "tasks"):
        yield from declared(asked.component, evaluation.measure(subject))


def declared(component: Component, measurements: Iterable[Measurement]) -> Iterator[Measurement]:
    """Measurements as they are. ConfigError for one that is of none of the component's metrics."""
    known = [metric.name for metric in component.metrics]
    for own in measurements:
        if own.metric not in known:
            raise ConfigError(
                f"{component.module}.{component.class_name}: {own.metric!r} is none of its metrics."
                + nearest(own.metric, known)
            )
        yield own
