"""Branch share: what a trained network loses on held-out text without a branch. The word contribution is used for this alone.

Many ablations go through the network side by side: a batch holds the same windows once for each, and a hook on a branch changes
the rows of the ablations that it is a part of.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from gt.evals.subject import Subject, hooked
from gt.metrics import BRANCH, LAYER, NATS, Measurement, Metric, over_layers
from gt.probes.base import Probe
from gt.probes.measures import ratio
from gt.probes.sites import branches, sites, whole
from gt.training.losses import inputs, token_losses

if TYPE_CHECKING:
    from gt.probes.network import Network

KINDS = ("zero", "mean", "shuffle")
# Over all layers an ablation is measured on a slice of held-out text, layer by layer on a quarter of it: as many targets as
# a 128th of what the run was trained on, but within these bounds.
SLICE = (4096, 16_384)
PART = 4


CONTRIBUTION = "upstream flaw F-25"


class Ablation(Probe):
    """What a network loses without a branch, in all layers and in each one."""

    name = "ablation"
    metrics = (
        Metric(
            "ablation/intact",
            "loss of the intact model on the ablation slice",
            NATS,
            better="lower",
            definition="loss on the slice that the ablations are measured on",
        ),
        Metric(
            "ablation/zero/<branch>",
            "loss added by zeroing the <branch> branch",
            NATS,
            (BRANCH, LAYER),
            None,
            "abl_X: held-out loss with the branch's output zero in all layers (by layer: in that one) less the intact loss",
            CONTRIBUTION,
        ),
        Metric(
            "ablation/mean/<branch>",
            "loss added by replacing the <branch> branch with its mean",
            NATS,
            (BRANCH, LAYER),
            None,
            "the same, with its mean over the slice in place of the branch's output",
            CONTRIBUTION,
        ),
        Metric(
            "ablation/shuffle/<branch>",
            "loss added by giving the <branch> branch's output for another text",
            NATS,
            (BRANCH, LAYER),
            None,
            "the same, with the branch's output for another window of the slice",
            CONTRIBUTION,
        ),
        Metric(
            "ablation/share/<branch>",
            "share of the <branch> branch in the loss added by zeroing either",
            "",
            (BRANCH,),
            None,
            "abl_X over the sum of both branches': the branch's contribution",
            CONTRIBUTION,
        ),
        Metric(
            "ablation/ratio",
            "loss added by zeroing the first branch over that of the second",
            definition="abl_X of the first branch over that of the second",
            source="VALIDATION_ROADMAP.md L160-187 (D3)",
        ),
    )

    def measure(self, network: Network) -> Iterator[Measurement]:
        yield from ablation(network.subject, network.windows)


@dataclass(frozen=True)
class Case:
    """One ablation: the modules whose outputs are replaced, and by what (`KINDS`)."""

    kind: str
    modules: frozenset[nn.Module]


def ablation(subject: Subject, windows: Tensor) -> Iterator[Measurement]:
    """Each branch by zero, by its mean over the slice, and by its output for another window: in all layers, and in each one.

    windows: (n, time + 1) tokens of held-out text, all of them but an odd one; a layer alone is ablated on the first quarter.
    """
    model, letters = subject.model, branches(subject.model)
    means = _means(subject, windows)
    keys = [(kind, letter) for kind in KINDS for letter in letters]
    intact, losses = increases(subject, windows, [Case(kind, frozenset(whole(model, b))) for kind, b in keys], means)
    everywhere = dict(zip(keys, losses, strict=True))
    places = [(kind, site) for kind in KINDS for site in sites(model)]
    alone = [Case(kind, frozenset([site.module])) for kind, site in places]
    _, losses = increases(subject, windows[: max(2, len(windows) // PART)], alone, means)
    yield Measurement("ablation/intact", {}, intact)
    for kind, letter in keys:
        here = {site.layer: loss for (k, site), loss in zip(places, losses, strict=True) if (k, site.branch) == (kind, letter)}
        yield from over_layers(f"ablation/{kind}/<branch>", here, everywhere[kind, letter], branch=letter)
    if len(letters) == 2:
        first, second = (everywhere["zero", letter] for letter in letters)
        yield Measurement("ablation/ratio", {}, ratio(first, second))
        for letter in letters:
            yield Measurement("ablation/share/<branch>", {"branch": letter}, ratio(everywhere["zero", letter], first + second))


def slice_size(trained_on: int) -> int:
    """Targets to measure ablations on, for a run that was trained on so many tokens."""
    return min(max(trained_on // 128, SLICE[0]), SLICE[1])


@torch.inference_mode()
def increases(
    subject: Subject, windows: Tensor, cases: list[Case], means: dict[nn.Module, Tensor]
) -> tuple[float, list[float]]:
    """The intact loss on a slice, and by how much each ablation raises it, nats/token. means: of every module's output."""
    cases = [Case("zero", frozenset()), *cases]
    modules = list(dict.fromkeys(module for case in cases for module in case.modules))
    totals = torch.zeros(len(cases), dtype=torch.float64)
    at_once = max(2, subject.at_once(subject.length) // 2 * 2)
    # In pairs of windows that lie half the slice apart, to be exchanged by the kind shuffle.
    half = len(windows) // 2
    windows = torch.stack([windows[:half], windows[half : 2 * half]], dim=1).flatten(0, 1) if half else windows
    for piece in windows.to(subject.device).split(at_once):
        step = max(1, at_once // len(piece))
        for start in range(0, len(cases), step):
            together = cases[start : start + step]

            def replace(i: int, _inputs: object, output: tuple[Tensor, object], together: list[Case] = together) -> object:
                rows = output[0].chunk(len(together))
                new = [
                    _replacement(case.kind, y, means[modules[i]]) if modules[i] in case.modules else y
                    for case, y in zip(together, rows, strict=True)
                ]
                return torch.cat(new), output[1]

            with hooked(modules, replace):
                losses = token_losses(subject.model, piece.repeat(len(together), 1), subject.spec.training.precision)
            totals[start : start + step] += losses.double().view(len(together), -1).sum(1).cpu()
    intact, *others = (totals / int((windows[:, 1:] >= 0).sum())).tolist()
    return intact, [loss - intact for loss in others]


@torch.inference_mode()
def _means(subject: Subject, windows: Tensor) -> dict[nn.Module, Tensor]:
    """The mean output of every branch of every layer, and of every tower, on a slice: (d_model,) float64 each."""
    model = subject.model
    modules = [*(site.module for site in sites(model)), *(module for b in branches(model) for module in whole(model, b))]
    modules = list(dict.fromkeys(modules))
    sums: dict[nn.Module, Tensor] = {}

    def add(i: int, _inputs: object, output: tuple[Tensor, object]) -> None:
        total = output[0].double().sum((0, 1))
        sums[modules[i]] = sums[modules[i]] + total if modules[i] in sums else total

    with hooked(modules, add):
        for piece in windows.to(subject.device).split(subject.at_once(subject.length)):
            token_losses(model, piece, subject.spec.training.precision)
    n = inputs(windows).numel()
    return {module: total / n for module, total in sums.items()}


def _replacement(kind: str, y: Tensor, mean: Tensor) -> Tensor:
    """What stands in for a branch's output y (batch, time, d_model)."""
    match kind:
        case "zero":
            return torch.zeros_like(y)
        case "mean":
            return mean.to(y.dtype).expand_as(y)
        case _:
            return y.unflatten(0, (-1, 2)).flip(1).flatten(0, 1) if len(y) > 1 else y
