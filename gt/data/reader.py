"""What a corpus reader is: a component that yields the documents of a text, one after another. Imports nothing heavy."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from gt.errors import ConfigError
from gt.options import Options


class Document(NamedTuple):
    """A document, or a piece of one.

    split: train, val or test, where the corpus has splits of its own; None where the specification's `splits` decide. ends:
    whether the document ends here; else the next piece goes on with it. answers: of a recall task, for each character 1 where
    losses are taken on it, else 0.
    """

    text: str
    split: str | None = None
    ends: bool = True
    answers: bytes | None = None


class Reader:
    """A corpus by its name in a study. A name such as `file:<path>` stands for all that begin with `file:`.

    `config` has its options, `argument` what the study's name has in place of <...>, `path` where the text of a `file:` corpus
    is on this machine, and `max_bytes` how much of the train split is wanted: a reader may stop there, and none has to.
    """

    name: ClassVar[str]
    # For corpus.json: where the text comes from, and what one may do with it.
    source: str = ""
    licence: str = "the user's to know"
    # What stands after each document where no separator token does.
    end: ClassVar[str] = "\n"
    # The sha256 of splits that cannot change.
    pinned: ClassVar[dict[str, str]] = {}

    class Config(Options):
        """No options."""

    def __init__(self, config: Any = None, argument: str = "", max_bytes: int | None = None, path: Path | None = None) -> None:
        """config: of this class's `Config`; by default its defaults."""
        self.config: Any = self.Config() if config is None else config
        self.argument, self.max_bytes, self.path = argument, max_bytes, path

    def documents(self) -> Iterator[Document]:
        """The documents in an order that never changes. ConfigError where they cannot be had. Heavy packages are imported here.

        Whatever is yielded may be forgotten: a reader holds one document, or a piece of it, and never the whole text.
        """
        raise NotImplementedError

    def at_hand(self) -> int | None:
        """The size in bytes of the files of a text that is on this machine; None where it is not, or is not known to be."""
        return None


def text_sum(documents: Iterable[Document]) -> str:
    """The sha256 of a text: of its UTF-8, with a byte 0xff, which no UTF-8 has, after each document that ends.

    So the sum of a plain file is that of its bytes, and documents have one sum in whatever files they are.
    """
    digest = hashlib.sha256()
    for document in documents:
        _add(document, digest)
    return digest.hexdigest()


def checked(documents: Iterable[Document], sha256: str | None, where: object) -> Iterator[Document]:
    """The documents, and after the last one a ConfigError if their sum is another than is given."""
    digest = hashlib.sha256()
    for document in documents:
        _add(document, digest)
        yield document
    if sha256 is not None and (got := digest.hexdigest()) != sha256:
        raise ConfigError(f"{where}: sha256 of the text is {got}, expected {sha256}.")


def _add(document: Document, digest: hashlib._Hash) -> None:
    digest.update(document.text.encode())
    if document.ends:
        digest.update(b"\xff")
