"""Training in plain JAX and optax: seeds under one `vmap`, steps in one `scan`, compiled as a whole.

AdamW, clipping and the schedule are ours; activations are bfloat16 where the specification says so, weights float32.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

from gt.bench.candidates import Candidate
from gt.bench.events import Event, Json, summary
from gt.bench.peers import jax_gpt2, jax_hybrid
from gt.data.tokens import Tokens
from gt.models.lm import LanguageModel, count
from gt.seeds import Streams
from gt.spec import RunSpec, TrainingSpec
from gt.training.flat import parameter_groups

Array: TypeAlias = Any
Tree: TypeAlias = Any  # of arrays
LAYERS = "body.blocks."
# Steps in one call. Each has to be worth more than a call takes, and a round to have several calls.
STEPS, CALL_FLOPS = 32, 4e13


class Program:
    """The program of a candidate, for as many runs as it stacks. `take` counts in multiples of `stride`."""

    def __init__(self, candidate: Candidate, tokens: Tokens, device: torch.device) -> None:
        jax.config.update("jax_platforms", device.type)  # RuntimeError where JAX has no plug-in for it
        specs = [spec for specs in candidate.specs() for spec in specs]
        self.spec = specs[0]
        flops_per_token = count(self.spec.model, tokens.vocab_size, self.spec.training.sequence_length).flops_per_token
        step_flops = 3 * flops_per_token * len(specs) * self.spec.training.batch_size * self.spec.training.sequence_length
        self.stride = int(np.clip(2 ** np.floor(np.log2(CALL_FLOPS / step_flops)), 1, STEPS))
        transformation = optimizer(self.spec, tokens.vocab_size)
        attention: jax_gpt2.Attention = "cudnn" if candidate.rival == "JAX, cuDNN" else "xla"
        self.update = partial(update, spec=self.spec, transformation=transformation, attention=attention)
        self.weights = jax.device_put(initial(specs, tokens.vocab_size))
        self.state = jax.vmap(transformation.init)(self.weights)
        self.text = jnp.asarray(tokens.train.astype(np.int32))
        self.key = jax.random.key(0)
        self.steps: Any = jax.jit(self._steps, donate_argnums=(0, 1)).lower(*self._given()).compile()
        self.parameters = sum(leaf.size for leaf in jax.tree.leaves(self.weights)) // len(specs)
        # What the compiler has planned; counters of JAX are those of the whole process, autotuning included.
        plan = self.steps.memory_analysis()
        held = plan.argument_size_in_bytes + plan.output_size_in_bytes - plan.alias_size_in_bytes
        self.peak_memory: int | None = held + plan.temp_size_in_bytes if device.type == "cuda" else None

    def take(self, steps: int) -> None:
        """Take steps, and wait until they are done."""
        for _ in range(steps // self.stride):
            self.key, _ = jax.random.split(self.key)
            self.weights, self.state, losses = self.steps(*self._given())
        losses.block_until_ready()

    def kernels(self) -> Json:
        """What a step runs, on average over one call, by the counters that JAX reads."""
        with tempfile.TemporaryDirectory() as folder:
            options = jax.profiler.ProfileOptions()
            options.python_tracer_level = options.host_tracer_level = 0
            with jax.profiler.trace(folder, profiler_options=options):
                self.take(self.stride)
            (file,) = Path(folder).rglob("*.xplane.pb")
            found = list(of_streams(jax.profiler.ProfileData.from_file(str(file)).planes))
        if not found:
            raise RuntimeError("JAX's profiler saw no kernels")
        return summary(found, self.stride)

    def _given(self) -> tuple[Tree, Tree, Array, Array]:
        return self.weights, self.state, self.text, self.key

    def _steps(self, weights: Tree, state: Tree, text: Array, key: Array) -> tuple[Tree, Tree, Array]:
        """`stride` steps of all runs, each on batches of its own. Returns the losses (step, run) beside."""
        training, runs = self.spec.training, jax.tree.leaves(weights)[0].shape[0]
        last = len(text) - training.sequence_length
        starts = jax.random.randint(key, (self.stride, runs, training.batch_size, 1), 0, last)

        def step(carry: tuple[Tree, Tree], starts: Array) -> tuple[tuple[Tree, Tree], Array]:
            windows = text[starts + jnp.arange(training.sequence_length + 1)]
            *carried, losses = jax.vmap(self.update)(*carry, windows)
            return tuple(carried), losses  # type: ignore[return-value]

        (weights, state), losses = jax.lax.scan(step, (weights, state), starts)
        return weights, state, losses


def update(
    weights: Tree, state: Tree, windows: Array, spec: RunSpec, transformation: Any, attention: jax_gpt2.Attention = "xla"
) -> tuple[Tree, Tree, Array]:
    """One step of one run on windows (batch, time + 1). Returns its loss, the mean in nats, beside."""

    def loss(weights: Tree) -> Array:
        found = logits(weights, windows[:, :-1], spec, attention)
        return optax.softmax_cross_entropy_with_integer_labels(found, windows[:, 1:]).mean()

    value, gradient = jax.value_and_grad(loss)(weights)
    changes, state = transformation.update(gradient, state, weights)
    return optax.apply_updates(weights, changes), state, value


def logits(weights: Tree, tokens: Array, spec: RunSpec, attention: jax_gpt2.Attention = "xla") -> Array:
    """Of one run: tokens (batch, time) -> (batch, time, vocab)."""
    dtype = jnp.bfloat16 if spec.training.precision == "bfloat16" else jnp.float32
    if "a" in spec.model.mixers:
        return jax_gpt2.logits(weights, tokens, spec.model, dtype, attention)
    return jax_hybrid.logits(weights, tokens, spec.model, dtype)


def initial(specs: list[RunSpec], vocab_size: int) -> Tree:
    """Our weights, each run's at its seed: {name: (run, *shape), "layers": {name: (run, layer, *shape)}}."""
    return jax.tree.map(lambda *runs: np.stack(runs), *(of_run(spec, vocab_size) for spec in specs))


