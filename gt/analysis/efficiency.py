"""Quality for its price. Every measure here rises when the model gets better, faster or cheaper.

The record's compute-efficiency ratio was perplexity over time, or over FLOPs: a worse model had more of it (flaw F-24). What
its first document calls the north star, "tokens processed per dollar per unit of quality" (line 177 of document 1), is N* in
claim C-D-16. Perplexities are a token's, so that both are for comparisons under one tokenizer.
"""

from __future__ import annotations


def tokens_per_dollar(tokens_per_second: float, dollars_per_hour: float) -> float:
    return tokens_per_second * 3600 / dollars_per_hour


def north_star(tokens_per_second: float, dollars_per_hour: float, perplexity: float) -> float:
    """N* = tokens per dollar / perplexity."""
    return tokens_per_dollar(tokens_per_second, dollars_per_hour) / perplexity


def compute_efficiency(flops_per_token: float, perplexity: float) -> float:
    """1 / (perplexity x 10^9 FLOPs a token)."""
    return 1e9 / (flops_per_token * perplexity)
