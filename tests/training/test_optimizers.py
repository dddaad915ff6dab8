"""Each optimizer does what its source says, in every run of a stack, and so does one from outside."""

from __future__ import annotations

import os
import subprocess
import sys
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from corpus import words
from runs import HYBRID, assert_same, column, resumed, run_spec, trained
from torch import Tensor, nn

from gt.catalogue import component, components
from gt.data.tokens import Tokens
from gt.models.lm import LanguageModel
from gt.seeds import Streams
from gt.spec import ModelSpec, TrainingSpec
from gt.training.flat import Flat
from gt.training.optimizers.base import Optimizer
from gt.training.optimizers.muon import Muon, orthogonalised

# What two runs of a stack ask for, by the name of the optimizer: other numbers in each.
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "adamw": [{}, {"beta1": 0.8, "beta2": 0.999, "epsilon": 1e-4}],
    "lion": [{}, {"beta1": 0.5, "beta2": 0.99}],
    "sgd": [{}, {"momentum": 0.5}],
    "muon": [{}, {"momentum": 0.8, "beta1": 0.8, "epsilon": 1e-4, "adamw_learning_rate": 0.3}],
}
ONE_LAYER = HYBRID | {"n_layer": 1}
EXACT = {"ns_precision": "float32"}
STEPS = 50
ROOT = Path(__file__).parents[2]
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
CPU = torch.device("cpu")


def training(optimizer: dict[str, Any], rate: float, decay: float) -> TrainingSpec:
    size = {"steps": STEPS, "batch_size": 2, "sequence_length": 8}
    return TrainingSpec.model_validate({**size, "optimizer": optimizer, "learning_rate": rate, "weight_decay": decay})


def stack(name: str, **shared: Any) -> list[TrainingSpec]:
    both = zip(OPTIONS[name], (0.01, 0.003), (0.1, 0.5), strict=True)
    return [training({"name": name, **own, **shared}, rate, decay) for own, rate, decay in both]


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    built = LanguageModel(ModelSpec.model_validate(ONE_LAYER), 11)
    built.reset_parameters(Streams(0))
    return built.double()


def gradient(name: str, weight: Tensor, step: int) -> Tensor:
    """Of a bowl that is shaken: the weight itself, and noise that is the same for all runs. weight: (run, *shape)."""
    return weight.detach() + noise(name, step, weight.shape[1:])


@cache
def noise(name: str, step: int, shape: torch.Size) -> Tensor:
    generator = torch.Generator().manual_seed(zlib.crc32(f"{name} {step}".encode()))
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def ours(model: LanguageModel, specs: list[TrainingSpec]) -> Optimizer:
    """After STEPS steps."""
    flat, start = Flat(model, len(specs), CPU, torch.float64), dict(model.named_parameters())
    weights = flat.joined([start[name].detach().expand(len(specs), *start[name].shape) for name in flat.starts])
    kind: type[Optimizer] = component("optimizer", specs[0].optimizer.name).load()
    optimizer = kind(flat, weights, specs)
    rates = torch.tensor([[spec.learning_rate] * len(flat.groups) for spec in specs], dtype=torch.float64)
    for step in range(STEPS):
        pieces = [gradient(name, weight, step) for name, weight in flat.views(weights).items()]
        optimizer.step(flat.joined(pieces), rates)
    return optimizer


def torchs(model: LanguageModel, kinds: Callable[[dict[str, nn.Parameter]], list[torch.optim.Optimizer]]) -> dict[str, Tensor]:
    """The weights after the same steps of some of torch's optimizers, which each have some of the parameters."""
    parameters = {name: nn.Parameter(p.detach().clone()) for name, p in model.named_parameters()}
    optimizers = kinds(parameters)
    for step in range(STEPS):
        for name, parameter in parameters.items():
            parameter.grad = gradient(name, parameter.unsqueeze(0), step)[0]
        for optimizer in optimizers:
            optimizer.step()
    return {name: parameter.detach() for name, parameter in parameters.items()}


def assert_close(optimizer: Optimizer, run: int, expected: dict[str, Tensor]) -> None:
    for name, weight in optimizer.flat.views(optimizer.weights).items():
        torch.testing.assert_close(
            weight[run], expected[name], rtol=0, atol=1e-7, msg=lambda text, name=name: f"{name}: {text}"
        )


