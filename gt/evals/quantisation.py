"""What 8-bit states and decays cost in loss: quantisation simulated in a trained model (claim C-D-15).

Rounded values go on in the model's own precision; weights and activations are left alone. Rounding is symmetric, with one scale
for a tensor of one sequence (per tensor, as lines 98-114 of document 1 have it): x -> s round(x / s), s = max |x| / 127. A
model is compared with itself, over whole windows of as many tokens under any tokenizer.

    state/<mixer>/int8   the matrix state, after every token, in all layers of that mixer
    decay/fp16, int8     RWKV-6's decay w_t in (0, 1) of every token and channel; in 8 bits 255 levels from 0 to 1
    log_decay/fp16, int8 the same, where what is rounded is log(-log w_t), as the layer's projection gives it
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from gt.data.batches import whole_windows
from gt.evals.base import Evaluation
from gt.evals.generation import state_tensors
from gt.evals.subject import Subject, hooked
from gt.metrics import NATS, Axis, Measurement, Metric
from gt.models.lm import audit
from gt.models.mixers.mamba2 import Mamba2
from gt.models.mixers.rwkv6 import RWKV6
from gt.numbers import exponential
from gt.training.engine import Engine
from gt.training.losses import autocast, cross_entropies

# Of the val split. A state that is rounded after every token is read token by token.
TARGETS = {"cpu": 2048, "cuda": 32_768}
STATES: dict[str, type[nn.Module]] = {"mamba2": Mamba2, "rwkv6": RWKV6}
Rounding = Callable[[Tensor], Tensor]


def _rounding(name: str, _mixers: Mapping[str, str]) -> str:
    what, *mixer, kind = name.split("/")
    whose = {"mamba2": "Mamba-2's states", "rwkv6": "RWKV-6's states"}[mixer[0]] if mixer else what.replace("_", " ") + "s"
    return f"{whose} to {'8 bits' if kind == 'int8' else 'half precision'}"


ROUNDING = Axis(
    "rounding",
    ("state/mamba2/int8", "state/rwkv6/int8", "decay/fp16", "decay/int8", "log_decay/fp16", "log_decay/int8"),
    _rounding,
)


class Quantisation(Evaluation):
    """What rounding the states and decays of a trained model costs in loss."""

    name = "quantisation"
    on = "texts"
    metrics = (
        Metric(
            "quantisation/<rounding>/difference",
            "loss added by rounding <rounding>",
            NATS,
            (ROUNDING,),
            "lower",
            "loss with rounded states or decays less that without",
            "C-D-15",
        ),
        Metric(
            "quantisation/<rounding>/se",
            "standard error of the loss added by rounding <rounding>",
            NATS,
            (ROUNDING,),
            "lower",
            "of the difference, over windows",
        ),
        Metric(
            "quantisation/<rounding>/perplexity_ratio",
            "perplexity with rounding <rounding> over that without",
            "",
            (ROUNDING,),
            "lower",
            "the ratio of perplexities",
            "C-D-15",
        ),
    )

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        """For each rounding that the model has a place for: the difference of the loss (nats/token), its standard error over
        windows, and the ratio of perplexities.
        """
        n_targets = TARGETS[subject.device.type]
        windows = torch.from_numpy(whole_windows(subject.tokens.val, subject.length, n_targets))
        plain = _whole(subject, windows)
        groups = {
            f"state/{name}/int8": mixers
            for name, kind in STATES.items()
            if (mixers := [m for m in subject.model.modules() if type(m) is kind])
        }
        cases: dict[str, Tensor] = {}
        if groups:
            with rounded_states(list(groups.values()), int8):
                side_by_side = _token_by_token(subject, windows.repeat(len(groups), 1))
            cases |= zip(groups, side_by_side.chunk(len(groups)), strict=True)
        if layers := [m for m in subject.model.modules() if type(m) is RWKV6]:
            for name, rounding in DECAYS.items():
                with rounded_decays(layers, rounding):
                    cases[name] = _whole(subject, windows)
        for name, losses in cases.items():
            yield from _compared(name, (losses - plain).numpy())


def int8(x: Tensor) -> Tensor:
    """(batch, ...) -> the nearest of 255 evenly spaced values, with a scale for each row."""
    scale = x.abs().flatten(1).amax(1).clamp(min=torch.finfo(x.dtype).tiny).view(-1, *[1] * (x.ndim - 1)) / 127
    return (x / scale).round() * scale


def fp16(x: Tensor) -> Tensor:
    """The nearest half-precision number."""
    return x.half().to(x.dtype)


def _of_decay(rounding: Rounding) -> Rounding:
    """A rounding of w, as one of log(-log w)."""
    return lambda x: rounding(x.double().exp().neg().exp()).log().neg().log().to(x.dtype)


DECAYS: dict[str, Rounding] = {
    "decay/fp16": _of_decay(fp16),
    "decay/int8": _of_decay(lambda w: (255 * w).round() / 255),
    "log_decay/fp16": fp16,
    "log_decay/int8": int8,
}


@contextmanager
def rounded_states(groups: Sequence[Sequence[nn.Module]], rounding: Rounding) -> Iterator[None]:
    """Meanwhile a batch is of as many equal parts as there are groups of mixers, and in the i-th part the matrix states that
    the i-th group returns are rounded.
    """
    placed = [(group, mixer) for group, mixers in enumerate(groups) for mixer in mixers]

    def after(i: int, _inputs: Any, output: Any) -> None:
        for memory in tree_leaves(output[1].memory):
            part = memory.chunk(len(groups))[placed[i][0]]
            part.copy_(rounding(part))

    with hooked([mixer for _, mixer in placed], after):
        yield


@contextmanager
def rounded_decays(layers: list[RWKV6], rounding: Rounding) -> Iterator[None]:
    """Meanwhile log(-log w) of these layers is rounded."""
    with hooked([layer.w_proj.linear for layer in layers], lambda _i, _inputs, output: rounding(output)):
        yield


def _whole(subject: Subject, windows: Tensor) -> Tensor:
    """The mean loss of each window, (windows,)."""
    return subject.last_losses(windows, subject.length).mean(1)


@torch.inference_mode()
def _token_by_token(subject: Subject, windows: Tensor) -> Tensor:
    """The same, with a call for each token: on a GPU one CUDA graph, but where the state grows."""
    model = subject.model
    grows = model.position is not None or audit(model, 1).state_size != audit(model, 2).state_size
    engine = Engine(subject.device, "eager" if grows else None)
    state: Any = None

    def read() -> None:
        nonlocal state
        with autocast(subject.device, subject.spec.training.precision):
            logits, after = model(pair[:, :1], state)
        loss.copy_(cross_entropies(logits, pair[:, 1:]))
        if state is None or grows:
            state = after
        else:
            for old, new in zip(state_tensors(state), state_tensors(after), strict=True):
                old.copy_(new)

    with engine.stream():
        windows = windows.to(subject.device)
        pair = windows[:, :2].clone()
        loss = torch.empty(len(windows), dtype=torch.float64, device=subject.device)
        read()
        total = loss.clone()
        for t in range(1, windows.shape[1] - 1):
            pair.copy_(windows[:, t : t + 2])
            engine("read", read, [loss, *state_tensors(state)])
            total += loss
        return (total / (windows.shape[1] - 1)).cpu()


def _compared(name: str, d: np.ndarray) -> Iterator[Measurement]:
    """d: the differences of windows, (n,)."""
    if np.isfinite(d).all():
        difference = float(d.mean())
        yield Measurement("quantisation/<rounding>/difference", {"rounding": name}, difference)
        yield Measurement("quantisation/<rounding>/se", {"rounding": name}, float(d.std() / math.sqrt(len(d))))
        yield Measurement("quantisation/<rounding>/perplexity_ratio", {"rounding": name}, exponential(difference))