def of_run(spec: RunSpec, vocab_size: int) -> Tree:
    model = LanguageModel(spec.model, vocab_size)
    model.reset_parameters(Streams(spec.seed))
    return by_layer({name: weight.detach().numpy() for name, weight in model.named_parameters()})


def by_layer(of_names: dict[str, Any]) -> Tree:
    """Arrays by our names -> those outside of the layers, and under "layers" each of all layers in one."""
    outer = {name: array for name, array in of_names.items() if not name.startswith(LAYERS)}
    layers: dict[str, list[Any]] = {}
    for name, array in of_names.items():
        if name.startswith(LAYERS):
            layers.setdefault(name.removeprefix(LAYERS).partition(".")[2], []).append(array)
    return {**outer, "layers": {name: np.stack(arrays) for name, arrays in layers.items()}}


def optimizer(spec: RunSpec, vocab_size: int) -> optax.GradientTransformation:
    """As `spec.training` says: decay of matrices alone, warm-up, a cosine, clipping."""
    training, options = spec.training, spec.training.optimizer
    with torch.device("meta"):
        groups = parameter_groups(LanguageModel(spec.model, vocab_size))
    decayed = by_layer({name: np.asarray(group.matrix) for group in groups for name in group.names})
    decayed = jax.tree.map(lambda of_layers: bool(of_layers.all()), decayed)
    adamw = optax.adamw(
        schedule(training), options.beta1, options.beta2, options.epsilon, weight_decay=training.weight_decay, mask=decayed
    )
    return optax.chain(optax.clip_by_global_norm(training.clip_norm), adamw)


def schedule(training: TrainingSpec) -> optax.Schedule:
    """As `gt.training.schedule`: the warm-up's first step has a rate above zero, and its last one the whole."""
    peak, warmup = training.learning_rate, max(1, round(training.warmup_ratio * training.steps))
    end = peak * training.min_learning_rate_ratio
    return optax.warmup_cosine_decay_schedule(peak / warmup, peak, warmup - 1, training.steps - 1, end)


def of_streams(planes: Iterable[Any]) -> Iterable[Event]:
    """The kernels and copies of a profile, which has a line for each stream of a GPU beside derived ones."""
    for plane in planes:
        if plane.name.startswith("/device:GPU"):
            for line in plane.lines:
                if line.name.startswith("Stream"):
                    for event in line.events:
                        yield Event(event.name, line.name, event.start_ns / 1e3, event.duration_ns / 1e3)
