"""What a trained model can do, a file for each thing that is measured: `evaluations/<name>.json` of a run's record.

Held-out losses are measured always, and the recall of a task; what takes longer where a study asks for it. Studies that share
a run add to what is there, in any order and at the same time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gt.artefacts import HELD_OUT, VALIDATION, Evaluation, evaluation_file, now, read_manifest, write
from gt.data.slices import EVALUATION_BYTES
from gt.errors import ConfigError, nearest
from gt.evals.cost import cost
from gt.evals.generation import generation
from gt.evals.language import held_out
from gt.evals.long_context import long_context
from gt.evals.needle import needle
from gt.evals.quantisation import quantisation
from gt.evals.recall import recall
from gt.evals.subject import Subject
from gt.evals.validation import validation
from gt.fingerprint import code_of_evaluation
from gt.numbers import finite
from gt.records import WEIGHTS, read_json
from gt.stage import is_evaluated
from gt.training.provenance import device_name

Json = dict[str, Any]
# What a study may ask for under `evaluations`.
FURTHER: dict[str, Callable[[Subject], Json]] = {
    "long_context": long_context,
    "needle": needle,
    "generation": generation,
    "cost": cost,
    "quantisation": quantisation,
}
# Those that read on through a text; of a recall task, most of which is noise, they are null.
OF_TEXTS = ("long_context", "needle", "quantisation")


@dataclass(frozen=True)
class Measurement:
    """How one thing is measured: with which settings, and what gives its value."""

    settings: dict[str, int | float | str | list[int] | None]
    value: Callable[[Subject], Json | None]


def evaluate(run: Path, data: Path, device: torch.device, names: Iterable[str]) -> None:
    """Add evaluations to a run's record. Of a run that diverged, their values are null.

    What the record has already, measured by this version of the code on these very weights, is not measured again. ConfigError
    where the record has no weights, is damaged, belongs to other data or other code, or a name is not one.
    """
    due = {name: measurement(name) for name in names if not is_evaluated(run, [name])}
    if not due:
        return
    manifest, subject = read_manifest(run), Subject.load(run, data, device)
    for name, own in due.items():
        value = own.value(subject) if manifest.status == "completed" else None
        found = Evaluation(
            name=name,
            run_id=manifest.run_id,
            weights=manifest.files[WEIGHTS].sha256,
            code=code_of_evaluation(subject.spec, name),
            settings=own.settings,
            measured=now(),
            device=device_name(device),
            value=finite(value),
        )
        write(evaluation_file(run, name), found)


def measurement(name: str) -> Measurement:
    """ConfigError for a name that is none."""
    what, _, number = name.partition("-")
    if name == HELD_OUT:
        return Measurement({"bytes": EVALUATION_BYTES}, _held_out)
    if name == "recall":
        return Measurement({}, recall)
    if what == VALIDATION and number.isdecimal():
        return Measurement({"bytes": int(number)}, lambda subject: validation(subject, int(number)))
    if name not in FURTHER:
        known = (*FURTHER, HELD_OUT, "recall", f"{VALIDATION}-<bytes>")
        raise ConfigError(f"unknown evaluation {name!r}." + nearest(name, known))
    return Measurement({}, lambda subject: _further(subject, name))


def _held_out(subject: Subject) -> Json:
    splits = [split for split in ("val", "test") if getattr(subject.tokens, split) is not None]
    return {"splits": {split: held_out(subject, split) for split in splits}, "ngram": read_json(subject.data / "ngram.json")}


def _further(subject: Subject, name: str) -> Json | None:
    is_text = subject.spec.corpus.task is None
    return FURTHER[name](subject) if is_text or name not in OF_TEXTS else None
