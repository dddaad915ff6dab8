"""Published architectures that a model of ours may be equal to, and what its configuration and weights are called there.

Equal is the function of the weights: the same logits for the same tokens, but for rounding. How weights are initialised is no
part of it. All of a specification must be accounted for: a setting that is neither free nor as the architecture has it is a
difference, so that one which is added later is refused until somebody has looked at it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from gt.errors import ConfigError
from gt.spec import ModelSpec

Json = dict[str, Any]
Weights = dict[str, Tensor]
# Of one weight: our name, the other's, whether it stands there transposed, and what it is multiplied with.
Pair = tuple[str, str, bool, float]

# Switches that decide initial values alone; `init.embedding_norm` is a part of the model.
INITIAL_SWITCHES = ("blanket", "embedding", "zero_mixer_output", "zero_feed_forward_output", "orthogonal_head")
SIZES = ("d_model", "n_layer", "layers", "tie_embeddings", *(f"init.{name}" for name in INITIAL_SWITCHES))
# What every architecture here has, or has not.
PLAIN: Json = {
    "fusion": None, "stack": "blocks", "wraps": {}, "feed_forward_place": "after", "branch_norm": "none",
    "norm_position": "pre", "residual_gain": None, "logit_softcap": None, "segment_markers": [], "init.embedding_norm": False,
}  # fmt: skip
# There are none: our texts have no token that begins or ends them.
SPECIAL_TOKENS: Json = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))


class Architecture:
    """A model class of a library.

    mixer: the one of every layer. has: by the key of a specification, where `mixer.` stands for that mixer, what the model must
    have. free: keys that may have any value, which `configuration` passes on or which decide initial values alone.
    """

    name: ClassVar[str]
    library: ClassVar[str]
    class_name: ClassVar[str]
    model_type: ClassVar[str]
    mixer: ClassVar[str]
    has: ClassVar[Json]
    free: ClassVar[tuple[str, ...]]

    def differences(self, spec: ModelSpec) -> list[str]:
        """What of a model is otherwise there, in words; nothing of one that has an equal."""
        names = [mixer.name for mixer in spec.mixers.values()]
        if names != [self.mixer]:
            return [f"mixers {' and '.join(names)}, where {self.name} has {self.mixer} alone"]
        settings, found = _settings(spec), []
        other = settings["feed_forward"] != self.has["feed_forward"]
        for key, value in settings.items():
            idle = key in SIZES or key in self.free or (other and key.startswith("feed_forward."))
            if not idle and (key not in self.has or value != self.has[key]):
                found.append(f"{key} {value!r}, where {self.name} has {self.has.get(key, 'no such setting')!r}")
        return found

    def configuration(self, spec: ModelSpec, vocab_size: int, length: int) -> Json:
        """Its config.json, without what every model has. length: tokens that the model was trained on at once."""
        raise NotImplementedError

    def pairs(self, spec: ModelSpec) -> Iterator[Pair]:
        """All weights of a model."""
        raise NotImplementedError

    def weights(self, spec: ModelSpec, own: Weights) -> Weights:
        """Ours, under their names there."""
        return {theirs: (own[ours].T if turned else own[ours]) * factor for ours, theirs, turned, factor in self.pairs(spec)}

    def own(self, spec: ModelSpec, theirs: Weights) -> Weights:
        """The inverse. ConfigError for a weight that is missing, or one that such a model of ours does not have."""
        pairs = {other: (ours, turned, factor) for ours, other, turned, factor in self.pairs(spec)}
        if missing := sorted(pairs.keys() - theirs.keys()):
            raise ConfigError(f"there is no weight {missing[0]} among those of a {self.class_name}.")
        for name in sorted(theirs.keys() - pairs.keys()):
            if not self.is_idle(name, theirs[name]):
                raise ConfigError(f"the weight {name} is none of this {self.class_name}'s.")
        return {
            ours: (theirs[other].T if turned else theirs[other]) / factor for other, (ours, turned, factor) in pairs.items()
        }

    def is_idle(self, name: str, weight: Tensor) -> bool:
        """Whether a weight that we do not have changes nothing."""
        return False


class GPT2(Architecture):
    """Without biases, the biases there are zero."""

    name, library, class_name, model_type = "GPT-2", "transformers", "GPT2LMHeadModel", "gpt2"
    mixer = "attention"
    has: ClassVar[Json] = {
        **PLAIN,
        "norm": "layer", "positions": "learned", "feed_forward": "mlp", "mixer.rope": False, "mixer.conv": 1,
    }  # fmt: skip
    free = (
        *("mixer.n_head", "mixer.bias", "mixer.scale_residual", "max_positions"),
        *("feed_forward.ratio", "feed_forward.activation", "feed_forward.bias", "feed_forward.scale_residual"),
    )
    activations: ClassVar[dict[str, str]] = {"gelu": "gelu", "gelu_tanh": "gelu_new"}

    def configuration(self, spec: ModelSpec, vocab_size: int, length: int) -> Json:
        (attention,) = spec.mixers.values()
        return {
            "vocab_size": vocab_size, "n_positions": spec.max_positions, "n_embd": spec.d_model, "n_layer": spec.n_layer,
            "n_head": attention.n_head, "n_inner": round(_layer(spec).ratio * spec.d_model),
            "activation_function": self.activations[_layer(spec).activation], "layer_norm_epsilon": 1e-5,
            "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "tie_word_embeddings": spec.tie_embeddings,
        }  # fmt: skip

    def pairs(self, spec: ModelSpec) -> Iterator[Pair]:
        ((letter, attention),) = spec.mixers.items()
        yield "embedding.weight", "transformer.wte.weight", False, 1.0
        yield "position.weight", "transformer.wpe.weight", False, 1.0
        for i in range(spec.n_layer):
            ours, theirs = f"body.blocks.{i}", f"transformer.h.{i}"
            for norm, other in (("mixer_norm", "ln_1"), ("feed_forward_norm", "ln_2")):
                for kind in ("weight", "bias"):
                    yield f"{ours}.{norm}.{kind}", f"{theirs}.{other}.{kind}", False, 1.0
            matrices = (
                (f"mixers.{letter}.qkv", "attn.c_attn", attention.bias),
                (f"mixers.{letter}.output", "attn.c_proj", attention.bias),
                ("feed_forward.up", "mlp.c_fc", _layer(spec).bias),
                ("feed_forward.down", "mlp.c_proj", _layer(spec).bias),
            )
            for matrix, other, bias in matrices:
                yield f"{ours}.{matrix}.weight", f"{theirs}.{other}.weight", True, 1.0
                if bias:
                    yield f"{ours}.{matrix}.bias", f"{theirs}.{other}.bias", False, 1.0
        for kind in ("weight", "bias"):
            yield f"norm.{kind}", f"transformer.ln_f.{kind}", False, 1.0
        if not spec.tie_embeddings:
            yield "head.weight", "lm_head.weight", False, 1.0

    def weights(self, spec: ModelSpec, own: Weights) -> Weights:
        found = super().weights(spec, own)
        matrices = [name for name in found if ".c_" in name and name.endswith(".weight")]
        biases = {name.replace(".weight", ".bias"): found[name].new_zeros(found[name].shape[1]) for name in matrices}
        return {**biases, **found}

    def is_idle(self, name: str, weight: Tensor) -> bool:
        return ".c_" in name and name.endswith(".bias") and not weight.any()

    def spec(self, config: Json) -> ModelSpec:
        """The model of a config.json. ConfigError for one that has no equal with us."""
        unlike = {"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False, "add_cross_attention": False}
        wrong = [f"{key} {config[key]!r}" for key, value in unlike.items() if config.get(key, value) != value]
        names = {other: own for own, other in self.activations.items()} | {"gelu_pytorch_tanh": "gelu_tanh"}
        activation = config.get("activation_function", "gelu_new")
        if activation not in names:
            wrong.append(f"activation_function {activation!r}")
        if config.get("layer_norm_epsilon", 1e-5) != 1e-5:
            wrong.append(f"layer_norm_epsilon {config['layer_norm_epsilon']!r}")
        if wrong:
            raise ConfigError(f"no model of ours is as this GPT-2: {', '.join(wrong)}.")
        inner = config.get("n_inner") or 4 * config["n_embd"]
        return ModelSpec.model_validate({
            "d_model": config["n_embd"], "n_layer": config["n_layer"], "layers": "a", "norm": "layer",
            "mixers": {"a": {"name": "attention", "n_head": config["n_head"], "bias": True}},
            "feed_forward": {"name": "mlp", "activation": names[activation], "bias": True, "ratio": inner / config["n_embd"]},
            "positions": "learned", "max_positions": config.get("n_positions", 1024),
            "tie_embeddings": config.get("tie_word_embeddings", True),
        })  # fmt: skip


class Mamba2(Architecture):
    """Its one epsilon, 1e-5, is that of our mixer; our norms before the mixers have 1e-6.

    norm(x) with epsilon e is norm(c x) with c^2 e. So the residual stream there is ours times the root of 10: embedding and
    output projections are multiplied, and the head is not. It is a matrix of its own there, for that.
    """

    name, library, class_name, model_type = "Mamba-2", "transformers", "Mamba2ForCausalLM", "mamba2"
    mixer = "mamba2"
    has: ClassVar[Json] = {
        **PLAIN,
        "norm": "rms", "positions": "none", "feed_forward": None, "mixer.state_norm": 0, "mixer.initial_state": "zero",
    }  # fmt: skip
    free = (
        *("max_positions", "mixer.d_state", "mixer.d_conv", "mixer.expand", "mixer.head_dim", "mixer.n_groups"),
        *("mixer.init", "mixer.dt_init", "mixer.decay_init"),
    )

    def configuration(self, spec: ModelSpec, vocab_size: int, length: int) -> Json:
        (mamba,) = spec.mixers.values()
        return {
            "vocab_size": vocab_size, "hidden_size": spec.d_model, "num_hidden_layers": spec.n_layer,
            "state_size": mamba.d_state, "conv_kernel": mamba.d_conv, "expand": mamba.expand, "head_dim": mamba.head_dim,
            "num_heads": mamba.expand * spec.d_model // mamba.head_dim, "n_groups": mamba.n_groups,
            "layer_norm_epsilon": 1e-5, "use_bias": False, "use_conv_bias": True, "hidden_act": "silu",
            "residual_in_fp32": True, "tie_word_embeddings": False,
        }  # fmt: skip

    def pairs(self, spec: ModelSpec) -> Iterator[Pair]:
        (letter,) = spec.mixers
        scale = 10**0.5
        yield "embedding.weight", "backbone.embeddings.weight", False, scale
        for i in range(spec.n_layer):
            ours, theirs = f"body.blocks.{i}", f"backbone.layers.{i}"
            yield f"{ours}.mixer_norm.weight", f"{theirs}.norm.weight", False, 1.0
            for name in ("in_proj.weight", "conv1d.weight", "conv1d.bias", "dt_bias", "A_log", "D", "norm.weight"):
                yield f"{ours}.mixers.{letter}.{name}", f"{theirs}.mixer.{name}", False, 1.0
            yield f"{ours}.mixers.{letter}.out_proj.weight", f"{theirs}.mixer.out_proj.weight", False, scale
        yield "norm.weight", "backbone.norm_f.weight", False, 1.0
        if not spec.tie_embeddings:
            yield "head.weight", "lm_head.weight", False, 1.0

    def weights(self, spec: ModelSpec, own: Weights) -> Weights:
        tied = {"lm_head.weight": own["embedding.weight"]} if spec.tie_embeddings else {}
        return {**super().weights(spec, own), **tied}

    def own(self, spec: ModelSpec, theirs: Weights) -> Weights:
        """ConfigError also where embedding and head, one matrix with us, have parted."""
        theirs = dict(theirs)
        if spec.tie_embeddings and (head := theirs.pop("lm_head.weight", None)) is not None:
            embedding = theirs["backbone.embeddings.weight"] / 10**0.5
            if not torch.allclose(head, embedding, rtol=1e-6, atol=0):
                raise ConfigError("its head is another matrix than its embedding, and with us they are one (tie_embeddings).")
            return {**super().own(spec, theirs), "embedding.weight": head}
        return super().own(spec, theirs)


class RWKV6(Architecture):
    """Its one epsilon, 1e-5, is that of our layer norms; the norm of our mixer has `norm_eps`, by default 1e-5 * 8^2.

    What that norm sees is linear in the receptances, which are therefore multiplied by the root of 1e-5 / norm_eps: 1/8.
    """

    name, library, class_name, model_type = "RWKV-6", "fla", "RWKV6ForCausalLM", "rwkv6"
    mixer = "rwkv6"
    has: ClassVar[Json] = {
        **PLAIN,
        "norm": "layer", "positions": "none", "feed_forward": "channel_mix", "init.embedding_norm": True,
        "mixer.key_clamp": False, "mixer.state_norm": 0, "mixer.initial_state": "zero",
    }  # fmt: skip
    free = (
        *("max_positions", "mixer.head_size", "mixer.mix_rank", "mixer.decay_rank", "mixer.norm_eps", "feed_forward.ratio"),
        *("mixer.init", "mixer.decay_init"),
    )

    def configuration(self, spec: ModelSpec, vocab_size: int, length: int) -> Json:
        (rwkv,) = spec.mixers.values()
        return {
            "vocab_size": vocab_size, "hidden_size": spec.d_model, "num_hidden_layers": spec.n_layer,
            "num_heads": spec.d_model // rwkv.head_size, "expand_k": 1.0, "expand_v": 1.0,
            "proj_low_rank_dim": rwkv.mix_rank, "gate_low_rank_dim": rwkv.decay_rank, "hidden_act": "sqrelu",
            "intermediate_size": int(_layer(spec).ratio * spec.d_model) // 32 * 32,
            "norm_eps": 1e-5, "norm_bias": True, "norm_first": True, "fuse_norm": False, "fuse_cross_entropy": False,
            "max_position_embeddings": length, "tie_word_embeddings": spec.tie_embeddings,
        }  # fmt: skip

    def pairs(self, spec: ModelSpec) -> Iterator[Pair]:
        ((letter, rwkv),) = spec.mixers.items()
        norms = [("embedding_norm", "model.layers.0.pre_norm"), ("norm", "model.norm")]
        yield "embedding.weight", "model.embeddings.weight", False, 1.0
        for i in range(spec.n_layer):
            ours, theirs = f"body.blocks.{i}", f"model.layers.{i}"
            norms += [(f"{ours}.mixer_norm", f"{theirs}.attn_norm"), (f"{ours}.feed_forward_norm", f"{theirs}.ffn_norm")]
            for name in RWKV6_NAMES:
                factor = (1e-5 / rwkv.norm_eps) ** 0.5 if name == "r_proj.linear.weight" else 1.0
                yield f"{ours}.mixers.{letter}.{name}", f"{theirs}.attn.{name}", False, factor
            for own, other in CHANNEL_MIX_NAMES.items():
                yield f"{ours}.feed_forward.{own}", f"{theirs}.ffn.{other}", False, 1.0
        for own, other in norms:
            for kind in ("weight", "bias"):
                yield f"{own}.{kind}", f"{other}.{kind}", False, 1.0
        if not spec.tie_embeddings:
            yield "head.weight", "lm_head.weight", False, 1.0


RWKV6_NAMES = (
    *("x_proj.0.mu", "x_proj.0.linear.weight", "x_proj.2.weight", "x_bias", "bonus", "g_norm.weight", "g_norm.bias"),
    *(f"{letter}_proj.linear.weight" for letter in "rkvg"),
    *("w_proj.linear.lora.0.weight", "w_proj.linear.lora.2.weight", "w_proj.linear.lora.2.bias", "o_proj.weight"),
)
CHANNEL_MIX_NAMES = {
    "k_mu": "key.mu",
    "r_mu": "receptance.mu",
    "key.weight": "key.linear.weight",
    "receptance.weight": "receptance.linear.weight",
    "value.weight": "value.weight",
}
ARCHITECTURES: tuple[Architecture, ...] = (GPT2(), Mamba2(), RWKV6())
LIBRARIES = ("transformers", "fla")


@dataclass(frozen=True)
class Standing:
    """What a model is elsewhere: equal to an architecture, or different from the one that it is nearest to."""

    nearest: Architecture
    differences: list[str]

    @property
    def equal(self) -> bool:
        return not self.differences

    def __str__(self) -> str:
        there = f"{self.nearest.class_name} in {self.nearest.library}"
        return f"equal to {there}" if self.equal else "; ".join(self.differences)


def standing(spec: ModelSpec, library: str | None = None) -> Standing:
    """Of a model among the architectures of a library, or of all."""
    own = [Standing(a, a.differences(spec)) for a in ARCHITECTURES if library in (None, a.library)]
    mixers = {mixer.name for mixer in spec.mixers.values()}
    return min(own, key=lambda found: (found.nearest.mixer not in mixers, len(found.differences)))


def of_type(model_type: Any) -> Architecture | None:
    """The architecture whose config.json says so."""
    return next((a for a in ARCHITECTURES if a.model_type == model_type), None)


def _layer(spec: ModelSpec) -> Any:
    """The options of a model's feed-forward layer, which it has."""
    return spec.feed_forward


def _settings(spec: ModelSpec) -> Json:
    """By dotted key all settings of a model of one mixer, whose options begin with `mixer.`."""
    document = spec.model_dump()
    (mixer,) = document.pop("mixers").values()
    feed_forward = document.pop("feed_forward") or {"name": None}
    parts = {"mixer": mixer, "init": document.pop("init"), "feed_forward": feed_forward}
    options = {f"{part}.{key}": value for part, own in parts.items() for key, value in own.items() if key != "name"}
    return {**document, "feed_forward": feed_forward["name"], **options}
