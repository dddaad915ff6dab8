"""Gradients of the two branches: the record's "R/M" in its three forms, what it is once the gate is taken out, and their noise.

R/M is the norm of the first branch's gradient over that of the second's. Below one, the second branch gets the larger gradient;
the record read it the other way round, and as contribution (flaws F-04, F-05, F-35). By the chain rule a gate g multiplies it
by g / (1 - g).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gt.evals.subject import Subject, hooked
from gt.models.lm import LanguageModel
from gt.probes.measures import Measures, fetched, one, ratio
from gt.probes.sites import branches, whole
from gt.seeds import torch_stream
from gt.training.flat import part
from gt.training.losses import autocast, cross_entropies, inputs, mean_loss, token_losses

Gradients = dict[str, Tensor]
Norms = dict[str, list[float]]  # of every tensor of a part of the model
BATCHES = 4
# Targets of a batch, at most; a batch of the training otherwise.
TOKENS = 8192


def batches(subject: Subject, windows: Tensor) -> list[Tensor]:
    """Some batches of held-out windows, each (batch, time + 1) of the size of training's, or of its pieces."""
    training = subject.spec.training
    size = min(
        training.batch_size // training.grad_accumulation, max(1, TOKENS // subject.length), max(1, len(windows) // BATCHES)
    )
    return list(windows[: BATCHES * size].split(size))


def gradients(subject: Subject, held_out: list[Tensor], gate: float | None) -> Measures:
    """Of the trained network, on some batches (n, time + 1). gate: its mean gate."""
    model, precision = subject.model, subject.spec.training.precision
    found = [of_loss(model, batch, precision) for batch in held_out]
    result = ratios(model, found[0], held_out[0], precision, gate)
    result |= reach(model, held_out[0], precision)
    result |= over_batches(found)
    letters = branches(model)
    if len(letters) == 2:
        result |= _independence(model, found[0], held_out[0], precision, letters)
    return result


def ratios(model: LanguageModel, found: Gradients, batch: Tensor, precision: str, gate: float | None) -> Measures:
    """The three forms of R/M on a batch, R/M over the gate's odds, and every part's norm; found: the gradient of its loss."""
    norms = _norms(found)
    result = {f"gradient/norm/{name}": one(_l2(own)) for name, own in norms.items()}
    of_logits = _norms(_gradients(model, lambda: _mean_logit(model, batch, precision)))
    plain = _between(model, norms, _l2)
    return result | {
        "gradient/ratio": one(plain),
        "gradient/tensor_ratio": one(_between(model, norms, _mean)),
        "gradient/logit_ratio": one(_between(model, of_logits, _l2)),
        "gradient/odds_corrected_ratio": one(over_odds(plain, gate)),
    }


def as_recorded(subject: Subject, initial: LanguageModel, shape: torch.Size) -> Measures:
    """G4 as the record computed it: the mean over tensors, untrained, random tokens and targets. shape: of the batch."""
    generator = torch_stream(subject.spec.seed, "record_gradients")
    batch = torch.randint(subject.tokens.vocab_size, shape, generator=generator).to(subject.device)
    norms = _norms(of_loss(initial, batch, subject.spec.training.precision))
    return {"record/gradient_ratio": one(_between(initial, norms, _mean))}


def reach(model: LanguageModel, batch: Tensor, precision: str) -> Measures:
    """How much of the gradient of the last target's loss arrives at the first input, against what arrives at the last."""
    x = model.embed(inputs(batch)).detach().requires_grad_()
    with autocast(batch.device, precision):
        logits = model.read_out(model.body(x)[0][:, -1])
    targets = torch.where(batch < 0, ~batch, batch)[:, -1]
    (gradient,) = torch.autograd.grad(cross_entropies(logits, targets).mean(), x)
    first, last = gradient[:, [0, -1]].double().norm(dim=-1).mean(0).tolist()
    return {"gradient/reach": one(ratio(first, last))}


def over_odds(value: float | None, gate: float | None) -> float | None:
    """R/M over g / (1 - g)."""
    return None if gate is None or value is None or not 0 < gate < 1 else value * (1 - gate) / gate


def over_batches(found: list[Gradients]) -> Measures:
    """From the gradients of some batches: the signal to noise of each part's, and the share of parameters that none needs."""
    mean = {name: torch.stack([g[name] for g in found]).mean(0) for name in found[0]}
    signal = {name: _l2(own) ** 2 for name, own in _norms(mean).items()}
    squares = [{name: _l2(own) ** 2 for name, own in _norms(g).items()} for g in found]
    result: Measures = {}
    for name in signal:
        noise = sum(s[name] for s in squares) / len(found) - signal[name]
        result[f"gradient/snr/{name}"] = one(ratio(signal[name], noise))
    names = [name for name in mean if part(name) != "embedding"]
    idle = torch.stack([torch.cat([g[name].flatten() for name in names]) == 0 for g in found]).all(0).sum()
    result["flag/unused_parameters"] = one(int(idle) / sum(mean[name].numel() for name in names))
    return result


def _independence(model: LanguageModel, full: Gradients, batch: Tensor, precision: str, letters: list[str]) -> Measures:
    """The cosine of each branch's gradients with and without the other branch's output."""
    cosines = {}
    for letter, other in (letters, letters[::-1]):
        with hooked(whole(model, other), lambda _i, _inputs, output: (torch.zeros_like(output[0]), output[1])):
            alone = of_loss(model, batch, precision)
        own = [name for name in full if part(name) == f"mixers.{letter}"]
        a, b = (torch.cat([g[name].flatten() for name in own]).double() for g in (full, alone))
        cosines[f"gradient/independence/{letter}"] = a @ b / (a.norm() * b.norm()).clamp(min=1e-300)
    return {name: one(value) for name, value in fetched(cosines).items()}


def of_loss(model: LanguageModel, batch: Tensor, precision: str) -> Gradients:
    """The gradient of the mean loss on a batch (n, time + 1)."""
    return _gradients(model, lambda: mean_loss(token_losses(model, batch, precision), batch[:, 1:]))


def _mean_logit(model: LanguageModel, batch: Tensor, precision: str) -> Tensor:
    with autocast(batch.device, precision):
        return model(inputs(batch))[0].float().mean()


def _gradients(model: LanguageModel, objective: Callable[[], Tensor]) -> Gradients:
    """By parameter; zero for one that the objective does not depend on."""
    names, parameters = zip(*model.named_parameters(), strict=True)
    found = torch.autograd.grad(objective(), parameters, allow_unused=True)
    return {n: torch.zeros_like(p) if g is None else g for n, p, g in zip(names, parameters, found, strict=True)}


def _norms(gradients: Gradients) -> Norms:
    """The norm of every tensor, by part of the model."""
    values = torch.stack(torch._foreach_norm(list(gradients.values()))).tolist()
    result: Norms = {}
    for name, value in zip(gradients, values, strict=True):
        result.setdefault(part(name), []).append(value)
    return result


def _between(model: LanguageModel, norms: Norms, summed: Callable[[list[float]], float]) -> float | None:
    """The first branch's over the second's; nothing where there are not two."""
    letters = branches(model)
    return ratio(*(summed(norms[f"mixers.{letter}"]) for letter in letters)) if len(letters) == 2 else None


def _l2(norms: list[float]) -> float:
    return sum(norm**2 for norm in norms) ** 0.5


def _mean(norms: list[float]) -> float:
    return sum(norms) / len(norms)
