"""How sound studies are, by their own records: what became of the plan, what it cost, what identifies it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pandas as pd

from gt.analysis.aggregate import unlike
from gt.analysis.verdicts import Row as Claim
from gt.analysis.versions import versions
from gt.artefacts import Plan
from gt.report import text
from gt.report.census import TRAINING, Census, census, trained_twice
from gt.report.tables import Column, Table, naming

if TYPE_CHECKING:
    from gt.report.numbers import Results

JOULES_PER_KWH = 3.6e6
# How runs were made that differ in a column of the runs' table.
UNLIKE = {
    "code": "trained by another version of the code than most",
    "evaluation_code": "evaluated by another version of the code than most",
    "data_sha256": "trained on other data than most",
    "device": "made on another device than most",
    "version/torch": "made with another version of torch than most",
    "modified": "made from a working tree with uncommitted changes",
}


def warnings(studies: Sequence[Results]) -> list[str]:
    """How some runs were made that others were not, over all studies; of several, in which of them their records are."""
    known = census(studies)
    rows = known.records.astype(object).where(known.records.notna(), None).to_dict("records")
    found: dict[tuple[frozenset[tuple[str, ...]], str], list[str]] = {}
    for column, where, odd in unlike([{str(key): value for key, value in row.items()} for row in rows]):
        how = UNLIKE.get(column, "made with another version of {} than most") + (f" of {where}" if where else "")
        trainings = frozenset(tuple(row[key] for key in TRAINING) for row in odd)
        found.setdefault((trainings, how), []).append(column)
    said = []
    for (trainings, how), columns in found.items():
        inside = [f"`{own.study}`" for own in studies if not trainings.isdisjoint(own.runs[TRAINING].itertuples(index=False))]
        among = f", in {text.listed(inside)}" if len(studies) > 1 else ""
        were = f"{text.plural(len(trainings), known.noun)} {'was' if len(trainings) == 1 else 'were'}"
        said.append(f"{were} {how.format(text.listed(columns))}{among}.")
    return said


def deviations(studies: Sequence[Results]) -> list[str]:
    """What was not as planned, but for runs that did not complete."""
    found, several = warnings(studies), len(studies) > 1
    if twice := trained_twice(studies):
        found.append(twice)
    for own in studies:
        about = f"{own.study}: " if several else ""
        if cells := _short(own):
            n = text.plural(len(cells), "cell")
            found.append(f"{about}{n} {text.are(len(cells))} judged with fewer seeds than planned: {short(own)}.")
        empty = [row for row in own.cell_rows_in_order if not row["completed"]]
        if empty:
            n = text.plural(len(empty), "cell")
            found.append(f"{about}{n} {'has' if len(empty) == 1 else 'have'} no completed run: {_some(own, empty)}.")
        if resumed := int((own.runs["resumed"] > 0).sum()):
            were = "was" if resumed == 1 else "were"
            found.append(f"{about}{text.plural(resumed, 'run')} {were} killed and went on from a checkpoint.")
    return found


def _short(results: Results) -> list[dict[str, Any]]:
    """The cells of which some runs completed and some did not."""
    return [row for row in results.cell_rows_in_order if 0 < row["completed"] < row["planned"]]


def short(results: Results) -> str:
    """These cells, with how many of their seeds there are and what became of the others; empty without any."""
    return _some(results, _short(results), _seeds)


def absent(studies: Sequence[Results], claims: Sequence[Claim]) -> list[str]:
    """The studies that claims need and none of these is."""
    known = {own.study for own in studies}
    waiting = Counter(row.claim.study for row in claims if row.claim.study and row.claim.study not in known)
    if not waiting:
        return []
    names = text.listed([f"`{study}` ({text.plural(n, 'claim')})" for study, n in waiting.items()])
    return [f"{text.plural(len(waiting), 'study', 'studies')} {'was' if len(waiting) == 1 else 'were'} not run: {names}."]


def _seeds(row: dict[str, Any]) -> str:
    """(3 of 5, 1 diverged, 1 missing)"""
    others = [f"{row[status]} {status}" for status in ("diverged", "failed", "missing") if row[status]]
    return f" ({row['completed']} of {row['planned']}, {', '.join(others)})"


def _some(results: Results, rows: Sequence[dict[str, Any]], more: Callable[[Any], str] = lambda row: "", most: int = 8) -> str:
    """The names of the first cells, by their labels where these tell them apart. more: what is said of each."""
    key = "label" if len(results.panels) == 1 else "cell"
    names = [f"{row[key]}{more(row)}" for row in rows[:most]]
    return text.listed(names) if len(rows) <= most else f"{', '.join(names)} and {len(rows) - most} more"


def incomplete_table(results: Results) -> Table:
    """The runs that diverged or failed, or whose record is damaged, and why."""
    columns = (
        *naming(results.incomplete),
        Column("seed", "Seed", shown=text.count),
        Column("status", "Status", "left"),
        Column("reason", "Reason", "left", wraps=True),
    )
    damaged = any(row["status"] == "missing" for row in results.incomplete)
    caption = f"Runs that diverged or failed{', or whose record is damaged' if damaged else ''}, and why."
    return Table("incomplete", caption, columns, tuple(results.incomplete))


def compute(studies: Sequence[Results]) -> str:
    """Tokens, FLOPs, time on the device, energy and price of all runs."""
    runs = census(studies).records
    if runs.empty:
        return "No run has been trained."
    noun, tokens = census(studies).noun, float(runs["tokens"].sum())
    flops = 3 * float((runs["flops_per_token"] * runs["tokens"]).sum())
    sentences = [
        f"All runs together: {text.count(tokens)} tokens and {text.significant(flops)} FLOPs (a backward pass counted as two "
        "forward ones)."
    ]
    tuned = {run: own.plan.runs[run].tokens for own in studies for run in _that_tune(own.plan)}
    if tuned:
        more = text.plural(len(tuned), "run")
        sentences.append(f"What tuned them is not in it: {more} more, of {text.count(sum(tuned.values()))} tokens.")
    timed = runs.dropna(subset=["device_seconds"])
    if len(timed):
        time, price = float(timed["device_seconds"].sum()), float((timed["device_seconds"] / 3600 * timed["price"]).sum())
        rates = text.listed(sorted({f"{own.plan.dollars_per_hour:g}" for own in studies}))
        sentences.append(
            f"{text.plural(len(timed), noun)} of {len(runs):,} took {text.duration(time)} of devices, of which runs that "
            f"shared one have their shares: ${price:,.2f} at ${rates} an hour."
        )
    known = runs["energy_joules"].dropna()
    if len(known):
        used = text.significant(float(known.sum()) / JOULES_PER_KWH)
        sentences.append(f"The devices drew {used} kWh for the {text.plural(len(known), noun)} of which that is known.")
    unknown = runs["unknown"].dropna().value_counts()
    sentences += [
        f"Of {text.plural(int(n), noun)} time, energy or memory was not measured: {why}." for why, n in unknown.items()
    ]
    return " ".join(sentences)


def _that_tune(plan: Plan) -> Iterator[str]:
    """The runs that choose settings, and judge nothing."""
    return (run for tuning in plan.tunings for point in tuning.points for run in point.runs.values())


def environment_table(studies: Sequence[Results]) -> Table:
    """What the manifests say of where and with what the runs were made: the values of each, the most common first."""
    counted = census(studies)
    runs, noun = counted.records, counted.noun
    names = {"device": "Device", "backend": "Kernels", "engine": "Engine", "threads": "CPU threads", "git_commit": "Commit"}
    names |= {c: c.removeprefix("version/") for c in runs.columns if c.startswith("version/")}
    known = {column: runs[column].dropna() for column in names}
    names["code"], known["code"] = "Version of the code", _of_versions(runs["code"].dropna())
    found = [(names[c], _kernels(own, noun) if c == "backend" else text.values(own, noun)) for c, own in known.items()]
    if len(started := runs["started"].dropna()):
        found.insert(0, ("Trained", f"{text.day(min(started))} to {text.day(max(runs['finished'].dropna()))}"))
    columns = (Column("what", "What", "left"), Column("value", "Value", "left", wraps=True))
    rows = tuple({"what": title, "value": values} for title, values in found if values)
    return Table("environment", "What the manifests of the runs say.", columns, rows)


def _kernels(backends: Iterable[str], noun: str) -> str:
    """chunks for ssd 64x64 (40 runs) and wkv6 32x32 (43 runs): what computed each recurrence, with the size of a head's state.

    backends: of each run as its manifest has it, operations with their implementations as JSON.
    """
    counts = Counter(pair for own in backends for pair in json.loads(own).items())
    by_kernel: dict[str, list[str]] = {}
    for (operation, kernel), n in sorted(counts.items()):
        by_kernel.setdefault(kernel, []).append(f"{operation} ({text.plural(n, noun)})")
    return "; ".join(f"{kernel} for {text.listed(operations)}" for kernel, operations in by_kernel.items())


def method(studies: Sequence[Results]) -> list[str]:
    """How the numbers were made."""
    own = studies[0]
    most = max(studies, key=lambda study: study.most_seeds)
    seeds = text.listed(sorted({study.seeds for study in studies}))
    looks = (
        "Of a study with looks, contrasts are of the seeds of the first, for how many more a cell has hangs on what these "
        "showed. Its claims have p values and intervals that hold for whichever look each stops at. Means and curves are of "
        "all seeds."
    )
    return [
        f"The unit is the seed; each cell was planned with {seeds}. Runs with the same seed saw the same batches in the same "
        "order, and modules that two variants share started from the same values, so differences are paired by seed. "
        "Intervals are Student’s t on the mean, or on the mean paired difference.",
        "A contrast has two tests: a two-sided paired t-test of no difference, and two one-sided tests (TOST) of the log ratio "
        f"to the baseline against a margin of {own.margin}, which was fixed in the code before any run. Both are adjusted by "
        f"Holm over the contrasts of one corpus and tokenizer, of which one without a test counts with p = 1, at a level of "
        f"{own.alpha}. The exact paired sign-flip test is "
        f"given in the CSV and parquet files; with {text.plural(most.most_seeds, 'seed')} it cannot get below p = "
        f"{most.sign_flip_limit}.",
        "The lowest mean of several is chosen after seeing them, so it flatters the cell that has it. Runs that did not "
        "complete are left out of means and pairs, and listed under Coverage; what rests on fewer seeds for it says so.",
        *([looks] if any(study.plan.looks for study in studies) else []),
    ]


def table(studies: Sequence[Results], judged: Sequence[Claim]) -> Table:
    """What a reader who wants to repeat this asks, and what the manifests answer."""
    known = census(studies, judged)
    runs, done, noun = known.runs, known.records, known.noun

    def _all(holds: pd.Series, what: str, noun: str = noun) -> tuple[str, str]:
        """How many records something holds for."""
        n = int(holds.sum())
        return _word(n, len(holds)), f"{n:,} of {text.plural(len(holds), noun)} {what if n == 1 else _many(what)}"

    everything: list[tuple[str, Callable[[], tuple[str, str]]]] = [
        ("Every planned run has a result", lambda: _all(runs["status"] != "missing", "has one", "run")),
        ("Seeds fix the weights and the batches", lambda: ("yes", f"seeds {text.listed(sorted_seeds(runs))}")),
        ("The data are identified", lambda: _all(done["data_sha256"].notna(), "names the sha256 of the tokens")),
        ("Runs on the same text saw the same data", lambda: _all(~done["data_differs"].astype(bool), "does")),
        ("The code is recorded", lambda: _all(done["code"].notna(), "has sums of its parts")),
        ("A commit holds the code", lambda: _all(_committed(done), "is of a commit without changes after it")),
        ("All runs were trained by the same code", lambda: _same_code(done, noun)),
        ("Versions of packages are recorded", lambda: _all(_versions(done), "has them")),
        ("The hardware is recorded", lambda: _all(done["device"].notna(), "names its device")),
        ("Time and memory are recorded", lambda: _all(done["seconds"].notna() & done["peak_memory_bytes"].notna(), "has both")),
        ("Energy is recorded", lambda: _all(done["energy_joules"].notna(), "has it")),
        ("Failures are reported", lambda: ("yes", _failures(runs))),
    ]
    answers = [(question, *answer()) for question, answer in everything]
    if known.tested:
        answers.append(("Claims stood as they are before the runs", *_registered(known, studies, judged)))
        kept = known.tested - known.deviated
        evidence = f"{kept} of {text.plural(known.tested, 'verdict')} {text.are(kept)} of what was planned"
        answers.append(("The plans of claims were followed", _word(kept, known.tested), evidence))
    columns = (
        Column("question", "Question", "left", wraps=True),
        Column("answer", "Answer", "left"),
        Column("evidence", "Evidence", "left", wraps=True),
    )
    rows = tuple(dict(zip(("question", "answer", "evidence"), answer, strict=True)) for answer in answers)
    return Table("checklist", "Filled in from the manifests and the registration of claims.", columns, rows)


def _versions(runs: pd.DataFrame) -> pd.Series:
    return runs["version/torch"].notna() if "version/torch" in runs else pd.Series(False, index=runs.index)


def _committed(runs: pd.DataFrame) -> pd.Series:
    return runs["git_commit"].notna() & runs["modified"].eq("[]")


def _registered(known: Census, studies: Sequence[Results], judged: Sequence[Claim]) -> tuple[str, str]:
    """Of how many verdicts the claim was entered, as it stands, before the first of the runs that it reads was begun."""
    began = known.records.groupby("run_id")["first_started"].min()
    runs = {(own.study, cell.id): list(cell.runs.values()) for own in studies for cell in own.plan.cells}
    first = 0
    for row in judged:
        if row.judgement and row.tested and row.judgement["planned"]:
            read = [run for cell in row.judgement["cells"] for run in runs.get((row.judgement["study"], cell), [])]
            starts = [datetime.fromisoformat(began[run]) for run in read if run in began.index]
            first += not starts or datetime.fromisoformat(str(row.registered)) <= min(starts)
    later = (
        f"; {text.plural(known.late, 'claim')} {'was' if known.late == 1 else 'were'} edited and entered again after the first "
        "run of all was begun, be it one that others read"
        if known.late
        else ""
    )
    return _word(first, known.tested), f"{first} of {text.plural(known.tested, 'verdict')}, by the records here{later}"


def _same_code(runs: pd.DataFrame, noun: str) -> tuple[str, str]:
    counts = sorted(_of_versions(runs["code"]).value_counts(), reverse=True)
    if len(counts) < 2:
        n = len(runs)
        return _word(n, n), f"{n:,} of {text.plural(n, noun)} {text.are(n)} of one version"
    return "no", f"{len(counts)} versions trained {text.listed([f'{n:,}' for n in counts])} of {text.plural(len(runs), noun)}"


def _of_versions(codes: pd.Series) -> pd.Series:
    """The version that each code is of."""
    return codes.map(versions(codes))


def _failures(runs: pd.DataFrame) -> str:
    counts = runs["status"].value_counts()
    return (
        text.listed([f"{counts.get(status, 0)} {status}" for status in ("diverged", "failed", "missing")]) + ", under Coverage"
    )


def _many(what: str) -> str:
    """has -> have: of a verb at the start."""
    verb, _, rest = what.partition(" ")
    plural = {"has": "have", "is": "are", "does": "do", "names": "name"}[verb]
    return f"{plural} {rest}".strip()


def _word(n: int, of: int) -> str:
    return "no runs" if not of else "yes" if n == of else "no" if not n else "partly"


def sorted_seeds(runs: pd.DataFrame) -> list[str]:
    return [str(seed) for seed in sorted(set(runs["seed"]))]
