"""`evaluation.json`: what a trained model can do. Held-out losses always; what takes longer where a study asks for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from gt.errors import ConfigError, nearest
from gt.evals.cost import cost
from gt.evals.generation import generation
from gt.evals.language import held_out
from gt.evals.long_context import long_context
from gt.evals.needle import needle
from gt.evals.quantisation import quantisation
from gt.evals.recall import recall
from gt.evals.subject import Subject
from gt.fingerprint import code_of_evaluation
from gt.numbers import finite
from gt.records import EVALUATION, MANIFEST, file_sha256, read_json, read_sealed, write_sealed
from gt.stage import evaluated, evaluations_of

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


def evaluate(run: Path, data: Path, device: torch.device, further: Sequence[str] = ()) -> None:
    """Write `evaluation.json` into a run record. A run that diverged has none of the measurements.

    What the record has already, measured by this version of the code on these very weights, is kept and not measured again.
    ConfigError where the record has no weights, is damaged, belongs to other data or other code, or `further` names what is
    not there.
    """
    for name in further:
        if name not in FURTHER:
            raise ConfigError(f"unknown evaluation {name!r}." + nearest(name, FURTHER))
    manifest = read_sealed(run / MANIFEST)
    subject = Subject.load(run, data, device)
    current = evaluated(run)
    known = read_sealed(run / EVALUATION) if current else {"splits": {}, "evaluations": [], "code": {}}
    evaluation: Json = {"run_id": manifest["run_id"], "status": manifest["status"], **known}
    missing = evaluations_of(subject.spec, further) - current
    if manifest["status"] == "completed":
        is_text = subject.spec.corpus.task is None
        if "held_out" in missing:
            splits = [split for split in ("val", "test") if getattr(subject.tokens, split) is not None]
            evaluation["splits"] = {split: held_out(subject, split) for split in splits}
        if "recall" in missing:
            evaluation["recall"] = recall(subject)
        for name in sorted(missing & FURTHER.keys()):
            evaluation[name] = FURTHER[name](subject) if is_text or name not in OF_TEXTS else None
    evaluation |= {
        "ngram": read_json(data / "ngram.json"),
        "evaluations": sorted({*known["evaluations"], *further}),
        "code": {**known["code"], **{name: code_of_evaluation(subject.spec, name) for name in sorted(missing)}},
        "manifest": file_sha256(run / MANIFEST),
    }
    write_sealed(run / EVALUATION, finite(evaluation))
