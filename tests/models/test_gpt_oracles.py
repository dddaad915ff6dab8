"""GPT-1 and GPT-2 as whole models, against those of transformers with the same weights, in float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gt.models.lm import LanguageModel
from gt.seeds import Streams
from gt.spec import ModelSpec
from gt.study import assemble, load_variants, resolve

VARIANTS = load_variants(Path(__file__).parents[2] / "config/variants")
VOCAB, WIDTH, LAYERS, HEADS, POSITIONS = 13, 16, 3, 4, 24
SIZE = {"vocab_size": VOCAB, "n_embd": WIDTH, "n_layer": LAYERS, "n_head": HEADS, "n_positions": POSITIONS}
WITHOUT_DROPOUT = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}


def ours(name: str) -> LanguageModel:
    size = {"d_model": WIDTH, "n_layer": LAYERS, "max_positions": POSITIONS, "mixers": {"attention": {"n_head": HEADS}}}
    model = LanguageModel(ModelSpec.model_validate(assemble(size, resolve(VARIANTS, name).model)), VOCAB)
    model.reset_parameters(Streams(0))
    with torch.no_grad():
        for i, parameter in enumerate(model.parameters()):
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(i))
    return model.double()


def theirs(name: str) -> Any:
    transformers = pytest.importorskip("transformers")
    if name == "GPT-1":
        config = transformers.OpenAIGPTConfig(**SIZE, **WITHOUT_DROPOUT, afn="gelu")
        return transformers.OpenAIGPTLMHeadModel(config).double().eval()
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**SIZE, **WITHOUT_DROPOUT)).double().eval()


def weights(model: LanguageModel, name: str) -> dict[str, Tensor]:
    """Our weights under transformers' names; its linear layers keep their matrices transposed."""
    own = dict(model.named_parameters())
    embedding, position = ("tokens_embed", "positions_embed") if name == "GPT-1" else ("wte", "wpe")
    renamed = {f"{embedding}.weight": own["embedding.weight"], f"{position}.weight": own["position.weight"]}
    pairs = {
        "mixer_norm": "ln_1", "feed_forward_norm": "ln_2", "mixers.a.qkv": "attn.c_attn", "mixers.a.output": "attn.c_proj",
        "feed_forward.up": "mlp.c_fc", "feed_forward.down": "mlp.c_proj",
    }  # fmt: skip
    for layer in range(LAYERS):
        for part, other in pairs.items():
            for kind in ("weight", "bias"):
                value = own[f"body.blocks.{layer}.{part}.{kind}"]
                renamed[f"h.{layer}.{other}.{kind}"] = value.T if value.ndim == 2 else value
    if name == "GPT-2":
        renamed |= {"ln_f.weight": own["norm.weight"], "ln_f.bias": own["norm.bias"]}
    return {f"transformer.{key}": value for key, value in renamed.items()}


@pytest.mark.parametrize("name", ["GPT-1", "GPT-2"])
def test_logits_are_those_of_transformers(name: str) -> None:
    model, reference = ours(name), theirs(name)
    missing, unexpected = reference.load_state_dict(weights(model, name), strict=False)
    assert not unexpected
    # The head is the embedding, and masks are not weights.
    assert all(key == "lm_head.weight" or key.endswith(("attn.bias", "attn.masked_bias")) for key in missing)
    reference.tie_weights()
    tokens = torch.randint(VOCAB, (2, POSITIONS), generator=torch.Generator().manual_seed(1))
    expected = reference(tokens).logits
    torch.testing.assert_close(model(tokens)[0], expected, rtol=1e-9, atol=1e-9)
