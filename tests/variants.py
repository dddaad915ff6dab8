"""The shipped variants at a size that tests can afford."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gt.catalogue import components
from gt.study import assemble, load_variants, merge, resolve

CONFIG = Path(__file__).parents[1] / "config"
VARIANTS = load_variants(CONFIG / "variants")


def tiny(name: str, head_size: int = 8, **model: Any) -> dict[str, Any]:
    """A variant's model, 2 layers of width 32 unless it says otherwise itself, with small heads and states in every mixer."""
    small = {"head_size": head_size, "head_dim": head_size, "d_state": 8, "n_head": 2}
    sizes = {c.name: {key: small[key] for key in c.options if key in small} for c in components("mixer").values()}
    document = assemble({"d_model": 32, "n_layer": 2}, merge(resolve(VARIANTS, name).model, model))
    mixers = {letter: sizes[mixer["name"]] for letter, mixer in document["mixers"].items()}
    return merge(merge(document, {"mixers": mixers}), model)
