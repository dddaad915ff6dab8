"""The mixers against implementations that share no code with them, with copied weights, in float64."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gt.models.feed_forward.channel_mix import ChannelMix
from gt.models.mixers.attention import Attention
from gt.models.mixers.mamba2 import Mamba2
from gt.models.mixers.rwkv6 import RWKV6
from gt.seeds import Streams


def assert_same(actual: Tensor | None, expected: Tensor | None) -> None:
    """To 1e-9: thousands of roundings of 2^-53 stay far below, any difference of formula is far above."""
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)


@pytest.fixture
def in_float64(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Oracles that cast to float32 cast to float64 instead: formulas are compared, not roundings."""
    with monkeypatch.context() as patch:
        patch.setattr(torch, "float", torch.float64)
        patch.setattr(torch, "float32", torch.float64)
        patch.setattr(torch.Tensor, "float", torch.Tensor.double)
        yield


def trained(module: Any, seed: int = 0, scale: float = 0.3) -> Any:
    """Initialised, then moved at random, so that no parameter is zero, one, or equal to another."""
    module.reset_parameters(Streams(seed))
    module.double()
    with torch.no_grad():
        for i, parameter in enumerate(module.parameters()):
            parameter += scale * noise(*parameter.shape, seed=100 * seed + i)
    return module


def noise(*shape: int, seed: int = 7) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class TinyRWKV6(nn.Module):
    """The official RWKV-6 model around our mixer and channel mix."""

    def __init__(self, vocab: int, d_model: int, n_layer: int, head_size: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab, d_model)
        self.ln0, self.ln_out = nn.LayerNorm(d_model), nn.LayerNorm(d_model)
        self.ln1 = nn.ModuleList(nn.LayerNorm(d_model) for _ in range(n_layer))
        self.ln2 = nn.ModuleList(nn.LayerNorm(d_model) for _ in range(n_layer))
        self.att = nn.ModuleList(RWKV6(d_model, i, n_layer, head_size=head_size) for i in range(n_layer))
        self.ffn = nn.ModuleList(ChannelMix(d_model, i, n_layer) for i in range(n_layer))
        self.head = nn.Linear(d_model, vocab, bias=False)

    def reset_parameters(self, streams: Streams) -> None:
        parts: list[Any] = [*self.att, *self.ffn]
        for i, part in enumerate(parts):
            part.reset_parameters(streams.scope(str(i)))

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.ln0(self.embedding(tokens))
        for ln1, att, ln2, ffn in zip(self.ln1, self.att, self.ln2, self.ffn, strict=True):
            x = x + att(ln1(x))[0]
            x = x + ffn(ln2(x))[0]
        logits: Tensor = self.head(self.ln_out(x))
        return logits

    def official_weights(self) -> dict[str, Tensor]:
        """The state dict of a .pth file: official names, and w, k, v, r, g for FLA's r, w, k, v, g."""
        order = ["rwkvg".index(letter) for letter in "wkvrg"]
        weights = {"emb.weight": self.embedding.weight, "head.weight": self.head.weight}
        norms: list[tuple[str, Any]] = [("blocks.0.ln0", self.ln0), ("ln_out", self.ln_out)]
        parts: Any = zip(self.att, self.ffn, strict=True)
        for i, (att, ffn) in enumerate(parts):
            block = f"blocks.{i}"
            norms += [
                (f"{block}.ln1", self.ln1[i]),
                (f"{block}.ln2", self.ln2[i]),
                (f"{block}.att.ln_x", att.g_norm),
            ]
            weights |= {f"{block}.att.time_maa_{n}": att.x_bias["rwkvg".index(n)][None, None] for n in "wkvrg"}
            first = att.x_proj[0].linear.weight.unflatten(0, (5, -1))  # (5, rank, d_model)
            second = att.x_proj[2].weight.unflatten(1, (5, -1))  # (d_model, 5, rank)
            decay = att.w_proj.linear.lora
            weights |= {
                f"{block}.att.time_maa_x": att.x_proj[0].mu[None, None],
                f"{block}.att.time_maa_w1": first[order].flatten(0, 1).T,
                f"{block}.att.time_maa_w2": second[:, order].permute(1, 2, 0),
                f"{block}.att.time_decay": decay[2].bias[None, None],
                f"{block}.att.time_decay_w1": decay[0].weight.T,
                f"{block}.att.time_decay_w2": decay[2].weight.T,
                f"{block}.att.time_faaaa": att.bonus,
                f"{block}.att.receptance.weight": att.r_proj.linear.weight,
                f"{block}.att.key.weight": att.k_proj.linear.weight,
                f"{block}.att.value.weight": att.v_proj.linear.weight,
                f"{block}.att.gate.weight": att.g_proj.linear.weight,
                f"{block}.att.output.weight": att.o_proj.weight,
                f"{block}.ffn.time_maa_k": ffn.k_mu[None, None],
                f"{block}.ffn.time_maa_r": ffn.r_mu[None, None],
                f"{block}.ffn.key.weight": ffn.key.weight,
                f"{block}.ffn.receptance.weight": ffn.receptance.weight,
                f"{block}.ffn.value.weight": ffn.value.weight,
            }
        weights |= {f"{name}.{kind}": getattr(norm, kind) for name, norm in norms for kind in ("weight", "bias")}
        return {name: value.detach().clone().contiguous() for name, value in weights.items()}


