"""Where and with what a run was made: the part of its record that is not a measurement."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from gt.fingerprint import PACKAGE
from gt.models.lm import LanguageModel
from gt.ops.backend import asked, serving
from gt.spec import ModelSpec

PACKAGES = ("torch", "numpy", "tokenizers", "safetensors", "triton", "flash-linear-attention", "mamba-ssm")
# Seconds that git may take, once a process.
PATIENCE = 5.0


def provenance(device: torch.device, packages: Sequence[Path] = (PACKAGE,)) -> dict[str, Any]:
    """Versions, commit and device, by the names that attempts and manifests have for them.

    packages: gt, and the others that take part. One that no repository has, as gt itself where it is installed, is known by its
    version; the commit is that of the first that one has.
    """
    commits = [own for package in packages if (own := commit(package)) is not None]
    files = [found for package in packages if (found := modified(package)) is not None]
    return {
        "versions": {"python": platform.python_version(), **_versions()},
        "git_commit": commits[0] if commits else None,
        "modified": [file for found in files for file in found] if files else None,
        "device": device_name(device),
        "gpu": os.environ.get("CUDA_VISIBLE_DEVICES", "0") if device.type == "cuda" else None,
    }


def backend(model: ModelSpec, vocab_size: int, device: torch.device) -> dict[str, str]:
    """Operation and state of a head -> what computes it, of all recurrences of a model.

    The model is asked, by a pass of two tokens on the CPU: compiled code, which another model of the process may have had made,
    does not say what is in it.
    """
    with torch.no_grad(), asked() as operations:
        LanguageModel(model, vocab_size)(torch.zeros(1, 2, dtype=torch.int64))
    return serving(operations, device.type)


@cache
def commit(package: Path) -> str | None:
    """The commit that a package's repository is at; None outside of one, and where git does not say."""
    said = _git(package, "rev-parse", "HEAD")
    return said.strip() if said else None


@cache
def modified(package: Path) -> list[str] | None:
    """The files of a package that its repository's commit does not hold as they are, those that git does not know included, by
    their names in the repository; None outside of one, and where git does not say. What git is to ignore does not count.
    """
    said = _git(package, "status", "--porcelain=v1", "-z", "--no-renames", "--untracked-files=all", "--", ".")
    return None if said is None else sorted(entry[3:] for entry in said.split("\0") if entry)


def _git(package: Path, *arguments: str) -> str | None:
    """What git says in a package's folder; None where no repository has it. One that ignores it, as an environment beside a
    project, has not.
    """
    folder = str(package.resolve())
    calls = ["check-ignore", "-q", folder], [*arguments]
    try:
        ignored, said = (
            subprocess.run(["git", "-C", folder, *call], capture_output=True, text=True, check=False, timeout=PATIENCE)
            for call in calls
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return said.stdout if ignored.returncode == 1 and said.returncode == 0 else None


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def device_name(device: torch.device) -> str:
    """`cuda` or `cpu`, and which."""
    if device.type == "cuda":
        return f"cuda ({torch.cuda.get_device_name(device)})"
    cpuinfo = Path("/proc/cpuinfo")
    names = [
        line.split(":", 1)[1].strip()
        for line in (cpuinfo.read_text().splitlines() if cpuinfo.exists() else [])
        if line.startswith("model name")
    ]
    return f"cpu ({names[0] if names else platform.processor() or platform.machine()})"
