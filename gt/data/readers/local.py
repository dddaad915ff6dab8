"""Texts that lie as local copies in one folder, and the cache of what is fetched."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from gt.data.reader import Document, Reader
from gt.data.text_files import PACKED, text_pieces
from gt.errors import ConfigError

# The environment variable that names the folder: <name>.txt or <name>/<split>.txt, plain or packed.
LOCAL = "GT_CORPUS_DIR"


class LocalFiles(Reader):
    """A corpus that exists as local files only, one for each split."""

    # By split, the file without .txt.
    stems: ClassVar[dict[str, str]] = {}

    def documents(self) -> Iterator[Document]:
        for split, stem in self.stems.items():
            if (path := local_copy(stem)) is None:
                names = ",".join(own.partition("/")[2] for own in self.stems.values())
                raise ConfigError(
                    f"corpus {self.name}: is not fetched; set the environment variable {LOCAL} (it is "
                    f"{os.environ.get(LOCAL)!r}) to a folder that holds {self.name}/{{{names}}}.txt, plain, .xz, .gz or .zst."
                )
            for text in text_pieces(path, self.pinned[split]):
                yield Document(text, split, ends=False)

    def at_hand(self) -> int | None:
        copies = [local_copy(stem) for stem in self.stems.values()]
        return sum(copy.stat().st_size for copy in copies if copy) if all(copies) else None


def local_copy(stem: str) -> Path | None:
    """A file of the folder of local copies, if there is one."""
    folder = os.environ.get(LOCAL)
    candidates = [Path(folder) / f"{stem}.txt{suffix}" for suffix in ("", *PACKED)] if folder else []
    return next((path for path in candidates if path.is_file()), None)


def download(name: str, url: str, sha256: str) -> Path:
    """A file of the download cache, fetched if it is not there. Its sum is checked."""
    import pooch  # type: ignore[import-untyped]

    try:
        return Path(pooch.retrieve(url, known_hash=f"sha256:{sha256}", path=pooch.os_cache("groundthink")))
    except (OSError, ValueError) as error:  # ValueError: pooch's word for a wrong sum
        raise ConfigError(
            f"corpus {name}: {url} could not be fetched ({first_line(error)}). Put the file as {name}.txt "
            f"(or .txt.xz, .txt.gz) into a folder and set the environment variable {LOCAL} to it."
        ) from None


def first_line(error: Exception) -> str:
    """What an error says first."""
    return str(error).partition("\n")[0][:200]
