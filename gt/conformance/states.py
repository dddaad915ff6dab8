"""What the state of a mixer promises, and how far a feed-forward layer looks."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from gt.conformance.parts import EXACT, TIME
from gt.conformance.subjects import Subject, call, tensors
from gt.models.mixers.base import State


@torch.no_grad()
def test_a_mixer_says_what_its_state_is(mixer: Subject) -> None:
    """A `State` of tensors that begin with the batch, so that rows can be taken out of it; its memory's axes have names."""
    module, batch = mixer.moved(), 3
    _, state = call(module, mixer.inputs(batch, 5))
    if not isinstance(state, State):
        mixer.fail(f"its state is a {type(state).__name__}: return gt.models.mixers.base.State(memory, context).")
    for leaf in tree_leaves(state):
        if leaf is not None and not isinstance(leaf, Tensor):
            mixer.fail(f"its state holds {leaf!r}, which is no tensor: what differs between sequences has the batch's axis.")
        if leaf is not None and leaf.shape[:1] != (batch,):
            mixer.fail(f"its state holds a tensor of shape {tuple(leaf.shape)} for a batch of {batch}: the batch comes first.")
    memories = tensors(state.memory)
    if not memories and module.axes:
        mixer.fail(f"axes is {module.axes}, but it has no memory: write axes = ().")
    for memory in memories:
        if len(module.axes) != memory.ndim or module.axes[:1] != ("batch",):
            mixer.fail(f"its memory is {tuple(memory.shape)}, and axes is {module.axes}: name each dimension, 'batch' first.")


@torch.no_grad()
def test_a_memory_has_one_size(mixer: Subject) -> None:
    """However much came before; what grows is context."""
    module = mixer.moved()
    shapes = {}
    for time in (1, 5, TIME):
        _, state = call(module, mixer.inputs(2, time))
        shapes[time] = [tuple(memory.shape) for memory in tensors(getattr(state, "memory", None))]
    if shapes[1] != shapes[TIME] or shapes[5] != shapes[TIME]:
        mixer.fail(
            f"its memory is {shapes[1]} after 1 token and {shapes[TIME]} after {TIME}: what grows belongs in State.context."
        )


def test_a_mixer_carries_something_on(mixer: Subject) -> None:
    """What stands at one position shows at a later one."""
    module, (x,) = mixer.moved(), mixer.inputs(1, TIME)
    (gradient,) = torch.autograd.grad(call(module, (x.requires_grad_(),))[0][:, -1].square().sum(), x)
    if not gradient[:, :-1].any():
        mixer.fail(f"position {TIME - 1} depends on none of those before it: it mixes nothing.")


@torch.no_grad()
def test_a_feed_forward_layer_looks_one_position_back_at_most(feed_forward: Subject) -> None:
    """What looks further is a mixer."""
    module, (x,) = feed_forward.moved(), feed_forward.inputs(1, 9)
    changed = x.clone()
    changed[:, 3] += 1
    differences = (call(module, (changed,))[0] - call(module, (x,))[0]).abs().amax((0, 2))
    if differences[5:].max() > EXACT:
        position = 5 + int(differences[5:].argmax())
        feed_forward.fail(
            f"position {position} changes when position 3 does (by {differences[position]:.2g}), which is a mixer's work."
        )
