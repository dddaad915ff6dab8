"""An exported RWKV-6 in FLA's own kernels, which run on a GPU alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from gt.export.published import RWKV6
from gt.models.lm import LanguageModel
from gt.seeds import Streams
from gt.spec import ModelSpec

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")]

VOCAB = 65
# Up to 63 tokens FLA goes position by position. Its chunks, from 64 on, multiply in TF32: logits of 192 tokens differ by 9e-4.
LENGTH = 48
MODEL: dict[str, Any] = {
    "d_model": 64,
    "n_layer": 3,
    "layers": "r",
    "mixers": {"r": {"name": "rwkv6", "head_size": 32}},
    "feed_forward": {"name": "channel_mix"},
    "norm": "layer",
    "init": {"embedding_norm": True},
}


@pytest.mark.parametrize("tied", [True, False])
def test_flas_model_predicts_what_ours_predicts(tied: bool) -> None:
    fla = pytest.importorskip("fla.models")
    spec = ModelSpec.model_validate({**MODEL, "tie_embeddings": tied})
    ours = LanguageModel(spec, VOCAB)
    ours.reset_parameters(Streams(0))
    with torch.no_grad():
        for i, parameter in enumerate(ours.parameters()):
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(i))
    config = fla.RWKV6Config(**RWKV6().configuration(spec, VOCAB, LENGTH), bos_token_id=None, eos_token_id=None)
    theirs = fla.RWKV6ForCausalLM(config).cuda().eval()
    weights = {name: weight.detach() for name, weight in ours.named_parameters()}
    missing, unexpected = theirs.load_state_dict(RWKV6().weights(spec, weights), strict=False)
    assert not unexpected
    assert missing == (["lm_head.weight"] if tied else [])
    theirs.tie_weights()
    tokens = torch.randint(VOCAB, (2, LENGTH), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = ours(tokens)[0]
        found = theirs(tokens.cuda(), use_cache=False).logits.cpu()
    print("largest difference", (found - expected).abs().max().item(), "of", expected.abs().max().item())
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
