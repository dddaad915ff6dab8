"""The one error that a user can cause."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class ConfigError(Exception):
    """Bad input. The message names the file, the key and the value, says what is allowed, and offers the nearest match.

    The command line prints it as it is and exits with code 2.
    """


def nearest(value: object, allowed: Iterable[str]) -> str:
    """The end of an error message: the nearest allowed name if one is close, and all of them."""
    names = sorted(allowed)
    close = get_close_matches(str(value), names, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"{hint} Allowed: {', '.join(names)}."
