"""Models to export, and what a process without gt makes of a folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from runs import HYBRID
from torch import Tensor

SIZE: dict[str, Any] = {"d_model": 16, "n_layer": 2}
MODELS: dict[str, dict[str, Any]] = {
    "hybrid": HYBRID,
    "GPT-2": {
        **SIZE,
        "layers": "a",
        "mixers": {"a": {"name": "attention", "n_head": 2, "bias": True}},
        "feed_forward": {"name": "mlp", "activation": "gelu_tanh", "bias": True},
        "norm": "layer",
        "positions": "learned",
        "max_positions": 64,
    },
    "Mamba-2": {**SIZE, "layers": "m", "mixers": {"m": {"name": "mamba2", "head_dim": 8, "d_state": 8}}},
    "RWKV-6": {
        **SIZE,
        "layers": "r",
        "mixers": {"r": {"name": "rwkv6", "head_size": 8}},
        "feed_forward": {"name": "channel_mix"},
        "norm": "layer",
        "init": {"embedding_norm": True},
    },
}
# A process in which neither gt nor pydantic can be imported. Reads tokens and a text, and says what the folder makes of them.
ELSEWHERE = """
import json, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("gt", "pydantic"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
torch.set_num_threads(1)

folder, copy = sys.argv[1:]
ask = json.load(sys.stdin)
model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
tokens = torch.tensor(ask["tokens"])
found = {"class": type(model).__name__, "ids": tokenizer(ask["text"]).input_ids, "length": tokenizer.model_max_length}
with torch.no_grad():
    out = model(tokens, labels=tokens)
    found |= {"logits": out.logits.tolist(), "loss": out.loss.item()}
    prompt = {"input_ids": tokens[:1, :8], "max_new_tokens": 12, "do_sample": False}
    found["going on"] = model.generate(**prompt).tolist()
    found["read again"] = model.generate(**prompt, use_cache=False).tolist()
    found["beams"] = model.generate(**prompt, num_beams=3).shape[1]
    model.save_pretrained(copy)
    again = AutoModelForCausalLM.from_pretrained(copy, trust_remote_code=True)
    found["copied"] = torch.equal(again(tokens).logits, out.logits)
    new = AutoModelForCausalLM.from_config(model.config, trust_remote_code=True)
    found["new"] = bool(new(tokens).logits.isfinite().all()) and not torch.equal(new(tokens).logits, out.logits)
    if found["class"] == "GroundThinkForCausalLM":
        mask = torch.ones_like(tokens)
        mask[0, 20:] = 0
        padded = model(tokens, attention_mask=mask)
        found["padded after"] = torch.equal(padded.logits[0, :20], out.logits[0, :20]) and padded.past_key_values is None
        found["refused"] = []
        for call, options in ((model, {"attention_mask": mask.flip(1)}), (model.generate, {"attention_mask": mask})):
            try:
                call(tokens, **options, **({"max_new_tokens": 1} if call is not model else {}))
            except ValueError as error:
                found["refused"].append(str(error))
print(json.dumps(found))
"""


def elsewhere(folder: Path, tmp_path: Path, tokens: Tensor, text: str) -> dict:
    """What a process without gt makes of a folder."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    variables |= {"HF_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    result = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, str(folder), str(tmp_path / "copy")],
        input=json.dumps({"tokens": tokens.tolist(), "text": text}),
        capture_output=True, text=True, env=variables, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    found: dict = json.loads(result.stdout.splitlines()[-1])
    return found
