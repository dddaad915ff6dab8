"""What is said of claims, in sentences and in a terminal: their verdicts, why, and two models side by side."""

from __future__ import annotations

import math
import textwrap
from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from statistics import fmean, geometric_mean
from typing import Any

from gt.analysis.aggregate import label
from gt.analysis.attribution import Interaction
from gt.analysis.cautions import SOLVED
from gt.analysis.claims import Claim, Place, cells_of
from gt.analysis.statistics import benjamini_hochberg, paired_difference
from gt.analysis.values import Values
from gt.analysis.verdicts import FAILED, VERDICTS, Row
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
# As many as somebody might run.
MOST_SEEDS = 1000
# Of more comparisons that are joined with one, not each is told.
OTHERS = 3
# From so many on, a size is a short number.
LARGE = 10_000
# What would decide a claim that is open, although no part asks for more seeds, or none says how many.
SETTLED = "Were the truth as estimated, so many seeds would decide each part four times in five; these did not decide all."
UNKNOWN = "How many seeds would decide a test of ranks is not known."


def number(value: float | None, figures: int = 4) -> str:
    """A number of any size, to so many figures."""
    return text.NOTHING if value is None else f"{value + 0.0:.{figures}g}".replace("-", "−")


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
    of = f"; of {len(test['names'])} comparisons, of which {test['joined']}, it decides" if test["joined"] else ""
    note = f"; {test['note']}" if test["note"] else ""
    return f"{text.capital(test['words'])}; measured {measured(test)}{side}{among}{of}{_others(test)}{note}"


def _others(test: Json) -> str:
    """The means of what is joined with the comparison that is shown: each in its words, of many how far they reach."""
    means = []
    for i, (name, values) in enumerate(zip(test["names"], test["parts"], strict=False)):
        known = [value for value in values.values() if value is not None]
        if i != test["part"] and known:
            ratio = test["scale"] == "ratio" and min(known) > 0
            means.append((geometric_mean(known) if ratio else fmean(known), name))
    if len(means) > OTHERS:
        return f" (the {len(means)} others measured {number(min(means)[0], 3)} to {number(max(means)[0], 3)})"
    beside = text.listed([f"{name}, measured {number(mean, 3)}" for mean, name in means])
    return f" (beside it {beside})" if means else ""


def measures(claim: Claim, judgement: Json | None) -> str:
    """What a claim is about: its metrics as sentences have them, each with the name that tables and files have."""
    mixers = judgement["mixers"] if judgement else {}
    metrics = dict.fromkeys(metric for predicate in claim.predicate for _, metric in cells_of(predicate))
    return text.capital(text.listed([f"{phrase(metric, mixers)} (`{metric}`)" for metric in metrics]))


def reasons(judgement: Json) -> list[str]:
    """Why a claim has its verdict: what was not as planned, what was measured, how sure that is, and what is missing."""
    if judgement["missing"]:
        return [f"Missing: {missing}." for missing in judgement["missing"]]
    open_ = _of_numbers(judgement) == "inconclusive" and not judgement["reason"]
    found = [f"{finding(test)}." + (f" {power(test)}" if open_ and unsettled(test) else "") for test in judgement["tests"]]
    again = []
    if (names := judgement["repeated"]) and not judgement["reason"]:
        again.append(f"Runs of {text.listed(names)} were trained more than once: of each the mean over its trainings counts.")
    return [*departures(judgement), *found, *again, *sureness(judgement)]


def _of_numbers(judgement: Json) -> str:
    """The verdict that the numbers give."""
    return str(judgement["otherwise"] or judgement["verdict"])


def departures(judgement: Json) -> list[str]:
    """What was not as planned, and what the numbers alone would say."""
    said = [f"{text.capital(why)}." for why in judgement["deviations"]]
    if judgement["otherwise"]:
        said.append(f"The numbers alone would say: {judgement['otherwise']}{_margin(judgement)}.")
    return said


