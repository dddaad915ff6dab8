"""What is said of claims, in sentences and in a terminal: their verdicts, why, and two models side by side."""

from __future__ import annotations

import math
import textwrap
from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from gt.analysis.aggregate import label
from gt.analysis.claims import Claim, Place, cells_of
from gt.analysis.statistics import benjamini_hochberg, paired_difference
from gt.analysis.values import Values
from gt.analysis.verdicts import VERDICTS, Row
from gt.artefacts import Cell
from gt.errors import ConfigError, nearest
from gt.registry import phrase
from gt.report import text

Json = dict[str, Any]
WIDTH = 100
# A p value that is printed as 1.
UNSURE = 0.9995
# Letters of a line in a table.
LINE = 80


def number(value: float | None, figures: int = 4) -> str:
    """A number of any size, to so many figures."""
    return text.NOTHING if value is None else f"{value:.{figures}g}".replace("-", "−")


def measured(test: Json) -> str:
    """A predicate's estimate with its 95 % interval."""
    estimate, lower, upper = test["estimate"], test["lower"], test["upper"]
    if lower is None or lower == upper:
        return number(estimate)
    # two figures of its half-width say how well it is known: more would be noise
    places = 1 - math.floor(math.log10((upper - lower) / 2))
    if max(abs(lower), abs(upper)) < 1e-3 or places < -4:
        return f"{number(estimate, 3)} [{number(lower, 3)}, {number(upper, 3)}]"
    # a third before the decimal point, where a zero in its place would look like a figure
    places += places < 0
    shown = [f"{round(value, places) + 0.0:,.{max(0, places)}f}".replace("-", "−") for value in (estimate, lower, upper)]
    return f"{shown[0]} [{shown[1]}, {shown[2]}]"


def finding(test: Json) -> str:
    """One predicate's sentence and what was measured."""
    seeds = text.plural(test["n"], "seed")
    among = f" in each of {seeds}" if test["lower"] is not None and test["lower"] == test["upper"] else f", {seeds}"
    side = f", {test['outside']} both" if test["outside"] else ""
    return f"{text.capital(test['words'])}; measured {measured(test)}{side}{among}"


def measures(claim: Claim, judgement: Json | None) -> str:
    """What a claim is about: its metrics as sentences have them, each with the name that tables and files have."""
    mixers = judgement["mixers"] if judgement else {}
    metrics = dict.fromkeys(metric for predicate in claim.predicate for _, metric in cells_of(predicate))
    return text.capital(text.listed([f"{phrase(metric, mixers)} (`{metric}`)" for metric in metrics]))


def reasons(judgement: Json) -> list[str]:
    """Why a claim has its verdict: what was not as planned, what was measured, how sure that is, and what is missing."""
    if judgement["missing"]:
        return [f"Missing: {missing}." for missing in judgement["missing"]]
    left = [f"{text.capital(why)}." for why in judgement["deviations"]]
    if judgement["otherwise"]:
        left.append(f"The numbers alone would say: {judgement['otherwise']}.")
    return left + _numbers(judgement, judgement["otherwise"] or judgement["verdict"])


def word(judgement: Json) -> str:
    """A verdict, and what it would be had the plan been followed."""
    return f"{judgement['verdict']} (else {judgement['otherwise']})" if judgement["otherwise"] else str(judgement["verdict"])


def departure(judgement: Json) -> str:
    """What was first not as planned, of how much, and what the verdict would be otherwise: for a line of a table.

    A long list of cells is cut short; the claim's own section has it.
    """
    first, *others = judgement["deviations"]
    more = f" (and {text.plural(len(others), 'other reason')})" if others else ""
    return f"{text.capital(textwrap.shorten(first, LINE, placeholder=' …'))}{more}; else {judgement['otherwise']}."


