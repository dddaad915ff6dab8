"""Where and with what a run was made: the part of a manifest that is not a measurement."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import torch

PACKAGES = ("torch", "numpy", "tokenizers", "safetensors", "triton", "flash-linear-attention", "mamba-ssm")


def provenance(device: torch.device) -> dict[str, object]:
    """Versions, commit and device."""
    commit = _git("rev-parse", "HEAD")
    return {
        "versions": {"python": platform.python_version(), **_versions()},
        "git_commit": commit,
        "git_dirty": bool(_git("status", "--porcelain", "--untracked-files=no")) if commit else None,
        "device": _device_name(device),
        "gpu": os.environ.get("CUDA_VISIBLE_DEVICES", "0") if device.type == "cuda" else None,
        "threads": torch.get_num_threads(),
    }


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _git(*arguments: str) -> str | None:
    """What git says of the code's own repository; None outside one."""
    folder = Path(__file__).resolve().parents[2]
    if not (folder / ".git").exists():
        return None
    result = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False)
    return result.stdout.strip() if result.returncode == 0 else None


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return f"cuda ({torch.cuda.get_device_name(device)})"
    cpuinfo = Path("/proc/cpuinfo")
    names = [
        line.split(":", 1)[1].strip()
        for line in (cpuinfo.read_text().splitlines() if cpuinfo.exists() else [])
        if line.startswith("model name")
    ]
    return f"cpu ({names[0] if names else platform.processor() or platform.machine()})"


def energy(device: torch.device) -> float | None:
    """Joules that a GPU has used since its driver was loaded; None where that cannot be read."""
    if device.type != "cuda" or find_spec("pynvml") is None:
        return None
    import pynvml

    try:
        pynvml.nvmlInit()
        gpu = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
        return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(gpu) / 1000)
    except pynvml.NVMLError:
        return None
