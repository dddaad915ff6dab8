"""At which look each claim of a family stops: decided, without hope of it, with all seeds, or as no seed changes what it reads.

A claim asks one question, whether it holds or the opposite does, or two, with a margin: whether it is within. Repeated p
values answer them (`gt.analysis.sequential`), valid at whichever look one stops. So the family's procedure may be gone through
at every look, with those of the claims that have stopped as they were then. That anything wrong is said of a family is no
likelier than alpha, however many of it stop early; futility only gives decisions up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from gt.analysis.statistics import shaffer


@dataclass(frozen=True)
class Look:
    """A claim at one look.

    p: repeated p values of its questions, 1 where nothing can be tested; none where no seed changes what it reads, which asks
    nothing, and is in no family. hope: how likely all seeds decide it, if they go on as
    so far; None at the last look.
    """

    p: tuple[float, ...]
    hope: float | None


@dataclass(frozen=True)
class Stop:
    """Where a claim stands. look: the last that was taken, from 0, -1 before the first. p: adjusted, of each question.

    why: decided; futile; constant; last, all seeds have run; open, it waits for the next look. path: p as it was at each look
    so far.
    """

    look: int
    p: tuple[float, ...]
    why: Literal["decided", "futile", "constant", "last", "open"]
    path: list[tuple[float, ...]]


def stops(claims: Sequence[Sequence[Look]], looks: int, alpha: Sequence[float], futility: float) -> list[Stop]:
    """What became of the claims of a family. claims: of each the looks that there are, of those that are planned.

    alpha: of each claim, which an adjusted p must be below. futility: a claim with less hope stops.
    """
    at, why = [-1] * len(claims), ["open"] * len(claims)
    paths: list[list[tuple[float, ...]]] = [[] for _ in claims]

    def adjusted() -> list[list[float]]:
        return shaffer([own[k].p if k >= 0 else (1.0,) for own, k in zip(claims, at, strict=True)])

    for k in range(looks):
        here = [i for i, own in enumerate(claims) if why[i] == "open" and len(own) > k]
        for i in here:
            at[i] = k
        p = adjusted()
        for i in here:
            hope = claims[i][k].hope
            paths[i].append(tuple(p[i]))
            if not p[i]:
                why[i] = "constant"
            elif min(p[i]) < alpha[i]:
                why[i] = "decided"
            elif k == looks - 1:
                why[i] = "last"
            elif hope is not None and hope < futility:
                why[i] = "futile"
    return [Stop(k, tuple(p), word, path) for k, p, word, path in zip(at, adjusted(), why, paths, strict=True)]  # type: ignore[arg-type]
