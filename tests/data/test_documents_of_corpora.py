"""Splits, documents and windows: who is in which, counted by hand."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from runs import run_spec

from gt.data import corpora, ngram, tokenizers
from gt.data.batches import Apart, evaluation_windows, targets_of_slice
from gt.data.slices import Slice
from gt.data.tokens import Tokens
from gt.errors import ConfigError
from gt.records import read_json
from gt.spec import RunSpec, SplitSpec, TokenizerSpec, corpus_spec
from gt.training import plan
from gt.training.losses import token_losses
from gt.training.plan import StepPlan

DOCUMENTS = st.lists(st.text(st.sampled_from(list("ab é東\n")), max_size=12), min_size=1, max_size=60)
CPU = torch.device("cpu")


def prepare(folder: Path, rows: list[str], **options: Any) -> Path:
    """The folder of a corpus of documents, made in one that may have been used."""
    path = folder / "d.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in rows))
    corpora.prepare(corpus_spec("file:d", **options), folder / "out", path)
    return folder / "out"


def texts(folder: Path) -> dict[str, bytes]:
    return {split: (folder / f"{split}.txt").read_bytes() for split in read_json(folder / "corpus.json")["sha256"]}


def ends(folder: Path, split: str) -> list[int]:
    return list(np.fromfile(folder / f"{split}.ends", "<i8"))


# Splits


@pytest.mark.parametrize("val, test", [(0.1, 0.2), (0.25, 0.0), (0.07, 0.07)])
def test_ranges_of_bytes_have_their_shares_to_the_byte(val: float, test: float, tmp_path: Path) -> None:
    text = bytes(range(33, 126)) * 30
    (tmp_path / "t.txt").write_bytes(text)
    spec = corpus_spec("file:t", splits={"val": val, "test": test})
    corpora.prepare(spec, tmp_path / "out", tmp_path / "t.txt")
    percent = round(100 * val), round(100 * test)
    first, second = len(text) * (100 - sum(percent)) // 100, len(text) * (100 - percent[1]) // 100
    expected = {"train": text[:first], "val": text[first:second], "test": text[second:]}
    assert texts(tmp_path / "out") == {split: part for split, part in expected.items() if part}


@settings(max_examples=25)  # of files
@given(documents=DOCUMENTS, salt=st.sampled_from(["", "a"]))
def test_documents_that_are_alike_are_in_one_split_and_the_hash_alone_says_in_which(
    documents: list[str], salt: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    documents = documents * 2
    rule = SplitSpec(by="document", val=0.3, test=0.2, salt=salt)
    expected = {"train": b"", "val": b"", "test": b""}
    for text in documents:
        drawn = int(hashlib.sha256(f"{salt}\n{text}".encode()).hexdigest()[:16], 16) / 2**64
        expected["val" if drawn < 0.3 else "test" if drawn < 0.5 else "train"] += f"{text}\n".encode() if text else b""
    folder = tmp_path_factory.mktemp("d")
    if all(expected.values()):
        assert texts(prepare(folder, documents, splits=rule.model_dump())) == expected
    else:
        with pytest.raises(ConfigError, match="too little text|it has no text"):
            prepare(folder, documents, splits=rule.model_dump())


def test_a_choice_by_hash_has_about_its_shares_and_another_salt_is_another_one() -> None:
    many = [f"document {i}" for i in range(20_000)]
    one, other = ([corpora.chosen(text, SplitSpec(by="document", salt=salt)) for text in many] for salt in ("", "x"))
    for split, share in {"train": 0.9, "val": 0.05, "test": 0.05}.items():
        for counts in (Counter(one), Counter(other)):  # within five standard errors
            assert abs(counts[split] / len(many) - share) < 5 * math.sqrt(share * (1 - share) / len(many))
    assert one != other
    assert sum(corpora.shares(SplitSpec(val=0.1, test=0.2)).values()) == 1 == Fraction(7, 10) + Fraction(3, 10)


def test_the_way_of_splitting_is_part_of_a_corpus_s_name_but_not_where_it_is_the_default() -> None:
    plain = corpus_spec("file:t", sha256="0" * 64)
    assert (
        plain.id == corpus_spec("file:t", sha256="0" * 64, splits={"val": 0.05}, documents="joined").id == "file-t-0000000000"
    )
    others = [{"splits": {"val": 0.1}}, {"splits": {"by": "document"}}, {"documents": "separated"}, {"documents": "apart"}]
    assert len({corpus_spec("file:t", sha256="0" * 64, **own).id for own in others} | {plain.id}) == 5


def test_a_corpus_that_was_written_down_when_all_had_a_sum_and_a_task_is_the_same() -> None:
    assert corpus_spec("embedded", sha256=None, task=None) == corpus_spec("embedded")
    with pytest.raises(ValidationError):
        corpus_spec("embedded", sha256="0" * 64)
    with pytest.raises(ValidationError):
        corpus_spec("embedded", feild=None)


@pytest.mark.parametrize("splits", [{"val": 0.5, "test": 0.5}, {"val": 0.0}, {"salt": "a"}, {"by": "words"}, {"train": 0.5}])
def test_shares_that_leave_nothing_are_refused(splits: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        corpus_spec("file:t", splits=splits)


def test_what_has_splits_or_no_documents_is_not_cut_otherwise(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("one two " * 100)
    with pytest.raises(ConfigError, match="embedded: splits: it has splits of its own"):
        corpora.prepare(corpus_spec("embedded", splits={"val": 0.1}), tmp_path / "out")
    with pytest.raises(ConfigError, match="documents: its text does not consist of documents"):
        corpora.prepare(corpus_spec("file:t", documents="apart"), tmp_path / "out", tmp_path / "t.txt")
    with pytest.raises(ConfigError, match=r"splits\.by: its text does not consist of documents"):
        corpora.prepare(corpus_spec("file:t", splits={"by": "document"}), tmp_path / "out", tmp_path / "t.txt")


# Documents


@settings(max_examples=25)
@given(documents=DOCUMENTS)
def test_documents_that_are_kept_apart_are_whole_in_one_split_and_their_ends_are_known(
    documents: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    documents = [*(["first " * 9] * 12), *documents, *(["last " * 9] * 12)]
    folder = prepare(tmp_path_factory.mktemp("d"), documents, documents="apart", splits={"val": 0.2, "test": 0.2})
    found = []
    for split, text in texts(folder).items():
        found += [text[start:end].decode() for start, end in pairwise([0, *ends(folder, split)])]
        assert ends(folder, split)[-1] == len(text)
    assert found == [text for text in documents if text]


def test_a_capped_train_split_ends_with_a_whole_document(tmp_path: Path) -> None:
    documents = [f"{i:09}\n" for i in range(100)]
    for by in ("position", "document"):
        folder = prepare(tmp_path, documents, documents="separated", max_bytes=127, splits={"by": by, "val": 0.2, "test": 0.2})
        assert ends(folder, "train") == list(range(10, 130, 10))[:12]
        assert len(texts(folder)["train"]) == 120
        assert set(texts(folder)["train"].decode().splitlines(True)) <= set(documents)


@pytest.fixture(scope="module", params=["separated", "apart"])
def kept(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A folder of documents that are kept apart, with tokens of characters and of BPE."""
    rng = np.random.default_rng(1)
    documents = [" ".join(rng.choice(["the", "cat", "naïve", "東京", "sat"], n)) for n in rng.integers(1, 40, 200)]
    folder = prepare(tmp_path_factory.mktemp("kept"), documents, documents=request.param, splits={"val": 0.2, "test": 0.1})
    for spec in (TokenizerSpec(name="char"), TokenizerSpec(name="bpe", vocab_size=300)):
        tokenizers.prepare(folder, spec, folder / spec.id)
        ngram.prepare(folder / spec.id)
    return folder, documents


