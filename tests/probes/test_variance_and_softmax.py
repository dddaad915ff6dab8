"""Variances and predictions that are known beforehand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from probed import by_name, small_text, subject, values, windows
from torch import Tensor, nn

from gt.models.lm import output_projection
from gt.probes.activity import activity
from gt.probes.softmax import softmax
from gt.probes.variance import noise_gain, variance


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_text(tmp_path_factory.mktemp("data"))


class Times(nn.Module):
    """A mixer that multiplies by a number."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        return self.factor * x, torch.zeros(len(x), 1)


def test_a_network_that_adds_nothing_keeps_the_variance_of_its_embedding(data: Path) -> None:
    looked_at = subject(data, "RWKV-6")
    for block in looked_at.model.blocks():
        output_projection(block.mixers["r"]).weight.data.zero_()
        output_projection(block.feed_forward).weight.data.zero_()
    seen = activity(looked_at.model, windows(looked_at), "float32")
    found = values(variance(seen, ["r"]))
    embedded = looked_at.model.embedding.weight.detach()[windows(looked_at)[:, :-1]]
    assert found["variance/embedding"] == pytest.approx(float(embedded.var(unbiased=False)), rel=1e-4)
    for name in ("variance/over_embedding", "variance/over_first", "std/over_embedding", "std/over_first"):
        assert found[name] == pytest.approx(1)
    assert found["variance/branch/r"] == 0


def test_denominators_and_statistics(data: Path) -> None:
    """A residual stream of 1, 3 and 6 times the same numbers: 36 over the embedding, 4 over the first block."""
    looked_at = subject(data, "GF")
    seen = activity(looked_at.model, windows(looked_at), "float32")
    x = seen.embedding - seen.embedding.mean()
    seen.embedding, seen.residual = x, {0: [3 * x], 1: [6 * x]}
    seen.branches = {("r", 0): x, ("r", 1): 2 * x, ("m", 0): x, ("m", 1): x}
    seen.fused = {layer: (x, -2 * x, fused) for layer, (_, _, fused) in seen.fused.items()}
    measures = by_name(variance(seen, ["r", "m"]))
    found = {name: measure["value"] for name, measure in measures.items()}
    assert found["variance/over_embedding"] == pytest.approx(36, rel=1e-5)
    assert found["std/over_embedding"] == pytest.approx(6, rel=1e-5)
    assert found["variance/over_first"] == pytest.approx(4, rel=1e-5)
    assert found["rms/residual"] == pytest.approx(6 * float(x.square().mean().sqrt()), rel=1e-5)
    assert measures["variance/branch_ratio"]["layers"] == {"0": pytest.approx(1), "1": pytest.approx(4)}
    assert found["variance/branch_ratio"] == pytest.approx(2.5, rel=1e-5)
    assert found["branch/cosine"] == pytest.approx(-1, abs=1e-4)


def test_noise_is_amplified_by_the_square_of_the_factor(data: Path) -> None:
    looked_at = subject(data, "GF")
    for block in looked_at.model.blocks():
        block.mixers["r"], block.mixers["m"] = Times(3.0), Times(0.1)
    found = values(noise_gain(looked_at.model, looked_at.device))
    # 8,192 numbers of N(0, 1) have a variance of 1 within 0.0156, one standard error
    assert found["variance/noise_gain/r"] == pytest.approx(9, rel=5 * 0.0156)
    assert found["variance/noise_gain/r"] / found["variance/noise_gain/m"] == pytest.approx(900, rel=1e-4)


def test_a_prediction_that_knows_nothing_has_all_the_entropy() -> None:
    found = values(softmax(torch.zeros(2, 3, 50)))
    assert found["softmax/entropy"] == pytest.approx(math.log(50), rel=1e-5)
    assert found["softmax/entropy_ratio"] == pytest.approx(1)
    assert found["softmax/max_probability"] == pytest.approx(0.02, rel=1e-4)
    assert found["softmax/saturated"] == found["softmax/logit_range"] == 0
    assert found["forward/finite"] == 1


def test_a_prediction_that_is_sure_is_saturated() -> None:
    logits = torch.full((1, 4, 10), -50.0)
    logits[:, 1:, 3] = 60.0
    logits[:, 0, 3] = -50.0
    found = values(softmax(logits))
    assert found["softmax/saturated"] == 0.75
    assert found["softmax/entropy"] == pytest.approx(math.log(10) / 4, rel=1e-5)
    assert found["softmax/largest_logit"] == 60
    assert found["softmax/logit_range"] == pytest.approx(0.75 * 110)


def test_what_is_not_finite_is_counted() -> None:
    logits = torch.zeros(1, 2, 5)
    logits[0, 0, 0] = math.nan
    measures = by_name(softmax(logits))
    assert measures["forward/finite"]["value"] == pytest.approx(0.9)
    assert measures["softmax/entropy"]["value"] is None
