"""A needle in a haystack of held-out text, for models that were trained on text: is it found, and how much does it help?

A needle is a key and a value of random tokens, put into the val split's text at some depth; after the text the key comes
again, and the model has to go on with the value. As a control the needle in the text has another value. A small language model
finds few or none (the recall tasks are for models that are trained to); the record's test could find none, for its prompt ended
before the needle (flaw F-14). Lengths, keys and values are in tokens, so what is found under one tokenizer is not what is found
under another.
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean

import numpy as np
import torch
from torch import Tensor

from gt.evals.base import Evaluation
from gt.evals.recall import share
from gt.evals.subject import Subject
from gt.metrics import NATS, Axis, Measurement, Metric
from gt.seeds import numpy_stream
from gt.training.losses import cross_entropies

DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
TRIALS = 16  # for each depth and length
KEY = VALUE = 8  # tokens


DEPTH, LENGTH = Axis("depth", ("0", "0.25", "0.5", "0.75", "1")), Axis("length", r"\d+")  # of the haystack, in tokens
REPAIRED = "upstream flaw F-14"


class Needle(Evaluation):
    """How much of a needle in held-out text is repeated, and what having seen it saves, by length and depth and over both."""

    name = "needle"
    on = "texts"
    metrics = (
        Metric(
            "needle/found",
            "share of a needle's tokens that are repeated",
            better="higher",
            definition="share of a needle's tokens repeated, zero-shot in held-out text",
            source=REPAIRED,
        ),
        Metric(
            "needle/exact",
            "share of needles that are repeated whole",
            better="higher",
            definition="share of needles repeated whole: NIAH, repaired",
            source="C-NIAH",
        ),
        Metric(
            "needle/gain",
            "loss saved by having seen the needle",
            NATS,
            better="higher",
            definition="loss of the value where the needle had another, less its loss",
            source=REPAIRED,
        ),
        Metric(
            "needle/found/depth_<depth>",
            "share of a needle's tokens that are repeated from depth <depth>",
            axes=(DEPTH, LENGTH),
            better="higher",
            definition="needle/found at a depth and length of haystack",
            source=REPAIRED,
        ),
        Metric(
            "needle/exact/depth_<depth>",
            "share of needles that are repeated whole from depth <depth>",
            axes=(DEPTH, LENGTH),
            better="higher",
            definition="needle/exact at a depth and length of haystack",
            source=REPAIRED,
        ),
        Metric(
            "needle/gain/depth_<depth>",
            "loss saved by having seen the needle at depth <depth>",
            NATS,
            axes=(DEPTH, LENGTH),
            better="higher",
            definition="needle/gain at a depth and length of haystack",
            source=REPAIRED,
        ),
    )

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        """Found and exact are shares with intervals; the gain is in nats a token."""
        whole: dict[str, list[float | None]] = {}
        for length in (subject.length, 4 * subject.length):
            for depth in DEPTHS:
                for own in _at(subject, length, depth):
                    whole.setdefault(own.metric.removesuffix("/depth_<depth>"), []).append(own.value)
                    yield own
        for metric, values in whole.items():
            known = [value for value in values if value is not None]
            yield Measurement(metric, {}, fmean(known) if known else None)


def _at(subject: Subject, length: int, depth: float) -> Iterator[Measurement]:
    """One length (tokens of haystack) and depth (0: at its start); nothing where the model or the text is too short."""
    if not subject.fits(length + 2 * (KEY + VALUE)) or len(subject.tokens.val) <= length:
        return
    windows, control = (torch.from_numpy(prompts(subject, length, depth, other)) for other in (False, True))
    logits = subject.last_logits(windows[:, :-1].to(subject.device), VALUE).float().cpu()
    right = logits.argmax(-1) == windows[:, -VALUE:]
    gain = subject.last_losses(control, VALUE).mean() - _nats(logits, windows)
    place = {"depth": depth, "length": length}
    yield share("needle/found/depth_<depth>", right.flatten().numpy(), **place)
    yield share("needle/exact/depth_<depth>", right.all(1).numpy(), **place)
    yield Measurement("needle/gain/depth_<depth>", {**place}, float(gain))


def prompts(subject: Subject, length: int, depth: float, other: bool) -> np.ndarray:
    """(TRIALS, length + 2 needles): text with a needle in it, then key and value. other: the needle's value is another."""
    text = np.asarray(subject.tokens.val)
    stream = numpy_stream(0, "needle", length, str(depth))
    starts = stream.integers(len(text) - length, size=TRIALS)
    hay = text[starts[:, None] + np.arange(length)].astype(np.int64)
    alphabet = np.unique(text[:100_000])
    key, value, wrong = (
        alphabet[stream.integers(len(alphabet), size=(TRIALS, n))].astype(np.int64) for n in (KEY, VALUE, VALUE)
    )
    at = round(depth * length)
    return np.concatenate([hay[:, :at], key, wrong if other else value, hay[:, at:], key, value], axis=1)


def _nats(logits: Tensor, windows: Tensor) -> Tensor:
    return cross_entropies(logits, windows[:, -VALUE:]).double().mean()
