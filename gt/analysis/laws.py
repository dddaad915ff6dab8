"""Loss as a power law of size, L = E + A (N / N0)^-a, with N0 the smallest size: fitted, and drawn again over seeds.

E is what no size removes, A what of the loss at N0 is above it, a how fast that falls: of N, or of compute C in its place
(Hoffmann et al. 2022, arXiv:2203.15556, equation 2, of one variable). A ladder has a handful of rungs, each the mean of seeds,
without outliers for their Huber loss to hold down, so errors of the loss are squared. For each exponent E and A are linear
(variable projection; Golub and Pereyra 1973) and neither below zero: the search is over one number, and has no start to choose.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

# Where exponents are looked for. Published ones are between 0.05 (Kaplan et al. 2020) and 0.34 (Hoffmann et al. 2022).
EXPONENTS = (0.01, 3.0)
# A search looks at so many exponents, then again between the neighbours of the best, so often: to 1e-9 of it.
POINTS, TIMES = 32, 8
DRAWS = 2000


@dataclass(frozen=True)
class Laws:
    """One law, or one a draw: floor E, reducible A (both in units of the loss) and exponent a, each (draws)."""

    unit: float
    floor: np.ndarray
    reducible: np.ndarray
    exponent: np.ndarray

    def at(self, size: float) -> np.ndarray:
        """The loss at a size: (draws)."""
        return self.floor + self.reducible * (size / self.unit) ** -self.exponent

    @property
    def edge(self) -> str:
        """Why the first is not to be read as a law: it does not fall, has no floor, or an exponent at which the search ends."""
        if self.reducible[0] == 0:
            return "does not fall"
        low, high = (math.isclose(self.exponent[0], bound, rel_tol=1e-6) for bound in EXPONENTS)
        if low or high:
            return f"exponent at its {'lower' if low else 'upper'} bound"
        return "no floor: E at 0" if self.floor[0] == 0 else ""


def fit(sizes: np.ndarray, losses: np.ndarray) -> Laws:
    """The laws of least squares. sizes: (rungs), rising, at least 3; losses: (draws, rungs), finite; else ValueError."""
    if sizes.ndim != 1 or len(sizes) < 3 or losses.shape[1:] != sizes.shape or (np.diff(sizes) <= 0).any():
        raise ValueError(f"sizes {sizes.shape} must rise, 3 at least, and losses {losses.shape} be (draws, rungs)")
    if not np.isfinite(losses).all():  # draws of two seeds may well be below zero
        raise ValueError("losses must be finite")
    logs = np.log(sizes / sizes[0])
    low, high = (np.full(len(losses), math.log(bound)) for bound in EXPONENTS)
    for _ in range(TIMES):
        grid = np.linspace(low, high, POINTS, axis=1)
        errors, *_ = _projected(logs, losses, np.exp(grid))
        best = errors.argmin(axis=1)[:, None]
        low, high = (np.take_along_axis(grid, np.clip(best + side, 0, POINTS - 1), 1)[:, 0] for side in (-1, 1))
    exponent = np.exp(np.take_along_axis(grid, best, 1))
    _, floor, reducible = _projected(logs, losses, exponent)
    return Laws(float(sizes[0]), floor[:, 0], reducible[:, 0], exponent[:, 0])


def errors(sizes: np.ndarray, losses: np.ndarray, log: bool) -> np.ndarray:
    """What the law of all sizes but the last says of the last, less what is there: (draws); of logarithms if `log`.

    ValueError where sizes do not rise, or losses are not above 0, or none.
    """
    if not (np.diff(sizes) > 0).all() or not losses.size or not (losses > 0).all():
        raise ValueError("sizes must rise, and losses be above 0")
    foretold, measured = fit(sizes[:-1], losses[:, :-1]).at(sizes[-1]), losses[:, -1]
    return np.log(foretold / measured) if log else foretold - measured


def _projected(logs: np.ndarray, losses: np.ndarray, exponents: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Squared error, E and A of each draw at each of its exponents: (draws, exponents)."""
    falls = np.exp(-exponents[..., None] * logs)  # 1 at the smallest size
    y = losses[:, None, :]
    apart = falls - falls.mean(axis=-1, keepdims=True)
    reducible = np.maximum((apart * y).sum(axis=-1) / (apart**2).sum(axis=-1), 0.0)
    floor = y.mean(axis=-1) - reducible * falls.mean(axis=-1)
    without = floor < 0
    reducible = np.where(without, np.maximum((falls * y).sum(axis=-1), 0.0) / (falls**2).sum(axis=-1), reducible)
    floor = np.where(without, 0.0, floor)
    errors = ((floor[..., None] + reducible[..., None] * falls - y) ** 2).sum(axis=-1)
    return errors, floor, reducible


def drawn_means(values: np.ndarray, draws: int = DRAWS) -> np.ndarray:
    """What the means over seeds might be: (draws, ...) of values (seeds, ...), always of the same draws. ValueError below two.

    A parametric bootstrap over seeds: each draw is the mean plus deviations of whole seeds with weights of a t distribution of
    n - 1 degrees of freedom, so that of anything linear the quantiles are those of the t interval, and what the seeds share
    over cells and rungs stays shared. How often they hold the loss at the next rung: `benchmarks/bands.py`.
    """
    n = len(values)
    if n < 2:
        raise ValueError(f"{n} seeds; two are needed")
    random = np.random.default_rng(0)
    weights = random.standard_normal((draws, n)) / math.sqrt(n * (n - 1))
    weights *= np.sqrt((n - 1) / random.chisquare(n - 1, (draws, 1)))
    mean = values.mean(axis=0)
    moved: np.ndarray = mean + np.tensordot(weights, values - mean, axes=1)
    return moved
