"""Tokenizers: exact round trips, fitted on train alone, the same in every process."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, pre_tokenizers, trainers

from gt.data import corpora, tokenizers
from gt.data.codecs import BpeTokenizer, CharTokenizer, pieces
from gt.data.sums import file_sha256
from gt.data.tokenizers import load_tokenizer
from gt.data.tokens import Tokens
from gt.errors import ConfigError
from gt.records import read_json
from gt.spec import TokenizerSpec, corpus_spec

CHAR = TokenizerSpec(name="char")
BPE = TokenizerSpec(name="bpe", vocab_size=300)
# Text in which borders of words, runs of white space and characters of several bytes are frequent.
TRICKY = st.text(st.sampled_from(list("ab'1.é東 \n\t\r\u00a0\u3000 \n")), max_size=80)


def write_corpus(folder: Path, text: str) -> Path:
    path = folder / "t.txt"
    path.write_bytes(text.encode())
    corpora.prepare(corpus_spec("file:t", sha256=file_sha256(path)), folder / "corpus", path)
    return folder / "corpus"


@pytest.fixture(scope="module")
def bpe() -> BpeTokenizer:
    return BpeTokenizer.fit(["the cat's 12 mice;  the hat\n\nthe bat, naïve 東京\n" * 9], 300)


@given(text=st.text())
def test_bpe_round_trips_any_text_and_counts_its_bytes(bpe, text):
    ids = bpe.encode(text)
    assert bpe.decode(ids) == text
    assert bpe.token_bytes[ids].sum() == len(text.encode())
    assert bpe.unknown(ids) == 0


@given(text=st.text(min_size=1))
def test_char_round_trips_the_characters_it_was_fitted_on(text):
    tokenizer = CharTokenizer.fit([text])
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.token_bytes[ids].sum() == len(text.encode())
    assert tokenizer.vocab_size == len(set(text)) + 1 and ids.min() >= 1


def test_an_unknown_character_is_id_0_and_counts_as_the_fewest_bytes_a_character_has():
    tokenizer = CharTokenizer.fit(["ba", "é"])
    assert tokenizer.encode("aébc東").tolist() == [1, 3, 2, 0, 0]
    assert tokenizer.decode([1, 0]) == "a\ufffd"
    assert tokenizer.token_bytes.tolist() == [1, 1, 1, 2]
    assert tokenizer.unknown(tokenizer.encode("aébc東")) == 2


@given(text=TRICKY, size=st.integers(1, 20))
def test_the_tokens_of_the_pieces_are_the_tokens_of_the_whole(bpe, text, size):
    parts = list(pieces(text.encode(), size))
    assert "".join(parts) == text
    assert [i for part in parts for i in bpe.encode(part)] == bpe._tokenizer.encode(text).ids


def without_cuts(tokenizer: BpeTokenizer) -> Tokenizer:
    """The library's tokenizer with the same merges, but GPT-2's pattern alone to find words."""
    document = json.loads(tokenizer.to_json())
    assert [part["type"] for part in document["pre_tokenizer"]["pretokenizers"]] == ["ByteLevel", "FixedLength"]
    return Tokenizer.from_str(json.dumps({**document, "pre_tokenizer": document["pre_tokenizer"]["pretokenizers"][0]}))


def test_text_without_very_long_words_has_the_tokens_of_the_pattern_alone(embedded):
    text = (embedded / "val.txt").read_text()
    fitted = BpeTokenizer.fit([text], 600)
    plain = without_cuts(fitted)
    plain.train_from_iterator(
        [text],
        trainers.BpeTrainer(
            vocab_size=600, min_frequency=2, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
        ),
    )
    assert plain.get_vocab() == fitted._tokenizer.get_vocab()
    assert fitted.encode(text).tolist() == plain.encode(text).ids


@pytest.mark.parametrize("text", ["ACGTTA" * 700 + "C", "東京" * 900 + " and 天" * 3], ids=["DNA", "Japanese"])
def test_a_very_long_word_is_cut_into_words_of_1024_bytes(text):
    tokenizer = BpeTokenizer.fit([text], 300)
    words = [word for word, _ in tokenizer._tokenizer.pre_tokenizer.pre_tokenize_str(text)]  # a character a byte
    assert max(map(len, words)) == 1024
    assert sum(map(len, words)) == len(text.encode())
    merged = without_cuts(tokenizer).model.tokenize
    assert tokenizer.encode(text).tolist() == [token.id for word in words for token in merged(word)]
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_long_text_really_is_cut_and_pieces_are_near_their_size(embedded):
    text = (embedded / "val.txt").read_bytes()
    lengths = [len(piece) for piece in pieces(text, 1000)]
    assert len(lengths) > 150 and min(lengths[:-1]) >= 1000 and max(lengths) < 1050


def test_bpe_learns_the_same_tokens_in_every_process(embedded):
    code = """
