"""What an optimizer promises: of the weights of a small model, in float64, for one run and for two that are stacked."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from gt.conformance.parts import EXACT
from gt.conformance.subjects import Subject, apart, noise, others
from gt.models.lm import LanguageModel
from gt.seeds import Streams
from gt.spec import ModelSpec, TrainingSpec
from gt.training.flat import Flat

RATES, STEPS = (0.01, 0.003), 4
SMALL = 1e-3  # a gradient beside which the least number that is divided by shows
MODEL = {"d_model": 8, "n_layer": 1, "layers": "a", "mixers": {"a": {"name": "attention", "n_head": 2}}, "fusion": None}


class Trial:
    """An optimizer at work: in `runs`, each with its own learning rate and gradients."""

    def __init__(self, subject: Subject, runs: tuple[int, ...] = (0,), decay: float = 0.0) -> None:
        self.runs = runs
        self.flat = Flat(model(), len(runs), torch.device("cpu"), torch.float64)
        start = {name: parameter.detach() for name, parameter in model().named_parameters()}
        self.weights = self.flat.joined([start[name].expand(len(runs), *start[name].shape) for name in self.flat.starts])
        chosen = {"name": subject.component.name, **subject.changed}
        common = {"steps": 100, "batch_size": 1, "sequence_length": 8, "optimizer": chosen, "weight_decay": decay}
        specs = [TrainingSpec.model_validate({**common, "learning_rate": RATES[run]}) for run in runs]
        self.optimizer: Any = subject.component.load()(self.flat, self.weights, specs)
        self.rates = torch.tensor([[spec.learning_rate] * len(self.flat.groups) for spec in specs], dtype=torch.float64)

    def gradient(self, step: int) -> Tensor:
        """Noise, of each run its own."""
        pieces = {name: view[0].shape for name, view in self.flat.views(self.weights).items()}
        drawn = [
            torch.stack([noise(*shape, seed=1000 * step + 100 * run + i) for run in self.runs])
            for i, shape in enumerate(pieces.values())
        ]
        return self.flat.joined(drawn)

    def step(self, scale: float = 1.0) -> Tensor:
        """Take some steps along gradients of this scale; the weights after them."""
        for step in range(STEPS):
            self.optimizer.step(scale * self.gradient(step), self.rates)
        return self.weights.clone()


@cache
def model() -> LanguageModel:
    """One layer of width 8, with 11 tokens."""
    built = LanguageModel(ModelSpec.model_validate(MODEL), 11)
    built.reset_parameters(Streams(0))
    return built.double()


def test_stacked_runs_take_the_steps_that_each_takes_alone(optimizer: Subject) -> None:
    """Runs share an optimizer's tensors, and nothing else."""
    together = Trial(optimizer, (0, 1), decay=0.1).step()
    for run in (0, 1):
        if (difference := apart(together[run], Trial(optimizer, (run,), decay=0.1).step()[0])) > EXACT:
            optimizer.fail(
                f"run {run} of two that are stacked has other weights after {STEPS} steps than alone (by {difference:.2g}). A "
                "sum over all of a buffer, where each run should have its own?"
            )


def test_training_that_is_resumed_goes_on_as_if_it_had_not_stopped(optimizer: Subject) -> None:
    """From the weights and the tensors of `state` alone, which is what a checkpoint has."""
    straight = Trial(optimizer, decay=0.1)
    straight.step()
    resumed = Trial(optimizer, decay=0.1)
    with torch.no_grad():
        resumed.weights.copy_(straight.weights)
        if list(resumed.optimizer.state) != list(straight.optimizer.state):
            optimizer.fail(f"its state has {list(straight.optimizer.state)} after a step: make all of it in build().")
        for name, value in straight.optimizer.state.items():
            resumed.optimizer.state[name].copy_(value)
    if (difference := apart(resumed.step(), straight.step())) > EXACT:
        optimizer.fail(f"resumed it goes elsewhere (by {difference:.2g}): what it remembers must all be tensors in self.state.")


