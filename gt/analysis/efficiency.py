"""Quality for its price. Every measure here rises when the model gets better, faster or cheaper.

The record's compute-efficiency ratio was perplexity over time, or over FLOPs: a worse model had more of it (flaw F-24). What
its first document calls the north star, "tokens processed per dollar per unit of quality" (line 177 of document 1), is N* in
claim C-D-16. Perplexities are a token's, so that both are for comparisons under one tokenizer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from gt.metrics import Axis, Measurement, Metric
from gt.numbers import exponential

# What follows from the costs and the price of the device.
DERIVED = (
    Metric(
        "tokens_per_dollar",
        "training tokens per dollar",
        "tokens/$",
        better="higher",
        table="runs",
        definition="training throughput at the study's price of an hour",
    ),
    Metric(
        "north_star",
        "training tokens per dollar over held-out perplexity (N*)",
        "tokens/$",
        better="higher",
        table="runs",
        definition="N*: tokens_per_dollar / val/perplexity",
        source="line 177 of document 1",
    ),
    Metric(
        "compute_efficiency",
        "inverse of held-out perplexity times forward GFLOPs per token",
        "1/GFLOP",
        better="higher",
        table="runs",
        definition="1 / (val/perplexity x forward GFLOPs a token)",
        source="upstream flaw F-24",
    ),
    Metric(
        "cost/north_star",
        "training tokens per dollar over perplexity by window length (N*)",
        "tokens/$",
        axes=(Axis("length", r"\d+"),),
        better="higher",
        table="evaluations",
        definition="N* of training in windows of so many tokens, perplexity at that window",
        source="C-D-16",
    ),
)


def tokens_per_dollar(tokens: float, device_seconds: float | None, dollars_per_hour: float) -> float | None:
    """Of a run, for its share of the device; None where that is not known."""
    return tokens * 3600 / (device_seconds * dollars_per_hour) if device_seconds else None


def north_star(tokens_per_dollar: float | None, perplexity: float) -> float | None:
    """N* = tokens per dollar / perplexity, where both are known and the perplexity is no nonsense."""
    return tokens_per_dollar / perplexity if tokens_per_dollar is not None and perplexity > 0 else None


def compute_efficiency(flops_per_token: float, perplexity: float) -> float:
    """1 / (perplexity x 10^9 FLOPs a token)."""
    return 1e9 / (flops_per_token * perplexity)


def north_stars(measured: Iterable[Measurement], dollars_per_hour: float) -> Iterator[Measurement]:
    """N* at a length: of training alone on the device with the largest batch measured, and the perplexity in a context of that
    length.

    measured: of a run, all that there is; what is needed is `context/loss` and `cost/training_tokens_per_second`.
    """
    found = list(measured)
    losses = {own.at: own.value for own in found if own.metric == "context/loss"}
    speeds = [own for own in found if own.metric == "cost/training_tokens_per_second/batch_<batch>"]
    largest = max((own.axes["batch"] for own in speeds), default=None)
    for own in speeds:
        loss = losses.get(own.at)
        if own.axes["batch"] == largest and own.value is not None and loss is not None:
            star = north_star(tokens_per_dollar(own.value, 1.0, dollars_per_hour), exponential(loss))
            yield Measurement("cost/north_star", {"length": own.axes["length"]}, star)
