"""Tables: one object, written as CSV (plain numbers), Markdown, LaTeX (booktabs) and HTML (as a reader sees them)."""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gt.catalogue import components
from gt.records import atomic_write
from gt.report import text

if TYPE_CHECKING:
    from gt.report.numbers import Results

Row = dict[str, Any]


@dataclass(frozen=True)
class Column:
    """key: of the CSV file, and of the row where `shown` is of one value. header: what the reader sees, with its unit.

    wraps: the text may take several lines in HTML. link: in HTML, to the section whose id is this and the value.
    """

    key: str
    header: str
    align: Literal["left", "right"] = "right"
    shown: Callable[[Any], str] | None = None
    whole_row: Callable[[Row], str] | None = None
    wraps: bool = False
    link: str = ""

    def text(self, row: Row) -> str:
        """A cell as a reader sees it."""
        if self.whole_row is not None:
            return self.whole_row(row)
        value = row[self.key]
        if text.absent(value) or value == "":
            return text.NOTHING
        return self.shown(value) if self.shown else str(value)

    def html(self, row: Row) -> str:
        """The same in HTML."""
        words = html.escape(self.text(row))
        return f'<a href="#{html.escape(self.link + str(row[self.key]))}">{words}</a>' if self.link else words


@dataclass(frozen=True)
class Table:
    """raw: further keys that the CSV file has, after those of the columns. formats: of the files beside the report.

    groups: the key of which rows that stand together have one value; a line is drawn between them.
    """

    name: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    raw: tuple[str, ...] = ()
    formats: tuple[Literal["csv", "md", "tex"], ...] = ("csv", "md", "tex")
    groups: str = ""

    def breaks(self) -> list[int]:
        """The rows that begin a group, but for the first."""
        found = [row[self.groups] for row in self.rows] if self.groups else []
        return [i for i in range(1, len(found)) if found[i] != found[i - 1]]

    def csv(self) -> str:
        """Full precision, nothing for what is absent: for programs."""
        keys = list(dict.fromkeys([*(column.key for column in self.columns), *self.raw]))
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(keys)
        writer.writerows(["" if text.absent(row[key]) else _plain(row[key]) for key in keys] for row in self.rows)
        return file.getvalue()

    def markdown(self) -> str:
        """A pipe table with its caption above it."""
        lines = [
            [_one_line(column.header) for column in self.columns],
            ["---" if column.align == "left" else "---:" for column in self.columns],
            *([_one_line(column.text(row)) for column in self.columns] for row in self.rows),
        ]
        return f"{self.caption}\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)

    def latex(self) -> str:
        """A floating table for `\\usepackage{booktabs}`."""
        head, *body = [
            " & ".join(_latex(cell) for cell in line) + r" \\"
            for line in [[c.header for c in self.columns], *([c.text(row) for c in self.columns] for row in self.rows)]
        ]
        for i in reversed(self.breaks()):
            body.insert(i, r"\midrule")
        lines = [
            r"\begin{table}",
            r"  \centering",
            rf"  \caption{{{_latex(self.caption)}}}",
            rf"  \label{{tab:{self.name}}}",
            rf"  \begin{{tabular}}{{{''.join(column.align[0] for column in self.columns)}}}",
            *(f"    {line}" for line in [r"\toprule", head, r"\midrule", *body, r"\bottomrule"]),
            r"  \end{tabular}",
            r"\end{table}",
        ]
        return "\n".join(lines) + "\n"

    def html(self) -> str:
        """A table that scrolls inside its own box, the first column naming the rows."""
        e = html.escape
        head = "".join(f'<th scope="col" class="{c.align}">{e(c.header)}</th>' for c in self.columns)
        rows, breaks = [], self.breaks()
        for i, row in enumerate(self.rows):
            first, *rest = ((c.align + " wrap" * c.wraps, c.html(row)) for c in self.columns)
            cells = "".join(f'<td class="{align}">{cell}</td>' for align, cell in rest)
            group = ' class="group"' if i in breaks else ""
            rows.append(f'<tr{group}><th scope="row" class="{first[0]}">{first[1]}</th>{cells}</tr>')
        label = e(self.caption.split(". ")[0].rstrip("."), quote=True)
        return (
            f'<figure class="table"><figcaption>{e(self.caption)}</figcaption>\n'
            f'<div class="scroll" role="region" tabindex="0" aria-label="{label}">\n'
            f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n" + "\n".join(rows) + "\n</tbody>\n</table>\n</div></figure>\n"
        )

    def write(self, folder: Path) -> None:
        """`<name>.csv`, `.md` and `.tex`, or those of them that it has."""
        contents = {"csv": self.csv, "md": self.markdown, "tex": self.latex}
        for suffix in self.formats:
            with atomic_write(folder / f"{self.name}.{suffix}") as temporary:
                temporary.write_text(contents[suffix](), encoding="utf-8")