@pytest.fixture
def official(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[TinyRWKV6], Any]]:
    """BlinkDL's `rwkv` package with our weights. Its import sets torch.backends; that is put back."""
    flags: list[tuple[Any, str]] = [(torch.backends.cudnn, "benchmark"), (torch.backends.cudnn, "allow_tf32")]
    flags.append((torch.backends.cuda.matmul, "allow_tf32"))
    before = [getattr(*flag) for flag in flags]
    monkeypatch.setenv("RWKV_JIT_ON", "0")
    monkeypatch.setenv("RWKV_CUDA_ON", "0")
    package = pytest.importorskip("rwkv.model")

    def load(ours: TinyRWKV6) -> Any:
        # It reads a .pth file with torch.load, which knows no float64 storage while torch.float is float64.
        monkeypatch.setattr(torch, "load", lambda *_, **__: ours.official_weights())
        return package.RWKV(model="tiny", strategy="cpu fp32", verbose=False)

    yield load
    for flag, value in zip(flags, before, strict=True):
        setattr(*flag, value)


def test_rwkv6_is_the_official_model(official: Any, in_float64: None) -> None:
    ours = trained(TinyRWKV6(vocab=13, d_model=32, n_layer=3, head_size=16))
    theirs = official(ours)
    assert theirs.version == 6.0

    tokens = torch.randint(13, (21,), generator=torch.Generator().manual_seed(1))
    logits, _ = theirs.forward(tokens.tolist(), None, full_output=True)
    assert logits.dtype == torch.float64
    assert_same(ours(tokens[None])[0], logits)


def test_rwkv6_goes_on_from_a_state_as_the_official_model_does(official: Any, in_float64: None) -> None:
    ours = trained(TinyRWKV6(vocab=13, d_model=32, n_layer=1, head_size=16))
    theirs = official(ours)
    tokens = torch.randint(13, (9,), generator=torch.Generator().manual_seed(1))
    state: Any = None
    for token in tokens.tolist():
        _, state = theirs.forward([token], state)
    normed = ours.ln1[0](ours.ln0(ours.embedding(tokens[None])))
    _, own = ours.att[0](normed)
    assert_same(own.context[0][0], state[0])
    assert_same(own.memory[0], state[1])


@pytest.fixture
def mamba2_mixer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """transformers' mixer in torch code. On import it takes kernels for the GPU from what can be imported, GPU or not."""
    for package in ("mamba_ssm", "causal_conv1d"):
        monkeypatch.setitem(sys.modules, package, None)
    module = "transformers.models.mamba2.modeling_mamba2"
    monkeypatch.delitem(sys.modules, module, raising=False)
    yield importlib.import_module(module).Mamba2Mixer
    sys.modules.pop(module)


@pytest.mark.parametrize("n_groups", [1, 2])
@pytest.mark.parametrize("time", [1, 5, 70])
def test_mamba2_is_that_of_transformers(in_float64: None, mamba2_mixer: Any, time: int, n_groups: int) -> None:
    from transformers.models.mamba2.configuration_mamba2 import Mamba2Config

    config = Mamba2Config(
        num_heads=4,
        head_dim=8,
        hidden_size=16,
        state_size=6,
        n_groups=n_groups,
        chunk_size=16,
        num_hidden_layers=1,
        use_bias=False,
        layer_norm_epsilon=1e-5,
    )
    theirs = mamba2_mixer(config, layer_idx=0).double().eval()
    ours = trained(Mamba2(16, 0, 1, d_state=6, head_dim=8, n_groups=n_groups))
    theirs.load_state_dict(ours.state_dict())

    x = noise(2, time, 16)
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    outputs = [ours(inputs[0])[0], theirs(inputs[1])]
    assert_same(*outputs)
    weight = noise(2, time, 16, seed=9)
    for module, y in zip((ours, theirs), outputs, strict=True):
        module.zero_grad()
        (y * weight).sum().backward()
    assert_same(inputs[0].grad, inputs[1].grad)
    for name, parameter in theirs.named_parameters():
        assert_same(dict(ours.named_parameters())[name].grad, parameter.grad)


