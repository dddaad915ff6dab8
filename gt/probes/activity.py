"""One forward pass over held-out text with everything kept that flows between the parts of a network."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from gt.evals.subject import hooked
from gt.models.fusions.base import Fused, Fusion
from gt.models.lm import LanguageModel
from gt.probes.sites import Site, sites, stacks
from gt.training.losses import autocast, inputs

# Targets of the slice that such a pass is over; fewer where their logits would be more numbers than these, on any device.
TOKENS, LOGITS = 8192, 2**25


@dataclass
class Activity:
    """What a network did with windows (n, time + 1). All are (n, time, d_model) but logits, (n, time, vocab).

    residual and feed_forward: by layer, one tensor a stack. branches: by letter and layer. fused: by layer r, m (as the fusion
    gets them) and what came of them; that of two towers is their depth's.
    """

    windows: Tensor
    embedding: Tensor = field(init=False)
    logits: Tensor = field(init=False)
    residual: dict[int, list[Tensor]] = field(default_factory=dict)
    feed_forward: dict[int, list[Tensor]] = field(default_factory=dict)
    branches: dict[tuple[str, int], Tensor] = field(default_factory=dict)
    fused: dict[int, tuple[Tensor, Tensor, Fused]] = field(default_factory=dict)

    def gates(self) -> dict[int, Tensor]:
        """The gates of the fusions that have one, (n, time, channels or 1), float32."""
        found = {layer: fused.gate.float() for layer, (_, _, fused) in self.fused.items() if fused.gate is not None}
        n, time = self.embedding.shape[:2]
        return {layer: gate.expand(n, time, gate.shape[-1]) for layer, gate in found.items()}


@torch.inference_mode()
def activity(model: LanguageModel, windows: Tensor, precision: str) -> Activity:
    """Run a network on windows, (n, time + 1), which must fit at once."""
    seen = Activity(windows)
    blocks = [(layer, block) for stack in stacks(model) for layer, block in enumerate(stack.blocks)]
    places: list[Site] = sites(model)
    fusions: list[tuple[int, Fusion]] = list(model.fusions().items())
    forwards = [(layer, block.feed_forward) for layer, block in blocks if block.feed_forward is not None]

    def of_block(i: int, taken: tuple[Tensor, ...], output: tuple[Tensor, object]) -> None:
        if i == 0:
            seen.embedding = taken[0]
        seen.residual.setdefault(blocks[i][0], []).append(output[0])

    def of_branch(i: int, _taken: object, output: tuple[Tensor, object]) -> None:
        seen.branches[places[i].branch, places[i].layer] = output[0]

    def of_fusion(i: int, taken: tuple[Tensor, ...], output: Fused) -> None:
        seen.fused[fusions[i][0]] = (taken[0], taken[1], output)

    def of_feed_forward(i: int, _taken: object, output: tuple[Tensor, object]) -> None:
        seen.feed_forward.setdefault(forwards[i][0], []).append(output[0])

    with (
        hooked([block for _, block in blocks], of_block),
        hooked([site.module for site in places], of_branch),
        hooked([fusion for _, fusion in fusions], of_fusion),
        hooked([module for _, module in forwards], of_feed_forward),
        autocast(windows.device, precision),
    ):
        logits, _ = model(inputs(windows))
    seen.logits = logits.float()
    return seen
