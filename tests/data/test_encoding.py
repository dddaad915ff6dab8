"""Tokens do not depend on how a text is divided among calls and processes, and are those of its bytes or refused."""

from __future__ import annotations

import io
import json
import os
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from gt.data import corpora, encoding, tokenizers
from gt.data.codecs import BpeTokenizer, CharTokenizer, LibraryTokenizer, from_json, pieces
from gt.data.encoding import Encoder, Part, cut, encoded
from gt.data.sums import tokenizer_sha256
from gt.data.tokens import Tokens
from gt.errors import ConfigError
from gt.records import read_json
from gt.spec import TokenizerSpec, corpus_spec

# Text in which borders of words, runs of white space and characters of several bytes are frequent.
TRICKY = st.text(st.sampled_from(list("ab'1.é東。 \n\t\r\u00a0\u3000\u2028\u0085")), max_size=80)
TEXT = "the cat's 12 mice;  the hat\n\nthe bat, naïve 東京。\n" * 9


@pytest.fixture(scope="module")
def bpe() -> BpeTokenizer:
    return BpeTokenizer.fit([TEXT], 300)


def parts(text: bytes, size: int, places: list[int] = [], ends: list[int] = []) -> list[Part]:  # noqa: B006
    return list(cut(io.BytesIO(text), len(text), places, ends, size))


@given(text=TRICKY, size=st.integers(1, 20), window=st.integers(1, 5))
def test_the_parts_of_a_text_that_is_read_from_a_file_are_those_of_the_text(text: str, size: int, window: int) -> None:
    data = text.encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "WINDOW", window)
        found = [data[part.start : part.end].decode() for part in parts(data, size)]
    assert found == list(pieces(data, size))


@given(text=TRICKY, size=st.integers(1, 20))
def test_the_tokens_of_the_parts_are_those_that_the_library_has_for_the_whole(bpe: BpeTokenizer, text: str, size: int) -> None:
    data = text.encode()
    found = bpe.encode_parts([data[part.start : part.end].decode() for part in parts(data, size)])
    assert [i for own in found for i in own] == bpe._tokenizer.encode(text).ids


def test_text_without_spaces_is_cut_where_its_lines_end() -> None:
    data = ("東京は日本の首都。\n" * 900).encode()
    lengths = [part.end - part.start for part in parts(data, 1000)]
    assert len(lengths) > 20 and max(lengths) < 1100


@given(
    n=st.integers(1, 60),
    places=st.sets(st.integers(1, 60)),
    ends=st.sets(st.integers(1, 60)),
    size=st.integers(1, 9),
)
def test_parts_end_at_all_places_and_documents_and_only_the_ends_of_documents_say_so(
    n: int, places: set[int], ends: set[int], size: int
) -> None:
    places, ends = ({i for i in own if i <= n} for own in (places, ends))
    found = parts((b"ab " * 20)[:n], size, sorted(places), sorted(ends))
    assert [found[0].start, *(part.end for part in found)] == sorted({0, n, *(part.end for part in found)})
    assert all(a.end == b.start for a, b in pairwise(found))
    assert places | ends <= {part.end for part in found}
    assert {part.end for part in found if part.ends} == ends


@pytest.mark.parametrize("name", ["char", "bpe"])
def test_tokens_depend_neither_on_processes_nor_on_how_much_is_encoded_at_once(
    name: str, bpe: BpeTokenizer, tmp_path: Path
) -> None:
    text = (TEXT * 40).encode()
    (tmp_path / "t.txt").write_bytes(text)
    tokenizer = bpe if name == "bpe" else CharTokenizer.fit([TEXT])
    encoder = Encoder(tokenizer, name, tokenizer.vocab_size, "<u2", lossless=True)
    ends = [len(TEXT.encode()) * i for i in range(1, 41)]
    results = []
    for threads, chunk, size in ((1, 1 << 20, 1 << 16), (1, 100, 50), (2, 3000, 500)):
        found = list(encoded(encoder, tmp_path / "t.txt", parts(text, size, [], ends), threads, chunk))
        results.append((np.concatenate([own.ids for own in found]).tolist(), sum(own.unknown for own in found)))
    assert results[0] == results[1] == results[2]
    once = [*tokenizer.encode(TEXT).tolist(), tokenizer.vocab_size]
    assert results[0][0] == once * 40


def test_an_error_in_another_process_is_the_error(bpe: BpeTokenizer, tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_bytes(b"abc " * 500 + b"\xff")
    encoder = Encoder(bpe, "bpe", None, "<u2", lossless=True)
    with pytest.raises(UnicodeDecodeError):
        list(encoded(encoder, tmp_path / "t.txt", [Part(0, 1000, False), Part(1000, 2001, False)], 2, 10))


# Tokenizers of other people


def trained(model: Any, trainer: Any, **parts: Any) -> Tokenizer:
    tokenizer = Tokenizer(model)
    for name, part in parts.items():
        setattr(tokenizer, name, part)
    tokenizer.train_from_iterator([TEXT], trainer)
    return tokenizer


def byte_level() -> Tokenizer:
    """GPT-2's, with a prefix space and a special token."""
    own = trained(
        models.BPE(),
        trainers.BpeTrainer(vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False),
        pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=True),
        decoder=decoders.ByteLevel(),
    )
    own.add_special_tokens(["<|endoftext|>"])
    return own


