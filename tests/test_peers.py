"""The programs that ours is measured against do the same work: equal weights give equal numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gt.bench.candidates import HYBRID, QUICK, TRANSFORMER, Candidate, specifications
from gt.bench.noise import noise
from gt.bench.peers.huggingface import transformers_loop
from gt.models.lm import LanguageModel, count
from gt.seeds import Streams
from gt.training.flat import parameter_groups
from gt.training.losses import token_losses
from gt.training.schedule import learning_rate

STUDY = Path(__file__).parents[1] / "config/studies/v4_char.yaml"
VOCABULARY = 66


@pytest.mark.parametrize("name", [TRANSFORMER, HYBRID])
def test_jax_trains_as_torch_does(name: str) -> None:
    """Three steps in float32, from weights of which none is zero; two chunks of Mamba-2 and eight of RWKV-6."""
    jax = pytest.importorskip("jax")
    pytest.importorskip("optax")
    from functools import partial

    from gt.bench.peers import jax_program

    # An epsilon that gradients which are zero but for rounding do not get past, and a decay that is seen.
    optimizer = {"name": "adamw", "epsilon": 1e-3}
    training = {"precision": "float32", "sequence_length": 128, "steps": 10, "optimizer": optimizer, "weight_decay": 10.0}
    spec = specifications(STUDY, QUICK, {"training": training})[name]
    model = LanguageModel(spec.model, VOCABULARY)
    model.reset_parameters(Streams(0))
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.05 * torch.randn(weight.shape, generator=draw)
    batches = torch.randint(VOCABULARY, (3, 4, 129), generator=draw)

    transformation = jax_program.optimizer(spec, VOCABULARY)
    weights = jax_program.by_layer({name: weight.detach().numpy() for name, weight in model.named_parameters()})
    state = transformation.init(weights)
    theirs = jax.jit(partial(jax_program.update, spec=spec, transformation=transformation))
    losses = []
    for windows in batches:
        weights, state, loss = theirs(weights, state, windows.numpy())
        losses.append(float(loss))

    own = dict(model.named_parameters())
    groups = [
        {"params": [own[name] for name in group.names], "weight_decay": spec.training.weight_decay * group.matrix}
        for group in parameter_groups(model)
    ]
    adamw = torch.optim.AdamW(groups, betas=(0.9, 0.95), eps=1e-3)
    for step, windows in enumerate(batches):
        adamw.zero_grad()
        loss = token_losses(model, windows, "float32").mean()
        assert losses[step] == pytest.approx(loss.item(), rel=1e-6)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in adamw.param_groups:
            group["lr"] = learning_rate(spec.training, step)
        adamw.step()
    expected = jax_program.by_layer({name: weight.detach().numpy() for name, weight in own.items()})
    for found, wanted in zip(jax.tree.leaves(weights), jax.tree.leaves(expected), strict=True):
        torch.testing.assert_close(torch.tensor(found), torch.tensor(wanted), rtol=1e-4, atol=1e-6)


def test_transformers_has_as_many_parameters_and_learns() -> None:
    spec = specifications(STUDY, QUICK)[TRANSFORMER]
    loop = transformers_loop(Candidate(TRANSFORMER, spec, rival="transformers"), noise(VOCABULARY), torch.device("cpu"))
    assert loop.parameters == count(spec.model, VOCABULARY, 32).n_params
    before = [weight.clone() for weight in loop.model.parameters()]
    loop.take(1)
    assert not any(torch.equal(*both) for both in zip(before, loop.model.parameters(), strict=True))