def _numbers(judgement: Json, verdict: str) -> list[str]:
    """What was measured, and how it gives this verdict."""
    if judgement["reason"]:
        return [f"No test: {judgement['reason']}."]
    open_ = verdict == "inconclusive"
    lines = [f"{finding(test)}." + (f" {power(test)}" if open_ and unsettled(test) else "") for test in judgement["tests"]]
    lines.append(certainty(judgement))
    if (p := judgement["p_equivalent_adjusted"]) is not None:
        if verdict in ("equivalent", "inconclusive"):
            lines.append(f"That the difference does not matter: p {text.p_equation(p)}, adjusted.")
        elif p < judgement["alpha"]:
            lines.append(f"All the same it is too small to matter: within the margin, p {text.p_equation(p)}, adjusted.")
    if judgement["exploratory"]:
        lines.append(f"Exploratory: {judgement['exploratory']}.")
    return lines


def cautions(judgement: Json) -> list[str]:
    """What to know of the cells behind a verdict; nothing of a claim that has none."""
    if not judgement["tests"]:
        return []
    found: Json = judgement["cautions"]
    said = [f"{own['cell']} completed {survivors(own)}." for own in found["lost"]]
    decided = (judgement["otherwise"] or judgement["verdict"]) in ("supported", "refuted")
    for own in found["close"] if decided else ():
        differ = f"{own['a']} and {own['b']} differ by {text.significant(100 * abs(own['share']), 2)} %"
        said.append(f"{differ}, less than the {100 * own['margin']:g} % within which a difference would not matter.")
    lines: dict[tuple[str, str, str, float], list[Json]] = {}
    for own in found["undertrained"]:
        lines.setdefault((own["order"], own["corpus"], own["tokenizer"], own["line"]), []).append(own)
    for (order, corpus, tokenizer, line), cells in lines.items():
        names = text.listed([f"{own['cell']} ({text.decimals(own['mean'], 3)})" for own in cells])
        do, ngram = "does" if len(cells) == 1 else "do", f"{order} model of {corpus}, {tokenizer}"
        said.append(f"{names} {do} not beat a {ngram} ({text.decimals(line, 3)} bits per byte).")
    for own in found["dead"]:
        share = f"{number(100 * own['share'], 2)} % of what zeroing either branch costs"
        said.append(f"{own['cell']}'s branch {own['branch']} ({own['mixer']}) does nothing: it has {share}.")
    ends: dict[str, list[str]] = {}
    for own in found["edges"]:
        ends.setdefault(f"the {own['end']} {own['setting']} of the {own['tried']} that were tried", []).append(own["cell"])
    for end, alike in ends.items():
        said.append(f"{text.listed(alike)} {'has' if len(alike) == 1 else 'have'} {end}: a better one may lie beyond.")
    if found["versions"]:
        made = ", ".join(f"{text.listed(names)} by {'another' if i else 'one'}" for i, names in enumerate(found["versions"]))
        versions = f"{len(found['versions'])} versions of the code trained what is compared"
        said.append(f"{versions}, {made}: a difference may be that of the code.")
    if found["unheld"]:
        said.append(f"Whether a commit holds the code that trained {text.listed(found['unheld'])} is not known.")
    if found["shared"]:
        said.append(f"Other runs were on the devices that the speeds of {text.listed(found['shared'])} are of.")
    if found["edited"]:
        times = text.listed([f"{datetime.fromisoformat(time):%Y-%m-%d %H:%M}" for time in found["edited"]])
        said.append(f"It was edited: it was registered on {times}, before its own runs; others may have been known by then.")
    return said


def survivors(lost: Json) -> str:
    """2 of 5 seeds: 1 and 3 diverged, 4 is missing"""
    others = [
        f"{text.listed([str(seed) for seed in seeds])} {text.are(len(seeds)) + ' missing' if status == 'missing' else status}"
        for status, seeds in lost["seeds"].items()
    ]
    return f"{lost['completed']} of {text.plural(lost['planned'], 'seed')}: {', '.join(others)}"


def surely(judgement: Json) -> str:
    """The p of a judgement in brackets, as it follows its verdict; nothing without one, or where it speaks for neither side."""
    return "" if judgement["p"] is None or judgement["p"] > UNSURE else f" (p {text.p_equation(judgement['p'])})"