def study_tables(results: Results) -> dict[str, Table]:
    """Every table of a study, by name: results, models, components, coverage, runs, costs."""
    made = (
        results_table(
            "results", f"Validation bits per byte of every cell of {results.study}.", results.cell_rows, with_place=True
        ),
        models_table(results),
        components_table(results),
        coverage_table(results),
        runs_table(results),
        costs_table(results),
    )
    return {table.name: table for table in made}


PLACE = (Column("corpus", "Corpus", "left"), Column("tokenizer", "Tokenizer", "left"))
NAME = Column("label", "Variant", "left")


def results_table(name: str, caption: str, rows: list[Row], with_place: bool = False) -> Table:
    """Cells, those of the same settings together and of these the best first: size, bits per byte, difference to the baseline
    of their settings, and verdict.
    """
    columns = (
        NAME,
        *(PLACE if with_place else ()),
        Column("n_params_non_embedding", "Parameters¹", shown=text.count),
        Column("state_size", "State (floats)", shown=text.count),
        Column("completed", "Seeds", whole_row=lambda r: f"{r['completed']} of {r['planned']}"),
        Column("mean", "Bits/byte ± 95 %", whole_row=lambda r: text.plus_minus(r["mean"], r["lower"], r["upper"])),
        Column("difference", "Δ baseline", shown=text.signed),
        Column("difference_lower", "95 % interval of Δ", whole_row=lambda r: _difference_interval(r)),
        Column("p_holm", "p (Holm)", shown=text.p_value),
        Column("verdict", "Verdict", "left", wraps=True),
    )
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
        "p",
        "p_sign_flip",
    )
    return Table(name, f"{caption} ¹ Without embeddings.", columns, tuple(rows), (*raw, "p_equivalence_holm"), groups="factors")


def _difference_interval(row: Row) -> str:
    return text.interval(row["difference_lower"], row["difference_upper"], sign=True)


def models_table(results: Results) -> Table:
    """What each model has and costs."""
    columns = (
        NAME,
        *PLACE,
        Column("n_params", "Parameters", shown=text.count),
        Column("n_params_non_embedding", "without embeddings", shown=text.count),
        Column("state_size", "State (floats)", shown=text.count),
        Column("flops_per_token", "FLOPs/token", shown=text.count),
    )
    caption = "The models. State: floats carried from one token to the next; for attention, its cache at the trained length."
    return Table("models", caption, columns, tuple(results.run_cells))


def components_table(results: Results) -> Table:
    """Every mixer, fusion and feed-forward layer of the study's models, as the registry describes them (`gt list`)."""
    columns = (
        Column("name", "Component", "left"),
        Column("kind", "Kind", "left"),
        Column("formula", "Formula", "left", wraps=True),
        Column("source", "Source", "left", wraps=True),
        Column("parameters", "Parameters", shown=text.count),
    )
    models = [run["model"] for run in results.plan["runs"].values()]
    used = {
        "mixer": {mixer["name"] for model in models for mixer in model["mixers"].values()},
        "fusion": {model["fusion"]["name"] for model in models if model["fusion"]},
        "feed_forward": {model["feed_forward"]["name"] for model in models if model["feed_forward"]},
    }
    rows = [
        {**vars(component), "kind": kind.replace("_", "-")}
        for kind, names in used.items()
        for component in components(kind).values()
        if component.name in names
    ]
    caption = (
        "What the models are made of. Parameters are those of one layer at d_model 128 with all options at their defaults."
    )
    return Table("components", caption, columns, tuple(rows))


