"""Gates read as what they are set to."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from probed import by_name, small_text, subject, windows

from gt.data.tokenizers import load_tokenizer
from gt.models.fusions.base import Fused
from gt.models.fusions.projected import Concatenated
from gt.probes.activity import Activity, activity
from gt.probes.gates import Gates, advantage, gates, projection_ratio, token_classes
from gt.probes.network import Network


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_text(tmp_path_factory.mktemp("data"))


def seen_with(gate: torch.Tensor, d_model: int = 4) -> Activity:
    """What a network of one layer did whose gate was (n, time, channels)."""
    n, time = gate.shape[:2]
    x = torch.randn(n, time, d_model, generator=torch.Generator().manual_seed(0))
    seen = Activity(torch.zeros(n, time + 1, dtype=torch.int64))
    seen.embedding = x
    seen.fused[0] = (x, -x, Fused(x, gate))
    return seen


@pytest.mark.parametrize("variant", ["GF-MH", "HGF-MH"])
def test_a_gate_fixed_at_3_tenths_reads_3_tenths(variant: str, data: Path) -> None:
    looked_at = subject(data, variant)
    for fusion in looked_at.model.fusions().values():
        fusion.gate.weight.data.zero_()
        fusion.gate.bias.data.fill_(float(torch.logit(torch.tensor(0.3))))
    seen = activity(looked_at.model, windows(looked_at), "float32")
    measures = by_name(gates(seen, token_classes(looked_at.tokens, looked_at.data, windows(looked_at))))
    for name in ("gate/mean", "gate/lowest_layer", "gate/class/letters", "gate/class/rare", "gate/class/repeated"):
        assert measures[name]["value"] == pytest.approx(0.3, abs=1e-6)
    assert measures["gate/std_positions"]["value"] == pytest.approx(0, abs=1e-6)
    assert measures["gate/outer_quarter"]["value"] == 0


def test_spreads_over_positions_and_channels_are_told_apart() -> None:
    over_positions = torch.tensor([0.2, 0.8]).view(1, 2, 1).expand(3, 2, 4)
    over_channels = torch.tensor([0.2, 0.8]).view(1, 1, 2).expand(3, 2, 2)
    first, second = (by_name(gates(seen_with(gate), {})) for gate in (over_positions, over_channels))
    assert first["gate/std_positions"]["value"] == pytest.approx(0.3)
    assert first["gate/std_channels"]["value"] == pytest.approx(0)
    assert second["gate/std_positions"]["value"] == pytest.approx(0, abs=1e-6)
    assert second["gate/std_channels"]["value"] == pytest.approx(0.3)


def test_the_histogram_counts_every_gate_once() -> None:
    measures = by_name(gates(seen_with(torch.tensor([0.05, 0.05, 0.55, 0.95, 1.0, 0.35]).view(1, 6, 1)), {}))
    shares = [measures[f"gate/histogram/{i}"]["value"] for i in range(10)]
    assert shares == pytest.approx([2 / 6, 0, 0, 1 / 6, 0, 1 / 6, 0, 0, 0, 2 / 6], abs=1e-6)
    assert measures["gate/outer_quarter"]["value"] == pytest.approx(4 / 6, abs=1e-6)


def test_a_class_is_averaged_over_its_own_positions() -> None:
    members = torch.tensor([[True, False, True]])
    measures = by_name(gates(seen_with(torch.tensor([0.9, 0.1, 0.7]).view(1, 3, 1)), {"spaces": members, "rare": ~members}))
    assert measures["gate/class/spaces"]["value"] == pytest.approx(0.8)
    assert measures["gate/class/rare"]["value"] == pytest.approx(0.1)


def test_classes_of_tokens(data: Path) -> None:
    looked_at = subject(data, "GF")
    ids = torch.from_numpy(load_tokenizer(data).encode("ab a12'b ")).unsqueeze(0)
    classes = {name: mask[0].tolist() for name, mask in token_classes(looked_at.tokens, data, ids).items()}
    assert "".join("." if letter else "x" for letter in classes["letters"]) == "..x.xxx."
    assert "".join("." if digit else "x" for digit in classes["digits"]) == "xxxx..xx"
    assert "".join("." if space else "x" for space in classes["spaces"]) == "xx.xxxxx"
    assert "".join("." if other else "x" for other in classes["punctuation"]) == "xxxxxx.x"
    assert "".join("." if again else "x" for again in classes["repeated"]) == "xxx.xxx."
    assert classes["rare"][6] and not classes["rare"][2]  # an apostrophe, and a space


def test_a_model_without_gates_has_no_gate(data: Path) -> None:
    looked_at = subject(data, "HY")
    assert list(Gates().measure(Network(looked_at, data))) == []


def test_a_gate_that_follows_the_better_branch_correlates_with_its_advantage(data: Path) -> None:
    looked_at = subject(data, "GF")
    slice_ = windows(looked_at)
    seen = activity(looked_at.model, slice_, "float32")
    targets, right = slice_[:, 1:], torch.rand(slice_[:, 1:].shape, generator=torch.Generator().manual_seed(1)) < 0.5
    # A branch that points at the target's embedding predicts it; the other one says nothing.
    knows = looked_at.model.embedding.weight.detach()[targets]
    knows = knows / knows.norm(dim=-1, keepdim=True)
    r, m = knows * right.unsqueeze(-1), knows * ~right.unsqueeze(-1)
    seen.fused = {1: (r, m, Fused(r, right.float().unsqueeze(-1)))}
    assert (advantage(seen, looked_at.model).value or 0) > 0.9
    seen.fused = {1: (m, r, Fused(r, right.float().unsqueeze(-1)))}
    assert (advantage(seen, looked_at.model).value or 0) < -0.9


def test_the_projection_of_two_branches_is_weighed_by_their_spread(data: Path) -> None:
    looked_at = subject(data, "CP")
    seen = activity(looked_at.model, windows(looked_at), "float32")
    for layer, fusion in looked_at.model.fusions().items():
        assert isinstance(fusion, Concatenated)
        fusion.project.weight.data[:, :32], fusion.project.weight.data[:, 32:] = 2.0, 1.0
        r, m, fused = seen.fused[layer]
        seen.fused[layer] = (r / r.std(), 3 * m / m.std(), fused)
    assert projection_ratio(seen, looked_at.model)[0].value == pytest.approx(1.5, rel=1e-5)
