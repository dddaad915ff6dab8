"""What cannot work is refused when a study is planned, before any job of it.

Nothing here imports torch.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from gt.artefacts import Plan
from gt.errors import ConfigError
from gt.tracking_store import check_access, check_uri, hidden

RESULTS, LOGS = Path("results"), Path("logs")
# Bytes that a file's name may have beside a run's or study's, as `.jsonl` of its benchmark.
ROOM = 16
# A layer has more weights of four bytes than four matrices of d_model x d_model.
BYTES_PER_LAYER = 4 * 4


def check(plans: Iterable[Plan], device: str, uri: str, gpus: int | None) -> None:
    """ConfigError where the jobs of these plans would end with one.

    gpus: how many this machine has; None where the jobs run on others.
    """
    plans = list(plans)
    if device == "cuda" and gpus == 0:
        hidden = " that CUDA_VISIBLE_DEVICES shows" if "CUDA_VISIBLE_DEVICES" in os.environ else ""
        raise ConfigError(f"config: device: 'cuda' needs a GPU, and this machine has none{hidden}. Allowed here: auto, cpu.")
    check_uri(uri)
    for folder in (RESULTS, LOGS):
        check_folder(folder)
    for plan in plans:
        check_names(plan)
    check_space(plans)


def check_tracking(uri: str) -> None:
    """ConfigError where a server or database for the runs refuses, which takes a request. Says so where none answers."""
    check_uri(uri)
    if silence := check_access(uri):
        print(
            f"gt: MLflow at {hidden(uri)} does not answer: {silence}. Nothing waits for it: runs are trained, and imported at "
            "the end if it answers then, or later (docs/howto/mlflow.md).",
            file=sys.stderr,
        )


def check_folder(folder: Path) -> None:
    """ConfigError where no file can be written into a folder, or into where it will be made."""
    if folder.is_symlink() and not folder.exists():
        raise ConfigError(f"{folder}: is a link to {os.readlink(folder)}, which is not there.")
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder}: must be a folder, and is a file.")
    try:
        with tempfile.TemporaryFile(dir=_nearest(folder)):
            pass
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written into ({error.strerror}).") from None


def check_names(plan: Plan) -> None:
    """ConfigError where a name of a plan, which becomes that of a file, is longer than the file system allows."""
    allowed = os.pathconf(_nearest(RESULTS), "PC_NAME_MAX") - ROOM
    for kind in ("runs", "corpora", "tokenizers"):
        for name in getattr(plan, kind):
            if (length := len(os.fsencode(name))) > allowed:
                raise ConfigError(
                    f"study {plan.study}: the name {name!r} of one of its {kind} has {length} bytes. Allowed:"
                    f" {allowed}, as it is a folder's; shorten the variant's `label`, or the corpus's or factors' names."
                )


def check_space(plans: Iterable[Plan]) -> None:
    """ConfigError where the weights of the runs that have no record yet, at their least, do not fit on the disk."""
    missing = {
        run: spec.model
        for plan in plans
        for run, spec in plan.runs.items()
        if not (RESULTS / "runs" / run / "model.safetensors").exists()
    }
    needed = sum(BYTES_PER_LAYER * model.n_layer * model.d_model**2 for model in missing.values())
    free = shutil.disk_usage(_nearest(RESULTS)).free
    if needed > free:
        raise ConfigError(
            f"{RESULTS}: the weights of {len(missing):,} runs take {needed / 1e6:,.0f} MB at least, and the disk has"
            f" {free / 1e6:,.0f} MB left."
        )


def _nearest(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(place for place in (folder, *folder.absolute().parents) if place.is_dir())
