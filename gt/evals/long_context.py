"""Does more context help, and up to where? The same tokens, predicted with shorter and longer contexts.

A model trained at length T reads windows of c tokens that all end at the same places, for c from T / 8 to 16 T or less, and its
losses are taken on the last T / 16 of them. As a control all of a window but its last T / 8 tokens is in random order: what it
then still gains, it gains from which tokens occur, not from what they say. A model is compared with itself here, in tokens and
in nats a token: of models with different tokenizers neither the targets nor the contexts are the same text. (The record
compared other tokens at each length, on an untrained model, or counted the first tokens of short windows: flaws F-13 and F-40.)
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import linear_regression
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from gt.errors import ConfigError
from gt.evals.base import Evaluation
from gt.evals.subject import Subject
from gt.metrics import NATS, Axis, Measurement, Metric
from gt.numbers import exponential
from gt.options import Count, Options
from gt.seeds import numpy_stream

# Targets in all where none are asked for: what a context costs grows with its length.
TARGETS = {"cpu": 512, "cuda": 1024}
# They lie among so many tokens, or more where they are more.
AMONG = 131_072
# The window of a model is where it has so much of what any context gives.
ENOUGH = 0.95
# A perplexity that is higher by no more than this counts as held (claim C-D-03).
HELD = 1.05


CONTEXT = Axis("context", r"\d+")
OTHER_TOKENS, SHORT_WINDOWS = "upstream flaw F-13", "upstream flaw F-40"


class LongContext(Evaluation):
    """The loss of the same tokens in contexts from an eighth of the trained length to 16 times it."""

    name = "long_context"
    on = "texts"

    class Config(Options):
        targets: Annotated[Count | None, Field(description="tokens in all; by default 1024 on a GPU, and 512 on a CPU")] = None
        longest: Annotated[Literal[1, 2, 4, 8, 16], Field(description="window, as a multiple of the trained length")] = 16

    metrics = (
        Metric(
            "context/loss",
            "loss in windows of a length",
            NATS,
            (CONTEXT,),
            "lower",
            "of the same tokens, read in windows of so many",
            f"{OTHER_TOKENS}, F-40",
        ),
        Metric(
            "context/shuffled_loss",
            "loss in windows of a length whose context is shuffled",
            NATS,
            (CONTEXT,),
            None,
            "the same, all but the last T/8 in random order: the control",
            OTHER_TOKENS,
        ),
        Metric(
            "context/gain",
            "loss less in windows of a length than in the shortest",
            NATS,
            (CONTEXT,),
            "higher",
            "context/loss at the shortest window less that at this one",
            SHORT_WINDOWS,
        ),
        Metric(
            "context/gain_se",
            "standard error of the loss less in windows of a length than in the shortest",
            NATS,
            (CONTEXT,),
            "lower",
            "of context/gain, over windows",
        ),
        Metric(
            "context/perplexity_ratio",
            "perplexity in windows of a length over that at the trained length",
            "",
            (CONTEXT,),
            "lower",
            "perplexity at this window over that at T",
            "C-D-03",
        ),
        Metric(
            "context/slope",
            "slope of the loss per octave of window length",
            f"{NATS} an octave",
            (),
            "lower",
            "of context/loss from T/8 to T",
            "C-LRD",
        ),
        Metric(
            "context/useful_window",
            "useful context in tokens",
            "tokens",
            (),
            "higher",
            "UCW: the least window with 95 % of the gain of the best over the shortest; none where there is no gain",
            "V5_GATING.md (UCW)",
        ),
        Metric(
            "context/held_to",
            "longest window that holds the perplexity of the trained length",
            "T",
            (),
            "higher",
            "the largest k with perplexity(k' T) <= 1.05 perplexity(T), k' <= k",
            "C-D-03",
        ),
    )

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        """For each context the loss (nats/token), the gain over the shortest with its standard error, and what follows.

        `useful_window`: the least context (tokens) with 95 % of the gain of the best over the shortest; none where no gain is
        beyond chance (paired t over windows, one-sided, p < 0.05). Larger is better. `held_to`: the largest k such that no
        context from T to k T has more than 1.05 times the perplexity of context T. A context for which the model has no
        positions, or the val split no room, has no losses.
        """
        length, text = subject.length, np.asarray(subject.tokens.val)
        shortest, n = max(2, length // 8), max(1, length // 16)
        doublings = range((8 * self.config.longest).bit_length())
        possible = [c for i in doublings if (c := shortest * 2**i) + 2 * n < len(text)]
        if not possible:
            raise ConfigError(f"long_context: the val split has {len(text):,} tokens, too few for windows of {shortest}.")
        # The same for every model, also where one has no positions for the longest.
        wanted = self.config.targets or TARGETS[subject.device.type]
        last = min(len(text), max(possible) + max(AMONG, wanted)) - n
        targets = np.unique(np.linspace(max(possible), last, wanted // n, dtype=np.int64))
        both = {c: _losses(subject, text, targets, n, c, shortest) for c in possible if subject.fits(c)}
        losses, shuffled = ({c: pair[i] for c, pair in both.items()} for i in (0, 1))
        means = {context: float(loss.mean()) for context, loss in losses.items()}
        for context, mean in means.items():
            gain = losses[shortest] - losses[context]
            yield Measurement("context/loss", {"context": context}, mean)
            yield Measurement("context/shuffled_loss", {"context": context}, float(shuffled[context].mean()))
            yield Measurement("context/gain", {"context": context}, float(gain.mean()))
            error = float(gain.std(correction=0) / math.sqrt(len(gain)))
            yield Measurement("context/gain_se", {"context": context}, error)
        finite = {c: loss for c, loss in losses.items() if bool(loss.isfinite().all())}
        yield Measurement("context/useful_window", {}, useful_window(finite))
        yield Measurement("context/held_to", {}, held_to(means, length))
        known = {context: means[context] for context in finite}
        if length in known:
            for context, mean in known.items():
                yield Measurement("context/perplexity_ratio", {"context": context}, exponential(mean - known[length]))
        if (own := slope({context: mean for context, mean in known.items() if context <= length})) is not None:
            yield Measurement("context/slope", {}, own)


def slope(losses: dict[int, float]) -> float | None:
    """losses: context -> mean loss. Nats a token for each doubling of the context; None of fewer than two."""
    if len(losses) < 2:
        return None
    return float(linear_regression([math.log2(context) for context in losses], list(losses.values())).slope)


def useful_window(losses: dict[int, Tensor]) -> int | None:
    """losses: context -> the mean loss of each window, the same windows in the same order. None also where there are none."""
    if not losses:
        return None
    shortest = min(losses)
    means = {context: float(loss.mean()) for context, loss in losses.items()}
    best = min(means, key=lambda context: means[context])
    gain = (losses[shortest] - losses[best]).numpy()
    if best == shortest or not _is_positive(gain):
        return None
    enough = means[shortest] - ENOUGH * (means[shortest] - means[best])
    return min(context for context, mean in means.items() if mean <= enough)


def _is_positive(gain: np.ndarray) -> bool:
    """Whether the mean is above zero beyond chance; the same gain in every window is certain."""
    from scipy import stats

    return bool(np.ptp(gain) == 0 or stats.ttest_1samp(gain, 0.0, alternative="greater").pvalue < 0.05)


def held_to(losses: dict[int, float], length: int) -> float | None:
    """losses: context -> mean loss (nats/token). None where the trained length itself was not measured."""
    if length not in losses:
        return None
    held = 1.0
    for context in sorted(c for c in losses if c > length):
        if not losses[context] - losses[length] <= math.log(HELD):  # nor if it is not a number
            break
        held = context / length
    return held


def _losses(subject: Subject, text: np.ndarray, targets: np.ndarray, n: int, context: int, in_order: int) -> Tensor:
    """The mean loss of the n tokens from each place of `targets`, read in windows of `context` tokens, and in the same windows
    with all but the last `in_order` tokens in random order: (2, windows).
    """
    windows = text[targets[:, None] + np.arange(n - 1 - context, n)].astype(np.int64)
    order = numpy_stream(0, "long_context", context).random((len(windows), context - in_order)).argsort(1)
    shuffled = windows.copy()
    shuffled[:, : context - in_order] = np.take_along_axis(windows, order, axis=1)
    return subject.last_losses(torch.from_numpy(np.concatenate([windows, shuffled])), n).mean(1).view(2, -1)
