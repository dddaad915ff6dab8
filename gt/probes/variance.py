"""Phase 0 as it was meant: the variance of the residual stream and of each branch, by layer, with one denominator for all.

The record divided standard deviations, called them variances, and took the first block's output under one model and the
embedding under the others (flaw F-15). Both denominators are here, and both statistics, at the start of training and after it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from gt.metrics import BRANCH, LAYER, Measurement, Metric, over_layers
from gt.models.lm import LanguageModel
from gt.models.mixers.wrap import unwrapped
from gt.probes.activity import Activity
from gt.probes.base import Probe
from gt.probes.measures import fetched, ratio
from gt.probes.sites import branches, sites
from gt.seeds import torch_stream

if TYPE_CHECKING:
    from gt.probes.network import Network

NOISE = (4, 64)  # sequences and tokens of N(0, 1)


ONE_DENOMINATOR = "upstream flaw F-15"


class Variance(Probe):
    """How large the residual stream is, and what the parts of a network add to it."""

    name = "variance"
    metrics = (
        Metric(
            "variance/embedding",
            "variance of the embedding",
            axes=(),
            definition="variance over tokens and channels of the residual stream before the first block",
            source=ONE_DENOMINATOR,
            initial=True,
        ),
        Metric(
            "variance/residual",
            "variance of the residual stream after the last block",
            axes=(LAYER,),
            definition="the same after each block; of the model: after the last",
            source=ONE_DENOMINATOR,
            initial=True,
        ),
        Metric(
            "variance/branch/<branch>",
            "variance of the <branch> branch's output",
            axes=(BRANCH, LAYER),
            definition="variance of a branch's output; of the model: mean over layers",
            source=ONE_DENOMINATOR,
            initial=True,
        ),
        Metric(
            "variance/branch_ratio",
            "variance of the first branch's output over the second's",
            axes=(LAYER,),
            definition="variance/branch of the first over the second (by layer; of the model: of the means)",
            source=ONE_DENOMINATOR,
            initial=True,
        ),
        Metric(
            "variance/fused",
            "variance of the fusion's output",
            axes=(LAYER,),
            definition="variance of the fusion's output",
            source=ONE_DENOMINATOR,
            initial=True,
        ),
        Metric(
            "variance/feed_forward",
            "variance of the feed-forward layers' output",
            axes=(LAYER,),
            definition="variance of the feed-forward layer's output",
            source=ONE_DENOMINATOR,
            initial=True,
        ),
        Metric(
            "variance/over_embedding",
            "variance after the last block over that of the embedding",
            axes=(),
            definition="residual variance after the last block over that of the embedding",
            source=ONE_DENOMINATOR,
            initial=True,
        ),
        Metric(
            "variance/over_first",
            "variance after the last block over that after the first",
            axes=(),
            definition="the same over that after the first block",
            source=ONE_DENOMINATOR,
            initial=True,
        ),
        Metric(
            "std/over_embedding",
            "standard deviation after the last block over that of the embedding",
            axes=(),
            definition="square root of variance/over_embedding: the record's for Mamba and GPT",
            source=ONE_DENOMINATOR,
            initial=True,
        ),
        Metric(
            "std/over_first",
            "standard deviation after the last block over that after the first",
            axes=(),
            definition="square root of variance/over_first: the record's for RWKV",
            source=ONE_DENOMINATOR,
            initial=True,
        ),
        Metric(
            "rms/residual",
            "root mean square of the residual stream after the last block",
            axes=(LAYER,),
            definition="root mean square of the residual stream after each block",
            source=ONE_DENOMINATOR,
            initial=True,
        ),
        Metric(
            "rms/branch/<branch>",
            "root mean square of the <branch> branch's output",
            axes=(BRANCH, LAYER),
            definition="root mean square of a branch's output",
            source=ONE_DENOMINATOR,
            initial=True,
        ),
        Metric(
            "variance/noise_gain/<branch>",
            "variance of the <branch> mixer's output on N(0, 1) inputs",
            axes=(BRANCH, LAYER),
            definition="variance of a mixer's output on N(0, 1) inputs",
            source=ONE_DENOMINATOR,
            initial=True,
        ),
        Metric(
            "branch/cosine",
            "cosine of the two branches' outputs",
            axes=(LAYER,),
            definition="mean cosine of the two branches' outputs",
            source="repository notebooks/task_0_3",
            initial=True,
        ),
    )

    def measure(self, network: Network) -> Iterator[Measurement]:
        yield from variance(network.activity, network.letters)
        yield from noise_gain(network.model, network.subject.device)


def variance(seen: Activity, letters: list[str]) -> Iterator[Measurement]:
    """Variances and root mean squares over windows, positions and channels."""
    outputs = {b: {layer: y for (letter, layer), y in seen.branches.items() if letter == b} for b in letters}
    values = fetched(
        {
            "embedding": _variance(seen.embedding),
            "residual": {layer: _variance(*parts) for layer, parts in seen.residual.items()},
            "rms": {layer: _rms(*parts) for layer, parts in seen.residual.items()},
            "feed_forward": {layer: _variance(*parts) for layer, parts in seen.feed_forward.items()},
            "fused": {layer: _variance(fused.y) for layer, (_, _, fused) in seen.fused.items()},
            "cosine": {layer: _cosine(r, m) for layer, (r, m, _) in seen.fused.items()},
            "branch": {letter: {layer: _variance(y) for layer, y in own.items()} for letter, own in outputs.items()},
            "branch_rms": {letter: {layer: _rms(y) for layer, y in own.items()} for letter, own in outputs.items()},
        }
    )
    residual, rms, of_branch = values["residual"], values["rms"], values["branch"]
    first, last = residual[0], residual[max(residual)]
    over_embedding, over_first = ratio(last, values["embedding"]), ratio(last, first)
    yield Measurement("variance/embedding", {}, values["embedding"])
    yield from over_layers("variance/residual", residual, last)
    yield Measurement("variance/over_embedding", {}, over_embedding)
    yield Measurement("variance/over_first", {}, over_first)
    yield Measurement("std/over_embedding", {}, None if over_embedding is None else over_embedding**0.5)
    yield Measurement("std/over_first", {}, None if over_first is None else over_first**0.5)
    yield from over_layers("rms/residual", rms, rms[max(rms)])
    yield from over_layers("variance/feed_forward", values["feed_forward"])
    yield from over_layers("variance/fused", values["fused"])
    yield from over_layers("branch/cosine", values["cosine"])
    for letter in letters:
        yield from over_layers("variance/branch/<branch>", of_branch[letter], branch=letter)
        yield from over_layers("rms/branch/<branch>", values["branch_rms"][letter], branch=letter)
    if len(letters) == 2:
        a, b = (of_branch[letter] for letter in letters)
        pairs = {layer: a[layer] / b[layer] for layer in a if b.get(layer)}
        means = [sum(own.values()) / len(own) if own else None for own in (a, b)]
        yield from over_layers("variance/branch_ratio", pairs, ratio(*means))


@torch.inference_mode()
def noise_gain(model: LanguageModel, device: torch.device) -> list[Measurement]:
    """The variance of each mixer's output where its input is N(0, 1): what the record took for a layer's amplification."""
    noise = torch.randn(*NOISE, model.spec.d_model, generator=torch_stream(0, "noise_gain")).to(device)
    gains: dict[str, dict[int, Tensor]] = {letter: {} for letter in branches(model)}
    for site in sites(model):
        gains[site.branch][site.layer] = _variance(unwrapped(site.module)(noise)[0])
    return [
        own
        for letter, values in fetched(gains).items()
        for own in over_layers("variance/noise_gain/<branch>", values, branch=letter)
    ]


def _variance(*parts: Tensor) -> Tensor:
    return torch.cat([part.flatten() for part in parts]).double().var(unbiased=False)


def _rms(*parts: Tensor) -> Tensor:
    return torch.cat([part.flatten() for part in parts]).double().square().mean().sqrt()


def _cosine(r: Tensor, m: Tensor) -> Tensor:
    return F.cosine_similarity(r.float(), m.float(), dim=-1).mean()
