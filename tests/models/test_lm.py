"""The language model around its parts. What each part promises by itself is in gt.conformance."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from variants import VARIANTS, tiny

from gt.models.init import assert_all_set
from gt.models.lm import LanguageModel, audit
from gt.seeds import Streams
from gt.spec import ModelSpec


def variant(name: str, **model: Any) -> ModelSpec:
    return ModelSpec.model_validate(tiny(name, **model))


def frame(spec: ModelSpec) -> str:
    """How a model is put together, without which mixers, fusion and feed-forward layer it is put together of."""
    document = spec.model_dump(mode="json")
    parts = {"mixers": len(spec.mixers), "fusion": spec.fusion is not None, "feed_forward": spec.feed_forward is not None}
    alike = {"wraps": sorted(set(spec.wraps.values())), "layers": sorted({"+" in layer for layer in spec.layers.split()})}
    return json.dumps(document | parts | alike | {"d_model": None, "n_layer": None})


# One name for each model, as variants that differ only in their training have the same, and one for each frame.
MODELS = {variant(name).model_dump_json(): name for name in VARIANTS}
FRAMES = {frame(variant(name)): name for name in VARIANTS}


def built(spec: ModelSpec, seed: int = 0, vocab_size: int = 11) -> LanguageModel:
    model = LanguageModel(spec, vocab_size)
    model.reset_parameters(Streams(seed))
    return model.double()


@pytest.fixture(params=sorted(FRAMES.values()))
def spec(request: pytest.FixtureRequest) -> ModelSpec:
    return variant(request.param)


@pytest.fixture
def tokens() -> torch.Tensor:
    return torch.randint(11, (2, 24), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", sorted(MODELS.values()))
def test_a_model_trains_in_bfloat16(name: str, tokens: torch.Tensor) -> None:
    """What is float32 and what bfloat16 under autocast must fit together in every model; studies train so."""
    model = built(variant(name)).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits, _ = model(tokens)
    gradients = torch.autograd.grad(logits.float().square().mean(), list(model.parameters()))
    assert all(gradient.dtype == torch.float32 and gradient.isfinite().all() for gradient in gradients)


def test_logits_are_causal(spec: ModelSpec, tokens: torch.Tensor) -> None:
    model = built(spec)
    changed = tokens.clone()
    changed[:, 10] = (changed[:, 10] + 1) % 11
    before, after = model(tokens)[0], model(changed)[0]
    assert torch.equal(before[:, :10], after[:, :10])
    assert not torch.allclose(before[:, 10:], after[:, 10:])


def test_a_sequence_in_pieces_gives_what_it_gives_whole(spec: ModelSpec, tokens: torch.Tensor) -> None:
    model = built(spec)
    whole, _ = model(tokens)
    for cuts in ([7, 17], [1] * 24):
        pieces, state = [], None
        for piece in tokens.split(cuts, dim=1) if len(cuts) == 24 else tokens.tensor_split([7, 17], dim=1):
            logits, state = model(piece, state)
            pieces.append(logits)
        torch.testing.assert_close(torch.cat(pieces, dim=1), whole, rtol=1e-9, atol=1e-9)


def test_every_parameter_is_initialised_by_its_own_stream(spec: ModelSpec) -> None:
    model = LanguageModel(spec, 11)
    assert all(p.isnan().all() for p in model.parameters())
    before = torch.get_rng_state()
    model.reset_parameters(Streams(0))
    assert_all_set(model)
    assert torch.equal(before, torch.get_rng_state())


def test_every_parameter_learns(spec: ModelSpec, tokens: torch.Tensor) -> None:
    model = built(spec)
    # Output projections that start at zero hide the gradients of what lies before them; one step away they do not.
    with torch.no_grad():
        for i, parameter in enumerate(model.parameters()):
            parameter += 0.01 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(i), dtype=torch.float64)
    torch.nn.functional.cross_entropy(model(tokens[:, :-1])[0].flatten(0, 1), tokens[:, 1:].flatten()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


@torch.no_grad()
def test_two_sets_of_weights_at_once_give_what_each_gives_alone(spec: ModelSpec, tokens: torch.Tensor) -> None:
    models = [built(spec, seed) for seed in (0, 1)]
    weights = {
        name: torch.stack([dict(m.named_parameters())[name] for m in models]) for name, _ in models[0].named_parameters()
    }
    at_once = torch.func.vmap(lambda own, t: torch.func.functional_call(models[0], own, (t,))[0], in_dims=(0, None))
    logits = at_once(weights, tokens)
    for i, alone in enumerate(models):
        torch.testing.assert_close(logits[i], alone(tokens)[0], rtol=1e-9, atol=1e-9)


def test_variants_that_share_a_module_start_from_the_same_numbers() -> None:
    alone, fused = (dict(built(variant(name)).named_parameters()) for name in ("RWKV-6", "GF"))
    shared = set(alone) & set(fused)
    assert sum(name.startswith("body.blocks.1.mixers.r.") for name in shared) > 10
    assert all(torch.equal(alone[name], fused[name]) for name in shared)


def test_another_seed_gives_other_numbers() -> None:
    a, b = (built(variant("GPT-2"), seed).embedding.weight for seed in (0, 1))
    assert not torch.isclose(a, b).any()


@pytest.mark.parametrize(("name", "expected"), [("GF", 0.5), ("GF-MH", 0.3), ("WS", 0.5)])
def test_a_gate_starts_where_the_variant_says(name: str, expected: float) -> None:
    fusion = built(variant(name)).fusions()[0]
    r, m = torch.randn(2, 2, 5, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).unbind()
    fused = fusion(r, m, r)
    torch.testing.assert_close(fused.gate, torch.full_like(fused.gate, expected), rtol=0, atol=1e-7)
    torch.testing.assert_close(fused.y, expected * r + (1 - expected) * m, rtol=1e-6, atol=1e-6)


def test_counts_are_those_of_a_known_transformer() -> None:
    # GPT-2 small without biases on the norms' side: 12 d^2 + 13 d a layer with biases, plus the final norm.
    d, layers, vocab = 768, 12, 50_257
    spec = variant("GPT-2", d_model=d, n_layer=layers, mixers={"a": {"n_head": 12}})
    with torch.device("meta"):
        counts = audit(LanguageModel(spec, vocab), context=1024)
    assert counts.n_params == 124_439_808  # as published for GPT-2 small
    assert counts.n_params_non_embedding == layers * (12 * d * d + 13 * d) + 2 * d
