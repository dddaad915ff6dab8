"""The tokens of a corpus: a tokenizer, fitted on the train split alone or read from a file, and what it makes of each split."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gt.data.codecs import BpeTokenizer, CharTokenizer, Tokenizer, from_json
from gt.data.encoding import Encoder, cut, encoded, read
from gt.data.slices import EVALUATION_BYTES, STEP, episode_places, places
from gt.data.sums import tokenizer_sha256
from gt.errors import ConfigError
from gt.progress import progress
from gt.records import atomic_write, read_json, write_json

if TYPE_CHECKING:
    from gt.spec import TokenizerSpec

Json = dict[str, Any]


class Separated:
    """A tokenizer with one token more, which stands between documents, has no bytes, and is decoded to an empty line."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer, self.separator = tokenizer, tokenizer.vocab_size
        self.vocab_size = tokenizer.vocab_size + 1
        self.token_bytes = np.append(tokenizer.token_bytes, 0)
        self.encode, self.encode_parts = tokenizer.encode, tokenizer.encode_parts
        self.unknown, self.to_json = tokenizer.unknown, tokenizer.to_json

    def decode(self, ids: Iterable[int]) -> str:
        own = np.fromiter(ids, dtype=np.int64)
        documents = np.split(own, np.flatnonzero(own == self.separator))
        return "\n\n".join(self.tokenizer.decode(part[part != self.separator]) for part in documents)


