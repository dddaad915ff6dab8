"""What the probes found: the study's tables of it, and for each cell what the checks that plug-ins bring say of it.

Imports nothing of the probes but those checks and the names of metrics.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING

from gt.analysis.statistics import mean_interval
from gt.catalogue import component, components
from gt.metrics import fits
from gt.numbers import exponential
from gt.probes.checks import Bounds, Check, Checks, Outcome, judge
from gt.registry import look_up, phrase, plain
from gt.report import text
from gt.report.tables import Column, Table, naming

if TYPE_CHECKING:
    from gt.report.numbers import Results, Row

# What the record took for the contribution of a branch, next to what an ablation says (flaw F-05).
SUBSTITUTES = {
    "gate/mean": "mean gate",
    "gradient/curve_ratio": "R/M of the last step",
    "gradient/curve_odds_corrected_ratio": "R/M over the gate's odds",
    "variance/branch_ratio": "variance of the first branch over the second's",
    "state/rms_ratio": "state RMS of the first branch over the second's",
}

VALUES = "Values are means over seeds, by branch; a verdict is of each seed."


@dataclass(frozen=True)
class Measured:
    """The measures of the networks of one cell: values by seed and name, those of the model, without its layers."""

    cell: Row
    seeds: dict[int, dict[str, float]]

    @property
    def id(self) -> str:
        """As an anchor and a file's name."""
        return "inside." + re.sub(r"[^\w.+-]", "_", self.cell["cell"])

    @property
    def title(self) -> str:
        return f"{self.cell['label']}, {self.cell['corpus']}, {self.cell['tokenizer']}"

    @property
    def alt(self) -> str:
        """In place of its figure, for who does not see it."""
        return f"Inside {self.title}: gates, losses without a branch, variances and states by layer."

    def values(self, name: str) -> list[float]:
        """Of the seeds that have one."""
        return [values[name] for values in self.seeds.values() if name in values]

    def mean(self, name: str) -> float | None:
        values = self.values(name)
        return sum(values) / len(values) if values else None

    def branches(self, template: str) -> list[str]:
        """The letters of the branches that have a measure, in the order of the network's."""
        names = dict.fromkeys(name for values in self.seeds.values() for name in values)
        return [own.axes["branch"] for own in map(look_up, names) if own and own.metric.name == template]

    @cached_property
    def checks(self) -> list[Table]:
        """A table for each set of checks that a plug-in brings."""
        found = []
        for own in all_checks():
            caption = f"{own.title}, on {self.title}. {VALUES}"
            found.append(Table(f"{self.id}.{own.name}", caption, _columns(own), self.judged(own), formats=()))
        return found

    def judged(self, checks: type[Checks]) -> tuple[Row, ...]:
        """A row for each check, over the seeds."""
        rows = []
        for check in checks.checks:
            outcomes: list[Outcome] = []
            for values in self.seeds.values():
                names = _read_by(check, frozenset(values))
                outcomes += judge([check], {name: value for name, value in values.items() if name in names})
            rows.append(_judged_row(check, outcomes))
        return tuple(rows)


@cache
def _read_by(check: Check, names: frozenset[str]) -> frozenset[str]:
    """Those of the names of measures that a check reads: looked for once, since hundreds of networks have the same."""
    templates = [template for template in (check.metric, check.control) if template]
    return frozenset(name for name in names if any(fits(name, template) for template in templates))


def all_checks() -> list[type[Checks]]:
    """All sets of checks that there are, by name."""
    return [own.load() for own in components("check").values()]


def _columns(checks: type[Checks]) -> tuple[Column, ...]:
    """Of a table of checks, without those of which none of them says anything."""
    control = any(check.control for check in checks.checks)
    return (
        Column("test", "Test", "left"),
        Column("title", "What it looks at", "left", wraps=True),
        *([Column("reported", checks.reported, "left", wraps=True)] if any(check.reported for check in checks.checks) else []),
        *([Column("control", checks.control, "left", wraps=True)] if control else []),
        *([Column("control_verdict", "Verdict on it", "left", wraps=True)] if control else []),
        Column("trained", "Trained networks", "left", wraps=True),
        Column("verdict", "Verdicts, by table", "left", wraps=True),
    )


def _judged_row(check: Check, outcomes: list[Outcome]) -> Row:
    """A check on every seed."""
    tables = check.control_bounds or check.bounds
    control = [[outcome.control_verdicts[i] for outcome in outcomes] for i in range(len(tables))] if check.control else []
    own = [[outcome.verdicts[i] for outcome in outcomes] for i in range(len(check.bounds))]
    return {
        "test": check.name,
        "title": check.title,
        "reported": check.reported,
        "control": _means([outcome.control_values for outcome in outcomes]),
        "control_verdict": _by_table(tables, control),
        "trained": _means([outcome.values for outcome in outcomes]),
        "verdict": _by_table(check.bounds, own),
    }


def _by_table(tables: Sequence[Bounds], verdicts: Sequence[Sequence[str]]) -> str:
    """pass (CANARY_TESTS.md); warning (tools/thresholds.py): nothing where no network has what is judged."""
    if {verdict for own in verdicts for verdict in own} <= {"not measured"}:
        return ""
    return "; ".join(f"{_counted(own)} ({table.source})" for table, own in zip(tables, verdicts, strict=True))


