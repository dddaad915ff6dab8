"""What became of the claims, from the tables of their studies.

The smaller of a claim's two p values, that it holds and that it does not, is the claim's. Holm's procedure over the family
adjusts it, in which a claim that could not be judged yet counts with p = 1, so that it matters to no verdict whether the others
have run. What an arm gives explains a verdict, and is adjusted among the verdicts of that arm.

A claim whose plan was not followed (`gt.analysis.deviations`) is `deviated`; what its numbers would have said otherwise is
kept beside. The family is what was registered in time: one that deviated and was in it counts with p = 1, and what it would
have been is adjusted as if of these it alone counted with its own. Claims that were registered late or not at all are a family
of their own, adjusted by Benjamini and Hochberg.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from gt.analysis import registration
from gt.analysis.aggregate import as_table, write_table
from gt.analysis.cautions import Cautions, cautions
from gt.analysis.claims import FAITHFUL, Claim, Compare, Places, load_arms, load_claims
from gt.analysis.deviations import deviations
from gt.analysis.predicates import Judge, NotMeasured, Test, Uncounted, Undecidable, all_of
from gt.analysis.statistics import benjamini_hochberg, holm
from gt.analysis.values import Values
from gt.records import read_json, write_json

Json = dict[str, Any]
Word = Literal["supported", "refuted", "equivalent", "inconclusive", "deviated", "not testable", "not yet run"]
# What a row of `verdicts.parquet` has of a claim's test, if it has one.
SHOWN = ("n", "scale", "estimate", "lower", "upper", "p_sign_flip", "detectable", "needed")
# What `claims.json` alone has.
NESTED = ("cells", "budgets", "mixers", "cautions", "tests", "missing", "deviations")
DECIDED: tuple[Word, ...] = ("supported", "refuted", "equivalent", "inconclusive")
TESTED: tuple[Word, ...] = (*DECIDED, "deviated")
VERDICTS: tuple[Word, ...] = (*TESTED, "not testable", "not yet run")


@dataclass
class Judgement:
    """A claim under one arm.

    has_margin: whether it can be found equivalent. cells: the ids of those that it reads. budgets: the steps, and the tokens
    in each, that their runs had. mixers: by letter those that all their models have. missing: cells without seeds enough.
    exploratory: why it is, None if it was registered.
    planned: whether it was, as it stands, before the first of its runs. deviations: why its plan was not followed; otherwise:
    what the verdict would have been, None where it was. reason: why there is no test although nothing is missing. p,
    p_equivalent: unadjusted, None where there is no test; leaning: what p speaks for.
    """

    claim: str
    arm: str
    study: str
    family: str
    alpha: float
    has_margin: bool
    cells: list[str]
    budgets: list[tuple[int, int]]
    mixers: dict[str, str]
    cautions: Cautions
    tests: list[Test]
    missing: list[str]
    exploratory: str | None
    planned: bool
    deviations: list[str]
    reason: str = ""
    p: float | None = None
    p_equivalent: float | None = None
    leaning: Literal["supported", "refuted"] = "supported"
    p_adjusted: float | None = None
    p_equivalent_adjusted: float | None = None
    verdict: Word = "not yet run"
    otherwise: Word | None = None


def judge_study(folder: Path, claims_folder: Path, begun: datetime | None = None) -> list[Judgement]:
    """Every claim, under every arm, whose cells are in this study. folder: its tables. begun: when the first run of any was."""
    claims, arms, values = load_claims(claims_folder), load_arms(claims_folder), Values(folder)
    entered, study = registration.history(claims_folder), values.plan.study
    here = [
        (name, claim, arm)
        for name, claim in claims.items()
        for arm in (FAITHFUL, *claim.arms)
        if claim.not_testable is None and (claim.study if arm == FAITHFUL else arms[arm].study) == study
    ]
    families = [(claim.group, arm) for _, claim, arm in here]
    judged = []
    for (name, claim, arm), family in zip(here, families, strict=True):
        places = Places(name, claim, {study: values.plan}, arms.get(arm))
        diverged = claim.diverged or values.plan.diverged or "worst_rank"
        # The power is given at the first step of Holm's procedure.
        judge = Judge(places, claim, values, claim.alpha / families.count(family), diverged)
        result = _untested(judge, arm, entered.get(name, []), begun)
        if not result.missing:
            _test(result, judge)
        judged.append(result)
    _adjust(judged)
    return judged


def _untested(judge: Judge, arm: str, entries: list[registration.Entry], begun: datetime | None) -> Judgement:
    """What is known of a claim before any test: its cells, what they lack, and whether its plan was followed."""
    claim, values = judge.claim, judge.values
    compared, tuned, missing, first = judge.compared(), judge.tuned(), judge.missing(), claim.predicate[0]
    cells = list(dict.fromkeys(place.cell.id for places in compared for place in places))
    chosen = [cell for _, choices in tuned for cell in choices]
    started = [time for cell in dict.fromkeys((*cells, *(cell.id for cell in chosen))) for time in values.started(cell)]
    late = registration.late(claim, entries, started, begun) if entries else None
    edited = [entry.time for entry in entries] if len(entries) > 1 and late is None else []
    return Judgement(
        claim=judge.places.name,
        arm=arm,
        study=judge.places.study,
        family=claim.group,
        alpha=claim.alpha,
        has_margin=len(claim.predicate) == 1 and isinstance(first, Compare) and first.margin is not None,
        cells=cells,
        budgets=values.budgets(cells),
        mixers=judge.mixers,
        cautions=cautions(compared, judge.pairs(), tuned, edited, values),
        tests=[],
        missing=missing,
        exploratory=None if entries else "not registered",
        planned=bool(entries) and late is None,
        deviations=[] if missing else deviations(late, compared, chosen, values),
    )


def judge(folder: Path, claims_folder: Path, begun: datetime | None = None) -> list[Judgement]:
    """Judge a study's claims, and write them as `claims.json` and, a row each, as `verdicts.parquet` into its folder.

    begun: when the first run of any study was, as far as it is known.
    """
    judged = judge_study(folder, claims_folder, begun)
    write_json(folder / "claims.json", [_plain(asdict(own)) for own in judged])
    rows = [
        {
            **{key: value for key, value in asdict(own).items() if key not in NESTED},
            "missing": "; ".join(own.missing),
            "deviations": "; ".join(own.deviations),
            "words": "; ".join(test.words for test in own.tests),
            **{name: getattr(own.tests[0], name) if len(own.tests) == 1 else None for name in SHOWN},
        }
        for own in judged
    ]
    columns = (*(own.name for own in fields(Judgement) if own.name not in NESTED), "missing", "deviations", "words", *SHOWN)
    write_table(folder / "verdicts.parquet", as_table(rows, columns))
    return judged


def _plain(value: Any) -> Any:
    """A value as JSON has it: keys are words, and what is infinite or not a number is null."""
    match value:
        case dict():
            return {str(key): _plain(own) for key, own in value.items()}
        case list() | tuple():
            return [_plain(own) for own in value]
        case float():
            return value if math.isfinite(value) else None
        case _:
            return value


@dataclass(frozen=True)
class Row:
    """A claim with all that is known of it: its own judgement, and those of its arms in the order of `arms.yaml`.

    explained_by: where the claim fails, the arms that support it: what the record had and its cells have not. confounded: arms
    that support it as well, and explain nothing, for their runs were trained with another budget. registered: when it was
    entered as it stands (ISO 8601), None if it was not. edited: whether it was entered in another form before.
    """

    id: str
    claim: Claim
    verdict: Word
    judgement: Json | None
    arms: dict[str, Json]
    explained_by: list[str]
    confounded: list[str]
    registered: str | None
    edited: bool

    @property
    def tested(self) -> bool:
        """Whether runs have given it a verdict."""
        return self.verdict in TESTED


def overview(claims_folder: Path, folders: Iterable[Path]) -> list[Row]:
    """Every claim, in the order of the files, with what the studies in these folders say of it."""
    claims, arms, entries = load_claims(claims_folder), load_arms(claims_folder), registration.history(claims_folder)
    found: dict[tuple[str, str], Json] = {}
    for folder in folders:
        if (folder / "claims.json").exists():
            found |= {(own["claim"], own["arm"]): _of_today(own) for own in read_json(folder / "claims.json")}
    rows = []
    for name, claim in claims.items():
        own = found.get((name, FAITHFUL))
        under = {arm: found[name, arm] for arm in arms if (name, arm) in found}
        verdict: Word = "not testable" if claim.not_testable else own["verdict"] if own else "not yet run"
        fails = verdict in ("refuted", "equivalent")
        holds = [arm for arm, judged in under.items() if judged["verdict"] == "supported"] if own and fails else []
        alike = [arm for arm in holds if own and under[arm]["budgets"] == own["budgets"]]
        known = entries.get(name, [])
        entered = known[-1].time if known and known[-1].sha256 == claim.sha256 else None
        confounded = [arm for arm in holds if arm not in alike]
        rows.append(Row(name, claim, verdict, own, under, alike, confounded, entered, len(known) > 1))
    return rows


def _of_today(judged: Json) -> Json:
    """A judgement of `claims.json`. Those of before claims were held to their plans say nothing of it, nor of mixers."""
    plan = {"planned": judged["exploratory"] is None, "deviations": [], "otherwise": None, "mixers": {}}
    return {**plan, **judged, "cautions": {"unheld": [], "edited": [], **judged["cautions"]}}


def _test(result: Judgement, judge: Judge) -> None:
    try:
        result.tests = [judge.test(predicate) for predicate in judge.claim.predicate]
    except Uncounted as why:
        result.deviations.append(str(why))
        _test(result, Judge(judge.places, judge.claim, judge.values, judge.alpha, "excluded"))
        return
    except Undecidable as why:
        result.reason, result.verdict = str(why), "not testable" if isinstance(why, NotMeasured) else "inconclusive"
        return
    joined = all_of(result.tests)
    result.p, result.p_equivalent = min(joined.p_support, joined.p_refute), joined.p_equivalent
    result.leaning = "supported" if joined.p_support <= joined.p_refute else "refuted"


def _adjust(judged: list[Judgement]) -> None:
    """Adjust p values family by family, the two hypotheses (decided, equivalent) each by itself, and say the verdicts."""
    groups: dict[tuple[str, str, bool], list[Judgement]] = {}
    for own in judged:
        groups.setdefault((own.family, own.arm, own.planned), []).append(own)
    for (_, _, planned), members in groups.items():
        for i, own in enumerate(members):
            own.p_adjusted = _adjusted(members, i, "p", planned)
        margins = [own for own in members if own.has_margin]
        for i, own in enumerate(margins):
            own.p_equivalent_adjusted = _adjusted(margins, i, "p_equivalent", planned)
    for own in judged:
        if own.p is not None:
            own.verdict = _decided(own)
        if own.deviations and own.verdict in DECIDED:
            own.verdict, own.otherwise = "deviated", own.verdict


def _adjusted(members: list[Judgement], i: int, name: Literal["p", "p_equivalent"], planned: bool) -> float | None:
    """The p of one of a family. Those without a test count with 1, as do of what was planned the others that deviated."""
    counted = [j == i or not (planned and own.deviations) for j, own in enumerate(members)]
    values = [getattr(own, name) if counts else None for own, counts in zip(members, counted, strict=True)]
    adjust = holm if planned else benjamini_hochberg
    return None if values[i] is None else adjust([1.0 if value is None else value for value in values])[i]


def _decided(own: Judgement) -> Word:
    if own.p_adjusted is not None and own.p_adjusted < own.alpha:
        return own.leaning
    if own.p_equivalent_adjusted is not None and own.p_equivalent_adjusted < own.alpha:
        return "equivalent"
    return "inconclusive"
