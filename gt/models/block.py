"""One layer: a mixer, or two in parallel joined by a fusion, and a feed-forward layer."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gt.catalogue import component
from gt.models.init import constant_, norm_
from gt.models.mixers.wrap import Wrapped
from gt.models.norms import LayerNorm, RMSNorm
from gt.models.regions import Parts, Region, present, run
from gt.seeds import Streams
from gt.spec import ModelSpec


def build(kind: str, spec: Any, *args: int) -> nn.Module:
    """The component that a part of a ModelSpec names, with its options."""
    module: nn.Module = component(kind, spec.name).load()(*args, **spec.model_dump(exclude={"name"}))
    return module


def norm(spec: ModelSpec) -> nn.Module:
    """RMSNorm (eps 1e-6) or LayerNorm (eps 1e-5) over d_model."""
    return RMSNorm(spec.d_model, eps=1e-6) if spec.norm == "rms" else LayerNorm(spec.d_model, eps=1e-5)


class Block(nn.Module):
    """A residual layer: two sublayers f, first mix, then feed_forward.

    pre:     x = x + f(norm(x))
    output:  x = x + norm(f(x))              (OLMo 2, arXiv:2501.00656)
    both:    x = x + norm(f(norm(x)))        (Gemma 2, arXiv:2408.00118)
    post:    x = norm(x + f(x))              (Radford et al. 2018)
    beside:  n = norm(x), x = x + mix(n) + feed_forward(n)     (Wang and Komatsuzaki 2021; Falcon-H1's SAM)

    mix(n) is a mixer's output, or fuse(r(n), m(n)) for two mixers in parallel (lines 18-37 of document 3). With
    `residual_gain`, what a sublayer adds is multiplied by a learned gain a channel (Touvron et al. 2021, arXiv:2103.17239,
    LayerScale).
    """

    def __init__(self, spec: ModelSpec, layer: int, letters: tuple[str, ...]) -> None:
        super().__init__()
        place = (spec.d_model, layer, spec.n_layer)
        self.post, self.beside = spec.norm_position == "post", spec.feed_forward_place == "beside"
        normed_output = spec.norm_position in ("output", "both")
        # Letters of the mixers whose activations are computed again in the backward pass, to save memory.
        self.recompute: set[str] = set()
        self.mixer_norm = None if spec.norm_position == "output" else norm(spec)
        self.mixer_output_norm = norm(spec) if normed_output else None
        self.mixer_gain = _gain(spec)
        self.mixers: Any = nn.ModuleDict()
        for letter in letters:
            mixer = build("mixer", spec.mixers[letter], *place)
            wrap = spec.wraps.get(letter)
            self.mixers[letter] = Wrapped(mixer, spec.d_model, wrap) if wrap else mixer
        self.fusion: nn.Module | None = None
        self.branch_norms: nn.ModuleDict | None = None
        if len(letters) == 2:
            self.fusion = build("fusion", spec.fusion, spec.d_model)
            if spec.branch_norm == "rms":
                self.branch_norms = nn.ModuleDict({letter: RMSNorm(spec.d_model, eps=1e-6) for letter in letters})
        self.feed_forward: nn.Module | None = None
        self.feed_forward_norm: nn.Module | None = None
        self.feed_forward_output_norm: nn.Module | None = None
        self.feed_forward_gain: nn.Module | None = None
        if spec.feed_forward is not None:
            self.feed_forward = build("feed_forward", spec.feed_forward, *place)
            self.feed_forward_norm = None if self.beside or spec.norm_position == "output" else norm(spec)
            self.feed_forward_output_norm = norm(spec) if normed_output else None
            self.feed_forward_gain = _gain(spec)

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """x: (batch, time, d_model). state: None, or what the previous piece of the sequence returned."""
        states = {}

        def call(region: Region, *inputs: Tensor) -> tuple[Tensor | None, ...]:
            past = state[region.state] if state and region.state else None
            if region.recompute and self.training:
                given, new = checkpoint(region.function, region.parts, *inputs, past, use_reentrant=False)
            else:
                given, new = region.function(region.parts, *inputs, past)
            if region.state:
                states[region.state] = new
            return given

        return run(self.regions(), {"x": x}, call)["x"], states

    @property
    def begins_with_norm(self) -> bool:
        """Whether it begins with a norm, so that it can also take a sum that has not been taken."""
        return self.mixer_norm is not None and not self.post

    def regions(self, of_sum: bool = False, leaves_sum: bool = False) -> list[Region]:
        """What it computes, from the value x to the next x: its norm, each mixer with its own norm, the fusion, and all that
        comes after them.

        of_sum: x has yet to be summed with a value `added`; leaves_sum: it leaves its last sum so. A norm of a sum is one pass.
        """
        found, n, mixed = list[Region](), "x", [f"mixers.{letter}" for letter in self.mixers]
        if self.begins_with_norm and of_sum:
            found, n = [Region(("x", "n"), ("x", "added"), {"norm": self.mixer_norm}, _summed_and_normed)], "n"
        elif self.begins_with_norm:
            found, n = [Region(("n",), ("x",), {"norm": self.mixer_norm}, _normed)], "n"
        for (letter, mixer), y in zip(self.mixers.items(), mixed, strict=True):
            beside = len(mixed) == 2 and y == mixed[0]
            recompute = letter in self.recompute
            found.append(Region((y,), (n,), {"mixer": mixer}, _mixed, letter, beside, recompute))
            if self.branch_norms is not None:
                found.append(Region((y,), (y,), {"norm": self.branch_norms[letter]}, _normed, beside=beside))
        if self.fusion is not None:
            found.append(Region(("mixed", "gate"), (*mixed, "x"), {"fusion": self.fusion}, _fused, "fusion"))
        parts = present(
            mixer_output_norm=self.mixer_output_norm,
            mixer_gain=self.mixer_gain,
            mixer_sum_norm=self.mixer_norm if self.post else None,
            feed_forward_norm=None if self.post else self.feed_forward_norm,
            feed_forward=self.feed_forward,
            feed_forward_output_norm=self.feed_forward_output_norm,
            feed_forward_gain=self.feed_forward_gain,
            feed_forward_sum_norm=self.feed_forward_norm if self.post else None,
        )
        inputs = ["x", "mixed" if self.fusion is not None else mixed[0], *([n] if self.beside else [])]
        state = "feed_forward" if self.feed_forward is not None else None
        outputs, function = (("x", "added"), _almost_finished) if leaves_sum else (("x",), _finished)
        return [*found, Region(outputs, tuple(inputs), parts, function, state)]

    def reset_parameters(self, streams: Streams) -> None:
        """Norms to one, gains to their start; every other part from its own scope."""
        for name, module in self.named_children():
            if name in ("mixers", "branch_norms"):
                for letter, child in module.named_children():
                    _reset(child, streams.scope(name).scope(letter))
            else:
                _reset(module, streams.scope(name))

    def parts(self) -> list[Any]:
        """The mixers, the fusion and the feed-forward layer that this layer has."""
        return [*self.mixers.values(), *(p for p in (self.fusion, self.feed_forward) if p is not None)]


class Gain(nn.Module):
    """A learned factor for each channel."""

    computation: ClassVar[Hashable] = "gain"

    def __init__(self, d_model: int, initial: float) -> None:
        super().__init__()
        self.initial = initial
        self.weight = nn.Parameter(torch.empty(d_model))

    def forward(self, x: Tensor) -> Tensor:
        """x: (..., d_model) -> the same shape."""
        return self.weight * x

    def reset_parameters(self, streams: Streams) -> None:
        """Every channel at its start."""
        constant_(self.weight, self.initial)


def _gain(spec: ModelSpec) -> Gain | None:
    """The gain that a model has on what each sublayer adds."""
    return None if spec.residual_gain is None else Gain(spec.d_model, spec.residual_gain)


def _normed(parts: Parts, x: Tensor, state: None = None) -> tuple[tuple[Tensor], None]:
    return (parts["norm"](x),), None


def _summed_and_normed(parts: Parts, x: Tensor, added: Tensor, state: None = None) -> tuple[tuple[Tensor, Tensor], None]:
    return parts["norm"].of_sum(x, added), None


def _mixed(parts: Parts, n: Tensor, state: Any = None) -> tuple[tuple[Tensor], Any]:
    y, state = parts["mixer"](n, state)
    return (y,), state


def _fused(parts: Parts, r: Tensor, m: Tensor, x: Tensor, state: Any = None) -> tuple[tuple[Tensor, Tensor | None], Any]:
    y, gate, state = parts["fusion"](r, m, x, state)
    return (y, gate), state


def _finished(parts: Parts, x: Tensor, mixed: Tensor, *rest: Any) -> tuple[tuple[Tensor], Any]:
    """What comes after the mixers: x with mix(n), and the feed-forward layer. rest: n, if that layer reads it; its state."""
    (x, y), state = _almost_finished(parts, x, mixed, *rest)
    last = "feed_forward" if "feed_forward" in parts else "mixer"
    return (_through(parts, f"{last}_sum_norm", x + y),), state


def _almost_finished(parts: Parts, x: Tensor, mixed: Tensor, *rest: Any) -> tuple[tuple[Tensor, Tensor], Any]:
    """The same but for the last sum: x, and what is to be added to it."""
    *beside, state = rest
    y = _added(parts, "mixer", mixed)
    if "feed_forward" not in parts:
        return (x, y), None
    if "feed_forward_norm" in parts:
        x, n = parts["feed_forward_norm"].of_sum(x, y)
    else:
        x = _through(parts, "mixer_sum_norm", x + y)
        n = beside[0] if beside else x
    y, state = parts["feed_forward"](n, state)
    return (x, _added(parts, "feed_forward", y)), state


def _added(parts: Parts, sublayer: str, y: Tensor) -> Tensor:
    """What the residual stream gets of the output y of a sublayer, `mixer` or `feed_forward`."""
    return _through(parts, f"{sublayer}_gain", _through(parts, f"{sublayer}_output_norm", y))


def _through(parts: Parts, name: str, x: Tensor) -> Tensor:
    """What a module gives for x, or x where there is none."""
    y: Tensor = parts[name](x) if name in parts else x
    return y


def _reset(module: Any, streams: Streams) -> None:
    if isinstance(module, (nn.RMSNorm, nn.LayerNorm)):
        norm_(module)
    else:
        module.reset_parameters(streams)
