"""Text of one's own in whatever files it is, from the Hub, and from a reader of one's own."""

from __future__ import annotations

import gzip
import json
import lzma
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from checkouts import ROOT, TINY
from hypothesis import given, settings
from hypothesis import strategies as st

from gt.catalogue import component
from gt.data import corpora
from gt.data.reader import Document, Reader, text_sum
from gt.data.sums import file_sha256
from gt.errors import ConfigError
from gt.records import read_json
from gt.spec import corpus_spec

TEXTS = [f"Document {i}: naïve, 東京, 'quoted' \n and on.\n" for i in range(40)]
UNPACKED: dict[str, Callable[[bytes], bytes]] = {"": bytes}
PACKED: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: pa.compress(data, codec="zstd", asbytes=True),
}


def lines(texts: list[str], field: str = "text") -> bytes:
    return "".join(json.dumps({"n": i, field: text}, ensure_ascii=i % 2 == 0) + "\n" for i, text in enumerate(texts)).encode()


def table(path: Path, texts: list[Any], column: str = "text", rows: int = 7) -> Path:
    pq.write_table(pa.table({"n": list(range(len(texts))), column: texts}), path, row_group_size=rows)
    return path


def documents(path: Path, **options: str) -> list[str]:
    """The documents of a path, of one piece each."""
    reader = component("corpus", "file:").load()
    found, pieces = [], ""
    for document in reader(reader.Config(**options), path=path).documents():
        pieces += document.text
        if document.ends:
            found.append(pieces)
            pieces = ""
    return [*found, pieces] if pieces else found


