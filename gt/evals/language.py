"""Held-out loss, bits per byte and perplexity on fixed slices, and the loss by position.

Bits per byte is the total of the cross-entropies in bits over the bytes of text that they predict. It does not depend on
the vocabulary, and the slice is the same bytes for every tokenizer, so it is the only measure by which models with different
tokenizers are compared. A character that a tokenizer does not know is predicted as "unknown" and counts its true bytes, which
flatters a model: how many there are stands beside it. Of a recall task, all of it is over the answers alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch

from gt.data.batches import evaluation_windows
from gt.data.slices import EVALUATION_BYTES
from gt.data.tokenizers import load_tokenizer
from gt.evals.base import Evaluation
from gt.evals.subject import Subject
from gt.metrics import NATS, SPLIT, Axis, Measurement, Metric
from gt.numbers import exponential
from gt.records import read_json
from gt.training.losses import token_losses

# Corpora whose published perplexities are a word.
WORDS = ("wikitext-2", "wikitext-103")


ORDER = Axis("order", ("uniform", "unigram", "bigram", "trigram"))


class HeldOut(Evaluation):
    """What every run has: its losses on the fixed slices of val and test, by position too, and those of n-gram models."""

    name = "held_out"
    metrics = (
        Metric(
            "<split>/loss",
            "<split> loss in nats per token",
            NATS,
            (SPLIT,),
            "lower",
            "mean cross-entropy on the fixed slice of the split",
            table="runs",
        ),
        Metric(
            "<split>/bits_per_byte",
            "<split> loss in bits per byte",
            "bits/byte",
            (SPLIT,),
            "lower",
            "the same in bits, over the bytes of the slice",
            table="runs",
        ),
        Metric("<split>/perplexity", "<split> perplexity", "", (SPLIT,), "lower", "exp(loss)", table="runs"),
        Metric(
            "<split>/tokens",
            "number of <split> tokens that were predicted",
            "tokens",
            (SPLIT,),
            definition="of the slice",
            table="runs",
        ),
        Metric(
            "<split>/bytes",
            "bytes of <split> text that were predicted",
            "bytes",
            (SPLIT,),
            definition="of the slice",
            table="runs",
        ),
        Metric(
            "<split>/from_byte",
            "first byte of the <split> text that was predicted",
            "bytes",
            (SPLIT,),
            definition="where the slice begins in its split",
            table="runs",
        ),
        Metric(
            "<split>/unknown",
            "characters of the <split> text that the tokenizer does not know",
            "",
            (SPLIT,),
            definition="in the slice",
            table="runs",
        ),
        Metric(
            "<split>/words", "words of the <split> text", "", (SPLIT,), definition="and line ends, WikiText only", table="runs"
        ),
        Metric(
            "<split>/word_perplexity",
            "<split> perplexity per word",
            "",
            (SPLIT,),
            "lower",
            "exp(nats over words and line ends), WikiText only",
        ),
        Metric(
            "<split>/by_position",
            "<split> loss by tokens of context",
            NATS,
            (SPLIT, Axis("context", r"\d+")),
            "lower",
            "loss of targets with so many tokens of context, in octaves",
            "upstream flaw F-40",
        ),
        Metric(
            "ngram/<order>",
            "held-out loss of a <order> model in bits per byte",
            "bits/byte",
            (ORDER,),
            "lower",
            "of an n-gram model of the training split on the validation slice",
            table="runs",
        ),
    )

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        """Of the splits that there are."""
        for split in ("val", "test"):
            if getattr(subject.tokens, split) is not None:
                yield from held_out(subject, split)
        for order, line in read_json(subject.data / "ngram.json").items():
            yield Measurement("ngram/<order>", {"order": order}, line["bits_per_byte"])


@torch.inference_mode()
def held_out(subject: Subject, split: str) -> list[Measurement]:
    """A model on a slice of 131,072 bytes of val or test: loss (nats/token), bits per byte, perplexity, loss by position.

    A loss whose exponential is beyond all floats has no perplexity.
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
    values: dict[str, float] = {
        "loss": nats / n_counted,
        "bits_per_byte": nats / math.log(2) / part.n_bytes,
        "perplexity": exponential(nats / n_counted),
        "tokens": n_counted,
        "bytes": part.n_bytes,
        "from_byte": part.from_byte,
        "unknown": tokenizer.unknown(ids),
    }
    if subject.spec.corpus.name in WORDS:
        n_words = words(tokenizer.decode(ids))
        values |= {"words": n_words, "word_perplexity": exponential(nats / n_words)}
    found = [Measurement(f"<split>/{name}", {"split": split}, value) for name, value in values.items()]
    for context, loss in by_position(losses, counted).items():
        found.append(Measurement("<split>/by_position", {"split": split, "context": context}, loss))
    return found


def by_position(losses: np.ndarray, counted: np.ndarray) -> dict[int, float]:
    """The mean loss of targets with 1, 2 to 3, 4 to 7 ... tokens of context, by the least. Both (windows, length)."""
    result = {}
    for start in (2**i for i in range(losses.shape[1].bit_length())):
        here = slice(start - 1, 2 * start - 1)
        if n := int(counted[:, here].sum()):
            result[start] = float(losses[:, here].sum() / n)
    return result


def words(text: str) -> int:
    """Words as WikiText's word-level models count them (Merity et al. 2016): between white space, and one a line's end."""
    return len(text.split()) + text.count("\n")
