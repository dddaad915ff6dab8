"""A language model around a stack of blocks, and what it costs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gt.errors import ConfigError
from gt.models.block import Block, norm
from gt.models.fusions.base import Fusion
from gt.models.init import assert_all_set, mark_unset, norm_, normal_
from gt.seeds import Streams
from gt.spec import ModelSpec, RunSpec


class LanguageModel(nn.Module):
    """Embedding, blocks, final norm (pre-norm models only), and a head that is the embedding unless it is untied.

    Parameters are set by `reset_parameters(Streams(seed))` alone; construction leaves the global generator as it was.
    """

    def __init__(self, spec: ModelSpec, vocab_size: int) -> None:
        super().__init__()
        self.spec = spec
        with torch.random.fork_rng(devices=[]):
            self.embedding = nn.Embedding(vocab_size, spec.d_model)
            self.position: nn.Embedding | None = None
            if spec.positions == "learned":
                self.position = nn.Embedding(spec.max_positions, spec.d_model)
            self.blocks: Any = nn.ModuleList(Block(spec, layer) for layer in range(spec.n_layer))
            self.norm = norm(spec) if spec.norm_position == "pre" else None
            self.head = None if spec.tie_embeddings else nn.Linear(spec.d_model, vocab_size, bias=False)
        mark_unset(self)

    def forward(self, tokens: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """tokens: (batch, time) int64 -> (logits (batch, time, vocab), state).

        Give the state that one call returned to the next one to go on with the same sequences.
        """
        past = state["length"] if state else 0
        x = self.embedding(tokens)
        if self.position is not None:
            x = x + self.position(torch.arange(past, past + tokens.shape[1], device=tokens.device))
        states = []
        for i, block in enumerate(self.blocks):
            x, block_state = block(x, state["blocks"][i] if state else None)
            states.append(block_state)
        return self.read_out(x), {"blocks": states, "length": past + tokens.shape[1]}

    def read_out(self, x: Tensor) -> Tensor:
        """The residual stream (batch, time, d_model) -> logits (batch, time, vocab)."""
        if self.norm is not None:
            x = self.norm(x)
        return nn.functional.linear(x, self.embedding.weight if self.head is None else self.head.weight)

    def reset_parameters(self, streams: Streams) -> None:
        """Embeddings and head N(0, .02); each block owns the rest. AssertionError if any parameter was left unset."""
        normal_(self.embedding.weight, 0.02, streams, "embedding.weight")
        if self.position is not None:
            normal_(self.position.weight, 0.02, streams, "position.weight")
        if self.head is not None:
            normal_(self.head.weight, 0.02, streams, "head.weight")
        if self.norm is not None:
            norm_(self.norm)
        for i, block in enumerate(self.blocks):
            block.reset_parameters(streams.scope(f"blocks.{i}"))
        assert_all_set(self)

    def fusions(self) -> dict[int, Fusion]:
        """The fusion of each layer that has one."""
        return {i: block.fusion for i, block in enumerate(self.blocks) if isinstance(block.fusion, Fusion)}


@dataclass(frozen=True)
class Audit:
    """What a model has and costs. FLOPs are of the forward pass, a token at the given context; a multiply-add counts 2."""

    n_params: int
    n_params_non_embedding: int  # without token and position embeddings and head
    state_size: int  # floats a sequence carries from one token to the next (attention: its cache at the given context)
    flops_per_token: int


def audit(model: LanguageModel, context: int) -> Audit:
    """Count a model; works on the meta device."""
    tables = [m for m in (model.embedding, model.position, model.head) if m is not None]
    total = sum(p.numel() for p in model.parameters())
    state, flops = 0, 2 * model.embedding.weight.numel()
    for block in model.blocks:
        for part in block.parts():
            state += part.state_size() if isinstance(part, Fusion) else part.state_size(context)
            flops += part.flops_per_token() if isinstance(part, Fusion) else part.flops_per_token(context)
    return Audit(total, total - sum(m.weight.numel() for m in tables), state, flops)


def check(spec: RunSpec) -> dict[str, int]:
    """Build the model on the meta device, which takes no memory, and count it. ConfigError if it cannot be built."""
    length, rows = spec.training.sequence_length, spec.model.max_positions
    if spec.model.positions == "learned" and length > rows:
        raise ConfigError(f"training.sequence_length: {length} is more than model.max_positions, {rows}.")
    with torch.device("meta"):
        # A character vocabulary is known only once the corpus is read; 256 stands in for it here.
        model = LanguageModel(spec.model, spec.tokenizer.vocab_size or 256)
    return asdict(audit(model, length))