def sentencepiece() -> Tokenizer:
    """As Llama's: spaces are ▁, one stands before the text, bytes are there for what is not in the vocabulary."""
    pieces_ = [f"<0x{i:02X}>" for i in range(256)]
    fitted = trained(
        models.BPE(),
        trainers.BpeTrainer(vocab_size=80, show_progress=False, special_tokens=["<unk>"]),
        pre_tokenizer=pre_tokenizers.Metaspace(prepend_scheme="always"),
    )
    document = json.loads(fitted.to_str())
    for piece in pieces_:
        document["model"]["vocab"][piece] = len(document["model"]["vocab"])
    document["model"] |= {"byte_fallback": True, "unk_token": "<unk>", "fuse_unk": True}
    own = Tokenizer.from_str(json.dumps(document))
    own.pre_tokenizer = None
    own.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    own.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    own.enable_truncation(5)
    own.enable_padding(length=64)
    return own


def unigram(normalizer: Any = None) -> Tokenizer:
    """As T5's: a unigram model over ▁ and words."""
    own = trained(
        models.Unigram(),
        trainers.UnigramTrainer(vocab_size=80, show_progress=False, unk_token="<unk>", special_tokens=["<unk>"]),
        pre_tokenizer=pre_tokenizers.Metaspace(),
        decoder=decoders.Metaspace(),
    )
    if normalizer is not None:
        own.normalizer = normalizer
    return own


def wordpiece() -> Tokenizer:
    """As BERT's: white space is dropped."""
    return trained(
        models.WordPiece(unk_token="[UNK]"),
        trainers.WordPieceTrainer(vocab_size=80, show_progress=False, special_tokens=["[UNK]"]),
        normalizer=normalizers.BertNormalizer(),
        pre_tokenizer=pre_tokenizers.BertPreTokenizer(),
        decoder=decoders.WordPiece(),
    )


@given(text=TRICKY)
@pytest.mark.parametrize("make", [byte_level, sentencepiece], ids=lambda make: make.__name__)
def test_tokens_of_a_tokenizer_without_loss_stand_for_the_bytes_of_the_text(
    make: Any, text: str, cache: dict[Any, Any]
) -> None:
    own = cache.setdefault(make, LibraryTokenizer(json.loads(make().to_str())))
    text += "<|endoftext|> and on"
    ids = own.encode(text)
    assert own.decode(ids) == text
    assert own.token_bytes[ids].sum() == len(text.encode())
    again = from_json(own.to_json())
    assert again.encode(text).tolist() == ids.tolist() and again.token_bytes.tolist() == own.token_bytes.tolist()


@pytest.fixture(scope="module")
def cache() -> dict[Any, Any]:
    return {}


def test_bytes_of_single_tokens_are_what_their_spelling_says() -> None:
    own = LibraryTokenizer(json.loads(sentencepiece().to_str()))
    vocabulary = own._tokenizer.get_vocab()
    for token, i in vocabulary.items():
        expected = 1 if re.fullmatch("<0x..>", token) else len(token.replace("▁", " ").encode())
        assert own.token_bytes[i] == expected, token
    bytes_ = LibraryTokenizer(json.loads(byte_level().to_str()))
    vocabulary = bytes_._tokenizer.get_vocab()
    assert bytes_.token_bytes[vocabulary["<|endoftext|>"]] == 13
    assert [bytes_.token_bytes[vocabulary[token]] for token in ("Ġ", "Ġthe", "Ã")] == [1, 4, 1]


def test_our_own_bpe_reads_the_same_as_a_file(bpe: BpeTokenizer) -> None:
    own = LibraryTokenizer(json.loads(bpe.to_json()))
    assert own.encode(TEXT).tolist() == bpe.encode(TEXT).tolist() and own.to_json() == bpe.to_json()
    assert own.token_bytes.tolist() == bpe.token_bytes.tolist()


def prepared(folder: Path, tokenizer: Tokenizer, text: str = TEXT * 3) -> Path:
    """Tokens of a text by a tokenizer.json."""
    (folder / "t.txt").write_text(text, newline="")
    (folder / "own.json").write_text(tokenizer.to_str())
    corpora.prepare(corpus_spec("file:t"), folder / "corpus", folder / "t.txt")
    spec = TokenizerSpec(name="file", sha256=tokenizer_sha256(folder / "own.json"))
    tokenizers.prepare(folder / "corpus", spec, folder / "tokens", folder / "own.json")
    return folder / "tokens"


