"""Where not every target counts, those that do weigh the same: in pieces, in processes, in stacked runs, in auxiliary terms."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from corpus import words
from references import assert_agree, in_regions, masked
from runs import HYBRID, go_on, run_spec
from torch import Tensor

from gt.data.tokens import Tokens
from gt.models.lm import LanguageModel
from gt.spec import AuxiliaryLosses, RunSpec
from gt.training import reference
from gt.training.auxiliary import BranchWatch, auxiliary_loss
from gt.training.cohort import Cohort
from gt.training.distributed import World
from gt.training.plan import batches

CPU = torch.device("cpu")
LENGTH, BATCH = 16, 8
MODEL = {**HYBRID, "n_layer": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return words(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def tokens(folder: Path) -> Tokens:
    return masked(Tokens.open(folder), LENGTH)


def of(seed: int = 0, pieces: int = 1) -> RunSpec:
    return run_spec(MODEL, seed, steps=2, batch_size=BATCH, sequence_length=LENGTH, grad_accumulation=pieces)


@pytest.fixture(scope="module")
def at_once(tokens: Tokens) -> list[reference.Trained]:
    """Of two runs, by the reference trainer, which takes each batch as a whole."""
    return [reference.train(of(seed), tokens) for seed in range(2)]


def test_the_loss_of_the_reference_is_the_mean_over_the_targets_that_count(
    tokens: Tokens, at_once: list[reference.Trained]
) -> None:
    """Taken by torch's own cross-entropy, and so is its gradient."""
    batch, _ = reference.batch_of(of(), tokens, batches(of(), tokens, None), 0)
    model = reference.initial_model(of(), tokens, torch.float64)
    counted = (batch >= 0)[:, 1:].flatten()
    assert 0 in (batch >= 0)[:, 1:].sum(1)  # a window without any
    read = torch.where(batch < 0, -batch - 1, batch)
    of_targets = F.cross_entropy(model(read[:, :-1])[0].flatten(0, 1), read[:, 1:].flatten(), reduction="none")
    loss = of_targets[counted].mean()
    norm = torch.stack([g.norm() for g in torch.autograd.grad(loss, list(model.parameters()))]).norm()
    assert at_once[0].rows[1]["train/loss"] == pytest.approx(loss.item(), rel=1e-12)
    assert at_once[0].rows[1]["grad_norm"] == pytest.approx(norm.item(), rel=1e-12)


@pytest.mark.parametrize("pieces", [1, 2, 8])
def test_a_batch_in_pieces_is_the_batch_at_once(pieces: int, tokens: Tokens, at_once: list[reference.Trained]) -> None:
    """Alone and stacked, of the whole model and in regions."""
    specs = [of(seed, pieces) for seed in range(2)]
    for own in (specs, specs[:1]):
        for cohort in (go_on(Cohort(own, tokens, CPU, torch.float64)), in_regions(own, tokens)):
            for run in range(len(own)):
                assert_agree(cohort, run, at_once[run])


def in_a_process(rank: int, folder: Path, meeting: Path, out: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    tokens = masked(Tokens.open(folder), LENGTH)
    cohort = go_on(Cohort([of(pieces=2)], tokens, CPU, torch.float64, world=World(rank, 2)))
    assert_agree(cohort, 0, reference.train(of(), tokens))
    (out / f"{rank}.agrees").touch()
    dist.destroy_process_group()


def test_processes_that_share_a_batch_take_its_steps(folder: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=in_a_process, args=(rank, folder, tmp_path / "meeting", tmp_path)) for rank in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert {file.name for file in tmp_path.glob("*.agrees")} == {"0.agrees", "1.agrees"}


@pytest.mark.parametrize("term", [{"arbiter": "cross_entropy"}, {"branch_loss_weight": 1.0}], ids=str)
def test_terms_about_targets_ignore_those_that_do_not_count(term: dict[str, Any], tokens: Tokens) -> None:
    """Another token in their place is another target, and changes nothing; the term is the mean over the others."""
    model = LanguageModel(of().model, tokens.vocab_size).double()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(parameter.numel()))
    generator = torch.Generator().manual_seed(0)
    batch = torch.randint(tokens.vocab_size, (4, LENGTH + 1), generator=generator)
    counted = torch.rand(4, LENGTH, generator=generator) < 0.3
    spec = AuxiliaryLosses.model_validate(term)

    def term_of(targets: Tensor) -> Tensor:
        with BranchWatch(model) as seen:
            model(batch[:, :-1])
        return auxiliary_loss(spec, model, seen, targets)

    targets = batch[:, 1:]
    others = (targets + 1) % tokens.vocab_size
    counting, elsewhere = (torch.where(counted, targets, -t - 1) for t in (targets, others))
    assert torch.equal(term_of(counting), term_of(elsewhere))
    one_by_one = []
    for row, place in counted.nonzero():
        alone = -targets - 1
        alone[row, place] = targets[row, place]
        one_by_one.append(term_of(alone))
    torch.testing.assert_close(term_of(counting), torch.stack(one_by_one).mean(), rtol=1e-5, atol=0)  # these terms are float32


def test_terms_that_look_at_a_whole_batch_are_refused_in_pieces() -> None:
    with pytest.raises(ValueError, match="auxiliary needs grad_accumulation 1"):
        run_spec(auxiliary={"balance_weight": 0.1}, grad_accumulation=2)
