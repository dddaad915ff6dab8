"""A corpus from a table, whose rows are documents."""

import csv
from collections.abc import Iterator
from pathlib import Path

from gt.data.reader import Document, Reader


class Sayings(Reader):
    """The column `saying` of sayings.csv, a row a document."""

    name = "sayings"
    source = "drawn by this test"

    def documents(self) -> Iterator[Document]:
        with Path("sayings.csv").open(newline="") as file:
            yield from (Document(row["saying"]) for row in csv.DictReader(file))
