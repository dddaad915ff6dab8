"""Slices: the same text for every tokenizer, wherever the text lets it end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from data.test_tokenizers import CHAR, TRICKY, write_corpus
from hypothesis import given
from hypothesis import strategies as st

from gt.data import tokenizers
from gt.data.batches import evaluation_windows
from gt.data.slices import EVALUATION_BYTES, border, episode_places, places
from gt.data.tokenizers import load_tokenizer
from gt.data.tokens import Tokens
from gt.errors import ConfigError
from gt.spec import TokenizerSpec

TOKENIZERS = (CHAR, TokenizerSpec(name="bpe", vocab_size=260), TokenizerSpec(name="bpe", vocab_size=500))
DRAW = np.random.default_rng(0)
TEXTS = {
    "English": " ".join(DRAW.choice(["the", "cat", "sat", "on", "mats;", "twice.\n\n", "Thrice!\n"], 60_000)),
    "DNA on one line": "".join(DRAW.choice(list("ACGT"), 200_000)),
    "Chinese": "".join(DRAW.choice(list("天地玄黃宇宙洪荒。，\n"), 60_000)),
    "two bytes a character, spaces": "".join(DRAW.choice(list("éàü  "), 100_000)),
}


@pytest.fixture(scope="module", params=list(TEXTS))
def corpus(request, tmp_path_factory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"), TEXTS[request.param])


@pytest.fixture(scope="module")
def folders(corpus) -> list[Path]:
    for spec in TOKENIZERS:
        tokenizers.prepare(corpus, spec, corpus / spec.id)
    return [corpus / spec.id for spec in TOKENIZERS]


@pytest.mark.parametrize("n_bytes", [1, 1024, 5000, EVALUATION_BYTES])
@pytest.mark.parametrize("split", ["val", "test"])
def test_the_counted_targets_of_every_tokenizer_spell_the_same_bytes(corpus, folders, split, n_bytes):
    text = (corpus / f"{split}.txt").read_bytes()
    sizes = set()
    for folder in folders:
        tokens, tokenizer = Tokens.open(folder), load_tokenizer(folder)
        part = tokens.slice(split, n_bytes)
        targets = evaluation_windows(tokens.marked(split), part, 7)[:, 1:]
        spelt = tokenizer.decode(targets[targets >= 0]).encode()
        assert spelt == text[part.from_byte : part.from_byte + part.n_bytes]
        assert tokenizer.decode(getattr(tokens, split)) == text.decode()
        sizes.add((part.from_byte, part.n_bytes))
    assert len(sizes) == 1
    (from_byte, size) = sizes.pop()
    assert 0 < from_byte <= 1024
    assert min(n_bytes, len(text) - from_byte) <= size <= n_bytes + 2048


def test_a_short_split_is_measured_to_its_last_byte(corpus, folders):
    for folder in folders:
        part = Tokens.open(folder).slice("val", EVALUATION_BYTES)
        assert part.from_byte + part.n_bytes == len((corpus / "val.txt").read_bytes())
        assert part.end == len(Tokens.open(folder).val)


@given(text=TRICKY.filter(bool).map(lambda s: (s * 90).encode()))
def test_places_are_in_order_inside_the_text_and_between_characters(text):
    found = places(text)
    assert found == sorted(found) and found[0] > 0 and found[-1] <= len(text)
    for place in found:
        text[:place].decode()
    assert len(found) == 1 or found[-1] == len(text)  # of so short a text all is in the slice


def test_a_place_is_the_first_end_of_a_word_or_without_any_in_reach_of_a_character():
    assert border(b"In the beginning", 1) == 2 == border(b"In the beginning", 2)
    assert border(b"In the beginning", 3) == 6
    assert border(b"a\nb", 1) == 1
    assert border("é東x".encode(), 1) == 2 and border("é東x".encode(), 3) == 5
    assert border(b"x" * 3000 + b" ", 1) == 1 and border(b"x" * 1000 + b" ", 1) == 1000
    assert border(b"abc", 2) == 2 and border(b"abc", 3) == 3


@given(length=st.integers(8, 3000), n=st.integers(1, 300))
def test_of_episodes_only_whole_ones_are_measured(length, n):
    text = ("가" + "." * (length - 1)) * n
    found = episode_places(text.encode(), length)
    characters = [len(text.encode()[:place].decode()) for place in found]
    assert characters[0] == 1
    assert all((end - 1) % length == 0 or end == len(text) for end in characters)
    assert characters[-1] == len(text) or EVALUATION_BYTES <= characters[-1] - 1 < EVALUATION_BYTES + length


def test_a_split_that_is_all_lead_is_refused(tmp_path):
    corpus = write_corpus(tmp_path, "abcd" * 5)  # one character of val, and of test
    with pytest.raises(ConfigError, match="file:t: its val split is too short: 'c'"):
        tokenizers.prepare(corpus, CHAR, tmp_path / "out")
