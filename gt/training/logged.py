"""The metrics that training itself gives: the curves that it logs, and what its manifest says. Imports no torch."""

from __future__ import annotations

from gt.metrics import LAYER, NATS, PART, Metric

LOGGED = (
    Metric("gate/final", "mean gate weight at the last logged step", table="runs", definition="the last gate/mean of training"),
    Metric(
        "tokens_per_second",
        "training tokens per second",
        "tokens/s",
        better="higher",
        table="runs",
        definition="training throughput",
    ),
    Metric("seconds", "training time in seconds", "s", better="lower", table="runs", definition="training time"),
    Metric(
        "peak_memory_bytes",
        "peak memory of training in bytes",
        "bytes",
        better="lower",
        table="runs",
        definition="largest memory in training",
    ),
    Metric("n_params", "number of parameters", table="runs", definition="parameters"),
    Metric(
        "n_params_non_embedding",
        "number of parameters without embeddings",
        table="runs",
        definition="parameters without token and position tables and head",
    ),
    Metric(
        "state_size",
        "floats carried from token to token",
        "floats",
        better="lower",
        table="runs",
        definition="what a sequence carries from one token to the next",
    ),
    Metric(
        "flops_per_token",
        "forward FLOPs per token",
        "FLOPs",
        better="lower",
        table="runs",
        definition="forward pass, a multiply-add counts 2",
    ),
    Metric(
        "train/loss",
        "training loss in nats per token",
        NATS,
        better="lower",
        table="curves",
        definition="of the batch of a step",
    ),
    Metric(
        "grad_norm",
        "gradient norm of the whole model in training",
        table="curves",
        definition="L2 norm of the whole gradient before clipping",
    ),
    Metric(
        "grad_norm/<part>",
        "gradient norm of <part> in training",
        axes=(PART,),
        table="curves",
        definition="L2 norm of a part's gradient before clipping",
        source="train_v4.py L191-217",
    ),
    Metric(
        "update_ratio/<part>",
        "update size of <part> relative to the weights",
        axes=(PART,),
        table="curves",
        definition="norm of a part's update over that of its weights",
    ),
    Metric(
        "grad_cosine/<part>",
        "cosine of successive gradients of <part>",
        axes=(PART,),
        better="higher",
        table="curves",
        definition="cosine of a part's gradients at successive steps",
    ),
    Metric(
        "gate/layer_<layer>",
        "mean gate weight in layer <layer> in training",
        axes=(LAYER,),
        table="curves",
        definition="mean gate of a layer on the validation slice",
    ),
)