def coverage_table(results: Results) -> Table:
    """What was planned, and what became of it."""
    columns = (
        NAME,
        *PLACE,
        *(Column(key, key.capitalize(), shown=text.count) for key in ("planned", "completed", "diverged", "failed", "missing")),
    )
    return Table("coverage", "Planned runs and what became of them.", columns, tuple(results.cell_rows_in_order))


def runs_table(results: Results) -> Table:
    """Every run of every seed."""
    columns = (
        NAME,
        *PLACE,
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


def costs_table(results: Results) -> Table:
    """Means over a cell's completed runs."""
    columns = (
        NAME,
        *PLACE,
        Column("completed", "Runs", shown=text.count),
        Column("tokens_per_second_mean", "Tokens/s", shown=text.count),
        Column("device_seconds_mean", "Device time a run", shown=text.duration),
        Column("energy_joules_mean", "Energy a run (kJ)", shown=lambda joules: text.significant(joules / 1000)),
        Column("peak_memory_bytes_mean", "Peak memory", shown=text.mebibytes),
        Column("tokens_per_dollar_mean", "Tokens/$", shown=text.count),
        Column("north_star_mean", "N*", shown=text.count),
        Column("compute_efficiency_mean", "1/(PPL*GFLOP)", shown=text.decimals),
    )
    caption = (
        "What training cost: means over the completed runs of a cell; runs that shared a device have its time and energy in "
        "equal parts. Tokens/s are of one run, beside those that it shared with. At "
        f"${results.plan['dollars_per_hour']:g} an hour; N*: tokens per dollar divided by the validation perplexity; the last "
        "column: 1 over the perplexity times the forward GFLOPs of a token. More is better in all three, under one tokenizer."
    )
    return Table("costs", caption, columns, tuple(results.run_cells))


def evaluation_tables(results: Results) -> list[Table]:
    """What the trained models can do: the tables for which the study has measurements."""
    made = [_context_table(results), *(_recall_table(results, task) for task in results.recall_tasks)]
    made += [_needle_table(results), _generation_table(results), _quantisation_table(results)]
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


def _quantisation_table(results: Results) -> Table:
    caption = "Quantisation: the change of the loss (nats/token) when states, decays or their logarithms are rounded."
    cases = [m for m in results.measured if m.startswith("quantisation/") and m.endswith("/difference")]
    measures = [Measure(m, m.removeprefix("quantisation/").removesuffix("/difference"), text.signed) for m in cases]
    return _evaluation_table(results, "quantisation", caption, measures)


def three_decimals(value: float) -> str:
    return text.decimals(value, 3)


def _plain(value: Any) -> Any:
    """Floats that are whole numbers, as pandas makes of integers beside gaps, are written as integers."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def markdown_words(words: str) -> str:
    """Words of which nothing is markup."""
    return re.sub(r"([\\`*_|<>\[\]&])", r"\\\1", words)


def _one_line(words: str) -> str:
    return markdown_words(" ".join(words.split()))


# What LaTeX reads otherwise, and what its default fonts do not have.
LATEX = {
    "\\": r"\textbackslash{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"$<$",
    ">": r"$>$",
    "−": r"$-$",
    "±": r"$\pm$",
    "Δ": r"$\Delta$",
    "–": "--",
    "¹": r"$^1$",
}


def _latex(cell: str) -> str:
    return "".join(LATEX.get(character, character) for character in " ".join(cell.split()))
