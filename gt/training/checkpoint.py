"""Checkpoints: all that a cohort needs to go on as if it had never stopped, in one safetensors file.

Every random draw is a function of the seed and the step, so weights, optimizer moments and the curves so far are the
whole state. A checkpoint belongs to certain runs, one data set and one version of the training code. It carries a sum of all
that it holds, which is checked when it is read.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from gt.records import atomic_write
from gt.training import snapshot
from gt.training.cohort import Cohort
from gt.training.weights import weights_sum

FILE = "checkpoint.safetensors"


@dataclass(frozen=True)
class Progress:
    """What was before the present attempt."""

    seconds: float = 0.0  # spent training, over all attempts
    resumed_from: tuple[int, ...] = ()  # the step at which each resumed attempt began
    attempts: tuple[str, ...] = ()  # their ids, the first first


def save(folder: Path, cohort: Cohort, progress: Progress) -> None:
    """Write a checkpoint over the last one, whole or not at all. The cohort must have been collected."""
    found, own = snapshot.taken(cohort)
    tensors = {name: t.detach().cpu().contiguous() for name, t in found.items()}
    metadata = {"identity": cohort.identity, "about": json.dumps({"cohort": own, **asdict(progress)})}
    metadata["sha256"] = _sha256(tensors, metadata["about"])
    with atomic_write(folder / FILE) as temporary:
        save_file(tensors, temporary, metadata)


def _sha256(tensors: dict[str, Tensor], about: str) -> str:
    """Of all that a checkpoint holds."""
    return hashlib.sha256(f"{weights_sum(tensors)} {about}".encode()).hexdigest()


def load(folder: Path, cohort: Cohort) -> Progress | str | None:
    """Restore a cohort. Returns its progress; or why there is a checkpoint but it cannot be used (the cohort is then as it
    was); or None where there is none.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        return f"it is damaged ({error})"
    if metadata.get("identity") != cohort.identity:
        return "it is of another specification, data set, device or version of the code"
    if metadata.get("sha256") != _sha256(tensors, metadata.get("about", "")):
        return "it is damaged (what it holds has another sha256 than was written)"
    about = json.loads(metadata["about"])
    snapshot.restore(cohort, tensors, about["cohort"])
    return Progress(about["seconds"], tuple(about["resumed_from"]), tuple(about["attempts"]))


def set_aside(folder: Path) -> Path:
    """Give a checkpoint that cannot be used another name, so that the next does not replace it. Returns where it is."""
    path = folder / FILE
    aside = path.with_name(f"unusable-{int(path.stat().st_mtime)}-{FILE}")
    path.rename(aside)
    return aside


def remove(folder: Path) -> None:
    """Remove a cohort's checkpoints."""
    shutil.rmtree(folder, ignore_errors=True)
