"""What a study can do to training, each with a known answer."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gt.models.fusions.base import Fused
from gt.models.lm import LanguageModel
from gt.seeds import Streams
from gt.spec import AuxiliaryLosses, BranchDrop, ModelSpec, TrainingSpec
from gt.training.auxiliary import (
    BranchDropper,
    BranchWatch,
    auxiliary_loss,
    diversity,
    gate_entropy,
    imbalance,
    load_imbalance,
    self_reinforcing,
)
from gt.training.optimizer import Lion, build_optimizer, learning_rate, parameter_groups

SIZE = {"steps": 100, "batch_size": 2, "sequence_length": 8}


def training(**changes: Any) -> TrainingSpec:
    return TrainingSpec.model_validate({**SIZE, "learning_rate": 0.01, "warmup_ratio": 0.1, **changes})


@pytest.fixture
def model() -> LanguageModel:
    mixers = {"r": {"name": "rwkv6", "head_size": 8}, "m": {"name": "mamba2", "head_dim": 8, "d_state": 8}}
    spec = {
        "d_model": 16,
        "n_layer": 2,
        "layers": "r+m",
        "mixers": mixers,
        "fusion": {"name": "gated"},
        "feed_forward": {"name": "mlp"},
    }
    built = LanguageModel(ModelSpec.model_validate(spec), 11)
    built.reset_parameters(Streams(0))
    # RWKV-6's output projection starts at zero, which would make its branch vanish.
    for i, parameter in enumerate(built.parameters()):
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(i))
    return built


@pytest.fixture
def batch() -> Tensor:
    return torch.randint(11, (2, 9), generator=torch.Generator().manual_seed(0))


def rates(spec: TrainingSpec, part: str) -> list[float]:
    return [learning_rate(spec, step, part) for step in range(100)]


def test_a_part_can_have_a_learning_rate_of_its_own() -> None:
    spec = training(parts={"mixers.m": {"learning_rate": 0.5}})
    assert rates(spec, "mixers.m") == pytest.approx([0.5 * rate for rate in rates(spec, "mixers.r")])


def test_a_part_can_warm_up_longer_and_from_a_floor() -> None:
    spec = training(parts={"mixers.m": {"warmup": 2.0}, "mixers.r": {"warmup_floor": 0.01}})
    assert rates(spec, "mixers.m").index(max(rates(spec, "mixers.m"))) == 19
    assert rates(spec, "mixers.r")[0] == pytest.approx(0.01 * (0.01 + 0.99 * 1 / 10))
    assert rates(spec, "fusion")[0] == pytest.approx(0.01 * 1 / 10)


def test_a_frozen_part_does_not_move_until_its_time_comes(model: LanguageModel, batch: Tensor) -> None:
    spec = training(parts={"fusion": {"frozen_steps": 3}})
    optimizer = build_optimizer(model, spec)
    gate = model.fusions()[0].gate.weight  # type: ignore[union-attr]
    seen = []
    for step in range(5):
        model(batch)[0].square().mean().backward()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(spec, step, group["part"])
        before = gate.clone()
        optimizer.step()
        optimizer.zero_grad()
        seen.append(torch.equal(before, gate))
    assert seen == [True, True, True, False, False]


def test_scaled_gradients_change_sgd_and_not_adamw(model: LanguageModel, batch: Tensor) -> None:
    def after(optimizer: str, scale: float) -> Tensor:
        copy = LanguageModel(model.spec, 11)
        copy.load_state_dict(model.state_dict())
        copy.double()
        run = build_optimizer(copy, training(optimizer=optimizer, weight_decay=0.0, epsilon=1e-30))
        for _ in range(3):
            copy(batch)[0].square().mean().backward()
            for parameter in copy.parameters():
                parameter.grad *= scale
            run.step()
            run.zero_grad()
        return torch.cat(
            [p.detach().flatten() - q.detach().flatten() for p, q in zip(copy.parameters(), model.parameters(), strict=True)]
        )

    adam, adam_scaled, sgd, sgd_scaled = (after(o, s) for o in ("adamw", "sgd") for s in (1.0, 10.0))
    # AdamW's update is a ratio of moments, which a factor leaves as it is but for epsilon (flaw F-09).
    torch.testing.assert_close(adam, adam_scaled, rtol=1e-6, atol=1e-9)
    assert sgd_scaled.norm() > 5 * sgd.norm()


def test_lion_takes_steps_of_the_learning_rate() -> None:
    parameter = nn.Parameter(torch.tensor([1.0, -2.0, 0.0]))
    optimizer = Lion([parameter], lr=0.1, betas=(0.9, 0.99))
    parameter.grad = torch.tensor([0.3, -5.0, 0.0])
    optimizer.step()
    torch.testing.assert_close(parameter.data, torch.tensor([0.9, -1.9, 0.0]))
    torch.testing.assert_close(optimizer.state[parameter]["exp_avg"], 0.01 * parameter.grad)
    # u = 0.9 m + 0.1 g decides the sign: a small opposite gradient does not turn it yet.
    parameter.grad = torch.tensor([-0.02, 0.0, 0.0])
    optimizer.step()
    torch.testing.assert_close(parameter.data[0], torch.tensor(0.8))


def test_the_record_decayed_everything(model: LanguageModel) -> None:
    groups = parameter_groups(model, training(weight_decay_policy="all"))
    assert {group["weight_decay"] for group in groups} == {0.1}


def test_diversity_in_the_record_s_form_wants_opposite_branches_and_squared_wants_orthogonal_ones() -> None:
    r = torch.tensor([[[1.0, 0.0]]])
    cases = {"same": r, "orthogonal": r.flip(-1), "opposite": -r}
    record = {name: diversity(r, m, "record").item() for name, m in cases.items()}
    squared = {name: diversity(r, m, "squared_cosine").item() for name, m in cases.items()}
    assert record == pytest.approx({"same": 1.0, "orthogonal": 0.5, "opposite": 0.0})
    assert squared == pytest.approx({"same": 1.0, "orthogonal": 0.0, "opposite": 1.0})


@pytest.mark.parametrize(("start", "end"), [(0.55, 1.0), (0.45, 0.0)])
def test_the_record_s_arbiter_loss_drives_a_gate_to_the_side_it_leans_to(start: float, end: float) -> None:
    r, m = torch.randn(2, 1, 8, 4, generator=torch.Generator().manual_seed(0)).unbind()
    logit = torch.tensor(math.log(start / (1 - start)), requires_grad=True)
    for _ in range(500):
        gate = torch.sigmoid(logit).expand(1, 8, 1)
        (gradient,) = torch.autograd.grad(self_reinforcing(r, m, Fused(torch.lerp(m, r, gate), gate)), logit)
        logit = (logit - gradient).detach().requires_grad_()
    assert torch.sigmoid(logit).item() == pytest.approx(end, abs=0.01)


def test_entropy_is_that_of_a_coin() -> None:
    gate = torch.tensor([[[0.5], [0.25]]])
    expected = (math.log(2) - 0.25 * math.log(0.25) - 0.75 * math.log(0.75)) / 2
    assert gate_entropy(gate).item() == pytest.approx(expected, rel=1e-6)
    # Gates are kept 1e-6 away from 0 and 1; a coin of 1e-6 has an entropy of 1.5e-5.
    assert gate_entropy(torch.tensor([[[0.0], [1.0]]])).item() < 2e-5


def test_balanced_branches_are_not_penalised() -> None:
    r, m = torch.ones(2, 1, 4, 2).unbind()
    gates = {g: imbalance(r, m, Fused(r, torch.tensor(g))).item() for g in (0.5, 0.25, 0.9, 0.05)}
    assert gates[0.5] == gates[0.25] == 0.0
    assert gates[0.9] == pytest.approx((math.log(9) - math.log(3)) ** 2, rel=1e-4)
    assert gates[0.05] == pytest.approx((math.log(0.3) - math.log(0.05 / 0.95)) ** 2, rel=1e-4)


def test_a_router_that_uses_both_experts_alike_has_load_one() -> None:
    assert load_imbalance(torch.tensor([0.9, 0.1])).item() == pytest.approx(1.0)
    assert load_imbalance(torch.tensor([0.9, 0.9])).item() == pytest.approx(1.8)


def test_each_auxiliary_term_reaches_what_it_is_meant_to_change(model: LanguageModel, batch: Tensor) -> None:
    terms: dict[str, dict[str, Any]] = {
        "diversity": {"diversity": "squared_cosine"},
        "arbiter": {"arbiter": "cross_entropy"},
        "record": {"arbiter": "record"},
        "entropy": {"entropy_weight": 0.1},
        "balance": {"balance_weight": 0.1},
    }
    for name, settings in terms.items():
        with BranchWatch(model) as seen:
            model(batch[:, :-1])
        loss = auxiliary_loss(AuxiliaryLosses.model_validate(settings), model, seen, batch[:, 1:])
        touched = [p for p in model.parameters() if p.requires_grad]
        gradients = torch.autograd.grad(loss, touched, allow_unused=True)
        assert math.isfinite(loss.item()), name
        if name != "balance" or loss.item() > 0:
            assert any(g is not None and g.abs().max() > 0 for g in gradients), name


def test_watching_leaves_no_hooks_behind(model: LanguageModel, batch: Tensor) -> None:
    with BranchWatch(model) as seen:
        model(batch)
    assert len(seen.branches) == 2
    model(batch)
    assert len(seen.branches) == 2


def test_a_dropped_branch_is_zero_as_often_as_asked_and_by_the_seed_alone(model: LanguageModel, batch: Tensor) -> None:
    wide = batch.repeat(100, 1)

    def kept(seed: int, step: int, **options: Any) -> Tensor:
        copy = LanguageModel(model.spec, 11)
        copy.load_state_dict(model.state_dict())
        dropper = BranchDropper(BranchDrop(branch="r", **options), copy, seed, steps=11)
        dropper.step = step
        with BranchWatch(copy) as seen:
            copy.train()(wide)
        return seen.branches[0][0].abs().amax((1, 2)) > 0

    assert torch.equal(kept(0, 0), kept(0, 0))
    assert not torch.equal(kept(0, 0), kept(1, 0))
    # 200 coins: four standard deviations of a proportion are 0.14.
    assert kept(0, 0).float().mean().item() == pytest.approx(0.6, abs=0.14)
    assert kept(0, 10).float().mean().item() == pytest.approx(0.9, abs=0.14)
    assert kept(0, 3, unit="batch").float().mean().item() in (0.0, 1.0)


def test_what_is_kept_is_rescaled_and_evaluation_drops_nothing(model: LanguageModel, batch: Tensor) -> None:
    with BranchWatch(model) as plain:
        model.eval()(batch)
    BranchDropper(BranchDrop(branch="r", start=0.5, end=0.5), model, seed=0, steps=1)
    with BranchWatch(model) as evaluated:
        model.eval()(batch)
    assert torch.equal(plain.branches[0][0], evaluated.branches[0][0])
    with BranchWatch(model) as trained:
        model.train()(batch.repeat(20, 1))
    ratios = trained.branches[0][0] / plain.branches[0][0].repeat(20, 1, 1)
    values = ratios.flatten(1).median(1).values
    assert all(min(abs(v), abs(v - 2)) < 1e-3 for v in values.tolist())
