"""Quality for its price. Every measure here rises when the model gets better, faster or cheaper.

The record's compute-efficiency ratio was perplexity over time, or over FLOPs: a worse model had more of it (flaw F-24). What
its first document calls the north star, "tokens processed per dollar per unit of quality" (line 177 of document 1), is N* in
claim C-D-16. Perplexities are a token's, so that both are for comparisons under one tokenizer.
"""

from __future__ import annotations


def tokens_per_dollar(tokens: float, device_seconds: float | None, dollars_per_hour: float) -> float | None:
    """Of a run, for its share of the device; None where that is not known."""
    return tokens * 3600 / (device_seconds * dollars_per_hour) if device_seconds else None


def north_star(tokens_per_dollar: float | None, perplexity: float) -> float | None:
    """N* = tokens per dollar / perplexity."""
    return None if tokens_per_dollar is None else tokens_per_dollar / perplexity


def compute_efficiency(flops_per_token: float, perplexity: float) -> float:
    """1 / (perplexity x 10^9 FLOPs a token)."""
    return 1e9 / (flops_per_token * perplexity)
