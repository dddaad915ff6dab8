"""The engine gives the numbers of the reference trainer: whatever is trained, stacked, in pieces, in regions or compiled."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from corpus import words
from references import assert_agree, in_regions, masked
from runs import HYBRID, go_on, run_spec
from torch import Tensor

from gt.catalogue import MODEL_KINDS, components
from gt.conformance.subjects import settings
from gt.data.tokens import Tokens
from gt.models.fusions.arbiters import IndependentGates
from gt.spec import RunSpec
from gt.training import compiled, reference, update
from gt.training.cohort import Cohort
from gt.training.parameters import initial

CPU = torch.device("cpu")
ATTENTION: dict[str, Any] = {"name": "attention", "n_head": 2}
MASKED = "some targets do not count"  # in what follows, a training on such tokens
AUXILIARY = {"diversity": "record", "arbiter": "cross_entropy", "balance_weight": 0.1, "branch_loss_weight": 0.1}
# What is trained: of two runs that are stacked the changes to their training, and to the model of both.
WAYS: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
    "adamw": ([{}, {"learning_rate": 0.003, "optimizer": {"name": "adamw", "beta2": 0.9}}], {}),
    "sgd": ([{"optimizer": "sgd", "learning_rate": rate, "weight_decay": rate} for rate in (0.1, 0.2)], {}),
    "lion": ([{"optimizer": {"name": "lion", "beta1": beta}, "learning_rate": 0.001} for beta in (0.9, 0.8)], {}),
    "muon": ([{"optimizer": {"name": "muon", "momentum": m, "ns_precision": "float32"}} for m in (0.9, 0.8)], {}),
    "decay of all": ([{"weight_decay": decay, "weight_decay_policy": "all", "clip_norm": None} for decay in (0.1, 1)], {}),
    "parts": ([{"parts": {"mixers.r": {"gradient_scale": 0.3, "warmup": 2.0}, "fusion": {"frozen_steps": 2}}}] * 2, {}),
    MASKED: ([{"grad_accumulation": 4}] * 2, {}),
    "curriculum": ([{"curriculum": [{"steps": 2, "sequence_length": 8, "learning_rate": 1.3}]}] * 2, {}),
    "pretraining": ([{"pretrain_steps": 2}] * 2, {}),
    "pretraining of towers": ([{"pretrain_steps": 2}] * 2, {"stack": "towers"}),
    "carried states": ([{"batch_order": "tracks", "carry_state": True}] * 2, {"feed_forward": {"name": "channel_mix"}}),
    "dropped branch": ([{"branch_drop": {"branch": "r"}, "grad_accumulation": 2}] * 2, {}),
    "dropped batches": ([{"branch_drop": {"branch": "m", "unit": "batch", "rescale": False}}] * 2, {}),
    "auxiliary terms": ([{"auxiliary": AUXILIARY}] * 2, {}),
    "norms at the output": ([{}] * 2, {"norm_position": "both", "residual_gain": 0.1, "logit_softcap": 3.0}),
    "norms of sums": ([{}] * 2, {"norm_position": "post", "tie_embeddings": False, "positions": "learned"}),
    "side by side": ([{}] * 2, {"feed_forward_place": "beside", "norm": "layer", "init": {"embedding_norm": True}}),
    "normed branches": ([{}] * 2, {"branch_norm": "rms", "wraps": {"r": "identity_ffn", "m": "identity"}}),
    "several kinds": ([{}] * 2, {"n_layer": 2, "feed_forward": None, "layers": "m r+m", "segment_markers": [3, 5]}),
}


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Tokens:
    return Tokens.open(words(tmp_path_factory.mktemp("data")))


def trained(specs: list[RunSpec], tokens: Tokens, start: dict[str, Tensor] | None = None, **options: Any) -> Cohort:
    return go_on(Cohort(specs, tokens, CPU, torch.float64, start=start, **options))


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_train_gives_the_reference_s_numbers_alone_stacked_and_in_regions(way: str, tokens: Tokens) -> None:
    changes, model = WAYS[way]
    tokens = masked(tokens, 16) if way == MASKED else replace(tokens, train=tokens.train[:600])
    short = {"steps": 3, "batch_size": 8, "sequence_length": 16, "evaluate_every": 2}
    specs = [run_spec({**HYBRID, "n_layer": 1, **model}, seed, **{**short, **own}) for seed, own in enumerate(changes)]
    expected = [reference.train(spec, tokens) for spec in specs]
    engines = [trained(specs, tokens), trained(specs[:1], tokens)]
    training = specs[0].training
    if not (training.auxiliary or training.branch_drop or training.carry_state or training.pretrain_steps):
        engines += [in_regions(specs, tokens), in_regions(specs[:1], tokens)]
    for cohort in engines:
        for run in range(len(cohort.specs)):
            assert_agree(cohort, run, expected[run])


# Every two components that share the process


def specification(kind: str, own: dict[str, Any], d_model: int = 16) -> RunSpec:
    """A layer with a component in it, which starts from weights that are given."""
    model: dict[str, Any] = {"layers": "a+b", "mixers": {"a": ATTENTION, "b": ATTENTION}, "fusion": {"name": "gated"}}
    model |= {"layers": "a", "mixers": {"a": own}, "fusion": None} if kind == "mixer" else {kind: own}
    short = {"steps": 2, "batch_size": 24, "sequence_length": 16, "warmup_ratio": 0.0}
    watched = {"evaluation_tokens": 1024, "log_every": 1}
    return RunSpec.model_validate(
        {
            "corpus": {"name": "embedded"},
            "tokenizer": {"name": "char"},
            "model": {"d_model": d_model, "n_layer": 1, **model},
            "training": {**short, **watched, "start": "0" * 64},
            "seed": 0,
        }
    )


def begin(spec: RunSpec, vocab_size: int) -> dict[str, Tensor]:
    """Not as it starts: what a projection of zeros lets through, or a gate of one half, is the same for many."""
    generator = torch.Generator().manual_seed(0)
    weights = initial(spec, vocab_size).items()
    return {name: w.double() + 0.2 * torch.randn(w.shape, generator=generator, dtype=torch.float64) for name, w in weights}


def in_both_orders(specs: list[RunSpec], tokens: Tokens) -> None:
    """One after the other with the same compiled code at hand, and the other way round: so each pair in both orders."""
    expected = [reference.train(spec, tokens, start=begin(spec, tokens.vocab_size)) for spec in specs]
    for order in (1, -1):
        compiled.forget()
        for spec, own in list(zip(specs, expected, strict=True))[::order]:
            assert_agree(trained([spec], tokens, begin(spec, tokens.vocab_size), compiled=True), 0, own)
    compiled.forget()


@pytest.mark.parametrize("kind", MODEL_KINDS)
def test_no_setting_of_a_component_is_trained_by_the_code_of_another(kind: str, tokens: Tokens) -> None:
    """The compiler gives every function back as it is; whose function a region is given remains to be seen."""
    specs = [
        specification(kind, {"name": component.name, **setting.sizes, **setting.changed}, setting.d_model)
        for component in components(kind).values()
        for setting in settings(component)
    ]
    assert len(specs) > len(components(kind))
    with torch._dynamo.config.patch(disable=True):
        in_both_orders(specs, tokens)


GATES = [specification("fusion", {"name": "independent_gates", "activation": name}) for name in ("sigmoid", "silu")]


def test_a_key_that_ignores_an_option_is_found_out(tokens: Tokens, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(IndependentGates, "computation", IndependentGates)
    with torch._dynamo.config.patch(disable=True), pytest.raises(AssertionError):
        in_both_orders(GATES, tokens)
    compiled.forget()


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """All that torch's compiler does before it makes kernels: it traces, guards and looks up what it has traced."""
    for module in (compiled, update):
        monkeypatch.setattr(module, "compile_static", lambda function: torch.compile(function, dynamic=False, backend="eager"))
    compiled.forget()
    yield
    compiled.forget()


@pytest.mark.usefixtures("traced")
def test_traced_code_of_one_option_does_not_serve_another(tokens: Tokens) -> None:
    in_both_orders(GATES, tokens)


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("name", sorted(components("optimizer")))
def test_traced_regions_and_updates_of_stacked_runs_give_the_reference_s_numbers(name: str, tokens: Tokens) -> None:
    optimizer = {"name": name, **({"ns_precision": "float32"} if name == "muon" else {})}
    model = {"d_model": 16, "n_layer": 2, "layers": "a", "mixers": {"a": ATTENTION}, "feed_forward": {"name": "mlp"}}
    own = {"steps": 2, "batch_size": 32, "optimizer": optimizer}
    specs = [run_spec(model, seed, **own) for seed in (0, 1)]
    cohort = trained(specs, tokens, compiled=True)
    assert cohort.compiled
    for run, spec in enumerate(specs):
        assert_agree(cohort, run, reference.train(spec, tokens))
