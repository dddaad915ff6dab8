"""A run as a folder: it loads where gt is not, and predicts what the run's model predicts."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from exports import elsewhere

from gt.data.tokenizers import load_tokenizer
from gt.data.tokens import Tokens
from gt.errors import ConfigError
from gt.export.folder import export
from gt.export.source import edited
from gt.training.weights import load_model

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("name", "kind"),
    [("hybrid", "GroundThinkForCausalLM"), ("GPT-2", "GPT2LMHeadModel"), ("Mamba-2", "Mamba2ForCausalLM")],
)
def test_it_loads_without_gt_and_predicts_the_same(
    name: str, kind: str, record: Callable[[str], Path], exported: Callable[..., Path], data: Path, tmp_path: Path
) -> None:
    held_out = np.asarray(Tokens.open(data).val[:96], dtype=np.int64).reshape(2, 48)
    tokens, text = torch.from_numpy(held_out), "abc é\n<unk> " + load_tokenizer(data).decode(held_out[0])
    found = elsewhere(exported(name), tmp_path, tokens, text)
    model = load_model(record(name), CPU)
    with torch.no_grad():
        logits = model(tokens)[0]
    torch.testing.assert_close(torch.tensor(found["logits"]), logits, rtol=0, atol=1e-5)
    loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
    assert found["loss"] == pytest.approx(loss.item(), abs=1e-5)
    assert found["class"] == kind
    assert found["ids"] == load_tokenizer(data).encode(text).tolist()
    assert found["length"] == 32
    assert found["going on"] == found["read again"]
    assert found["beams"] == 20
    assert found["copied"]
    assert found["new"]
    if kind == "GroundThinkForCausalLM":
        assert found["padded after"]
        before, after = found["refused"]
        assert before.startswith("Padding must stand after the text")
        assert after.startswith("Prompts of several lengths cannot be continued as one batch")


def test_the_code_is_that_of_the_sources_without_what_the_model_does_not_use(exported: Callable[..., Path]) -> None:
    files = {file.stem: file.read_text() for file in exported("hybrid").glob("*.py")}
    for name, text in files.items():
        compile(text, name, "exec")
    assert not {name for name in files if "attention" in name or "kernels" in name or "selective" in name}
    from gt.models.mixers import rwkv6

    source = Path(rwkv6.__file__).read_text()
    forward = source[source.index("    def forward(self, x: Tensor, state: State") : source.index("    def _recur")]
    assert forward in files["gt_models_mixers_rwkv6"]
    assert "def audit" not in files["gt_models_lm"]
    imports = re.findall(r"^(?:from|import) ([a-z_]+)", "\n".join(files.values()), re.MULTILINE)
    assert set(imports) <= {"torch", "transformers", *sys.stdlib_module_names}


def test_options_keep_their_methods_and_lose_their_checks() -> None:
    text = '''\
class Mixer:
    class Config(Options):
        """Doc."""

        n: int = Field(4, gt=0)

        @property
        def twice(self):
            return 2 * self.n

        @model_validator(mode="after")
        def check(self):
            return self

    def build(self, config): ...
'''
    namespace: dict = {"Options": type("Options", (), {})}
    exec(edited(text), namespace)
    config = namespace["Mixer"].Config()
    config.n = 3
    assert config.twice == 6
    assert not hasattr(config, "check")


def test_the_card_says_what_it_is_and_where_nothing_is(exported: Callable[..., Path], record: Callable[[str], Path]) -> None:
    hybrid, gpt = (exported(name) / "README.md" for name in ("hybrid", "GPT-2"))
    text = hybrid.read_text()
    assert "2 layers of rwkv6 and mamba2, joined by `gated`, width 16" in text
    assert "trust_remote_code=True" in text
    assert "**To be filled in**" in text
    assert "was not measured" in text
    assert "`GPT2LMHeadModel` in transformers" in gpt.read_text()
    assert "trust_remote_code" not in gpt.read_text()
    for file in (hybrid, gpt, *(p / "config.json" for p in (hybrid.parent, gpt.parent))):
        assert str(record("hybrid").parent.parent) not in file.read_text()


def test_what_has_no_equal_in_fla_is_refused_with_the_difference(
    record: Callable[[str], Path], data: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"has no equal there: mixers rwkv6 and mamba2, where RWKV-6 has rwkv6 alone"):
        export(record("hybrid"), data, "fla", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_an_rwkv6_becomes_flas(exported: Callable[..., Path]) -> None:
    config = json.loads((exported("RWKV-6", "fla") / "config.json").read_text())
    assert (config["model_type"], config["architectures"]) == ("rwkv6", ["RWKV6ForCausalLM"])
    assert (config["expand_k"], config["num_heads"], config["intermediate_size"]) == (1.0, 2, 32)
    assert (config["eos_token_id"], config["bos_token_id"]) == (None, None)


def test_a_folder_that_is_there_is_not_touched(record: Callable[[str], Path], data: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(ConfigError, match="is there already"):
        export(record("hybrid"), data, "transformers", tmp_path / "out")
