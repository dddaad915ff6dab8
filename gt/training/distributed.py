"""One run over several GPUs: `torchrun --standalone --nproc-per-node=N -m -- gt train ...`.

Data parallelism (Li et al. 2020, arXiv:2006.15704): every process has all weights and takes an equal share of each batch; what
the shares add to the gradient sums up to that of the whole batch, so all take the same step. Gradients stand in one buffer
already, so one reduction does it, and can be part of a CUDA graph. The batches and their order are those of one process.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from gt.errors import ConfigError
from gt.spec import TrainingSpec


@dataclass(frozen=True)
class World:
    """The processes that train a run together, and which of them this is."""

    rank: int = 0
    size: int = 1

    def check(self, training: TrainingSpec) -> None:
        """ConfigError for what cannot be trained in several processes."""
        if self.size > 1 and training.auxiliary is not None:
            raise ConfigError("training.auxiliary: these terms look at a whole batch, so such a run trains in one process.")
        if self.size > 1 and training.carry_state:
            raise ConfigError("training.carry_state: a checkpoint has the states of one process, so such a run trains in one.")

    def share(self, batch: Tensor, dim: int) -> Tensor:
        """This process's part of a batch. ConfigError if it cannot be divided equally."""
        if batch.shape[dim] % self.size:
            raise ConfigError(
                f"training.batch_size: pieces of {batch.shape[dim]} cannot be divided over {self.size} processes."
            )
        return batch.chunk(self.size, dim=dim)[self.rank]

    def sum(self, values: Tensor) -> Tensor:
        """The sum over the processes of what each has computed, in place."""
        if self.size > 1:
            dist.all_reduce(values)
        return values


ALONE = World()


def join(device: torch.device) -> World:
    """Meet the other processes that torchrun started for this run, if it did; each has a device of its own."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return World()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return World(dist.get_rank(), dist.get_world_size())
