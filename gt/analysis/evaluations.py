"""`evaluation.json` in long form: one row a number, with the place where it was measured.

metric           at                  group            value
loss/by_position tokens of context   val, test        nats/token; the least context of an octave
context/...      tokens of context                    loss, shuffled_loss, gain (nats/token)
recall/<task>/.. items, distance or length            accuracy with its interval
needle/...       haystack (tokens)   depth            found, exact (shares), gain (nats/token)
generation/...   tokens generated                     tokens_per_second, state_bytes, peak_bytes
cost/...         tokens of a window  batch            speeds, peaks, counts; north_star where the context's loss is known
quantisation/... -                                    difference (nats/token), perplexity_ratio
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from gt.analysis.efficiency import north_star

Json = dict[str, Any]
COLUMNS = ("metric", "at", "group", "value", "lower", "upper", "n")


def rows(evaluation: Json, dollars_per_hour: float) -> list[Json]:
    """All numbers of a run's evaluations but the splits' totals; what is null there is left out."""
    found = [row for part in PARTS for row in part(evaluation)]
    found += _north_star(evaluation, dollars_per_hour)
    return [row for row in found if row["value"] is not None]


def _row(metric: str, value: float | None, at: float | None = None, group: str = "", interval: Json | None = None) -> Json:
    """interval: a share, as gt.evals.recall gives it."""
    bounds = {name: (interval or {}).get(name) for name in ("lower", "upper", "n")}
    return {"metric": metric, "at": at, "group": group, "value": value, **bounds}


def _share(metric: str, share: Json | None, at: float | None = None, group: str = "") -> Json:
    return _row(metric, None if share is None else share["accuracy"], at, group, share)


def _by_position(evaluation: Json) -> Iterator[Json]:
    for split, measured in evaluation.get("splits", {}).items():
        for entry in measured.get("by_position", []):
            yield _row("loss/by_position", entry["loss"], entry["context"], split)
        if "word_perplexity" in measured:
            yield _row("word_perplexity", measured["word_perplexity"], None, split)


def _context(evaluation: Json) -> Iterator[Json]:
    if measured := evaluation.get("long_context"):
        for entry in measured["contexts"]:
            for name in ("loss", "shuffled_loss", "gain"):
                yield _row(f"context/{name}", entry[name], entry["context"])
        for name in ("useful_window", "held_to"):
            yield _row(f"context/{name}", measured[name])


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
    for cell in evaluation.get("needle", {}).get("cells", []):
        place = (cell["length"], f"depth {cell['depth']:g}")
        yield _share("needle/found", cell["found"], *place)
        yield _share("needle/exact", cell["exact"], *place)
        yield _row("needle/gain", cell["gain"], *place)


def _generation(evaluation: Json) -> Iterator[Json]:
    for entry in evaluation.get("generation", {}).get("lengths", []):
        for name in ("tokens_per_second", "state_bytes", "peak_bytes"):
            yield _row(f"generation/{name}", entry[name], entry["length"])


def _cost(evaluation: Json) -> Iterator[Json]:
    for cell in evaluation.get("cost", {}).get("cells", []):
        for name in [key for key in cell if key not in ("length", "batch")]:
            yield _row(f"cost/{name}", cell[name], cell["length"], f"batch {cell['batch']}")


def _quantisation(evaluation: Json) -> Iterator[Json]:
    for case in evaluation.get("quantisation", {}).get("cases", []):
        yield _row(f"quantisation/{case['case']}/difference", case["difference"])
        yield _row(f"quantisation/{case['case']}/perplexity_ratio", case["perplexity_ratio"])


PARTS = (_by_position, _context, _recall, _needle, _generation, _cost, _quantisation)


def _north_star(evaluation: Json, dollars_per_hour: float) -> Iterator[Json]:
    """N* of training at a length, with the perplexity in a context of that length."""
    losses = {entry["context"]: entry["loss"] for entry in evaluation.get("long_context", {}).get("contexts", [])}
    for cell in evaluation.get("cost", {}).get("cells", []):
        speed, loss = cell["training_tokens_per_second"], losses.get(cell["length"])
        if speed is not None and loss is not None:
            value = north_star(speed, dollars_per_hour, math.exp(loss))
            yield _row("cost/north_star", value, cell["length"], f"batch {cell['batch']}")
