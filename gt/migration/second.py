"""Documents of the second schema as those of the third, in which all that is measured is a list of measurements.

Each evaluation had a structure of its own, and probes a mapping of written names to a value and those of the layers. All other
documents are the same in both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from statistics import fmean, linear_regression
from typing import Any

from gt.errors import ConfigError

Json = dict[str, Any]
VERSION = 2
LARGEST = 700.0  # of which exp is a number


def upgraded(old: Json, source: object) -> Json:
    """A document, whatever it is. ConfigError, which names the source, for an evaluation or probes of another form."""
    try:
        if "value" in old and "settings" in old:
            return _evaluation(old)
        return {**_without(old, "measures"), "measurements": list(_probes(old["measures"]))} if "measures" in old else old
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ConfigError(f"{source}: what was measured is not of its form ({error!r}).") from None


def _without(old: Json, *keys: str) -> Json:
    return {key: value for key, value in old.items() if key not in keys}


def _evaluation(old: Json) -> Json:
    value, name = old["value"], old["name"].partition("-")[0]
    if value is not None and name not in EVALUATIONS:
        raise ConfigError(f"the second schema had no evaluation {name!r}")
    found = [own for own in EVALUATIONS[name](value) if own["value"] is not None] if value is not None else []
    # What says of the whole how it was measured, and is no measurement.
    kept = {key: own for key, own in (value or {}).items() if name != "validation" and key in ("targets", "trained_length")}
    return {**_without(old, "value"), "settings": {**old["settings"], **kept}, "measurements": found}


def _row(metric: str, value: float | None, **axes: Any) -> Json:
    return {"metric": metric, "axes": axes, "value": value}


def _share(metric: str, share: Json | None, **axes: Any) -> Json:
    """Of right answers, with its interval and their number."""
    if share is None:
        return _row(metric, None, **axes)
    bounds = {name: share[name] for name in ("lower", "upper", "n") if share.get(name) is not None}
    return {**_row(metric, share["accuracy"], **axes), **bounds}


def _held_out(value: Json) -> Iterator[Json]:
    for split, measured in value["splits"].items():
        for name in ("loss", "bits_per_byte", "perplexity", "tokens", "bytes", "from_byte", "unknown", "words"):
            yield _row(f"<split>/{name}", measured.get(name), split=split)
        for entry in measured.get("by_position", []):
            yield _row("<split>/by_position", entry["loss"], split=split, context=entry["context"])
        yield _row("<split>/word_perplexity", measured.get("word_perplexity"), split=split)
    for order, line in value.get("ngram", {}).items():
        yield _row("ngram/<order>", line["bits_per_byte"], order=order)


def _validation(value: Json) -> Iterator[Json]:
    for name, own in value.items():
        if name.startswith(layer := "gate/layer_"):
            yield _row("validation/gate/layer_<layer>", own, layer=int(name.removeprefix(layer)))
        else:
            yield _row(f"validation/{name.removeprefix('val/')}", own)


def _long_context(value: Json) -> Iterator[Json]:
    for entry in value["contexts"]:
        for name in ("loss", "shuffled_loss", "gain", "gain_se"):
            yield _row(f"context/{name}", entry.get(name), context=entry["context"])
    for name in ("useful_window", "held_to"):
        yield _row(f"context/{name}", value[name])
    losses = {entry["context"]: entry["loss"] for entry in value["contexts"] if entry["loss"] is not None}
    trained = value["trained_length"]
    if trained in losses:
        for context, loss in losses.items():
            yield _row("context/perplexity_ratio", math.exp(min(loss - losses[trained], LARGEST)), context=context)
    within = [context for context in losses if context <= trained]
    if len(within) > 1:
        slope, _ = linear_regression([math.log2(context) for context in within], [losses[context] for context in within])
        yield _row("context/slope", slope)


def _recall(value: Json) -> Iterator[Json]:
    task = value["task"]
    yield _share("recall/<task>/accuracy", value, task=task)
    for name in ("episodes", "control"):
        yield _share(f"recall/<task>/{name}", value[name], task=task)
    for name in ("chance", "persistence"):
        yield _row(f"recall/<task>/{name}", value.get(name), task=task)
    for axis in ("items", "distance", "length"):
        for entry in value[f"by_{axis}"]:
            yield _share(f"recall/<task>/by_{axis}", entry, task=task, **{axis: entry[axis]})


def _needle(value: Json) -> Iterator[Json]:
    cells = [cell for cell in value["cells"] if cell["gain"] is not None]
    for cell in cells:
        place = {"depth": cell["depth"], "length": cell["length"]}
        yield _share("needle/found/depth_<depth>", cell["found"], **place)
        yield _share("needle/exact/depth_<depth>", cell["exact"], **place)
        yield _row("needle/gain/depth_<depth>", cell["gain"], **place)
    if cells:
        yield _row("needle/found", fmean(cell["found"]["accuracy"] for cell in cells))
        yield _row("needle/exact", fmean(cell["exact"]["accuracy"] for cell in cells))
        yield _row("needle/gain", fmean(cell["gain"] for cell in cells))


def _generation(value: Json) -> Iterator[Json]:
    for entry in value["lengths"]:
        for name in ("tokens_per_second", "state_bytes", "peak_bytes"):
            yield _row(f"generation/{name}", entry[name], length=entry["length"])


def _cost(value: Json) -> Iterator[Json]:
    for cell in value["cells"]:
        for name in [key for key in cell if key not in ("length", "batch")]:
            yield _row(f"cost/{name}/batch_<batch>", cell[name], batch=cell["batch"], length=cell["length"])


def _quantisation(value: Json) -> Iterator[Json]:
    for case in value["cases"]:
        for name in ("difference", "se", "perplexity_ratio"):
            yield _row(f"quantisation/<rounding>/{name}", case.get(name), rounding=case["case"])


EVALUATIONS: dict[str, Callable[[Json], Iterator[Json]]] = {
    "held_out": _held_out,
    "validation": _validation,
    "long_context": _long_context,
    "recall": _recall,
    "needle": _needle,
    "generation": _generation,
    "cost": _cost,
    "quantisation": _quantisation,
}
# What may stand in place of <part>, <branch> and others in the names of probes; by the names before them.
BRANCHED = (
    *("ablation/zero", "ablation/mean", "ablation/shuffle", "ablation/share", "gradient/independence", "state/rms"),
    *("state/growth", "state/growth_8x", "state/change", "state/variance", "state/input_variance", "state/input_share"),
    *("state/repeated_token_variance", "state/effective_rank", "state/rank_share", "state/entropy", "state/saturation"),
    *("state/cosine", "state/retention", "state/retention_1", "state/response", "variance/branch", "rms/branch"),
    *("variance/noise_gain", "record/state_norm", "record/state_growth", "record/input_variance"),
)
AXES = {
    **dict.fromkeys(BRANCHED, "branch"),
    **dict.fromkeys(("gradient/norm", "gradient/snr", "gradient/smoothness", "gradient/update_ratio", "parameters"), "part"),
    "gate/histogram": "bin",
    "gate/class": "class",
}


def _probes(measures: Json) -> Iterator[Json]:
    for name, measure in measures.items():
        metric, axes = _template(name)
        yield _row(metric, measure["value"], **axes)
        for layer, value in measure["layers"].items():
            yield _row(metric, value, **axes, layer=int(layer))


def _template(name: str) -> tuple[str, Json]:
    """A written name as a metric's name and the axes in it."""
    initial = "initial/" if name.startswith("initial/") else ""
    name = name.removeprefix(initial)
    first, _, last = name.rpartition("/")
    if first.startswith("state/norm/"):
        return f"{initial}state/norm/<branch>/<length>", {"branch": first.removeprefix("state/norm/"), "length": float(last)}
    if (axis := AXES.get(first)) is not None:
        return f"{initial}{first}/<{axis}>", {axis: int(last) if axis == "bin" else last}
    return f"{initial}{name}", {}
