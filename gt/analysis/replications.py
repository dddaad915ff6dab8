"""Replications: a published claim's cells, trained again on seeds that nobody had seen, and judged again.

They are kept with what they replicate, and nothing there is replaced: `replications/<name>.json` has the second verdict, and
`replications/<name>/` the records that it is of (`gt.replicate`). Both verdicts are shown, whatever they say; how they agree is
worked out whenever they are read, since the first may be judged anew.

Two equally precise studies of one truth agree less often than 95 % would suggest: the second's interval has the first's
estimate in it in about 83 % of cases (Cumming and Maillardet 2006). The combined estimate is that of a fixed effect, weighted
by the inverse of squared standard errors (Borenstein et al. 2009, chapter 11), of all seeds of each: an extra, and no verdict.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist, fmean, stdev
from typing import Annotated, Any, Literal

from pydantic import Field

from gt.analysis.claims import Claim
from gt.analysis.kept import of_today
from gt.analysis.predicates import region
from gt.artefacts import Name, Number, Sum, Typed
from gt.errors import ConfigError
from gt.explain import validated
from gt.records import read_sealed

Json = dict[str, Any]
FOLDER = "replications"


class Replication(Typed):
    """A second verdict. seeds: that its cells were trained on."""

    schema_version: Literal[1] = 1
    name: Name
    of: Name = Field(description="the study that it replicates")
    claim: Name
    asked: Sum = Field(description="of that claim: what it claimed when it was replicated")
    seeds: Annotated[list[Number], Field(min_length=2)]
    needed: Annotated[int, Field(ge=2)] | None = Field(
        description="seeds that see the published size with a power of 80 %; null: none up to 10,000, or it is not known"
    )
    other_code: list[str] | None = Field(
        description="parts of the code that trained the first and differ in what trained this; null: not known"
    )
    first_devices: list[str] = Field(description="that the first was trained on")
    devices: list[str]
    judgement: dict[str, Any] = Field(description="as claims.json has it")


def replications(folder: Path) -> list[Replication]:
    """Those that are kept with a study, in the order of their names. ConfigError where one is damaged."""
    found = []
    for file in sorted((folder / FOLDER).glob("*.json")):
        own = validated(Replication, read_sealed(file), file)
        try:
            found.append(own.model_copy(update={"judgement": of_today(own.judgement)}))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"{file}: judgement: is no verdict of a claim ({error!r}).") from None
    return found


@dataclass(frozen=True)
class Agreement:
    """A part of a claim in both verdicts. number: which it is, from 1.

    same_direction: whether both estimates are on one side of no difference. contained: whether the second interval has the
    first estimate in it. combined: estimate and 95 % interval of both together. Each is None where there is no such thing.
    """

    number: int
    first: Json
    second: Json
    same_direction: bool | None
    contained: bool | None
    combined: tuple[float, float, float] | None


def agreement(claim: Claim, first: Json, again: Replication) -> list[Agreement]:
    """How the parts of a claim compare, that are tested in both verdicts: a, or a and b, and not another of several b.

    first: the judgement as it stands now. Nothing where the claim was edited since, and asks for something else.
    """
    if claim.sha256 != again.asked:
        return []
    found = []
    tests = zip(claim.predicate, first["tests"], again.judgement["tests"], strict=False)
    for number, (predicate, one, other) in enumerate(tests, 1):
        if one["part"] == other["part"] and one["scale"] == other["scale"]:
            found.append(_agreement(number, region(predicate).neutral, one, other))
    return found


def _agreement(number: int, neutral: float, one: Json, other: Json) -> Agreement:
    estimates = one["estimate"], other["estimate"]
    known = None not in estimates
    same = contained = None
    if known:
        same = math.copysign(1, estimates[0] - neutral) == math.copysign(1, estimates[1] - neutral)
        if other["lower"] is not None and other["upper"] is not None:
            contained = other["lower"] <= estimates[0] <= other["upper"]
    return Agreement(number, one, other, same, contained, combined((one, other)) if known else None)


def combined(tests: Sequence[Json]) -> tuple[float, float, float] | None:
    """Estimate and 95 % interval of a fixed effect over tests; None where one is no mean over seeds that vary."""
    log = tests[0]["scale"] == "ratio"
    means, weights = [], []
    for test in tests:
        values = list(test["by_seed"].values())
        if len(values) < 2 or any(value is None or (log and value <= 0) for value in values):
            return None
        z = [math.log(value) for value in values] if log else values
        mean, error = fmean(z), stdev(z) / math.sqrt(len(z))
        if error == 0 or not math.isclose(math.exp(mean) if log else mean, test["estimate"], rel_tol=1e-6, abs_tol=1e-12):
            return None
        means.append(mean)
        weights.append(error**-2)
    mean = fmean(means, weights)
    half = NormalDist().inv_cdf(0.975) / math.sqrt(sum(weights))
    bounds = (mean, mean - half, mean + half)
    return (math.exp(bounds[0]), math.exp(bounds[1]), math.exp(bounds[2])) if log else bounds