def prepare(corpus_dir: Path, spec: TokenizerSpec, out: Path, path: Path | None = None, threads: int = 1) -> None:
    """Fit on the train split, encode all splits, and write the folder that `gt.data.tokens.Tokens` opens.

    tokenizer.json, token_bytes.npy, <split>.bin (little-endian uint16, or uint32 for more than 65,536 tokens),
    of a task <split>.answers.bin (a byte a token) and, last, tokens.json. A held-out split is encoded in parts, between the
    places where its slices begin and may end; tokens.json has these in bytes and in tokens. Where documents are kept apart, a
    separator stands before the first and after each; it has no bytes. path: of a tokenizer.json. threads: of processes.

    ConfigError if the corpus folder is not what its corpus.json says, a held-out split is too short to predict anything, or a
    tokenizer does not give the text back.
    """
    os.environ["RAYON_NUM_THREADS"] = str(threads)  # which the library reads when it is first used
    corpus = read_json(corpus_dir / "corpus.json")
    for split in corpus["sha256"]:
        _check_sum(corpus_dir / f"{split}.txt", corpus["sha256"][split])
    fitted = _fit(spec, _texts(corpus_dir, corpus), path)
    tokenizer: Tokenizer = fitted if corpus["documents"] == "joined" else Separated(fitted)
    separator = getattr(tokenizer, "separator", None)
    dtype = "uint16" if tokenizer.vocab_size <= 1 << 16 else "uint32"
    with atomic_write(out / "tokenizer.json") as temporary:
        temporary.write_text(tokenizer.to_json(), encoding="utf-8")
    with atomic_write(out / "token_bytes.npy") as temporary, temporary.open("wb") as file:
        np.save(file, tokenizer.token_bytes)
    encoder = Encoder(fitted, spec.id, separator, "<u2" if dtype == "uint16" else "<u4", spec.name in ("file", "hub"))
    counts, unknown, slices = {}, {}, {}
    for split in corpus["sha256"]:
        if corpus["answers"]:
            with atomic_write(out / f"{split}.answers.bin") as temporary:
                shutil.copyfile(corpus_dir / f"{split}.answers", temporary)
        with atomic_write(out / f"{split}.bin") as temporary:
            counts[split], unknown[split], slices[split] = _encode_split(encoder, corpus_dir, corpus, split, temporary, threads)
    record = {
        "tokenizer": spec.id,
        "vocab_size": tokenizer.vocab_size,
        "dtype": dtype,
        "tokens": counts,
        "bytes": corpus["bytes"],
        "unknown": unknown,
        "slices": {split: own for split, own in slices.items() if own["bytes"]},
        "answers": corpus["answers"],
        "separator": separator,
        "apart": corpus["documents"] == "apart",
        "sha256": binary_sha256(out, list(counts), corpus["answers"]),
        "corpus": corpus["id"],
        "corpus_sha256": corpus["sha256"],
    }
    write_json(out / "tokens.json", record)


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a folder of tokens. ConfigError where it is none."""
    try:
        tokenizer = from_json((folder / "tokenizer.json").read_text(encoding="utf-8"))
    except (ConfigError, OSError) as error:
        raise ConfigError(f"{folder / 'tokenizer.json'}: {error}") from None
    return tokenizer if read_json(folder / "tokens.json").get("separator") is None else Separated(tokenizer)


def binary_sha256(folder: Path, splits: list[str], answers: bool = False) -> str:
    """One sum over the names and contents of the binary files: the identity of the data that a run saw."""
    digest = hashlib.sha256()
    flags = [f"{split}.answers.bin" for split in splits if answers]
    for name in ["token_bytes.npy", *(f"{split}.bin" for split in splits), *flags]:
        with (folder / name).open("rb") as file:
            digest.update(name.encode() + b"\0" + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _fit(spec: TokenizerSpec, train: Iterator[str], path: Path | None) -> Tokenizer:
    if spec.name == "char":
        return CharTokenizer.fit(train)
    if spec.vocab_size is not None:
        return BpeTokenizer.fit(train, spec.vocab_size)
    if spec.name == "hub":
        path = _downloaded(spec)
    elif path is None:
        raise ConfigError(f"tokenizer {spec.id}: the path of its tokenizer.json is not given.")
    elif (got := tokenizer_sha256(path)) != spec.sha256:
        raise ConfigError(f"{path}: sha256 is {got}, expected {spec.sha256}.")
    try:
        return from_json(path.read_text(encoding="utf-8"))
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def _downloaded(spec: TokenizerSpec) -> Path:
    """The tokenizer.json of a repository of the Hub, of the cache if it is there."""
    import huggingface_hub

    assert spec.repo is not None, "TokenizerSpec checks it"
    try:
        return Path(huggingface_hub.hf_hub_download(spec.repo, "tokenizer.json", revision=spec.revision))
    except Exception as error:  # its network stack has no one family of errors
        said = str(error).partition("\n")[0][:200]
        raise ConfigError(
            f"tokenizer {spec.id}: tokenizer.json of {spec.repo} could not be fetched ({type(error).__name__}: {said}). Fetch"
            " it on a machine with a network and copy its cache (HF_HOME) here, or name the file: {name: file, path: ...}."
        ) from None


def _texts(corpus_dir: Path, corpus: Json) -> Iterator[str]:
    """The train split in parts."""
    with (corpus_dir / "train.txt").open("rb") as text:
        for part in cut(text, corpus["bytes"]["train"], [], _ends(corpus_dir, corpus, "train")):
            yield read(text, part)


def _encode_split(
    encoder: Encoder, corpus_dir: Path, corpus: Json, split: str, out: Path, threads: int
) -> tuple[int, int, dict[str, list[int]]]:
    """Write the tokens of a split. Returns how many there are, how many are unknown, and its `Places`, of train none."""
    cuts = [] if split == "train" else _places(corpus_dir, corpus, split)
    text = corpus_dir / f"{split}.txt"
    ends = _ends(corpus_dir, corpus, split)
    before: list[int] = []
    n_tokens = n_unknown = 0
    with out.open("wb") as file, text.open("rb") as source:
        if encoder.separator is not None:
            n_tokens = 1
            np.array([encoder.separator], dtype=encoder.dtype).tofile(file)
        pieces = encoded(encoder, text, cut(source, corpus["bytes"][split], cuts, ends), threads)
        for found in progress(pieces, f"tokens of {split}", " pieces"):
            found.ids.tofile(file)
            n_unknown += found.unknown
            for part, n in zip(found.parts, found.lengths, strict=True):
                n_tokens += n
                if len(before) < len(cuts) and part.end == cuts[len(before)]:
                    before.append(n_tokens)
                n_tokens += part.ends
    return n_tokens, n_unknown, {"bytes": cuts, "tokens": before}


def _places(corpus_dir: Path, corpus: Json, split: str) -> list[int]:
    """Where the slices of a held-out split begin and may end, in bytes."""
    episode = corpus["episode"] or 0
    with (corpus_dir / f"{split}.txt").open("rb") as file:
        head = file.read(4 * (EVALUATION_BYTES + 2 * STEP + episode))
    head = head.decode(errors="ignore").encode()  # without a part of a character at its end
    found = episode_places(head, episode) if corpus["answers"] else places(head)
    if len(found) == 1:
        raise ConfigError(f"corpus {corpus['name']}: its {split} split is too short: {head[:40].decode(errors='ignore')!r}.")
    return found


def _ends(corpus_dir: Path, corpus: Json, split: str) -> np.ndarray:
    """Where the documents end that are kept apart, in bytes: (n,), memory-mapped."""
    if corpus["documents"] == "joined":
        return np.zeros(0, dtype="<i8")
    return np.memmap(corpus_dir / f"{split}.ends", dtype="<i8", mode="r")


def _check_sum(path: Path, expected: str) -> None:
    try:
        with path.open("rb") as file:
            got = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; prepare the corpus again.") from None
    if got != expected:
        raise ConfigError(f"{path}: sha256 is {got}, corpus.json says {expected}; prepare the corpus again.")