def word(judgement: Json) -> str:
    """A verdict, as contrasts have it with the margin that it is within, and what it would be had the plan been followed."""
    if otherwise := judgement["otherwise"]:
        return f"{judgement['verdict']} (else {otherwise}{_margin(judgement)})"
    return f"{judgement['verdict']}{_margin(judgement)}"


def _margin(judgement: Json) -> str:
    """What follows the word of a difference that is decided and within the margin."""
    p = judgement["p_equivalent_adjusted"]
    differs = _of_numbers(judgement) in ("supported", *FAILED)
    return ", within margin" if differs and p is not None and p < judgement["alpha"] else ""


def departure(judgement: Json) -> str:
    """What was first not as planned, of how much, and what the verdict would be otherwise: for a line of a table.

    A long list of cells is cut short; the claim's own section has it.
    """
    first, *others = judgement["deviations"]
    more = f" (and {text.plural(len(others), 'other reason')})" if others else ""
    otherwise = f"{judgement['otherwise']}{_margin(judgement)}"
    return f"{text.capital(textwrap.shorten(first, LINE, placeholder=' …'))}{more}; else {otherwise}."


def sureness(judgement: Json) -> list[str]:
    """How sure what was measured is, and why it gives this verdict."""
    if judgement["reason"]:
        return [f"No test: {judgement['reason']}."]
    lines, verdict = [], _of_numbers(judgement)
    if verdict == "inconclusive" and not any(map(unsettled, judgement["tests"])):
        lines.append(SETTLED if all(test["detectable"] is not None for test in judgement["tests"]) else UNKNOWN)
    if verdict in FAILED and len(judgement["tests"]) > 1 and judgement["decides"] is not None:
        lines.append(f"Part {judgement['decides'] + 1} of {len(judgement['tests'])} decides.")
    lines += [certainty(judgement), *looked(judgement)]
    if verdict == "opposite" and (p := judgement["p_opposite_adjusted"]) is not None:
        lines.append(f"That it is the opposite: p {text.p_equation(p)}, adjusted.")
    if (p := judgement["p_equivalent_adjusted"]) is not None:
        if verdict in ("equivalent", "inconclusive") and judgement["has_margin"]:
            lines.append(f"That the difference does not matter: p {text.p_equation(p)}, adjusted.")
        elif _margin(judgement):
            whose = "its margin" if judgement["has_margin"] else f"the {100 * judgement['margin']:g} % of contrasts"
            lines.append(
                f"All the same it is too small to matter: the interval lies within {whose}, p {text.p_equation(p)}, adjusted."
            )
    if judgement["exploratory"]:
        lines.append(f"Exploratory: {judgement['exploratory']}.")
    return lines


# What a verdict is to be read with, by the name that tables have of it: what it means, in reports once for all claims.
CAUTIONS = {
    "seeds lost": "A cell has not all its seeds: those that are left may be the better ones.",
    "small difference": "What is decided is smaller than what would matter.",
    "worse than n-grams": "A cell does not beat a count of how often short runs of tokens occur: it has learned little.",
    "dead branch": "Zeroing one branch of the network costs next to nothing: what is said of two branches is about one.",
    "edge of search": "A tuned cell has the highest or the lowest value that was tried: a better one may lie beyond.",
    "rate not tuned": "Models are compared at a learning rate that no tuning chose: another may suit one of them better.",
    "sizes differ": "What is compared differs in parameters, width or tokens by more than 5 %, beside what the claim is about.",
    "few tokens": "All seeds are measured on the same few tokens or answers: their interval holds for no others.",
    "beyond training": "A model is read in longer contexts than it was trained in, and is worse there: what sets it apart is "
    "how it extrapolates.",
    "no spread": "No seed changes one of the numbers: chance is in what it is set against alone.",
    "solved or not": "Runs solve the task or do not, and a mean is of neither kind.",
    "code versions": "Several versions of the code trained what is compared: a difference may be that of the code.",
    "unheld code": "Whether a commit holds the code that trained it is not known.",
    "edited": "The claim was registered again before its own runs, when other runs may have been known.",
}


