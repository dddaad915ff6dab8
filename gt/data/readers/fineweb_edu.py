"""FineWeb-Edu (Penedo et al. 2024, arXiv:2406.17557)."""

from __future__ import annotations

from collections.abc import Iterator

from gt.data.reader import Document, Reader
from gt.data.readers.hub import rows
from gt.errors import ConfigError


class FineWebEdu(Reader):
    """Educational web pages (sample-10BT): 5 MB val, 5 MB test, then max_bytes of train.

    In the published order: whole documents of val, then of test, then train. The held-out text is therefore the same whatever
    `max_bytes` is.
    """

    name = "fineweb-edu"
    source = "https://huggingface.co/datasets/HuggingFaceFW/fineweb-edu"
    licence = "ODC-By 1.0"
    end = "\n\n<|endoftext|>\n\n"
    dataset = {
        "path": "HuggingFaceFW/fineweb-edu",
        "name": "sample-10BT",
        "revision": "87f09149ef4734204d70ed1d046ddc9ca3f2b8f9",
    }
    held_out_bytes = 5_000_000

    def documents(self) -> Iterator[Document]:
        if self.max_bytes is None:
            raise ConfigError(f"corpus {self.name}: max_bytes is needed, e.g. max_bytes: 100000000 (100 MB of train).")
        texts = rows(self.name, "text", **self.dataset, split="train", streaming=True)
        for split, size in {"val": self.held_out_bytes, "test": self.held_out_bytes, "train": self.max_bytes}.items():
            n = 0
            while n < size and (text := next(texts, None)) is not None:
                n += len((text + self.end).encode())
                yield Document(text, split)
