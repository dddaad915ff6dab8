"""What each part of a model promises: mixers, fusions and feed-forward layers, in float64 and at tiny sizes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd.gradcheck import GradcheckError, gradcheck
from torch.func import vmap
from torch.utils.flop_counter import FlopCounterMode

from gt.conformance.subjects import Subject, Weights, apart, call, in_pieces, named, noise, tensors
from gt.models.init import mark_unset
from gt.seeds import Streams
from gt.training import compiled as compiler
from gt.training.flat import parameter_groups

TIME = 19  # longer than a chunk of 16, and of no use to divide
EXACT = 1e-9  # thousands of roundings of 2^-53 stay far below, and what is wrong is far above
PLACES = ((0, 1), (0, 4), (3, 4))  # a layer's number, and how many there are


@torch.no_grad()
def test_the_output_is_like_its_input(part: Subject) -> None:
    """Of the shape (batch, time, d_model), and of the type that came in."""
    for module, dtype in ((part.moved(), torch.float64), (part.moved().float(), torch.float32)):
        inputs = tuple(x.to(dtype) for x in part.inputs(3, 9))
        y, _ = call(module, inputs)
        if y.shape != inputs[0].shape:
            part.fail(f"its output is {tuple(y.shape)}, where its input is {tuple(inputs[0].shape)} (batch, time, d_model).")
        if y.dtype != dtype:
            part.fail(f"its output is {y.dtype}, where its input and parameters are {dtype}. A tensor made without `dtype`?")


@torch.no_grad()
def test_it_is_causal(part: Subject) -> None:
    """No position changes when a later one does."""
    if found := _seen_too_early(part.moved(), part.inputs(1, TIME)):
        position, later, amount = found
        part.fail(
            f"position {position} changes when position {later} does (by {amount:.2g}): it is not causal. "
            "A convolution padded on both sides, or a norm over time?"
        )


def _seen_too_early(module: Any, inputs: tuple[Tensor, ...]) -> tuple[int, int, float] | None:
    """The position that changes most with a later one, that one, and by how much; None where there is none."""
    before, _ = call(module, inputs)
    for later in (1, 7, 12, 16, TIME - 1):
        changed = tuple(x.clone() for x in inputs)
        for x in changed:
            x[:, later] = 1 + x[:, later].flip(-1)
        after, _ = call(module, changed)
        differences = (after - before)[:, :later].abs().amax((0, 2)) / before.abs().max().clamp(min=1)
        if not differences.max() <= EXACT:
            return int(differences.argmax()), later, float(differences.max())
    return None


@torch.no_grad()
def test_two_pieces_give_what_one_gives(part: Subject) -> None:
    """A sequence can be cut anywhere: the state of one call is all that the next one needs."""
    _compare(part, ([11, 8], [3, 2, 14]))


@torch.no_grad()
def test_step_by_step_gives_what_all_at_once_gives(part: Subject) -> None:
    """As in generation: one position a call, from the start and after a prompt."""
    _compare(part, ([1] * TIME, [7] + [1] * (TIME - 7)))


def _compare(part: Subject, cuts: tuple[list[int], ...]) -> None:
    module, inputs = part.moved(), part.inputs(2, TIME)
    whole, _ = call(module, inputs)
    for lengths in cuts:
        pieces = in_pieces(module, inputs, lengths)
        if (difference := apart(pieces, whole)) > EXACT:
            if _seen_too_early(module, inputs):
                pytest.skip(f"{part.said}: is not causal")
            differs = (pieces - whole).abs().amax((0, 2)).nan_to_num(nan=torch.inf) > EXACT * whole.abs().max().clamp(min=1)
            part.fail(
                f"in pieces of {', '.join(map(str, lengths))} positions its output is another from position "
                f"{int(differs.int().argmax())} on (by {difference:.2g}). Is all that the next position needs in its "
                "state, and is it read where there is one?"
            )


@torch.no_grad()
def test_sequences_of_a_batch_do_not_touch_each_other(part: Subject) -> None:
    """Each row is what it is alone, and so is what its state goes on to."""
    module, inputs = part.moved(), part.inputs(3, 2 * TIME)
    first, second = (tuple(x[:, own] for x in inputs) for own in (slice(0, TIME), slice(TIME, None)))
    y, state = call(module, first)
    later, _ = call(module, second, state)
    for row in range(3):
        alone, own_state = call(module, tuple(x[row : row + 1] for x in first))
        if (difference := apart(y[row : row + 1], alone)) > EXACT:
            part.fail(
                f"row {row} of a batch of 3 is not what it is alone (by {difference:.2g}). A norm or a sum over the batch?"
            )
        goes_on, _ = call(module, tuple(x[row : row + 1] for x in second), own_state)
        if (difference := apart(later[row : row + 1], goes_on)) > EXACT:
            part.fail(f"row {row} of a batch of 3 goes on otherwise than alone (by {difference:.2g}): its state mixes rows.")


@torch.no_grad()
def test_nothing_that_it_is_given_is_changed(part: Subject) -> None:
    """Neither its input nor the state that it goes on from: both are used again by others."""
    module, inputs = part.moved(), part.inputs(2, TIME)
    _, state = call(module, inputs)
    for what, given in (("its input", list(inputs)), ("the state that it is given", tensors(state))):
        before = [tensor.clone() for tensor in given]
        call(module, inputs, state)
        if not all(torch.equal(tensor, old) for tensor, old in zip(given, before, strict=True)):
            part.fail(f"it changes {what}, which others still need. Clone it before writing into it.")


def test_gradients_are_those_of_finite_differences(part: Subject) -> None:
    """With respect to its inputs and to each parameter (torch.autograd.gradcheck, along random directions)."""
    module = part.moved()
    if not module.exact_gradient:
        pytest.skip("says that its gradient is a stand-in (exact_gradient = False)")
    names = [name for name, _ in module.named_parameters()]
    inputs = part.inputs(1, 4)

    def output(*values: Tensor) -> Tensor:
        return call(module, values[: len(inputs)], weights=dict(zip(names, values[len(inputs) :], strict=True)))[0]

    values = [x.clone().requires_grad_() for x in (*inputs, *named(module).values())]
    if _slopes(output, values) is None:
        return
    for i, name in enumerate([*("r", "m", "x")[-len(inputs) :], *names]):
        if wrong := _slopes(output, [value.detach() if j != i else value for j, value in enumerate(values)]):
            part.fail(
                f"the gradient with respect to {name} is not the slope of its output ({wrong}). A backward() of its own, a "
                "detach() or a .data? One that is a stand-in by intention says so: self.exact_gradient = False in build()."
            )


def _slopes(output: Callable[..., Tensor], values: list[Tensor]) -> str | None:
    """Where a gradient is not that of finite differences both, as gradcheck prints them."""
    try:
        gradcheck(output, values, fast_mode=True)
    except GradcheckError as error:
        return ", ".join(line for line in str(error).splitlines() if line.startswith(("numerical:", "analytical:")))
    return None


def test_every_parameter_is_initialised(part: Subject) -> None:
    """In any layer of any depth; what is not set is refused when a model is made."""
    for layer, n_layer in PLACES:
        for name, value in named(part.reset(layer=layer, n_layer=n_layer)).items():
            if not value.isfinite().all():
                n = int((~value.isfinite()).sum())
                part.fail(
                    f"reset_parameters() leaves {n} of the {value.numel()} numbers of {name} unset or infinite "
                    f"(layer {layer} of {n_layer})."
                )


def test_initial_values_come_from_the_streams_alone(part: Subject) -> None:
    """The same seed gives the same numbers whatever was drawn before, and each parameter has a stream of its own name."""
    torch.manual_seed(1)
    module = part.made()
    before = torch.get_rng_state()
    mark_unset(module)
    module.reset_parameters(Streams(0, "layer."))
    if not torch.equal(before, torch.get_rng_state()):
        part.fail("reset_parameters() draws from torch's global generator: draw from streams.generator(name).")
    first = named(module)
    torch.manual_seed(2)
    again, other_seed, other_layer = (
        named(part.reset(seed, scope=scope)) for seed, scope in ((0, "layer."), (1, "layer."), (0, "other."))
    )
    for name, value in first.items():
        if not torch.equal(value, again[name]) and value.isfinite().all():
            part.fail(f"{name} starts at other numbers the second time: draw them in reset_parameters(), from its streams.")
        if not torch.equal(again[name], other_seed[name]) and torch.equal(again[name], other_layer[name]):
            part.fail(f"{name} starts at the same numbers in every layer: use the streams that it is given, not Streams(seed).")
    drawn = {name: value for name, value in again.items() if value.numel() > 1 and not torch.equal(value, other_seed[name])}
    for name, value in drawn.items():
        scale = value / value.std()
        for other, theirs in drawn.items():
            if other < name and theirs.shape == value.shape and torch.allclose(theirs / theirs.std(), scale):
                part.fail(f"{other} and {name} start at the same numbers: they are drawn from a stream of one name.")


def test_every_parameter_is_in_a_group(part: Subject) -> None:
    """And so has a learning rate and a weight decay."""
    module = part.moved()
    before = Counter(name for name, _ in module.named_parameters())
    call(module, part.inputs(2, 3))
    found = Counter(name for group in parameter_groups(module) for name in group.names)
    if late := found - before:
        part.fail(f"{next(iter(late))} is made in forward(), after the optimizer: make it in build().")
    for owner, own in module.named_modules():
        for name, value in vars(own).items():
            if isinstance(value, Tensor) and value.requires_grad and value.is_leaf:
                part.fail(f"{owner}{'.' if owner else ''}{name} is a tensor that learns, in no group: make it an nn.Parameter.")
    names = [name for name, _ in module.named_parameters()]
    for prefix in getattr(module, "undecayed", ()):
        if not any(name.startswith(prefix) for name in names):
            part.fail(f"undecayed names {prefix!r}, as which none of its parameters begins: {', '.join(names)}.")


def test_every_parameter_is_reached_by_a_gradient(part: Subject) -> None:
    """One that is not would be carried along, decayed and counted for nothing."""
    module = part.moved()
    if not list(module.parameters()):
        return
    y, _ = call(module, part.inputs(2, 9))
    if not y.requires_grad:
        part.fail("no parameter gets a gradient: is its output computed under no_grad(), or detached?")
    y.square().sum().backward()
    for name, parameter in module.named_parameters():
        if parameter.grad is None or not parameter.grad.any():
            part.fail(f"{name} gets no gradient: its output does not depend on it, or a detach() is in between.")


def test_stacked_runs_give_what_each_gives_alone(part: Subject) -> None:
    """Outputs and gradients of two sets of weights at once, by torch.func.vmap, as runs of a study are trained on a GPU."""
    modules = [part.moved(by) for by in (0, 1)]
    if not list(modules[0].parameters()):
        return
    own = [named(module) for module in modules]
    stacked = {name: torch.stack([weights[name] for weights in own]).requires_grad_() for name in own[0]}
    inputs = part.inputs(2, TIME)
    try:
        mapped = vmap(lambda weights, *x: call(modules[0], x, weights=weights)[0], in_dims=(0, *(None for _ in inputs)))
        y = mapped(stacked, *inputs)
    except RuntimeError as error:
        part.fail(
            f"it cannot be mapped over runs ({str(error).splitlines()[0]}). An `if` on a number in a tensor, .item(), or a "
            "write into a tensor that was made without the runs: write it with torch.where, cat and stack."
        )
    for run, module in enumerate(modules):
        alone, _ = call(module, inputs)
        if (difference := apart(y[run], alone)) > EXACT:
            part.fail(f"run {run} of two that are stacked gives another output than alone (by {difference:.2g}).")
        together = _gradients(y[run], list(stacked.values()))
        by_itself = _gradients(alone, list(module.parameters()))
        for name, at_once, own_gradient in zip(stacked, together, by_itself, strict=True):
            if (difference := apart(at_once[run], own_gradient)) > EXACT:
                part.fail(f"run {run} of two that are stacked has another gradient of {name} than alone (by {difference:.2g}).")


def _gradients(y: Tensor, weights: list[Tensor]) -> tuple[Tensor, ...]:
    """Of the sum of y's squares; zeros for what it does not depend on."""
    if not y.requires_grad:
        return tuple(map(torch.zeros_like, weights))
    return torch.autograd.grad(y.square().sum(), weights, retain_graph=True, allow_unused=True, materialize_grads=True)


