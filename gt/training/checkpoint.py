"""Checkpoints: all that a run needs to go on as if it had never stopped, in one safetensors file.

Every random draw is a function of the seed and the step, so weights, optimizer moments and the curves so far are the
whole state. A checkpoint belongs to one specification, one data set and one version of the training code.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from gt.records import atomic_write
from gt.training.curves import Curves

FILE = "checkpoint.safetensors"


@dataclass(frozen=True)
class Progress:
    """How far a run is."""

    step: int  # finished steps
    seconds: float  # spent training, over all attempts
    resumed_from: list[int]  # the step at which each resumed attempt began


def save(
    folder: Path, identity: str, model: nn.Module, optimizer: torch.optim.Optimizer, curves: Curves, progress: Progress
) -> None:
    """Write a checkpoint over the last one, whole or not at all."""
    tensors = {f"model/{name}": p.detach() for name, p in model.named_parameters()}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state[parameter].items():
            tensors[f"optimizer/{key}/{name}"] = value
    tensors["curves"] = curves.tensor()
    metadata = {
        "identity": identity,
        "columns": "\n".join(curves.columns),
        "step": str(progress.step),
        "seconds": repr(progress.seconds),
        "resumed_from": " ".join(map(str, progress.resumed_from)),
    }
    with atomic_write(folder / FILE) as temporary:
        save_file({name: t.cpu().contiguous() for name, t in tensors.items()}, temporary, metadata)


def load(
    folder: Path, identity: str, model: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[Curves, Progress] | str | None:
    """Restore model and optimizer. Returns the curves and progress; or why there is a checkpoint but it cannot be used
    (model and optimizer are then as they were); or None where there is none.
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
    if metadata.get("identity") != identity:
        return "it is of another specification, data set or version of the code"
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(tensors[f"model/{name}"])
            optimizer.state[parameter] = {
                key.split("/")[1]: value.to(parameter.device if value.ndim else "cpu")
                for key, value in tensors.items()
                if key.startswith("optimizer/") and key.split("/", 2)[2] == name
            }
    curves = Curves(metadata["columns"].split("\n"), tensors["curves"])
    resumed = [int(step) for step in metadata["resumed_from"].split()]
    return curves, Progress(int(metadata["step"]), float(metadata["seconds"]), resumed)


def remove(folder: Path) -> None:
    """Remove a run's checkpoints."""
    shutil.rmtree(folder, ignore_errors=True)
