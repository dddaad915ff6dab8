"""Tokens are what was written, or are refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from gt.data import corpora, tokenizers
from gt.data.sums import file_sha256
from gt.data.tokens import Tokens
from gt.errors import ConfigError
from gt.records import read_json, write_json
from gt.spec import TokenizerSpec, corpus_spec


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tokens")
    (folder / "t.txt").write_text("the cat sat on the mat\n" * 50)
    spec = corpus_spec("file:t", sha256=file_sha256(folder / "t.txt"))
    corpora.prepare(spec, folder / "corpus", folder / "t.txt")
    tokenizers.prepare(folder / "corpus", TokenizerSpec(name="char"), folder / "char")
    return folder / "char"


@pytest.fixture
def folder(prepared, tmp_path) -> Path:
    return Path(shutil.copytree(prepared, tmp_path / "char"))


def test_the_splits_cannot_be_written_to(folder):
    tokens = Tokens.open(folder)
    for split in (tokens.train, tokens.val, tokens.test):
        with pytest.raises(ValueError, match="read-only"):
            split[0] = 0


def test_a_corpus_without_a_test_split_has_none(local_corpora, tmp_path):
    corpora.prepare(corpus_spec("tinyshakespeare"), tmp_path)
    tokenizers.prepare(tmp_path, TokenizerSpec(name="char"), tmp_path / "char")
    assert Tokens.open(tmp_path / "char").test is None


@pytest.mark.parametrize("name", ["train.bin", "val.bin", "test.bin", "token_bytes.npy", "tokens.json"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(ConfigError, match=f"{name}: no such file"):
        Tokens.open(folder)


def test_a_truncated_file_is_refused(folder):
    data = (folder / "train.bin").read_bytes()
    (folder / "train.bin").write_bytes(data[:-2])
    with pytest.raises(ConfigError, match="train.bin: has .* bytes, not .* as tokens.json says"):
        Tokens.open(folder)


@pytest.mark.parametrize("name", ["train.bin", "val.bin", "test.bin", "token_bytes.npy"])
def test_one_changed_byte_is_noticed(folder, name):
    data = bytearray((folder / name).read_bytes())
    data[-2] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(ConfigError, match="sha256 of the tokens is"):
        Tokens.open(folder)


@pytest.mark.parametrize("change", [{"dtype": "float64"}, {"tokens": None}, {"tokens": {"train": "many"}}, {"sha256": 0}])
def test_a_foreign_record_is_refused(folder, change):
    write_json(folder / "tokens.json", {**read_json(folder / "tokens.json"), **change})
    with pytest.raises(ConfigError):
        Tokens.open(folder)


@pytest.mark.parametrize("text", ["[]", "{}", "not JSON", "null"])
def test_a_record_that_is_something_else_is_refused(folder, text):
    (folder / "tokens.json").write_text(text)
    with pytest.raises(ConfigError, match="tokens.json"):
        Tokens.open(folder)


def test_pickled_arrays_are_never_loaded(folder):
    np.save(folder / "token_bytes.npy", np.array([{}], dtype=object), allow_pickle=True)
    about = read_json(folder / "tokens.json")
    write_json(folder / "tokens.json", {**about, "sha256": tokenizers.binary_sha256(folder, list(about["tokens"]))})
    with pytest.raises(ConfigError, match="Object arrays cannot be loaded"):
        Tokens.open(folder)
