"""What an evaluation and a probe promise, of a small hybrid that is trained for a few steps on words of random letters."""

from __future__ import annotations

import random
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from gt.catalogue import Component
from gt.conformance.subjects import Whole
from gt.data import corpora, ngram, tokenizers
from gt.data.sums import file_sha256
from gt.evals.subject import Subject
from gt.explain import validated
from gt.metrics import Measurement
from gt.probes.network import Network
from gt.spec import RunSpec
from gt.training.loop import Job, Settings, train

MODEL: dict[str, Any] = {
    "d_model": 16,
    "n_layer": 2,
    "layers": "r+a",
    "mixers": {"r": {"name": "rwkv6", "head_size": 8}, "a": {"name": "attention", "n_head": 2}},
    "fusion": {"name": "gated"},
}
TRAINING = {"steps": 4, "batch_size": 2, "sequence_length": 16, "evaluation_tokens": 512}
CPU = torch.device("cpu")


@cache
def trained() -> tuple[Path, Path]:
    """The record of the run, and the folder of its tokens; both are gone when the process ends."""
    folder = Path(_folder().name)
    draw = random.Random(0)
    vocabulary = ["".join(draw.choices("abcdefgh", k=4)) for _ in range(30)]
    text = folder / "words.txt"
    text.write_text(" ".join(draw.choices(vocabulary, k=20_000)))
    spec = RunSpec.model_validate(
        {
            "corpus": {"name": "file:words", "sha256": file_sha256(text)},
            "tokenizer": {"name": "char"},
            "model": MODEL,
            "training": TRAINING,
            "seed": 0,
        }
    )
    corpora.prepare(spec.corpus, folder / "corpus", text)
    tokenizers.prepare(folder / "corpus", spec.tokenizer, folder / "tokens")
    ngram.prepare(folder / "tokens")
    train(Job(spec, folder / "tokens", folder / "run"), folder / "checkpoints", Settings(CPU, checkpoint_seconds=3600))
    return folder / "run", folder / "tokens"


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="gt-conformance-")


def looked_at() -> Subject:
    """The trained model, read anew."""
    return Subject.load(*trained(), CPU)


@cache
def found(component: Component) -> tuple[Measurement, ...]:
    """All measurements of the trained model: taken once, since some take seconds."""
    torch.manual_seed(1)
    return tuple(measured(component, looked_at()))


def measured(component: Component, subject: Subject) -> list[Measurement]:
    """All measurements of a model, options at their defaults."""
    if component.kind == "probe":
        return list(component.load()().measure(Network(subject, trained()[0])))
    if required := [name for name, own in component.config.model_fields.items() if own.is_required()]:
        pytest.skip(f"its option {required[0]} has no default")
    own = component.load()(validated(component.config, {}, component.name))
    if own.on == "tasks":
        pytest.skip("measures models of recall tasks alone")
    return list(own.measure(subject))


def is_timed(unit: str) -> bool:
    """Whether it differs from one time to the next because a clock does."""
    return unit == "s" or unit.endswith("/s")


def test_what_is_measured_is_declared(measure: Whole) -> None:
    """Each measurement is of one of `metrics`, has its axes, and is there once; and something is measured at all."""
    known = {metric.name: metric for metric in measure.component.load().metrics}
    seen = set()
    for own in found(measure.component):
        if (metric := known.get(own.metric)) is None:
            measure.fail(f"it measures {own.metric!r}, which is none of its metrics: {', '.join(known)}.")
        axes = {axis.name for axis in metric.axes} | ({"layer"} if measure.component.kind == "probe" else set())
        if strange := set(own.axes) - axes:
            measure.fail(f"{own.metric} is at a {strange.pop()!r}, which is none of its axes: {', '.join(axes) or 'none'}.")
        if (key := (own.metric, tuple(sorted(own.axes.items())))) in seen:
            measure.fail(f"{own.name} is measured twice at {own.axes}: name what differs as an axis.")
        if metric.read(own.name) is None:
            measure.fail(f"{own.name} does not look as {own.metric} says: mend the form of its axes.")
        seen.add(key)
    if not seen:
        measure.fail("it measures nothing of a hybrid of RWKV-6 and attention that was trained on text.")


def test_what_is_measured_is_a_number(measure: Whole) -> None:
    """Of a model that is healthy; null is for what a model has not."""
    there = found(measure.component)
    if there and all(own.value is None for own in there):
        measure.fail(f"none of its {len(there)} measurements is a finite number.")


def test_measuring_again_gives_the_same(measure: Whole) -> None:
    """Whatever was drawn before: what is random comes from gt.seeds."""
    metrics = {metric.name: metric for metric in measure.component.load().metrics}
    first = found(measure.component)
    torch.manual_seed(2)
    for one, other in zip(first, measured(measure.component, looked_at()), strict=True):
        if one != other and not is_timed(metrics[one.metric].unit):
            measure.fail(
                f"{one.name} is {one.value} the first time and {other.value} the second: draw from gt.seeds, and not from a "
                "generator that others use."
            )


def test_a_model_is_left_as_it_was(measure: Whole) -> None:
    """Its weights, whether it trains, its gradients and hooks; and torch's generator, that others draw from."""
    subject = looked_at()
    model = subject.model
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    modes = {name: module.training for name, module in model.named_modules()}
    before = torch.get_rng_state()
    measured(measure.component, subject)
    for name, value in model.state_dict().items():
        if not torch.equal(value, weights[name]):
            measure.fail(f"it changes {name}: work on a copy, or put it back in a `finally`.")
    for name, module in model.named_modules():
        if module.training != modes[name]:
            measure.fail(f"it leaves {name or 'the model'} in another mode: call model.eval() where it was in that mode.")
        if module._forward_hooks or module._forward_pre_hooks:
            measure.fail(f"it leaves a hook on {name or 'the model'}: use gt.evals.subject.hooked.")
    if any(parameter.grad is not None for parameter in model.parameters()):
        measure.fail("it leaves gradients in the model: use torch.autograd.grad, or set them to None.")
    if not torch.equal(before, torch.get_rng_state()):
        measure.fail("it draws from torch's global generator: draw from gt.seeds.torch_stream.")
