"""Phase 0 as it was meant: the variance of the residual stream and of each branch, by layer, with one denominator for all.

The record divided standard deviations, called them variances, and took the first block's output under one model and the
embedding under the others (flaw F-15). Both denominators are here, and both statistics, at the start of training and after it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from gt.models.lm import LanguageModel
from gt.models.mixers.wrap import unwrapped
from gt.probes.activity import Activity
from gt.probes.measures import Measures, by_layer, fetched, one, ratio
from gt.probes.sites import branches, sites
from gt.seeds import torch_stream

NOISE = (4, 64)  # sequences and tokens of N(0, 1)


def variance(seen: Activity, letters: list[str]) -> Measures:
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
    result: Measures = {
        "variance/embedding": one(values["embedding"]),
        "variance/residual": by_layer(residual, last),
        "variance/over_embedding": one(over_embedding),
        "variance/over_first": one(over_first),
        "std/over_embedding": one(None if over_embedding is None else over_embedding**0.5),
        "std/over_first": one(None if over_first is None else over_first**0.5),
        "rms/residual": by_layer(rms, rms[max(rms)]),
        "variance/feed_forward": by_layer(values["feed_forward"]),
        "variance/fused": by_layer(values["fused"]),
        "branch/cosine": by_layer(values["cosine"]),
    }
    for letter in letters:
        result[f"variance/branch/{letter}"] = by_layer(of_branch[letter])
        result[f"rms/branch/{letter}"] = by_layer(values["branch_rms"][letter])
    if len(letters) == 2:
        a, b = (of_branch[letter] for letter in letters)
        pairs = {layer: a[layer] / b[layer] for layer in a if b.get(layer)}
        of_means = ratio(*(result[f"variance/branch/{letter}"]["value"] for letter in letters))
        result["variance/branch_ratio"] = by_layer(pairs, of_means)
    return result


@torch.inference_mode()
def noise_gain(model: LanguageModel, device: torch.device) -> Measures:
    """The variance of each mixer's output where its input is N(0, 1): what the record took for a layer's amplification."""
    noise = torch.randn(*NOISE, model.spec.d_model, generator=torch_stream(0, "noise_gain")).to(device)
    gains: dict[str, dict[int, Tensor]] = {letter: {} for letter in branches(model)}
    for site in sites(model):
        gains[site.branch][site.layer] = _variance(unwrapped(site.module)(noise)[0])
    return {f"variance/noise_gain/{letter}": by_layer(values) for letter, values in fetched(gains).items()}


def _variance(*parts: Tensor) -> Tensor:
    return torch.cat([part.flatten() for part in parts]).double().var(unbiased=False)


def _rms(*parts: Tensor) -> Tensor:
    return torch.cat([part.flatten() for part in parts]).double().square().mean().sqrt()


def _cosine(r: Tensor, m: Tensor) -> Tensor:
    return F.cosine_similarity(r.float(), m.float(), dim=-1).mean()
