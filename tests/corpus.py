"""A small text with structure to learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gt.data import corpora, tokenizers
from gt.data.sums import file_sha256
from gt.spec import TokenizerSpec, corpus_spec


def words(folder: Path) -> Path:
    """A folder of tokens: 5000 words out of 30, in characters."""
    rng = np.random.default_rng(0)
    vocabulary = ["".join(rng.choice(list("abcdefgh"), 4)) for _ in range(30)]
    text = folder / "words.txt"
    text.write_text(" ".join(rng.choice(vocabulary, 5000)))
    corpora.prepare(corpus_spec("file:words", sha256=file_sha256(text)), folder, text)
    tokenizers.prepare(folder, TokenizerSpec(name="char"), folder / "char")
    return folder / "char"