import hashlib, sys
from pathlib import Path
from gt.data.codecs import BpeTokenizer, pieces
text = Path(sys.argv[1]).read_bytes()
tokenizer = BpeTokenizer.fit(pieces(text, 1 << 16), 2000)
ids = tokenizer.encode(text.decode())
print(hashlib.sha256(tokenizer.to_json().encode() + ids.tobytes()).hexdigest())
"""
    sums = {
        subprocess.run(
            [sys.executable, "-c", code, str(embedded / "val.txt")],
            env={**os.environ, "PYTHONHASHSEED": seed, "RAYON_NUM_THREADS": threads},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed, threads in [("1", "1"), ("2", "4")]
    }
    assert len(sums) == 1 and len(sums.pop()) == 65


@pytest.mark.parametrize("spec", [CHAR, BPE], ids=["char", "bpe"])
def test_preparing_twice_gives_the_same_bytes(spec, tmp_path):
    corpus = write_corpus(tmp_path, "the cat sat on the mat, the rat sat on the hat\n" * 40)
    for out in ("a", "b"):
        tokenizers.prepare(corpus, spec, tmp_path / out)
    a, b = ({f.name: f.read_bytes() for f in (tmp_path / out).iterdir()} for out in "ab")
    assert a == b
    assert set(a) == {"tokenizer.json", "tokens.json", "token_bytes.npy", "train.bin", "val.bin", "test.bin"}


@pytest.mark.parametrize("spec", [CHAR, BPE], ids=["char", "bpe"])
def test_the_folder_holds_the_corpus_and_says_what_it_counted(spec, tmp_path):
    corpus = write_corpus(tmp_path, "ça va? the cat sat on the mat\n" * 100)
    tokenizers.prepare(corpus, spec, tmp_path / "out")
    tokenizer, tokens = load_tokenizer(tmp_path / "out"), Tokens.open(tmp_path / "out")
    about = read_json(tmp_path / "out/tokens.json")
    assert about["corpus_sha256"] == read_json(corpus / "corpus.json")["sha256"] and about["tokenizer"] == spec.id
    assert about["vocab_size"] == tokenizer.vocab_size == tokens.vocab_size == len(tokens.token_bytes)
    for split in ("train", "val", "test"):
        text, ids = (corpus / f"{split}.txt").read_bytes(), getattr(tokens, split)
        assert tokenizer.decode(ids) == text.decode()
        assert np.array_equal(tokenizer.encode(text.decode()), ids)
        assert (about["tokens"][split], about["bytes"][split], about["unknown"][split]) == (
            len(ids),
            len(text),
            0,
        )
        assert tokens.token_bytes[ids].sum() == len(text)


def test_only_the_train_split_is_seen_in_fitting(tmp_path):
    corpus = write_corpus(tmp_path, "abcd efgh\n" * 90 + "wxyz" * 25)
    tokenizers.prepare(corpus, CHAR, tmp_path / "char")
    tokenizers.prepare(corpus, BPE, tmp_path / "bpe")
    about = read_json(tmp_path / "char/tokens.json")
    assert about["vocab_size"] == 1 + len("abcdefgh \n") and about["unknown"] == {
        "train": 0,
        "val": 50,
        "test": 50,
    }
    tokens = Tokens.open(tmp_path / "bpe")
    assert len(tokens.val) == 50 and set(tokens.token_bytes[tokens.val]) == {1}  # no merge was learned from wxyz


def test_bpe_has_fewer_tokens_than_asked_for_where_nothing_is_left_to_merge(tmp_path):
    corpus = write_corpus(tmp_path, "aab " * 50)
    tokenizers.prepare(corpus, BPE, tmp_path / "out")
    assert 256 < Tokens.open(tmp_path / "out").vocab_size < 300


def test_more_than_65536_tokens_are_kept_in_32_bits(tmp_path):
    characters = [chr(c) for c in range(0x100, 0x20000) if not 0xD800 <= c < 0xE000][:70_000]
    corpus = write_corpus(tmp_path, "".join(characters) + "a" * 50_000)
    tokenizers.prepare(corpus, CHAR, tmp_path / "out")
    tokens = Tokens.open(tmp_path / "out")
    assert tokens.train.dtype == np.uint32 and tokens.train.max() > 65_535
    assert load_tokenizer(tmp_path / "out").decode(tokens.train[:70_000]) == "".join(characters)


def test_a_corpus_folder_that_was_changed_is_refused(tmp_path):
    corpus = write_corpus(tmp_path, "the cat sat\n" * 50)
    (corpus / "val.txt").write_text("other text")
    with pytest.raises(ConfigError, match=f"val.txt: sha256 is {hashlib.sha256(b'other text').hexdigest()}"):
        tokenizers.prepare(corpus, CHAR, tmp_path / "out")
    (corpus / "train.txt").unlink()
    with pytest.raises(ConfigError, match="train.txt: no such file"):
        tokenizers.prepare(corpus, CHAR, tmp_path / "out")