def _counted(verdicts: Sequence[str]) -> str:
    """pass, or: 3 pass, 2 warning"""
    counts = Counter(verdicts)
    return next(iter(counts)) if len(counts) == 1 else ", ".join(f"{n} {verdict}" for verdict, n in sorted(counts.items()))


def _means(values: Sequence[dict[str, float]]) -> str:
    """2.51, or by branch: r 2.51, m 0.91"""
    names = list(dict.fromkeys(name for own in values for name in own))
    shown = []
    for name in names:
        found = [own[name] for own in values if name in own]
        letters = [own.axes["branch"]] if (own := look_up(name)) and "branch" in own.axes else []
        shown.append(" ".join([*letters, text.significant(sum(found) / len(found))]))
    return ", ".join(shown)


def measured(results: Results) -> list[Measured]:
    """The cells whose networks were looked into, in the plan's order."""
    whole = results.probes[results.probes["layer"].isna()]
    found: dict[str, dict[int, dict[str, float]]] = {}
    for cell, seed, name, value in zip(*(whole[column] for column in ("cell", "seed", "name", "value")), strict=True):
        found.setdefault(cell, {}).setdefault(int(seed), {})[name] = value
    return [Measured(row, found[row["cell"]]) for row in results.cell_rows_in_order if row["cell"] in found]


def inside_tables(results: Results) -> dict[str, Table]:
    """The study's tables: inside.branches, .substitutes, .variance, .states, .softmax, and .<name> of each set of checks; those
    that have rows.
    """
    cells = results.inside
    made = (
        *(branches_table(cells), substitutes_table(cells), variance_table(cells)),
        *(states_table(cells), softmax_table(cells), *checks_tables(cells), *plain_tables(cells)),
    )
    return {table.name: table for table in made if table.rows}


def branches_table(cells: list[Measured]) -> Table:
    """What the branches contribute, and what the record read as that."""
    rows = []
    for own in cells:
        letters = own.branches("ablation/zero/<branch>")
        if len(letters) != 2:
            continue
        estimate = mean_interval(own.values(f"ablation/share/{letters[0]}"))
        losses = {f"loss_{i}": own.mean(f"ablation/zero/{letter}") for i, letter in enumerate(letters)}
        values = {name: own.mean(name) for name in SUBSTITUTES}
        about = {"branches": ", ".join(letters), "share": estimate.mean, "lower": estimate.lower, "upper": estimate.upper}
        rows.append({**own.cell, **about, **losses, **values})
    columns = (
        *naming(rows),
        Column("branches", "Branches", "left"),
        Column("share", "Contribution of the first ± 95 %", whole_row=_share),
        Column("loss_0", "Loss without the first", shown=text.signed),
        Column("loss_1", "Loss without the second", shown=text.signed),
        Column("gate/mean", "Gate", shown=text.significant),
        Column("gradient/curve_ratio", "R/M", shown=text.significant),
        Column("gradient/curve_odds_corrected_ratio", "R/M over gate odds", shown=text.significant),
        Column("variance/branch_ratio", "Variance ratio", shown=text.significant),
        Column("state/rms_ratio", "State ratio", shown=text.significant),
    )
    caption = (
        "What a trained network loses, in nats a token of held-out text, without one of its branches; the first branch's "
        "share of both losses is its contribution. What follows the losses was read as that in the record, and is not it. "
        "Where a share is 0 or 1, a branch adds nothing; a ratio of states that is nearly nothing is of one that has died."
    )
    return Table("inside.branches", caption, columns, tuple(rows), ("lower", "upper"))


def _share(row: Row) -> str:
    return text.plus_minus(row["share"], row["lower"], row["upper"], 3)


def substitutes_table(cells: list[Measured]) -> Table:
    """Spearman's correlation, over all runs, of the contribution with each quantity that the record read as it."""
    from scipy import stats

    rows = []
    for name, title in SUBSTITUTES.items():
        pairs = [
            (values[f"ablation/share/{letters[0]}"], values[name])
            for own in cells
            if len(letters := own.branches("ablation/zero/<branch>")) == 2
            for values in own.seeds.values()
            if f"ablation/share/{letters[0]}" in values and name in values
        ]
        if len({x for x, _ in pairs}) > 2 and len({y for _, y in pairs}) > 2:
            found = stats.spearmanr(*zip(*pairs, strict=True))
            rows.append({"measure": title, "runs": len(pairs), "rho": float(found.statistic)})
    columns = (
        Column("measure", "Read as contribution", "left"),
        Column("runs", "Runs", shown=text.count),
        Column("rho", "Spearman's ρ with the contribution", shown=lambda value: text.decimals(value, 2)),
    )
    caption = (
        "How far each quantity orders the runs as the contribution of the first branch does: 1 is the same order. "
        "The runs of a cell are alike, so that none has an interval."
    )
    return Table("inside.substitutes", caption, columns, tuple(rows))


