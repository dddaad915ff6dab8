"""Gradients of the two branches: the record's "R/M" in its three forms, what it is once the gate is taken out, and their noise.

R/M is the norm of the first branch's gradient over that of the second's. Below one, the second branch gets the larger gradient;
the record read it the other way round, and as contribution (flaws F-04, F-05, F-35). By the chain rule a gate g multiplies it
by g / (1 - g).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gt.evals.subject import hooked
from gt.metrics import BRANCH, PART, Measurement, Metric
from gt.models.lm import LanguageModel
from gt.probes.base import Probe
from gt.probes.measures import fetched, ratio
from gt.probes.sites import branches, whole
from gt.training.flat import part
from gt.training.losses import autocast, cross_entropies, inputs, mean_loss, token_losses

ByParameter = dict[str, Tensor]
if TYPE_CHECKING:
    from gt.probes.network import Network

Norms = dict[str, list[float]]  # of every tensor of a part of the model
READINGS = "upstream flaw F-04"


class Gradients(Probe):
    """The gradients of the branches, and of the other parts, on held-out text."""

    name = "gradients"
    metrics = (
        Metric(
            "gradient/ratio",
            "ratio R/M of the branches' gradient norms",
            definition="R/M: L2 norm of the first branch's gradient over the second's",
            source=READINGS,
            initial=True,
        ),
        Metric(
            "gradient/tensor_ratio",
            "ratio R/M of the branches' gradient norms averaged over tensors",
            definition="the same of the mean over tensors of their norms (G4)",
            source=READINGS,
            initial=True,
        ),
        Metric(
            "gradient/logit_ratio",
            "ratio R/M of the branches' gradient norms for the mean logit",
            definition="R/M of the mean logit in place of the loss (Task 54)",
            source=READINGS,
            initial=True,
        ),
        Metric(
            "gradient/odds_corrected_ratio",
            "ratio R/M of the branches' gradient norms over the gate's odds",
            definition="R/M over the gate's odds g / (1 - g)",
            source=READINGS,
            initial=True,
        ),
        Metric(
            "gradient/norm/<part>",
            "gradient norm of <part> on held-out text",
            axes=(PART,),
            definition="L2 norm of a part's gradient on a held-out batch",
            initial=True,
        ),
        Metric(
            "gradient/snr/<part>",
            "signal-to-noise ratio of the gradient of <part>",
            axes=(PART,),
            definition="|mean g|^2 / mean |g - mean|^2 over 4 held-out batches",
            source="lines 202-308 of document 3",
        ),
        Metric(
            "gradient/independence/<branch>",
            "cosine of the <branch> branch's gradients with and without the other branch",
            axes=(BRANCH,),
            definition="cosine of a branch's gradients with and without the other branch",
            source="line 219 of document 4",
        ),
        Metric(
            "gradient/reach",
            "gradient of the last target's loss at the first input over that at the last",
            definition="norm of the gradient of the last target's loss at the first input over that at the last",
            source="repository notebooks/task_0_1b",
            initial=True,
        ),
        Metric(
            "flag/unused_parameters",
            "share of parameters without a gradient",
            better="lower",
            definition="share of parameters, without embeddings, that no held-out batch gives a gradient",
            source="lines 127-136 of document 1",
        ),
    )

    def measure(self, network: Network) -> Iterator[Measurement]:
        """On some batches of a trained network, on the first of them of the initial one."""
        model, precision, batch = network.model, network.precision, network.batches[0]
        first = of_loss(model, batch, precision)
        yield from ratios(model, first, batch, precision, network.gate)
        yield reach(model, batch, precision)
        if not network.is_initial:
            yield from over_batches([first, *(of_loss(model, other, precision) for other in network.batches[1:])])
            if len(network.letters) == 2:
                yield from independence(model, first, batch, precision)


def ratios(model: LanguageModel, found: ByParameter, batch: Tensor, precision: str, gate: float | None) -> list[Measurement]:
    """The three forms of R/M on a batch, R/M over the gate's odds, and every part's norm; found: the gradient of its loss."""
    norms = norms_of(found)
    of_logits = norms_of(_gradients(model, lambda: _mean_logit(model, batch, precision)))
    plain = between(model, norms, _l2)
    values = {
        "gradient/ratio": plain,
        "gradient/tensor_ratio": between(model, norms, mean),
        "gradient/logit_ratio": between(model, of_logits, _l2),
        "gradient/odds_corrected_ratio": over_odds(plain, gate),
    }
    return [
        *(Measurement("gradient/norm/<part>", {"part": name}, _l2(own)) for name, own in norms.items()),
        *(Measurement(name, {}, value) for name, value in values.items()),
    ]


def reach(model: LanguageModel, batch: Tensor, precision: str) -> Measurement:
    """How much of the gradient of the last target's loss arrives at the first input, against what arrives at the last."""
    x = model.embed(inputs(batch)).detach().requires_grad_()
    with autocast(batch.device, precision):
        logits = model.read_out(model.body(x)[0][:, -1])
    targets = torch.where(batch < 0, ~batch, batch)[:, -1]
    (gradient,) = torch.autograd.grad(cross_entropies(logits, targets).mean(), x)
    first, last = gradient[:, [0, -1]].double().norm(dim=-1).mean(0).tolist()
    return Measurement("gradient/reach", {}, ratio(first, last))


