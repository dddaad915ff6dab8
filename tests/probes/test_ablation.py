"""What a network loses without a branch: known where the branch does nothing, and against networks that never had it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from probed import Constant, by_name, small_text, subject, windows

from gt.evals.subject import TOKENS_AT_ONCE
from gt.models.lm import output_projection
from gt.probes.ablation import Case, ablation, increases, slice_size
from gt.probes.sites import sites, whole


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_text(tmp_path_factory.mktemp("data"))


def test_a_branch_that_is_multiplied_by_zero_has_no_share(data: Path) -> None:
    looked_at = subject(data, "Sum", fusion={"name": "sum", "m_multiplier": 0.0})
    measures = by_name(ablation(looked_at, windows(looked_at)))
    for kind in ("zero", "mean", "shuffle"):
        assert measures[f"ablation/{kind}/m"] == {"value": 0.0, "layers": {"0": 0.0, "1": 0.0}}
    assert measures["ablation/share/m"]["value"] == 0
    assert measures["ablation/share/r"]["value"] == 1


def test_zeroing_is_the_loss_of_a_network_whose_branch_writes_nothing(data: Path) -> None:
    looked_at, silenced = subject(data, "GF"), subject(data, "GF")
    for block in silenced.model.blocks():
        output_projection(block.mixers["m"]).weight.data.zero_()
    slice_ = windows(looked_at)
    without, _ = increases(silenced, slice_, [], {})
    measures = by_name(ablation(looked_at, slice_))
    assert measures["ablation/intact"]["value"] + measures["ablation/zero/m"]["value"] == pytest.approx(without, abs=1e-5)


def test_a_layer_alone_is_ablated_in_that_layer(data: Path) -> None:
    looked_at, silenced = subject(data, "GF"), subject(data, "GF")
    output_projection(silenced.model.blocks()[1].mixers["r"]).weight.data.zero_()
    slice_ = windows(looked_at)
    site = next(s for s in sites(looked_at.model) if (s.branch, s.layer) == ("r", 1))
    intact, (increase,) = increases(looked_at, slice_, [Case("zero", frozenset([site.module]))], {site.module: torch.zeros(32)})
    assert intact + increase == pytest.approx(increases(silenced, slice_, [], {})[0], abs=1e-6)


def test_a_branch_that_always_says_the_same_is_missed_only_when_it_is_silent(data: Path) -> None:
    looked_at = subject(data, "Sum")
    for block in looked_at.model.blocks():
        block.mixers["m"] = Constant(32)
    measures = by_name(ablation(looked_at, windows(looked_at)))
    assert measures["ablation/mean/m"]["value"] == pytest.approx(0, abs=1e-6)
    assert measures["ablation/shuffle/m"]["value"] == 0
    assert abs(measures["ablation/zero/m"]["value"]) > 1e-3


def test_ablations_side_by_side_are_those_one_after_the_other(data: Path) -> None:
    looked_at = subject(data, "GF")
    slice_, modules = windows(looked_at), whole(looked_at.model, "m")
    means = {module: torch.ones(32, dtype=torch.float64) for module in modules}
    cases = [Case(kind, frozenset([module])) for kind in ("zero", "mean", "shuffle") for module in modules]
    together = increases(looked_at, slice_, cases, means)[1]
    alone = [increases(looked_at, slice_, [case], means)[1][0] for case in cases]
    assert together == pytest.approx(alone, abs=1e-6)


def test_a_tower_is_ablated_as_a_whole(data: Path) -> None:
    looked_at = subject(data, "Towers-weighted")
    looked_at.model.body.fusion.weight.data.fill_(1.0)  # the second tower has no weight
    measures = by_name(ablation(looked_at, windows(looked_at)))
    assert measures["ablation/zero/m"]["value"] == 0
    assert measures["ablation/zero/r"]["value"] != 0


def test_hooks_are_gone_afterwards(data: Path) -> None:
    looked_at = subject(data, "GF")
    list(ablation(looked_at, windows(looked_at)))
    assert not any(module._forward_hooks for module in looked_at.model.modules())


@pytest.mark.parametrize(("trained_on", "targets"), [(1000, 4096), (2_048_000, 16_000), (10**9, 16_384)])
def test_the_slice_grows_with_the_training(trained_on: int, targets: int) -> None:
    assert slice_size(trained_on) == targets


def test_shuffling_exchanges_windows_half_the_slice_apart(data: Path) -> None:
    """Where both halves of the slice are the same text, a branch gets its own output back."""
    looked_at = subject(data, "GF")
    half = windows(looked_at, 3)
    modules = frozenset(whole(looked_at.model, "m"))
    means = {module: torch.zeros(32, dtype=torch.float64) for module in modules}
    case = Case("shuffle", modules)
    assert increases(looked_at, torch.cat([half, half]), [case], means)[1][0] == pytest.approx(0, abs=1e-6)
    assert abs(increases(looked_at, windows(looked_at, 6), [case], means)[1][0]) > 1e-4


def test_an_ablation_does_not_depend_on_how_much_goes_through_at_once(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at = subject(data, "GF")
    whole_slice = by_name(ablation(looked_at, windows(looked_at)))
    monkeypatch.setitem(TOKENS_AT_ONCE, "cpu", 3 * looked_at.length)
    pieces = by_name(ablation(looked_at, windows(looked_at)))
    for name, measure in whole_slice.items():
        assert pieces[name]["value"] == pytest.approx(measure["value"], abs=1e-5, rel=1e-3), name