def test_layers_share_its_code_only_where_it_computes_the_same(part: Subject) -> None:
    """Code is compiled once for all layers of a component, unless it says that it reads its place."""
    if part.component.kind == "fusion":
        pytest.skip("a fusion is not told its layer")
    here, there, inputs = part.moved(), part.started(layer=0), part.inputs(2, TIME)
    own = named(here)
    if here.computation != there.computation or {n: w.shape for n, w in own.items()} != {
        n: w.shape for n, w in named(there).items()
    }:
        return
    if apart(call(there, inputs, weights=own)[0], call(here, inputs)[0]) > EXACT:
        part.fail(
            "with the same weights it computes something else in another layer, and layers share compiled code. If it is to "
            "read `layer` or `n_layer`, or what `build` made of them, say so: reads_place = True in the class."
        )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_compiled_code_gives_what_eager_code_gives(part: Subject) -> None:
    """Outputs and gradients on a GPU, compiled as in training."""
    module = part.moved().cuda()
    if any(getattr(own, "sequential", False) for own in module.modules()):
        pytest.skip("goes position by position, which is not compiled")
    if part.changed:
        pytest.skip("compiled with all options at their defaults")
    inputs = tuple(x.cuda() for x in part.inputs(2, TIME))
    weights = {name: value.requires_grad_() for name, value in named(module).items()}

    def output(weights: Weights, *inputs: Tensor) -> Tensor:
        return call(module, inputs, weights=weights)[0]

    found = []
    for function in (output, compiler.compile_static(output)):
        y = function(weights, *inputs)
        found.append([y, *_gradients(y, list(weights.values()))])
    for name, eager, compiled in zip(["output", *weights], *found, strict=True):
        if (difference := apart(compiled, eager)) > EXACT:
            part.fail(f"compiled, its {'' if name == 'output' else 'gradient of '}{name} is another (by {difference:.2g}).")


