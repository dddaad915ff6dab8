"""What metrics are called in sentences, for readers who do not know their names. `gt.probes.metrics` defines them."""

from __future__ import annotations

import re
from collections.abc import Callable

from gt.probes.metrics import PLACES, metric

# A noun phrase for each registered name, with the same places.
PHRASES = {
    "val/loss": "held-out loss in nats per token",
    "val/bits_per_byte": "held-out loss in bits per byte",
    "val/perplexity": "held-out perplexity",
    "test/loss": "test loss in nats per token",
    "test/bits_per_byte": "test loss in bits per byte",
    "ngram/<order>": "held-out loss of a <order> model in bits per byte",
    "gate/final": "mean gate weight at the last logged step",
    "tokens_per_second": "training tokens per second",
    "seconds": "training time in seconds",
    "peak_memory_bytes": "peak memory of training in bytes",
    "n_params": "number of parameters",
    "n_params_non_embedding": "number of parameters without embeddings",
    "state_size": "floats carried from token to token",
    "flops_per_token": "forward FLOPs per token",
    # curves
    "train/loss": "training loss in nats per token",
    "grad_norm": "gradient norm of the whole model in training",
    "grad_norm/<part>": "gradient norm of <part> in training",
    "update_ratio/<part>": "update size of <part> relative to the weights",
    "grad_cosine/<part>": "cosine of successive gradients of <part>",
    "gate/layer_<layer>": "mean gate weight in layer <layer> in training",
    # ablation
    "ablation/intact": "loss of the intact model on the ablation slice",
    "ablation/zero/<branch>": "loss added by zeroing the <branch> branch",
    "ablation/mean/<branch>": "loss added by replacing the <branch> branch with its mean",
    "ablation/shuffle/<branch>": "loss added by giving the <branch> branch's output for another text",
    "ablation/share/<branch>": "share of the <branch> branch in the loss added by zeroing either",
    "ablation/ratio": "loss added by zeroing the first branch over that of the second",
    # gates
    "gate/mean": "mean gate weight of the first branch",
    "gate/lowest_layer": "mean gate weight of the layer with the lowest",
    "gate/highest_layer": "mean gate weight of the layer with the highest",
    "gate/std_positions": "spread of the gate over positions",
    "gate/std_channels": "spread of the gate over channels",
    "gate/outer_quarter": "share of gates near 0 or 1",
    "gate/histogram/<bin>": "share of gates from <bin>",
    "gate/class/<class>": "mean gate weight at <class>",
    "gate/drift": "change of the mean gate weight over training",
    "gate/advantage_correlation": "correlation of the gate with how much better the first branch predicts",
    "fusion/projection_ratio": "weight of the second branch over that of the first in a joint projection",
    # gradients
    "gradient/ratio": "ratio R/M of the branches' gradient norms",
    "gradient/tensor_ratio": "ratio R/M of the branches' gradient norms averaged over tensors",
    "gradient/logit_ratio": "ratio R/M of the branches' gradient norms for the mean logit",
    "gradient/odds_corrected_ratio": "ratio R/M of the branches' gradient norms over the gate's odds",
    "gradient/norm/<part>": "gradient norm of <part> on held-out text",
    "gradient/snr/<part>": "signal-to-noise ratio of the gradient of <part>",
    "gradient/independence/<branch>": "cosine of the <branch> branch's gradients with and without the other branch",
    "gradient/reach": "gradient of the last target's loss at the first input over that at the last",
    "gradient/curve_ratio": "ratio R/M of the branches' gradient norms at the last logged step",
    "gradient/curve_odds_corrected_ratio": "ratio R/M of the branches' gradient norms over the gate's odds at the last step",
    "gradient/smoothness/<part>": "cosine of successive gradients of <part> averaged over training",
    "gradient/update_ratio/<part>": "update size of <part> relative to the weights late in training",
    # states
    "state/size_ratio": "floats in the returned states over those counted",
    "state/norm/<branch>/<length>": "norm of the <branch> state after <length>",
    "state/rms/<branch>": "root mean square of the <branch> state",
    "state/rms_ratio": "root mean square of the first branch's state over the second's",
    "state/growth/<branch>": "growth of the <branch> state's norm from 1 to 4 trained lengths",
    "state/growth_8x/<branch>": "growth of the <branch> state's norm from half a trained length to 4",
    "state/change/<branch>": "norm of the <branch> state's change over the second half of the trained length",
    "state/repeat_difference": "largest difference of states when a text is read again",
    "state/variance/<branch>": "variance of the <branch> state",
    "state/variance_ratio": "variance of the first branch's state over the second's",
    "state/input_variance/<branch>": "variance of the <branch> state over inputs",
    "state/input_share/<branch>": "share of the <branch> state that depends on the input",
    "state/repeated_token_variance/<branch>": "variance of the <branch> state after one token repeated",
    "state/effective_rank/<branch>": "effective rank of the <branch> state",
    "state/rank_share/<branch>": "effective rank of the <branch> state over the largest possible",
    "state/entropy/<branch>": "entropy of the <branch> state over the largest possible",
    "state/saturation/<branch>": "share of the <branch> state's elements that hardly vary over inputs",
    "state/cosine/<branch>": "cosine of the <branch> states of two inputs",
    "state/retention/<branch>": "share of the <branch> state that survives each of many tokens",
    "state/retention_1/<branch>": "share of the <branch> state that survives one token",
    "state/response/<branch>": "relative change of the <branch> state when the first token is another",
    "response/logits": "relative change of the logits when the first token is another",
    "response/logits_4x": "relative change of the logits after 4 trained lengths when the first token is another",
    "long_range/perplexity_ratio": "perplexity of the last of 4 trained lengths over that of the first",
    # variance
    "variance/embedding": "variance of the embedding",
    "variance/residual": "variance of the residual stream after the last block",
    "variance/branch/<branch>": "variance of the <branch> branch's output",
    "variance/branch_ratio": "variance of the first branch's output over the second's",
    "variance/fused": "variance of the fusion's output",
    "variance/feed_forward": "variance of the feed-forward layers' output",
    "variance/over_embedding": "variance after the last block over that of the embedding",
    "variance/over_first": "variance after the last block over that after the first",
    "std/over_embedding": "standard deviation after the last block over that of the embedding",
    "std/over_first": "standard deviation after the last block over that after the first",
    "rms/residual": "root mean square of the residual stream after the last block",
    "rms/branch/<branch>": "root mean square of the <branch> branch's output",
    "variance/noise_gain/<branch>": "variance of the <branch> mixer's output on N(0, 1) inputs",
    "branch/cosine": "cosine of the two branches' outputs",
    # predictions
    "softmax/entropy": "entropy of the prediction in nats",
    "softmax/entropy_ratio": "entropy of the prediction over that of a uniform one",
    "softmax/max_probability": "largest probability of the prediction",
    "softmax/saturated": "share of positions with a probability above .99",
    "softmax/largest_logit": "largest absolute logit",
    "softmax/logit_range": "largest less smallest logit of a position",
    # health
    "forward/finite": "share of logits that are finite",
    "curve/loss_ratio": "last validation loss over that before training",
    "curve/grad_norm": "last logged gradient norm",
    "flag/second_half": "share of the loss's fall that the second half of training brought",
    "flag/generalisation_gap": "validation less training loss at the end of training",
    "flag/utilisation": "share of the device's peak FLOP/s that training used",
    "flag/unused_parameters": "share of parameters without a gradient",
    "parameters/<part>": "number of parameters of <part>",
    # as the record measured
    "record/gradient_ratio": "ratio R/M of the branches' gradient norms as the record took it",
    "record/state_norm/<branch>": "norm of the <branch> state as the record took it",
    "record/state_growth/<branch>": "growth of the <branch> state as the record took it",
    "record/state_variance_ratio": "variance of the first branch's state over the second's as the record took it",
    "record/input_variance/<branch>": "variance of the <branch> state over inputs as the record took it",
    "record/state_norm_share": "second branch's share of the state norms as the record took it",
    "record/response": "relative change of the logits to the first token as the record took it",
    # costs
    "tokens_per_dollar": "training tokens per dollar",
    "north_star": "training tokens per dollar over held-out perplexity (N*)",
    "compute_efficiency": "inverse of held-out perplexity times forward GFLOPs per token",
    # evaluations
    "<split>/by_position": "<split> loss by tokens of context",
    "<split>/word_perplexity": "<split> perplexity per word",
    "context/loss": "loss in windows of a length",
    "context/shuffled_loss": "loss in windows of a length whose context is shuffled",
    "context/gain": "loss less in windows of a length than in the shortest",
    "context/perplexity_ratio": "perplexity in windows of a length over that at the trained length",
    "context/slope": "slope of the loss per octave of window length",
    "context/useful_window": "useful context in tokens",
    "context/held_to": "longest window that holds the perplexity of the trained length",
    "recall/<task>/accuracy": "accuracy on the recall task `<task>`",
    "recall/<task>/by_items": "accuracy on the recall task `<task>` by number of items",
    "recall/<task>/by_distance": "accuracy on the recall task `<task>` by distance",
    "recall/<task>/by_length": "accuracy on the recall task `<task>` by length",
    "recall/<task>/episodes": "share of episodes of the recall task `<task>` without a mistake",
    "recall/<task>/control": "accuracy on the recall task `<task>` without what is asked for",
    "recall/<task>/chance": "accuracy of a guess on the recall task `<task>`",
    "recall/<task>/persistence": "persistence score on the recall task `<task>`",
    "needle/found": "share of a needle's tokens that are repeated",
    "needle/exact": "share of needles that are repeated whole",
    "needle/gain": "loss saved by having seen the needle",
    "needle/found/depth_<depth>": "share of a needle's tokens that are repeated from depth <depth>",
    "needle/exact/depth_<depth>": "share of needles that are repeated whole from depth <depth>",
    "needle/gain/depth_<depth>": "loss saved by having seen the needle at depth <depth>",
    "generation/tokens_per_second": "generated tokens per second",
    "generation/state_bytes": "bytes carried from token to token",
    "generation/peak_bytes": "peak memory of generation in bytes",
    "cost/flops_per_token/batch_<batch>": "forward FLOPs per token in batches of <batch>",
    "cost/state_size/batch_<batch>": "floats carried from token to token in batches of <batch>",
    "cost/forward_tokens_per_second/batch_<batch>": "forward tokens per second in batches of <batch>",
    "cost/forward_peak_bytes/batch_<batch>": "peak memory of a forward pass in bytes in batches of <batch>",
    "cost/training_tokens_per_second/batch_<batch>": "training tokens per second in batches of <batch>",
    "cost/training_peak_bytes/batch_<batch>": "peak memory of a training step in bytes in batches of <batch>",
    "cost/north_star": "training tokens per dollar over perplexity by window length (N*)",
    "quantisation/<rounding>/difference": "loss added by rounding <rounding>",
    "quantisation/<rounding>/perplexity_ratio": "perplexity with rounding <rounding> over that without",
}

