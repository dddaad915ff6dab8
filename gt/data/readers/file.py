"""A user's own text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import Field

from gt.data.reader import Document, Reader, checked
from gt.data.text_files import COLUMNS, LINES, column_texts, json_texts, kind, text_pieces
from gt.errors import ConfigError
from gt.options import Options


class File(Reader):
    """Text of your own: UTF-8, .jsonl, .parquet, or a folder of files of one of these; plain or packed as .gz, .xz, .zst.

    A plain file is one text. Of lines of JSON and of tables each row is a document, of a folder of plain files each file, in
    the alphabetical order of their paths. A name in a study is a path; in a run's identity it is the file's name without its
    endings, and the sum of the text.
    """

    name = "file:<path>"

    class Config(Options):
        sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = Field(None, description="of the text")
        field: str = Field("text", description="of each line of a .jsonl")
        column: str = Field("text", description="of a .parquet")

    @property
    def source(self) -> str:  # type: ignore[override]
        """The name of the file."""
        return self._place().name

    def documents(self) -> Iterator[Document]:
        yield from checked(self._documents(), self.config.sha256, self._place())

    def _documents(self) -> Iterator[Document]:
        files, kind_, is_folder = self._files()
        for file in files:
            if kind_ == "text":
                for text in text_pieces(file):
                    yield Document(text, ends=False)
                if is_folder:
                    yield Document("")
            else:
                for text in json_texts(file, self.config.field) if kind_ == LINES else column_texts(file, self.config.column):
                    yield Document(text)

    def at_hand(self) -> int:
        return sum(file.stat().st_size for file in self._files()[0] if file.is_file())

    def _files(self) -> tuple[list[Path], str, bool]:
        """The files, what they are read as, and whether they are a folder's. ConfigError for a folder of several kinds."""
        path = self._place()
        is_folder = path.is_dir()
        files = sorted(file for file in path.rglob("*") if file.is_file() and _is_shown(file, path)) if is_folder else [path]
        if not files:
            raise ConfigError(f"{path}: the folder holds no file.")
        kinds = {kind(file): file for file in reversed(files)}
        if len(kinds) > 1:
            found = " and ".join(str(file.relative_to(path)) for file in kinds.values())
            raise ConfigError(f"{path}: the folder holds files of several kinds, such as {found}. Allowed: files of one.")
        (found_kind,) = kinds
        for option, its in {"field": LINES, "column": COLUMNS}.items():
            default = type(self.config).model_fields[option].default
            if its != found_kind and getattr(self.config, option) != default:
                raise ConfigError(f"{path}: {option} is for {its}, and this is read as {found_kind}.")
        return files, found_kind, is_folder

    def _place(self) -> Path:
        if self.path is None:
            raise ConfigError(f"corpus file:{self.argument}: the path of its file is not given.")
        return self.path


def _is_shown(file: Path, folder: Path) -> bool:
    return not any(part.startswith(".") for part in file.relative_to(folder).parts)
