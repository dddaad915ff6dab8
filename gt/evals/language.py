"""Held-out loss, bits per byte and perplexity on fixed slices, and the loss by position.

Bits per byte is the total of the cross-entropies in bits over the bytes of text that they predict. It does not depend on
the vocabulary, so it is the only measure by which models with different tokenizers are compared. Of a recall task, all of it is
over the answers alone.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from gt.data.batches import EVALUATION_TOKENS, evaluation_windows
from gt.data.tokenizers import load_tokenizer
from gt.evals.subject import Subject
from gt.training.losses import token_losses

Json = dict[str, Any]
# Corpora whose published perplexities are a word.
WORDS = ("wikitext-2", "wikitext-103")


@torch.inference_mode()
def held_out(subject: Subject, split: str) -> Json:
    """A model on the first 131,072 targets of val or test: loss (nats/token), bits per byte, perplexity, loss by position."""
    length = subject.length
    windows = torch.from_numpy(evaluation_windows(subject.tokens.marked(split), length, EVALUATION_TOKENS, split))
    batches = windows.split(subject.at_once(length))
    precision = subject.spec.training.precision
    nats_of = torch.cat([token_losses(subject.model, batch.to(subject.device), precision).double().cpu() for batch in batches])
    losses, targets = nats_of.view(len(windows), length).numpy(), windows[:, 1:].numpy()
    counted = targets >= 0
    nats, n_bytes = float(losses.sum()), int(np.asarray(subject.tokens.token_bytes)[targets[counted]].sum())
    loss = nats / int(counted.sum())
    result = {
        "loss": loss,
        "bits_per_byte": nats / math.log(2) / n_bytes,
        "perplexity": math.exp(loss),
        "tokens": int(counted.sum()),
        "bytes": n_bytes,
        "by_position": by_position(losses, counted),
    }
    if subject.spec.corpus.name in WORDS:
        n_words = words(load_tokenizer(subject.data).decode(targets.ravel()))
        result |= {"words": n_words, "word_perplexity": math.exp(nats / n_words)}
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