@torch.no_grad()
def test_the_state_is_counted(part: Subject) -> None:
    """state_size() is what a sequence carries from one token to the next, in numbers."""
    module = part.moved()
    for time in (1, 5, TIME):
        carried = sum(tensor.numel() for tensor in tensors(call(module, part.inputs(2, time))[1])) // 2
        declared = module.state_size() if part.component.kind == "fusion" else module.state_size(time)
        if carried != declared:
            part.fail(f"after {time} tokens its state has {carried} numbers a sequence, where state_size() says {declared}.")


@torch.no_grad()
def test_operations_are_counted(part: Subject) -> None:
    """flops_per_token() has all products with weights, a multiply-add being 2, and what a recurrence can add, but no more.

    Products are counted by torch's FlopCounterMode. Elementwise work is not: a recurrence may declare up to 16 operations a
    number of its state, and chunks may be computed by more products than the recurrence that they stand for has.
    """
    module, time = part.moved().requires_grad_(False), TIME
    with FlopCounterMode(display=False) as counter:
        call(module, part.inputs(1, time))
    by_operation = counter.get_flop_counts().get("Global", {})
    least = sum(n for name, n in by_operation.items() if str(name).split(".")[-1] in ("mm", "addmm")) / time
    fusion = part.component.kind == "fusion"
    declared = module.flops_per_token() if fusion else module.flops_per_token(time)
    state = module.state_size() if fusion else module.state_size(time)
    parameters = sum(p.numel() for p in module.parameters())
    most = sum(by_operation.values()) / time + 16 * state + 2 * parameters
    if declared < int(least):
        part.fail(
            f"flops_per_token() says {declared:,} at d_model {part.d_model}, where its products with weights alone are "
            f"{least:,.0f}: a multiply-add counts 2."
        )
    if declared > most:
        part.fail(
            f"flops_per_token() says {declared:,} at d_model {part.d_model}, which is more than its products and its state "
            f"account for ({most:,.0f}). Of the forward pass alone, a token?"
        )


