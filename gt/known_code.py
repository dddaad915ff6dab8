"""Sums of code that were worked out before: to parse all sources takes a second or more, and each job of a study would.

They hang on nothing but the sources: the path and the content of every file of the packages. What was worked out of others is
not found. It lies in results/, if there is such a folder, a file for each question, and may be lost.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from gt.errors import ConfigError
from gt.records import read_sealed, write_sealed

FOLDER = Path("results/.code")


def known(packages: Mapping[str, Path], asked: Any, work_out: Callable[[], dict[str, str]]) -> dict[str, str]:
    """What was worked out of these packages before, in any process, or is now. asked: what of them, as JSON can say it."""
    sources = tuple(sorted(packages.items()))
    key = hashlib.sha256(f"{_sum(sources)} {json.dumps(asked)}".encode()).hexdigest()[:32]
    file = FOLDER / _sum(tuple(own for own in sources if own[0] == "gt"))[:16] / f"{key}.json"
    with suppress(ConfigError):
        return read_sealed(file)
    found = work_out()
    if FOLDER.parent.is_dir():
        with suppress(OSError):
            if not file.parent.exists():
                shutil.rmtree(FOLDER, ignore_errors=True)  # of another version of gt
            write_sealed(file, found, durable=False)
    return found


@cache
def _sum(packages: tuple[tuple[str, Path], ...]) -> str:
    """Over all files that `gt.closure` may read, and the version that they are parsed by."""
    found = hashlib.sha256(repr(sys.version_info[:2]).encode())
    for name, place in packages:
        for file in sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]:
            text = file.read_bytes()
            found.update(f"{name} {file.relative_to(place.parent).as_posix()} {len(text)}\n".encode() + text)
    return found.hexdigest()
