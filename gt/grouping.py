"""Which runs are trained together. It decides no number: a run's result does not depend on its company."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel

from gt.artefacts import Plan
from gt.options import initial_of, numbers
from gt.spec import ModelSpec, RunSpec

Json = dict[str, Any]
# What there is a value a run of, whatever the optimizer; of its own options these are its numbers.
OWN_TRAINING = frozenset(
    {"learning_rate", "min_learning_rate_ratio", "warmup_ratio", "parts", "weight_decay", "weight_decay_policy"}
)


def cohort_key(spec: RunSpec) -> str:
    """What runs must have in common to be a cohort, as text: the data, and the computation of a step but for its numbers.

    Runs of one key may differ in their seed, initial values, learning rates, weight decays, and in what their optimizer
    takes a value a run of.
    """
    own: Any = {"optimizer": set(numbers(type(spec.training.optimizer))), **dict.fromkeys(OWN_TRAINING, True)}
    document = spec.model_dump(mode="json", exclude={"seed": True, "training": own})
    return json.dumps({**document, "model": computation(spec.model)}, sort_keys=True)


def computation(spec: ModelSpec) -> Json:
    """What decides how a model computes, and not where its weights start."""
    model: Json = spec.model_dump(mode="json")
    model["residual_gain"] = model["residual_gain"] is not None
    model["mixers"] = {letter: _computed(mixer) for letter, mixer in spec.mixers.items()}
    for name in ("fusion", "feed_forward", "init"):
        model[name] = _computed(getattr(spec, name))
    return model


def packs(plans: Iterable[Plan], size: int, at_once: int = 1, together: bool = True) -> dict[str, list[str]]:
    """The runs of some plans in packs of at most `size` that are trained on the same data: name -> run ids.

    at_once: packs that can run at the same time; there are so many of each data, or a multiple, so that none runs alone at
    the end. together: runs of one cohort stand together, as where they are stacked; otherwise they are dealt out, so that packs
    are alike and end at the same time. What is asked for later than the rest (`Plan.waves`) is in packs of its own, and changes
    none that there is. A run is looked at as the first plan that has it says. A name contains a hash of its runs, so a pack of
    other runs is another pack.
    """
    known: set[str] = set()
    places: dict[tuple[Any, ...], dict[str, list[str]]] = {}
    for plan in plans:
        for run_id, wave in plan.waves.items():
            # Another study may look at the same run in another way.
            if run_id not in known:
                known.add(run_id)
                spec = plan.runs[run_id]
                place = places.setdefault((spec.corpus.id, spec.tokenizer.id, wave), {})
                place.setdefault(cohort_key(spec), []).append(run_id)
    result = {}
    for (corpus, tokenizer, _), groups in places.items():
        runs = [run_id for group in groups.values() for run_id in group]
        n = min(len(runs), at_once * -(-len(runs) // (at_once * size)))
        cuts = _cuts([len(group) for group in groups.values()], n, size)
        for i in range(n):
            members = runs[cuts[i] : cuts[i + 1]] if together else runs[i::n]
            digest = hashlib.sha256("\n".join(members).encode()).hexdigest()[:10]
            result[f"{corpus}.{tokenizer}.{i + 1}of{n}-{digest}"] = members
    return result


def _cuts(groups: list[int], n: int, size: int) -> list[int]:
    """Where n packs begin in a row of runs, and its end; groups: how many runs each cohort has.

    Packs are even, but that a cut goes to the nearest end of a cohort within a quarter of a pack: a cohort in two packs is
    compiled twice.
    """
    ends = [0, *itertools.accumulate(groups)]
    total, cuts = ends[-1], [0]
    for i in range(1, n):
        even = min(i * total // n, cuts[-1] + size)
        end = min(ends, key=lambda place: abs(place - even))
        fits = cuts[-1] < end <= cuts[-1] + size and total - end <= (n - i) * size
        cuts.append(end if fits and 4 * n * abs(end - even) <= total else even)
    return [*cuts, total]


def _computed(part: BaseModel | None) -> Json | None:
    """A part of a model without the options that decide initial values alone (`gt.options.initial`)."""
    return None if part is None else part.model_dump(mode="json", exclude=set(initial_of(type(part))))
