"""A language model around a stack of blocks, and what it costs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gt.errors import ConfigError
from gt.models.block import Block, build, norm
from gt.models.fusions.base import Fusion
from gt.models.init import assert_all_set, blanket_, constant_, mark_unset, norm_, normal_, orthogonal_, uniform_
from gt.models.mixers.state import InitialState
from gt.models.mixers.wrap import unwrapped
from gt.models.regions import Parts, Region, present
from gt.ops.fused import embedding_kernel
from gt.seeds import Streams
from gt.spec import ModelSpec, RunSpec


class Stack(nn.Module):
    """Blocks one after the other: (batch, time, d_model) -> the same, and their states."""

    def __init__(self, spec: ModelSpec, layers: list[tuple[str, ...]]) -> None:
        super().__init__()
        self.blocks: Any = nn.ModuleList(Block(spec, i, letters) for i, letters in enumerate(layers))

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """x: (batch, time, d_model) -> (the same shape, a list of each block's state)."""
        states = []
        for i, block in enumerate(self.blocks):
            x, block_state = block(x, state[i] if state else None)
            states.append(block_state)
        return x, states

    def reset_parameters(self, streams: Streams) -> None:
        """Each block from its own scope."""
        for i, block in enumerate(self.blocks):
            block.reset_parameters(streams.scope(f"blocks.{i}"))


class Towers(nn.Module):
    """A stack of each mixer over the full depth, side by side, fused once at the top (repository V4_TESTING.md L505-564)."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        letters = spec.layer_list()[0]
        self.towers: Any = nn.ModuleDict({letter: Stack(spec, [(letter,)] * spec.n_layer) for letter in letters})
        self.fusion: Any = build("fusion", spec.fusion, spec.d_model)

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """x: (batch, time, d_model) -> (the same shape, the state of each tower and of the fusion)."""
        outputs, states = [], {}
        for letter, tower in self.towers.items():
            y, states[letter] = tower(x, state[letter] if state else None)
            outputs.append(y)
        fused = self.fusion(*outputs, x, state["fusion"] if state else None)
        states["fusion"] = fused.state
        return fused.y, states

    def reset_parameters(self, streams: Streams) -> None:
        """Each tower from its own scope, and the fusion from its."""
        for letter, tower in self.towers.items():
            tower.reset_parameters(streams.scope(f"towers.{letter}"))
        self.fusion.reset_parameters(streams.scope("fusion"))


def _table(rows: int, width: int) -> nn.Embedding:
    """An embedding without values: what torch draws is never used, and on the meta device imports dynamo."""
    return nn.Embedding.from_pretrained(torch.empty(rows, width), freeze=False)


class LanguageModel(nn.Module):
    """Embedding, blocks, final norm (not in post-norm models), and a head that is the embedding unless it is untied.

    Parameters are set by `reset_parameters(Streams(seed))` alone; construction leaves the global generator as it was.
    """

    def __init__(self, spec: ModelSpec, vocab_size: int) -> None:
        super().__init__()
        self.spec = spec
        with torch.random.fork_rng(devices=[]):
            self.embedding = _table(vocab_size, spec.d_model)
            self.position = _table(spec.max_positions, spec.d_model) if spec.positions == "learned" else None
            self.segment = _table(len(spec.segment_markers), spec.d_model) if spec.segment_markers else None
            self.embedding_norm = norm(spec) if spec.init.embedding_norm else None
            self.body: Any = Towers(spec) if spec.stack == "towers" else Stack(spec, spec.layer_list())
            self.norm = norm(spec) if spec.norm_position != "post" else None
            self.head = None if spec.tie_embeddings else nn.Linear(spec.d_model, vocab_size, bias=False)
        mark_unset(self)

    def forward(self, tokens: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """tokens: (batch, time) int64 -> (logits (batch, time, vocab), state).

        Give the state that one call returned to the next one to go on with the same sequences.
        """
        past, segment = (state["length"], state["segment"]) if state else (0, None)
        x, body_state = self.body(self.embed(tokens, past, segment), state["body"] if state else None)
        last = self.segments(tokens, segment)[:, -1:] if self.segment is not None else None
        return self.read_out(x), {"body": body_state, "length": past + tokens.shape[1], "segment": last}

    def embed(self, tokens: Tensor, past: int = 0, segment: Tensor | None = None) -> Tensor:
        """Tokens (batch, time) -> the residual stream (batch, time, d_model).

        past: tokens that came before; segment: the kind of segment that they ended in, (batch, 1).
        """
        x = embedding_kernel(tokens, self.embedding.weight)
        x = self.embedding(tokens) if x is None else x
        if self.position is not None:
            x = x + self.position.weight.narrow(0, past, tokens.shape[1])
        if self.segment is not None:
            x = x + self.segment(self.segments(tokens, segment))
        return x if self.embedding_norm is None else self.embedding_norm(x)

    def segments(self, tokens: Tensor, segment: Tensor | None = None) -> Tensor:
        """The kind of segment that each token is in, (batch, time): that of the last marker, itself included.

        Source: repository V0.5_ROADMAP.md, task 0.5, with INPUT, THINK and OUTPUT as kinds.
        """
        kinds = len(self.spec.segment_markers)
        before = torch.zeros_like(tokens[:, :1]) if segment is None else segment
        # A marker of kind i at position t counts kinds * (t + 1) + i; the largest so far is the last one's.
        place = kinds * torch.arange(1, tokens.shape[1] + 1, device=tokens.device)
        counts = torch.zeros_like(tokens)
        for kind, marker in enumerate(self.spec.segment_markers):
            counts = torch.where(tokens == marker, place + kind, counts)
        last = torch.cat([before, counts], dim=1).cummax(1).values[:, 1:]
        return last % kinds

    def read_out(self, x: Tensor) -> Tensor:
        """The residual stream (batch, time, d_model) -> logits (batch, time, vocab)."""
        region = self.last_region()
        (logits,), _ = region.function(region.parts, x, None)
        assert logits is not None
        return logits

    def last_region(self, of_sum: bool = False) -> Region:
        """What comes after the layers, from their x to the logits. of_sum: x has yet to be summed with a value `added`."""
        parts = present(norm=self.norm, table=self.embedding if self.head is None else self.head)
        return Region(("logits",), ("x", "added") if of_sum else ("x",), parts, ReadOut(self.spec.logit_softcap))

    def regions(self) -> list[Region]:
        """Of a stack of layers all that comes after the embedding, to the logits; where a layer ends with a sum of which a norm
        is taken next, both are taken at once.
        """
        blocks = self.blocks()
        of_sum = [False, *(block.begins_with_norm for block in blocks[1:]), self.norm is not None]  # each layer, and the head
        pairs = zip(blocks, of_sum, of_sum[1:], strict=False)
        layers = [region for block, before, after in pairs for region in block.regions(before, leaves_sum=after)]
        return [*layers, self.last_region(of_sum[-1])]

    def reset_parameters(self, streams: Streams) -> None:
        """Each block sets its own; embeddings and head are N(0, .02) unless `spec.init` says otherwise.

        AssertionError if any parameter was left unset.
        """
        switches = self.spec.init
        self.body.reset_parameters(streams)
        if switches.embedding == "tiny":
            uniform_(self.embedding.weight, 1e-4, streams, "embedding.weight")
        else:
            normal_(self.embedding.weight, 0.02, streams, "embedding.weight")
        if self.position is not None:
            normal_(self.position.weight, 0.02, streams, "position.weight")
        if self.segment is not None:
            normal_(self.segment.weight, 0.02, streams, "segment.weight")
        if self.head is not None and switches.orthogonal_head:
            vocab_size, d_model = self.head.weight.shape
            orthogonal_(self.head.weight, 0.5 * max(1.0, vocab_size / d_model) ** 0.5, streams, "head.weight")
        elif self.head is not None:
            normal_(self.head.weight, 0.02, streams, "head.weight")
        for module in (self.norm, self.embedding_norm):
            if module is not None:
                norm_(module)
        if switches.blanket:
            blanket_(self.body, streams)
        for block in self.blocks():
            if switches.zero_mixer_output:
                for mixer in block.mixers.values():
                    constant_(output_projection(unwrapped(mixer)).weight, 0.0)
            if switches.zero_feed_forward_output and block.feed_forward is not None:
                constant_(output_projection(block.feed_forward).weight, 0.0)
        assert_all_set(self)

    def blocks(self) -> list[Block]:
        """All blocks, from the bottom up, one tower after the other."""
        return [module for module in self.body.modules() if isinstance(module, Block)]

    def fusions(self) -> dict[int, Fusion]:
        """The fusion of each layer that has one; that of two towers is their depth's."""
        if isinstance(self.body, Towers):
            return {self.spec.n_layer: self.body.fusion}
        return {i: block.fusion for i, block in enumerate(self.blocks()) if isinstance(block.fusion, Fusion)}


@dataclass(frozen=True)
class ReadOut:
    """The function of a model's last region: logits, softly capped if there is a cap."""

    cap: float | None

    def __call__(self, parts: Parts, x: Tensor, *rest: Tensor | None) -> tuple[tuple[Tensor], None]:
        """x: (batch, time, d_model). rest: what is to be added to it, if something is; the state, None."""
        *added, _ = rest
        if added:
            _, x = parts["norm"].of_sum(x, *added)
        elif "norm" in parts:
            x = parts["norm"](x)
        logits = nn.functional.linear(x, parts["table"].weight)
        return (logits if self.cap is None else self.cap * torch.tanh(logits / self.cap),), None


def output_projection(module: nn.Module) -> nn.Linear:
    """The last linear layer of a mixer or feed-forward layer: what writes into the residual stream."""
    return [layer for layer in module.modules() if isinstance(layer, nn.Linear)][-1]


@dataclass(frozen=True)
class Audit:
    """What a model has and costs. FLOPs are of the forward pass, a token at the given context; a multiply-add counts 2."""

    n_params: int
    n_params_non_embedding: int  # without token, position and segment embeddings and head
    state_size: int  # floats a sequence carries from one token to the next (attention: its cache at the given context)
    flops_per_token: int


def audit(model: LanguageModel, context: int) -> Audit:
    """Count a model; works on the meta device."""
    tables = [m for m in (model.embedding, model.position, model.segment, model.head) if m is not None]
    total = sum(p.numel() for p in model.parameters())
    parts = [part for block in model.blocks() for part in block.parts() if not isinstance(part, Fusion)]
    fusions = list(model.fusions().values())
    state = sum(part.state_size(context) for part in parts) + sum(f.state_size() for f in fusions)
    flops = sum(part.flops_per_token(context) for part in parts) + sum(f.flops_per_token() for f in fusions)
    head = 2 * model.embedding.weight.numel()
    return Audit(total, total - sum(m.weight.numel() for m in tables), state, head + flops)


def check(spec: RunSpec) -> dict[str, int]:
    """Build the model on the meta device, which takes no memory, and count it. ConfigError if it cannot be built."""
    length, rows = spec.training.sequence_length, spec.model.max_positions
    if spec.model.positions == "learned" and length > rows:
        raise ConfigError(f"training.sequence_length: {length} is more than model.max_positions, {rows}.")
    if spec.training.carry_state:
        _check_carries(spec.model)
    if beyond := [m for m in spec.model.segment_markers if m >= (spec.tokenizer.vocab_size or m + 1)]:
        raise ConfigError(
            f"model.segment_markers: the tokenizer has no token {beyond[0]}, but {spec.tokenizer.vocab_size} in all."
        )
    return asdict(count(spec.model, spec.tokenizer.vocab_size or 256, length))


def _check_carries(spec: ModelSpec) -> None:
    """ConfigError if a model has no state of one size that a sequence could go on from for ever."""
    if spec.positions == "learned":
        raise ConfigError("training.carry_state: learned positions end, where a carried state goes on.")
    with torch.device("meta"):
        model = LanguageModel(spec, 256)
    for letter, mixer in ((letter, mixer) for block in model.blocks() for letter, mixer in block.mixers.items()):
        if mixer.state_size(1) != mixer.state_size(2):
            raise ConfigError(f"training.carry_state: the state of {spec.mixers[letter].name} grows with every token.")
        if any(isinstance(part, InitialState) for part in mixer.modules()):
            raise ConfigError(
                f"training.carry_state: {spec.mixers[letter].name}.initial_state is learned from beginnings, "
                "which a carried state seldom has."
            )


def count(spec: ModelSpec, vocab_size: int, context: int) -> Audit:
    """The audit of a model that is not built: on the meta device. A character vocabulary counts as 256 in `check`."""
    with torch.device("meta"):
        return audit(LanguageModel(spec, vocab_size), context)
