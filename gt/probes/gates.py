"""What the fusions' gates do: how far they open, where they differ, and whether they favour the branch that predicts better."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from gt.data.tokenizers import load_tokenizer
from gt.data.tokens import Tokens
from gt.metrics import LAYER, Axis, Measurement, Metric, one_of, over_layers
from gt.models.fusions.projected import Concatenated
from gt.models.lm import LanguageModel
from gt.probes.activity import Activity
from gt.probes.base import Probe
from gt.probes.measures import fetched
from gt.training.auxiliary import branch_losses
from gt.training.losses import inputs

if TYPE_CHECKING:
    from gt.probes.network import Network

OUTER = 1 / 8
BINS = 10
# The least frequent tokens that make up so much of the training text are rare.
RARE = 0.1
# Tokens of the training text that are counted.
COUNTED = 10_000_000
KINDS = ("letters", "digits", "spaces", "punctuation")


COLLAPSE, PER_LAYER, NOTEBOOK = (
    "research document (gate collapse)",
    "V0.5_ROADMAP.md (task 0.3)",
    "repository notebooks/task_0_3",
)
# The tenth from bin / 10, and kinds of tokens.
BIN = Axis("bin", r"\d", lambda digit, mixers: f"0.{digit} to {(int(digit) + 1) / 10:g}")
CLASS = Axis(
    "class",
    ("letters", "digits", "spaces", "punctuation", "frequent", "rare", "first", "repeated"),
    one_of(frequent="frequent tokens", rare="rare tokens", first="new tokens", repeated="repeated tokens"),
)


class Gates(Probe):
    """How far gates open, where, and whether they favour the branch that predicts better."""

    name = "gates"
    metrics = (
        Metric(
            "gate/mean",
            "mean gate weight of the first branch",
            axes=(LAYER,),
            definition="weight of the first branch, over layers, positions and channels",
            source="upstream flaw F-05",
            initial=True,
        ),
        Metric(
            "gate/lowest_layer",
            "mean gate weight of the layer with the lowest",
            definition="the smallest of the layers' means",
            source=PER_LAYER,
            initial=True,
        ),
        Metric(
            "gate/highest_layer",
            "mean gate weight of the layer with the highest",
            definition="the largest of the layers' means",
            source=PER_LAYER,
            initial=True,
        ),
        Metric(
            "gate/std_positions",
            "spread of the gate over positions",
            axes=(LAYER,),
            definition="standard deviation over positions of the mean over channels",
            initial=True,
        ),
        Metric(
            "gate/std_channels",
            "spread of the gate over channels",
            axes=(LAYER,),
            definition="standard deviation over channels at a position, averaged",
            initial=True,
        ),
        Metric(
            "gate/outer_quarter",
            "share of gates near 0 or 1",
            axes=(LAYER,),
            definition="share of gates below 1/8 or above 7/8",
            source=COLLAPSE,
            initial=True,
        ),
        Metric(
            "gate/histogram/<bin>",
            "share of gates from <bin>",
            axes=(BIN, LAYER),
            definition="share of gates in the tenth from bin / 10",
        ),
        Metric(
            "gate/class/<class>",
            "mean gate weight at <class>",
            axes=(CLASS, LAYER),
            definition="mean gate at tokens of a class",
        ),
        Metric(
            "gate/advantage_correlation",
            "correlation of the gate with how much better the first branch predicts",
            better="higher",
            definition="correlation over tokens of the last layer's gate with the loss of the second branch read out alone less"
            " the first's",
            source="repository notebooks/task_0_3",
        ),
        Metric(
            "fusion/projection_ratio",
            "weight of the second branch over that of the first in a joint projection",
            axes=(LAYER,),
            definition="of one projection [W_r W_m] of both branches: |W_m| std(m) / (|W_r| std(r))",
            source="document 3 (Obs 3)",
            initial=True,
        ),
    )

    def measure(self, network: Network) -> Iterator[Measurement]:
        if (seen := network.activity).gates():
            yield from gates(seen, token_classes(network.subject.tokens, network.subject.data, network.few))
            yield advantage(seen, network.model)
        yield from projection_ratio(seen, network.model)


@torch.no_grad()
def gates(seen: Activity, classes: dict[str, Tensor]) -> list[Measurement]:
    """Means, spreads and histogram of the gates, and their means at the positions of each class (n, time)."""
    found = seen.gates()
    per_position = {layer: gate.mean(-1).double() for layer, gate in found.items()}
    several = {layer: gate for layer, gate in found.items() if gate.shape[-1] > 1}
    bins = {layer: (gate * BINS).long().clamp(0, BINS - 1) for layer, gate in found.items()}
    scalars = {
        "gate/mean": {layer: gate.mean() for layer, gate in per_position.items()},
        "gate/std_positions": {layer: gate.std(unbiased=False) for layer, gate in per_position.items()},
        "gate/outer_quarter": {layer: _share((g < OUTER) | (g > 1 - OUTER)) for layer, g in found.items()},
        "gate/std_channels": {layer: gate.std(-1, unbiased=False).mean() for layer, gate in several.items()},
    }
    # Those outside [0, 1] are in the first or the last tenth.
    tenths = [{layer: _share(b == i) for layer, b in bins.items()} for i in range(BINS)]
    sums = {name: {layer: (g * own).sum() for layer, g in per_position.items()} for name, own in classes.items()}
    sizes = {name: members.sum() for name, members in classes.items()}
    values, shares, totals, sizes = fetched((scalars, tenths, sums, sizes))
    result = [own for name, of_layers in values.items() if of_layers for own in over_layers(name, of_layers)]
    for i, of_layers in enumerate(shares):
        result += over_layers("gate/histogram/<bin>", of_layers, bin=i)
    result.append(Measurement("gate/lowest_layer", {}, min(values["gate/mean"].values())))
    result.append(Measurement("gate/highest_layer", {}, max(values["gate/mean"].values())))
    for name, of_layers in totals.items():
        if sizes[name]:
            means = {layer: total / sizes[name] for layer, total in of_layers.items()}
            result += over_layers("gate/class/<class>", means, **{"class": name})
    return result


def token_classes(tokens: Tokens, data: Path, windows: Tensor) -> dict[str, Tensor]:
    """For each class, which inputs of the windows (n, time + 1) are of it: (n, time) bool.

    By the text of the token: all letters, all digits, all spaces (with line ends), or else punctuation. By its frequency in the
    training text. By whether it occurred earlier in its window.
    """
    seen = inputs(windows)
    kinds, rare = (torch.from_numpy(table).to(windows.device)[seen] for table in _tables(data, tokens.sha256))
    repeated = (seen.unsqueeze(2) == seen.unsqueeze(1)).tril(-1).any(2)
    by_text = {name: kinds == i for i, name in enumerate(KINDS)}
    return {**by_text, "frequent": ~rare, "rare": rare, "first": ~repeated, "repeated": repeated}


@cache
def _tables(data: Path, _sha256: str) -> tuple[np.ndarray, np.ndarray]:
    """Of every token its place in `KINDS`, and whether it is rare: (vocab,) each."""
    tokens, tokenizer = Tokens.open(data), load_tokenizer(data)
    kinds = np.array([KINDS.index(_kind(tokenizer.decode([token]))) for token in range(tokens.vocab_size)])
    counts = np.bincount(tokens.train[:COUNTED], minlength=tokens.vocab_size)
    order = np.argsort(counts, kind="stable")
    rare = np.zeros(tokens.vocab_size, dtype=bool)
    rare[order[np.cumsum(counts[order]) <= RARE * counts.sum()]] = True
    return kinds, rare


def advantage(seen: Activity, model: LanguageModel) -> Measurement:
    """Whether the last layer's gate follows the branch that predicts a target better when it is read out alone."""
    found = seen.gates()
    layer = max(found)
    r, m, _ = seen.fused[layer]
    targets = seen.windows[:, 1:]
    with torch.inference_mode():
        gain = branch_losses(model, m.float(), targets) - branch_losses(model, r.float(), targets)
    counted = targets >= 0
    pair = torch.stack([found[layer].mean(-1)[counted], gain[counted]]).double()
    correlation = float(torch.corrcoef(pair)[0, 1]) if bool((pair.std(1) > 0).all()) else math.nan
    return Measurement("gate/advantage_correlation", {}, correlation)


@torch.no_grad()
def projection_ratio(seen: Activity, model: LanguageModel) -> list[Measurement]:
    """How much of a joint projection W [r; m] is the second branch's: |W_m| std(m) / (|W_r| std(r)), Frobenius norms."""
    ratios = {}
    for layer, fusion in model.fusions().items():
        if isinstance(fusion, Concatenated):
            (r, m, _), (w_r, w_m) = seen.fused[layer], fusion.project.weight.chunk(2, dim=1)
            ratios[layer] = w_m.norm() * m.float().std() / (w_r.norm() * r.float().std()).clamp(min=1e-30)
    return over_layers("fusion/projection_ratio", fetched(ratios)) if ratios else []


def _kind(text: str) -> str:
    bare = text.strip()
    if not bare:
        return "spaces"
    return "letters" if bare.isalpha() else "digits" if bare.isdigit() else "punctuation"


def _share(where: Tensor) -> Tensor:
    return where.double().mean()
