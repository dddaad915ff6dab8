"""Data sets of the Hugging Face Hub."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import Field

from gt.data.reader import Document, Reader
from gt.data.readers.local import first_line
from gt.data.text_files import as_text
from gt.errors import ConfigError, nearest
from gt.options import Options

# What the splits of most data sets are called.
THEIRS = {"train": "train", "validation": "val", "test": "test"}


class Hub(Reader):
    """A data set of the Hugging Face Hub, streamed: each row of a column is a document."""

    name = "hub:<owner>/<name>"
    licence = "the data set's card says"

    class Config(Options):
        revision: Annotated[str, Field(pattern="^[0-9a-f]{40}$")] = Field(
            description="the commit that is read: 40 hex digits, under `Files and versions`, `History`, or by "
            "`huggingface_hub.HfApi().dataset_info('<owner>/<name>').sha`"
        )
        config: str | None = Field(None, description="where the data set has several, which the card calls subsets")
        split: str | None = Field(
            None, description="of the data set, to be cut as `splits` says; by default its train, validation and test"
        )
        column: str = "text"

    @property
    def source(self) -> str:  # type: ignore[override]
        """Where it is read, and which version of it."""
        return f"https://huggingface.co/datasets/{self.argument}/tree/{self.config.revision}"

    def documents(self) -> Iterator[Document]:
        own = self.config
        options: dict[str, Any] = {"path": self.argument, "name": own.config, "revision": own.revision}
        there = split_names(f"hub:{self.argument}", **options)
        if own.split is not None and own.split not in there:
            raise ConfigError(f"corpus hub:{self.argument}: split: there is no {own.split!r}.{nearest(own.split, there)}")
        if own.split is None and not {"train", "validation"} <= set(there):
            raise ConfigError(
                f"corpus hub:{self.argument}: split: it has no train and validation of its own, so name one to be cut."
                f"{nearest('train', there)}"
            )
        for split in [own.split] if own.split else [name for name in THEIRS if name in there]:
            ours = None if own.split else THEIRS[split]
            for text in rows(f"hub:{self.argument}", own.column, **options, split=split, streaming=True):
                yield Document(text, ours)


def split_names(corpus: str, path: str, name: str | None, revision: str | None) -> list[str]:
    """The splits of a data set."""
    import datasets  # type: ignore[import-untyped]

    try:
        return [str(split) for split in datasets.get_dataset_split_names(path, name, revision=revision)]
    except Exception as error:
        raise _not_fetched(corpus, path, error) from None


def rows(corpus: str, column: str, path: str, **options: Any) -> Iterator[str]:
    """The texts of a column of a data set, through `datasets`. ConfigError where it cannot be fetched, also midway."""
    import datasets

    try:
        dataset = datasets.load_dataset(path, **options)
        if (names := dataset.column_names) is not None and column not in names:
            raise ConfigError(f"corpus {corpus}: column: there is no {column!r}.{nearest(column, names)}")
        for i, row in enumerate(dataset):
            yield as_text(row[column], f"corpus {corpus}, row {i:,}: column {column!r}")
    except ConfigError:
        raise
    except Exception as error:  # its network stack has no one family of errors, and only its code runs here
        raise _not_fetched(corpus, path, error) from None


def _not_fetched(corpus: str, path: str, error: Exception) -> ConfigError:
    return ConfigError(
        f"corpus {corpus}: {path} could not be fetched through `datasets` ({type(error).__name__}: "
        f"{first_line(error)}). Fetch it on a machine with a network and copy its cache (HF_HOME) here, "
        f"or name the text as a corpus file:<path>."
    )
