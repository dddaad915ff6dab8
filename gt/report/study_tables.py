"""The tables of a study: results, models, components, coverage, runs, costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from gt.catalogue import MODEL_KINDS, components, used_in
from gt.report import text
from gt.report.models import models_table
from gt.report.tables import Column, Row, Table, naming

if TYPE_CHECKING:
    from gt.report.numbers import Results


def study_tables(results: Results) -> dict[str, Table]:
    """Every table of a study, by name: results, models, components, coverage, runs, costs."""
    made = (
        results_table(
            "results", f"Validation bits per byte of every cell of {results.study}.", results.cell_rows, with_place=True
        ),
        models_table(results),
        components_table([results]),
        coverage_table(results),
        runs_table(results),
        costs_table(results),
    )
    return {table.name: table for table in made}


def results_table(name: str, caption: str, rows: list[Row], with_place: bool = False) -> Table:
    """Cells, those of the same settings together and of these the best first: size, bits per byte, difference to the baseline
    of their settings, and verdict.
    """
    savings = tuple(
        Column(f"{cost}_saved", f"{words} saved", whole_row=saved(cost))
        for cost, words in {"tokens": "Tokens", "device_seconds": "Device time", "parameters": "Parameters"}.items()
        if not all(text.absent(row[f"{cost}_saved"]) for row in rows)
    )
    pooled = not all(text.absent(row["pooled"]) for row in rows)
    columns = (
        *naming(rows, with_place),
        Column("n_params_non_embedding", "Parameters¹", shown=text.count),
        Column("state_size", "State (floats)", shown=text.count),
        Column("completed", "Seeds", whole_row=lambda r: f"{r['completed']} of {r['planned']}"),
        Column("mean", "Bits/byte ± 95 %", whole_row=lambda r: text.plus_minus(r["mean"], r["lower"], r["upper"])),
        *([Column("pooled", "All trainings", shown=text.decimals)] if pooled else []),
        Column("difference", "Δ baseline", shown=text.signed),
        Column("difference_lower", "95 % interval of Δ", whole_row=lambda r: _difference_interval(r)),
        Column("p_holm", "p (Holm)", shown=text.p_value),
        Column("verdict", "Verdict", "left", wraps=True, whole_row=_verdict),
        *savings,
    )
    more = tuple(f"{column.key}_{part}" for column in savings for part in ("lower", "upper", "bound", "n"))
    raw = (
        "planned",
        "n",
        "mean",
        "lower",
        "upper",
        "difference",
        "difference_lower",
        "difference_upper",
        "pairs",
        "pairs_planned",
        "p",
        "p_sign_flip",
        "p_equivalence_holm",
        *more,
    )
    notes = " ".join([caption, "¹ Without embeddings.", *([POOLED] if pooled else []), *([SAVED] if savings else [])])
    return Table(name, notes, columns, tuple(rows), raw, groups="factors")


POOLED = (
    "All trainings: the mean where other studies trained the same runs again, which differs by rounding; Δ counts the mean of "
    "a run’s trainings as one seed, and so need not be the difference of the means beside it."
)
SAVED = (
    "Saved: of what the baseline needs for the same loss, by its runs at several budgets, each with a schedule of its own, and"
    " of parameters by its rungs; > and < where that lies beyond these."
)


def saved(cost: str) -> Callable[[Row], str]:
    """+20.0 % [+15.2, +24.1]"""

    def shown(row: Row) -> str:
        share, lower, upper, bound = (row[f"{cost}_saved{part}"] for part in ("", "_lower", "_upper", "_bound"))
        if text.absent(share):
            return text.NOTHING
        inside = "" if text.absent(lower) else f" {text.interval(100 * lower, 100 * upper, 1, sign=True)}"
        return f"{ {'more': '> ', 'less': '< '}.get(bound, '') }{text.signed(100 * share, 1)} %{inside}"

    return shown


def _verdict(row: Row) -> str:
    """With how many pairs it rests on, where some are not there."""
    short = row["decided"] and row["pairs"] < row["pairs_planned"]
    return (
        f"{row['verdict']} ({row['pairs']:.0f} of {text.plural(int(row['pairs_planned']), 'pair')})"
        if short
        else row["verdict"]
    )


def _difference_interval(row: Row) -> str:
    return text.interval(row["difference_lower"], row["difference_upper"], sign=True)


def components_table(studies: Sequence[Results]) -> Table:
    """Every mixer, fusion and feed-forward layer of the studies' models and their optimizers, as `gt list` describes them."""
    columns = (
        Column("name", "Component", "left"),
        Column("kind", "Kind", "left"),
        Column("formula", "Formula", "left", wraps=True),
        Column("source", "Source", "left", wraps=True),
        Column("parameters", "Parameters", shown=text.count),
    )
    runs = [run for own in studies for run in own.plan.runs.values()]
    used = {(component.kind, component.name) for run in runs for component in used_in(run.model.model_dump())}
    used |= {("optimizer", run.training.optimizer.name) for run in runs}
    rows = [
        {**vars(component), "kind": kind.replace("_", "-")}
        for kind in (*MODEL_KINDS, "optimizer")
        for component in components(kind).values()
        if (kind, component.name) in used
    ]
    caption = (
        "What the models are made of, and trained by. Parameters are those of one layer at d_model 128 with all options at "
        "their defaults."
    )
    return Table("components", caption, columns, tuple(rows))


