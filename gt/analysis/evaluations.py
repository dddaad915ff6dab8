"""`evaluation.json` in long form: a row for each number, named by a metric and the place where it was measured.

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

Json = dict[str, Any]
LARGEST = 700.0  # of which exp is a number
COLUMNS = ("metric", "at", "value", "lower", "upper", "n")


def rows(evaluation: Json, dollars_per_hour: float) -> list[Json]:
    """All numbers of a run's evaluations but the splits' totals; what is null there is left out."""
    found = [row for part in PARTS for row in part(evaluation)]
    found += _north_star(evaluation, dollars_per_hour)
    return [row for row in found if row["value"] is not None]


def _row(metric: str, value: float | None, at: float | None = None, interval: Json | None = None) -> Json:
    """interval: a share, as gt.evals.recall gives it."""
    bounds = {name: (interval or {}).get(name) for name in ("lower", "upper", "n")}
    return {"metric": metric, "at": at, "value": value, **bounds}


def _share(metric: str, share: Json | None, at: float | None = None) -> Json:
    return _row(metric, None if share is None else share["accuracy"], at, share)


def _by_position(evaluation: Json) -> Iterator[Json]:
    for split, measured in evaluation.get("splits", {}).items():
        for entry in measured.get("by_position", []):
            yield _row(f"{split}/by_position", entry["loss"], entry["context"])
        yield _row(f"{split}/word_perplexity", measured.get("word_perplexity"))


def _context(evaluation: Json) -> Iterator[Json]:
    if not (measured := evaluation.get("long_context")):
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


def _recall(evaluation: Json) -> Iterator[Json]:
    if measured := evaluation.get("recall"):
        task = f"recall/{measured['task']}"
        yield _share(f"{task}/accuracy", measured)
        yield _share(f"{task}/episodes", measured["episodes"])
        yield _share(f"{task}/control", measured["control"])
        yield _row(f"{task}/chance", measured["chance"])
        yield _row(f"{task}/persistence", measured.get("persistence"))
        for what, key in (("by_items", "items"), ("by_distance", "distance"), ("by_length", "length")):
            for entry in measured[what]:
                yield _share(f"{task}/{what}", entry, entry[key])


def _needle(evaluation: Json) -> Iterator[Json]:
    cells = [cell for cell in (evaluation.get("needle") or {}).get("cells", []) if cell["gain"] is not None]
    for cell in cells:
        depth = f"depth_{cell['depth']:g}"
        yield _share(f"needle/found/{depth}", cell["found"], cell["length"])
        yield _share(f"needle/exact/{depth}", cell["exact"], cell["length"])
        yield _row(f"needle/gain/{depth}", cell["gain"], cell["length"])
    if cells:
        yield _row("needle/found", fmean(cell["found"]["accuracy"] for cell in cells))
        yield _row("needle/exact", fmean(cell["exact"]["accuracy"] for cell in cells))
        yield _row("needle/gain", fmean(cell["gain"] for cell in cells))


def _generation(evaluation: Json) -> Iterator[Json]:
    for entry in evaluation.get("generation", {}).get("lengths", []):
        for name in ("tokens_per_second", "state_bytes", "peak_bytes"):
            yield _row(f"generation/{name}", entry[name], entry["length"])


def _cost(evaluation: Json) -> Iterator[Json]:
    for cell in evaluation.get("cost", {}).get("cells", []):
        for name in [key for key in cell if key not in ("length", "batch")]:
            yield _row(f"cost/{name}/batch_{cell['batch']}", cell[name], cell["length"])


def _quantisation(evaluation: Json) -> Iterator[Json]:
    for case in (evaluation.get("quantisation") or {}).get("cases", []):
        yield _row(f"quantisation/{case['case']}/difference", case["difference"])
        yield _row(f"quantisation/{case['case']}/perplexity_ratio", case["perplexity_ratio"])


PARTS = (_by_position, _context, _recall, _needle, _generation, _cost, _quantisation)


def _north_star(evaluation: Json, dollars_per_hour: float) -> Iterator[Json]:
    """N* at a length: of training alone on the device with the largest batch measured, and the perplexity in a context of that
    length.
    """
    losses = {entry["context"]: entry["loss"] for entry in (evaluation.get("long_context") or {}).get("contexts", [])}
    cells = evaluation.get("cost", {}).get("cells", [])
    largest = max((cell["batch"] for cell in cells), default=None)
    for cell in cells:
        speed, loss = cell["training_tokens_per_second"], losses.get(cell["length"])
        if cell["batch"] == largest and speed is not None and loss is not None:
            of_a_second = tokens_per_dollar(speed, 1.0, dollars_per_hour)
            yield _row("cost/north_star", north_star(of_a_second, math.exp(min(loss, LARGEST))), cell["length"])
