"""One layer: a mixer, or two in parallel joined by a fusion, and a feed-forward layer."""

from __future__ import annotations

from typing import Any

import torch.utils.checkpoint
from torch import Tensor, nn

from gt.catalogue import component
from gt.models.init import constant_, norm_
from gt.models.mixers.wrap import Wrapped
from gt.seeds import Streams
from gt.spec import ModelSpec


def build(kind: str, spec: Any, *args: int) -> nn.Module:
    """The component that a part of a ModelSpec names, with its options."""
    module: nn.Module = component(kind, spec.name).load()(*args, **spec.model_dump(exclude={"name"}))
    return module


def norm(spec: ModelSpec) -> nn.Module:
    """RMSNorm (eps 1e-6) or LayerNorm (eps 1e-5) over d_model."""
    return nn.RMSNorm(spec.d_model, eps=1e-6) if spec.norm == "rms" else nn.LayerNorm(spec.d_model, eps=1e-5)


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
                self.branch_norms = nn.ModuleDict({letter: nn.RMSNorm(spec.d_model, eps=1e-6) for letter in letters})
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
        n = x if self.post else _through(self.mixer_norm, x)
        mixed, states = self._mix(n, x, state)
        x, last = self.finish(x, mixed, n, state["feed_forward"] if state and self.feed_forward is not None else None)
        if self.feed_forward is not None:
            states["feed_forward"] = last
        return x, states

    def finish(self, x: Tensor, mixed: Tensor, n: Tensor, state: Any) -> tuple[Tensor, Any]:
        """What comes after the mixers: x with mix(n), and the feed-forward layer. Returns that layer's state beside."""
        x = self._add(x, mixed, "mixer")
        if self.feed_forward is None:
            return x, None
        inner = n if self.beside else x if self.post else _through(self.feed_forward_norm, x)
        y, state = self.feed_forward(inner, state)
        return self._add(x, y, "feed_forward"), state

    def _add(self, x: Tensor, y: Tensor, sublayer: str) -> Tensor:
        """The residual stream x with the output y of a sublayer, `mixer` or `feed_forward`."""
        y = _through(getattr(self, f"{sublayer}_gain"), _through(getattr(self, f"{sublayer}_output_norm"), y))
        return _through(getattr(self, f"{sublayer}_norm"), x + y) if self.post else x + y

    def _mix(self, n: Tensor, x: Tensor, state: Any) -> tuple[Tensor, dict[str, Any]]:
        outputs, states = [], {}
        for letter, mixer in self.mixers.items():
            past = state[letter] if state else None
            if letter in self.recompute and self.training:
                y, states[letter] = torch.utils.checkpoint.checkpoint(mixer, n, past, use_reentrant=False)
            else:
                y, states[letter] = mixer(n, past)
            outputs.append(self.branch_norms[letter](y) if self.branch_norms is not None else y)
        if self.fusion is None:
            return outputs[0], states
        fused = self.fusion(*outputs, x, state["fusion"] if state else None)
        states["fusion"] = fused.state
        return fused.y, states

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


def _through(module: Any, x: Tensor) -> Tensor:
    """module(x), or x where there is no module."""
    return x if module is None else module(x)


def _reset(module: Any, streams: Streams) -> None:
    if isinstance(module, (nn.RMSNorm, nn.LayerNorm)):
        norm_(module)
    else:
        module.reset_parameters(streams)
