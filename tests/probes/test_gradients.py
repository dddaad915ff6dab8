"""Ratios of gradients where the chain rule gives them, and their noise where it is put there."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from probed import Constant, by_name, small_text, subject, windows

from gt.probes.gradients import Gradients, of_loss, over_batches, over_odds, ratios, reach
from gt.probes.network import Network


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_text(tmp_path_factory.mktemp("data"))


@pytest.mark.parametrize("gate", [0.1, 0.5, 0.8])
def test_equal_branches_under_a_fixed_gate_have_its_odds_as_ratio(gate: float, data: Path) -> None:
    looked_at = subject(data, "GF-2xRWKV", n_layer=1)
    block = looked_at.model.blocks()[0]
    block.mixers["q"].load_state_dict(block.mixers["r"].state_dict())
    block.fusion.gate.weight.data.zero_()
    block.fusion.gate.bias.data.fill_(float(torch.logit(torch.tensor(gate))))
    batch = windows(looked_at, 4)
    measures = by_name(ratios(looked_at.model, of_loss(looked_at.model, batch, "float32"), batch, "float32", gate))
    for name in ("gradient/ratio", "gradient/tensor_ratio", "gradient/logit_ratio"):
        assert measures[name]["value"] == pytest.approx(gate / (1 - gate), rel=1e-4)
    assert measures["gradient/odds_corrected_ratio"]["value"] == pytest.approx(1, rel=1e-4)


def test_norms_of_parts_are_those_of_autograd(data: Path) -> None:
    looked_at = subject(data, "GF")
    batch = windows(looked_at, 4)
    model = looked_at.model
    logits, _ = model(batch[:, :-1])
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten()).backward()
    expected = sum(
        float(p.grad.double().square().sum())
        for name, p in model.named_parameters()
        if ".mixers.m." in name and p.grad is not None
    )
    measures = by_name(ratios(model, of_loss(model, batch, "float32"), batch, "float32", None))
    assert measures["gradient/norm/mixers.m"]["value"] == pytest.approx(expected**0.5, rel=1e-4)
    assert measures["gradient/odds_corrected_ratio"]["value"] is None


def test_signal_to_noise_and_unused_parameters() -> None:
    """Gradients (1, 1, 0) and (1, -1, 0): a signal of 1, a noise of 1, and a third that nothing needs."""
    name = "body.blocks.0.mixers.r.weight"
    found = [{name: torch.tensor([1.0, sign, 0.0]), "embedding.weight": torch.zeros(7)} for sign in (1, -1)]
    measures = by_name(over_batches(found))
    assert measures["gradient/snr/mixers.r"]["value"] == pytest.approx(1)
    assert measures["flag/unused_parameters"]["value"] == pytest.approx(1 / 3, rel=1e-5)


def test_a_branch_does_not_notice_the_absence_of_one_without_weight(data: Path) -> None:
    looked_at = subject(data, "Sum", fusion={"name": "sum", "m_multiplier": 0.0})
    measures = by_name(Gradients().measure(Network(looked_at, data)))
    assert measures["gradient/independence/r"]["value"] == pytest.approx(1)
    assert measures["gradient/norm/mixers.m"]["value"] == 0


def test_no_gradient_reaches_back_through_a_network_that_mixes_nothing(data: Path) -> None:
    looked_at = subject(data, "GF")
    batch = windows(looked_at, 4)
    assert (reach(looked_at.model, batch, "float32").value or 0) > 0
    for block in looked_at.model.blocks():
        block.mixers["r"], block.mixers["m"] = Constant(32), Constant(32)
    assert reach(looked_at.model, batch, "float32").value == 0


def test_one_branch_has_no_ratio(data: Path) -> None:
    looked_at = subject(data, "RWKV-6")
    measures = by_name(Gradients().measure(Network(looked_at, data)))
    assert measures["gradient/ratio"]["value"] is None
    assert "gradient/independence/r" not in measures


def test_odds() -> None:
    assert over_odds(0.25, 0.2) == pytest.approx(1)
    assert over_odds(1.0, None) is None
    assert over_odds(1.0, 1.0) is None
