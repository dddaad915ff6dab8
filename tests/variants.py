"""The shipped variants at a size that tests can afford."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gt.catalogue import components
from gt.grouping import computation
from gt.spec import ModelSpec
from gt.study import assemble, load_variants, merge, resolve

CONFIG = Path(__file__).parents[1] / "config"
VARIANTS = load_variants(CONFIG / "variants")
Setting = tuple[str, ...]


def tiny(name: str, head_size: int = 8, **model: Any) -> dict[str, Any]:
    """A variant's model, 2 layers of width 32 unless it says otherwise itself, with small heads and states in every mixer."""
    small = {"head_size": head_size, "head_dim": head_size, "d_state": 8, "n_head": 2}
    sizes = {c.name: {key: small[key] for key in c.options if key in small} for c in components("mixer").values()}
    document = assemble({"d_model": 32, "n_layer": 2}, merge(resolve(VARIANTS, name).model, model))
    mixers = {letter: sizes[mixer["name"]] for letter, mixer in document["mixers"].items()}
    return merge(merge(document, {"mixers": mixers}), model)


def covering() -> list[str]:
    """Variants that have every setting which decides how a shipped variant computes, in few models: for what takes a while a
    model. Numbers count as there or not, and a pattern of layers by its letters.
    """
    settings = {name: _settings(tiny(name)) for name in sorted(VARIANTS)}
    missing, chosen = set[Setting]().union(*settings.values()), list[str]()
    while missing:
        best = max(settings, key=lambda name: len(settings[name] & missing))
        chosen.append(best)
        missing -= settings[best]
    return sorted(chosen)


def _settings(model: dict[str, Any]) -> set[Setting]:
    """Those of a model but for its sizes: (where, value)."""
    document = computation(ModelSpec.model_validate(model))
    mixers = document.pop("mixers")
    document["layers"] = sorted({*str(document["layers"])} - {*"0123456789"})
    found = {("mixers", *sorted(mixer["name"] for mixer in mixers.values()))}
    for place, part in [("model", document), *((mixer["name"], mixer) for mixer in mixers.values())]:
        found |= set(_leaves((place,), part))
    return found


def _leaves(place: Setting, value: Any) -> Iterator[Setting]:
    if isinstance(value, dict):
        own = (*place, str(value["name"])) if "name" in value else place
        for key, inner in value.items():
            yield from _leaves((*own, key), inner)
    elif isinstance(value, bool | str | None):
        yield (*place, str(value))
    else:
        yield (*place, str(bool(value)) if isinstance(value, int | float) else str(sorted(set(map(str, value)))))
