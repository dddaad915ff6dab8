"""Every quantity of a run that has a name: what it is, its unit, and where it stands. Imports no torch.

A name is that of the study's tables: a column of `runs.parquet` or `curves.parquet`, or a `name` of `probes.parquet`, where a
row with a layer is that layer's value and one without is the model's: over all layers, or their mean where the definition
does not say otherwise. Branches are called by the letters of their mixers (`r`, `m`); a ratio between branches is the first to
the second, in the order of `ModelSpec.layers`. `initial/<name>` is the same measurement on the network that training started
from, `record/<name>` what the record computed under that name: a negative control.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Literal

from gt.errors import ConfigError, nearest

Table = Literal["runs", "curves", "probes", "evaluations"]
# What a name may have in its places.
PLACES = {
    "<branch>": "[a-z]",
    "<part>": r"(?:mixers\.[a-z]|mixer_gain|fusion|feed_forward|feed_forward_gain|embedding|norm)",
    "<layer>": r"\d+",
    "<class>": "(?:letters|digits|spaces|punctuation|frequent|rare|first|repeated)",
    "<bin>": r"\d",
    "<length>": r"(?:0\.25|0\.5|1|2|4)",
    "<split>": "(?:val|test)",
    "<order>": "(?:uniform|unigram|bigram|trigram)",
    "<task>": "[a-z]+",
    "<depth>": r"(?:0|0\.25|0\.5|0\.75|1)",
    "<batch>": r"\d+",
    "<rounding>": "(?:state/(?:mamba2|rwkv6)/int8|(?:log_)?decay/(?:fp16|int8))",
}


@dataclass(frozen=True)
class Metric:
    """better: which way is better, where one is. table: of the study. source: of the definition."""

    name: str
    unit: str
    definition: str
    source: str = ""
    better: Literal["lower", "higher"] | None = None
    table: Table = "probes"
    initial: bool = False  # is also measured on the initial network

    @property
    def file(self) -> str:
        """Where in a run record it comes from."""
        if self.table != "runs":
            return {"curves": "curves.parquet", "probes": "probes.json", "evaluations": "evaluations/*.json"}[self.table]
        return "evaluations/held_out.json" if self.name.startswith(("val/", "test/", "ngram/")) else "manifest.json"


def metric(name: str) -> Metric:
    """The metric that a name is of. ConfigError with the nearest for one that is not registered."""
    for found in METRICS:
        names = [found.name, *([f"initial/{found.name}"] if found.initial else [])]
        if any(pattern(template).fullmatch(name) for template in names):
            return found
    raise ConfigError(f"unknown metric {name!r}." + nearest(name, [m.name for m in METRICS]))


@cache
def pattern(template: str) -> re.Pattern[str]:
    """What the concrete names of a registered one look like."""
    expression = re.escape(template)
    for place, values in PLACES.items():
        expression = expression.replace(re.escape(place), values)
    return re.compile(expression)


NATS = "nats/token"
F04, F05, F08, F15, F17, F25 = (f"upstream flaw {n}" for n in ("F-04", "F-05", "F-08", "F-15", "F-17", "F-25"))

HELD_OUT = (
    Metric("val/loss", NATS, "mean cross-entropy on the fixed slice of the validation split", "", "lower", "runs"),
    Metric("val/bits_per_byte", "bits/byte", "the same in bits, over the bytes of the slice", "", "lower", "runs"),
    Metric("val/perplexity", "", "exp(val/loss)", "", "lower", "runs"),
    Metric("test/loss", NATS, "mean cross-entropy on the fixed slice of the test split", "", "lower", "runs"),
    Metric("test/bits_per_byte", "bits/byte", "the same in bits, over the bytes of the slice", "", "lower", "runs"),
    Metric(
        "ngram/<order>", "bits/byte", "of an n-gram model of the training split on the validation slice", "", "lower", "runs"
    ),
    Metric("gate/final", "", "the last gate/mean that was logged in training", "", None, "runs"),
    Metric("tokens_per_second", "tokens/s", "training throughput", "", "higher", "runs"),
    Metric("seconds", "s", "training time", "", "lower", "runs"),
    Metric("peak_memory_bytes", "bytes", "largest memory in training", "", "lower", "runs"),
    Metric("n_params", "", "parameters", "", None, "runs"),
    Metric("n_params_non_embedding", "", "parameters without token and position tables and head", "", None, "runs"),
    Metric("state_size", "floats", "what a sequence carries from one token to the next", "", "lower", "runs"),
    Metric("flops_per_token", "FLOPs", "forward pass, a multiply-add counts 2", "", "lower", "runs"),
)

CURVES = (
    Metric("train/loss", NATS, "of the batch of a step", "", "lower", "curves"),
    Metric("grad_norm", "", "L2 norm of the whole gradient before clipping", "", None, "curves"),
    Metric("grad_norm/<part>", "", "L2 norm of a part's gradient before clipping", "train_v4.py L191-217", None, "curves"),
    Metric("update_ratio/<part>", "", "norm of a part's update over that of its weights", "", None, "curves"),
    Metric("grad_cosine/<part>", "", "cosine of a part's gradients at successive steps", "", "higher", "curves"),
    Metric("gate/layer_<layer>", "", "mean gate of a layer on the validation slice", "", None, "curves"),
)

ABLATION = (
    Metric("ablation/intact", NATS, "loss on the slice that the ablations are measured on", "", "lower"),
    Metric(
        "ablation/zero/<branch>",
        NATS,
        "abl_X: held-out loss with the branch's output zero in all layers (by layer: in that one) less the intact loss",
        F25,
    ),
    Metric("ablation/mean/<branch>", NATS, "the same, with its mean over the slice in place of the branch's output", F25),
    Metric("ablation/shuffle/<branch>", NATS, "the same, with the branch's output for another window of the slice", F25),
    Metric("ablation/share/<branch>", "", "abl_X over the sum of both branches': the branch's contribution", F25),
    Metric("ablation/ratio", "", "abl_X of the first branch over that of the second", "VALIDATION_ROADMAP.md L160-187 (D3)"),
)

GATES = (
    Metric("gate/mean", "", "weight of the first branch, over layers, positions and channels", F05, initial=True),
    Metric("gate/lowest_layer", "", "the smallest of the layers' means", "V0.5_ROADMAP.md (task 0.3)", initial=True),
    Metric("gate/highest_layer", "", "the largest of the layers' means", "V0.5_ROADMAP.md (task 0.3)", initial=True),
    Metric("gate/std_positions", "", "standard deviation over positions of the mean over channels", "", initial=True),
    Metric("gate/std_channels", "", "standard deviation over channels at a position, averaged", "", initial=True),
    Metric(
        "gate/outer_quarter", "", "share of gates below 1/8 or above 7/8", "research document (gate collapse)", initial=True
    ),
    Metric("gate/histogram/<bin>", "", "share of gates in the tenth from bin / 10", ""),
    Metric("gate/class/<class>", "", "mean gate at tokens of a class", ""),
    Metric("gate/drift", "", "gate/mean at the end of training less that before it", "document 3 (Obs 14, 16)"),
    Metric(
        "gate/advantage_correlation",
        "",
        "correlation over tokens of the last layer's gate with the loss of the second branch read out alone less the first's",
        "repository notebooks/task_0_3",
        "higher",
    ),
    Metric(
        "fusion/projection_ratio",
        "",
        "of one projection [W_r W_m] of both branches: |W_m| std(m) / (|W_r| std(r))",
        "document 3 (Obs 3)",
        initial=True,
    ),
)

GRADIENTS = (
    Metric("gradient/ratio", "", "R/M: L2 norm of the first branch's gradient over the second's", F04, initial=True),
    Metric("gradient/tensor_ratio", "", "the same of the mean over tensors of their norms (G4)", F04, initial=True),
    Metric("gradient/logit_ratio", "", "R/M of the mean logit in place of the loss (Task 54)", F04, initial=True),
    Metric("gradient/odds_corrected_ratio", "", "R/M over the gate's odds g / (1 - g)", F04, initial=True),
    Metric("gradient/norm/<part>", "", "L2 norm of a part's gradient on a held-out batch", initial=True),
    Metric("gradient/snr/<part>", "", "|mean g|^2 / mean |g - mean|^2 over 4 held-out batches", "lines 202-308 of document 3"),
    Metric(
        "gradient/independence/<branch>",
        "",
        "cosine of a branch's gradients with and without the other branch",
        "line 219 of document 4",
    ),
    Metric(
        "gradient/reach",
        "",
        "norm of the gradient of the last target's loss at the first input over that at the last",
        "repository notebooks/task_0_1b",
        initial=True,
    ),
    Metric("gradient/curve_ratio", "", "R/M of the last logged training step", "train_v4.py L191-217"),
    Metric("gradient/curve_odds_corrected_ratio", "", "the same over the last logged gate's odds", F04),
    Metric("gradient/smoothness/<part>", "", "mean over training of grad_cosine", "line 202 of document 3", "higher"),
    Metric("gradient/update_ratio/<part>", "", "mean over the last tenth of training of update_ratio", F04),
)

STATES = (
    Metric("state/size_ratio", "", "floats in the states that the network returns over those of its audit (S0)", ""),
    Metric(
        "state/norm/<branch>/<length>",
        "",
        "L2 norm of the recurrent state of a layer after so many times the trained length",
        F08,
        initial=True,
    ),
    Metric("state/rms/<branch>", "", "root mean square of the state's elements at the trained length (T)", F08, initial=True),
    Metric(
        "state/rms_ratio", "", "state/rms of the first branch over the second's", "lines 527-567 of document 3", initial=True
    ),
    Metric("state/growth/<branch>", "", "norm at 4 T over that at T", F08, initial=True),
    Metric("state/growth_8x/<branch>", "", "norm at 4 T over that at T/2: the record's D1", F08, initial=True),
    Metric("state/change/<branch>", "", "norm of the state at T less that at T/2 (S2)", "CANARY_TESTS.md", initial=True),
    Metric("state/repeat_difference", "", "largest difference of states when the same text is read again (S3)", ""),
    Metric("state/variance/<branch>", "", "variance of the state's elements, over elements and inputs (S4)", F08, initial=True),
    Metric("state/variance_ratio", "", "state/variance of the first branch over the second's (S4)", F08, initial=True),
    Metric("state/input_variance/<branch>", "", "variance over inputs, averaged over elements (D2)", F08, initial=True),
    Metric("state/input_share/<branch>", "", "state/input_variance over the mean square", "", initial=True),
    Metric(
        "state/repeated_token_variance/<branch>",
        "",
        "state/variance after one token repeated T times (Task 59)",
        "",
        initial=True,
    ),
    Metric("state/effective_rank/<branch>", "", "(sum s^2)^2 / sum s^4 of a head's singular values s", "", initial=True),
    Metric("state/rank_share/<branch>", "", "the same over the largest rank possible (G3.5)", "", initial=True),
    Metric("state/entropy/<branch>", "", "entropy of the squared elements' shares over that of equal ones", "", initial=True),
    Metric(
        "state/saturation/<branch>",
        "",
        "share of elements that vary over inputs by under 1 % of their mean square (G3.5)",
        "",
    ),
    Metric("state/cosine/<branch>", "", "mean cosine of the states of two inputs (G3.5)", "", initial=True),
    Metric(
        "state/retention/<branch>",
        "",
        "share of a state's difference to an empty one that each of T tokens leaves, geometric mean",
        F08,
        initial=True,
    ),
    Metric(
        "state/retention_1/<branch>",
        "",
        "share of a state's difference to an empty one that one token leaves",
        F08,
        initial=True,
    ),
    Metric(
        "state/response/<branch>", "", "relative L2 change of the state at T when the first token is another", "", initial=True
    ),
    Metric(
        "response/logits", "", "relative L2 change of the logits at T when the first token is another (D4)", F08, initial=True
    ),
    Metric("response/logits_4x", "", "the same at 4 T", F08, initial=True),
    Metric(
        "long_range/perplexity_ratio",
        "",
        "perplexity of the last T of 4 T tokens over that of the first T",
        "",
        "lower",
    ),
)

VARIANCE = (
    Metric(
        "variance/embedding",
        "",
        "variance over tokens and channels of the residual stream before the first block",
        F15,
        initial=True,
    ),
    Metric("variance/residual", "", "the same after each block; of the model: after the last", F15, initial=True),
    Metric("variance/branch/<branch>", "", "variance of a branch's output; of the model: mean over layers", F15, initial=True),
    Metric(
        "variance/branch_ratio",
        "",
        "variance/branch of the first over the second (by layer; of the model: of the means)",
        F15,
        initial=True,
    ),
    Metric("variance/fused", "", "variance of the fusion's output", F15, initial=True),
    Metric("variance/feed_forward", "", "variance of the feed-forward layer's output", F15, initial=True),
    Metric(
        "variance/over_embedding", "", "residual variance after the last block over that of the embedding", F15, initial=True
    ),
    Metric("variance/over_first", "", "the same over that after the first block", F15, initial=True),
    Metric(
        "std/over_embedding", "", "square root of variance/over_embedding: the record's for Mamba and GPT", F15, initial=True
    ),
    Metric("std/over_first", "", "square root of variance/over_first: the record's for RWKV", F15, initial=True),
    Metric("rms/residual", "", "root mean square of the residual stream after each block", F15, initial=True),
    Metric("rms/branch/<branch>", "", "root mean square of a branch's output", F15, initial=True),
    Metric("variance/noise_gain/<branch>", "", "variance of a mixer's output on N(0, 1) inputs", F15, initial=True),
    Metric("branch/cosine", "", "mean cosine of the two branches' outputs", "repository notebooks/task_0_3", initial=True),
)

SOFTMAX = (
    Metric("softmax/entropy", "nats", "mean entropy of the prediction", "systems 7.8", initial=True),
    Metric("softmax/entropy_ratio", "", "the same over ln(vocabulary) (G2)", F17, initial=True),
    Metric("softmax/max_probability", "", "mean of the largest probability", "systems 7.8", initial=True),
    Metric("softmax/saturated", "", "share of positions with a probability above .99", "systems 7.8", initial=True),
    Metric("softmax/largest_logit", "", "largest absolute logit", "systems 7.8", initial=True),
    Metric("softmax/logit_range", "", "mean of the largest less the smallest logit of a position", "systems 7.8", initial=True),
)

HEALTH = (
    Metric("forward/finite", "", "share of logits that are finite (G1)", "", "higher", initial=True),
    Metric("curve/loss_ratio", "", "last validation loss over that before training (G3)", "", "lower"),
    Metric("curve/grad_norm", "", "last logged gradient norm (G3)", ""),
    Metric(
        "flag/second_half",
        "",
        "share of the fall of the validation loss that the second half of training brought",
        "lines 127-136 of document 1",
        "higher",
    ),
    Metric(
        "flag/generalisation_gap",
        NATS,
        "last validation loss less the training loss of the last tenth",
        "lines 127-136 of document 1",
    ),
    Metric(
        "flag/utilisation",
        "",
        "FLOP/s of training over the card's peak; only on a known GPU",
        "lines 127-136 of document 1",
        "higher",
    ),
    Metric(
        "flag/unused_parameters",
        "",
        "share of parameters, without embeddings, that no held-out batch gives a gradient",
        "lines 127-136 of document 1",
        "lower",
    ),
    Metric("parameters/<part>", "", "parameters of a part of the model", ""),
)

RECORD = (
    Metric("record/gradient_ratio", "", "G4: gradient/tensor_ratio of the initial network on random tokens and targets", F04),
    Metric(
        "record/state_norm/<branch>",
        "",
        "S1: norm of the first branch's state, of the second's last output; last layer, untrained, random tokens",
        F08,
    ),
    Metric("record/state_growth/<branch>", "", "D1: the same at 4 T over that at T/2", F08),
    Metric(
        "record/state_variance_ratio", "", "S4: variance of the first branch's state over that of the second's last output", F08
    ),
    Metric("record/input_variance/<branch>", "", "D2: variance over random inputs of that state and that output", F08),
    Metric("record/state_norm_share", "", "D3: the second branch's share of the sum of both record/state_norm", F25),
    Metric("record/response", "", "D4: response/logits of the initial network on random tokens", F08),
)

F13, F14, F24, F40 = (f"upstream flaw {n}" for n in ("F-13", "F-14", "F-24", "F-40"))
RECALL = "of right answers on unseen episodes of the recall task that the model was trained on"

COSTS = (
    Metric("tokens_per_dollar", "tokens/$", "training throughput at the study's price of an hour", "", "higher", "runs"),
    Metric("north_star", "tokens/$", "N*: tokens_per_dollar / val/perplexity", "line 177 of document 1", "higher", "runs"),
    Metric("compute_efficiency", "1/GFLOP", "1 / (val/perplexity x forward GFLOPs a token)", F24, "higher", "runs"),
)

# What stands at a place (tokens, unless it says otherwise) is looked up with `at`.
EVALUATIONS = (
    Metric(
        "<split>/by_position", NATS, "loss of targets with so many tokens of context, in octaves", F40, "lower", "evaluations"
    ),
    Metric("<split>/word_perplexity", "", "exp(nats over words and line ends), WikiText only", "", "lower", "evaluations"),
    Metric("context/loss", NATS, "of the same tokens, read in windows of so many", f"{F13}, F-40", "lower", "evaluations"),
    Metric(
        "context/shuffled_loss", NATS, "the same, all but the last T/8 in random order: the control", F13, None, "evaluations"
    ),
    Metric("context/gain", NATS, "context/loss at the shortest window less that at this one", F40, "higher", "evaluations"),
    Metric("context/perplexity_ratio", "", "perplexity at this window over that at T", "C-D-03", "lower", "evaluations"),
    Metric("context/slope", f"{NATS} an octave", "of context/loss from T/8 to T", "C-LRD", "lower", "evaluations"),
    Metric(
        "context/useful_window",
        "tokens",
        "UCW: the least window with 95 % of the gain of the best over the shortest; none where there is no gain",
        "V5_GATING.md (UCW)",
        "higher",
        "evaluations",
    ),
    Metric(
        "context/held_to",
        "T",
        "the largest k with perplexity(k' T) <= 1.05 perplexity(T), k' <= k",
        "C-D-03",
        "higher",
        "evaluations",
    ),
    Metric("recall/<task>/accuracy", "", f"share {RECALL}", "C-D-04", "higher", "evaluations"),
    Metric("recall/<task>/by_items", "", "the same, of episodes with so many items (at)", "C-D-04", "higher", "evaluations"),
    Metric(
        "recall/<task>/by_distance",
        "",
        "the same, of answers so far from their source, in octaves",
        "",
        "higher",
        "evaluations",
    ),
    Metric("recall/<task>/by_length", "", "the same, in episodes of so many tokens", "", "higher", "evaluations"),
    Metric("recall/<task>/episodes", "", "share of episodes whose every answer is right", "", "higher", "evaluations"),
    Metric(
        "recall/<task>/control", "", "recall/<task>/accuracy without what is asked for in the episode", F14, None, "evaluations"
    ),
    Metric("recall/<task>/chance", "", "of a guess among the values", "", None, "evaluations"),
    Metric(
        "recall/<task>/persistence",
        "",
        "SPS: 100 x share of the distractors that half of the facts survive",
        "V5_GATING.md (SPS)",
        "higher",
        "evaluations",
    ),
    Metric("needle/found", "", "share of a needle's tokens repeated, zero-shot in held-out text", F14, "higher", "evaluations"),
    Metric("needle/exact", "", "share of needles repeated whole: NIAH, repaired", "C-NIAH", "higher", "evaluations"),
    Metric("needle/gain", NATS, "loss of the value where the needle had another, less its loss", F14, "higher", "evaluations"),
    Metric("needle/found/depth_<depth>", "", "needle/found at a depth and length of haystack", F14, "higher", "evaluations"),
    Metric("needle/exact/depth_<depth>", "", "needle/exact at a depth and length of haystack", F14, "higher", "evaluations"),
    Metric("needle/gain/depth_<depth>", NATS, "needle/gain at a depth and length of haystack", F14, "higher", "evaluations"),
    Metric(
        "generation/tokens_per_second", "tokens/s", "greedy, one sequence, up to so many tokens", "", "higher", "evaluations"
    ),
    Metric("generation/state_bytes", "bytes", "carried to the next token after so many", "", "lower", "evaluations"),
    Metric("generation/peak_bytes", "bytes", "peak GPU memory of generation beyond what was there", "", "lower", "evaluations"),
    Metric("cost/flops_per_token/batch_<batch>", "FLOPs", "forward, in windows of so many tokens", "", "lower", "evaluations"),
    Metric("cost/state_size/batch_<batch>", "floats", "carried after a window of so many tokens", "", "lower", "evaluations"),
    Metric("cost/forward_tokens_per_second/batch_<batch>", "tokens/s", "of a forward pass", "", "higher", "evaluations"),
    Metric("cost/forward_peak_bytes/batch_<batch>", "bytes", "peak GPU memory of a forward pass", "", "lower", "evaluations"),
    Metric("cost/training_tokens_per_second/batch_<batch>", "tokens/s", "forward and backward", "", "higher", "evaluations"),
    Metric(
        "cost/training_peak_bytes/batch_<batch>", "bytes", "peak GPU memory of forward and backward", "", "lower", "evaluations"
    ),
    Metric(
        "cost/north_star",
        "tokens/$",
        "N* of training in windows of so many tokens, perplexity at that window",
        "C-D-16",
        "higher",
        "evaluations",
    ),
    Metric(
        "quantisation/<rounding>/difference",
        NATS,
        "loss with rounded states or decays less that without",
        "C-D-15",
        "lower",
        "evaluations",
    ),
    Metric("quantisation/<rounding>/perplexity_ratio", "", "the ratio of perplexities", "C-D-15", "lower", "evaluations"),
)

METRICS: tuple[Metric, ...] = (
    *(*HELD_OUT, *CURVES, *ABLATION, *GATES, *GRADIENTS),
    *(*STATES, *VARIANCE, *SOFTMAX, *HEALTH, *RECORD),
    *(*COSTS, *EVALUATIONS),
)
