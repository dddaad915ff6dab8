"""What a study can do to training, each with a known answer."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gt.catalogue import component
from gt.models.fusions.base import Fused
from gt.models.lm import LanguageModel
from gt.seeds import Streams
from gt.spec import AuxiliaryLosses, ModelSpec, RunSpec, TrainingSpec
from gt.training.auxiliary import (
    BranchDropper,
    BranchWatch,
    auxiliary_loss,
    branch_losses,
    distance,
    disuse,
    diversity,
    gate_entropy,
    imbalance,
    load_imbalance,
    self_reinforcing,
)
from gt.training.flat import Flat, parameter_groups
from gt.training.optimizers.base import Optimizer, decays, weight_decay
from gt.training.optimizers.lion import Lion
from gt.training.schedule import learning_rate

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


class Trained:
    """A model's weights as the optimizer holds them, taken some steps on a batch, whose losses count `scale` times."""

    def __init__(self, model: LanguageModel, spec: TrainingSpec, batch: Tensor) -> None:
        self.model, self.spec, self.batch = model.double(), spec, batch
        self.flat = Flat(model, 1, torch.device("cpu"), torch.float64)
        self.weights = self.flat.zeros()
        with torch.no_grad():
            for name, view in self.flat.views(self.weights).items():
                view.copy_(model.get_parameter(name))
        kind: type[Optimizer] = component("optimizer", spec.optimizer.name).load()
        self.optimizer = kind(self.flat, self.weights, [spec])

    def step(self, step: int, scale: float = 1.0) -> dict[str, Tensor]:
        """Take the step; what it changed each parameter by."""
        values = {name: view[0].requires_grad_() for name, view in self.flat.views(self.weights.clone()).items()}
        loss = scale * torch.func.functional_call(self.model, values, (self.batch,))[0].square().mean()
        gradients = torch.autograd.grad(loss, list(values.values()))
        rates = [[learning_rate(self.spec, step, group.part) for group in self.flat.groups]]
        self.optimizer.step(self.flat.joined(list(gradients)), torch.tensor(rates, dtype=torch.float64))
        return {name: view[0] - values[name].detach() for name, view in self.flat.views(self.weights).items()}


def test_a_frozen_part_does_not_move_until_its_time_comes(model: LanguageModel, batch: Tensor) -> None:
    trained = Trained(model, training(parts={"fusion": {"frozen_steps": 3}}), batch)
    moved = [trained.step(step) for step in range(5)]
    gate = "body.blocks.0.fusion.gate.weight"
    assert [bool(change[gate].any()) for change in moved] == [False, False, False, True, True]
    assert all(change["body.blocks.0.mixers.m.in_proj.weight"].any() for change in moved)


def test_scaled_gradients_change_sgd_and_not_adamw(model: LanguageModel, batch: Tensor) -> None:
    def after(optimizer: dict[str, Any], scale: float) -> Tensor:
        trained = Trained(model, training(optimizer=optimizer, weight_decay=0.0), batch)
        before = trained.weights.clone()
        for step in range(3):
            trained.step(step, scale)
        return trained.weights - before

    kinds: list[dict[str, Any]] = [{"name": "adamw", "epsilon": 1e-30}, {"name": "sgd"}]
    adam, adam_scaled, sgd, sgd_scaled = (after(kind, scale) for kind in kinds for scale in (1.0, 10.0))
    # AdamW's update is a ratio of moments, which a factor leaves as it is but for epsilon (flaw F-09).
    torch.testing.assert_close(adam, adam_scaled, rtol=1e-6, atol=1e-9)
    assert sgd_scaled.norm() > 5 * sgd.norm()