def cautions(judgement: Json) -> list[str]:
    """What to know of the cells behind a verdict; nothing of a claim that has none."""
    return [words for _, words in cautioned(judgement)]


def cautioned(judgement: Json) -> list[tuple[str, str]]:
    """The same, each with its name among `CAUTIONS`."""
    found: Json = judgement["cautions"]
    if not judgement["tests"] and (not found["shared"] or judgement["missing"]):
        return []
    said = [("seeds lost", f"{own['cell']} completed {survivors(own)}.") for own in found["lost"]]
    decided = _of_numbers(judgement) in ("supported", *FAILED)
    for own in found["close"] if decided else ():
        differ = f"{own['a']} and {own['b']} differ by {text.significant(100 * abs(own['share']), 2)} %"
        said.append(("small difference", f"{differ}, less than the {100 * own['margin']:g} % that would matter."))
    lines: dict[tuple[str, str, str, float], list[Json]] = {}
    for own in found["undertrained"]:
        lines.setdefault((own["order"], own["corpus"], own["tokenizer"], own["line"]), []).append(own)
    for (order, corpus, tokenizer, line), cells in lines.items():
        names = text.listed([f"{own['cell']} ({text.decimals(own['mean'], 3)})" for own in cells])
        do, ngram = "does" if len(cells) == 1 else "do", f"{order} model of {corpus}, {tokenizer}"
        said.append(("worse than n-grams", f"{names} {do} not beat a {ngram} ({text.decimals(line, 3)} bits per byte)."))
    for own in found["dead"]:
        share = f"{number(100 * own['share'], 2)} % of what zeroing either branch costs"
        said.append(("dead branch", f"{own['cell']}'s branch {own['branch']} ({own['mixer']}) does nothing: it has {share}."))
    ends: dict[str, list[str]] = {}
    for own in found["edges"]:
        ends.setdefault(f"the {own['end']} {own['setting']} of the {own['tried']} that were tried", []).append(own["cell"])
    for end, alike in ends.items():
        said.append(("edge of search", f"{text.listed(alike)} {text.has(len(alike))} {end}."))
    said += [*_sizes(found), *_samples(judgement)]
    if found["versions"]:
        made = ", ".join(f"{text.listed(names)} by {'another' if i else 'one'}" for i, names in enumerate(found["versions"]))
        said.append(("code versions", f"{len(found['versions'])} versions of the code trained what is compared, {made}."))
    if found["unheld"]:
        said.append(
            ("unheld code", f"Whether a commit holds the code that trained {text.listed(found['unheld'])} is not known.")
        )
    if found["edited"]:
        times = text.listed([f"{datetime.fromisoformat(time):%Y-%m-%d %H:%M}" for time in found["edited"]])
        said.append(("edited", f"It was registered on {times}, before its own runs; others may have been known by then."))
    return said


def _sizes(found: Json) -> list[tuple[str, str]]:
    """What sets variants apart beside what the claim is about: rates that nothing chose, and sizes."""
    said = []
    rates: dict[float, list[str]] = {}
    for own in found["fixed"]:
        rates.setdefault(own["rate"], []).append(own["cell"])
    if rates:
        cells = text.listed([f"{text.listed(names)} ({rate:g})" for rate, names in rates.items()])
        said.append(("rate not tuned", f"No tuning chose the learning rate of {cells}."))
    for own in found["unlike"]:
        small, large = (text.short(value) if value >= LARGE else f"{value:g}" for value in own["values"])
        more = f"{text.significant(100 * own['share'], 2)} %"
        larger = f"is {more} wider" if own["what"] == "width" else f"has {more} more {own['what']}"
        said.append(("sizes differ", f"{own['b']} {larger} than {own['a']} ({large} against {small})."))
    return said


