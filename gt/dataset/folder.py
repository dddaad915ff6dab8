"""Published studies -> a folder that is a data set of the Hub: Parquet files, a card, and the card as a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gt.archive import KEPT, read_plan
from gt.dataset.card import Described, card, citation, markdown, metadata, page
from gt.dataset.tables import tables, write
from gt.errors import ConfigError
from gt.records import atomic_write, temporary_folder

FILES = ("README.md", "index.html")


def write_dataset(published: Sequence[Path], out: Path) -> None:
    """Write a data set of some published studies, in place of one that is there.

    ConfigError, and nothing is written, where the records of one are damaged, two are of one study, or the folder has other
    files.
    """
    plans = [read_plan(folder / KEPT)[0] for folder in published]
    names = [plan.study for plan in plans]
    if double := next((name for name in names if names.count(name) > 1), None):
        raise ConfigError(f"--published: {double} stands there twice.")
    if out.exists() and not (out.is_dir() and all(own.suffix == ".parquet" or own.name in FILES for own in out.iterdir())):
        raise ConfigError(f"{out}: is there already and is no data set; nothing in it is overwritten. Name a new folder.")
    cited, made = citation(), tables(published)
    described = {name: Described(table.columns, table.rows.num_rows) for name, table in made.items()}
    blocks = card(plans, described, cited)
    texts = {"README.md": f"{metadata(plans, described, cited)}\n{markdown(blocks)}", "index.html": page(blocks)}
    with temporary_folder(out) as folder:
        for name, table in made.items():
            write(table.rows, folder / f"{name}.parquet")
        for name, text in texts.items():
            with atomic_write(folder / name) as temporary:
                temporary.write_text(text, encoding="utf-8")
        out.mkdir(parents=True, exist_ok=True)
        for file in sorted(folder.iterdir()):
            file.replace(out / file.name)