@pytest.mark.parametrize("name", ["char", "bpe300"])
def test_a_separator_stands_before_the_first_and_after_each_document_and_has_no_bytes(
    kept: tuple[Path, list[str]], name: str
) -> None:
    folder, documents = kept
    tokens, tokenizer = Tokens.open(folder / name), tokenizers.load_tokenizer(folder / name)
    separator = tokens.separator
    assert separator == tokens.vocab_size - 1 and tokens.token_bytes[separator] == 0
    found = []
    for split, text in texts(folder).items():
        ids = np.asarray(getattr(tokens, split))
        assert ids[0] == ids[-1] == separator
        places = np.flatnonzero(ids == separator)
        here = [tokenizer.decode(ids[a + 1 : b]) for a, b in pairwise(places)]
        assert "".join(here).encode() == text
        for a, b in pairwise(places):  # each is encoded by itself
            assert ids[a + 1 : b].tolist() == tokenizer.encode(tokenizer.decode(ids[a + 1 : b])).tolist()
        assert tokens.token_bytes[ids].sum() == len(text)
        found += here
    assert found == documents
    assert tokenizer.decode(tokens.val[:200]).startswith("\n\n")


def test_bits_per_byte_are_over_the_bytes_of_the_text_and_separators_cost_bits(kept: tuple[Path, list[str]]) -> None:
    folder, _ = kept
    for name in ("char", "bpe300"):
        tokens, line = Tokens.open(folder / name), read_json(folder / name / "ngram.json")["uniform"]
        part = tokens.slice("val", 1 << 20)
        ids = tokens.val[part.first : part.end]
        assert tokens.token_bytes[ids].sum() == part.n_bytes == len(texts(folder)["val"]) - part.from_byte
        bits = len(ids) * math.log2(tokens.vocab_size)  # a model that knows nothing, separators included
        assert line["bits_per_byte"] == pytest.approx(bits / part.n_bytes, rel=1e-12)
        assert (ids == tokens.separator).sum() > 5


