"""What a run is: the training of one model, a line of the algorithm a line of code.

This is the definition, and it is slow. `gt.training.cohort` trains many runs at once, stacked, compiled and replayed as one
graph, in pieces and over processes, and gives these numbers: tests/training/test_reference.py holds it to them. A batch is
taken at once here: what `grad_accumulation` splits it into changes no result.

    weights ~ the streams of their names, or the mixers of branches that were trained alone
    for each step:
        batch = the next windows of the train split, in an order that the seed decides
        loss = mean cross-entropy of the targets that count, + auxiliary terms
        gradient = d loss / d weights, scaled by part, clipped to a norm
        weights = the optimizer's, at the step's learning rate of each group
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from gt.catalogue import component
from gt.data.batches import Apart, Batches, evaluation_windows, targets_of_slice
from gt.data.tokens import Tokens
from gt.models.lm import LanguageModel
from gt.seeds import Streams
from gt.spec import RunSpec
from gt.training.auxiliary import BranchDropper, BranchWatch, auxiliary_loss
from gt.training.curves import GateWatch
from gt.training.flat import Flat
from gt.training.losses import losses_and_state, token_losses
from gt.training.optimizers.base import Optimizer
from gt.training.plan import batches
from gt.training.schedule import EVERYWHERE_ALIKE, learning_rate

Row = dict[str, float]


@dataclass
class Trained:
    """A model after its training, and what its curves have of each step, of step 0 the validation alone."""

    model: LanguageModel
    rows: list[Row]


def train(
    spec: RunSpec, tokens: Tokens, dtype: torch.dtype = torch.float64, start: Mapping[str, Tensor] | None = None
) -> Trained:
    """Train a run on the CPU. start: the weights that it begins with, if it says so, in place of drawn ones.

    A run whose loss or gradient is not finite ends there, with the weights from before.
    """
    model = initial_model(spec, tokens, dtype)
    model.load_state_dict(start or {}, strict=start is not None)
    stepper = Stepper(spec, model)
    drop = spec.training.branch_drop
    dropper = BranchDropper(drop, model) if drop is not None else None
    stages = batches(spec, tokens, tokens.borders("train"))
    rows: list[Row] = [{"step": 0, "tokens": 0, **validation(spec, model, tokens)}]
    state = None
    for step in range(spec.training.steps):
        batch, goes_on = batch_of(spec, tokens, stages, step)
        if dropper is not None:
            dropper.coins = torch.from_numpy(dropper.draw(spec, step))
        loss, objective, state = losses(spec, model, batch, state if goes_on else None)
        row = {"train/loss": loss.item(), **stepper.step(step, loss, objective)}
        rows.append({"step": step + 1, **row, **bits(batch, tokens, row["train/loss"]), **rate(spec, step)})
        if not math.isfinite(row["train/loss"] + row["grad_norm"]):
            break
        if (step + 1) % spec.training.evaluate_every == 0 or step + 1 == spec.training.steps:
            rows[-1] |= validation(spec, model, tokens)
    return Trained(model, rows)


def initial_model(spec: RunSpec, tokens: Tokens, dtype: torch.dtype) -> LanguageModel:
    """Each weight from the stream of its name, in float32; those of branches that were trained alone from where that ended."""
    model = LanguageModel(spec.model, tokens.vocab_size)
    model.reset_parameters(Streams(spec.seed))
    model.to(dtype)
    for letter, alone in spec.pretraining().items():
        branch = train(alone, tokens, dtype).model
        for name, weight in model.named_parameters():
            if f".mixers.{letter}." in name:
                in_branch = "body." + name[name.index("blocks.") :]
                weight.data.copy_(branch.get_parameter(in_branch).data)
    return model


def batch_of(spec: RunSpec, tokens: Tokens, stages: list[Batches], step: int) -> tuple[Tensor, bool]:
    """The tokens of a step, (batch, time + 1), a target that does not count as its complement; and whether its sequences go on
    from the step before.
    """
    stage, place = spec.training.stage(step)
    own, text = stages[stage], tokens.marked("train")
    positions = own.starts(place)[:, None] + np.arange(own.sequence_length + 1)
    batch = torch.from_numpy(text[positions.clip(max=len(text) - 1)].astype(np.int64))
    if isinstance(own, Apart):  # beyond the end of a window's document nothing counts
        counted = torch.from_numpy(own.counted(own.starts(place)))[:, None]
        batch = torch.where(torch.arange(own.sequence_length + 1) > counted, ~batch, batch)
    return batch, spec.training.carry_state and own.goes_on(place)


def losses(spec: RunSpec, model: LanguageModel, batch: Tensor, state: Any) -> tuple[Tensor, Tensor, Any]:
    """The mean cross-entropy over the targets that count, what is minimised, and the state at the end of the sequences, from
    which no gradient goes back.
    """
    training, targets = spec.training, batch[:, 1:]
    with BranchWatch(model) as seen:
        of_targets, state = losses_and_state(model, batch, training.precision, state)
    loss = objective = of_targets.sum() / (targets >= 0).sum()
    if training.auxiliary is not None:
        objective = loss + auxiliary_loss(training.auxiliary, model, seen, targets)
    return loss, objective, tree_map_only(Tensor, Tensor.detach, state)


class Stepper:
    """The optimizer on a model's weights, which it holds as one buffer with each group of parameters in one place."""

    def __init__(self, spec: RunSpec, model: LanguageModel) -> None:
        self.spec, self.model = spec, model
        self.flat = Flat(model, 1, torch.device("cpu"), next(model.parameters()).dtype)
        self.weights = self.flat.joined([model.get_parameter(name).detach()[None] for name in self.flat.starts])
        for name, place in self.flat.views(self.weights).items():
            model.get_parameter(name).data = place[0]
        kind: type[Optimizer] = component("optimizer", spec.training.optimizer.name).load()
        self.optimizer = kind(self.flat, self.weights, [spec.training])
        self.last = dict.fromkeys(self.flat.starts, torch.zeros(()))

    def step(self, step: int, loss: Tensor, objective: Tensor) -> Row:
        """Take a step, unless loss or gradient are not finite. What curves say of it."""
        training = self.spec.training
        gradients = dict(zip(self.flat.starts, self.gradients(objective), strict=True))
        norm = sum(g.square().sum() for g in gradients.values()) ** 0.5  # type: ignore[operator]
        before = {name: self.model.get_parameter(name).detach().clone() for name in gradients}
        update = dict.fromkeys(gradients, torch.zeros(()))
        if loss.isfinite() and norm.isfinite():
            factor = 1.0 if training.clip_norm is None else (training.clip_norm / (norm + 1e-6)).clamp(max=1.0)
            rates = [[learning_rate(training, step, group.part) for group in self.flat.groups]]
            clipped = self.flat.joined([factor * g[None] for g in gradients.values()])
            with torch.no_grad():
                taken = self.optimizer.step(clipped, torch.tensor(rates, dtype=torch.float64))
            update = {name: view[0] for name, view in self.flat.views(taken).items()}
        row = {"grad_norm": norm.item()}
        for part in self.flat.parts:
            names = [name for group in self.flat.groups if group.part == part for name in group.names]
            g, last, weight, change = (
                torch.cat([of[name].expand_as(before[name]).flatten() for name in names])
                for of in (gradients, self.last, before, update)
            )
            row[f"grad_norm/{part}"] = g.norm().item()
            row[f"update_ratio/{part}"] = (change.norm() / weight.norm().clamp(min=1e-30)).item()
            row[f"grad_cosine/{part}"] = (g @ last.to(g) / (g.norm() * last.norm()).clamp(min=1e-30)).item()
        self.last = gradients
        return row

    def gradients(self, objective: Tensor) -> list[Tensor]:
        """Of each parameter, in the order of the buffer, with the factor that its part has."""
        found = torch.autograd.grad(objective, [self.model.get_parameter(name) for name in self.flat.starts])
        parts: dict[Any, Any] = self.spec.training.parts  # type: ignore[assignment]
        of_parameter = {name: group.part for group in self.flat.groups for name in group.names}
        scales = [parts.get(of_parameter[name], EVERYWHERE_ALIKE).gradient_scale for name in self.flat.starts]
        return [scale * gradient for scale, gradient in zip(scales, found, strict=True)]


