"""Which runs are trained together. It decides no number: a run's result does not depend on its company."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from gt.artefacts import Plan
from gt.spec import ModelSpec, RunSpec

Json = dict[str, Any]
# Options of mixers, fusions and feed-forward layers that decide initial values and nothing else, wherever they are found.
# Not `init`: with FLA's initial values RWKV-6 has FLA's epsilon too.
INITIAL = frozenset(
    {"decay_init", "dt_init", "delta_init", "base_decay", "scale_residual"}
    | {"gate_init", "gate_weight_init", "hgf_init", "scale_init", "init_std", "r_gain", "m_gain"}
)
INITIAL_SWITCHES = frozenset({"blanket", "embedding", "zero_mixer_output", "zero_feed_forward_output", "orthogonal_head"})
# What the optimizer and the learning rate take a value a run of.
OWN_TRAINING = frozenset(
    {"learning_rate", "min_learning_rate_ratio", "warmup_ratio", "parts"}
    | {"weight_decay", "weight_decay_policy", "beta1", "beta2", "epsilon"}
)


def cohort_key(spec: RunSpec) -> str:
    """What runs must have in common to be a cohort, as text: the data, and the computation of a step but for its numbers.

    Runs of one key may differ in their seed, initial values, learning rates, decays and moments.
    """
    document = spec.model_dump(mode="json", exclude={"seed": True, "training": set(OWN_TRAINING)})
    return json.dumps({**document, "model": computation(spec.model)}, sort_keys=True)


def computation(spec: ModelSpec) -> Json:
    """What decides how a model computes, and not where its weights start."""
    model = spec.model_dump(mode="json")
    model["residual_gain"] = model["residual_gain"] is not None
    for component in [*model["mixers"].values(), model["fusion"], model["feed_forward"]]:
        _drop(component or {}, INITIAL)
    _drop(model["init"], INITIAL_SWITCHES)
    return model


def packs(plans: Iterable[Plan], size: int) -> dict[str, list[str]]:
    """The runs of some plans in packs of at most `size` that are trained on the same data: name -> run ids.

    Runs of one cohort stand together. A run is looked at as the first plan that has it says. A name contains a hash of its
    runs, so a pack of other runs is another pack.
    """
    known: set[str] = set()
    places: dict[tuple[str, str], dict[str, list[str]]] = {}
    for plan in plans:
        for run_id, spec in plan.runs.items():
            # Another study may look at the same run in another way.
            if run_id not in known:
                known.add(run_id)
                place = places.setdefault((spec.corpus.id, spec.tokenizer.id), {})
                place.setdefault(cohort_key(spec), []).append(run_id)
    result = {}
    for (corpus, tokenizer), groups in places.items():
        runs = [run_id for group in groups.values() for run_id in group]
        n = -(-len(runs) // size)
        for i in range(n):
            members = runs[i * len(runs) // n : (i + 1) * len(runs) // n]
            digest = hashlib.sha256("\n".join(members).encode()).hexdigest()[:10]
            result[f"{corpus}.{tokenizer}.{i + 1}of{n}-{digest}"] = members
    return result


def _drop(document: Json, names: frozenset[str]) -> None:
    for name in names & set(document):
        del document[name]
