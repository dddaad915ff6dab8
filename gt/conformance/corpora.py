"""What a corpus reader promises. One that cannot be read here, as without a network, is skipped in its own words."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import zip_longest
from typing import Any

import pytest

from gt.catalogue import Component
from gt.conformance.subjects import Whole
from gt.data.reader import Document
from gt.errors import ConfigError
from gt.explain import validated

ENOUGH = 2_000_000  # characters that are looked at, from the beginning
SPLITS = ("train", "val", "test")


def reader(component: Component) -> Any:
    """With its options at their defaults, asked for 100 kB of its train split."""
    return component.load()(validated(component.config, {}, component.name), max_bytes=100_000)


def beginning(documents: Iterator[Document]) -> Iterator[Document]:
    """The first documents, until there are enough letters."""
    n = 0
    for document in documents:
        yield document
        n += len(getattr(document, "text", ""))
        if n > ENOUGH:
            return


@cache
def documents(component: Component) -> tuple[Document, ...] | str:
    """The first documents, or why there are none here."""
    if "<" in component.name:
        return f"{component.name} stands for many: test one of them"
    try:
        return tuple(beginning(iter(reader(component).documents())))
    except ConfigError as error:
        return str(error)


def read(corpus: Whole) -> tuple[Document, ...]:
    """The same; skipped where there are none."""
    found = documents(corpus.component)
    if isinstance(found, str):
        pytest.skip(found)
    if not all(isinstance(document, Document) for document in found):
        pytest.skip("it yields something else than documents")
    return found


def test_a_corpus_yields_documents(corpus: Whole) -> None:
    """Texts that can be written as UTF-8, of splits that are train, val and test, or of none."""
    there = documents(corpus.component)
    for i, document in enumerate(there if isinstance(there, tuple) else ()):
        if not isinstance(document, Document):
            corpus.fail(f"document {i} is a {type(document).__name__}: yield gt.data.reader.Document(text).")
    found = read(corpus)
    if not any(document.text for document in found):
        corpus.fail("it yields no text.")
    for i, document in enumerate(found):
        try:
            document.text.encode()
        except UnicodeEncodeError as error:
            corpus.fail(f"document {i} is no text ({error}): decode bytes as what they are, with errors='strict'.")
        if document.split not in (None, *SPLITS):
            corpus.fail(f"document {i} is of split {document.split!r}. Allowed: {', '.join(SPLITS)}, and None.")
        if document.answers is not None and len(document.answers) != len(document.text):
            corpus.fail(f"document {i} has {len(document.text)} letters and {len(document.answers)} answers, one a letter.")
    if len(kinds := {document.split is None for document in found}) == 2:
        corpus.fail(f"some documents name their split and some do not ({len(kinds)} kinds): all or none.")


def test_a_corpus_is_the_same_however_often_it_is_read(corpus: Whole) -> None:
    """The sums of its splits are a run's identity. Two readers go side by side, so what they share shows."""
    first = read(corpus)
    one, other = (beginning(iter(reader(corpus.component).documents())) for _ in range(2))
    for i, (before, a, b) in enumerate(zip_longest(first, one, other)):
        if not (before == a == b):
            corpus.fail(f"document {i} is another one when it is read again: sort what a folder lists, and seed what is drawn.")


def test_a_corpus_is_streamed(corpus: Whole) -> None:
    """One document after another, so that a text may be larger than memory."""
    read(corpus)
    found = reader(corpus.component).documents()
    if not isinstance(found, Iterator):
        corpus.fail(f"documents() returns a {type(found).__name__}, which holds the whole text: yield one document at a time.")


def test_no_document_is_in_two_splits_of_a_corpus(corpus: Whole) -> None:
    """What a model is tested on it has not been trained on."""
    where: dict[str, str] = {}
    text = ""
    for document in read(corpus):
        text += document.text
        if not document.ends or document.split is None:
            continue
        if len(text) > 100 and (other := where.setdefault(text, document.split)) != document.split:
            corpus.fail(f"a document is in {other} and in {document.split}: {text[:60]!r}... Split by document, not by line?")
        text = ""


def test_a_corpus_says_where_it_is_from(corpus: Whole) -> None:
    """For the notes on data in reports: a source, and what one may do with it."""
    read(corpus)
    own = reader(corpus.component)
    for name in ("source", "licence"):
        if not getattr(own, name):
            corpus.fail(f"it has no {name}: write {name} = '...' in the class.")
