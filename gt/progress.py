"""Progress bars of what takes long, on a terminal and never in a log."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

Item = TypeVar("Item")


def progress(items: Iterable[Item], what: str, unit: str, total: int | None = None) -> Iterable[Item]:
    """The same items. How many are done stands on the error stream meanwhile, if that is a terminal, and is wiped at the end.

    what: is done with them. unit: what one of them is called. total: how many there are, where `items` does not know.
    """
    from tqdm import tqdm

    return tqdm(items, desc=what, unit=unit, total=total, leave=False, dynamic_ncols=True, disable=None)
