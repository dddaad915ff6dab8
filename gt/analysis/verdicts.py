"""What became of the claims, from the tables of their studies.

The smaller of a claim's two p values, that it holds and that it does not, is the claim's; one with a margin has a further one,
that it is within. Shaffer's procedure over the family adjusts them, Holm's where none has a margin, in which a claim that could
not be judged yet counts with p = 1, so that it matters to no verdict whether the others have run. What an arm gives explains a
verdict (`gt.analysis.attribution`), and is adjusted among the verdicts of that arm.

A claim that fails is said to be the `opposite`, `smaller than claimed` or `larger than claimed` (`gt.analysis.predicates`), by
the part that decides where it has several. Where it takes a test of its own that it is the opposite, this is adjusted over the
family too, in which the other claims have theirs, or their p: a third hypothesis beside those that a claim is decided and that
it is equivalent.

Where a study has looks, a claim is judged at each with repeated p values (`gt.analysis.at_looks`), and its judgement is that of
the look at which it stopped (`gt.analysis.looks`); what has run since says nothing of it.

A claim that is decided by what no seed changes (`gt.analysis.predicates`) is `not testable`: its numbers are given, and it is
in no family. At a look it stops.

A claim whose plan was not followed (`gt.analysis.deviations`) is `deviated`; what its numbers would have said otherwise is
kept beside. The family is what was registered in time: one that deviated and was in it counts with p = 1, and what it would
have been is adjusted as if of these it alone counted with its own. Claims that were registered late or not at all are a family
of their own, adjusted by Benjamini and Hochberg.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from gt.analysis import registration
from gt.analysis.aggregate import as_table, label, write_table
from gt.analysis.attribution import Interaction, interactions
from gt.analysis.cautions import Cautions, cautions
from gt.analysis.claims import FAITHFUL, Claim, Compare, Places, load_arms, load_claims
from gt.analysis.deviations import deviations
from gt.analysis.kept import of_today
from gt.analysis.looks import Look, Stop, stops
from gt.analysis.predicates import Judge, Miss, NotMeasured, Test, Uncounted, Undecidable, all_of
from gt.analysis.replications import Replication, replications
from gt.analysis.sensitivity import AtValue, sensitivity
from gt.analysis.sequential import Design
from gt.analysis.statistics import adjusted, benjamini_hochberg, holm, shaffer
from gt.analysis.values import Values
from gt.artefacts import Looks
from gt.records import read_json, write_json

Json = dict[str, Any]
Word = Literal[
    "supported",
    "opposite",
    "smaller than claimed",
    "larger than claimed",
    "refuted",
    "equivalent",
    "inconclusive",
    "deviated",
    "not testable",
    "not yet run",
]
# What a row of `verdicts.parquet` has of a claim's test, if it has one.
SHOWN = ("n", "scale", "estimate", "lower", "upper", "p_sign_flip", "detectable", "needed")
# What `claims.json` alone has.
NESTED = (
    *("cells", "budgets", "mixers", "cautions", "tests", "missing", "deviations", "repeated", "sensitivity"),
    *("claimed", "registered"),
)
# The table of `Taken`.
LOOKS = "looks"
# Of a claim that does not hold. The last is how it was said once, and stands in kept verdicts alone.
FAILED: tuple[Word, ...] = ("opposite", "smaller than claimed", "larger than claimed", "refuted")
DECIDED: tuple[Word, ...] = ("supported", *FAILED, "equivalent")
TESTED: tuple[Word, ...] = (*DECIDED, "inconclusive", "deviated")
VERDICTS: tuple[Word, ...] = (*TESTED, "not testable", "not yet run")


@dataclass(frozen=True)
class Taken:
    """A claim at one look of its study. seeds: of its cells. estimate: with the repeated interval, of a claim of one part.

    p: the smaller of that it holds and that it does not, p_equivalent: that it is within its margin, both repeated and adjusted
    over the family as it was then; None of a constant. hope: how likely all seeds decide it, None at the last look. stopped: as
    in a judgement.
    """

    seeds: int
    estimate: float | None
    lower: float | None
    upper: float | None
    p: float | None
    p_equivalent: float | None
    hope: float | None
    stopped: Literal["decided", "futile", "constant", "last", "open"]


@dataclass
class Judgement:
    """A claim under one arm.

    margin: a difference that would not matter, its own, or that of contrasts where losses are compared; has_margin: whether it
    is its own, so that it can be found equivalent. cells: the ids of those that it reads. budgets: the steps, and the tokens
    in each, that their runs had. mixers: by letter those that all their models have. missing: cells without seeds enough.
    exploratory: why it is, None if it was registered.
    planned: whether it was, as it stands, before the first of its runs. deviations: why its plan was not followed; otherwise:
    what the verdict would have been, None where it was. repeated: the cells of which runs were trained more than once. reason:
    why there is no test although nothing is missing. p, p_equivalent, p_opposite: unadjusted, None where there is no test;
    leaning: what p speaks for. decides: the number of the test that does. seeds: that each cell had at the look at which it
    stopped, and stopped: why, where the study has looks. sensitivity: how it comes out at each value of what its cells were
    tuned over. looks: what it was at each look so far. claimed: the claim's document as it was judged, and registered: its
    entries, of the claim itself and not of an arm: a verdict can be understood, and its claim be asked again, by itself.
    """

    claim: str
    arm: str
    study: str
    family: str
    alpha: float
    margin: float | None
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
    repeated: list[str] = field(default_factory=list)
    reason: str = ""
    p: float | None = None
    p_equivalent: float | None = None
    p_opposite: float | None = None
    leaning: Literal["for", "against"] = "for"
    decides: int | None = None
    misses: Miss | None = None
    p_adjusted: float | None = None
    p_equivalent_adjusted: float | None = None
    p_opposite_adjusted: float | None = None
    verdict: Word = "not yet run"
    otherwise: Word | None = None
    seeds: int | None = None
    stopped: Literal["decided", "futile", "constant", "last", "open"] | None = None
    sensitivity: list[AtValue] = field(default_factory=list)
    looks: list[Taken] = field(default_factory=list)
    claimed: Json = field(default_factory=dict)
    registered: list[Json] = field(default_factory=list)

    @property
    def constant(self) -> bool:
        """Whether no seed changes what decides it."""
        return bool(self.tests) and self.p is None


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
    at_looks, looks = [], values.plan.looks
    views = [values.first(n) for n in looks.looks] if looks else [values]
    for (name, claim, arm), family in zip(here, families, strict=True):
        places = Places(name, claim, {study: values.plan}, arms.get(arm))
        # The power is given at the first step of the family's procedure.
        judges = _judges(places, claim, views, claim.alpha / families.count(family))
        at_looks.append(list(_judged(judges, arm, entered.get(name, []), begun)))
    judged = _stopped(at_looks, looks) if looks else [own for (own,) in at_looks]
    _adjust(judged)
    return judged


def _judges(places: Places, claim: Claim, views: list[Values], alpha: float) -> list[Judge]:
    """Of a claim at each look of its study, or of all seeds where there are none. views: what there is to see at each."""
    values = views[-1]
    diverged, looks = claim.diverged or values.plan.diverged or "worst_rank", values.plan.looks
    if looks is None:
        return [Judge(places, claim, values, alpha, diverged)]
    design, judges = Design(tuple(looks.looks), looks.spending), list[Judge]()
    for n, view in zip(looks.looks, views, strict=True):
        judges.append(Judge(places, claim, view, alpha, diverged, n, design, tuple(judges)))
    return judges


def _judged(judges: list[Judge], arm: str, entries: list[registration.Entry], begun: datetime | None) -> Iterator[Judgement]:
    """The first judgement, and further ones as far as there are seeds for them."""
    for judge in judges:
        result = _untested(judge, arm, entries, begun)
        if result.missing and judge.earlier:
            return
        if not result.missing and not _unjudged(result):
            _test(result, judge)
        result.seeds = judge.least if judge.design else None
        yield result
        if result.missing:
            return


def _stopped(judged: list[list[Judgement]], looks: Looks) -> list[Judgement]:
    """Of the judgements of each claim at the looks that there are, that at which it stopped, or the last that there is."""
    groups: dict[tuple[str, str, bool], list[int]] = {}
    for i, own in enumerate(judged):
        groups.setdefault((own[0].family, own[0].arm, own[0].planned), []).append(i)
    found: dict[int, Judgement] = {}
    for members in groups.values():
        claims = [[_look(own) for own in judged[i] if not own.missing] for i in members]
        alpha = [judged[i][0].alpha for i in members]
        for i, stop in zip(members, stops(claims, len(looks.looks), alpha, looks.futility), strict=True):
            found[i] = judged[i][max(stop.look, 0)]
            found[i].stopped = stop.why
            found[i].looks = list(_taken(judged[i], stop))
    return [found[i] for i in range(len(judged))]


def _taken(judged: list[Judgement], stop: Stop) -> Iterator[Taken]:
    """A claim's looks up to that at which it stopped. judged: at each."""
    for k, p in enumerate(stop.path):
        own = judged[k]
        (test,) = own.tests if len(own.tests) == 1 else (None,)
        estimate = (test.estimate, test.lower, test.upper) if test else (None, None, None)
        word = stop.why if k == stop.look else "open"
        yield Taken(own.seeds or 0, *estimate, p[0] if p else None, p[1] if len(p) > 1 else None, _look(own).hope, word)


