"""Which models are equal to a published architecture, and that their weights then are that architecture's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from exports import MODELS
from torch import Tensor
from variants import VARIANTS, tiny

from gt.errors import ConfigError
from gt.export.published import ARCHITECTURES, GPT2, RWKV6, Architecture, Mamba2, standing
from gt.models.lm import LanguageModel
from gt.seeds import Streams
from gt.spec import ModelSpec

VOCAB, LENGTH = 13, 24
EQUAL = {
    "GPT-2": "GPT2LMHeadModel",
    "GPT-2-record": "GPT2LMHeadModel",
    "Mamba-2-bare": "Mamba2ForCausalLM",
    "RWKV-6-CM": "RWKV6ForCausalLM",
    "RWKV-6-BlinkDL": "RWKV6ForCausalLM",
}


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_of_every_variant_it_is_known_what_it_is_equal_to_or_how_it_differs(name: str) -> None:
    found = standing(ModelSpec.model_validate(tiny(name)))
    assert (found.nearest.class_name if found.equal else None) == EQUAL.get(name)


def spec(name: str, **changes: Any) -> ModelSpec:
    """One of MODELS; changes: of its only mixer under `mixer`."""
    model = {**MODELS[name]}
    ((letter, mixer),) = model["mixers"].items()
    model["mixers"] = {letter: {**mixer, **changes.pop("mixer", {})}}
    return ModelSpec.model_validate({**model, **changes})


@pytest.mark.parametrize(
    ("name", "changes", "difference"),
    [
        ("GPT-2", {"norm_position": "post"}, "norm_position 'post', where GPT-2 has 'pre'"),
        (
            "GPT-2",
            {"mixer": {"rope": True}, "positions": "none"},
            "positions 'none', where GPT-2 has 'learned'; mixer.rope True,",
        ),
        ("GPT-2", {"logit_softcap": 30.0}, "logit_softcap 30.0, where GPT-2 has None"),
        ("GPT-2", {"wraps": {"a": "residual"}}, "wraps {'a': 'residual'}, where GPT-2 has {}"),
        ("GPT-2", {"norm": "rms"}, "norm 'rms', where GPT-2 has 'layer'"),
        ("Mamba-2", {"feed_forward": {"name": "mlp"}}, "feed_forward 'mlp', where Mamba-2 has None"),
        ("Mamba-2", {"mixer": {"state_norm": 4}}, "mixer.state_norm 4, where Mamba-2 has 0"),
        ("RWKV-6", {"mixer": {"key_clamp": True}}, "mixer.key_clamp True, where RWKV-6 has False"),
        ("RWKV-6", {"init": {}}, "init.embedding_norm False, where RWKV-6 has True"),
        ("RWKV-6", {"residual_gain": 0.1}, "residual_gain 0.1, where RWKV-6 has None"),
    ],
)
def test_a_difference_is_named(name: str, changes: dict[str, Any], difference: str) -> None:
    assert standing(spec(name)).equal
    assert difference in str(standing(spec(name, **changes)))


class Later(ModelSpec):
    """A specification with a setting that nobody has looked at."""

    later: int = 1


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda a: a.name)
def test_every_setting_of_a_model_is_accounted_for(architecture: Architecture) -> None:
    later = Later.model_validate(spec(architecture.name).model_dump())
    assert architecture.differences(later) == [f"later 1, where {architecture.name} has 'no such setting'"]


def moved(model: ModelSpec) -> LanguageModel:
    """Every parameter moved at random, so that none is zero, one, or equal to another."""
    found = LanguageModel(model, VOCAB)
    found.reset_parameters(Streams(0))
    with torch.no_grad():
        for i, parameter in enumerate(found.parameters()):
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(i))
    return found.eval()


def weights(model: LanguageModel) -> dict[str, Tensor]:
    return {name: weight.detach() for name, weight in model.named_parameters()}


def theirs(architecture: Architecture, model: ModelSpec) -> Any:
    """The model of transformers that a configuration of ours gives."""
    import transformers

    config = transformers.AutoConfig.for_model(architecture.model_type, **architecture.configuration(model, VOCAB, LENGTH))
    return getattr(transformers, architecture.class_name)(config).eval()


@pytest.mark.parametrize(
    ("architecture", "changes"),
    [
        (GPT2(), {}),
        (
            GPT2(),
            {"mixer": {"bias": False, "n_head": 4}, "feed_forward": {"name": "mlp", "ratio": 2.5}, "tie_embeddings": False},
        ),
        (Mamba2(), {}),
        (Mamba2(), {"mixer": {"n_groups": 2, "d_conv": 3, "expand": 3}, "tie_embeddings": False}),
    ],
    ids=["GPT-2", "GPT-2 otherwise", "Mamba-2", "Mamba-2 otherwise"],
)
def test_logits_are_those_of_transformers_with_the_weights_of_ours(architecture: Architecture, changes: dict[str, Any]) -> None:
    model = spec(architecture.name, **changes)
    ours, other = moved(model), theirs(architecture, model)
    missing, unexpected = other.load_state_dict(architecture.weights(model, weights(ours)), strict=False)
    assert not unexpected
    assert missing in ([], ["lm_head.weight"])
    if missing:
        assert other.config.tie_word_embeddings
        other.tie_weights()
    tokens = torch.randint(VOCAB, (2, LENGTH), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(other(tokens).logits, ours(tokens)[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda a: a.name)
def test_weights_come_back(architecture: Architecture) -> None:
    model = spec(architecture.name)
    own = weights(moved(model))
    back = architecture.own(model, architecture.weights(model, own))
    assert back.keys() == own.keys()
    for name, weight in own.items():  # to rounding: some are scaled
        torch.testing.assert_close(back[name], weight, rtol=2e-7, atol=0)


def test_a_bias_that_we_do_not_have_must_be_zero() -> None:
    model = spec("GPT-2", mixer={"bias": False})
    found = GPT2().weights(model, weights(moved(model)))
    assert not found["transformer.h.0.attn.c_attn.bias"].any()
    found["transformer.h.0.attn.c_attn.bias"][0] = 1e-3
    with pytest.raises(ConfigError, match=r"the weight transformer.h.0.attn.c_attn.bias is none of"):
        GPT2().own(model, found)


def test_a_head_that_parted_from_its_embedding_is_refused() -> None:
    found = Mamba2().weights(spec("Mamba-2"), weights(moved(spec("Mamba-2"))))
    found["lm_head.weight"] = found["lm_head.weight"] + 0.01
    with pytest.raises(ConfigError, match="its head is another matrix than its embedding"):
        Mamba2().own(spec("Mamba-2"), found)


# Of fla 0.6.0: RWKV6ForCausalLM(RWKV6Config(hidden_size=16, num_heads=2, expand_k=1.0, num_hidden_layers=2, vocab_size=13,
# intermediate_size=32)). The second layer has what the first has, but for pre_norm.
FLA = {
    "pre_norm.weight": (16,), "pre_norm.bias": (16,), "attn_norm.weight": (16,), "attn_norm.bias": (16,),
    "ffn_norm.weight": (16,), "ffn_norm.bias": (16,), "attn.x_bias": (5, 16), "attn.bonus": (2, 8), "attn.x_proj.0.mu": (16,),
    "attn.x_proj.0.linear.weight": (160, 16), "attn.x_proj.2.weight": (16, 160), "attn.r_proj.linear.weight": (16, 16),
    "attn.w_proj.linear.lora.0.weight": (64, 16), "attn.w_proj.linear.lora.2.weight": (16, 64),
    "attn.w_proj.linear.lora.2.bias": (16,), "attn.k_proj.linear.weight": (16, 16), "attn.v_proj.linear.weight": (16, 16),
    "attn.g_proj.linear.weight": (16, 16), "attn.g_norm.weight": (16,), "attn.g_norm.bias": (16,),
    "attn.o_proj.weight": (16, 16), "ffn.key.mu": (16,), "ffn.key.linear.weight": (32, 16), "ffn.value.weight": (16, 32),
    "ffn.receptance.mu": (16,), "ffn.receptance.linear.weight": (16, 16),
}  # fmt: skip


def test_an_rwkv6_has_the_weights_of_flas() -> None:
    model = spec("RWKV-6")
    expected = {f"model.layers.{i}.{name}": own for i in range(2) for name, own in FLA.items() if i == 0 or "pre" not in name}
    expected |= {"model.embeddings.weight": (VOCAB, 16), "model.norm.weight": (16,), "model.norm.bias": (16,)}
    found = RWKV6().weights(model, weights(moved(model)))
    assert {name: tuple(weight.shape) for name, weight in found.items()} == expected


def test_the_receptances_make_up_for_flas_epsilon_without_rounding() -> None:
    """sqrt(1e-5 / 64e-5) is 1/8."""
    model = spec("RWKV-6")
    own = weights(moved(model))
    found = RWKV6().weights(model, own)
    name = "attn.r_proj.linear.weight"
    assert torch.equal(found[f"model.layers.1.{name}"] * 8, own["body.blocks.1.mixers.r.r_proj.linear.weight"])