def variance_table(cells: list[Measured]) -> Table:
    """Amplifier or damper: the growth of the residual stream's variance, with an interval over seeds."""
    rows = []
    for own in cells:
        row = {**own.cell}
        for name, key in (("embedding", "variance/over_embedding"), ("first", "variance/over_first")):
            estimate = mean_interval([math.log(value) for value in own.values(key) if value > 0])
            row |= {name: _exp(estimate.mean), f"{name}_lower": _exp(estimate.lower), f"{name}_upper": _exp(estimate.upper)}
            row[f"{name}_initial"] = own.mean(f"initial/{key}")
        row["word"] = _amplifies(row["embedding_lower"], row["embedding_upper"])
        rows.append(row)
    columns = (
        *naming(rows),
        Column("embedding", "Last block over embedding", shown=text.significant),
        Column("embedding_lower", "95 % interval", whole_row=lambda r: _between(r["embedding_lower"], r["embedding_upper"])),
        Column("word", "Trained, it is", "left"),
        Column("embedding_initial", "before training", shown=text.significant),
        Column("first", "Last block over first", shown=text.significant),
        Column("first_lower", "95 % interval", whole_row=lambda r: _between(r["first_lower"], r["first_upper"])),
        Column("first_initial", "before training", shown=text.significant),
    )
    caption = (
        "Variance of the residual stream, as a ratio; geometric means over seeds. An amplifier's interval lies above 1, a "
        "damper's below. The record gave square roots, some over the embedding and some over the first block."
    )
    raw = ("embedding_upper", "first_upper")
    return Table("inside.variance", caption, columns, tuple(rows), raw)


def states_table(cells: list[Measured]) -> Table:
    """The recurrent states, a row a branch."""
    shown = {
        "rms": "RMS",
        "growth": "Norm at 4 T over T",
        "retention_1": "Kept after a token",
        "retention": "Kept a token, over T",
        "rank_share": "Effective rank, share",
        "entropy": "Entropy, share",
        "input_share": "Varies with inputs",
        "saturation": "Saturated",
        "response": "Response to the first token",
    }
    rows = [
        {**own.cell, "branch": letter, **{name: own.mean(f"state/{name}/{letter}") for name in shown}}
        for own in cells
        for letter in own.branches("state/rms/<branch>")
    ]
    columns = (
        *naming(rows),
        Column("branch", "Branch", "left"),
        *(Column(name, header, shown=text.significant) for name, header in shown.items()),
    )
    caption = "The recurrent states of trained networks at the trained length T, means over layers and seeds."
    return Table("inside.states", caption, columns, tuple(rows))


def softmax_table(cells: list[Measured]) -> Table:
    """Predictions before and after training."""
    shown = {
        "entropy": "Entropy (nats)",
        "max_probability": "Largest probability",
        "saturated": "Saturated",
        "logit_range": "Range of logits",
        "largest_logit": "Largest logit",
    }
    rows = [
        {**own.cell, **{when + name: own.mean(f"{when}softmax/{name}") for name in shown for when in ("", "initial/")}}
        for own in cells
    ]
    columns = [
        Column(f"{when}{name}", header if not when else "before", shown=text.significant)
        for name, header in shown.items()
        for when in ("", "initial/")
    ]
    caption = "Softmax health on held-out text. Saturated: the share of positions with a probability above .99."
    return Table("inside.softmax", caption, (*naming(rows), *columns), tuple(rows))


def checks_tables(cells: list[Measured]) -> list[Table]:
    """Each set of checks on every cell: for programs, since a reader has them cell by cell."""
    found = []
    for checks in all_checks():
        rows = [{**own.cell, **row} for own in cells for row in own.judged(checks)]
        caption = f"{checks.title}, on every cell. {VALUES}"
        found.append(Table(f"inside.{checks.name}", caption, (*naming(rows), *_columns(checks)), tuple(rows), formats=("csv",)))
    return found


def plain_tables(cells: list[Measured]) -> list[Table]:
    """Of each probe of another package one table, with a column for each of its metrics."""
    names = dict.fromkeys(name for own in cells for values in own.seeds.values() for name in values)
    by: dict[str, list[str]] = {}
    probes = plain("probe")
    for name in names:
        if (known := look_up(name)) and (probe := probes.get(known.metric.name)):
            by.setdefault(probe.name, []).append(name)
    tables = []
    for probe_name, found in by.items():
        rows = [{**own.cell, **{name: own.mean(name) for name in found}} for own in cells if any(map(own.values, found))]
        columns = (*naming(rows), *(Column(name, text.capital(phrase(name)), shown=text.significant) for name in found))
        tables.append(Table(f"probe.{probe_name}", component("probe", probe_name).summary, columns, tuple(rows)))
    return tables


def _exp(value: float | None) -> float | None:
    return None if value is None else exponential(value)


def _between(lower: float | None, upper: float | None) -> str:
    return text.NOTHING if lower is None or upper is None else f"[{text.significant(lower)}, {text.significant(upper)}]"


def _amplifies(lower: float | None, upper: float | None) -> str:
    if lower is None or upper is None:
        return "not decided with one seed"
    return "an amplifier" if lower > 1 else "a damper" if upper < 1 else "neither for sure"