def _look(own: Judgement) -> Look:
    """What a claim is at a look. One that is not tested, or that departs from its plan, has nothing to hope for."""
    if own.constant:
        return Look((), None)
    hopes = all_of(own.tests).hope if own.tests else (0.0, 0.0)
    hope = None if hopes is None else max(hopes)
    return Look(_questions(own), 0.0 if own.deviations else hope)


def _questions(own: Judgement) -> tuple[float, ...]:
    """The p values that a claim has in its family: 1 without a test."""
    p = [own.p, *([own.p_equivalent] if own.has_margin else [])]
    return tuple(1.0 if value is None or own.deviations else value for value in p)


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
        margin=judge.margin(),
        has_margin=isinstance(first, Compare) and first.margin is not None,
        cells=cells,
        budgets=values.budgets(cells),
        mixers=judge.mixers,
        cautions=cautions(compared, judge.pairs(), judge.opponents(), tuned, edited, values),
        tests=[],
        missing=missing,
        exploratory=None if entries else "not registered",
        planned=bool(entries) and late is None,
        deviations=[] if missing else deviations(late, compared, chosen, values),
        repeated=list(dict.fromkeys(label(own.cell) for places in compared for own in places if values.repeated(own))),
        sensitivity=sensitivity(judge.places, claim, values),
        claimed=claim.document if arm == FAITHFUL else {},
        registered=[entry.model_dump(mode="json") for entry in entries] if arm == FAITHFUL else [],
    )