def test_attention_is_that_of_gpt2() -> None:
    from transformers import GPT2Config
    from transformers.models.gpt2.modeling_gpt2 import GPT2Attention

    config = GPT2Config(n_embd=24, n_head=3, n_layer=1)
    config._attn_implementation = "sdpa"
    gpt2_attention: Any = GPT2Attention
    theirs = gpt2_attention(config, layer_idx=0).double().eval()
    ours = trained(Attention(24, 0, 1, n_head=3, bias=True))
    # transformers' Conv1D stores a matrix transposed
    theirs.load_state_dict(
        {
            "c_attn.weight": ours.qkv.weight.T,
            "c_attn.bias": ours.qkv.bias,
            "c_proj.weight": ours.output.weight.T,
            "c_proj.bias": ours.output.bias,
        }
    )
    x = noise(2, 11, 24)
    assert_same(ours(x)[0], theirs(x)[0])


def test_rotary_attention_is_that_of_llama(in_float64: None) -> None:
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaAttention, LlamaRotaryEmbedding

    config = LlamaConfig(hidden_size=24, num_attention_heads=3, num_key_value_heads=3)
    config._attn_implementation = "sdpa"
    theirs, rotary = (
        LlamaAttention(config, layer_idx=0).double().eval(),
        LlamaRotaryEmbedding(config).double(),
    )
    ours = trained(Attention(24, 0, 1, n_head=3, rope=True))
    q, k, v = ours.qkv.weight.chunk(3)
    theirs.load_state_dict({"q_proj.weight": q, "k_proj.weight": k, "v_proj.weight": v, "o_proj.weight": ours.output.weight})
    x = noise(2, 11, 24)
    positions = rotary(x, torch.arange(11)[None])
    assert_same(ours(x)[0], theirs(x, positions, None)[0])


# Parameters of fla.layers.RWKV6Attention(hidden_size=128, expand_k=1, expand_v=1, num_heads=2) in fla 0.6.0.
# Its ddlerp order is r, w, k, v, g.
FLA_RWKV6 = {
    "x_proj.0.mu": (128,),
    "x_proj.0.linear.weight": (160, 128),
    "x_proj.2.weight": (128, 160),
    "x_bias": (5, 128),
    "r_proj.linear.weight": (128, 128),
    "w_proj.linear.lora.0.weight": (64, 128),
    "w_proj.linear.lora.2.weight": (128, 64),
    "w_proj.linear.lora.2.bias": (128,),
    "k_proj.linear.weight": (128, 128),
    "v_proj.linear.weight": (128, 128),
    "g_proj.linear.weight": (128, 128),
    "bonus": (2, 64),
    "g_norm.weight": (128,),
    "g_norm.bias": (128,),
    "o_proj.weight": (128, 128),
}
# The same of fla.layers.Mamba2(hidden_size=128, state_size=64): 4 heads of 64, 256 + 2 * 64 channels.
FLA_MAMBA2 = {
    "in_proj.weight": (644, 128),
    "conv1d.weight": (384, 1, 4),
    "conv1d.bias": (384,),
    "dt_bias": (4,),
    "A_log": (4,),
    "D": (4,),
    "norm.weight": (256,),
    "out_proj.weight": (128, 256),
}


@pytest.mark.parametrize(
    ("mixer", "expected"),
    [(RWKV6(128, 0, 2), FLA_RWKV6), (Mamba2(128, 0, 2, d_state=64), FLA_MAMBA2)],
    ids=["rwkv6", "mamba2"],
)
def test_parameters_are_named_and_shaped_as_in_fla(mixer: nn.Module, expected: dict[str, tuple[int, ...]]) -> None:
    assert {name: tuple(value.shape) for name, value in mixer.state_dict().items()} == expected


# A package as transformers looks for it: whatever is taken from it is a kernel, which fails where it is called.
KERNELS = """\
class Kernel:
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *arguments, **options):
        raise RuntimeError("this kernel needs a GPU")


ops = causal_conv1d_fn = causal_conv1d_update = Kernel()
"""


def test_the_oracle_is_torch_code_where_kernels_can_be_imported(tmp_path: Path) -> None:
    for package in ("mamba_ssm", "causal_conv1d"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text(KERNELS)
        (tmp_path / f"{package}-2.3.1.dist-info").mkdir()
        (tmp_path / f"{package}-2.3.1.dist-info/METADATA").write_text(f"Name: {package}\nVersion: 2.3.1\n")
    test = f"{__file__}::{test_mamba2_is_that_of_transformers.__name__}[5-1]"
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", test]
    result = subprocess.run(command, capture_output=True, text=True, env=variables, check=False)
    assert "1 passed" in result.stdout, result.stdout[-3000:]
