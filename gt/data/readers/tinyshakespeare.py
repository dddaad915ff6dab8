"""Tiny Shakespeare."""

from __future__ import annotations

from collections.abc import Iterator

from gt.data.reader import Document, Reader
from gt.data.readers.local import download, local_copy
from gt.data.text_files import read_text

TRAIN_BYTES = 1_003_854


class TinyShakespeare(Reader):
    """Shakespeare's plays; the field's split: first 1,003,854 bytes train, rest val (1.1 MB)."""

    name = "tinyshakespeare"
    source = (
        "https://raw.githubusercontent.com/karpathy/char-rnn/6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e"
        "/data/tinyshakespeare/input.txt"
    )
    licence = "public domain"
    sha256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
    pinned = {
        "train": "a9e24e23a1ec77744dad26844bfd5a09b6e041954e1eef0000e7f24cba6db735",
        "val": "c54f3753a4e6e3c3d1759212815a7caf826e68a33021b25312984400bed40a1f",
    }

    def documents(self) -> Iterator[Document]:
        path = local_copy(self.name) or download(self.name, self.source, self.sha256)
        text = read_text(path, self.sha256)
        yield Document(text[:TRAIN_BYTES].decode(), "train", ends=False)
        yield Document(text[TRAIN_BYTES:].decode(), "val", ends=False)

    def at_hand(self) -> int | None:
        copy = local_copy(self.name)
        return copy.stat().st_size if copy else None