def certainty(judgement: Json) -> str:
    """What the smaller of the two p values says, alone and in the family. One that is 1 speaks for neither side."""
    if judgement["p"] > UNSURE:
        return "No test decides: neither that the claim holds nor that it does not has a p below 1."
    how = "Holm" if judgement["planned"] else "Benjamini and Hochberg"
    speaks = "for" if judgement["leaning"] == "supported" else "against"
    adjusted = f"{how} in the family {judgement['family']}: p {text.p_equation(judgement['p_adjusted'])}"
    return f"p {text.p_equation(judgement['p'])} {speaks} the claim; {adjusted}."


def unsettled(test: Json) -> bool:
    """Whether a test's seeds are too few to decide what was measured, if it is true."""
    return test["detectable"] is not None and (test["needed"] is None or test["needed"] > test["n"])


def power(test: Json) -> str:
    """What a test's seeds could have seen, and how many would settle it."""
    more = "more than 10,000 seeds" if test["needed"] is None else text.plural(test["needed"], "seed")
    far = test["detectable"]
    distance = f"{text.significant(100 * far, 2)} %" if test["scale"] == "ratio" else number(far, 2)
    seen = f"They see a distance of {distance} from the bound with a power of 80 %"
    return f"{seen}; what was measured, if it is true, would be settled by {more}."


def attribution(row: Row) -> str:
    """What explains that a claim fails, where an arm supports it, and what does not; empty where none does."""
    said = []
    if row.explained_by:
        said.append(f"Fails with the mixers as published, and holds under {text.listed(row.explained_by)}.")
    if row.confounded and row.judgement:
        arms, budgets = text.listed(row.confounded), [budget(own) for own in (row.arms[row.confounded[0]], row.judgement)]
        said.append(f"Holds under {arms}, but in runs of {budgets[0]}, not {budgets[1]}: that may be why.")
    for arm in row.explained_by + row.confounded:
        said += [f"Of {arm}: {words}" for words in cautions(row.arms[arm])]
    return " ".join(said)


def budget(judgement: Json) -> str:
    """What the runs behind a judgement were trained with."""
    return text.listed([f"{steps:,} steps of {tokens:,} tokens" for steps, tokens in judgement["budgets"]])


def table(rows: Iterable[Row]) -> str:
    """The claims with their verdicts, a line each, and the count of the verdicts."""
    rows = list(rows)
    widest = max((len(row.id) for row in rows), default=5)
    lines = [f"{'claim':{widest}}  {'verdict':14} {'p':>7} {'adjusted':>8} {'seeds':>5}  what it says"]
    for row in rows:
        own: Json = row.judgement or {}
        n = max((test["n"] for test in own.get("tests", [])), default=None)
        numbers = f"{text.p_value(own.get('p')):>7} {text.p_value(own.get('p_adjusted')):>8} {text.count(n):>5}"
        mark = "*" if own.get("exploratory") else " "
        lines.append(_cut(f"{row.id:{widest}}  {row.verdict + mark:14} {numbers}  {row.claim.title}"))
        if row.verdict == "deviated":
            lines.append(_cut(f"{'':{widest}}  {departure(own)}"))
    counts = Counter(row.verdict for row in rows)
    lines += ["", ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS if counts[verdict])]
    if any(row.judgement and row.judgement["exploratory"] for row in rows):
        lines.append("* exploratory: not registered")
    return "\n".join(lines)


def _cut(line: str) -> str:
    return line if len(line) <= WIDTH else line[: WIDTH - 1] + "…"


