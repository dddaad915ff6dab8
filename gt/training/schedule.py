"""The learning rate over time."""

from __future__ import annotations

import math

from gt.spec import PartTraining, TrainingSpec

EVERYWHERE_ALIKE = PartTraining()


def learning_rate(spec: TrainingSpec, step: int, part: str | None = None) -> float:
    """Linear warm-up over warmup_ratio of the steps, then a cosine to min_learning_rate_ratio, times the factor of the
    curriculum's stage. step counts from 0.

    part: with what `spec.parts` says of it: its own factor, warm-up and frozen steps (during which the rate is 0).
    """
    own = spec.parts.get(part, EVERYWHERE_ALIKE) if part else EVERYWHERE_ALIKE  # type: ignore[call-overload]
    if step < own.frozen_steps:
        return 0.0
    peak = spec.learning_rate * own.learning_rate
    if (stage := spec.stage(step)[0]) < len(spec.curriculum):
        peak *= spec.curriculum[stage].learning_rate
    warmup = round(spec.warmup_ratio * own.warmup * spec.steps)
    if step < warmup:
        return peak * (own.warmup_floor + (1 - own.warmup_floor) * (step + 1) / warmup)
    progress = (step - warmup + 1) / max(1, spec.steps - warmup)
    floor = spec.min_learning_rate_ratio
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress)))