def of_groups(model: LanguageModel, spec: TrainingSpec, names: dict[str, nn.Parameter]) -> list[dict[str, Any]]:
    """Parameters as torch's optimizers take them: matrices decay, and nothing else."""
    matrix = {name for group in Flat(model, 1, CPU, torch.float64).groups if group.matrix for name in group.names}
    decay = {True: spec.weight_decay, False: 0.0}
    members = {own: [p for name, p in names.items() if (name in matrix) == own] for own in (True, False)}
    return [{"params": members[own], "weight_decay": decay[own]} for own in (True, False) if members[own]]


def test_adamw_is_torchs(model: LanguageModel) -> None:
    specs = stack("adamw")
    optimizer = ours(model, specs)
    for run, spec in enumerate(specs):
        own = spec.optimizer
        settings: dict[str, Any] = {"lr": spec.learning_rate, "betas": (own.beta1, own.beta2), "eps": own.epsilon}
        assert_close(
            optimizer, run, torchs(model, lambda p, s=spec, o=settings: [torch.optim.AdamW(of_groups(model, s, p), **o)])
        )


def test_sgd_is_torchs(model: LanguageModel) -> None:
    specs = stack("sgd")
    optimizer = ours(model, specs)
    for run, spec in enumerate(specs):
        settings = {"lr": spec.learning_rate, "momentum": spec.optimizer.momentum}
        assert_close(
            optimizer, run, torchs(model, lambda p, s=spec, o=settings: [torch.optim.SGD(of_groups(model, s, p), **o)])
        )


def test_lion_is_the_papers_algorithm(model: LanguageModel) -> None:
    """Algorithm 2 of arXiv:2302.06675, on one parameter after the other."""
    specs = stack("lion")
    optimizer = ours(model, specs)
    matrix = {name for group in optimizer.flat.groups if group.matrix for name in group.names}
    for run, spec in enumerate(specs):
        expected = {}
        for name, start in model.named_parameters():
            weight, momentum, own = start.detach().clone(), torch.zeros_like(start), spec.optimizer
            for step in range(STEPS):
                g = gradient(name, weight.unsqueeze(0), step)[0]
                update = torch.sign(own.beta1 * momentum + (1 - own.beta1) * g)
                weight = weight - spec.learning_rate * (update + (spec.weight_decay if name in matrix else 0.0) * weight)
                momentum = own.beta2 * momentum + (1 - own.beta2) * g
            expected[name] = weight
        assert_close(optimizer, run, expected)


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("scale", ["original", "match_rms_adamw"])
def test_muon_is_torchs_inside_of_the_model_and_adamw_around_it(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch, scale: str, nesterov: bool
) -> None:
    """torch iterates in bfloat16, where a difference in the last bit of a gradient now and then is one of 1/256 of a step, so
    that many steps cannot be compared. Its code is the same for every type but for one cast, which is taken out.
    """
    specs = stack("muon", scale=scale, nesterov=nesterov, **EXACT)
    optimizer = ours(model, specs)
    monkeypatch.setattr(Tensor, "bfloat16", Tensor.clone)
    for run, spec in enumerate(specs):
        own, hidden = spec.optimizer, _hidden(model)

        def kinds(
            parameters: dict[str, nn.Parameter], spec: TrainingSpec = spec, own: Any = own, hidden: set[str] = hidden
        ) -> list[torch.optim.Optimizer]:
            matrices = [p for name, p in parameters.items() if name in hidden]
            rest = {name: p for name, p in parameters.items() if name not in hidden}
            common: dict[str, Any] = {"lr": spec.learning_rate, "weight_decay": spec.weight_decay, "momentum": own.momentum}
            rate, betas = spec.learning_rate * own.adamw_learning_rate, (own.beta1, own.beta2)
            return [
                torch.optim.Muon(matrices, nesterov=nesterov, adjust_lr_fn=scale, **common),
                torch.optim.AdamW(of_groups(model, spec, rest), lr=rate, betas=betas, eps=own.epsilon),
            ]

        assert_close(optimizer, run, torchs(model, kinds))


def _hidden(model: LanguageModel) -> set[str]:
    """The weights of linear layers inside of the blocks, but for gates of one row and what RWKV-6 declares."""
    linear = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    return {
        name
        for name in linear
        if ".blocks." in name and not any(own in name for own in (".x_proj.", ".w_proj.", "fusion.gate"))
    }


