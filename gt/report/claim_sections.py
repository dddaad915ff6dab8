"""Claims in a report: their table, the verdicts under each branch form, and a section for each."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

from gt.analysis.attribution import Interaction
from gt.analysis.claims import FAITHFUL, Predicate, cells_of, on, title
from gt.analysis.gate_words import fault
from gt.analysis.gates import Gate
from gt.analysis.predicates import region
from gt.analysis.statistics import mean_interval
from gt.analysis.verdicts import VERDICTS, Row, kept
from gt.report import text
from gt.report.claim_words import (
    CAUTIONS,
    MOST_SEEDS,
    cautioned,
    departure,
    departures,
    measured,
    measures,
    number,
    role,
    sensitive,
    sureness,
    unsettled,
    word,
    worded,
)
from gt.report.document import Block, Picture, Section, Tabular, Terms, section
from gt.report.replicated import of_row
from gt.report.tables import Column, Table

Json = dict[str, Any]
CLAIM = Column("id", "Claim", "left", link="claim-")
# What is of code alone, and true of many claims: their tables name it, and what it means is said once.
OF_CODE = ("code versions", "unheld code")


def counted(rows: Sequence[Row]) -> str:
    """Of 16 claims, 5 are supported, 3 the opposite ... How far that is by chance, and what explains those that fail."""
    counts = Counter(row.verdict for row in rows)
    (first, n), *others = [(verdict, counts[verdict]) for verdict in VERDICTS if counts[verdict]]
    words = [f"{n} {text.are(n)} {first}", *(f"{n} {verdict}" for verdict, n in others)]
    sentence = f"Of {text.plural(len(rows), 'claim')}, {text.listed(words)}."
    if late := sum(bool(row.tested and row.judgement and row.judgement["exploratory"]) for row in rows):
        sentence += f" {text.plural(late, 'verdict')} {text.are(late)} exploratory."
    return " ".join(filter(None, (sentence, together(rows), explained(rows))))


def together(rows: Sequence[Row]) -> str:
    """How many of all decisions together would be kept; empty where none is made."""
    n, of = kept(rows)
    return f"Benjamini–Hochberg at 5 % over all claims keeps {n} of {of} decided." if of else ""


def explained(rows: Sequence[Row]) -> str:
    """How many claims fail as published and hold under an arm, and under which; empty without any."""
    found = [row for row in rows if row.explained_by]
    if not found:
        return ""
    arms = Counter(arm for row in found for arm in row.explained_by)
    under = text.listed([f"{arm} ({n})" if len(arms) > 1 else arm for arm, n in arms.most_common()])
    fail, hold = ("fails", "holds") if len(found) == 1 else ("fail", "hold")
    return (
        f"{text.plural(len(found), 'claim')} that {fail} with the mixers as published {hold} in another form of them: {under}."
    )


def claims_table(rows: Sequence[Row], caption: str = "") -> Table:
    """A row a claim, those that were tested first: verdict, what it is to be read with, and what was measured.

    caption: in place of the one that says what the columns are.
    """
    several = len({row.claim.study for row in rows}) > 1
    columns = (
        CLAIM,
        Column("title", "What it says", "left", wraps=True),
        Column("verdict", "Verdict", "left", whole_row=lambda row: f"{row['verdict']} {row['marks']}".strip(), filters=True),
        *([Column("study", "Study", "left", link="study-", filters=True)] if several else []),
        *(
            [Column("departure", "Not as planned", "left", wraps=True)]
            if any(row.verdict == "deviated" for row in rows)
            else []
        ),
        Column("cautions", "Read with care", "left", wraps=True, filters=True),
        Column("seeds", "Seeds", shown=text.count),
        Column("p_adjusted", "Adjusted p", shown=text.p_value),
        Column("estimate", "Estimate [95 % interval]", "left", wraps=True),
    )
    columns_are = (
        "The claims and their verdicts; of several parts the estimate of the one that decides. p: that the claim holds, or "
        "that it does not, whichever is smaller, adjusted over its family by Holm, where a claim has a margin by Shaffer, who "
        "counts it once. * exploratory: not registered; adjusted by Benjamini and Hochberg, as are those that were registered "
        "late."
    )
    made = tuple(_claim_row(row) for row in sorted(rows, key=_untested))
    return Table("claims", caption or columns_are, columns, made, raw=("study", "marks", "p"), search=True)


def cautions_table(rows: Sequence[Row]) -> Table:
    """A row for each thing that verdicts are read with: what it means, said once for all claims, and of how many it is true."""
    named = Counter(name for row in rows if row.judgement and row.tested for name in _names(row.judgement))
    columns = (
        Column("name", "Read with care", "left"),
        Column("meaning", "What it means", "left", wraps=True),
        Column("claims", "Claims", shown=text.count),
    )
    made = tuple({"name": name, "meaning": CAUTIONS[name], "claims": named[name]} for name in CAUTIONS if named[name])
    tested = text.plural(sum(row.tested for row in rows), "tested claim")
    caption = f"What verdicts are to be read with, and of how many of {tested}: the table of claims says of which."
    return Table("cautions", caption, columns, made)


def _names(judgement: Json) -> list[str]:
    """The names of what a verdict is read with, each once."""
    return list(dict.fromkeys(name for name, _ in cautioned(judgement)))


def _untested(row: Row) -> int:
    """Claims that were tested are 0, those that cannot be 1, and those without runs 2."""
    return {"not testable": 1, "not yet run": 2}.get(row.verdict, 0)


def _claim_row(row: Row) -> dict[str, object]:
    own = row.judgement or {}
    tests = own.get("tests", [])
    i = own.get("decides") or 0
    of = f" (part {i + 1} of {len(tests)})" if len(tests) > 1 else ""
    return {
        "id": row.id,
        "title": row.claim.title,
        "study": row.claim.study,
        "verdict": worded(row),
        "departure": departure(own) if row.verdict == "deviated" else None,
        "cautions": "; ".join(_names(own)) if own else None,
        "marks": "*" if own.get("exploratory") else "",
        "seeds": max((test["n"] for test in tests), default=None),
        "p": own.get("p"),
        "p_adjusted": own.get("p_adjusted"),
        "estimate": f"{measured(tests[i])}{of}" if tests else None,
    }


def forms_table(rows: Sequence[Row]) -> Table:
    """The verdicts by branch form: a row a claim that was tested under an arm, a column an arm."""
    shown = [row for row in rows if any(own["tests"] for own in row.arms.values())]
    arms = list(dict.fromkeys(arm for row in shown for arm, own in row.arms.items() if own["tests"]))
    columns = (
        CLAIM,
        Column("title", "What it says", "left", wraps=True),
        *([Column(FAITHFUL, "As published", "left")] if any(row.judgement for row in shown) else []),
        *(Column(arm, arm, "left") for arm in arms),
    )
    made = [
        {
            "id": row.id,
            "title": row.claim.title,
            FAITHFUL: word(row.judgement) if row.judgement else None,
            **{arm: word(row.arms[arm]) if arm in row.arms and row.arms[arm]["tests"] else None for arm in arms},
        }
        for row in shown
    ]
    caption = (
        "Verdicts by branch form: the same claims with the mixers as published, and with one thing or all of what the record "
        "had in their place; a dash is where no run has tested it."
    )
    return Table("forms", caption, columns, tuple(made))


def claim_sections(rows: Sequence[Row], pictures: dict[str, Picture], gates: Sequence[Gate] = ()) -> list[Section | None]:
    """What was claimed, the verdict and why, part by part, the figure, what it is to be read with, and what explains it: a
    section a claim, which has a page of its own where a report has several.

    Claims without runs stand at the end, folded: on paper they are in the table alone. gates: what was known before they ran.
    """
    before = {gate.claim: " ".join(f"It {fault(own)}." for own in gate.faults) for gate in gates}
    made = [(row, _claim_section(row, pictures.get(row.id), before.get(row.id))) for row in rows]
    later = [own for row, own in made if _waits(row)]
    waiting = section("claims-not-run", f"{text.plural(len(later), 'claim')} not yet run", *later, folded=True)
    return [*(own for row, own in made if not _waits(row)), waiting]


def _waits(row: Row) -> bool:
    """Whether no run has tested a claim, neither as published nor in another form."""
    return row.verdict == "not yet run" and not any(own["tests"] for own in row.arms.values())


def _claim_section(row: Row, picture: Picture | None, before: str | None) -> Section | None:
    """before: what was to be said of it before it ran, if anything."""
    judged = row.judgement
    parts = parts_table(row) if judged and judged["tests"] else None
    forms = arms_table(row)
    careful = _careful(row)
    blocks: list[Block | None] = [
        Terms((("Claimed", row.claim.sentence.strip()), *_verdict(row))),
        Tabular(parts) if parts else None,
        picture,
        Tabular(forms) if forms.rows else None,
        section(f"care-{row.id}", "Read with care", Terms(tuple(careful))) if careful else None,
        Terms(tuple(_about(row, before))),
    ]
    whole = section(f"claim-{row.id}", f"{row.id}: {row.claim.title}", *blocks, page=True)
    return replace(whole, under=f"study-{row.claim.study}") if whole and row.judgement and row.claim.study else whole


def _verdict(row: Row) -> list[tuple[str, str]]:
    if row.claim.not_testable:
        return [("Verdict", f"Not testable. {row.claim.not_testable.strip()}")]
    if not row.judgement:
        return [] if row.arms else [("Verdict", "Not yet run.")]
    missing = [f"Missing: {what}." for what in row.judgement["missing"]]
    why = missing or [*departures(row.judgement), *sureness(row.judgement)]
    return [("Verdict", " ".join([f"{text.capital(worded(row))}.", *why]))]


def _careful(row: Row) -> list[tuple[str, str]]:
    """What to know of the cells of a claim, and of those of the arms that it holds under, but what is of code alone."""
    arms = [(f", under {arm}", row.arms[arm]) for arm in row.explained_by + row.unshown + row.confounded]
    said: dict[str, list[str]] = {}
    for where, judged in [("", row.judgement), *arms]:
        for name, words in cautioned(judged) if judged else ():
            if name not in OF_CODE:
                said.setdefault(text.capital(name) + where, []).append(words)
    return [(name, " ".join(words)) for name, words in said.items()]


def _about(row: Row, before: str | None) -> list[tuple[str, str]]:
    """Where a claim is from, what was run for it, and what its measures are called."""
    claim, judged = row.claim, row.judgement
    pairs = [("By", text.cited(claim.source))]
    if claim.again:
        pairs.append(("Asks again", f"{claim.again}, of other runs."))
    if claim.expected:
        pairs.append(("Expected", " ".join(filter(None, (f"{text.capital(claim.expected)}.", claim.note)))))
    elif claim.note:
        pairs.append(("The record", claim.note))
    if claim.study:
        cells = dict.fromkeys(title(cell) + on(cell) for predicate in claim.predicate for cell, _ in cells_of(predicate))
        seeds = f"at least {text.plural(claim.seeds, 'seed')} a cell"
        pairs.append(("Run", f"Study `{claim.study}`: {', '.join(cells)}; {seeds}."))
        if judged and judged["repeated"]:
            pairs.append(("Pooled trainings", f"{text.listed(judged['repeated'])}."))
        pairs.append(("Measured", f"{measures(claim, judged)}."))
    if before:
        pairs.append(("Before it ran", before))
    if judged and (said := sensitive(judged)):
        pairs.append(("At each value that was tuned over", " ".join(said)))
    if again := of_row(row):
        pairs.append(("Trained again on other seeds", " ".join(again)))
    return pairs


def parts_table(row: Row) -> Table:
    """A row for each part of a claim that was tested; of one that joins comparisons, a row for each of these."""
    assert row.judgement is not None
    judged, tests = row.judgement, row.judgement["tests"]
    open_ = (judged["otherwise"] or judged["verdict"]) == "inconclusive"
    rows: list[Json] = []
    for i, (test, predicate) in enumerate(zip(tests, row.claim.predicate, strict=False)):
        decides = judged["decides"] == i and not open_
        own = _comparisons(test, predicate, judged["seeds"] is None)
        for k, line in enumerate(own):
            shown = line["shown"] and len(own) > 1
            part = f"{i + 1}{chr(ord('a') + k) if 1 < len(own) <= 26 else ''}"
            rows.append({**line, "group": i, "part": f"{part}, decides" if decides and (shown or len(own) == 1) else part})
            rows[-1]["sees"] = _sees(test) if line["shown"] and open_ and unsettled(test) else None
            rows[-1]["needs"] = _needs(test) if line["shown"] and open_ and unsettled(test) else None
    columns = (
        *([Column("part", "Part", "left")] if len(rows) > 1 else []),
        Column("words", "Claimed", "left", wraps=True),
        Column("measured", "Measured [95 % interval]", "left", wraps=True),
        Column("seeds", "Seeds", shown=text.count),
        Column("as_claimed", "As claimed", "left"),
        Column("p", "p", "left"),
        *([Column("sees", "Sees"), Column("needs", "Seeds needed")] if any(own["sees"] for own in rows) else []),
    )
    return Table(f"parts.{row.id}", f"The parts of {row.id}.", columns, tuple(rows), groups="group", formats=(), quiet=True)


def _comparisons(test: Json, predicate: Predicate, intervals: bool) -> list[Json]:
    """What a part of a claim is made of: itself, or the comparisons that it joins, of which one decides.

    intervals: whether those that do not decide have one; at looks they have none.
    """
    claimed = region(predicate)
    own = {
        "words": text.capital(test["words"]) + (f". {text.capital(test['note'])}." if test["note"] else ""),
        "measured": measured(test),
        "seeds": test["n"],
        "as_claimed": _inside(test["estimate"], claimed.low, claimed.high),
        "p": _p(test),
        "shown": True,
    }
    if len(test["names"]) < 2:
        return [own]
    lines = []
    for i, (name, by_seed) in enumerate(zip(test["names"], test["parts"], strict=False)):
        values = [value for value in by_seed.values() if value is not None]
        if i == test["part"]:
            lines.append(own)
        elif values:
            log = test["scale"] == "ratio" and min(values) > 0
            found = mean_interval([math.log(value) for value in values] if log else values)
            mean, lower, upper = (
                None if value is None else math.exp(value) if log else value for value in (found.mean, found.lower, found.upper)
            )
            bounds = {"lower": lower, "upper": upper} if intervals else {"lower": None, "upper": None}
            said = {"estimate": mean if log else fmean(values), **bounds}
            inside = _inside(mean, claimed.low, claimed.high)
            more = {"measured": measured(said), "seeds": len(values), "as_claimed": inside, "p": None, "shown": False}
            lines.append({"words": text.capital(name), **more})
    return lines


def _inside(value: float | None, low: float, high: float) -> str | None:
    return None if value is None else "yes" if low < value < high else "no"


def _p(test: Json) -> str | None:
    """The smaller p of a part, and what it speaks for; None where it has none or speaks for neither side."""
    known = {side: p for side, p in (("for", test["p_support"]), ("against", test["p_refute"])) if p is not None}
    if not known or min(known.values()) >= 1:
        return None
    side = min(known, key=lambda own: known[own])
    return f"{text.p_value(known[side])} {side}"


def _sees(test: Json) -> str:
    """The distance from the bound that the seeds of an open part see with a power of 80 %."""
    far = test["detectable"]
    return f"{text.significant(100 * far, 2)} %" if test["scale"] == "ratio" else number(far, 2)


def _needs(test: Json) -> str:
    """How many seeds would decide an open part, were the truth as estimated."""
    return f"> {MOST_SEEDS:,}" if test["needed"] is None or test["needed"] > MOST_SEEDS else text.count(test["needed"])


def arms_table(row: Row) -> Table:
    """A row a branch form under which a claim was judged: its verdict, how far it changes the effect, and what it explains."""
    rows = []
    for arm, own in row.arms.items():
        made = row.interactions.get(arm, Interaction())
        said = {"arm": arm, "verdict": word(own), "p": own["p_adjusted"], "role": role(row, arm)}
        rows.append({**said, "change": made.difference, "p_change": made.p_adjusted})
    columns = (
        Column("arm", "Other form", "left"),
        Column("verdict", "Verdict", "left"),
        Column("p", "Adjusted p", shown=text.p_value),
        Column("change", "Change of the effect", shown=lambda value: number(value, 3)),
        Column("p_change", "Adjusted p of it", shown=text.p_value),
        Column("role", "What it says", "left", wraps=True),
    )
    return Table(f"arms.{row.id}", f"{row.id} in other forms.", columns, tuple(rows), formats=(), quiet=True)