def _unjudged(result: Judgement) -> bool:
    """Whether a claim is about speeds that are no model's own. They are inconclusive: an idle device would settle them."""
    if busy := result.cautions.shared:
        result.verdict = "inconclusive"
        result.reason = (
            f"other runs were on the devices that the speeds of {' and '.join(busy)} are of, or it is not known that none "
            "were; the same measured on devices that are each run's alone would settle it"
        )
    return bool(busy)


def judge(folder: Path, claims_folder: Path, begun: datetime | None = None) -> list[Judgement]:
    """Judge a study's claims, and write them as `claims.json` and, a row each, as `verdicts.parquet` into its folder; and their
    looks, a row each, as `looks.parquet`.

    begun: when the first run of any study was, as far as it is known.
    """
    judged = judge_study(folder, claims_folder, begun)
    documents = [{key: value for key, value in asdict(own).items() if key != LOOKS} for own in judged]
    write_json(folder / "claims.json", [_plain(own) for own in documents])
    rows = [
        {
            **{key: value for key, value in document.items() if key not in NESTED},
            "missing": "; ".join(own.missing),
            "deviations": "; ".join(own.deviations),
            "words": "; ".join(test.words for test in own.tests),
            **{name: getattr(own.tests[0], name) if len(own.tests) == 1 else None for name in SHOWN},
        }
        for own, document in zip(judged, documents, strict=True)
    ]
    named = [own.name for own in fields(Judgement) if own.name not in (*NESTED, LOOKS)]
    write_table(folder / "verdicts.parquet", as_table(rows, (*named, "missing", "deviations", "words", *SHOWN)))
    taken = [{"claim": own.claim, "arm": own.arm, **asdict(look)} for own in judged for look in own.looks]
    write_table(folder / f"{LOOKS}.parquet", as_table(taken, ("claim", "arm", *(own.name for own in fields(Taken)))))
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

    explained_by: where the claim fails, the arms that support it and are shown to make the difference: what the record had and
    its cells have not. unshown: arms that support it and are not shown to. confounded: arms that support it as well, and
    explain nothing, for their runs were trained with another budget. interactions: of all arms of a claim that fails.
    registered: when it was entered as it stands (ISO 8601), None if it was not. edited: whether it was entered in another form
    before. looks: its own, as `Taken` has them. replications: their verdicts, which change nothing of its own.
    """

    id: str
    claim: Claim
    verdict: Word
    judgement: Json | None
    arms: dict[str, Json]
    explained_by: list[str]
    unshown: list[str]
    confounded: list[str]
    interactions: dict[str, Interaction]
    registered: str | None
    edited: bool
    looks: list[Json]
    replications: list[Replication]

    @property
    def tested(self) -> bool:
        """Whether runs have given it a verdict."""
        return self.verdict in TESTED


def overview(claims_folder: Path, folders: Iterable[Path], replicated: Iterable[Path] = ()) -> list[Row]:
    """Every claim, in the order of the files, with what the studies in these folders say of it.

    replicated: further folders that may have replications of theirs, as that of a published study whose runs are here.
    """
    import pyarrow.parquet as pq

    claims, arms, entries = load_claims(claims_folder), load_arms(claims_folder), registration.history(claims_folder)
    found: dict[tuple[str, str], Json] = {}
    looks: dict[tuple[str, str], list[Json]] = {}
    folders = list(folders)
    again = {(own.of, own.name): own for folder in (*folders, *replicated) for own in replications(folder)}
    for folder in folders:
        if (folder / "claims.json").exists():
            found |= {(own["claim"], own["arm"]): of_today(own) for own in read_json(folder / "claims.json")}
        if (folder / f"{LOOKS}.parquet").exists():
            for own in pq.read_table(folder / f"{LOOKS}.parquet").to_pylist():
                looks.setdefault((own["claim"], own["arm"]), []).append(own)
    rows = []
    for name, claim in claims.items():
        own = found.get((name, FAITHFUL))
        under = {arm: found[name, arm] for arm in arms if (name, arm) in found}
        verdict: Word = "not testable" if claim.not_testable else own["verdict"] if own else "not yet run"
        fails = own is not None and verdict in (*FAILED, "equivalent")
        tried = interactions(claim, own, under) if own is not None and fails else {}
        holds = [arm for arm, judged in under.items() if judged["verdict"] == "supported"] if fails else []
        alike = [arm for arm in holds if own and under[arm]["budgets"] == own["budgets"]]
        shown = [arm for arm in alike if arm in tried and tried[arm].shown(claim.alpha)]
        unshown = [arm for arm in alike if arm not in shown]
        known = entries.get(name, [])
        entered = known[-1].time if known and known[-1].sha256 == claim.sha256 else None
        confounded = [arm for arm in holds if arm not in alike]
        taken = looks.get((name, FAITHFUL), [])
        repeats = [one for one in again.values() if (one.of, one.claim) == (claim.study, name)]
        edited = len(known) > 1
        rows.append(Row(name, claim, verdict, own, under, shown, unshown, confounded, tried, entered, edited, taken, repeats))
    return rows


def _test(result: Judgement, judge: Judge) -> None:
    try:
        result.tests = [judge.test(predicate) for predicate in judge.claim.predicate]
    except Uncounted as why:
        result.deviations.append(str(why))
        _test(result, judge.excluding())
        return
    except Undecidable as why:
        result.reason, result.verdict = str(why), "not testable" if isinstance(why, NotMeasured) else "inconclusive"
        return
    joined = all_of(result.tests)
    if joined.constant is not None:
        parts = [f"part {i + 1}" for i, test in enumerate(result.tests) if test.constant is joined.constant]
        what = " and ".join(parts) if len(parts) < len(result.tests) else "what it reads"
        as_claimed = "as claimed" if joined.constant else "not as claimed"
        result.verdict = "not testable"
        result.reason = f"no seed changes {what}, so that nothing is left to chance; the numbers are {as_claimed}"
        return
    result.p, result.p_equivalent = min(joined.p_support, joined.p_refute), joined.p_equivalent
    holds = joined.p_support <= joined.p_refute
    result.leaning = "for" if holds else "against"
    asked = [(i, test) for i, test in enumerate(result.tests) if test.constant is None]
    result.decides, _ = max(asked, key=lambda own: own[1].p_support if holds else -own[1].p_refute)
    if not holds:
        result.misses, result.p_opposite = joined.misses, joined.p_opposite


def _adjust(judged: list[Judgement]) -> None:
    """Adjust p values family by family, and say the verdicts."""
    groups: dict[tuple[str, str, bool], list[Judgement]] = {}
    for own in judged:
        if not own.constant:
            groups.setdefault((own.family, own.arm, own.planned), []).append(own)
    for (_, _, planned), members in groups.items():
        p, opposite = [own.p for own in members], [own.p if own.p_opposite is None else own.p_opposite for own in members]
        # Of what was planned, those that are declared are adjusted together with the rest.
        for declared in (False,) if planned else (True, False):
            margins = [own for own in members if own.margin is not None and own.has_margin == declared]
            equivalent = [own.p_equivalent for own in margins]
            for i, own in enumerate(margins):
                own.p_equivalent_adjusted = _adjusted(margins, i, equivalent, planned)
        for i, own in enumerate(members):
            if planned:
                _together(members, i)
            else:
                own.p_adjusted = _adjusted(members, i, p, planned)
            if own.p_opposite is not None:
                own.p_opposite_adjusted = _adjusted(members, i, opposite, planned)
    for own in judged:
        if own.p is not None:
            own.verdict = _decided(own)
        if own.deviations and own.verdict in (*DECIDED, "inconclusive"):
            own.verdict, own.otherwise = "deviated", own.verdict


def _together(members: list[Judgement], i: int) -> None:
    """Adjust what one of a family asks, with a margin and without, which cannot both be true (Shaffer's procedure)."""
    own = members[i]
    asked = [_questions(replace(own, deviations=[]) if other is own else other) for other in members]
    first, *second = shaffer(asked)[i]
    own.p_adjusted = None if own.p is None else first
    if own.p_equivalent is not None and second:
        own.p_equivalent_adjusted = second[0]


def _adjusted(members: list[Judgement], i: int, p: list[float | None], planned: bool) -> float | None:
    """The p of one of a family. Of what was planned the others that deviated count as without a test."""
    counted = [j == i or not (planned and own.deviations) for j, own in enumerate(members)]
    values = [own if counts else None for own, counts in zip(p, counted, strict=True)]
    return adjusted(values, holm if planned else benjamini_hochberg)[i]


def _decided(own: Judgement) -> Word:
    if own.p_adjusted is not None and own.p_adjusted < own.alpha:
        if own.leaning == "for":
            return "supported"
        if own.p_opposite_adjusted is not None and own.p_opposite_adjusted < own.alpha:
            return "opposite"
        return own.misses or "opposite"
    if own.has_margin and own.p_equivalent_adjusted is not None and own.p_equivalent_adjusted < own.alpha:
        return "equivalent"
    return "inconclusive"


def kept(rows: Iterable[Row], rate: float = 0.05) -> tuple[int, int]:
    """How many decisions Benjamini and Hochberg's procedure over all claims that a study tests would keep, and of how many.

    p is that of what was decided. A claim without a test, not run yet or deviated, counts with p = 1, and one that is not
    testable not at all.
    """
    counted = [row for row in rows if row.verdict != "not testable"]
    p = [_p_of(row) for row in counted]
    values = adjusted(p, benjamini_hochberg)
    decided = [value for row, value in zip(counted, values, strict=True) if row.verdict in DECIDED]
    return sum(value is not None and value < rate for value in decided), len(decided)


def _p_of(row: Row) -> float | None:
    if row.judgement is None or row.verdict == "deviated":
        return None
    p: float | None = row.judgement["p_equivalent" if row.verdict == "equivalent" else "p"]
    return p