def test_lion_takes_steps_of_the_learning_rate() -> None:
    parameter = nn.Linear(3, 1, bias=False)
    flat = Flat(nn.ModuleDict({"embedding": parameter}), 1, torch.device("cpu"), torch.float32)
    weights = flat.joined([torch.tensor([1.0, -2.0, 0.0])])
    optimizer = Lion(flat, weights, [training(optimizer={"name": "lion", "beta2": 0.99}, weight_decay=0.0)])

    def step(*gradient: float) -> Tensor:
        optimizer.step(flat.joined([torch.tensor(gradient)]), torch.tensor([[0.1]]))
        return flat.views(weights)["embedding.weight"].flatten()

    torch.testing.assert_close(step(0.3, -5.0, 0.0), torch.tensor([0.9, -1.9, 0.0]))
    momentum = flat.views(optimizer.state["momentum"])["embedding.weight"].flatten()
    torch.testing.assert_close(momentum, 0.01 * torch.tensor([0.3, -5.0, 0.0]))
    # u = 0.9 m + 0.1 g decides the sign: a small opposite gradient does not turn it yet.
    torch.testing.assert_close(step(-0.02, 0.0, 0.0)[0], torch.tensor(0.8))


def test_the_record_decayed_everything(model: LanguageModel) -> None:
    groups = parameter_groups(model)
    assert all(decays(group, training(weight_decay_policy="all")) for group in groups)
    assert {group.matrix for group in groups if decays(group, training())} == {True}
    assert not all(group.matrix for group in groups)


def test_a_part_can_have_a_weight_decay_of_its_own(model: LanguageModel) -> None:
    spec = training(weight_decay=0.1, parts={"mixers.r": {"weight_decay": 0.0}, "mixers.m": {"weight_decay": 0.5}})
    found = {group.part: weight_decay(group, spec) for group in parameter_groups(model) if group.matrix}
    assert found == {"embedding": 0.1, "feed_forward": 0.1, "fusion": 0.1, "mixers.m": 0.05, "mixers.r": 0.0}
    assert {weight_decay(group, spec) for group in parameter_groups(model) if not group.matrix} == {0.0}


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


def test_branches_that_say_the_same_are_at_no_distance() -> None:
    r = torch.tensor([[[3.0, 0.0]]])
    distances = [distance(r, m).item() for m in (5 * r, r.flip(-1), -r)]
    assert distances == pytest.approx([0.0, 1.0, 2.0])


