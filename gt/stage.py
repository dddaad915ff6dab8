"""Finished records that stand aside until the workflow asks for them.

Snakemake removes the outputs of a job before it starts and when it fails. A pack trains many runs in one job, so what it
has finished stands in `results/staged/<run_id>/`, where Snakemake does not look, and the jobs of the runs themselves bring
it to `results/runs/`. The files are hard links of each other: that is quick, and takes no space.

Nothing here imports torch.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from gt.fingerprint import PROBING_PARTS, TRAINING_PARTS, fingerprint
from gt.records import EVALUATION, PROBES, RECORD, read_json, temporary_name
from gt.spec import RunSpec


def is_trained(record: Path, spec: RunSpec, data: Path) -> bool:
    """Whether a folder holds a whole record of this specification, these tokens and this version of the training code."""
    if not all((record / name).exists() for name in RECORD):
        return False
    manifest = read_json(record / "manifest.json")
    return (
        manifest["data_sha256"] == read_json(data / "tokens.json")["sha256"]
        and manifest["code"] == {part: fingerprint(part) for part in TRAINING_PARTS}
        and RunSpec.model_validate(read_json(record / "spec.json")) == spec
    )


def is_evaluated(record: Path, further: Iterable[str] = ()) -> bool:
    """Whether a trained record was evaluated by this version of the code, and has what else is asked for."""
    if not (record / EVALUATION).exists():
        return False
    evaluation = read_json(record / EVALUATION)
    return evaluation["code"] == fingerprint("evals") and set(further) <= set(evaluation["evaluations"])


def is_probed(record: Path) -> bool:
    """Whether a trained record was looked into by this version of the code."""
    return (record / PROBES).exists() and read_json(record / PROBES)["code"] == fingerprint(*PROBING_PARTS)


def set_aside(record: Path, staged: Path, spec: RunSpec, data: Path) -> bool:
    """Have what is finished of a run in `staged`, from its record or from an earlier pack. Returns whether it is trained."""
    if is_trained(record, spec, data):
        shutil.rmtree(staged, ignore_errors=True)
        measured = [name for name, known in ((EVALUATION, is_evaluated), (PROBES, is_probed)) if known(record)]
        bring(record, staged, *RECORD, *measured)
        return True
    if is_trained(staged, spec, data):
        return True
    shutil.rmtree(staged, ignore_errors=True)
    return False


def bring(source: Path, target: Path, *names: str) -> None:
    """Have files in another folder too, each whole or not at all, in this order."""
    target.mkdir(parents=True, exist_ok=True)
    for name in names:
        temporary = temporary_name(target / name)
        try:
            os.link(source / name, temporary)
        except OSError:  # not all file systems have links
            shutil.copy2(source / name, temporary)
        os.utime(temporary)  # Snakemake compares times
        os.replace(temporary, target / name)
        temporary.unlink(missing_ok=True)  # renaming one link of a file to another does nothing


def release(staged: Path, name: str) -> None:
    """Give up a measurement that has been fetched, and with the last of them the whole folder."""
    (staged / name).unlink(missing_ok=True)
    if not any((staged / other).exists() for other in (EVALUATION, PROBES)):
        shutil.rmtree(staged, ignore_errors=True)
