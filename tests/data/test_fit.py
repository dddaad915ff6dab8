"""A sequence that is longer than its text is refused before anything is trained."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from checkouts import ROOT, TINY

from gt.cli import main
from gt.records import read_json

BPE = {"name": "bpe", "vocab_size": 300}
Plan = Callable[..., int]


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """The text of a corpus and changes of a study's training -> the exit code of `gt plan`."""
    shutil.copytree(ROOT / "config/variants", tmp_path / "config/variants")
    shutil.copy(ROOT / "config/scales.yaml", tmp_path / "config")
    (tmp_path / "config/studies").mkdir()

    def planned(text: bytes, tokenizers: list[Any], corpora: list[str] | None = None, **training: Any) -> int:
        (tmp_path / "t.txt").write_bytes(text)
        study = {**TINY, "corpora": corpora or [f"file:{tmp_path / 't.txt'}"], "tokenizers": tokenizers}
        path = tmp_path / "config/studies/s.yaml"
        path.write_text(yaml.safe_dump({**study, "training": {**TINY["training"], **training}}))
        return main(["plan", str(path), "--out", str(tmp_path / "plan.json")])

    return planned


def tokenize(folder: Path, tokenizer: str) -> int:
    """The exit code of `gt tokenize` for the corpus of a plan."""
    corpus = next(iter(read_json(folder / "plan.json")["corpora"]))
    options = ["--plan", str(folder / "plan.json"), "--corpus"]
    assert main(["corpus", *options, corpus, "--out", str(folder / corpus)]) == 0
    out = ["--tokenizer", tokenizer, "--out", str(folder / corpus / tokenizer)]
    return main(["tokenize", *options, str(folder / corpus), *out])


@pytest.mark.parametrize(
    ("tokenizer", "most", "says"),
    [
        ({"name": "char"}, 29, "has 30 tokens; the largest that fits is 29."),
        (BPE, 34, "has at most 35 tokens; the largest that fits is at most 34."),
    ],
    ids=["char", "bpe"],
)
def test_a_sequence_longer_than_a_file_s_val_split_is_refused_when_it_is_planned(
    plan: Plan, tokenizer: Any, most: int, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "naïve ".encode() * 100  # 5 % of whose bytes are 35, of 30 characters
    assert plan(text, [tokenizer], sequence_length=most + 1) == 2
    message = capsys.readouterr().err
    (_, where, told) = message.partition("s.yaml, line ")
    assert where
    assert f" (variant GPT-2): training.sequence_length: {most + 1} does not fit the val split, which {says}" in told
    assert not (tmp_path / "plan.json").exists()
    assert plan(text, [tokenizer], sequence_length=most) == 0


def test_also_one_that_is_longer_than_the_train_split_that_max_bytes_leaves(
    plan: Plan, capsys: pytest.CaptureFixture[str]
) -> None:
    capped: Any = [{"name": "embedded", "max_bytes": 500}]
    assert plan(b"", [{"name": "char"}], capped, sequence_length=500) == 2
    assert "500 does not fit the train split, which has 500 tokens; the largest that fits is 499." in capsys.readouterr().err


def test_what_only_the_tokens_show_is_refused_by_tokenize(
    plan: Plan, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = b"the cat sat on the mat\n" * 400  # 460 bytes of val
    assert plan(text, [BPE], sequence_length=400) == 0
    capsys.readouterr()
    assert tokenize(tmp_path, "bpe300") == 2
    message = capsys.readouterr().err
    assert "study s, cell GPT-2.file-t-" in message
    n = read_json(next(tmp_path.glob("file-t-*/bpe300/tokens.json")))["tokens"]["val"]
    assert f"training.sequence_length: 400 does not fit the val split, which has {n} tokens" in message
    assert plan(text, [BPE], sequence_length=n - 1) == 0
    assert tokenize(tmp_path, "bpe300") == 0


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "the file is empty"),
        (b" \n\n", "nothing but white space"),
        (b"caf\xe9 au lait", "not UTF-8 at byte 3"),
        (b'{"text": "a"}\n' * 99, "it holds JSON objects a line, not text"),
    ],
)
def test_a_file_without_text_is_refused_when_it_is_planned(
    plan: Plan, content: bytes, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert plan(content, [{"name": "char"}]) == 2
    assert says in capsys.readouterr().err
