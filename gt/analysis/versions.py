"""Which runs were trained by the same version of the code."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from gt.fingerprint import digest


def versions(codes: Iterable[Any]) -> dict[Any, str]:
    """A name of the version that each code is of: a sum over all that is known of that version.

    codes: as the column `code` of `runs.parquet` has them, JSON of sums by part. Runs of different components have different
    parts of one version: they are of the same where what they share is the same. What is not known is a version of its own.
    """
    known: list[dict[str, str]] = []
    numbers: dict[Any, int] = {}
    for code in dict.fromkeys(codes):
        parts: dict[str, str] = json.loads(code) if isinstance(code, str) else {}
        numbers[code] = next((i for i, version in enumerate(known) if _same(version, parts)), len(known))
        if numbers[code] == len(known):
            known.append({})
        known[numbers[code]] |= parts
    return {code: digest(known[i]) for code, i in numbers.items()}


def _same(one: dict[str, str], other: dict[str, str]) -> bool:
    """Whether they share a part, and every part that they share is the same."""
    shared = one.keys() & other.keys()
    return bool(shared) and all(one[part] == other[part] for part in shared)
