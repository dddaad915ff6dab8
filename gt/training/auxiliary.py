"""Losses added to the cross-entropy, and a branch dropped at random: what the earlier repository did to its two branches.

Both read and act through hooks, so a model knows nothing of them.
"""

from __future__ import annotations

import math
from types import TracebackType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gt.models.fusions.base import Fused, Fusion
from gt.models.lm import LanguageModel
from gt.seeds import numpy_stream
from gt.spec import AuxiliaryLosses, BranchDrop, RunSpec, TrainingSpec
from gt.training.losses import cross_entropies, mean_loss

# Weights and cosines are kept this far from where a logarithm or a division would fail.
TINY = 1e-6
# The earlier repository's limits for "balanced" branches (lines 268 and 436 of document 3).
BALANCED = (0.3, 3.0)
# The mean gate under which a branch counts as unused; it gives no number.
LEAST_USE = 0.1


class BranchWatch:
    """Keeps what the fusions saw and gave during one forward pass.

    with BranchWatch(model) as seen: model(batch); seen.branches -> [(r, m, Fused)] from the lowest layer up.
    """

    def __init__(self, model: LanguageModel) -> None:
        self.model = model
        self.branches: list[tuple[Tensor, Tensor, Fused]] = []

    def __enter__(self) -> BranchWatch:
        self.handles = [fusion.register_forward_hook(self._read) for fusion in self.model.fusions().values()]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for handle in self.handles:
            handle.remove()

    def _read(self, _module: Fusion, inputs: Any, output: Fused) -> None:
        self.branches.append((inputs[0], inputs[1], output))


def auxiliary_loss(spec: AuxiliaryLosses, model: LanguageModel, seen: BranchWatch, targets: Tensor) -> Tensor:
    """The weighted sum of the terms that `spec` asks for, a scalar. targets: (batch, time); terms about them are means over
    those that count.
    """
    zero = targets.new_zeros((), dtype=torch.float32)
    if not seen.branches:
        return zero
    r = torch.stack([branch[0] for branch in seen.branches]).mean(0)
    m = torch.stack([branch[1] for branch in seen.branches]).mean(0)
    gates = [fused.gate for _, _, fused in seen.branches if fused.gate is not None]
    loss = zero
    if spec.diversity is not None:
        loss = loss + spec.diversity_weight * diversity(r, m, spec.diversity)
    if spec.arbiter == "record" and gates:
        losses = [self_reinforcing(branch_r, branch_m, fused) for branch_r, branch_m, fused in seen.branches]
        loss = loss + spec.arbiter_weight * torch.stack(losses).mean()
    if spec.arbiter == "cross_entropy" and gates:
        better = _better_branch(model, *seen.branches[-1][:2], targets)
        losses = [mean_loss(_towards(gate, better) * (targets >= 0), targets) for gate in gates]
        loss = loss + spec.arbiter_weight * torch.stack(losses).mean()
    if spec.load_balance_weight and gates:
        loss = loss + spec.load_balance_weight * torch.stack([load_imbalance(gate) for gate in gates]).mean()
    if spec.entropy_weight and gates:
        loss = loss + spec.entropy_weight * torch.stack([gate_entropy(gate) for gate in gates]).mean()
    if spec.balance_weight:
        loss = loss + spec.balance_weight * torch.stack([imbalance(*branch) for branch in seen.branches]).mean()
    if spec.usage_weight and gates:
        loss = loss + spec.usage_weight * torch.stack([disuse(gate) for gate in gates]).mean()
    if spec.cross_distillation_weight:
        distances = torch.stack([distance(branch_r, branch_m) for branch_r, branch_m, _ in seen.branches])
        loss = loss + spec.cross_distillation_weight * distances.mean()
    if spec.branch_loss_weight:
        own = torch.stack([mean_loss(branch_losses(model, branch, targets), targets) for branch in seen.branches[-1][:2]])
        loss = loss + spec.branch_loss_weight * own.mean()
    return loss


def diversity(r: Tensor, m: Tensor, form: str) -> Tensor:
    """How alike the branches point, averaged over positions.

    record: mean((1 + cos(r, m)) / 2), least for opposite branches (flaw F-22); squared_cosine: mean(cos^2), least for
    orthogonal ones.
    """
    cosine = F.cosine_similarity(r.float(), m.float(), dim=-1, eps=TINY)
    return (1 + cosine).mean() / 2 if form == "record" else cosine.square().mean()


def self_reinforcing(r: Tensor, m: Tensor, fused: Fused) -> Tensor:
    """The earlier repository's arbiter loss: -log of the weight of the branch that is nearer to the fused output.

    The branch with more weight is the nearer one, so the loss drives any gate to the side it leans to (flaw F-21).
    """
    target = fused.y.detach()
    first = (r.detach() - target).square().mean(-1) < (m.detach() - target).square().mean(-1)
    assert fused.gate is not None
    return _towards(fused.gate, first).mean()


def _better_branch(model: LanguageModel, r: Tensor, m: Tensor, targets: Tensor) -> Tensor:
    """Whether the first branch of the last layer, read by the model's own head, predicts each target better: (batch, time)."""
    with torch.no_grad():
        return branch_losses(model, r, targets) < branch_losses(model, m, targets)


