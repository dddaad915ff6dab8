"""The layer around the mixers: where its norms stand, its gains, its wraps; and the model's cap and segments."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from models.test_mixers import perturb
from torch import Tensor
from variants import tiny

from gt.errors import ConfigError
from gt.models.lm import LanguageModel, check
from gt.seeds import Streams
from gt.spec import ModelSpec, RunSpec


def model(name: str = "GF", **changes: Any) -> Any:
    built = LanguageModel(ModelSpec.model_validate(tiny(name, **changes)), 11)
    built.reset_parameters(Streams(0))
    return perturb(built.double())


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 9, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def tokens() -> Tensor:
    return torch.randint(11, (2, 24), generator=torch.Generator().manual_seed(0))


def rms(x: Tensor, norm: Any) -> Tensor:
    return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * norm.weight


def mix(block: Any, n: Tensor, x: Tensor) -> Tensor:
    y: Tensor = block.fusion(block.mixers["r"](n)[0], block.mixers["m"](n)[0], x).y
    return y


def pre(b: Any, x: Tensor) -> Tensor:
    x = x + mix(b, rms(x, b.mixer_norm), x)
    return x + b.feed_forward(rms(x, b.feed_forward_norm))[0]


def post(b: Any, x: Tensor) -> Tensor:
    x = rms(x + mix(b, x, x), b.mixer_norm)
    return rms(x + b.feed_forward(x)[0], b.feed_forward_norm)


def output(b: Any, x: Tensor) -> Tensor:
    x = x + rms(mix(b, x, x), b.mixer_output_norm)
    return x + rms(b.feed_forward(x)[0], b.feed_forward_output_norm)


def both(b: Any, x: Tensor) -> Tensor:
    x = x + rms(mix(b, rms(x, b.mixer_norm), x), b.mixer_output_norm)
    return x + rms(b.feed_forward(rms(x, b.feed_forward_norm))[0], b.feed_forward_output_norm)


def beside(b: Any, x: Tensor) -> Tensor:
    n = rms(x, b.mixer_norm)
    return x + mix(b, n, x) + b.feed_forward(n)[0]


@torch.no_grad()
@pytest.mark.parametrize(
    ("formula", "changes"),
    [
        (pre, {}),
        (post, {"norm_position": "post"}),
        (output, {"norm_position": "output"}),
        (both, {"norm_position": "both"}),
        (beside, {"feed_forward_place": "beside"}),
    ],
)
def test_a_layer_is_the_formula_of_its_norms_place(formula: Any, changes: dict[str, Any], x: Tensor) -> None:
    block = model(**changes).blocks()[1]
    torch.testing.assert_close(block(x)[0], formula(block, x), rtol=1e-10, atol=1e-10)
    assert sum("norm" in name and "mixers" not in name for name, _ in block.named_parameters()) == {both: 4, beside: 1}.get(
        formula, 2
    )


@torch.no_grad()
def test_the_twin_debate_block_is_its_formula(x: Tensor) -> None:
    # h_r = RWKV(x), h_m = x + Mamba(x), y = x + RMSNorm(fuse(h_r, h_m)); no feed-forward layer (notebooks/task_0_3b).
    block = model("TwinDebate").blocks()[0]
    fused = block.fusion(block.mixers["r"](x)[0], x + block.mixers["m"].mixer(x)[0], x).y
    torch.testing.assert_close(block(x)[0], x + rms(fused, block.mixer_output_norm), rtol=1e-10, atol=1e-10)


@torch.no_grad()
def test_a_gain_scales_what_a_sublayer_adds_channel_by_channel(x: Tensor) -> None:
    block = model(residual_gain=0.01).blocks()[0]
    y = x + block.mixer_gain.weight * mix(block, rms(x, block.mixer_norm), x)
    y = y + block.feed_forward_gain.weight * block.feed_forward(rms(y, block.feed_forward_norm))[0]
    torch.testing.assert_close(block(x)[0], y, rtol=1e-10, atol=1e-10)
    fresh = LanguageModel(block_spec := ModelSpec.model_validate(tiny("GF", residual_gain=0.01)), 11)
    fresh.reset_parameters(Streams(0))
    assert block_spec.residual_gain == 0.01
    assert all(torch.equal(gain, torch.full((32,), 0.01)) for n, gain in fresh.named_parameters() if "gain" in n)


@torch.no_grad()
def test_capped_logits_are_c_tanh_of_the_plain_ones_over_c(tokens: Tensor) -> None:
    plain, capped = model(), model(logit_softcap=2.0)
    plain.embedding.weight.mul_(20)
    capped.load_state_dict(plain.state_dict())
    logits = plain(tokens)[0]
    assert logits.abs().max() > 4
    torch.testing.assert_close(capped(tokens)[0], 2 * (logits / 2).tanh(), rtol=1e-12, atol=1e-12)


def test_segments_are_opened_by_their_markers_and_the_first_kind_is_before_any() -> None:
    segmented = model(segment_markers=[4, 7, 2])
    text = torch.tensor([[5, 7, 5, 7, 2, 5, 4, 5], [4, 4, 0, 2, 2, 7, 9, 9]])
    kinds = torch.tensor([[0, 1, 1, 1, 2, 2, 0, 0], [0, 0, 0, 2, 2, 1, 1, 1]])
    assert torch.equal(segmented.segments(text), kinds)
    later = segmented.segments(text[:, 3:], kinds[:, 2:3])
    assert torch.equal(later, kinds[:, 3:])
    expected = segmented.embedding.weight[text] + segmented.segment.weight[kinds]
    torch.testing.assert_close(segmented.embed(text), expected, rtol=0, atol=0)


def test_a_segment_goes_on_across_pieces_of_a_sequence(tokens: Tensor) -> None:
    segmented = model(segment_markers=[1, 2, 3])
    pieces, state = [], None
    for piece in tokens.tensor_split([5, 6, 20], dim=1):
        logits, state = segmented(piece, state)
        pieces.append(logits)
    torch.testing.assert_close(torch.cat(pieces, dim=1), segmented(tokens)[0], rtol=1e-9, atol=1e-9)


def test_a_marker_that_no_tokenizer_could_give_is_refused() -> None:
    document = {
        "corpus": {"name": "embedded"},
        "tokenizer": {"name": "bpe", "vocab_size": 300},
        "model": tiny("GF", segment_markers=[1, 300]),
        "training": {"steps": 1, "batch_size": 1, "sequence_length": 8},
        "seed": 0,
    }
    with pytest.raises(ConfigError, match="segment_markers: the tokenizer has no token 300"):
        check(RunSpec.model_validate(document))
    with pytest.raises(ValueError, match="names a token twice"):
        ModelSpec.model_validate(tiny("GF", segment_markers=[1, 1]))
