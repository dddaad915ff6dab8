"""Numbers as a reader sees them. What is not there is an en dash; a minus is a minus sign."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from datetime import datetime
from typing import Any

NOTHING = "–"


def absent(value: Any) -> bool:
    """Whether a cell of a table has no value."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def decimals(value: float | None, digits: int = 4) -> str:
    """1.8421"""
    return NOTHING if value is None or absent(value) else f"{value:z.{digits}f}".replace("-", "−")


def significant(value: float | None, digits: int = 3) -> str:
    """0.0123, 2.51, 108,000: so many significant digits, without exponents between a thousandth and a million."""
    if value is None or absent(value):
        return NOTHING
    if value and not 1e-3 <= abs(value) < 1e6:
        return f"{value:.{digits - 1}e}".replace("-", "−")
    places = max(0, digits - 1 - (math.floor(math.log10(abs(value))) if value else 0))
    return f"{value:,.{places}f}".replace("-", "−")


def signed(value: float | None, digits: int = 4) -> str:
    """+0.0120 or −0.0120"""
    return NOTHING if value is None or absent(value) else f"{value:+z.{digits}f}".replace("-", "−")


def count(value: float | None) -> str:
    """123,456"""
    return NOTHING if value is None or absent(value) else f"{value:,.0f}".replace("-", "−")


def short(value: float) -> str:
    """20k, 1.5M, 3.12G: to three digits."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def plus_minus(mean: float | None, lower: float | None, upper: float | None, digits: int = 4) -> str:
    """1.8421 ± 0.0013: a mean and the half-width of its interval; the mean alone where there is no interval."""
    if absent(lower) or absent(upper) or lower is None or upper is None:
        return decimals(mean, digits)
    return f"{decimals(mean, digits)} ± {(upper - lower) / 2:.{digits}f}"


def interval(lower: float | None, upper: float | None, digits: int = 4, sign: bool = False) -> str:
    """[1.8408, 1.8434]"""
    if absent(lower) or absent(upper):
        return NOTHING
    shown = signed if sign else decimals
    return f"[{shown(lower, digits)}, {shown(upper, digits)}]"


def p_value(value: float | None) -> str:
    """0.031, or < 0.001"""
    if value is None or absent(value):
        return NOTHING
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def p_equation(value: float | None) -> str:
    """= 0.031, or < 0.001: as it follows the letter p in a sentence."""
    shown = p_value(value)
    return shown if shown.startswith("<") else f"= {shown}"


def duration(seconds: float | None) -> str:
    """12.3 s, 4 min 05 s, 3 h 12 min"""
    if seconds is None or absent(seconds):
        return NOTHING
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60:,} h {minutes % 60:02d} min"


def mebibytes(n_bytes: float | None) -> str:
    """480 MiB"""
    return NOTHING if n_bytes is None or absent(n_bytes) else f"{n_bytes / 2**20:,.0f} MiB"


def capital(words: str) -> str:
    """The words with a capital at the start."""
    return words[:1].upper() + words[1:]


def plural(n: int, noun: str, nouns: str = "") -> str:
    """1 run, 2 runs; or 1 study, 2 studies"""
    return f"{n:,} {noun if n == 1 else nouns or noun + 's'}"


def out_of(n: int, planned: int, noun: str) -> str:
    """5 seeds, or 4 of 5 seeds where one is not there"""
    return plural(n, noun) if n == planned else f"{n:,} of {plural(planned, noun)}"


def are(n: int) -> str:
    """is, or are: after a number."""
    return "is" if n == 1 else "are"


def span(numbers: Collection[float], shown: Callable[[float], str]) -> str:
    """The least and the most of them: 151k to 31.3M; one where these read the same."""
    few, many = (shown(float(own)) for own in (min(numbers), max(numbers)))
    return few if few == many else f"{few} to {many}"


def listed(words: list[str]) -> str:
    """a, b and c"""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def values(found: Iterable[Any], noun: str = "run") -> str:
    """Distinct values, the most common first, with how many runs have each where they differ."""
    counts = Counter(f"{int(v)}" if isinstance(v, float) and v.is_integer() else str(v) for v in found)
    if len(counts) == 1:
        return next(iter(counts))
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{value} ({plural(n, noun)})" for value, n in ordered)


def day(timestamp: str | None) -> str:
    """2026-09-21 14:13 UTC of an ISO 8601 time."""
    return NOTHING if timestamp is None or absent(timestamp) else f"{datetime.fromisoformat(timestamp):%Y-%m-%d %H:%M} UTC"
