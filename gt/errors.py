"""The one error that a user can cause."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import TypeVar

MANY = 24
Entry = TypeVar("Entry")


class ConfigError(Exception):
    """Bad input. The message names the file, the key and the value, says what is allowed, and offers the nearest match.

    The command line prints it as it is and exits with code 2.
    """


def close(value: object, allowed: Iterable[str]) -> str:
    """A question that offers the nearest allowed name, whatever its case, or number; nothing where none is near."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        numbers = [name for name in sorted(allowed) if re.fullmatch(r"-?[0-9.]+(e-?[0-9]+)?", name)]
        return f" Did you mean {min(numbers, key=lambda name: abs(float(name) - value))}?" if numbers else ""
    folded = {name.casefold(): name for name in sorted(allowed)}
    found = get_close_matches(str(value).casefold(), folded, n=1)
    return f" Did you mean {folded[found[0]]!r}?" if found else ""


def nearest(value: object, allowed: Iterable[str]) -> str:
    """The end of an error message: the nearest allowed name if one is close, and all of them, or the nearest of many."""
    names = sorted(allowed)
    hint = close(value, names)
    if len(names) > MANY:
        some = get_close_matches(str(value), names, n=8, cutoff=0.0)
        return f"{hint} Allowed: {', '.join(some)} and {len(names) - len(some)} others."
    return f"{hint} Allowed: {', '.join(names)}."


def entry(name: str, entries: Mapping[str, Entry], missing: str) -> Entry:
    """The entry of this name. ConfigError where there is none: what is missing, and the nearest that there are."""
    if name not in entries:
        raise ConfigError(missing + nearest(name, entries))
    return entries[name]
