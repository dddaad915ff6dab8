"""Held-out losses are about the same text under every tokenizer, all of it, and the n-gram lines are about the same."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from subjects import CPU, Known, specification, subject, uniform, values

from gt.data import corpora, ngram, tokenizers
from gt.data.sums import file_sha256
from gt.data.tokens import Tokens
from gt.evals.language import held_out
from gt.evals.subject import Subject
from gt.numbers import exponential
from gt.records import read_json
from gt.spec import RunSpec, TokenizerSpec, corpus_spec
from gt.training.cohort import Cohort

TOKENIZERS = {name: TokenizerSpec(name="bpe", vocab_size=int(name[3:])) for name in ("bpe300", "bpe600")}
TOKENIZERS["char"] = TokenizerSpec(name="char")
Prepare = Callable[[str], dict[str, Path]]


@pytest.fixture
def prepared(tmp_path: Path) -> Prepare:
    """A text -> its tokens by tokenizer."""

    def prepare(text: str) -> dict[str, Path]:
        file = tmp_path / "t.txt"
        file.write_text(text)
        corpora.prepare(corpus_spec("file:t", sha256=file_sha256(file)), tmp_path, file)
        for name, spec in TOKENIZERS.items():
            tokenizers.prepare(tmp_path, spec, tmp_path / name)
            ngram.prepare(tmp_path / name)
        return {name: tmp_path / name for name in TOKENIZERS}

    return prepare


def losses(here: Subject, split: str) -> dict[str, float]:
    """The measurements of a split, by what comes after its name; not a number where there is none."""
    found = values(held_out(here, split))
    return {name.removeprefix(f"{split}/"): math.nan if own is None else own for name, own in found.items()}


def story(words: int) -> str:
    return " ".join(np.random.default_rng(0).choice(["the", "naïve", "cat", "sat", "on", "mats;", "twice.\n\n"], words))


def unigram(folder: Path) -> Known:
    """A model that predicts what the unigram line does."""
    tokens = Tokens.open(folder)
    counts = torch.from_numpy(np.bincount(tokens.train, minlength=tokens.vocab_size) + 1.0)
    return Known(tokens.vocab_size, lambda read, _: (counts / counts.sum()).log().expand(*read.shape, -1))


TEXTS = {"words": story(60_000), "one line": "ACCGT" * 60_000, "Chinese": "天地玄黃。\n" * 20_000}


@pytest.mark.parametrize("text", TEXTS)
def test_bits_per_byte_of_every_tokenizer_are_over_the_same_bytes(prepared: Prepare, text: str) -> None:
    folders = prepared(TEXTS[text])
    results = {name: losses(subject(own, specification(), unigram(own)), "val") for name, own in folders.items()}
    assert len({(own["from_byte"], own["bytes"]) for own in results.values()}) == 1
    assert results["bpe600"]["tokens"] < results["char"]["tokens"]


def test_a_model_that_predicts_as_the_unigram_line_has_its_loss(prepared: Prepare) -> None:
    """Under each tokenizer, so the line's targets are the model's."""
    for folder in prepared(story(30_000)).values():
        measured = losses(subject(folder, specification(length=37), unigram(folder)), "val")
        line = read_json(folder / "ngram.json")["unigram"]
        assert measured["loss"] == pytest.approx(line["loss"], rel=1e-9)
        assert measured["bits_per_byte"] == pytest.approx(line["bits_per_byte"], rel=1e-9)


@pytest.mark.parametrize("name", ["char", "bpe300"])
def test_the_nats_are_those_of_one_target_after_the_other(prepared: Prepare, name: str) -> None:
    """Each token of the slice predicted from the tokens that its window has before it, one call for each; the last window is
    not full."""
    here = subject(prepared(story(1500))[name], specification(length=16))
    here.model.double()
    part = here.tokens.slice("val", 131_072)
    val = torch.from_numpy(np.asarray(here.tokens.val).astype(np.int64))
    assert part.end == len(val) and (part.end - part.first) % 16
    nats = 0.0
    with torch.inference_mode():
        for target in range(part.first, part.end):
            begin = target - 1 - (target - part.first) % 16
            logits, _ = here.model(val[None, begin:target])
            nats -= float(logits[0, -1].log_softmax(-1)[val[target]])
    measured = losses(here, "val")
    assert measured["loss"] * measured["tokens"] == pytest.approx(nats, rel=1e-10)
    n_bytes = len((here.data.parent / "val.txt").read_bytes()) - part.from_byte
    assert measured["bits_per_byte"] == pytest.approx(nats / math.log(2) / n_bytes, rel=1e-10)


@pytest.mark.parametrize("length", [10, 1000])
def test_a_split_loses_no_target_to_the_length_of_the_windows(prepared: Prepare, length: int) -> None:
    folder = prepared(story(1500))["char"]
    text = (folder.parent / "test.txt").read_text()
    measured = losses(subject(folder, specification(length=length), unigram(folder)), "test")
    assert len(text) < 1000 and measured["tokens"] == len(text.split(" ", 1)[1]) + 1  # all but the first word


def test_an_unknown_character_counts_its_bytes_and_is_counted(prepared: Prepare) -> None:
    results = {
        name: losses(subject(folder, specification(), Known(Tokens.open(folder).vocab_size, uniform)), "test")
        for name, folder in prepared("a b c " * 2000 + "東 x " * 50).items()
    }
    assert len({own["bytes"] for own in results.values()}) == 1
    assert results["char"]["unknown"] == 100 and results["bpe300"]["unknown"] == 0


def test_the_slice_that_curves_follow_is_the_same_bytes_for_every_tokenizer(prepared: Prepare) -> None:
    sizes = set()
    for name, folder in prepared(story(60_000)).items():
        training = {"steps": 1, "batch_size": 2, "sequence_length": 48, "evaluation_tokens": 4096}
        spec = {**specification("r").model_dump(), "tokenizer": TOKENIZERS[name].model_dump(), "training": training}
        cohort = Cohort([RunSpec.model_validate(spec)], Tokens.open(folder), CPU)
        sizes.add(cohort.validator.bytes)
        counted = cohort.validator.windows[..., 1:]
        tokens = cohort.tokens.val[cohort.tokens.slice("val", 4096).first :]
        assert counted[counted >= 0].tolist() == tokens[: cohort.validator.targets].tolist()
    assert len(sizes) == 1 and 4096 <= sizes.pop() < 4110


def test_a_huge_loss_has_no_perplexity(prepared: Prepare) -> None:
    folder = prepared(story(1500))["char"]

    def wrong(read: torch.Tensor, vocab_size: int) -> torch.Tensor:
        return 1e6 * torch.nn.functional.one_hot(torch.zeros_like(read), vocab_size).float()

    measured = losses(subject(folder, specification(), Known(Tokens.open(folder).vocab_size, wrong)), "val")
    assert measured["loss"] == pytest.approx(1e6) and math.isnan(measured["perplexity"])
    assert exponential(1.5) == math.exp(1.5)
