"""Matched pairs: the width at which one architecture has as much of something as another."""

from __future__ import annotations

from typing import Literal

from gt.documents import merge
from gt.errors import ConfigError
from gt.models.lm import Audit, count
from gt.spec import ModelSpec

Quantity = Literal["parameters", "flops", "state"]
TOLERANCE = 0.01
STEP = 8  # widths that are tried: kernels want multiples of 8
# The vocabulary does not enter non-embedding parameters or states; in FLOPs it stands for a character model's head.
VOCAB_SIZE = 256


def match(reference: ModelSpec, candidate: ModelSpec, by: Quantity, context: int) -> tuple[ModelSpec, Audit]:
    """`candidate` at the width, and if need be the fine setting, that gives it as much as `reference` has, within 1 %.

    by: non-embedding parameters, forward FLOPs a token at `context` tokens, or floats of state. The width goes in steps
    of 8; what remains is made up by the feed-forward ratio, or, for states and where there is no feed-forward layer, by
    Mamba-2's d_state. ConfigError if nothing comes within 1 %.
    """
    target = measure(reference, by, context)
    best: tuple[float, ModelSpec] | None = None
    for width in _widths(candidate, target, by, context):
        spec = _tuned(_with(candidate, {"d_model": width}), target, by, context)
        error = abs(measure(spec, by, context) / target - 1)
        # The fine setting should stay near its own value, so among widths that fit the one with the smallest change wins.
        score = error if error > TOLERANCE else TOLERANCE * _change(spec, candidate)
        if best is None or score < best[0]:
            best = (score, spec)
    if best is None or abs(measure(best[1], by, context) / target - 1) > TOLERANCE:
        raise ConfigError(f"no width of the second architecture comes within {TOLERANCE:.0%} of {target:,} {by}.")
    return best[1], count(best[1], VOCAB_SIZE, context)


def measure(spec: ModelSpec, by: Quantity, context: int) -> int:
    """How much of a quantity a model has."""
    audit = count(spec, VOCAB_SIZE, context)
    return {"parameters": audit.n_params_non_embedding, "flops": audit.flops_per_token, "state": audit.state_size}[by]


def _widths(candidate: ModelSpec, target: int, by: Quantity, context: int) -> list[int]:
    """The buildable widths around the one at which the candidate has `target`, found by bisection."""
    low, high = 1, 1
    while _measure_near(candidate, high * STEP, by, context) < target and high < 8192:
        high *= 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _measure_near(candidate, middle * STEP, by, context) < target else (low, middle)
    near = range(max(1, low - 8), high + 9)
    return [k * STEP for k in near if _builds(candidate, k * STEP)]


def _measure_near(candidate: ModelSpec, width: int, by: Quantity, context: int) -> int:
    """At this width, or at the next larger one that can be built."""
    for k in range(64):
        if _builds(candidate, width + k * STEP):
            return measure(_with(candidate, {"d_model": width + k * STEP}), by, context)
    raise ConfigError(f"no width from {width} to {width + 63 * STEP} can be built.")


def _builds(candidate: ModelSpec, width: int) -> bool:
    try:
        count(_with(candidate, {"d_model": width}), VOCAB_SIZE, 1)
    except ConfigError:
        return False
    return True


def _tuned(spec: ModelSpec, target: int, by: Quantity, context: int) -> ModelSpec:
    """The fine setting at which the quantity, which is linear in it, meets the target; the spec as it is if it has none."""
    knob = _knob(spec, by)
    if knob is None:
        return spec
    path, value, step = knob
    here, there = measure(spec, by, context), measure(_with(spec, _nested(path, value + step)), by, context)
    wanted = value + (target - here) / (there - here) * step
    wanted = round(wanted) if isinstance(value, int) else round(wanted * spec.d_model) / spec.d_model
    return _with(spec, _nested(path, wanted)) if wanted > 0 else spec


def _knob(spec: ModelSpec, by: Quantity) -> tuple[list[str], float, float] | None:
    """The fine setting's path, its value and a step."""
    if by != "state" and spec.feed_forward is not None:
        return ["feed_forward", "ratio"], float(spec.feed_forward.ratio), 1.0
    letters = [letter for letter, mixer in spec.mixers.items() if mixer.name == "mamba2"]
    return (["mixers", letters[0], "d_state"], spec.mixers[letters[0]].d_state, 1) if letters else None


def _change(spec: ModelSpec, candidate: ModelSpec) -> float:
    """Relative change of the fine settings, as a tie-breaker below 1."""
    changes = [0.0]
    for by in ("parameters", "state"):
        knobs = _knob(spec, by), _knob(candidate, by)
        if knobs[0] is not None and knobs[1] is not None:
            changes.append(abs(knobs[0][1] / knobs[1][1] - 1))
    return min(max(changes), 1.0)


def _with(spec: ModelSpec, change: dict[str, object]) -> ModelSpec:
    return ModelSpec.model_validate(merge(spec.model_dump(), change))


def _nested(path: list[str], value: float) -> dict[str, object]:
    result: object = value
    for part in reversed(path):
        result = {part: result}
    return result  # type: ignore[return-value]
