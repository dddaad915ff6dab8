"""GPT-2 of transformers in a plain loop: as it is, compiled, and compiled with CUDA graphs."""

from __future__ import annotations

from typing import Any

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from gt.bench.candidates import Candidate
from gt.bench.peers.loop import Loop
from gt.data.tokens import Tokens


def transformers_loop(candidate: Candidate, tokens: Tokens, device: torch.device) -> Loop:
    """The loop."""
    sizes, rival = candidate.spec.model, candidate.rival
    config = GPT2Config(
        vocab_size=tokens.vocab_size,
        n_positions=sizes.max_positions,
        n_embd=sizes.d_model,
        n_layer=sizes.n_layer,
        n_head=sizes.mixers["a"].n_head,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        use_cache=False,
        bos_token_id=None,
        eos_token_id=None,
    )
    model: Any = GPT2LMHeadModel(config)
    model.to(device)
    called = model
    if rival == "transformers, compiled":
        called = torch.compile(model)
    elif rival == "transformers, reduce-overhead":
        called = torch.compile(model, mode="reduce-overhead")
    return Loop(candidate.spec, model, lambda windows: called(input_ids=windows).logits, tokens, device)