def branch_losses(model: LanguageModel, branch: Tensor, targets: Tensor) -> Tensor:
    """The cross-entropy of each target, read from one branch's output alone by the model's own norm and head: (batch, time),
    0 for one that does not count.

    The research document (9.8) names a loss for each branch without a form; this is our reading, that of deep supervision
    (Lee et al. 2015, arXiv:1409.5185) with the readout shared.
    """
    # outside of autocast, where a branch may have come out in bfloat16
    return cross_entropies(model.read_out(branch.to(model.embedding.weight.dtype)), targets).view_as(targets)


def _towards(gate: Tensor, first: Tensor) -> Tensor:
    """-log of the weight that a gate gives to the branch that `first` (batch, time) names, averaged over channels."""
    weight = torch.where(first.unsqueeze(-1), gate.float(), 1 - gate.float())
    return -(weight.clamp(min=TINY)).log().mean(-1)


def gate_entropy(gate: Tensor) -> Tensor:
    """Entropy of (gate, 1 - gate) in nats, averaged over positions and channels."""
    g = gate.float().clamp(TINY, 1 - TINY)
    return -(g * g.log() + (1 - g) * (1 - g).log()).mean()


def load_imbalance(gate: Tensor) -> Tensor:
    """2 (f p + (1 - f)(1 - p)): p is the mean weight of the first branch, f the share of positions that it would win.

    The load-balancing loss of Switch Transformers (Fedus et al. 2021, equation 4) for two experts; 1 when balanced.
    """
    p = gate.float().mean()
    f = (gate > 0.5).float().mean()
    return 2 * (f * p + (1 - f) * (1 - p))


def imbalance(r: Tensor, m: Tensor, fused: Fused) -> Tensor:
    """How far the ratio of the branches' shares of the output lies outside 0.3 to 3, squared, on a log scale.

    The share of a branch is the RMS of what it adds to the fused output. The record names the penalty (line 268 of document 3)
    but has no code for it; this is our reading.
    """
    gate = fused.gate if fused.gate is not None else torch.tensor(0.5, device=r.device)
    shares = [(weight * branch).float().square().mean().clamp(min=TINY).sqrt() for weight, branch in ((gate, r), (1 - gate, m))]
    log_ratio = shares[0].log() - shares[1].log()
    low, high = map(math.log, BALANCED)
    return (F.relu(low - log_ratio) + F.relu(log_ratio - high)).square()


def disuse(gate: Tensor) -> Tensor:
    """How far the mean weight of either branch lies below 0.1, squared: research document 4.4's "minimum usage constraint"."""
    use = gate.float().mean()
    return F.relu(LEAST_USE - use).square() + F.relu(LEAST_USE - (1 - use)).square()


def distance(r: Tensor, m: Tensor) -> Tensor:
    """Cross-distillation: |r' - m'|^2 / 2 of the outputs at length one, averaged over positions; 1 - cos(r, m).

    Either branch is to predict the other's hidden states (repository docs/groundthink_arbiter_research.md L94-100). The two
    predictions, each towards a fixed target, have together the gradient of this distance. It is the opposite of `diversity`.
    """
    return (1 - F.cosine_similarity(r.float(), m.float(), dim=-1, eps=TINY)).mean()


class BranchDropper:
    """Zeroes one branch's output at random in training.

    Its coins are a function of the seed, the step and the layer, drawn ahead for a whole batch, in however many pieces it is
    read; `coins` are those of the pass to come: (layer, sample or 1), each 0 or what a kept output is multiplied by.
    """

    def __init__(self, spec: BranchDrop, model: LanguageModel) -> None:
        self.spec = spec
        self.layers = [layer for layer, block in enumerate(model.blocks()) if spec.branch in block.mixers]
        self.coins = torch.ones(len(self.layers), 1)
        for i, layer in enumerate(self.layers):
            mixer = model.blocks()[layer].mixers[spec.branch]
            mixer.register_forward_hook(lambda module, _inputs, output, i=i: self._drop(module, output, i))

    def shape(self, training: TrainingSpec) -> tuple[int, int]:
        """Of a step's coins: (layer, sample or 1)."""
        return len(self.layers), training.batch_size if self.spec.unit == "sample" else 1

    def draw(self, spec: RunSpec, step: int) -> np.ndarray:
        """The coins of a run's step."""
        samples = self.shape(spec.training)[1]
        progress = step / max(1, spec.training.steps - 1)
        probability = self.spec.start + (self.spec.end - self.spec.start) * progress
        value = 1 / (1 - probability) if self.spec.rescale else 1.0
        streams = [numpy_stream(spec.seed, "branch_drop", step, 0, layer) for layer in self.layers]
        return np.array([value * (stream.random(samples) >= probability) for stream in streams])

    def _drop(self, module: torch.nn.Module, output: tuple[Tensor, Any], i: int) -> tuple[Tensor, Any] | None:
        if not module.training:
            return None
        y, state = output
        return y * self.coins[i].to(y.dtype).view(-1, 1, 1), state
