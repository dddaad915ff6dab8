"""Claims in a report: their table, the verdicts under each branch form, and a section for each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from gt.analysis.claims import FAITHFUL, cells_of, on, title
from gt.analysis.gate_words import fault
from gt.analysis.gates import Gate
from gt.analysis.verdicts import VERDICTS, Row, kept
from gt.report import text
from gt.report.claim_words import attribution, cautions, departure, measured, measures, reasons, sensitive, surely, word, worded
from gt.report.document import Picture, Section, Terms, section
from gt.report.replicated import of_row
from gt.report.tables import Column, Table

CLAIM = Column("id", "Claim", "left", link="claim-")


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


def claims_table(rows: Sequence[Row]) -> Table:
    """A row a claim, those that were tested first: verdict, p values, and what each of its predicates was measured to be."""
    columns = (
        CLAIM,
        Column("title", "What it says", "left", wraps=True),
        Column("study", "Study", "left"),
        Column("verdict", "Verdict", "left", whole_row=lambda row: f"{row['verdict']} {row['marks']}".strip()),
        *(
            [Column("departure", "Not as planned", "left", wraps=True)]
            if any(row.verdict == "deviated" for row in rows)
            else []
        ),
        Column("seeds", "Seeds", shown=text.count),
        Column("p", "p", shown=text.p_value),
        Column("p_adjusted", "Adjusted p", shown=text.p_value),
        Column("estimate", "Estimate [95 % interval]", "left", wraps=True),
    )
    caption = (
        "The claims and their verdicts. p: that the claim holds, or that it does not, whichever is smaller; adjusted over its "
        "family by Holm, where a claim has a margin by Shaffer, who counts it once. * exploratory: not registered; adjusted by "
        "Benjamini and Hochberg, as are those that were registered late. † To be read with care: the claim’s section says why."
    )
    return Table("claims", caption, columns, tuple(_claim_row(row) for row in sorted(rows, key=_untested)), raw=("marks",))


def _untested(row: Row) -> int:
    """Claims that were tested are 0, those that cannot be 1, and those without runs 2."""
    return {"not testable": 1, "not yet run": 2}.get(row.verdict, 0)


def _claim_row(row: Row) -> dict[str, object]:
    own = row.judgement or {}
    tests = own.get("tests", [])
    return {
        "id": row.id,
        "title": row.claim.title,
        "study": row.claim.study,
        "verdict": worded(row),
        "departure": departure(own) if row.verdict == "deviated" else None,
        "marks": " ".join(["*"] * bool(own.get("exploratory")) + ["†"] * bool(own and cautions(own))),
        "seeds": max((test["n"] for test in tests), default=None),
        "p": own.get("p"),
        "p_adjusted": own.get("p_adjusted"),
        "estimate": "; ".join(measured(test) for test in tests),
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
    """What was claimed, what was run, the figure, the verdict and why, and what explains it: a section a claim.

    Claims without runs stand at the end, folded: on paper they are in the table alone. gates: what was known before they ran.
    """
    before = {gate.claim: " ".join(f"It {fault(own)}." for own in gate.faults) for gate in gates}
    made = [
        (row, section(f"claim-{row.id}", f"{row.id}: {row.claim.title}", pictures.get(row.id), _about(row, before.get(row.id))))
        for row in rows
    ]
    later = [own for row, own in made if _waits(row)]
    waiting = section("claims-not-run", f"{text.plural(len(later), 'claim')} not yet run", *later, folded=True)
    return [*(own for row, own in made if not _waits(row)), waiting]


def _waits(row: Row) -> bool:
    """Whether no run has tested a claim, neither as published nor in another form."""
    return row.verdict == "not yet run" and not any(own["tests"] for own in row.arms.values())


def _about(row: Row, before: str | None) -> Terms:
    """before: what was to be said of it before it ran, if anything."""
    claim, judged = row.claim, row.judgement
    pairs = [("Claimed", claim.sentence.strip()), ("By", claim.source)]
    if claim.note:
        pairs.append(("The record", claim.note))
    if claim.study:
        cells = dict.fromkeys(title(cell) + on(cell) for predicate in claim.predicate for cell, _ in cells_of(predicate))
        seeds = f"at least {text.plural(claim.seeds, 'seed')} a cell"
        pairs.append(("Run", f"Study `{claim.study}`: {', '.join(cells)}; {seeds}."))
        pairs.append(("Measured", f"{measures(claim, judged)}."))
    if before:
        pairs.append(("Before it ran", before))
    if claim.not_testable:
        pairs.append(("Verdict", f"Not testable. {claim.not_testable.strip()}"))
    elif judged:
        pairs.append((f"Verdict: {worded(row)}", " ".join(reasons(judged))))
        if careful := cautions(judged):
            pairs.append(("Read with care", " ".join(careful)))
        if said := sensitive(judged):
            pairs.append(("At each value that was tuned over", " ".join(said)))
    elif not row.arms:
        pairs.append(("Verdict", "Not yet run."))
    if again := of_row(row):
        pairs.append(("Trained again on other seeds", " ".join(again)))
    if row.arms:
        by_form: dict[str, list[str]] = {}
        for arm, own in row.arms.items():
            by_form.setdefault(word(own), []).append(arm + surely(own))
        words = "; ".join(f"{verdict} under {text.listed(arms)}" for verdict, arms in by_form.items())
        pairs.append(("By branch form", f"{text.capital(words)}. {attribution(row)}".strip()))
    return Terms(tuple(pairs))
