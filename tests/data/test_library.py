"""The tokenizers that go with an exported model encode and decode as ours."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Library

from gt.data.codecs import BpeTokenizer, CharTokenizer, Tokenizer
from gt.data.library import library_tokenizer, sum_of, to_json

TEXT = "First Citizen:\nBefore we proceed any further, hear me speak.\n\nAll:\n  Speak, speak – naïve café! 中文 \t end.\n" * 30
# Known characters, others, white space of all kinds, and what libraries look for.
TEXTS = st.lists(
    st.one_of(
        st.text(alphabet=sorted(set(TEXT)), max_size=40),
        st.text(max_size=10),
        st.sampled_from(["<unk>", "<|endoftext|>", "[PAD]", "\ufffd", "\r\n", "\u2028", "  \n  ", "x" * 3000, "'s", "123"]),
    ),
    max_size=8,
).map("".join)


@cache
def fitted(kind: str) -> tuple[Tokenizer, Library]:
    """A tokenizer of ours, and what its file is to the library."""
    own: Tokenizer = CharTokenizer.fit([TEXT]) if kind == "char" else BpeTokenizer.fit([TEXT], 400)
    return own, Library.from_str(to_json(library_tokenizer(own)))


@pytest.mark.parametrize("kind", ["char", "bpe"])
@settings(max_examples=50)
@given(text=TEXTS)
@example(TEXT)
@example("<unk>")
def test_a_text_has_the_same_tokens_and_they_the_same_text(kind: str, text: str) -> None:
    own, library = fitted(kind)
    ids = own.encode(text)
    assert library.encode(text).ids == ids.tolist()
    assert library.decode(ids.tolist(), skip_special_tokens=False) == own.decode(ids)


@pytest.mark.parametrize("kind", ["char", "bpe"])
def test_it_has_as_many_tokens_and_none_that_is_special(kind: str) -> None:
    own, library = fitted(kind)
    assert library.get_vocab_size() == own.vocab_size
    assert library.get_added_tokens_decoder() == {}


def test_an_unknown_character_is_read_as_ours_reads_it_though_it_is_the_replacement_itself() -> None:
    own = CharTokenizer.fit(["ab\ufffd"])
    library = library_tokenizer(own)
    ids = own.encode("a\ufffd?b")
    np.testing.assert_array_equal(ids, [1, 3, 0, 2])
    assert library.encode("a\ufffd?b").ids == ids.tolist()
    assert library.decode(ids.tolist()) == own.decode(ids) == "a\ufffd\ufffdb"


def test_the_sum_is_of_what_decides_the_tokens_alone() -> None:
    (char, library), (_, bpe) = fitted("char"), fitted("bpe")
    assert sum_of(library) == sum_of(library_tokenizer(char))
    library.enable_truncation(7)
    assert sum_of(library) == sum_of(library_tokenizer(char))
    library.no_truncation()
    assert len({sum_of(library), sum_of(bpe), sum_of(library_tokenizer(CharTokenizer.fit([TEXT + "ß"])))}) == 3