def test_a_slice_is_the_same_text_for_every_tokenizer(kept: tuple[Path, list[str]]) -> None:
    folder, _ = kept
    found = {}
    for name in ("char", "bpe300"):
        tokens, tokenizer = Tokens.open(folder / name), tokenizers.load_tokenizer(folder / name)
        part = tokens.slice("val", 512)
        ids = np.asarray(tokens.val[part.first : part.end])
        found[name] = (part.from_byte, part.n_bytes, tokenizer.decode(ids))
    assert found["char"] == found["bpe300"]


# Windows

BORDERS = st.lists(st.integers(1, 30), min_size=1, max_size=12)


@given(lengths=BORDERS, time=st.integers(1, 9), size=st.integers(1, 4), seed=st.integers(0, 9))
def test_each_token_of_a_document_is_a_target_once_an_epoch_and_from_its_own_document(
    lengths: list[int], time: int, size: int, seed: int
) -> None:
    borders = np.cumsum([0, *lengths])
    n = borders[-1] + 1
    if n <= time:
        return
    batches = Apart(np.arange(n), size, time, seed, borders)
    windows = [int(s) for step in range(batches.windows_per_epoch) for s in batches.starts(step)]
    epochs = [windows[i : i + batches.windows_per_epoch] for i in range(0, len(windows), batches.windows_per_epoch)]
    for epoch in epochs[:size]:
        targets = []
        for start in epoch:
            counted = int(batches.counted(np.array([start]))[0])
            assert 1 <= counted <= time
            own = range(start + 1, start + counted + 1)
            targets += own
            document = np.searchsorted(borders, own[0])  # all up to and with the separator that ends it
            assert {int(np.searchsorted(borders, t)) for t in own} == {int(document)}
            assert start >= borders[document - 1]
        assert sorted(targets) == list(range(1, n))


