"""The tables of what trained models can do, each of which a study has where it was measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from gt.analysis.statistics import mean_interval
from gt.registry import look_up, phrase, plain
from gt.report import text
from gt.report.tables import Column, Table, naming

if TYPE_CHECKING:
    from gt.report.numbers import Results


def evaluation_tables(results: Results) -> list[Table]:
    """What the trained models can do: the tables for which the study has measurements."""
    made = [_context_table(results), *(table for task in results.recall_tasks for table in _recall_tables(results, task))]
    made += [_needle_table(results), _generation_table(results), *_cost_tables(results), _quantisation_table(results)]
    made += _plain_tables(results)
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
    return Table(name, caption, (*naming(rows), *(column for _, _, column in keyed)), tuple(rows))


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


# The last part of a metric's name, a header, and where it was measured.
Share = tuple[str, str, float | None]


def _recall_tables(results: Results, task: str) -> list[Table]:
    """Shares of right answers, which have intervals: by items with the control, and by length with whole episodes."""
    metric = f"recall/{task}"
    items, lengths = (results.places(f"{metric}/{what}") for what in ("by_items", "by_length"))
    first: list[Share] = [("accuracy", "Accuracy", None), *(("by_items", f"{n:g} items", n) for n in items)]
    first.append(("control", "Control", None))
    second: list[Share] = [("episodes", "Whole episodes", None), *(("by_length", f"length {n:g}", n) for n in lengths)]
    about = (
        "the share of right answers in episodes that training did not see, with 95 % intervals (over seeds; of one seed, "
        "Wilson’s)"
    )
    control = "Control: what is asked for was taken out of the episode. Chance: a guess among all answers"
    return [
        _shares_table(results, metric, f"recall.{task}", f"Recall, {task}: {about}. {control}.", first),
        _shares_table(
            results, metric, f"recall.{task}.length", f"Recall, {task}, of whole episodes and by length: {about}.", second
        ),
    ]


def _shares_table(results: Results, metric: str, name: str, caption: str, shares: Sequence[Share]) -> Table:
    rows = []
    for cell in results.cell_rows_in_order:
        if results.evaluation(f"{metric}/accuracy", cell["cell"]) is not None:
            shown = {header: results.evaluation_interval(f"{metric}/{m}", cell["cell"], at) for m, header, at in shares}
            rows.append({**cell, **shown, "chance": results.evaluation(f"{metric}/chance", cell["cell"])})
    chance = [Column("chance", "Chance", shown=three_decimals)] if any(m == "control" for m, _, _ in shares) else []
    return Table(name, caption, (*naming(rows), *(Column(header, header) for _, header, _ in shares), *chance), tuple(rows))


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
    """Speed and memory by length: a row a cell and batch."""
    passes = (
        "of a training pass, which is forward and backward, and of a forward pass, in so many windows at once of so many "
        "tokens, without compiled regions."
    )
    kinds: tuple[tuple[str, str, str, Callable[[Any], str]], ...] = (
        ("speed", "tokens_per_second", f"Speed by length: tokens/s {passes}", text.count),
        ("memory", "peak_bytes", f"Memory by length: peak MiB {passes}", lambda n: text.mebibytes(n).removesuffix(" MiB")),
    )
    batches, tables = cost_batches(results), []
    lengths = sorted({at for batch in batches for at in results.places(f"cost/training_peak_bytes/batch_{batch}")})
    places = [(part, at, f"{part}@{at:g}") for part in ("training", "forward") for at in lengths]
    for name, measure, caption, shown in kinds:
        rows = [
            {
                **cell,
                "batch": batch,
                **{
                    key: results.evaluation(f"cost/{part}_{measure}/batch_{batch}", cell["cell"], at)
                    for part, at, key in places
                },
            }
            for cell in results.cell_rows_in_order
            for batch in batches
        ]
        rows = [row for row in rows if any(row[key] is not None for _, _, key in places)]
        columns = (Column(key, f"{text.capital(part)} at {at:g}", shown=shown) for part, at, key in places)
        batch = Column("batch", "Batch", shown=text.count)
        tables.append(Table(f"cost.{name}", caption, (*naming(rows), batch, *columns), tuple(rows), groups="cell"))
    return tables


def cost_batches(results: Results) -> list[int]:
    """The batches in which a study measured costs."""
    prefix = "cost/training_tokens_per_second/batch_"
    return sorted(int(metric.removeprefix(prefix)) for metric in results.measured if metric.startswith(prefix))


def _quantisation_table(results: Results) -> Table:
    """Differences so small that their unit is a ten-thousandth."""
    cases = [m for m in results.measured if m.startswith("quantisation/") and m.endswith("/difference")]
    rows = []
    for cell in results.cell_rows_in_order:
        known = {m: results.measured[m][cell["cell"]]["value"] for m in cases if cell["cell"] in results.measured[m]}
        if known:
            means = {m: float(values.mean()) for m, values in known.items()}
            shown = {f"{m}/shown": _ten_thousandths(values.tolist()) for m, values in known.items()}
            rows.append(
                {**cell, **dict.fromkeys((f"{m}/shown" for m in cases), text.NOTHING), **dict.fromkeys(cases), **means, **shown}
            )
    columns = (
        Column(m, m.removeprefix("quantisation/").removesuffix("/difference"), whole_row=itemgetter(f"{m}/shown"))
        for m in cases
    )
    caption = (
        "Quantisation: the change of the loss, in ten-thousandths of a nat a token, with 95 % intervals, when states, decays "
        "or their logarithms are rounded."
    )
    return Table("quantisation", caption, (*naming(rows), *columns), tuple(rows))


def _plain_tables(results: Results) -> list[Table]:
    """Of each evaluation of another package one table, with a column for each of its metrics and for each place of it."""
    by: dict[str, tuple[str, list[Measure]]] = {}
    evaluations = plain("evaluation")
    for name in results.measured:
        if (found := look_up(name)) and (own := evaluations.get(found.metric.name)):
            header = text.capital(phrase(name)) + (f", {found.metric.beside.name}" if found.metric.beside else "")
            places = results.places(name) or (None,)
            by.setdefault(own.name, (own.summary, []))[1].append(Measure(name, header, text.significant, places))
    return [_evaluation_table(results, name, summary, measures) for name, (summary, measures) in by.items()]


def _ten_thousandths(values: list[float]) -> str:
    """+1.3 ± 0.9"""
    own = mean_interval([1e4 * value for value in values])
    half = "" if own.lower is None or own.upper is None else f" ± {(own.upper - own.lower) / 2:.1f}"
    return f"{text.signed(own.mean, 1)}{half}"


def three_decimals(value: float) -> str:
    return text.decimals(value, 3)
