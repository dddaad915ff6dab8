"""A language model's loss in regions that a compiler takes one at a time (`gt.models.regions`), for the runs of a cohort.

Compiling fuses what stands between matrix products and recurrences, which is most of a small model's kernels. A region is
compiled once for all layers, and for all models of a process, that have it with the same shapes: a deep model compiles as
quickly as a shallow one, and twelve fusions of the same two mixers compile the mixers once. The same regions run uncompiled
give the same numbers to rounding.

Two mixers do not depend on each other, and neither of a small model fills a GPU: the first goes to a stream of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gt.models.lm import LanguageModel, Stack
from gt.models.regions import Function, Parts, Region, run
from gt.ops import backend
from gt.training import compiled
from gt.training.engine import Lane
from gt.training.losses import Criterion, autocast, inputs, loss_and_objective
from gt.training.mapped import Applied, Weights, alone, mapped


def divisible(model: LanguageModel) -> bool:
    """Whether a model is a stack of layers that compile: no towers, no recurrence that goes position by position."""
    return isinstance(model.body, Stack) and not any(getattr(module, "sequential", False) for module in model.modules())


class Regions:
    """The loss of a batch, for the runs of a cohort. weights: theirs, (run, *shape), or a single run's, by the names of the
    model's parameters. criterion: what is minimised in place of the cross-entropy.
    """

    def __init__(
        self,
        model: LanguageModel,
        weights: Weights,
        precision: str,
        compiled: bool,
        criterion: Criterion | None = None,
    ) -> None:
        self.precision, self.compiled = precision, compiled
        self.weights, self.names = weights, {id(parameter): name for name, parameter in model.named_parameters()}
        self.stacked = next(iter(weights.values())).ndim > next(model.parameters()).ndim
        device = next(iter(weights.values())).device
        self.lane = Lane(device) if device.type == "cuda" else None
        embed = Applied(model, lambda lm, tokens: lm.embed(tokens))
        self.embed = mapped(embed) if self.stacked else alone(embed)
        self.outer = {f"subject.{name}": w for name, w in weights.items() if not name.startswith("body.")}
        *layers, last = model.regions()
        read_out = Loss(last.function, criterion)
        loss = Region(("nats", "objective"), (*last.inputs, "targets", "n_targets"), last.parts, read_out)
        self.regions = self._placed([*layers, loss])
        self.gates: list[Tensor | None] = []  # of each fusion in the last call, ([run,] batch, time, channel) or ([run,] 1)

    def __call__(self, batch: Tensor, n_targets: Tensor) -> tuple[Tensor, Tensor]:
        """batch: ([run,] batch, time + 1) tokens -> nats, and what is minimised, over n_targets ([run]), each ([run])."""
        self.gates = []
        with autocast(batch.device, self.precision):
            given = {"x": self.embed(self.outer, inputs(batch)), "targets": batch[..., 1:], "n_targets": n_targets}
            values = run(self.regions, given, self._call)
        nats, objective = values["nats"], values["objective"]
        return nats, nats if objective is None else objective

    def _call(self, placed: Placed, *inputs: Tensor) -> list[Tensor | None]:
        given = placed(*inputs)
        if "gate" in placed.outputs:
            gate = given[placed.outputs.index("gate")]
            self.gates.append(gate if gate is None else gate.detach())
        return given

    def _placed(self, regions: list[Region]) -> list[Placed]:
        """Those that are `beside` on the lane; what reads theirs waits for it."""
        placed, beside = list[Placed](), set[str]()  # of what is on the lane, the names of the values
        for region in regions:
            within = None
            if self.lane is not None and region.beside:
                within, beside = self.lane.beside, beside | {*region.outputs}
            elif self.lane is not None and beside & {*region.inputs}:
                within, beside = self.lane.joined, set()
            placed.append(Placed(region, *self._code(region), within))
        return placed

    def _code(self, region: Region) -> tuple[Callable[..., Any], Weights]:
        """What computes a region, of its weights and inputs, and these weights."""
        module = Applied(nn.ModuleDict(region.parts), Stateless(region.function))
        weights = {name: self.weights[self.names[id(parameter)]] for name, parameter in module.named_parameters()}
        function = mapped(module) if self.stacked else alone(module)
        if not self.compiled:
            return function, weights
        shapes = tuple((name, tuple(parameter.shape)) for name, parameter in module.named_parameters())
        key = (self.stacked, self.precision, backend.forced(), shapes, region.key)
        return compiled.shared(key, function), weights


class Placed:
    """A region with its code, the weights of its layer, and the context in which it reads its inputs and is run."""

    def __init__(
        self,
        region: Region,
        function: Callable[..., Any],
        weights: Weights,
        within: Callable[..., AbstractContextManager[object]] | None = None,
    ) -> None:
        self.inputs, self.outputs, self.recompute = region.inputs, region.outputs, region.recompute
        self.function, self.weights = function, weights
        self.within = within or (lambda *inputs: nullcontext())

    def __call__(self, *inputs: Tensor) -> list[Tensor | None]:
        """The outputs: of those that are None there are the places."""
        given = checkpoint(self._run, *inputs, use_reentrant=False) if self.recompute else self._run(*inputs)
        return [*given, *[None] * (len(self.outputs) - len(given))]

    def _run(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        with self.within(*inputs):
            given: tuple[Tensor, ...] = self.function(self.weights, *inputs)
        return given


@dataclass(frozen=True)
class Stateless:
    """A region's function as it is trained: from no state, and without those of its outputs that are None, which are last."""

    function: Function

    def __call__(self, parts: Parts, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(y for y in self.function(parts, *inputs, None)[0] if y is not None)


@dataclass(frozen=True)
class Loss:
    """The function of the last region: the logits' cross-entropy, and what is minimised where that is another."""

    read_out: Function
    criterion: Criterion | None

    def __call__(self, parts: Parts, *inputs: Any) -> tuple[tuple[Tensor, Tensor | None], None]:
        *read, targets, n_targets, state = inputs
        (logits,), _ = self.read_out(parts, *read, state)
        assert logits is not None
        return loss_and_objective(self.criterion, logits, targets, n_targets), None
