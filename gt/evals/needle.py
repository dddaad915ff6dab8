"""A needle in a haystack of held-out text, for models that were trained on text: is it found, and how much does it help?

A needle is a key and a value of random tokens, put into the val split's text at some depth; after the text the key comes
again, and the model has to go on with the value. As a control the needle in the text has another value. A small language model
finds few or none (the recall tasks are for models that are trained to); the record's test could find none, for its prompt ended
before the needle (flaw F-14). Lengths, keys and values are in tokens, so what is found under one tokenizer is not what is found
under another.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from gt.evals.recall import share
from gt.evals.subject import Subject
from gt.seeds import numpy_stream
from gt.training.losses import cross_entropies

Json = dict[str, Any]
DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
TRIALS = 16  # for each depth and length
KEY = VALUE = 8  # tokens


def needle(subject: Subject) -> Json:
    """Accuracy a value token, exact match, with intervals, and the gain (nats/token) over the control, by length and depth."""
    lengths = [m * subject.length for m in (1, 4)]
    return {"cells": [_cell(subject, length, depth) for length in lengths for depth in DEPTHS]}


def _cell(subject: Subject, length: int, depth: float) -> Json:
    """One length (tokens of haystack) and depth (0: at its start)."""
    if not subject.fits(length + 2 * (KEY + VALUE)) or len(subject.tokens.val) <= length:
        return {"length": length, "depth": depth, "found": None, "exact": None, "gain": None}
    windows, control = (torch.from_numpy(prompts(subject, length, depth, other)) for other in (False, True))
    logits = subject.last_logits(windows[:, :-1].to(subject.device), VALUE).float().cpu()
    right = logits.argmax(-1) == windows[:, -VALUE:]
    gain = subject.last_losses(control, VALUE).mean() - _nats(logits, windows)
    return {
        "length": length,
        "depth": depth,
        "found": share(right.flatten().numpy()),
        "exact": share(right.all(1).numpy()),
        "gain": float(gain),
    }


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