def test_the_distance_has_the_gradient_of_two_predictions_of_fixed_targets() -> None:
    both = torch.randn(2, 1, 4, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    r, m = (branch.clone().requires_grad_() for branch in both)
    unit_r, unit_m = (b / b.norm(dim=-1, keepdim=True) for b in (r, m))
    predictions = [unit_r - unit_m.detach(), unit_m - unit_r.detach()]
    two_losses = torch.stack([error.square().sum(-1).mean() / 2 for error in predictions]).sum()
    for ours, theirs in zip(*(torch.autograd.grad(loss, (r, m)) for loss in (distance(r, m), two_losses)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)  # the distance is computed in float32


def test_a_branch_that_gets_a_tenth_or_more_is_in_use() -> None:
    uses = {g: disuse(torch.tensor([[[g]], [[g]]])).item() for g in (0.1, 0.5, 0.9, 0.04, 0.96)}
    assert uses[0.1] == uses[0.5] == 0.0
    assert uses[0.9] == pytest.approx(0.0, abs=1e-12)
    assert uses[0.04] == pytest.approx(0.06**2, rel=1e-4)
    assert uses[0.96] == pytest.approx(0.06**2, rel=1e-4)
    # It is the mean that counts: a gate that is now 0 and now 1 uses both.
    assert disuse(torch.tensor([[[0.0]], [[1.0]]])).item() == 0.0


def test_a_branch_s_own_loss_is_that_of_the_model_s_readout(model: LanguageModel, batch: Tensor) -> None:
    with BranchWatch(model) as seen:
        model(batch[:, :-1])
    r, m, _ = seen.branches[-1]
    expected = []
    for branch in (r, m):
        log_p = torch.log_softmax(model.norm(branch) @ model.embedding.weight.T, dim=-1)  # type: ignore[misc]
        expected.append(-log_p.gather(-1, batch[:, 1:].unsqueeze(-1)).squeeze(-1))
        torch.testing.assert_close(branch_losses(model, branch, batch[:, 1:]), expected[-1])
    asked = AuxiliaryLosses(branch_loss_weight=0.5)
    loss = auxiliary_loss(asked, model, seen, batch[:, 1:])
    torch.testing.assert_close(loss, 0.5 * (expected[0].mean() + expected[1].mean()) / 2)


def test_each_auxiliary_term_reaches_what_it_is_meant_to_change(model: LanguageModel, batch: Tensor) -> None:
    terms: dict[str, dict[str, Any]] = {
        "diversity": {"diversity": "squared_cosine"},
        "arbiter": {"arbiter": "cross_entropy"},
        "record": {"arbiter": "record"},
        "entropy": {"entropy_weight": 0.1},
        "balance": {"balance_weight": 0.1},
        "usage": {"usage_weight": 0.1},
        "distillation": {"cross_distillation_weight": 0.1},
        "branches": {"branch_loss_weight": 0.1},
    }
    for name, settings in terms.items():
        with BranchWatch(model) as seen:
            model(batch[:, :-1])
        loss = auxiliary_loss(AuxiliaryLosses.model_validate(settings), model, seen, batch[:, 1:])
        touched = [p for p in model.parameters() if p.requires_grad]
        gradients = torch.autograd.grad(loss, touched, allow_unused=True)
        assert math.isfinite(loss.item()), name
        if name not in ("balance", "usage") or loss.item() > 0:
            assert any(g is not None and g.abs().max() > 0 for g in gradients), name


def test_watching_leaves_no_hooks_behind(model: LanguageModel, batch: Tensor) -> None:
    with BranchWatch(model) as seen:
        model(batch)
    assert len(seen.branches) == 2
    model(batch)
    assert len(seen.branches) == 2


def run_spec(model: LanguageModel, seed: int, drop: dict[str, Any]) -> RunSpec:
    return RunSpec.model_validate(
        {
            "corpus": {"name": "embedded"},
            "tokenizer": {"name": "char"},
            "model": model.spec.model_dump(),
            "training": {"steps": 11, "batch_size": 200, "sequence_length": 8, "branch_drop": {"branch": "r", **drop}},
            "seed": seed,
        }
    )


def dropping(model: LanguageModel, step: int, seed: int = 0, **drop: Any) -> LanguageModel:
    """A copy of a model as it is in training at a step."""
    spec = run_spec(model, seed, drop)
    copy = LanguageModel(model.spec, 11)
    copy.load_state_dict(model.state_dict())
    assert spec.training.branch_drop is not None
    dropper = BranchDropper(spec.training.branch_drop, copy)
    coins = dropper.draw(spec, step)
    assert coins.shape == dropper.shape(spec.training)
    dropper.coins = torch.from_numpy(coins).float()
    return copy


def test_a_dropped_branch_is_zero_as_often_as_asked_and_by_the_seed_alone(model: LanguageModel, batch: Tensor) -> None:
    def kept(step: int, **options: Any) -> Tensor:
        with BranchWatch(copy := dropping(model, step, **options)) as seen:
            copy.train()(batch.repeat(100, 1))
        return torch.stack([branch[0].abs().amax((1, 2)) > 0 for branch in seen.branches])

    assert torch.equal(kept(0), kept(0))
    assert not torch.equal(kept(0), kept(0, seed=1))
    # 200 coins in each of 2 layers: four standard deviations of a proportion are 0.1.
    assert kept(0).float().mean().item() == pytest.approx(0.6, abs=0.1)
    assert kept(10).float().mean().item() == pytest.approx(0.9, abs=0.1)
    assert not torch.equal(*kept(0))
    assert all(layer.float().mean().item() in (0.0, 1.0) for layer in kept(3, unit="batch"))


def test_what_is_kept_is_rescaled_and_evaluation_drops_nothing(model: LanguageModel, batch: Tensor) -> None:
    wide = batch.repeat(100, 1)
    with BranchWatch(model) as plain:
        model.eval()(wide)
    copy = dropping(model, 0, start=0.5, end=0.5)
    with BranchWatch(copy) as evaluated:
        copy.eval()(wide)
    assert torch.equal(plain.branches[0][0], evaluated.branches[0][0])
    with BranchWatch(copy) as trained:
        copy.train()(wide)
    ratios = trained.branches[0][0] / plain.branches[0][0]
    values = ratios.flatten(1).median(1).values
    assert all(min(abs(v), abs(v - 2)) < 1e-3 for v in values.tolist())
