"""N-gram lines: known answers, proper distributions, and an independent count."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from gt.data import corpora, ngram, tokenizers
from gt.data.sums import file_sha256
from gt.data.tokens import Tokens
from gt.errors import ConfigError
from gt.records import read_json
from gt.spec import TokenizerSpec, corpus_spec


def test_tinyshakespeare_has_the_known_cross_entropies(local_corpora, tmp_path):
    corpora.prepare(corpus_spec("tinyshakespeare"), tmp_path)
    tokenizers.prepare(tmp_path, TokenizerSpec(name="char"), tmp_path)
    ngram.prepare(tmp_path)
    lines, tokens = read_json(tmp_path / "ngram.json"), Tokens.open(tmp_path)
    assert lines["uniform"]["loss"] == pytest.approx(math.log(66))
    assert lines["unigram"]["loss"] == pytest.approx(3.347, abs=0.001)
    assert lines["bigram"]["loss"] == pytest.approx(2.488, abs=0.002)
    assert lines["trigram"]["loss"] == pytest.approx(2.05, abs=0.015)
    assert len(tokens.val) == 111_540  # a character is a byte here
    assert lines["bigram"]["bits_per_byte"] == pytest.approx(lines["bigram"]["loss"] / math.log(2))


def test_bits_per_byte_counts_the_bytes_of_the_targets(tmp_path):
    (tmp_path / "t.txt").write_text("é東 " * 200)
    spec = corpus_spec("file:t", sha256=file_sha256(tmp_path / "t.txt"))
    corpora.prepare(spec, tmp_path, tmp_path / "t.txt")
    tokenizers.prepare(tmp_path, TokenizerSpec(name="char"), tmp_path)
    ngram.prepare(tmp_path)
    tokens = Tokens.open(tmp_path)
    text = (tmp_path / "val.txt").read_bytes()
    assert text.startswith("é東 é東 ".encode())  # of which the first character is the lead, for lack of a border
    uniform = read_json(tmp_path / "ngram.json")["uniform"]["bits_per_byte"]
    assert uniform == pytest.approx((len(tokens.val) - 1) * math.log2(4) / (len(text) - 2))


def test_a_periodic_sequence_is_known_from_one_token_of_context():
    period = np.tile(np.random.default_rng(0).permutation(17), 3000)
    lines = ngram.losses(period, period[:1000], 17)
    assert lines["bigram"] < 0.002 and lines["trigram"] < 0.002
    assert lines["uniform"] == pytest.approx(lines["unigram"], abs=0.001) == math.log(17)


def test_what_two_tokens_decide_only_the_trigram_knows():
    rng = np.random.default_rng(0)
    bits = [0, 1]
    for noise in rng.random(30_000):
        bits.append(bits[-1] ^ bits[-2] ^ (noise < 0.1))
    train, held_out = np.split(np.array(bits), [25_000])
    lines = ngram.losses(train, held_out, 2)
    entropy = -0.1 * math.log(0.1) - 0.9 * math.log(0.9)
    assert lines["trigram"] == pytest.approx(entropy, abs=0.02)
    assert lines["bigram"] == pytest.approx(math.log(2), abs=0.01)


def test_independent_noise_is_predicted_no_worse_than_by_the_unigram():
    rng = np.random.default_rng(0)
    train, held_out = rng.integers(0, 50, 20_000), rng.integers(0, 50, 5_000)
    lines = ngram.losses(train, held_out, 50)
    assert abs(lines["bigram"] - lines["unigram"]) < 0.01 and abs(lines["trigram"] - lines["bigram"]) < 0.01


@pytest.mark.parametrize("u, v", [(0, 1), (3, 3), (7, 2), (8, 8)])
def test_the_probabilities_of_all_continuations_sum_to_one(u, v):
    """Also after a context that was never seen (8 is not in train)."""
    train = np.random.default_rng(1).zipf(1.7, 3000) % 8
    two, three = ([ngram.losses(train, np.array([*context, w]), 9) for w in range(9)] for context in ((v,), (u, v)))
    bigram = [math.exp(-lines["bigram"]) for lines in two]
    # A held-out text u v w has two targets: v, predicted by the bigram, and w.
    first = ngram.losses(train, np.array([u, v]), 9)["bigram"]
    trigram = [math.exp(-2 * lines["trigram"] + first) for lines in three]
    assert sum(bigram) == pytest.approx(1) and sum(trigram) == pytest.approx(1)
    assert min(bigram) > 0 and min(trigram) > 0


@pytest.mark.parametrize("at_once", [7, 1 << 22])
def test_relative_frequencies_are_those_of_a_plain_count(at_once, monkeypatch):
    monkeypatch.setattr(ngram, "AT_ONCE", at_once)
    rng = np.random.default_rng(2)
    train, held_out = rng.integers(0, 6, 500), rng.integers(0, 6, 40)
    for vocab_size in (6, 100_000):  # a table of all n-grams, and sorted keys
        for order in (2, 3):
            grams = [tuple(train[i : i + order]) for i in range(len(train) - order + 1)]
            counts, contexts = Counter(grams), Counter(gram[:-1] for gram in grams)
            wanted = [tuple(held_out[i : i + order]) for i in range(len(held_out) - order + 1)]
            context, frequency = ngram._Counts.of(train, order, vocab_size, held_out).look_up(held_out)
            assert context.tolist() == [contexts[gram[:-1]] for gram in wanted]
            assert frequency == pytest.approx([counts[g] / max(1, contexts[g[:-1]]) for g in wanted])


def test_too_little_text_is_refused():
    with pytest.raises(ConfigError, match="30 tokens of train"):
        ngram.losses(np.zeros(29), np.zeros(5), 4)