@pytest.mark.parametrize("suffix, pack", {**UNPACKED, **PACKED}.items())
def test_lines_of_json_are_documents_and_have_one_sum_however_they_are_packed(
    suffix: str, pack: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    path = tmp_path / f"d.jsonl{suffix}"
    path.write_bytes(pack(lines(TEXTS, "body")))
    assert documents(path, field="body") == TEXTS
    assert file_sha256(path, field="body") == file_sha256(table(tmp_path / "d.parquet", TEXTS))


@pytest.mark.parametrize("suffix, pack", PACKED.items())
def test_a_packed_text_is_the_text(suffix: str, pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("".join(TEXTS))
    (tmp_path / f"t.txt{suffix}").write_bytes(pack("".join(TEXTS).encode()))
    assert file_sha256(tmp_path / f"t.txt{suffix}") == file_sha256(tmp_path / "t.txt")
    (tmp_path / f"cut.txt{suffix}").write_bytes(pack("".join(TEXTS).encode())[:-9])
    with pytest.raises(ConfigError, match="cannot be read"):
        file_sha256(tmp_path / f"cut.txt{suffix}")


@settings(max_examples=50)  # of files
@given(text=st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1), size=st.integers(1, 9))
def test_a_text_read_by_pieces_is_the_text(text: str, size: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("t") / "t.txt"
    path.write_text(text := f"It says: {text}", newline="")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gt.data.text_files.PIECE", size)
        assert "".join(documents(path)) == text


def test_a_character_that_is_cut_by_pieces_and_one_that_is_wrong_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gt.data.text_files.PIECE", 4)
    (tmp_path / "t.txt").write_bytes("abc東".encode() + b"\xe6\x9d!")
    with pytest.raises(ConfigError, match="not UTF-8 at byte 6, 0xe6"):
        file_sha256(tmp_path / "t.txt")
    (tmp_path / "t.txt").write_bytes("abc東".encode()[:-1])
    with pytest.raises(ConfigError, match="not UTF-8 at byte 3, 0xe6"):
        file_sha256(tmp_path / "t.txt")


def test_a_folder_is_its_files_in_order_each_a_document(tmp_path: Path) -> None:
    for name, text in {"b.txt": "two", "a/z.txt": "one", ".git/x.txt": "hidden", "c.txt.gz": "three"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    assert documents(tmp_path) == ["one", "two", "three"]
    (tmp_path / "d.jsonl").write_bytes(lines(["four"]))
    with pytest.raises(ConfigError, match=r"files of several kinds, such as .*d\.jsonl"):
        documents(tmp_path)


def test_a_folder_of_lines_or_of_tables_is_all_their_rows(tmp_path: Path) -> None:
    for kind in ("jsonl", "parquet"):
        (tmp_path / kind).mkdir()
    for i, part in enumerate((TEXTS[:13], TEXTS[13:])):
        (tmp_path / f"jsonl/{i}.jsonl").write_bytes(lines(part))
        table(tmp_path / f"parquet/{i}.parquet", part)
    assert documents(tmp_path / "jsonl") == documents(tmp_path / "parquet") == TEXTS


@pytest.mark.parametrize(
    "content, message",
    [
        (lines(TEXTS, "txet"), r"d\.jsonl, line 1: field: there is no 'text'\. Did you mean 'txet'\? Allowed: n, txet\."),
        (b'{"text": "a"}\n{"n": 1}\n', r"line 2: field: there is no 'text'.* Allowed: n\."),
        (b'{"text": 5}\n', r"line 1: field 'text' holds 5, not text\."),
        (b'{"text": "a"}\n\n["a"]\n', "line 3: is no JSON object"),
        (b'{"text": "a"\n', "line 1: is no JSON"),
        (b'{"text": "\\ud800"}\n', "line 1: field 'text' holds half of a surrogate pair"),
        (b'{"text": "\xff"}\n', "line 1: is no JSON"),
        (b"", "is empty"),
    ],
)
def test_a_line_without_the_field_is_named_with_the_fields_there_are(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        documents(tmp_path / "d.jsonl")


def test_a_table_without_the_column_is_named_with_the_columns_there_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"column: there is no 'body'\. Allowed: n, text\."):
        documents(table(tmp_path / "d.parquet", TEXTS), column="body")
    with pytest.raises(ConfigError, match="column 'n' holds 0, not text"):
        documents(tmp_path / "d.parquet", column="n")
    with pytest.raises(ConfigError, match="field is for JSON objects a line, and this is read as a table in columns"):
        documents(tmp_path / "d.parquet", field="body")
    (tmp_path / "no.parquet").write_bytes(b"PAR1 and nothing more")
    with pytest.raises(ConfigError, match="cannot be read"):
        documents(tmp_path / "no.parquet")


def test_what_is_null_is_no_document(tmp_path: Path) -> None:
    path = table(tmp_path / "d.parquet", ["a" * 99, None, "", "b" * 99, "c" * 99])
    corpora.prepare(corpus_spec("file:d"), tmp_path / "out", path)
    assert sum(read_json(tmp_path / "out/corpus.json")["bytes"].values()) == 300  # and an end of line after each
    assert text_sum([Document("a"), Document("")]) != text_sum([Document("a")])


# A data set of the Hub, as `datasets` loads it: here from a folder, in each format.


def as_text_file(folder: Path, split: str, texts: list[str]) -> None:
    (folder / f"{split}.txt").write_text("".join(text.replace("\n", " ").strip() + "\n" for text in texts))


def as_json(folder: Path, split: str, texts: list[str]) -> None:
    (folder / f"{split}.jsonl").write_bytes(lines(texts))


def as_csv(folder: Path, split: str, texts: list[str]) -> None:
    datasets.Dataset.from_dict({"text": texts}).to_csv(folder / f"{split}.csv")


def as_parquet(folder: Path, split: str, texts: list[str]) -> None:
    table(folder / f"{split}.parquet", texts)


def as_arrow(folder: Path, split: str, texts: list[str]) -> None:
    with (
        pa.OSFile(str(folder / f"{split}.arrow"), "wb") as file,
        pa.ipc.new_stream(file, pa.schema({"text": pa.string()})) as out,
    ):
        out.write_table(pa.table({"text": texts}))


FORMATS = [as_text_file, as_json, as_csv, as_parquet, as_arrow]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., list[Document]]:
    """The documents of a data set whose name is a folder."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")

    def read(folder: Path, **options: Any) -> list[Document]:
        own = component("corpus", "hub:").load()
        return list(own(own.Config(revision="0" * 40, **options), str(folder)).documents())

    return read


@pytest.mark.parametrize("write", FORMATS, ids=lambda write: write.__name__)
def test_a_data_set_is_read_in_each_format(write: Any, hub: Callable[..., list[Document]], tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    for split, texts in {"train": TEXTS[:20], "validation": TEXTS[20:30], "test": TEXTS[30:]}.items():
        write(tmp_path / "set", split, texts)
    expected = [t.replace("\n", " ").strip() for t in TEXTS] if write is as_text_file else TEXTS
    found = hub(tmp_path / "set")
    assert [document.text for document in found] == expected
    assert [document.split for document in found] == ["train"] * 20 + ["val"] * 10 + ["test"] * 10
    assert hub(tmp_path / "set", split="validation") == [Document(text) for text in expected[20:30]]


def test_a_data_set_without_such_a_column_or_split_says_which_there_are(
    hub: Callable[..., list[Document]], tmp_path: Path
) -> None:
    (tmp_path / "set").mkdir()
    table(tmp_path / "set/train.parquet", TEXTS)
    with pytest.raises(ConfigError, match=r"column: there is no 'body'\. Allowed: n, text\."):
        hub(tmp_path / "set", split="train", column="body")
    with pytest.raises(ConfigError, match="column 'n' holds 0, not text"):
        hub(tmp_path / "set", split="train", column="n")
    with pytest.raises(ConfigError, match=r"split: there is no 'trian'\. Did you mean 'train'\?"):
        hub(tmp_path / "set", split="trian")
    with pytest.raises(ConfigError, match=r"no train and validation of its own, so name one to be cut\..* Allowed: train\."):
        hub(tmp_path / "set")
    with pytest.raises(ConfigError, match="could not be fetched.*file:<path>"):
        hub(tmp_path / "nowhere", split="train")


@pytest.mark.parametrize("revision", ["main", "v1.0", "0" * 39])
def test_a_data_set_is_pinned_by_a_commit(revision: str) -> None:
    assert corpus_spec("hub:a/b", revision="0" * 40).id != corpus_spec("hub:a/b", revision="1" * 40).id
    with pytest.raises(ValueError, match="revision"):
        corpus_spec("hub:a/b", revision=revision)
    with pytest.raises(ValueError, match="revision"):
        corpus_spec("hub:a/b")


# A reader of one's own.

OWN = '''"""Corpora of this laboratory."""

from gt.data.reader import Document, Reader
from gt.options import Count, Options


class Squares(Reader):
    """Numbers and their squares."""

    name = "squares"

    class Config(Options):
        n: Count = 300

    def documents(self):
        import heavy_package  # which planning does not need

        yield from (Document(f"{i} squared is {i * i}.") for i in range(self.config.n))
'''


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder of a project with a study."""
    (tmp_path / "mylab").mkdir()
    (tmp_path / "mylab/__init__.py").touch()
    (tmp_path / "mylab/corpora.py").write_text(OWN)
    (tmp_path / "heavy_package.py").touch()
    (tmp_path / "pyproject.toml").write_text('[tool.groundthink]\npackage = "mylab"\n')
    (tmp_path / "config").mkdir()
    for name in ("variants", "scales.yaml"):
        (tmp_path / "config" / name).symlink_to(ROOT / "config" / name)
    (tmp_path / "config/studies").mkdir()
    own = ["squares", {"name": "squares", "n": 400, "documents": "separated"}]
    study = {**TINY, "corpora": own, "tokenizers": [{"name": "char"}]}
    (tmp_path / "config/studies/s.yaml").write_text(yaml.safe_dump(study))
    return tmp_path


def gt(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "gt", *arguments], cwd=folder, capture_output=True, text=True)


def test_a_reader_of_a_project_needs_no_other_line(project: Path) -> None:
    assert len([line for line in OWN.splitlines() if line.strip()]) <= 15
    planned = gt(project, "plan", "config/studies/s.yaml", "--out", "plan.json")
    assert planned.returncode == 0, planned.stderr
    plan = read_json(project / "plan.json")
    first, second = plan["corpora"]
    assert first == "squares" and second.startswith("squares-") and plan["corpora"][second]["n"] == 400
    for corpus in (first, second):
        done = gt(project, "corpus", "--plan", "plan.json", "--corpus", corpus, "--out", f"data/{corpus}")
        assert done.returncode == 0, done.stderr
    assert (project / "data/squares/train.txt").read_text().startswith("0 squared is 0.\n1 squared is 1.\n2")
    options = ("--plan", "plan.json", "--corpus", f"data/{second}", "--tokenizer", "char", "--out", f"data/{second}/char")
    done = gt(project, "tokenize", *options, "--threads", "2")
    assert done.returncode == 0, done.stderr
    about = read_json(project / f"data/{second}/char/tokens.json")
    assert (
        sum(about["tokens"].values()) == sum(about["bytes"].values()) + 400 + 3
    )  # a separator a document, and one at each start
    listed = gt(project, "list").stdout
    assert "squares" in listed and "Numbers and their squares." in listed


def test_a_wrong_option_of_a_reader_is_named(project: Path) -> None:
    study = project / "config/studies/s.yaml"
    study.write_text(study.read_text().replace("n: 400", "m: 400"))
    planned = gt(project, "plan", "config/studies/s.yaml", "--out", "plan.json")
    assert planned.returncode == 2
    assert "unknown key 'm'" in planned.stderr and "Allowed: " in planned.stderr and " n" in planned.stderr


class Given(Reader):
    """Whatever is given."""

    def __init__(self, *documents: Document) -> None:
        super().__init__()
        self.given = documents

    def documents(self) -> Any:
        yield from self.given


@pytest.mark.parametrize(
    "given_documents, message",
    [
        ([Document("a", "valid")], "a document of the split 'valid'. Allowed: train, val, test"),
        ([Document("a" * 99, "train"), Document("b")], "a document of the split None"),
        ([Document("a" * 99, "train")], "it has no val split"),
        ([], "it has no text"),
    ],
)
def test_a_reader_that_mixes_its_splits_is_told(given_documents: list[Document], message: str, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpora, "reader", lambda spec, path: Given(*given_documents))
        with pytest.raises(ConfigError, match=message):
            corpora.prepare(corpus_spec("embedded"), tmp_path)
    assert not list(tmp_path.glob("*"))