def _samples(judgement: Json) -> list[tuple[str, str]]:
    """What the numbers of seeds are themselves: samples of few tokens, constants, or tasks that are solved or not."""
    found, mixers, said = judgement["cautions"], judgement["mixers"], []
    alike: dict[tuple[str, int | None], list[Json]] = {}
    for own in found["same_tokens"]:
        alike.setdefault((own["metric"], own["n"]), []).append(own)
    for (metric, n), cells in alike.items():
        sample = f"the same {n:,} tokens or answers" if n is not None else "the same few tokens"
        errors = [own["error"] for own in cells if own["error"] is not None]
        over = f"; over these the standard error is up to {number(max(errors), 2)}" if errors else ""
        names = text.listed(list(dict.fromkeys(own["cell"] for own in cells)))
        said.append(
            ("few tokens", f"{text.capital(phrase(metric, mixers))}: all seeds of {names} are measured on {sample}{over}.")
        )
    for own in found["beyond"]:
        there, before = (number(loss, 3) for loss in own["losses"])
        read = f"{own['cell']} is read in contexts of {own['context']:,} tokens"
        trained = f"was trained in contexts of {own['trained']:,}, in which it has {before}"
        said.append(("beyond training", f"{read}, with a loss of {there}, and {trained}."))
    if found["constant"] and judgement["p"] is not None:
        names = text.listed([phrase(metric, mixers) for metric in found["constant"]])
        said.append(("no spread", f"No seed changes {names}."))
    for own in found["solved"]:
        counts = text.listed([f"{cell} {n} of {of}" for cell, (n, of) in own["seeds"].items()])
        tests = text.listed([f"{a} against {b} p {text.p_equation(p)}" for a, b, p in own["p"]])
        exact = f" By McNemar's exact test of these counts, {tests}." if tests else ""
        said.append(("solved or not", f"From {SOLVED:g} on, {counts} solved it.{exact}"))
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
    planned = "Shaffer" if judgement["has_margin"] else "Holm"
    how = planned if judgement["planned"] else "Benjamini and Hochberg"
    adjusted = f"{how} in the family {judgement['family']}: p {text.p_equation(judgement['p_adjusted'])}"
    return f"p {text.p_equation(judgement['p'])} {judgement['leaning']} the claim; {adjusted}."


def sensitive(judgement: Json) -> list[str]:
    """In which values of what was tuned over two cells compare as a claim says, by pair of cells and setting."""
    found: dict[tuple[str, str, str], list[Json]] = {}
    for own in judgement["sensitivity"]:
        found.setdefault((own["a"], own["b"], own["setting"]), []).append(own)
    said = []
    for (a, b, setting), every in found.items():
        name = setting.rpartition(".")[2].replace("_", " ")
        holds, fails = (text.listed([f"{own['value']:g}" for own in every if own["holds"] == word]) for word in (True, False))
        words = f"as claimed at a {name} of {holds}" if holds else f"not as claimed at a {name} of {fails}"
        said.append(f"{a} against {b}: {words}{f', not at {fails}' if holds and fails else ''}.")
    return [*said, "These are means over the seeds that tuned, and decide nothing."] if said else []


def looked(judgement: Json) -> list[str]:
    """At which look a claim stopped, and why, where its study has looks."""
    why = {
        "decided": "where it was decided",
        "constant": "at which no seed had changed what it rests on",
        "futile": "where it was unlikely that all seeds would decide it",
        "last": "which are all",
        "open": "and waits for more",
    }
    if judgement["stopped"] is None:
        return []
    after = f"It was looked at after {text.plural(judgement['seeds'], 'seed')}, {why[judgement['stopped']]}"
    return [f"{after}; p values and intervals hold for whichever look it stops at."]


def unsettled(test: Json) -> bool:
    """Whether a test's seeds are too few to decide what was measured, if it is true."""
    return test["detectable"] is not None and (test["needed"] is None or test["needed"] > test["n"])


def power(test: Json) -> str:
    """What a test's seeds could have seen, and how many would settle it."""
    far = test["detectable"]
    distance = f"{text.significant(100 * far, 2)} %" if test["scale"] == "ratio" else number(far, 2)
    seen = f"They see a distance of {distance} from the bound with a power of 80 %"
    if test["needed"] is None or test["needed"] > MOST_SEEDS:
        return f"{seen}; were the truth as estimated, no number of seeds up to {MOST_SEEDS:,} would decide it."
    return f"{seen}; were the truth as estimated, {text.plural(test['needed'], 'seed')} would decide it."


