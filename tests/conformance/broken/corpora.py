"""Corpus readers."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, ClassVar

from gt.data.reader import Document, Reader

LINE = "a line of a poem that says again and again what it has to say, "


class Poems(Reader):
    """Poems of one line."""

    name = "poems"
    source = "an example"
    breaks: ClassVar[str] = ""
    says: ClassVar[str] = ""

    def documents(self) -> Iterator[Document]:
        for i in range(200):
            yield Document(f"{i}: " + 3 * LINE, ("train", "val", "test")[i % 3])


class Torn(Poems):
    """It decodes bytes somehow."""

    name = "torn"
    breaks = "test_a_corpus_yields_documents"
    says = "document 0 is no text .*: decode bytes as what they are"

    def documents(self) -> Iterator[Document]:
        yield Document(b"caf\xe9".decode(errors="surrogateescape"), "train")


class Bare(Poems):
    """It yields text alone."""

    name = "plain"
    breaks = "test_a_corpus_yields_documents"
    says = r"document 0 is a str: yield gt\.data\.reader\.Document\(text\)"

    def documents(self) -> Iterator[Any]:
        yield LINE


class Shuffled(Poems):
    """It shuffles without a seed."""

    name = "shuffled"
    breaks = "test_a_corpus_is_the_same_however_often_it_is_read"
    says = "is another one when it is read again: sort what a folder lists, and seed what is drawn"

    def documents(self) -> Iterator[Document]:
        found = list(super().documents())
        random.shuffle(found)
        yield from found


class Whole(Poems):
    """It holds all of its text."""

    name = "whole"
    breaks = "test_a_corpus_is_streamed"
    says = r"documents\(\) returns a list, which holds the whole text"

    def documents(self) -> Any:
        return list(super().documents())


class Leaking(Poems):
    """It tests on what it trains on."""

    name = "leaking"
    breaks = "test_no_document_is_in_two_splits_of_a_corpus"
    says = "a document is in train and in val: "

    def documents(self) -> Iterator[Document]:
        yield Document(3 * LINE, "train")
        yield Document(3 * LINE, "val")


class Stray(Poems):
    """Nobody knows where it is from."""

    name = "stray"
    source = ""
    breaks = "test_a_corpus_says_where_it_is_from"
    says = "it has no source: write source = '...' in the class"
