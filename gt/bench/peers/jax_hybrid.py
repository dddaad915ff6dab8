"""GF-MH in JAX: RWKV-6 and Mamba-2 in parallel in every block, joined by a gate. No kernel is written by hand.

Both recurrences are taken in chunks: inside one all pairs of positions at once, between them a state. Exponents are never
positive, so that nothing overflows.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from gt.bench.peers.jax_gpt2 import Array, Weights, linear
from gt.spec import ModelSpec

CHUNK = {"rwkv6": 16, "mamba2": 64}
# As many chunks as are unrolled; of more the pairs are computed again in the backward pass, as their memory would be gigabytes.
UNROLLED = 8


def logits(weights: Weights, tokens: Array, model: ModelSpec, dtype: Any) -> Array:
    """tokens (batch, time) -> (batch, time, vocab) in float32. dtype: of the activations."""
    x = weights["embedding.weight"][tokens].astype(dtype)
    for layer in range(model.n_layer):
        own = {name: stack[layer] for name, stack in weights["layers"].items()}
        n = rms_norm(x, own["mixer_norm.weight"], 1e-6)
        r = rwkv6(within(own, "mixers.r."), n, model.mixers["r"].norm_eps)
        m = mamba2(within(own, "mixers.m."), n)
        x = x + gated(own, r, m)
        n = rms_norm(x, own["feed_forward_norm.weight"], 1e-6)
        hidden = jax.nn.gelu(linear(n, own["feed_forward.up.weight"]), approximate=False)
        x = x + linear(hidden, own["feed_forward.down.weight"])
    return linear(rms_norm(x, weights["norm.weight"], 1e-6), weights["embedding.weight"]).astype(jnp.float32)


def gated(own: Weights, r: Array, m: Array) -> Array:
    """g r + (1 - g) m, g = sigmoid(w [r; m] + b) a position."""
    score = linear(jnp.concatenate([r, m], -1), own["fusion.gate.weight"]).astype(jnp.float32)
    g = jax.nn.sigmoid(score + own["fusion.gate.bias"]).astype(r.dtype)
    return m + g * (r - m)


def rwkv6(own: Weights, x: Array, eps: float) -> Array:
    """Time mixing, (batch, time, d_model) -> the same shape."""
    batch, time, width = x.shape
    heads, size = own["bonus"].shape
    delta = jnp.pad(x, ((0, 0), (1, 0), (0, 0)))[:, :-1] - x
    low = jnp.tanh(linear(x + delta * own["x_proj.0.mu"].astype(x.dtype), own["x_proj.0.linear.weight"]))
    up = own["x_proj.2.weight"].reshape(width, 5, -1).astype(x.dtype)
    mix = jnp.einsum("btfr,dfr->fbtd", low.reshape(batch, time, 5, -1), up) + own["x_bias"][:, None, None].astype(x.dtype)
    r, w, k, v, g = x + delta * mix
    matrices = jnp.stack([own[f"{i}_proj.linear.weight"] for i in "rkvg"]).astype(x.dtype)
    r, k, v, g = jnp.einsum("fbti,foi->fbto", jnp.stack([r, k, v, g]), matrices)
    low = jnp.tanh(linear(w, own["w_proj.linear.lora.0.weight"]))
    decay = linear(low, own["w_proj.linear.lora.2.weight"]).astype(jnp.float32) + own["w_proj.linear.lora.2.bias"]
    r, k, v, log_w = (t.astype(jnp.float32).reshape(batch, time, heads, size) for t in (r, k, v, -jnp.exp(decay)))
    y = wkv(r, k, v, log_w, own["bonus"])
    centred = y - y.mean(-1, keepdims=True)
    y = (centred * jax.lax.rsqrt((centred**2).mean(-1, keepdims=True) + eps)).reshape(batch, time, width)
    y = y * own["g_norm.weight"] + own["g_norm.bias"]
    return linear(y.astype(x.dtype) * jax.nn.silu(g), own["o_proj.weight"])


def wkv(r: Array, k: Array, v: Array, log_w: Array, bonus: Array) -> Array:
    """y_t = r_t (S_{t-1} + diag(u) k_t v_t^T), S_t = diag(w_t) S_{t-1} + k_t v_t^T. All (batch, time, head, channel)."""
    r, k, v, log_w = (in_chunks(t, CHUNK["rwkv6"]) for t in (r, k, v, log_w))  # (batch, head, chunk, position, channel)
    chunks, size = r.shape[2:4]
    since = jnp.cumsum(log_w, 3)  # from the start of the chunk, this position's decay included
    before = since - log_w

    def pairs(r: Array, k: Array, before: Array, since: Array) -> Array:
        earlier = jnp.tril(jnp.ones((size, size), bool), -1)[:, :, None]
        decay = jnp.exp(jnp.where(earlier, before[..., :, None, :] - since[..., None, :, :], -jnp.inf))
        return jnp.einsum("bhntk,bhnsk,bhntsk->bhnts", r, k, decay)

    scores = (pairs if chunks <= UNROLLED else jax.checkpoint(pairs))(r, k, before, since)
    scores += jnp.eye(size) * jnp.einsum("bhntk,bhntk,hk->bhnt", r, k, bonus)[..., None]
    whole = since[..., -1:, :]
    written = jnp.einsum("bhnsk,bhnsv->bhnkv", k * jnp.exp(whole - since), v)
    starts = states(jnp.exp(whole).swapaxes(-1, -2), written)
    return from_chunks(scores @ v + (r * jnp.exp(before)) @ starts)


def mamba2(own: Weights, x: Array) -> Array:
    """A state-space layer, (batch, time, d_model) -> the same shape."""
    batch, time, _ = x.shape
    heads, inner, taps = own["D"].shape[0], own["out_proj.weight"].shape[1], own["conv1d.weight"].shape[2]
    channels = own["conv1d.bias"].shape[0]
    z, xbc, dt = jnp.split(linear(x, own["in_proj.weight"]), [inner, inner + channels], -1)
    padded = jnp.pad(xbc.astype(jnp.float32), ((0, 0), (taps - 1, 0), (0, 0)))
    xbc = sum(padded[:, i : i + time] * own["conv1d.weight"][:, 0, i] for i in range(taps)) + own["conv1d.bias"]
    states_ = (channels - inner) // 2
    values, b, c = jnp.split(jax.nn.silu(xbc).astype(x.dtype), [inner, inner + states_], -1)
    dt = jax.nn.softplus(dt.astype(jnp.float32) + own["dt_bias"])
    y = ssd(values.reshape(batch, time, heads, -1), dt, -jnp.exp(own["A_log"]), b, c, own["D"]).reshape(batch, time, inner)
    y = rms_norm(y * jax.nn.silu(z.astype(jnp.float32)), own["norm.weight"], 1e-5)
    return linear(y.astype(x.dtype), own["out_proj.weight"])


def ssd(x: Array, dt: Array, a: Array, b: Array, c: Array, d: Array) -> Array:
    """h_t = exp(dt_t A) h_{t-1} + dt_t x_t B_t^T, y_t = h_t C_t + D x_t, in float32.

    x (batch, time, head, value), dt (batch, time, head), b and c (batch, time, state).
    """
    length = min(CHUNK["mamba2"], x.shape[1])
    wide = x.astype(jnp.float32)
    values = in_chunks((wide * dt[..., None]).astype(x.dtype), length)
    b, c = (in_chunks(t[:, :, None], length) for t in (b, c))  # one head for all
    since = jnp.cumsum(in_chunks((dt * a)[..., None], length), 3)  # (batch, head, chunk, position, 1)
    earlier = jnp.tril(jnp.ones((length, length), bool))
    decay = jnp.exp(jnp.where(earlier, since - since.swapaxes(-1, -2), -jnp.inf))
    scores = (jnp.einsum("bhntk,bhnsk->bhnts", c, b).astype(jnp.float32) * decay).astype(x.dtype)
    y = (scores @ values).astype(jnp.float32)
    if values.shape[2] > 1:
        whole = since[..., -1:, :]
        written = jnp.einsum("bhnsk,bhnsv->bhnkv", b * jnp.exp(whole - since), values.astype(jnp.float32))
        y += (c * jnp.exp(since)) @ states(jnp.exp(whole), written)
    return from_chunks(y) + d[:, None] * wide


def states(kept: Array, written: Array) -> Array:
    """The state that each chunk begins with, (batch, head, chunk, key, value); `kept` of a state is multiplied, then `written`
    is added. The first is zero.
    """

    def step(state: Array, chunk: tuple[Array, Array]) -> tuple[Array, Array]:
        kept, written = chunk
        return kept * state + written, state

    chunks = (jnp.moveaxis(kept, 2, 0), jnp.moveaxis(written, 2, 0))
    unroll = written.shape[2] if written.shape[2] <= UNROLLED else 1
    _, starts = jax.lax.scan(step, jnp.zeros_like(written[:, :, 0]), chunks, unroll=unroll)
    return jnp.moveaxis(starts, 0, 2)


def in_chunks(x: Array, length: int) -> Array:
    """(batch, time, head, channel) -> (batch, head, chunk, position, channel)."""
    batch, time, heads, size = x.shape
    return x.reshape(batch, time // length, length, heads, size).transpose(0, 3, 1, 2, 4)


def from_chunks(x: Array) -> Array:
    """The inverse of `in_chunks`."""
    batch, heads, chunks, length, size = x.shape
    return x.transpose(0, 2, 3, 1, 4).reshape(batch, chunks * length, heads, size)


def rms_norm(x: Array, weight: Array, eps: float) -> Array:
    """Over the last dimension, in float32; the result is in the type of x."""
    wide = x.astype(jnp.float32)
    return (wide * jax.lax.rsqrt((wide**2).mean(-1, keepdims=True) + eps) * weight).astype(x.dtype)


def within(own: Weights, prefix: str) -> Weights:
    """The weights of a part, by their names in it."""
    return {name.removeprefix(prefix): array for name, array in own.items() if name.startswith(prefix)}