def test_it_runs_under_bfloat16_autocast(part: Subject) -> None:
    """As studies train: output and gradients finite, what it computes the same to bfloat16's 8 bits, a memory in float32."""
    module = part.moved().float()
    inputs = tuple(x.float() for x in part.inputs(2, 9))
    with torch.autocast("cpu", torch.bfloat16):
        y, state = call(module, inputs)
        call(module, inputs, state)
    for memory in tensors(getattr(state, "memory", None)):
        if memory.dtype != torch.float32:
            part.fail(
                f"its memory is {memory.dtype} under autocast, which loses small writes: compute it with "
                "torch.autocast(x.device.type, enabled=False), in the type of its parameters."
            )
    if not y.isfinite().all():
        part.fail("its output is not finite under bfloat16 autocast.")
    for (name, _), gradient in zip(module.named_parameters(), _gradients(y, list(module.parameters())), strict=True):
        if not gradient.isfinite().all():
            part.fail(f"the gradient of {name} is not finite under bfloat16 autocast.")
    exact, _ = call(module, inputs)
    # The middle of all positions: a choice between two that are nearly equal may fall to the other.
    error = ((y - exact).norm(dim=-1) / exact.norm(dim=-1).clamp(min=1e-6)).median()
    if error > 0.1:
        part.fail(f"under bfloat16 autocast its output is off by {error:.0%} at half of all positions: too few bits in a sum?")
    cast = {name: w.bfloat16() if name.startswith(module.products) else w for name, w in named(module).items()}
    with torch.autocast("cpu", torch.bfloat16):
        narrow, _ = call(module, inputs, weights=cast)
    if not torch.equal(narrow, y):
        part.fail(
            f"with its `products` {', '.join(module.products)} in bfloat16 it computes something else under autocast: name "
            "those parameters alone that only matrix products read."
        )


def test_weights_survive_being_saved(part: Subject) -> None:
    """All that its output depends on is in its state_dict, or the same wherever it is built."""
    module, other = part.moved(), part.started(seed=1)
    other.load_state_dict(module.state_dict())
    inputs = part.inputs(2, TIME)
    if (difference := apart(call(other, inputs)[0], call(module, inputs)[0])) > EXACT:
        part.fail(
            f"with its weights loaded into another one the output is another (by {difference:.2g}): something that "
            "reset_parameters() sets is neither a parameter nor a buffer."
        )


def test_it_trains_a_few_steps(part: Subject) -> None:
    """From its initial values, in float32, without a number that is not finite."""
    module = part.started().float()
    if not list(module.parameters()):
        return
    inputs, target = tuple(x.float() for x in part.inputs(2, 9)), noise(2, 9, part.d_model, seed=8).float()
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-2)
    for step in range(5):
        optimizer.zero_grad()
        loss = (call(module, inputs)[0] - target).square().mean()
        loss.backward()
        optimizer.step()
        for name, parameter in module.named_parameters():
            if not loss.isfinite() or not parameter.isfinite().all():
                part.fail(f"after step {step + 1} of training {name} is not finite. A root or quotient of what starts at zero?")