@pytest.mark.parametrize("make", [byte_level, sentencepiece, unigram], ids=lambda make: make.__name__)
def test_a_tokenizer_json_makes_the_tokens_of_a_corpus(make: Any, tmp_path: Path) -> None:
    folder = prepared(tmp_path, make())
    tokens, tokenizer = Tokens.open(folder), tokenizers.load_tokenizer(folder)
    for split in ("train", "val", "test"):
        text = (tmp_path / f"corpus/{split}.txt").read_bytes()
        ids = np.asarray(getattr(tokens, split))
        assert tokenizer.decode(ids).encode() == text
        assert tokens.token_bytes[ids].sum() == len(text)
    assert re.fullmatch("file-[0-9a-f]{10}", read_json(folder / "tokens.json")["tokenizer"])


@pytest.mark.parametrize(
    "tokenizer, text, message",
    [
        (wordpiece(), TEXT, r"train\.txt, byte \d+: .* comes back as .*bits per byte would not be of the text"),
        (unigram(normalizers.NFKC()), TEXT + "①" * 400, r"'.*①.*' comes back as '.*1.*'"),
        (unigram(), TEXT + "ж" * 400, "comes back as"),
        (unigram(normalizers.Lowercase()), TEXT + "THE " * 400, "comes back as"),
    ],
    ids=["WordPiece", "NFKC", "unknown", "lower case"],
)
def test_a_tokenizer_that_does_not_give_the_text_back_is_refused(
    tokenizer: Tokenizer, text: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        prepared(tmp_path, tokenizer, text)
    assert not (tmp_path / "tokens/tokens.json").exists()


@pytest.mark.parametrize("content, message", [("{}", "it has no model"), ("[]", "it has no model"), ("x", "not valid JSON")])
def test_a_file_that_is_no_tokenizer_is_refused(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "own.json").write_text(content)
    with pytest.raises(ConfigError, match=f"own.json: .*{message}"):
        tokenizer_sha256(tmp_path / "own.json")
    with pytest.raises(ConfigError, match="no tokenizer.json that `tokenizers` reads"):
        LibraryTokenizer({"model": {"type": "Unheard-of"}})


def test_the_path_of_a_tokenizer_is_no_part_of_what_it_is_and_its_sum_is(tmp_path: Path) -> None:
    (tmp_path / "own.json").write_text(byte_level().to_str())
    spec = TokenizerSpec(name="file", sha256="0" * 64)
    corpora.prepare(corpus_spec("embedded", max_bytes=5000), tmp_path / "corpus")
    with pytest.raises(ConfigError, match=f"own.json: sha256 is .*, expected {'0' * 64}"):
        tokenizers.prepare(tmp_path / "corpus", spec, tmp_path / "out", tmp_path / "own.json")
    with pytest.raises(ConfigError, match="path of its tokenizer.json is not given"):
        tokenizers.prepare(tmp_path / "corpus", spec, tmp_path / "out")
    assert spec.id == "file-0000000000"


def test_a_tokenizer_of_the_hub_is_that_of_a_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = TokenizerSpec(name="hub", repo="lab/own", revision="1" * 40)
    assert spec.id == "hub-lab_own-1111111111"
    cached = tmp_path / f"cache/models--lab--own/snapshots/{'1' * 40}"
    cached.mkdir(parents=True)
    (cached / "tokenizer.json").write_text(byte_level().to_str())
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    corpora.prepare(corpus_spec("embedded", max_bytes=5000), tmp_path / "corpus")
    tokenizers.prepare(tmp_path / "corpus", spec, tmp_path / "tokens")
    assert Tokens.open(tmp_path / "tokens").vocab_size == byte_level().get_vocab_size()
    other = TokenizerSpec(name="hub", repo="lab/own", revision="2" * 40)
    with pytest.raises(ConfigError, match="lab/own could not be fetched.*HF_HOME"):
        tokenizers.prepare(tmp_path / "corpus", other, tmp_path / "tokens")


def test_an_added_token_that_eats_spaces_is_refused(tmp_path: Path) -> None:
    own = byte_level()
    own.add_tokens([AddedToken("cat", lstrip=True)])
    with pytest.raises(ConfigError, match="comes back as"):
        prepared(tmp_path, own)


def test_threads_are_those_of_the_library_too(tmp_path: Path) -> None:
    corpora.prepare(corpus_spec("embedded", max_bytes=5000), tmp_path / "corpus")
    for threads in (1, 2):
        tokenizers.prepare(tmp_path / "corpus", TokenizerSpec(name="char"), tmp_path / str(threads), threads=threads)
        assert os.environ["RAYON_NUM_THREADS"] == str(threads)
    one, two = ({f.name: f.read_bytes() for f in (tmp_path / str(n)).iterdir()} for n in (1, 2))
    assert one == two