def coverage_table(results: Results, incomplete: bool = False) -> Table:
    """What was planned, and what became of it: of every cell, or of those that have not all their runs."""
    rows = [row for row in results.cell_rows_in_order if not incomplete or row["completed"] < row["planned"]]
    columns = (
        *naming(rows),
        *(Column(key, key.capitalize(), shown=text.count) for key in ("planned", "completed", "diverged", "failed", "missing")),
    )
    caption = "Planned runs and what became of them" + (", of the cells that have not all of theirs." if incomplete else ".")
    return Table("coverage", caption, columns, tuple(rows))


def runs_table(results: Results) -> Table:
    """Every run of every seed."""
    columns = (
        *naming(results.run_rows),
        Column("seed", "Seed", shown=text.count),
        Column("status", "Status", "left"),
        Column("val/bits_per_byte", "Bits/byte", shown=text.decimals),
        Column("test/bits_per_byte", "Bits/byte (test)", shown=text.decimals),
        Column("val/loss", "Loss (nats/token)", shown=text.decimals),
        Column("gate/final", "Final gate", shown=lambda value: text.decimals(value, 3)),
        Column("reason", "Reason", "left", wraps=True),
        Column("run_id", "Run", "left"),
    )
    return Table(
        "runs",
        "Every run. Bits per byte and loss are on the validation split unless it says test.",
        columns,
        tuple(results.run_rows),
    )


def _measured(shown: Callable[[float], str]) -> Callable[[float | None], str]:
    """How a cost is shown, also where it is not known."""
    return lambda value: "not measured" if value is None or text.absent(value) else shown(value)


def costs_table(results: Results) -> Table:
    """Means over a cell's completed runs."""
    columns = (
        *naming(results.run_cells),
        Column("completed", "Runs", shown=text.count),
        Column("tokens_per_second_mean", "Tokens/s", shown=text.count),
        Column("device_seconds_mean", "Device time a run", shown=_measured(text.duration)),
        Column("energy_joules_mean", "Energy a run (kJ)", shown=_measured(lambda joules: text.significant(joules / 1000))),
        Column("peak_memory_bytes_mean", "Peak memory", shown=_measured(text.mebibytes)),
        Column("tokens_per_dollar_mean", "Tokens/$", shown=_measured(text.count)),
        Column("north_star_mean", "N*", shown=_measured(text.count)),
        Column("compute_efficiency_mean", "1/(PPL*GFLOP)", shown=text.decimals),
    )
    caption = (
        "What training cost: means over the completed runs of a cell of which it is known. A run that shared a device has its "
        "share of the time, the energy and the memory. Tokens/s are of one run, beside those that it shared with. At "
        f"${results.plan.dollars_per_hour:g} an hour; N*: tokens per dollar divided by the validation perplexity; the last "
        "column: 1 over the perplexity times the forward GFLOPs of a token. More is better in all three, under one tokenizer."
    )
    return Table("costs", caption, columns, tuple(results.run_cells))