@given(lengths=BORDERS, time=st.integers(1, 9), data=st.data())
def test_windows_of_an_evaluation_have_each_token_of_the_slice_once_and_no_other_document(
    lengths: list[int], time: int, data: st.DataObject
) -> None:
    borders = np.cumsum([0, *lengths])
    n = int(borders[-1]) + 1
    first = data.draw(st.integers(1, n - 1))
    end = data.draw(st.integers(first + 1, n))
    part = Slice(first, end, 0, 0)
    windows = evaluation_windows(np.arange(n), part, time, borders)
    counted = windows[:, 1:] >= 0
    assert np.array_equal(counted, targets_of_slice(part, time, borders))
    assert sorted(windows[:, 1:][counted]) == list(range(first, end))
    for row, own in zip(windows, counted, strict=True):
        inputs = np.where(row < 0, ~row, row)
        for j in np.flatnonzero(own):  # what the target is predicted from, back to the first of the window
            document = np.searchsorted(borders, inputs[j + 1])
            assert inputs[0] >= borders[document - 1]
            assert inputs[: j + 2].tolist() == list(range(inputs[0], inputs[0] + j + 2))


def step_plan(folder: Path, **training: Any) -> StepPlan:
    document = run_spec(**training).model_dump()
    specs = [RunSpec.model_validate({**document, "seed": seed}) for seed in (0, 1)]
    return StepPlan(specs, Tokens.open(folder), [], None, CPU)


@pytest.mark.parametrize("steps", [5, 300])
def test_a_text_that_stays_on_the_disk_gives_the_same_batches(
    kept: tuple[Path, list[str]], steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"steps": steps, "batch_size": 2, "sequence_length": 6}
    here = step_plan(kept[0] / "char", **options)
    assert here.resident
    monkeypatch.setattr(plan, "RESIDENT", 0)
    monkeypatch.setattr(plan, "HORIZON", 4)
    there = step_plan(kept[0] / "char", **options)
    assert not there.resident and there.text.numel() < here.text.numel()
    for step in range(steps):
        for own in (here, there):
            own.prepare(step)
        assert torch.equal(here.now()[0], there.now()[0])
        here.cursor += 1
        there.cursor += 1


def test_a_training_step_of_documents_apart_reads_one_document_a_window(kept: tuple[Path, list[str]]) -> None:
    folder, _ = kept
    tokens = Tokens.open(folder / "char")
    text = np.asarray(tokens.train)
    own = step_plan(folder / "char", steps=50, batch_size=3, sequence_length=9)
    ended = 0
    for step in range(50):
        own.prepare(step)
        for window in own.now()[0].reshape(-1, 10).numpy():
            inputs = np.where(window < 0, ~window, window)
            if tokens.apart:
                counted = int((window[1:] >= 0).sum())
                assert (window[1:][counted:] < 0).all() and window[0] >= 0
                assert tokens.separator not in inputs[1:counted]
                assert counted == 9 or inputs[counted] == tokens.separator
                ended += counted < 9
            else:
                assert (window >= 0).all()
        own.cursor += 1
    assert (ended > 0) == tokens.apart
    assert len(text) > 0


def test_the_loss_of_a_window_is_not_about_what_stands_beyond_its_document() -> None:
    torch.manual_seed(0)

    class Model(torch.nn.Module):
        """A sum over all that was read."""

        def forward(self, tokens: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
            return torch.nn.functional.one_hot(tokens, 9).float().cumsum(1), state

    window = torch.tensor([[8, 1, 2, 8, ~5, ~6]])
    other = torch.tensor([[8, 1, 2, 8, ~7, ~0]])
    losses = token_losses(Model(), window, "float32")
    assert torch.equal(losses, token_losses(Model(), other, "float32"))
    assert (losses[3:] == 0).all() and (losses[:3] > 0).all()


def test_tracks_do_not_go_with_documents_apart() -> None:
    document = run_spec().model_dump()
    apart = corpus_spec("hub:a/b", revision="0" * 40, documents="apart").model_dump()
    with pytest.raises(ValidationError, match="tracks reads on over the ends of documents"):
        RunSpec.model_validate({**document, "corpus": apart, "training": {**document["training"], "batch_order": "tracks"}})
