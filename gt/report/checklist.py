"""How sound studies are, by their own records: what became of the plan, what it cost, what identifies it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from gt.analysis.aggregate import unlike
from gt.analysis.verdicts import Row as Claim
from gt.fingerprint import TRAINING_PARTS
from gt.report import text
from gt.report.tables import Column, Table, naming

if TYPE_CHECKING:
    from gt.report.numbers import Results

JOULES_PER_KWH = 3.6e6
CODE = [f"code/{part}" for part in TRAINING_PARTS]
# How runs were made that differ in a column of the runs' table.
UNLIKE = {
    "data_sha256": "trained on other data than most",
    "device": "made on another device than most",
    "version/torch": "made with another version of torch than most",
    "git_dirty": "made from a working tree with uncommitted changes",
}


def runs_of(studies: Sequence[Results]) -> pd.DataFrame:
    """The runs of all studies, those that two of them share once."""
    return pd.concat([own.runs for own in studies]).drop_duplicates("run_id")


def made(studies: Sequence[Results]) -> pd.DataFrame:
    """The runs that have a manifest."""
    runs = runs_of(studies)
    return runs[runs["finished"].notna()]


def completion(studies: Sequence[Results]) -> str:
    """How many of the planned runs completed, and what became of the others."""
    counts = runs_of(studies)["status"].value_counts()
    planned, done = int(counts.sum()), int(counts.get("completed", 0))
    others = [f"{counts[key]:,} {key}" for key in ("diverged", "failed", "missing") if counts.get(key, 0)]
    rest = f"; {text.listed(others)}" if others else ""
    return f"{done:,} of {text.plural(planned, 'planned run')} {'has' if planned == 1 else 'have'} completed{rest}."


def warnings(studies: Sequence[Results]) -> list[str]:
    """How some runs were made that others were not, over all studies; of several, in which of them these runs are."""
    runs = runs_of(studies)
    rows = runs.astype(object).where(runs.notna(), None).to_dict("records")
    found: dict[tuple[frozenset[str], str], list[str]] = {}
    for column, where, odd in unlike([{str(key): value for key, value in row.items()} for row in rows]):
        how = UNLIKE.get(column, "made with another version of {} than most") + (f" of {where}" if where else "")
        found.setdefault((frozenset(row["run_id"] for row in odd), how), []).append(column.replace("code/", "gt."))
    said = []
    for (ids, how), columns in found.items():
        inside = [f"`{own.study}`" for own in studies if not ids.isdisjoint(own.runs["run_id"])]
        among = f", in {text.listed(inside)}" if len(studies) > 1 else ""
        were = f"{text.plural(len(ids), 'run')} {'was' if len(ids) == 1 else 'were'}"
        said.append(f"{were} {how.format(text.listed(columns))}{among}.")
    return said


def versions(runs: pd.DataFrame) -> list[int]:
    """How many runs each version of the code has trained, the most common first."""
    return sorted(runs.reindex(columns=CODE).groupby(CODE, dropna=False).size(), reverse=True)


def deviations(studies: Sequence[Results]) -> list[str]:
    """What was not as planned, but for runs that did not complete."""
    found, several = warnings(studies), len(studies) > 1
    for own in studies:
        about = f"{own.study}: " if several else ""
        short = [row for row in own.cell_rows_in_order if 0 < row["completed"] < row["planned"]]
        if short:
            n = text.plural(len(short), "cell")
            found.append(f"{about}{n} {text.are(len(short))} judged with fewer seeds than planned: {_some(own, short)}.")
        empty = [row for row in own.cell_rows_in_order if not row["completed"]]
        if empty:
            n = text.plural(len(empty), "cell")
            found.append(f"{about}{n} {'has' if len(empty) == 1 else 'have'} no completed run: {_some(own, empty)}.")
        if resumed := int((own.runs["resumed"] > 0).sum()):
            were = "was" if resumed == 1 else "were"
            found.append(f"{about}{text.plural(resumed, 'run')} {were} killed and went on from a checkpoint.")
    return found


def absent(studies: Sequence[Results], claims: Sequence[Claim]) -> list[str]:
    """The studies that claims need and none of these is."""
    known = {own.study for own in studies}
    waiting = Counter(row.claim.study for row in claims if row.claim.study and row.claim.study not in known)
    if not waiting:
        return []
    names = text.listed([f"`{study}` ({text.plural(n, 'claim')})" for study, n in waiting.items()])
    return [f"{text.plural(len(waiting), 'study', 'studies')} {'was' if len(waiting) == 1 else 'were'} not run: {names}."]


def _some(results: Results, rows: Sequence[dict[str, object]], most: int = 8) -> str:
    """The names of the first cells, by their labels where these tell them apart."""
    key = "label" if len(results.panels) == 1 else "cell"
    names = [str(row[key]) for row in rows[:most]]
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
    runs = made(studies)
    if runs.empty:
        return "No run has been trained."
    time, tokens = float(runs["device_seconds"].sum()), float(runs["tokens"].sum())
    flops = 3 * float((runs["flops_per_token"] * runs["tokens"]).sum())
    sentences = [
        f"All runs together: {text.count(tokens)} tokens and {text.significant(flops)} FLOPs (a backward pass counted as two "
        f"forward ones) in {text.duration(time)} of the device, which runs that shared it have in equal parts."
    ]
    known = runs["energy_joules"].dropna()
    if len(known):
        used = text.significant(float(known.sum()) / JOULES_PER_KWH)
        sentences.append(f"The device used {used} kWh for the {text.plural(len(known), 'run')} of which that is known.")
    else:
        sentences.append("Its energy could not be read.")
    price = sum(float(own.runs["device_seconds"].sum()) / 3600 * own.plan["dollars_per_hour"] for own in studies)
    rates = text.listed(sorted({f"{own.plan['dollars_per_hour']:g}" for own in studies}))
    sentences.append(f"At ${rates} an hour that is ${price:,.2f}.")
    return " ".join(sentences)


def environment_table(studies: Sequence[Results]) -> Table:
    """What the manifests say of where and with what the runs were made: the values of each, the most common first."""
    runs = runs_of(studies)
    names = {"device": "Device", "backend": "Kernels", "engine": "Engine", "threads": "CPU threads", "git_commit": "Commit"}
    names |= {c: c.removeprefix("version/") for c in runs.columns if c.startswith("version/")}
    names |= {c: f"Code of gt.{c.removeprefix('code/')}" for c in runs.columns if c.startswith("code/")}
    known = {column: runs[column].dropna() for column in names}
    found = [(names[c], _kernels(own) if c == "backend" else text.values(own)) for c, own in known.items()]
    if len(started := runs["started"].dropna()):
        found.insert(0, ("Trained", f"{text.day(min(started))} to {text.day(max(runs['finished'].dropna()))}"))
    columns = (Column("what", "What", "left"), Column("value", "Value", "left", wraps=True))
    rows = tuple({"what": title, "value": values} for title, values in found if values)
    return Table("environment", "What the manifests of the runs say.", columns, rows)


def _kernels(backends: Iterable[str]) -> str:
    """chunks for ssd 64x64 (40 runs) and wkv6 32x32 (43 runs): what computed each recurrence, with the size of a head's state.

    backends: of each run as its manifest has it, operations with their implementations as JSON.
    """
    counts = Counter(pair for own in backends for pair in json.loads(own).items())
    by_kernel: dict[str, list[str]] = {}
    for (operation, kernel), n in sorted(counts.items()):
        by_kernel.setdefault(kernel, []).append(f"{operation} ({text.plural(n, 'run')})")
    return "; ".join(f"{kernel} for {text.listed(operations)}" for kernel, operations in by_kernel.items())


def method(studies: Sequence[Results]) -> list[str]:
    """How the numbers were made."""
    own = studies[0]
    most = max(studies, key=lambda study: study.most_seeds)
    seeds = text.listed(sorted({study.seeds for study in studies}))
    return [
        f"The unit is the seed; each cell was planned with {seeds}. Runs with the same seed saw the same batches in the same "
        "order, and modules that two variants share started from the same values, so differences are paired by seed. "
        "Intervals are Student’s t on the mean, or on the mean paired difference.",
        "A contrast has two tests: a two-sided paired t-test of no difference, and two one-sided tests (TOST) of the log ratio "
        f"to the baseline against a margin of {own.margin}, which was fixed in the code before any run. Both are adjusted by "
        f"Holm over the contrasts of one corpus and tokenizer, at a level of {own.alpha}. The exact paired sign-flip test is "
        f"given in the CSV and parquet files; with {text.plural(most.most_seeds, 'seed')} it cannot get below p = "
        f"{most.sign_flip_limit}.",
        "The lowest mean of several is chosen after seeing them, so it flatters the cell that has it. Runs that did not "
        "complete are left out of means and pairs, and listed under Coverage.",
    ]


def table(studies: Sequence[Results], judged: Sequence[Claim]) -> Table:
    """What a reader who wants to repeat this asks, and what the manifests answer."""
    runs, done = runs_of(studies), made(studies)
    everything: list[tuple[str, Callable[[], tuple[str, str]]]] = [
        ("Every planned run has a result", lambda: _all(runs["status"] != "missing", "has one")),
        ("Seeds fix the weights and the batches", lambda: ("yes", f"seeds {text.listed(sorted_seeds(runs))}")),
        ("The data are identified", lambda: _all(done["data_sha256"].notna(), "names the sha256 of the tokens")),
        ("Runs on the same text saw the same data", lambda: _all(~done["data_differs"].astype(bool), "does")),
        ("The code is recorded", lambda: _all(done.reindex(columns=CODE).notna().all(axis=1), "has the sha256 of each part")),
        ("A commit holds the code", lambda: _all(_committed(done), "is of a commit without changes after it")),
        ("All runs were trained by the same code", lambda: _same_code(done)),
        ("Versions of packages are recorded", lambda: _all(_versions(done), "has them")),
        ("The hardware is recorded", lambda: _all(done["device"].notna(), "names its device")),
        ("Time and memory are recorded", lambda: _all(done["seconds"].notna() & done["peak_memory_bytes"].notna(), "has both")),
        ("Energy is recorded", lambda: _all(done["energy_joules"].notna(), "has it")),
        ("Failures are reported", lambda: ("yes", _failures(runs))),
    ]
    answers = [(question, *answer()) for question, answer in everything]
    tested = [row.judgement for row in judged if row.judgement and row.tested]
    if tested:
        first, of = sum(not own["exploratory"] for own in tested), len(tested)
        answers.append(("Claims were registered before the runs", _word(first, of), f"{first} of {of} verdicts"))
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
    return runs["git_commit"].notna() & ~runs["git_dirty"].fillna(True).astype(bool)


def _same_code(runs: pd.DataFrame) -> tuple[str, str]:
    counts = versions(runs)
    if len(counts) < 2:
        return _all(pd.Series(True, index=runs.index), "is of one version")
    return "no", f"{len(counts)} versions trained {text.listed([f'{n:,}' for n in counts])} of {text.plural(len(runs), 'run')}"


def _failures(runs: pd.DataFrame) -> str:
    counts = runs["status"].value_counts()
    return (
        text.listed([f"{counts.get(status, 0)} {status}" for status in ("diverged", "failed", "missing")]) + ", under Coverage"
    )


def _all(holds: pd.Series, what: str) -> tuple[str, str]:
    """How many runs something holds for."""
    n = int(holds.sum())
    return _word(n, len(holds)), f"{n:,} of {text.plural(len(holds), 'run')} {what if n == 1 else _many(what)}"


def _many(what: str) -> str:
    """has -> have: of a verb at the start."""
    verb, _, rest = what.partition(" ")
    plural = {"has": "have", "is": "are", "does": "do", "names": "name"}[verb]
    return f"{plural} {rest}".strip()


def _word(n: int, of: int) -> str:
    return "no runs" if not of else "yes" if n == of else "no" if not n else "partly"


def sorted_seeds(runs: pd.DataFrame) -> list[str]:
    return [str(seed) for seed in sorted(set(runs["seed"]))]
