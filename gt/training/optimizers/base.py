"""What an optimizer is: a state, and an update from a gradient, for several runs at once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, ClassVar

import torch
from torch import Tensor

from gt.options import Options, numbers
from gt.spec import TrainingSpec
from gt.training.flat import Flat, Group
from gt.training.schedule import EVERYWHERE_ALIKE


def decays(group: Group, spec: TrainingSpec) -> bool:
    """weight_decay_policy `all` decays everything, as the earlier repository did (flaw F-37); `matrices` the matrices alone."""
    return group.matrix or spec.weight_decay_policy == "all"


def weight_decay(group: Group, spec: TrainingSpec) -> float:
    """What a group is decayed by, with what `spec.parts` says of it."""
    own = spec.parts.get(group.part, EVERYWHERE_ALIKE)  # type: ignore[call-overload]
    return spec.weight_decay * own.weight_decay if decays(group, spec) else 0.0


class Optimizer:
    """Takes steps in a buffer of weights, (run, block, BLOCK), that of a `Flat`.

    A class has a `name`, options (`Config`), and two methods: `build` makes its state, `update` says what a step subtracts.
    Runs that are stacked may differ in the options that are floats (`gt.options.numbers`): in `self.options` each of those is a
    tensor with a value a run, (run, 1, 1), which goes with a buffer. All others are the same for all of them, and plain values.

    `self.state` holds, by name, the tensors that a checkpoint must keep; `steps`, how many were taken, is always there. They
    are changed in place, and nothing is read back from the device, so that a step can be a part of a CUDA graph. `self.decay`,
    (run, block, 1), is the weight decay. What needs shapes finds the parameters of a buffer by name, each (run, *shape), in
    `flat.views(buffer)`.
    """

    name: ClassVar[str]
    # Where a kernel takes the whole step in one pass over all buffers: the methods that prepare and do it, as AdamW's.
    begin_pass: Any = None
    step_in_one_pass: Any = None

    class Config(Options):
        """No options."""

    def __init__(self, flat: Flat, weights: Tensor, specs: list[TrainingSpec]) -> None:
        """weights: updated in place. specs: one a run."""
        self.flat, self.weights, self.specs = flat, weights, specs
        shared = {name: getattr(specs[0].optimizer, name) for name in self.Config.model_fields}
        own = {name: self.of_runs(name, flat.dtype) for name in numbers(self.Config)}
        self.options: Any = SimpleNamespace(**{**shared, **own})
        decay = [[weight_decay(group, spec) for group in flat.groups] for spec in specs]
        self.decay = flat.by_block(torch.tensor(decay, dtype=flat.dtype, device=flat.device))
        self.state = {"steps": torch.zeros((), dtype=torch.float64, device=flat.device)}
        self.build()

    def of_runs(self, name: str, dtype: torch.dtype) -> Tensor:
        """An option that is a float, of each run: (run, 1, 1)."""
        values = [getattr(spec.optimizer, name) for spec in self.specs]
        return torch.tensor(values, dtype=torch.float64, device=self.flat.device).to(dtype).view(-1, 1, 1)

    def build(self) -> None:
        """Make the state."""

    def update(self, gradient: Tensor, rates: Tensor) -> Tensor:
        """What to subtract from the weights, but for their decay. gradient: a buffer; rates: (run, block, 1)."""
        raise NotImplementedError

    def shrink(self, rates: Tensor) -> None:
        """Decay the weights: by their own size and not through the gradient (Loshchilov & Hutter 2019)."""
        self.weights.mul_(1 - rates * self.decay)

    def step(self, gradient: Tensor, rates: Tensor) -> Tensor:
        """Update the weights. gradient: a buffer; rates: (run, group). Returns what was subtracted, without decay."""
        self.state["steps"] += 1
        rates = self.flat.by_block(rates.to(self.flat.dtype))
        update = self.update(gradient, rates)
        self.shrink(rates)
        self.weights.sub_(update)
        return update
