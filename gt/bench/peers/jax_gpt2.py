"""GPT-2 in JAX: our variant of that name, function by function."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp

from gt.spec import ModelSpec

Array: TypeAlias = Any
# By our names. Those of the layers are one array each, (layer, *shape), under "layers".
Weights: TypeAlias = dict[str, Any]
Attention: TypeAlias = Literal["xla", "cudnn"]


def logits(weights: Weights, tokens: Array, model: ModelSpec, dtype: Any, attention: Attention = "xla") -> Array:
    """tokens (batch, time) -> (batch, time, vocab) in float32. dtype: of the activations."""
    time = tokens.shape[1]
    x = (weights["embedding.weight"][tokens] + weights["position.weight"][:time]).astype(dtype)
    for layer in range(model.n_layer):
        own = {name: stack[layer] for name, stack in weights["layers"].items()}
        x = x + attend(own, layer_norm(own, "mixer_norm", x), model, attention)
        n = layer_norm(own, "feed_forward_norm", x)
        hidden = jax.nn.gelu(affine(own, "feed_forward.up", n), approximate=True)
        x = x + affine(own, "feed_forward.down", hidden)
    x = layer_norm(weights, "norm", x)
    return linear(x, weights["embedding.weight"]).astype(jnp.float32)


def attend(own: Weights, x: Array, model: ModelSpec, attention: Attention) -> Array:
    """Causal attention, (batch, time, d_model) -> the same shape."""
    batch, time, width = x.shape
    heads = model.mixers["a"].n_head
    qkv = affine(own, "mixers.a.qkv", x).reshape(batch, time, 3, heads, width // heads)
    q, k, v = (qkv[:, :, i] for i in range(3))
    y = jax.nn.dot_product_attention(q, k, v, is_causal=True, implementation=attention)
    return affine(own, "mixers.a.output", y.reshape(batch, time, width))


def linear(x: Array, weight: Array) -> Array:
    """(..., in) by (out, in) -> (..., out), in the type of x."""
    return jnp.einsum("...i,oi->...o", x, weight.astype(x.dtype))


def affine(own: Weights, name: str, x: Array) -> Array:
    return linear(x, own[f"{name}.weight"]) + own[f"{name}.bias"].astype(x.dtype)


def layer_norm(own: Weights, name: str, x: Array) -> Array:
    """Over the last dimension, in float32; the result is in the type of x."""
    wide = x.astype(jnp.float32)
    centred = wide - wide.mean(-1, keepdims=True)
    scale = jax.lax.rsqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    return (centred * scale * own[f"{name}.weight"] + own[f"{name}.bias"]).astype(x.dtype)