def test_weights_and_state_are_changed_in_place(optimizer: Subject) -> None:
    """A CUDA graph and a checkpoint hold the tensors that were there at the start."""
    trial = Trial(optimizer)
    before, weights = dict(trial.optimizer.state), trial.optimizer.weights
    trial.step()
    for name, value in trial.optimizer.state.items():
        if value is not before.get(name):
            optimizer.fail(f"state[{name!r}] is another tensor after a step: change it in place (mul_, add_, lerp_, copy_).")
    if trial.optimizer.weights is not weights:
        optimizer.fail("its weights are another tensor after a step: change them in place.")


def test_every_parameter_moves(optimizer: Subject) -> None:
    """Whatever has a gradient is trained."""
    trial = Trial(optimizer)
    before = {name: view.clone() for name, view in trial.flat.views(trial.weights).items()}
    trial.step()
    for name, view in trial.flat.views(trial.weights).items():
        if not view.isfinite().all():
            optimizer.fail(f"{name} is not finite after {STEPS} steps.")
        if torch.equal(view, before[name]):
            optimizer.fail(f"{name} has not moved in {STEPS} steps.")


def test_what_lies_between_parameters_stays_zero(optimizer: Subject) -> None:
    """Norms are taken over whole buffers."""
    trial = Trial(optimizer, decay=0.1)
    trial.step()
    views = [view.clone() for view in trial.flat.views(trial.weights).values()]
    if not torch.equal(trial.flat.joined(views), trial.weights):
        optimizer.fail("it writes between the parameters of its buffer: what it adds there must be zero where the gradient is.")


def test_a_zero_gradient_moves_nothing_but_by_weight_decay(optimizer: Subject) -> None:
    """And weight decay makes matrices smaller, and leaves vectors alone."""
    for decay in (0.0, 0.5):
        trial = Trial(optimizer, decay=decay)
        before = {name: view.clone() for name, view in trial.flat.views(trial.weights).items()}
        trial.optimizer.step(trial.flat.zeros(), trial.rates)
        decayed = {name for group in trial.flat.groups if group.matrix and decay for name in group.names}
        for name, view in trial.flat.views(trial.weights).items():
            if not view.isfinite().all():
                optimizer.fail(f"a gradient of zeros makes {name} infinite: divide by a norm that is bounded from below.")
            if name not in decayed and not torch.equal(view, before[name]):
                optimizer.fail(f"a gradient of zeros moves {name}, without weight decay, by {apart(view, before[name]):.2g}.")
            if name in decayed and not view.norm() < before[name].norm():
                optimizer.fail(f"a weight decay of {decay} does not make {name} smaller: is self.decay used?")


def test_a_step_says_what_it_subtracted(optimizer: Subject) -> None:
    """Without weight decay; curves of updates are made of it."""
    trial = Trial(optimizer)
    before = trial.weights.clone()
    update = trial.optimizer.step(trial.gradient(0), trial.rates)
    if (difference := apart(before - update, trial.weights)) > EXACT:
        optimizer.fail(f"what step() returns is not what it has subtracted from the weights (they differ by {difference:.2g}).")


def test_it_descends(optimizer: Subject) -> None:
    """Into a bowl around other weights."""
    trial = Trial(optimizer)
    target = trial.weights + trial.gradient(0)
    before = (trial.weights - target).norm()
    for _ in range(20):
        trial.optimizer.step(trial.weights - target, trial.rates)
    if not (after := (trial.weights - target).norm()) < before:
        optimizer.fail(f"20 steps into a bowl lead it from {before:.3g} to {after:.3g} away from the middle.")


def test_each_option_of_an_optimizer_changes_its_steps(optimizer: Subject) -> None:
    """Or it is of no use."""
    if optimizer.changed:
        return
    usual = Trial(optimizer, decay=0.1).step(SMALL)
    for option in optimizer.component.options:
        taken = _steps(optimizer, option)
        if taken and all(torch.equal(usual, weights) for weights in taken):
            optimizer.fail(f"its option {option} changes nothing in {STEPS} steps. Is it read?")


def _steps(optimizer: Subject, option: str) -> list[Tensor]:
    """The weights after some steps with each other value that is allowed."""
    found = []
    for value in others(optimizer.component, option):
        setting = Subject(optimizer.component, 0, {}, {option: value})
        try:
            found.append(Trial(setting, decay=0.1).step(SMALL))
        except ValueError:  # pydantic's, of a value that is not allowed
            continue
    return found