def test_muons_are_the_matrices_of_hidden_layers(model: LanguageModel) -> None:
    flat = Flat(model, 1, CPU, torch.float64)
    optimizer = Muon(flat, flat.zeros(), [training({"name": "muon"}, 0.01, 0.1)])
    found = [name for group in flat.groups for name in group.names if optimizer.is_hidden(group, name)]
    assert sorted(found) == sorted(_hidden(model))
    assert len(found) == 9
    rows = torch.cat([optimizer.rest, *optimizer.matrices.values()])
    assert sorted(rows.tolist()) == list(range(flat.zeros().numel() // 32)), "a number is not updated exactly once"


@pytest.mark.parametrize("shape", [(24, 24), (48, 16), (16, 48), (5, 31)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_singular_values_are_brought_near_to_one_and_vectors_stay(shape: tuple[int, int], dtype: torch.dtype) -> None:
    """Between a half and one and a half, says the source, in bfloat16 too; each matrix by itself, whatever its size."""
    generator = torch.Generator().manual_seed(0)
    (u, _, v) = torch.linalg.svd(torch.randn(2, 3, *shape, generator=generator), full_matrices=False)
    values = torch.linspace(0.1, 1.0, min(shape)) * torch.tensor([1e-3, 1.0, 1e3]).view(3, 1)
    found = orthogonalised(
        (u * values.unsqueeze(-2) @ v).to(dtype), 5, [3.4445, -4.7750, 2.0315], torch.full((2, 1, 1, 1), 1e-7)
    )
    assert found.dtype == dtype
    seen = u.mT @ found.float() @ v.mT
    diagonal = torch.diagonal(seen, dim1=-2, dim2=-1)
    assert ((diagonal > 0.5) & (diagonal < 1.5)).all()
    assert (seen - torch.diag_embed(diagonal)).abs().max() < 0.1


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_stacked_runs_are_updated_as_if_alone(model: LanguageModel, name: str) -> None:
    """To rounding: a library may add up the products of many small matrices in another order than those of a few."""
    specs = stack(name, **(EXACT if name == "muon" else {}))
    together = ours(model, specs)
    for run, spec in enumerate(specs):
        torch.testing.assert_close(together.weights[run], ours(model, [spec]).weights[0], rtol=1e-12, atol=1e-12)


def test_a_matrix_without_a_gradient_stays_where_it_is(model: LanguageModel) -> None:
    flat = Flat(model, 1, CPU, torch.float32)
    weights = flat.zeros() + 1
    optimizer = Muon(flat, weights, [training({"name": "muon"}, 0.01, 0.0)])
    optimizer.step(flat.zeros(), torch.full((1, len(flat.groups)), 0.01, dtype=torch.float64))
    assert torch.equal(weights, torch.ones_like(weights))


# In training


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Tokens:
    return Tokens.open(words(tmp_path_factory.mktemp("data")))


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_a_run_that_stops_goes_on_to_the_same_bits(tokens: Tokens, tmp_path: Path, name: str) -> None:
    rate = {"sgd": 0.1, "lion": 0.001}.get(name, 0.01)
    specs = [
        run_spec(ONE_LAYER, seed, optimizer={"name": name, **own}, learning_rate=rate) for seed, own in enumerate(OPTIONS[name])
    ]
    whole = trained(specs, tokens)
    after = resumed(specs, tokens, 7, tmp_path)
    for run in range(2):
        assert_same(whole, run, after, run)
        losses = column(whole, "train/loss", run)
        assert losses[-1] < losses[1]


def test_parts_are_trained_as_they_say_by_muon(tokens: Tokens) -> None:
    """A part that is frozen stays, one that is slower moves less, one that decays shrinks; a scale of gradients is gone."""
    shared: dict[str, Any] = {"optimizer": {"name": "muon", **EXACT}, "steps": 4, "clip_norm": None}
    parts: dict[str, Any] = {
        "plain": {},
        "frozen": {"mixers.r": {"frozen_steps": 4}, "norm": {"frozen_steps": 4}},
        "slow": {"mixers.r": {"learning_rate": 0.1}},
        "scaled": {"mixers.r": {"gradient_scale": 100.0}},
    }
    specs = {name: run_spec(ONE_LAYER, **shared, parts=own) for name, own in parts.items()}
    specs["decayed"] = run_spec(ONE_LAYER, **shared, weight_decay=10.0, parts={"mixers.m": {"weight_decay": 0.0}})
    cohort = trained(list(specs.values()), tokens)
    start = trained([run_spec(ONE_LAYER, **{**shared, "learning_rate": 1e-30})], tokens)
    before, after = start.parameters(0), {name: cohort.parameters(run) for run, name in enumerate(specs)}
    matrix, norm, m = "body.blocks.0.mixers.r.k_proj.linear.weight", "norm.weight", "body.blocks.0.mixers.m.in_proj.weight"

    def moved(name: str) -> float:
        return (after[name][matrix] - before[matrix]).norm().item()

    assert torch.equal(after["frozen"][matrix], before[matrix]) and torch.equal(after["frozen"][norm], before[norm])
    assert moved("slow") < 0.2 * moved("plain")
    assert moved("scaled") == pytest.approx(moved("plain"), rel=0.1)
    assert after["decayed"][matrix].norm() < 0.9 * after["plain"][matrix].norm()
    torch.testing.assert_close(after["decayed"][m].norm(), after["plain"][m].norm(), rtol=0.05, atol=0)


def test_a_run_that_diverges_under_muon_leaves_its_neighbour_as_it_was(tokens: Tokens) -> None:
    wild = {"optimizer": {"name": "muon", "scale": "original", **EXACT}, "clip_norm": None, "weight_decay": 10.0, "steps": 40}
    steady = run_spec(ONE_LAYER, **wild, learning_rate=0.001)
    cohort = trained([run_spec(ONE_LAYER, **wild, learning_rate=10.0, warmup_ratio=0.0), steady], tokens)
    assert cohort.book.status == ["diverged", "completed"]
    assert cohort.weights.isfinite().all()
    assert_same(cohort, 1, trained([steady], tokens), rtol=1e-9, atol=1e-12)


OUTSIDE = '''"""Steps of the momentum's sign."""

from pydantic import Field
from torch import Tensor

from gt.options import Decay, Options
from gt.training.optimizers.base import Optimizer


class Signum(Optimizer):
    """The sign of the gradient's running mean.

    Formula: m = b m + (1 - b) g, w = w - lr sign(m)
    Source: Bernstein et al., arXiv:1802.04434
    """

    name = "signum"

    class Config(Options):
        beta: Decay = Field(0.9, description="of the running mean")

    def build(self) -> None:
        self.state["momentum"] = self.flat.zeros()

    def update(self, gradient: Tensor, rates: Tensor) -> Tensor:
        return rates * self.state["momentum"].lerp_(gradient, 1 - self.options.beta).sign()
'''
# In a project: two runs of other numbers are stacked and learn; an option that it does not have is refused.
USE = """
import sys
from pathlib import Path
from runs import column, go_on, cohort, run_spec
from gt.data.tokens import Tokens
from gt.explain import validated
from gt.errors import ConfigError
from gt.fingerprint import code_of_training
from gt.grouping import cohort_key
from gt.spec import TrainingSpec

specs = [run_spec(optimizer={"name": "signum", "beta": beta}, learning_rate=0.003) for beta in (0.9, 0.5)]
assert len(set(map(cohort_key, specs))) == 1
both = go_on(cohort(specs, Tokens.open(Path(sys.argv[1]))))
first, second = (column(both, "train/loss", run) for run in (0, 1))
assert first[-1] < first[1] and second[-1] < second[1] and first[-1] != second[-1]
print(*(part for part in code_of_training(specs[0]) if "optimizers" in part), sep="\\n")
try:
    validated(TrainingSpec, {**specs[0].training.model_dump(), "optimizer": {"name": "signum", "gamma": 1}}, "s.yaml")
except ConfigError as error:
    print(error)
"""


def test_an_optimizer_from_outside_is_listed_trained_and_a_part_of_the_runs_code(tmp_path: Path) -> None:
    project = tmp_path / "project"
    (project / "mylab").mkdir(parents=True)
    (project / "pyproject.toml").write_text('[tool.groundthink]\npackage = "mylab"\n')
    (project / "mylab/__init__.py").touch()
    (project / "mylab/optimizers.py").write_text(OUTSIDE)
    assert len(OUTSIDE.splitlines()) <= 27
    data = str(words(tmp_path))

    def python(*command: str) -> list[str]:
        done = subprocess.run(
            [sys.executable, *command], cwd=project, check=True, capture_output=True, text=True, env=ENVIRONMENT
        )
        return done.stdout.splitlines()

    listed = [line.split() for line in python("-m", "gt", "list")]
    assert ["signum", "mylab", "m", "="] in [words[:4] for words in listed]
    *parts, refusal = python("-c", USE, data)
    assert parts == ["gt.training.optimizers.base", "mylab.optimizers (optimizer signum)"]
    assert refusal == "s.yaml: optimizer.gamma: unknown key 'gamma'. Allowed: beta, name."


def test_every_optimizer_is_tested() -> None:
    assert set(OPTIONS) == set(components("optimizer"))