def over_odds(value: float | None, gate: float | None) -> float | None:
    """R/M over g / (1 - g)."""
    return None if gate is None or value is None or not 0 < gate < 1 else value * (1 - gate) / gate


def over_batches(found: list[ByParameter]) -> Iterator[Measurement]:
    """From the gradients of some batches: the signal to noise of each part's, and the share of parameters that none needs."""
    average = {name: torch.stack([g[name] for g in found]).mean(0) for name in found[0]}
    signal = {name: _l2(own) ** 2 for name, own in norms_of(average).items()}
    squares = [{name: _l2(own) ** 2 for name, own in norms_of(g).items()} for g in found]
    for name in signal:
        noise = sum(s[name] for s in squares) / len(found) - signal[name]
        yield Measurement("gradient/snr/<part>", {"part": name}, ratio(signal[name], noise))
    names = [name for name in average if part(name) != "embedding"]
    idle = torch.stack([torch.cat([g[name].flatten() for name in names]) == 0 for g in found]).all(0).sum()
    yield Measurement("flag/unused_parameters", {}, int(idle) / sum(average[name].numel() for name in names))


def independence(model: LanguageModel, full: ByParameter, batch: Tensor, precision: str) -> list[Measurement]:
    """The cosine of each branch's gradients with and without the other branch's output. full: the gradient of the loss."""
    cosines, letters = {}, branches(model)
    for letter, other in (letters, letters[::-1]):
        with hooked(whole(model, other), lambda _i, _inputs, output: (torch.zeros_like(output[0]), output[1])):
            alone = of_loss(model, batch, precision)
        own = [name for name in full if part(name) == f"mixers.{letter}"]
        a, b = (torch.cat([g[name].flatten() for name in own]).double() for g in (full, alone))
        cosines[letter] = a @ b / (a.norm() * b.norm()).clamp(min=1e-300)
    return [Measurement("gradient/independence/<branch>", {"branch": b}, value) for b, value in fetched(cosines).items()]


def of_loss(model: LanguageModel, batch: Tensor, precision: str) -> ByParameter:
    """The gradient of the mean loss on a batch (n, time + 1)."""
    return _gradients(model, lambda: mean_loss(token_losses(model, batch, precision), batch[:, 1:]))


def _mean_logit(model: LanguageModel, batch: Tensor, precision: str) -> Tensor:
    with autocast(batch.device, precision):
        return model(inputs(batch))[0].float().mean()


def _gradients(model: LanguageModel, objective: Callable[[], Tensor]) -> ByParameter:
    """By parameter; zero for one that the objective does not depend on."""
    names, parameters = zip(*model.named_parameters(), strict=True)
    found = torch.autograd.grad(objective(), parameters, allow_unused=True)
    return {n: torch.zeros_like(p) if g is None else g for n, p, g in zip(names, parameters, found, strict=True)}


def norms_of(gradients: ByParameter) -> Norms:
    """The norm of every tensor, by part of the model."""
    values = torch.stack(torch._foreach_norm(list(gradients.values()))).tolist()
    result: Norms = {}
    for name, value in zip(gradients, values, strict=True):
        result.setdefault(part(name), []).append(value)
    return result


def between(model: LanguageModel, norms: Norms, summed: Callable[[list[float]], float]) -> float | None:
    """The first branch's over the second's; nothing where there are not two."""
    letters = branches(model)
    return ratio(*(summed(norms[f"mixers.{letter}"]) for letter in letters)) if len(letters) == 2 else None


def _l2(norms: list[float]) -> float:
    return sum(norm**2 for norm in norms) ** 0.5


def mean(norms: list[float]) -> float:
    return sum(norms) / len(norms)