def role(row: Row, arm: str) -> str:
    """What an arm has to do with how a claim fails, in a line; empty where nothing."""
    if arm in row.explained_by:
        return "explains that it fails"
    if arm in row.unshown:
        reason = row.interactions[arm].reason
        return f"holds, not shown to make the difference{f': {reason}' if reason else ''}"
    if arm in row.confounded and row.judgement:
        return f"holds, in runs of {budget(row.arms[arm])}, not {budget(row.judgement)}"
    return ""


def attribution(row: Row) -> str:
    """What explains that a claim fails, where an arm supports it, and what does not; empty where none does."""
    said = []
    if row.explained_by:
        said.append(f"Fails with the mixers as published, and holds under {text.listed(row.explained_by)}.")
        made = text.listed([f"{arm} {_made(row.interactions[arm])}" for arm in row.explained_by])
        said.append(f"What that changes, paired by seed, Holm over {text.plural(len(row.interactions), 'arm')}: {made}.")
    for arm in row.unshown:
        own = row.interactions[arm]
        said.append(f"Holds under {arm}, which is not shown to make the difference: {own.reason or _made(own)}.")
    if row.confounded and row.judgement:
        arms, budgets = text.listed(row.confounded), [budget(own) for own in (row.arms[row.confounded[0]], row.judgement)]
        said.append(f"Holds under {arms}, but in runs of {budgets[0]}, not {budgets[1]}: that may be why.")
    for arm in row.explained_by + row.unshown + row.confounded:
        said += [f"Of {arm}: {words}" for words in cautions(row.arms[arm])]
    return " ".join(said)


def _made(own: Interaction) -> str:
    """An arm's effect less the claim's own."""
    return f"{number(own.difference, 3)} (p {text.p_equation(own.p_adjusted)}, {text.plural(own.n, 'pair')})"


def budget(judgement: Json) -> str:
    """What the runs behind a judgement were trained with."""
    return text.listed([f"{steps:,} steps of {tokens:,} tokens" for steps, tokens in judgement["budgets"]])


def table(rows: Iterable[Row]) -> str:
    """The claims with their verdicts, a line each, and the count of the verdicts."""
    rows = list(rows)
    widest = max((len(row.id) for row in rows), default=5)
    wide = max((len(worded(row)) for row in rows), default=7) + 1
    lines = [f"{'claim':{widest}}  {'verdict':{wide}} {'p':>7} {'adjusted':>8} {'seeds':>5}  what it says"]
    for row in rows:
        own: Json = row.judgement or {}
        n = max((test["n"] for test in own.get("tests", [])), default=None)
        numbers = f"{text.p_value(own.get('p')):>7} {text.p_value(own.get('p_adjusted')):>8} {text.count(n):>5}"
        mark = "*" if own.get("exploratory") else " "
        lines.append(_cut(f"{row.id:{widest}}  {worded(row) + mark:{wide}} {numbers}  {row.claim.title}"))
        if row.verdict == "deviated":
            lines.append(_cut(f"{'':{widest}}  {departure(own)}"))
    counts = Counter(row.verdict for row in rows)
    lines += ["", ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS if counts[verdict])]
    if any(row.judgement and row.judgement["exploratory"] for row in rows):
        lines.append("* exploratory: not registered")
    return "\n".join(lines)


def worded(row: Row) -> str:
    """The verdict of a claim, without what it would be otherwise."""
    return row.verdict + (_margin(row.judgement) if row.judgement and not row.judgement["otherwise"] else "")


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
        blocks += [f"Verdict: {worded(row)}.", *reasons(row.judgement)]
        blocks += [f"Read with care, {name}: {words}" for name, words in cautioned(row.judgement)]
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
        tested = [i for i, row in enumerate(rows) if row[3].p is not None]
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
