"""Options of what computes: the device, threads, and how training is saved and fits into memory."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from gt.cli.options import Count, Number, described
from gt.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from gt.training.loop import Settings

Device = Annotated[Literal["auto", "cpu", "cuda"], described("auto: a GPU if there is one")]


def chosen(device: str, threads: int) -> torch.device:
    """The device that is meant. It is chosen before CUDA looks at what is visible; torchrun chooses for its processes.

    ConfigError where a GPU is asked for and there is none.
    """
    local_rank = os.environ.get("LOCAL_RANK")
    if device != "cpu" and local_rank is None:
        from gt.devices import claim

        claim()
    import torch

    torch.set_num_threads(threads)
    has_gpu = torch.cuda.is_available()
    if device == "cuda" and not has_gpu:
        raise ConfigError("--device cuda: this machine has no usable GPU. Allowed here: auto, cpu.")
    return torch.device(f"cuda:{local_rank or 0}" if has_gpu and device != "cpu" else "cpu")


@Parameter(name="*")
@dataclass(frozen=True)
class Compute:
    """What computes."""

    device: Device = "auto"
    threads: Annotated[Count, described("CPU threads; they are part of what decides the last bits")] = 1

    def chosen(self) -> torch.device:
        """The device that is meant, which is taken."""
        return chosen(self.device, self.threads)


@Parameter(name="*")
@dataclass(frozen=True)
class Training(Compute):
    """What trains, and how."""

    checkpoint_seconds: Annotated[Number, described("how often to save what a kill would lose")] = 60.0
    recompute: Annotated[
        str, described("mixers to compute twice, to save memory: r, m, rm", metavar="LETTERS", show_default=False)
    ] = ""

    def settings(self, attempts: Path, devices: Path | None) -> Settings:
        """How to train."""
        device = self.chosen()
        from gt.training.distributed import join
        from gt.training.loop import Settings

        return Settings(device, self.checkpoint_seconds, self.recompute, join(device), attempts, devices)


COMPUTE, TRAINING = Compute(), Training()