def why(row: Row) -> str:
    """All about one claim: what it says, the record, what was run, the numbers, the verdict, and what explains it."""
    claim = row.claim
    blocks = [f"{row.id}: {claim.title}", f"Claim: {claim.sentence.strip()}", f"Source: {claim.source}."]
    if claim.note:
        blocks.append(f"The record: {claim.note}")
    if claim.not_testable:
        blocks += ["Verdict: not testable.", claim.not_testable.strip()]
    elif row.judgement is None:
        blocks.append(f"Verdict: not yet run. `snakemake --config study={claim.study}` runs it.")
    else:
        blocks.append(f"Study: {row.judgement['study']}; at least {text.plural(claim.seeds, 'seed')} a cell.")
        blocks.append(f"Measured: {measures(claim, row.judgement)}.")
        blocks += [f"Verdict: {row.verdict}.", *reasons(row.judgement)]
        blocks += [f"Read with care: {words}" for words in cautions(row.judgement)]
    for arm, judged in row.arms.items():
        blocks.append(f"Under {arm}: {word(judged)}{surely(judged)}.")
    if explained := attribution(row):
        blocks.append(explained)
    return "\n".join(textwrap.fill(block, WIDTH, subsequent_indent="  ") for block in blocks)


def compare(values: Values, a: str, b: str) -> str:
    """Two variants, cells or runs of a study side by side, in every metric that both have; differences are paired by seed.

    p values are adjusted over all lines (Benjamini and Hochberg): this is exploration. ConfigError for an unknown name.
    """
    blocks = []
    for left, right in _pairs(values, a, b):
        rows = []
        for metric, at in values.names():
            first, second = (_of(values, side, metric, at) for side in (left, right))
            if first and second:
                rows.append(
                    (metric + (f" at {at:g}" if at is not None else ""), first, second, paired_difference(first, second))
                )
        # What does not vary over seeds, such as a count, needs no test and takes part in none.
        tested = [i for i, row in enumerate(rows) if row[3].p is not None and row[3].sd]
        adjusted = dict(zip(tested, benjamini_hochberg([float(rows[i][3].p or 0.0) for i in tested]), strict=True))
        lines = [f"{left['name']} less {right['name']}", ""]
        lines.append(
            f"{'metric':33} {'n':>2} {'first':>10} {'second':>10} {'difference':>10} {'95 % interval':>22} {'adj. p':>7}"
        )
        for i, (name, first, second, d) in enumerate(rows):
            interval = f"[{number(d.lower, 3)}, {number(d.upper, 3)}]" if d.sd else text.NOTHING
            means = " ".join(f"{number(sum(side.values()) / len(side)):>10}" for side in (first, second))
            p = text.p_value(adjusted.get(i))
            lines.append(f"{name[:33]:33} {d.n:>2} {means} {number(d.mean):>10} {interval:>22} {p:>7}")
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _pairs(values: Values, a: str, b: str) -> list[tuple[Json, Json]]:
    """What two names stand for: cells of the same corpus, tokenizer and factors where they are variants."""
    left, right = _sides(values, a), _sides(values, b)
    if len(left) == len(right) == 1:
        return [(left[0], right[0])]
    pairs = [(one, other) for one in left for other in right if one["place"] == other["place"]]
    if not pairs:
        raise ConfigError(f"{a} and {b} have no corpus, tokenizer and factors in common; name two cells.")
    return pairs


def _sides(values: Values, name: str) -> list[Json]:
    cells = values.plan.cells
    for cell in cells:
        for seed, run in cell.runs.items():
            if run == name:
                return [{"cell": cell, "seed": seed, "name": name, "place": None}]
    found = [cell for cell in cells if name in (cell.id, cell.variant, label(cell))]
    if not found:
        raise ConfigError(f"{values.plan.study} has no variant, cell or run {name!r}." + nearest(name, _names(cells)))
    place = [(cell.corpus, cell.tokenizer, sorted(cell.factors.items())) for cell in found]
    return [{"cell": cell, "seed": None, "name": cell.id, "place": own} for cell, own in zip(found, place, strict=True)]


def _names(cells: list[Cell]) -> list[str]:
    return sorted({name for cell in cells for name in (cell.id, cell.variant)})


def _of(values: Values, side: Json, metric: str, at: float | None) -> dict[int, float]:
    """The values of a cell by seed, or of one run, as if its seed were 0."""
    found = values.of(Place("", side["cell"], metric, at))
    if side["seed"] is None:
        return found
    return {0: found[side["seed"]]} if side["seed"] in found else {}
