"""One layer: a mixer, or two in parallel joined by a fusion, then a feed-forward layer."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from gt.catalogue import components
from gt.models.init import norm_
from gt.seeds import Streams
from gt.spec import ModelSpec


def build(kind: str, spec: Any, *args: int) -> nn.Module:
    """The component that a part of a ModelSpec names, with its options."""
    module: nn.Module = components(kind)[spec.name].load()(*args, **spec.model_dump(exclude={"name"}))
    return module


def norm(spec: ModelSpec) -> nn.Module:
    """RMSNorm (eps 1e-6, the record's) or LayerNorm (eps 1e-5) over d_model."""
    return nn.RMSNorm(spec.d_model, eps=1e-6) if spec.norm == "rms" else nn.LayerNorm(spec.d_model, eps=1e-5)


class Block(nn.Module):
    """A residual layer.

    pre-norm:  x = x + mix(norm(x)), then x = x + feed_forward(norm(x))
    post-norm: x = norm(x + mix(x)), then x = norm(x + feed_forward(x))   (Radford et al. 2018)

    mix(n) is a mixer's output, or fuse(r(n), m(n)) for two mixers in parallel (seed 003 L18-37).
    """

    def __init__(self, spec: ModelSpec, layer: int) -> None:
        super().__init__()
        letters = spec.layer_list()[layer]
        place = (spec.d_model, layer, spec.n_layer)
        self.post = spec.norm_position == "post"
        self.mixer_norm = norm(spec)
        self.mixers: Any = nn.ModuleDict({letter: build("mixer", spec.mixers[letter], *place) for letter in letters})
        self.fusion: nn.Module | None = None
        self.branch_norms: nn.ModuleDict | None = None
        if len(letters) == 2:
            self.fusion = build("fusion", spec.fusion, spec.d_model)
            if spec.branch_norm == "rms":
                self.branch_norms = nn.ModuleDict({letter: nn.RMSNorm(spec.d_model, eps=1e-6) for letter in letters})
        self.feed_forward: nn.Module | None = None
        if spec.feed_forward is not None:
            self.feed_forward_norm = norm(spec)
            self.feed_forward = build("feed_forward", spec.feed_forward, *place)

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """x: (batch, time, d_model). state: None, or what the previous piece of the sequence returned."""
        mixed, mixer_state = self._mix(x if self.post else self.mixer_norm(x), x, state["mixers"] if state else None)
        x = self.mixer_norm(x + mixed) if self.post else x + mixed
        forward_state = None
        if self.feed_forward is not None:
            inner = x if self.post else self.feed_forward_norm(x)
            y, forward_state = self.feed_forward(inner, state["feed_forward"] if state else None)
            x = self.feed_forward_norm(x + y) if self.post else x + y
        return x, {"mixers": mixer_state, "feed_forward": forward_state}

    def _mix(self, n: Tensor, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        outputs, states = [], {}
        for letter, mixer in self.mixers.items():
            y, states[letter] = mixer(n, state[letter] if state else None)
            outputs.append(self.branch_norms[letter](y) if self.branch_norms is not None else y)
        if self.fusion is None:
            return outputs[0], states
        fused = self.fusion(*outputs, x, state["fusion"] if state else None)
        states["fusion"] = fused.state
        return fused.y, states

    def reset_parameters(self, streams: Streams) -> None:
        """Norms to one; every other part from its own scope."""
        for name, module in self.named_children():
            if name in ("mixers", "branch_norms"):
                for letter, child in module.named_children():
                    _reset(child, streams.scope(name).scope(letter))
            else:
                _reset(module, streams.scope(name))

    def parts(self) -> list[nn.Module]:
        """The mixers, the fusion and the feed-forward layer that this layer has."""
        return [*self.mixers.values(), *(p for p in (self.fusion, self.feed_forward) if p is not None)]


def _reset(module: nn.Module, streams: Streams) -> None:
    if isinstance(module, (nn.RMSNorm, nn.LayerNorm)):
        norm_(module)
    else:
        module.reset_parameters(streams)  # type: ignore[operator]