BRANCHES = {"r": "RWKV", "m": "Mamba", "a": "attention"}
PARTS = {
    "mixer_gain": "the mixers' gains",
    "fusion": "the fusion",
    "feed_forward": "the feed-forward layers",
    "feed_forward_gain": "the feed-forward layers' gains",
    "embedding": "the embedding",
    "norm": "the norms",
}
CLASSES = {"frequent": "frequent tokens", "rare": "rare tokens", "first": "new tokens", "repeated": "repeated tokens"}
SPLITS = {"val": "held-out", "test": "test"}
BITS = {"int8": "to 8 bits", "fp16": "to half precision"}


def _branch(letter: str) -> str:
    return BRANCHES.get(letter, letter)


def _part(name: str) -> str:
    return PARTS[name] if name in PARTS else f"the {_branch(name[-1])} branch"


def _rounding(name: str) -> str:
    what, *mixer, kind = name.split("/")
    whose = {"mamba2": "Mamba-2's states", "rwkv6": "RWKV-6's states"}[mixer[0]] if mixer else what.replace("_", " ") + "s"
    return f"{whose} {BITS[kind]}"


# What stands in a place, as a sentence has it; as it is where nothing is said of it.
WORDS: dict[str, Callable[[str], str]] = {
    "<branch>": _branch,
    "<part>": _part,
    "<class>": lambda name: CLASSES.get(name, name),
    "<bin>": lambda digit: f"0.{digit} to {(int(digit) + 1) / 10:g}",
    "<length>": lambda times: f"{times} times the trained length",
    "<split>": lambda name: SPLITS[name],
    "<rounding>": _rounding,
}


def phrase(name: str) -> str:
    """What a metric is called in a sentence: `ablation/zero/m` is the loss added by zeroing the Mamba branch.

    ConfigError for a name that is not registered.
    """
    template = metric(name).name
    places = re.findall("<[a-z]+>", template)
    expression = re.escape(template)
    for place in places:
        expression = expression.replace(place, f"({PLACES[place]})")
    found = re.fullmatch(f"(?:initial/)?{expression}", name)
    assert found is not None, "what the registry has found is of the template"
    said = PHRASES[template]
    for place, value in zip(places, found.groups(), strict=True):
        said = said.replace(place, WORDS.get(place, str)(value))
    return f"initial {said}" if name.startswith("initial/") else said
