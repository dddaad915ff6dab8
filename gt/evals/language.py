"""Held-out loss, bits per byte and perplexity on fixed slices, and the loss by position.

Bits per byte is the total of the cross-entropies in bits over the bytes of text that they predict. It does not depend on
the vocabulary, and the slice is the same bytes for every tokenizer, so it is the only measure by which models with different
tokenizers are compared. A character that a tokenizer does not know is predicted as "unknown" and counts its true bytes, which
flatters a model: how many there are stands beside it. Of a recall task, all of it is over the answers alone.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from gt.data.batches import evaluation_windows
from gt.data.slices import EVALUATION_BYTES
from gt.data.tokenizers import load_tokenizer
from gt.evals.subject import Subject
from gt.numbers import exponential
from gt.training.losses import token_losses

Json = dict[str, Any]
# Corpora whose published perplexities are a word.
WORDS = ("wikitext-2", "wikitext-103")


@torch.inference_mode()
def held_out(subject: Subject, split: str) -> Json:
    """A model on a slice of 131,072 bytes of val or test: loss (nats/token), bits per byte, perplexity, loss by position.

    A loss whose exponential is beyond all floats has an infinite perplexity.
    """
    length = subject.length
    part = subject.tokens.slice(split, EVALUATION_BYTES)
    windows = torch.from_numpy(evaluation_windows(subject.tokens.marked(split), part, length, subject.tokens.borders(split)))
    batches = windows.split(subject.at_once(length))
    precision = subject.spec.training.precision
    nats_of = torch.cat([token_losses(subject.model, batch.to(subject.device), precision).double().cpu() for batch in batches])
    losses, counted = nats_of.view(len(windows), length).numpy(), windows[:, 1:].numpy() >= 0
    nats, n_counted = float(losses.sum()), int(counted.sum())
    ids, tokenizer = np.asarray(getattr(subject.tokens, split)[part.first : part.end]), load_tokenizer(subject.data)
    result = {
        "loss": nats / n_counted,
        "bits_per_byte": nats / math.log(2) / part.n_bytes,
        "perplexity": exponential(nats / n_counted),
        "tokens": n_counted,
        "bytes": part.n_bytes,
        "from_byte": part.from_byte,
        "unknown": tokenizer.unknown(ids),
        "by_position": by_position(losses, counted),
    }
    if subject.spec.corpus.name in WORDS:
        n_words = words(tokenizer.decode(ids))
        result |= {"words": n_words, "word_perplexity": exponential(nats / n_words)}
    return result


def by_position(losses: np.ndarray, counted: np.ndarray) -> list[Json]:
    """The mean loss of targets with 1, 2 to 3, 4 to 7 ... tokens of context. losses, counted: (windows, length)."""
    starts = [2**i for i in range(losses.shape[1].bit_length())]
    result = []
    for start in starts:
        here = slice(start - 1, 2 * start - 1)
        if n := int(counted[:, here].sum()):
            result.append({"context": start, "to": min(2 * start - 1, losses.shape[1]), "loss": losses[:, here].sum() / n})
    return result


def words(text: str) -> int:
    """Words as WikiText's word-level models count them (Merity et al. 2016): between white space, and one a line's end."""
    return len(text.split()) + text.count("\n")
