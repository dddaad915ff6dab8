"""On a GPU: a text that is read token by token as one CUDA graph gives the losses of single operations."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from corpus import words
from variants import tiny

from gt.data.batches import whole_windows
from gt.data.tokens import Tokens
from gt.evals import quantisation
from gt.evals.subject import Subject
from gt.models.lm import LanguageModel
from gt.seeds import Streams
from gt.spec import RunSpec
from gt.training.engine import Engine

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")]
GPU = torch.device("cuda")


@pytest.mark.parametrize("variant", ["GF-MH", "HY", "HGF", "GRU", "Hymba", "SWKV"])
def test_a_graph_of_one_token_gives_the_losses_of_single_operations(
    variant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = words(tmp_path)
    training = {"steps": 1, "batch_size": 1, "sequence_length": 64, "precision": "bfloat16"}
    spec = RunSpec.model_validate(
        {"corpus": {"name": "embedded"}, "tokenizer": {"name": "char"}, "model": tiny(variant), "training": training, "seed": 0}
    )
    tokens = Tokens.open(data)
    model = LanguageModel(spec.model, tokens.vocab_size)
    model.reset_parameters(Streams(0))
    subject = Subject(model.to(GPU).eval(), spec, tokens, data, GPU)
    windows = torch.from_numpy(whole_windows(tokens.val, 64, 8 * 64))
    graph = quantisation._token_by_token(subject, windows)
    monkeypatch.setattr(quantisation, "Engine", lambda device, _name: Engine(device, "eager"))
    assert torch.equal(quantisation._token_by_token(subject, windows), graph)
