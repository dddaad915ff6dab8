"""A run's evaluations in long form: a row for each number, named by a metric and the place where it was measured.

metric              at
<split>/by_position tokens of context, the least of an octave: nats/token
context/...         tokens of context
recall/<task>/...   items, distance or length
needle/...          tokens of haystack, or nothing: the mean over depths and lengths
generation/...      tokens generated
cost/...            tokens of a window
quantisation/...    nothing
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import fmean, linear_regression
from typing import Any

from gt.analysis.efficiency import north_star, tokens_per_dollar
from gt.artefacts import HELD_OUT, Evaluation
from gt.errors import ConfigError

Json = dict[str, Any]
# What was measured, by the names of the evaluations.
Values = dict[str, Json | None]
LARGEST = 700.0  # of which exp is a number
COLUMNS = ("metric", "at", "value", "lower", "upper", "n")


def rows(evaluations: dict[str, Evaluation], dollars_per_hour: float) -> list[Json]:
    """All numbers of a run's evaluations but the splits' totals; what is null there is left out."""
    values = {name: own.value for name, own in evaluations.items()}
    found = [row for part in PARTS for row in part(values)]
    found += _north_star(values, dollars_per_hour)
    return [row for row in found if row["value"] is not None]


def check(evaluation: Evaluation, source: str) -> None:
    """ConfigError where an evaluation is not of its form, or has numbers that are not finite."""
    try:
        found = rows({evaluation.name: evaluation}, 1.0)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ConfigError(f"{source}: an evaluation is not of its form ({error!r}).") from None
    for row in found:
        for key in ("at", "value", "lower", "upper", "n"):
            if not _is_number(row[key]):
                raise ConfigError(f"{source}: {row['metric']}: {key} is {row[key]!r}, not a finite number.")


def _is_number(value: Any) -> bool:
    """Or nothing."""
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value))


def _row(metric: str, value: float | None, at: float | None = None, interval: Json | None = None) -> Json:
    """interval: a share, as gt.evals.recall gives it."""
    bounds = {name: (interval or {}).get(name) for name in ("lower", "upper", "n")}
    return {"metric": metric, "at": at, "value": value, **bounds}


def _share(metric: str, share: Json | None, at: float | None = None) -> Json:
    return _row(metric, None if share is None else share["accuracy"], at, share)


def _by_position(values: Values) -> Iterator[Json]:
    for split, measured in (values.get(HELD_OUT) or {}).get("splits", {}).items():
        for entry in measured.get("by_position", []):
            yield _row(f"{split}/by_position", entry["loss"], entry["context"])
        yield _row(f"{split}/word_perplexity", measured.get("word_perplexity"))


def _context(values: Values) -> Iterator[Json]:
    if not (measured := values.get("long_context")):
        return
    for entry in measured["contexts"]:
        for name in ("loss", "shuffled_loss", "gain"):
            yield _row(f"context/{name}", entry[name], entry["context"])
    for name in ("useful_window", "held_to"):
        yield _row(f"context/{name}", measured[name])
    losses = {entry["context"]: entry["loss"] for entry in measured["contexts"] if entry["loss"] is not None}
    trained = measured["trained_length"]
    if trained in losses:
        for context, loss in losses.items():
            yield _row("context/perplexity_ratio", math.exp(min(loss - losses[trained], LARGEST)), context)
    within = [context for context in losses if context <= trained]
    if len(within) > 1:
        slope, _ = linear_regression([math.log2(context) for context in within], [losses[context] for context in within])
        yield _row("context/slope", slope)


def _recall(values: Values) -> Iterator[Json]:
    if measured := values.get("recall"):
        task = f"recall/{measured['task']}"
        yield _share(f"{task}/accuracy", measured)
        yield _share(f"{task}/episodes", measured["episodes"])
        yield _share(f"{task}/control", measured["control"])
        yield _row(f"{task}/chance", measured["chance"])
        yield _row(f"{task}/persistence", measured.get("persistence"))
        for what, key in (("by_items", "items"), ("by_distance", "distance"), ("by_length", "length")):
            for entry in measured[what]:
                yield _share(f"{task}/{what}", entry, entry[key])


def _needle(values: Values) -> Iterator[Json]:
    cells = [cell for cell in (values.get("needle") or {}).get("cells", []) if cell["gain"] is not None]
    for cell in cells:
        depth = f"depth_{cell['depth']:g}"
        yield _share(f"needle/found/{depth}", cell["found"], cell["length"])
        yield _share(f"needle/exact/{depth}", cell["exact"], cell["length"])
        yield _row(f"needle/gain/{depth}", cell["gain"], cell["length"])
    if cells:
        yield _row("needle/found", fmean(cell["found"]["accuracy"] for cell in cells))
        yield _row("needle/exact", fmean(cell["exact"]["accuracy"] for cell in cells))
        yield _row("needle/gain", fmean(cell["gain"] for cell in cells))


def _generation(values: Values) -> Iterator[Json]:
    for entry in (values.get("generation") or {}).get("lengths", []):
        for name in ("tokens_per_second", "state_bytes", "peak_bytes"):
            yield _row(f"generation/{name}", entry[name], entry["length"])


def _cost(values: Values) -> Iterator[Json]:
    for cell in (values.get("cost") or {}).get("cells", []):
        for name in [key for key in cell if key not in ("length", "batch")]:
            yield _row(f"cost/{name}/batch_{cell['batch']}", cell[name], cell["length"])


def _quantisation(values: Values) -> Iterator[Json]:
    for case in (values.get("quantisation") or {}).get("cases", []):
        yield _row(f"quantisation/{case['case']}/difference", case["difference"])
        yield _row(f"quantisation/{case['case']}/perplexity_ratio", case["perplexity_ratio"])


PARTS = (_by_position, _context, _recall, _needle, _generation, _cost, _quantisation)


def _north_star(values: Values, dollars_per_hour: float) -> Iterator[Json]:
    """N* at a length: of training alone on the device with the largest batch measured, and the perplexity in a context of that
    length.
    """
    losses = {entry["context"]: entry["loss"] for entry in (values.get("long_context") or {}).get("contexts", [])}
    cells = (values.get("cost") or {}).get("cells", [])
    largest = max((cell["batch"] for cell in cells), default=None)
    for cell in cells:
        speed, loss = cell["training_tokens_per_second"], losses.get(cell["length"])
        if cell["batch"] == largest and speed is not None and loss is not None:
            of_a_second = tokens_per_dollar(speed, 1.0, dollars_per_hour)
            yield _row("cost/north_star", north_star(of_a_second, math.exp(min(loss, LARGEST))), cell["length"])
