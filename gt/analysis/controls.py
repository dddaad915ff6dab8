"""Whether two cells that a claim compares differ in more than what it speaks of, and which cell of the study would tell.

Two variants are compared fairly where their parameters (without embeddings), their width and their training tokens are within
`TOLERANCE`, and their learning rates were come by in one way: both chosen by tuning, or both the same. Where parameters or
width differ, a control is a further cell on the same text, of the mixers, fusion and feed-forward layers of either one, that is
as large (or as wide) as the other.

Sizes come from records, else from what was counted before (`COUNTED`), else from the model on the meta device, which takes
torch and is done only where that is there already or may be imported.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gt.analysis.earlier import Earlier
from gt.artefacts import Cell, Plan
from gt.errors import ConfigError
from gt.records import read_json, write_json
from gt.spec import RunSpec

Json = dict[str, Any]
TOLERANCE = 0.05
COUNTED = Path("results/sizes.json")


@dataclass(frozen=True)
class Size:
    """parameters: without embeddings. flops: of a token, forward."""

    parameters: int
    flops: int


class Sizes:
    """What models have and cost. torch: whether it may be imported to count a model."""

    def __init__(self, earlier: Earlier, file: Path = COUNTED, torch: bool = False) -> None:
        self.file, self.torch = file, torch or "torch" in sys.modules
        self._known = {_key(spec): Size(own.parameters, own.flops) for spec, own in earlier.trained}
        self._counted: dict[str, Size] = {}
        try:
            self._counted = {key: Size(*map(int, own)) for key, own in read_json(file).items()} if file.exists() else {}
        except (AttributeError, ConfigError, TypeError, ValueError):  # it can be counted again
            self._counted = {}
        self._kept = len(self._counted)

    def of(self, spec: RunSpec) -> Size | None:
        """None where it is not known and may not be counted."""
        key = _key(spec)
        known = self._known.get(key) or self._counted.get(key)
        if known is None and self.torch:
            from gt.models.lm import count

            audit = count(spec.model, spec.tokenizer.vocab_size or 256, spec.training.sequence_length)
            known = self._counted[key] = Size(audit.n_params_non_embedding, audit.flops_per_token)
        return known

    def keep(self) -> None:
        """Write down what was counted, for calls that must not import torch."""
        if len(self._counted) > self._kept:
            write_json(self.file, {key: [own.parameters, own.flops] for key, own in sorted(self._counted.items())})


def _key(spec: RunSpec) -> str:
    document = [spec.model.model_dump(mode="json"), spec.tokenizer.vocab_size, spec.training.sequence_length]
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:20]


@dataclass(frozen=True)
class Unequal:
    """What differs between two cells beside what a claim speaks of. what: parameters | width | tokens | rate. a, b: in words.
    control: the cell that tells, None where there is none.
    """

    what: str
    a: str
    b: str
    values: tuple[str, str]
    control: str | None = None


def unequal(a: Cell, b: Cell, tuned: tuple[bool, bool], plan: Plan, sizes: Sizes) -> Iterator[Unequal]:
    """tuned: whether others choose the learning rate of a, and of b."""
    first, second = plan.spec(a), plan.spec(b)
    for what, measure, shown in (
        ("parameters", lambda spec: size.parameters if (size := sizes.of(spec)) else None, lambda n: f"{n / 1e6:.3g} M"),
        ("width", lambda spec: spec.model.d_model, str),
    ):
        x, y = measure(first), measure(second)
        if x and y and not _close(x, y):
            yield Unequal(what, a.variant, b.variant, (shown(x), shown(y)), _control(a, b, plan, measure))
    if not _close(first.tokens, second.tokens):
        yield Unequal("tokens", a.variant, b.variant, (f"{first.tokens:,}", f"{second.tokens:,}"))
    rates = first.training.learning_rate, second.training.learning_rate
    if tuned[0] != tuned[1] or (not any(tuned) and rates[0] != rates[1]):
        words = ["tuned" if own else f"{rate:g}" for own, rate in zip(tuned, rates, strict=True)]
        yield Unequal("rate", a.variant, b.variant, (words[0], words[1]))


def _close(x: float, y: float) -> bool:
    return abs(x - y) <= TOLERANCE * max(x, y)


def _control(a: Cell, b: Cell, plan: Plan, measure: Callable[[RunSpec], int | None]) -> str | None:
    """The first cell of the kind of one of them whose measure is that of the other."""
    for cell, other in ((b, a), (a, b)):
        kind, wanted = _kind(plan.spec(cell)), measure(plan.spec(other))
        for own in plan.cells:
            if own.variant in (a.variant, b.variant) or (own.corpus, own.tokenizer) != (cell.corpus, cell.tokenizer):
                continue
            spec = plan.spec(own)
            if _kind(spec) == kind and (found := measure(spec)) and wanted and _close(found, wanted):
                return own.variant
    return None


def _kind(spec: RunSpec) -> tuple[Any, ...]:
    """Of what a model is made."""
    mixers = sorted(mixer.name for mixer in spec.model.mixers.values())
    return *mixers, *(own.name if own else None for own in (spec.model.fusion, spec.model.feed_forward))