def bits(batch: Tensor, tokens: Tokens, loss: float) -> Row:
    """The loss in bits a byte of the targets that count."""
    targets = batch[:, 1:]
    bytes_a_target = torch.from_numpy(tokens.token_bytes[targets[targets >= 0].numpy()]).double().mean().item()
    return {"train/bits_per_byte": loss / math.log(2) / bytes_a_target}


def rate(spec: RunSpec, step: int) -> Row:
    """The learning rate of a step, and the tokens after it."""
    return {"learning_rate": learning_rate(spec.training, step), "tokens": spec.training.tokens(step + 1)}


@torch.no_grad()
def validation(spec: RunSpec, model: LanguageModel, tokens: Tokens) -> Row:
    """The mean cross-entropy over the targets of the validation slice, and the mean gate of each fusion on them."""
    part = tokens.slice("val", spec.training.evaluation_tokens)
    place = (part, spec.training.sequence_length, tokens.borders("val"))
    windows = torch.from_numpy(evaluation_windows(tokens.marked("val"), *place))
    inside = torch.from_numpy(targets_of_slice(*place)).double()
    model.eval()
    with GateWatch(model, inside / inside.sum()) as watch:
        nats = token_losses(model, windows, spec.training.precision).double()
    model.train()
    gates = dict(zip(model.fusions(), watch.means(nats).tolist(), strict=True))
    return {
        "val/loss": nats.sum().item() / int((windows[:, 1:] >= 0).sum()),
        "val/bits_per_byte": nats.sum().item() / math.log(2) / part.n_bytes,
        **({"gate/mean": sum(gates.values()) / len(gates)} if gates else {}),
        **{f"gate/layer_{layer}": gate for layer, gate in gates.items()},
    }
