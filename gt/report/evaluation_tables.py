"""The tables of what trained models can do, each of which a study has where it was measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gt.report import text
from gt.report.tables import NAME, PLACE, Column, Table

if TYPE_CHECKING:
    from gt.report.numbers import Results


def evaluation_tables(results: Results) -> list[Table]:
    """What the trained models can do: the tables for which the study has measurements."""
    made = [_context_table(results), *(_recall_table(results, task) for task in results.recall_tasks)]
    made += [_needle_table(results), _generation_table(results), *_cost_tables(results), _quantisation_table(results)]
    return [table for table in made if table.rows]


@dataclass(frozen=True)
class Measure:
    """An evaluation as a table shows it: a column, or one for each of the places where it was measured."""

    metric: str
    header: str
    shown: Callable[[Any], str]
    places: Sequence[float | None] = (None,)

    def columns(self) -> list[tuple[float | None, Column]]:
        """With the place that each is for."""
        return [
            (None, Column(self.metric, self.header, shown=self.shown))
            if at is None
            else (at, Column(f"{self.metric}@{at:g}", f"{self.header} {at:g}", shown=self.shown))
            for at in self.places
        ]


def _evaluation_table(results: Results, name: str, caption: str, measures: Sequence[Measure]) -> Table:
    """A row for each cell that has any of the measures, which are means over seeds."""
    keyed = [(measure.metric, at, column) for measure in measures for at, column in measure.columns()]
    rows = []
    for cell in results.cell_rows_in_order:
        values = {column.key: results.evaluation(metric, cell["cell"], at) for metric, at, column in keyed}
        if any(value is not None for value in values.values()):
            rows.append({**cell, **values})
    return Table(name, caption, (NAME, *PLACE, *(column for _, _, column in keyed)), tuple(rows))


def _context_table(results: Results) -> Table:
    caption = (
        "Longer contexts: the loss (nats/token) of the same tokens in windows of so many tokens. Window: the least context "
        "with 95 % of the gain of the best over the shortest. Held to: up to so many times the trained length the perplexity "
        "is at most 1.05 times that at the trained length."
    )
    measures = (
        Measure("context/loss", "Loss at", text.decimals, results.places("context/loss")),
        Measure("context/useful_window", "Window (tokens)", text.count),
        Measure("context/held_to", "Held to", lambda value: f"{value:.3g} T"),
    )
    return _evaluation_table(results, "context", caption, measures)


def _recall_table(results: Results, task: str) -> Table:
    """Shares of right answers, which have intervals."""
    metric = f"recall/{task}"
    shares: list[tuple[str, str, float | None]] = [
        *(("accuracy", "Accuracy", None), ("episodes", "Whole episodes", None), ("control", "Control", None)),
        *(("by_items", f"{n:g} items", n) for n in results.places(f"{metric}/by_items")),
        *(("by_length", f"length {n:g}", n) for n in results.places(f"{metric}/by_length")),
    ]
    rows = []
    for cell in results.cell_rows_in_order:
        if results.evaluation(f"{metric}/accuracy", cell["cell"]) is not None:
            shown = {header: results.evaluation_interval(f"{metric}/{m}", cell["cell"], at) for m, header, at in shares}
            rows.append({**cell, **shown, "chance": results.evaluation(f"{metric}/chance", cell["cell"])})
    caption = (
        f"Recall, {task}: the share of right answers in episodes that training did not see, with 95 % intervals (over seeds; "
        "of one seed, Wilson's). Control: what is asked for was taken out of the episode."
    )
    columns = (*(Column(header, header) for _, header, _ in shares), Column("chance", "Chance", shown=three_decimals))
    return Table(f"recall.{task}", caption, (NAME, *PLACE, *columns), tuple(rows))


def _needle_table(results: Results) -> Table:
    caption = (
        "A needle in held-out text, which the models were not trained to find: the share of its tokens, and of whole needles, "
        "that is repeated, and how much less they cost (nats/token) than those of another needle; over depths and lengths."
    )
    measures = (
        Measure("needle/found", "Found", three_decimals),
        Measure("needle/exact", "Whole", three_decimals),
        Measure("needle/gain", "Gain", text.signed),
    )
    return _evaluation_table(results, "needle", caption, measures)


def _generation_table(results: Results) -> Table:
    caption = "Generation, one sequence at a time: tokens/s up to a length, and what is carried to the next token then."
    measures = [
        Measure(f"generation/{name}", header, text.count, results.places(f"generation/{name}"))
        for name, header in (("tokens_per_second", "Tokens/s to"), ("state_bytes", "State (bytes) at"))
    ]
    return _evaluation_table(results, "generation", caption, measures)


def _cost_tables(results: Results) -> list[Table]:
    """Speed and memory by length, a table a batch."""
    tables = []
    for batch in cost_batches(results):
        measures = [
            Measure(metric := f"cost/{part}_{name}/batch_{batch}", header, shown, results.places(metric))
            for part in ("training", "forward")
            for name, header, shown in (
                ("tokens_per_second", f"{text.capital(part)}: tokens/s at", text.count),
                ("peak_bytes", f"{text.capital(part)}: MiB at", lambda value: text.mebibytes(value).removesuffix(" MiB")),
            )
        ]
        caption = (
            f"Cost by length, {text.plural(batch, 'window')} at once: tokens/s and peak memory of a training pass, which is "
            "forward and backward, and of a forward pass, in windows of so many tokens, without compiled regions."
        )
        tables.append(_evaluation_table(results, f"cost.batch_{batch}", caption, measures))
    return tables


def cost_batches(results: Results) -> list[int]:
    """The batches in which a study measured costs."""
    prefix = "cost/training_tokens_per_second/batch_"
    return sorted(int(metric.removeprefix(prefix)) for metric in results.measured if metric.startswith(prefix))


def _quantisation_table(results: Results) -> Table:
    caption = "Quantisation: the change of the loss (nats/token) when states, decays or their logarithms are rounded."
    cases = [m for m in results.measured if m.startswith("quantisation/") and m.endswith("/difference")]
    measures = [Measure(m, m.removeprefix("quantisation/").removesuffix("/difference"), text.signed) for m in cases]
    return _evaluation_table(results, "quantisation", caption, measures)


def three_decimals(value: float) -> str:
    return text.decimals(value, 3)
