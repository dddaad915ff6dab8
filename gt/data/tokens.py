"""An encoded corpus, memory-mapped from the folder that `gt.data.tokenizers.prepare` wrote."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from gt.data.slices import Places, Slice
from gt.data.tokenizers import binary_sha256
from gt.errors import ConfigError
from gt.records import read_json

# Tokens that are looked through at once.
AT_ONCE = 1 << 24


@dataclass(frozen=True)
class Tokens:
    """The splits as read-only arrays (n,) of token ids; `test` is None where the corpus has no test split.

    token_bytes: (vocab_size,) int64, bytes of UTF-8 that each token stands for. sha256: identity of the
    binary files. places: for val and test, where slices begin and may end. answers: for each split of a task, which tokens
    (n,) losses are taken on; of a text, where that is every token, nothing. separator: the token before the first and after
    each document, where they are kept apart; apart: whether no window has tokens of two documents.
    """

    vocab_size: int
    train: np.ndarray
    val: np.ndarray
    test: np.ndarray | None
    token_bytes: np.ndarray
    sha256: str
    places: dict[str, Places]
    answers: dict[str, np.ndarray] = field(default_factory=dict)
    separator: int | None = None
    apart: bool = False

    def marked(self, split: str) -> np.ndarray:
        """The tokens of train, val or test with those that are no answers as their complement ~t, as losses take them."""
        tokens: np.ndarray = getattr(self, split)
        return np.where(self.answers[split], tokens, ~tokens.astype(np.int32)) if self.answers else tokens

    def borders(self, split: str) -> np.ndarray | None:
        """Where the separators of train, val or test stand, (n,) int64, if no window has tokens of two documents."""
        if not self.apart:
            return None
        tokens: np.ndarray = getattr(self, split)
        found = [
            start + np.flatnonzero(tokens[start : start + AT_ONCE] == self.separator)
            for start in range(0, len(tokens), AT_ONCE)
        ]
        return np.concatenate(found)

    def slice(self, split: str, n_bytes: int) -> Slice:
        """The slice of about n bytes of val or test. Of a task: of as many characters, and its bytes are those of answers."""
        found = self.places[split].slice(n_bytes)
        if not self.answers:
            return found
        counted = self.marked(split)[found.first : found.end]
        return replace(found, n_bytes=int(self.token_bytes[counted[counted >= 0]].sum()))

    @classmethod
    def open(cls, folder: Path) -> Tokens:
        """Open a folder of tokens. ConfigError if a file is missing, truncated, or not the one that was
        written.
        """
        about = read_json(folder / "tokens.json")
        try:
            dtype = np.dtype({"uint16": "<u2", "uint32": "<u4"}[about["dtype"]])
            for split, count in about["tokens"].items():
                path, expected = folder / f"{split}.bin", count * dtype.itemsize
                if (got := path.stat().st_size) != expected:
                    raise ConfigError(f"{path}: has {got:,} bytes, not {expected:,} as tokens.json says; tokenize again.")
            expected, has_answers = about["sha256"], about.get("answers", False)
            if (found := binary_sha256(folder, list(about["tokens"]), has_answers)) != expected:
                raise ConfigError(f"{folder}: sha256 of the tokens is {found}, not {expected}; tokenize again.")
            maps = {split: np.memmap(folder / f"{split}.bin", dtype=dtype, mode="r") for split in about["tokens"]}
            return cls(
                vocab_size=about["vocab_size"],
                train=maps["train"],
                val=maps["val"],
                test=maps.get("test"),
                token_bytes=np.load(folder / "token_bytes.npy", allow_pickle=False),
                sha256=about["sha256"],
                places={split: Places(**found) for split, found in about["slices"].items()},
                answers={
                    split: np.memmap(folder / f"{split}.answers.bin", dtype=bool, mode="r") for split in maps if has_answers
                },
                separator=about.get("separator"),
                apart=about.get("apart", False),
            )
        except FileNotFoundError as error:
            raise ConfigError(f"{error.filename}: no such file; tokenize again.") from None
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ConfigError(f"{folder}: tokens.json and its arrays are not what was written ({error!r}).") from None
