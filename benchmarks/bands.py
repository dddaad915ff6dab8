"""How often a ladder's band holds the loss that the law has at the next rung, which is not fitted.

    python benchmarks/bands.py

Prints the table of docs/reference/ladders.md: bands as they are made (`gt.analysis.laws.drawn_means`), beside those of seeds
that are drawn again with replacement. Ladders follow a law, with noise that a seed's rungs share and noise of each run.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from gt.analysis.laws import drawn_means, fit

SEEDS, RUNGS = (3, 5, 10), (3, 4)
# The law L = E + A (N / N0)^-a, sizes that grow fourfold, and both standard deviations, in bits per byte.
FLOOR, REDUCIBLE, EXPONENT, GROWTH = 1.0, 0.8, 0.3, 4.0
SHARED, OWN = 0.01, 0.004
LADDERS, DRAWS = 600, 400

Draw = Callable[[np.ndarray, np.random.Generator], np.ndarray]
BANDS: dict[str, Draw] = {
    "these bands": lambda losses, random: drawn_means(losses, DRAWS),
    "seeds with replacement": lambda losses, random: losses[random.integers(0, len(losses), (DRAWS, len(losses)))].mean(axis=1),
}


def coverage(draw: Draw, seeds: int, rungs: int) -> float:
    """The share of ladders, always the same ones, whose 95 % hold the law at the rung after those that are fitted."""
    ladders, draws = np.random.default_rng(3), np.random.default_rng(4)
    sizes = GROWTH ** np.arange(rungs + 1)
    law, held = FLOOR + REDUCIBLE * sizes**-EXPONENT, 0
    for _ in range(LADDERS):
        losses = law[:-1] + ladders.normal(0, SHARED, (seeds, 1)) + ladders.normal(0, OWN, (seeds, rungs))
        low, high = np.quantile(fit(sizes[:-1], draw(losses, draws)).at(sizes[-1]), (0.025, 0.975))
        held += low <= law[-1] <= high
    return held / LADDERS


def main() -> None:
    print(f"| seeds | rungs fitted | {' | '.join(BANDS)} |\n| --- | --- |{' --- |' * len(BANDS)}")
    for seeds in SEEDS:
        for rungs in RUNGS:
            shares = [coverage(draw, seeds, rungs) for draw in BANDS.values()]
            errors = [math.sqrt(share * (1 - share) / LADDERS) for share in shares]
            cells = [f"{100 * share:.1f} ± {100 * error:.1f} %" for share, error in zip(shares, errors, strict=True)]
            print(f"| {seeds} | {rungs} | {' | '.join(cells)} |", flush=True)


main()
