"""Tokens without structure: how long a step takes does not depend on what is learned."""

from __future__ import annotations

import numpy as np

from gt.data.slices import STEP, Places
from gt.data.tokens import Tokens
from gt.seeds import numpy_stream
from gt.spec import RunSpec

# As many characters as tiny Shakespeare has; their kinds, and the unknown one.
TRAIN, VALIDATION, VOCABULARY = 1_003_854, 111_540, 66


def noise_for(spec: RunSpec) -> Tokens:
    """With the vocabulary of a run."""
    return noise(vocabulary(spec))


def vocabulary(spec: RunSpec) -> int:
    """Tokens that a run would know, if it were trained on tiny Shakespeare."""
    return spec.tokenizer.vocab_size or VOCABULARY


def noise(vocab_size: int) -> Tokens:
    """Every token about equally often."""
    draw = numpy_stream(0, "bench")
    train, val = (draw.integers(vocab_size, size=n).astype(np.uint16) for n in (TRAIN, VALIDATION))
    cuts = list(range(1, VALIDATION, STEP))  # a token is a byte
    return Tokens(vocab_size, train, val, None, np.ones(vocab_size, dtype=np.int64), "noise", {"val": Places(cuts, cuts)})
