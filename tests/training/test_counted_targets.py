"""Where not every target counts, those that do weigh the same: in pieces, in processes, in stacked runs, in auxiliary terms."""

from __future__ import annotations

import multiprocessing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from corpus import words
from torch import Tensor

from gt.data.tokens import Tokens
from gt.models.lm import LanguageModel
from gt.spec import AuxiliaryLosses, RunSpec
from gt.training.auxiliary import BranchWatch, auxiliary_loss
from gt.training.cohort import Cohort
from gt.training.distributed import World
from gt.training.regions import Regions

CPU = torch.device("cpu")
LENGTH, BATCH = 16, 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return words(tmp_path_factory.mktemp("data"))


def masked(folder: Path) -> Tokens:
    """Of every window from none to all targets count."""
    tokens, rng = Tokens.open(folder), np.random.default_rng(0)

    def answers(n: int) -> np.ndarray:
        shares = np.repeat(rng.choice([0.0, 0.05, 0.5, 1.0], -(-n // LENGTH)), LENGTH)[:n]
        return rng.random(n) < shares

    return replace(tokens, answers={split: answers(len(getattr(tokens, split))) for split in ("train", "val", "test")})


@pytest.fixture(scope="module")
def tokens(folder: Path) -> Tokens:
    return masked(folder)


def run_spec(seed: int = 0, **training: Any) -> RunSpec:
    mixers = {"r": {"name": "rwkv6", "head_size": 8}, "m": {"name": "mamba2", "head_dim": 8, "d_state": 8}}
    return RunSpec.model_validate(
        {
            "corpus": {"name": "embedded"}, "tokenizer": {"name": "char"}, "seed": seed,
            "model": {"d_model": 16, "n_layer": 1, "layers": "r+m", "mixers": mixers, "fusion": {"name": "gated"}},
            "training": {"steps": 3, "batch_size": BATCH, "sequence_length": LENGTH, "learning_rate": 0.1, "optimizer": "sgd",
                         "warmup_ratio": 0.0, "min_learning_rate_ratio": 1.0, "clip_norm": None, "evaluation_tokens": 512,
                         "log_every": 1, **training},
        }
    )  # fmt: skip


def expected(spec: RunSpec, tokens: Tokens) -> tuple[float, dict[str, Tensor]]:
    """The mean over the counted targets of the first batch, taken at once, and its gradient: torch's own cross-entropy."""
    cohort = Cohort([spec], tokens, CPU, torch.float64)
    cohort.plan.prepare(0)
    batch = cohort.plan.now()[0][0]
    model = LanguageModel(spec.model, tokens.vocab_size).double()
    model.load_state_dict(cohort.parameters(0))
    read = torch.where(batch < 0, -batch - 1, batch)
    counted = (batch >= 0)[:, 1:].flatten()
    assert 0 in (batch >= 0)[:, 1:].sum(1)  # a window without any
    losses = F.cross_entropy(model(read[:, :-1])[0].flatten(0, 1), read[:, 1:].flatten(), reduction="none")
    loss = losses[counted].mean()
    gradient = torch.autograd.grad(loss, list(model.parameters()))
    return float(loss), dict(zip((name for name, _ in model.named_parameters()), gradient, strict=True))


def after_one_step(cohort: Cohort) -> tuple[Tensor, list[dict[str, Tensor]]]:
    """Each run's logged loss, and what was subtracted from its weights over the learning rate: SGD's gradient."""
    before = [{name: w.detach().clone() for name, w in cohort.parameters(run).items()} for run in range(len(cohort.specs))]
    cohort.plan.prepare(0)
    cohort._step()
    rate = cohort.training.learning_rate
    gradients = [
        {name: (before[run][name] - w.detach()) / rate for name, w in cohort.parameters(run).items()}
        for run in range(len(cohort.specs))
    ]
    return cohort.log[0, :, cohort.columns.index("train/loss")], gradients


PLAIN = {"weight_decay": 0.0, "optimizer": {"name": "sgd", "momentum": 0.0}}


@pytest.mark.parametrize("cut", [False, True], ids=["whole model", "regions"])
@pytest.mark.parametrize("runs", [1, 2])
@pytest.mark.parametrize("pieces", [1, 2, 4, 8])
def test_a_batch_in_pieces_has_the_loss_and_gradient_of_the_batch_at_once(
    pieces: int, runs: int, cut: bool, tokens: Tokens
) -> None:
    specs = [run_spec(seed, grad_accumulation=pieces, **PLAIN) for seed in range(runs)]
    cohort = Cohort(specs, tokens, CPU, torch.float64)
    if cut:
        cohort.regions = Regions(cohort.model, cohort.views, "float32", compiled=False)
    losses, gradients = after_one_step(cohort)
    for run, spec in enumerate(specs):
        loss, gradient = expected(run_spec(spec.seed, **PLAIN), tokens)
        assert float(losses[run]) == pytest.approx(loss, rel=1e-12)
        for name, own in gradient.items():
            torch.testing.assert_close(gradients[run][name], own, rtol=1e-12, atol=1e-12)


def in_a_process(rank: int, folder: Path, meeting: Path, out: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    cohort = Cohort([run_spec(grad_accumulation=2, **PLAIN)], masked(folder), CPU, torch.float64, world=World(rank, 2))
    loss, (gradient,) = after_one_step(cohort)
    torch.save((loss, gradient), out / f"{rank}.pt")
    dist.destroy_process_group()


def test_processes_that_share_a_batch_have_its_loss_and_gradient(folder: Path, tokens: Tokens, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=in_a_process, args=(rank, folder, tmp_path / "meeting", tmp_path)) for rank in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    loss, gradient = expected(run_spec(**PLAIN), tokens)
    for rank in range(2):
        own_loss, own_gradient = torch.load(tmp_path / f"{rank}.pt")
        assert float(own_loss) == pytest.approx(loss, rel=1e-12)
        for name, own in gradient.items():
            torch.testing.assert_close(own_gradient[name], own, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("unit", ["batch", "sample"])
def test_a_dropped_branch_is_the_same_in_pieces(unit: str, tokens: Tokens) -> None:
    drop = {"branch": "r", "start": 0.5, "end": 0.5, "unit": unit}
    ends = []
    for pieces in (1, 4):
        cohort = Cohort([run_spec(branch_drop=drop, grad_accumulation=pieces)], tokens, CPU, torch.float64)
        while not cohort.done:
            cohort.advance()
            cohort.collect()
        ends.append(cohort.weights.clone())
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("cut", [False, True], ids=["whole model", "regions"])
def test_a_validation_is_over_the_targets_that_count(cut: bool, tokens: Tokens) -> None:
    spec = run_spec()
    cohort = Cohort([spec], tokens, CPU, torch.float64)
    if cut:
        cohort.regions = Regions(cohort.model, cohort.views, "float32", compiled=False)
    cohort._validate()
    model = LanguageModel(spec.model, tokens.vocab_size).double()
    model.load_state_dict(cohort.parameters(0))
    windows = cohort.pieces.flatten(0, 1)
    counted = (windows >= 0)[:, 1:].flatten()
    assert not counted.all()
    read = torch.where(windows < 0, -windows - 1, windows)
    with torch.no_grad():
        losses = F.cross_entropy(model(read[:, :-1])[0].flatten(0, 1), read[:, 1:].flatten(), reduction="none")
    assert float(cohort.validation[0, 0]) == pytest.approx(float(losses[counted].sum()), rel=1e-12)
    assert cohort.validation_targets == int(counted.sum())


@pytest.mark.parametrize("term", [{"arbiter": "cross_entropy"}, {"branch_loss_weight": 1.0}], ids=str)
def test_terms_about_targets_ignore_those_that_do_not_count(term: dict[str, Any], tokens: Tokens) -> None:
    """Another token in their place is another target, and changes nothing; the term is the mean over the others."""
    model = LanguageModel(run_spec().model, tokens.vocab_size).double()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(parameter.numel()))
    generator = torch.Generator().manual_seed(0)
    batch = torch.randint(tokens.vocab_size, (4, LENGTH + 1), generator=generator)
    counted = torch.rand(4, LENGTH, generator=generator) < 0.3
    spec = AuxiliaryLosses.model_validate(term)

    def of(targets: Tensor) -> Tensor:
        with BranchWatch(model) as seen:
            model(batch[:, :-1])
        return auxiliary_loss(spec, model, seen, targets)

    targets = batch[:, 1:]
    others = (targets + 1) % tokens.vocab_size
    masked, elsewhere = (torch.where(counted, targets, -t - 1) for t in (targets, others))
    assert torch.equal(of(masked), of(elsewhere))
    one_by_one = []
    for row, place in counted.nonzero():
        alone = -targets - 1
        alone[row, place] = targets[row, place]
        one_by_one.append(of(alone))
    torch.testing.assert_close(of(masked), torch.stack(one_by_one).mean(), rtol=1e-5, atol=0)  # these terms are float32


def test_terms_that_look_at_a_whole_batch_are_refused_in_pieces() -> None:
    with pytest.raises(ValueError, match="auxiliary needs grad_accumulation 1"):
        run_spec(auxiliary={"balance_weight": 0.1}, grad_accumulation=2)
