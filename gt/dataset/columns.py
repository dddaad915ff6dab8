"""The columns of a data set: the type, unit and meaning of each. What is not known is null in all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from gt.analysis.verdicts import VERDICTS
from gt.metrics import Metric
from gt.registry import look_up

if TYPE_CHECKING:
    import pyarrow as pa

# Between a metric and the value of the axis beside its name: `context/loss@256`.
AT = "@"


class Column(NamedTuple):
    """kind: as Arrow calls it."""

    name: str
    kind: str
    words: str
    unit: str = ""


STUDY = Column("study", "string", "the study that kept this")
RUN_ID = Column("run_id", "string", "the run's name: a label, and the first 10 hex digits of the sha256 of its specification")
# Of a run, before its numbers.
RUN = (
    STUDY,
    RUN_ID,
    Column("training", "string", "one training of a run: two studies that keep the same training have it in a row each"),
    Column("cell", "string", "the cell of the study that it is a seed of"),
    Column("other_cells", "string", "further cells of the study that it is a seed of, with commas between"),
    Column("variant", "string", "the model, by the study's name for it"),
    Column("corpus", "string", "the text that it was trained on"),
    Column("tokenizer", "string", "how the text was cut into tokens"),
    Column("factors", "string", "what else sets the cell apart: JSON, dotted path of the specification to value"),
    Column("seed", "int64", "of the initial values and of the order of batches"),
    Column("tuning_round", "int64", "the round of the tuning that asked for it; null where it tunes nothing, and is judged"),
    Column("tuned_values", "string", "what that tuning tried in it: JSON, dotted path to value"),
    Column("tuning_chosen", "bool", "whether the tuning chose these values"),
    Column("status", "string", "completed, diverged, failed or missing"),
    Column("reason", "string", "why it is not completed"),
    Column("layers", "string", "the model's layers by the letters of its mixers, the first at the bottom"),
    Column("mixers", "string", "JSON: letter to the name of the mixer"),
    Column("fusion", "string", "what joins two mixers of a layer; null where none are joined"),
    Column("d_model", "int64", "width of the residual stream", "channels"),
    Column("n_layer", "int64", "number of layers"),
    Column("optimizer", "string", "its name"),
    Column("learning_rate", "float64", "the highest of its schedule"),
    Column("batch_size", "int64", "sequences of a step", "sequences"),
    Column("sequence_length", "int64", "of a sequence", "tokens"),
    Column("steps", "int64", "planned optimizer steps", "steps"),
    Column("specification", "string", "all that decides its numbers: JSON"),
)
# Of a run, beside its metrics: what became of the training, and by what it was made.
MADE = (
    Column("unknown", "string", "why device_seconds, energy_joules or peak_memory_bytes are null"),
    Column("device_seconds", "float64", "the run's share of the time of its device", "s"),
    Column("energy_joules", "float64", "the run's share of what the device drew meanwhile", "J"),
    Column("steps_completed", "int64", "optimizer steps that were taken", "steps"),
    Column("tokens", "int64", "that it was trained on", "tokens"),
    Column("resumed", "int64", "how often it went on from a checkpoint"),
    Column("first_started", "timestamp", "when any attempt at it first began"),
    Column("started", "timestamp", "when this training began"),
    Column("finished", "timestamp", "when it ended"),
    Column("device", "string", "the device's name"),
    Column("backend", "string", "JSON: operation and state of a head to what computed it"),
    Column("engine", "string", "eager or graph"),
    Column("threads", "int64", "of the processor that torch used"),
    Column("vocab_size", "int64", "of the tokenizer", "tokens"),
    Column("data_sha256", "string", "of the tokens of the text"),
    Column("code_sha256", "string", "of the sums of all code that the training executed; equal: the same code"),
    Column("evaluation_code_sha256", "string", "the same of the code that measured held-out losses"),
    Column("git_commit", "string", "that the code was at; null where it was in no repository, or is not known"),
    Column("modified", "string", "JSON: files of the code that this commit does not hold as they were"),
)
# Whole numbers among the metrics of a run.
WHOLE = ("n_params", "n_params_non_embedding", "state_size", "flops_per_token", "peak_memory_bytes")
WHOLE_OF_A_SPLIT = ("tokens", "bytes", "from_byte", "unknown")
CURVE = (
    STUDY,
    RUN_ID,
    Column("variant", "string", "the model, by the study's name for it"),
    Column("seed", "int64", "the run's"),
    Column("step", "int64", "optimizer steps so far", "steps"),
    Column("tokens", "int64", "of training so far", "tokens"),
    Column("timestamp", "float64", "when it was logged, since 1970", "s"),
    Column("learning_rate", "float64", "at this step"),
)
# Of curves, that is no metric of its own.
LOGGED = {
    "train/bits_per_byte": Column(
        "train/bits_per_byte", "float64", "training loss in bits per byte of the batch's text", "bits/byte"
    )
}
MEASUREMENT = (
    STUDY,
    RUN_ID,
    Column("metric", "string", "what was measured"),
    Column("at", "float64", "where, for a metric with a further axis: tokens of context, a length, items"),
    Column("layer", "int64", "the layer, from 0 at the bottom; null: of the whole network"),
    Column("value", "float64", "in the unit of the metric; null: it is not finite, or the model has no such thing"),
    Column("lower", "float64", "lower end of the 95 % interval of the value within this run, where there is one"),
    Column("upper", "float64", "upper end of it"),
    Column("n", "int64", "of how many answers or tokens it is the share or mean"),
    Column("unit", "string", "of the value; null: none"),
)
VERDICT = (
    STUDY,
    Column("claim", "string", "its id"),
    Column("replication", "string", "of the verdict of a replication its name; null: the study's own"),
    Column("arm", "string", "faithful: the claim's own cells; else the form of the models that stand for them"),
    Column("title", "string", "the claim in a few words"),
    Column("sentence", "string", "what was claimed, as it was tested"),
    Column("verdict", "string", f"of the whole claim: {', '.join(VERDICTS)}"),
    Column("otherwise", "string", "of one that deviated from its plan: what its numbers alone would say"),
    Column("reason", "string", "why there is no test"),
    Column("deviations", "string", "why the plan was not followed"),
    Column("missing", "string", "what has not been run"),
    Column("registered", "timestamp", "when the claim was entered as it was judged; null: it was not"),
    Column("planned", "bool", "whether that was before the first of its runs"),
    Column("family", "string", "the claims that share its alpha"),
    Column("alpha", "float64", "the error that the family may make"),
    Column("p", "float64", "that the claim holds, or that it does not, whichever is smaller"),
    Column("leaning", "string", "what p speaks for: for or against the claim"),
    Column("p_adjusted", "float64", "the same over the family"),
    Column("p_equivalent_adjusted", "float64", "that the difference is within the margin, over the family"),
    Column("part", "int64", "which part of the claim this row is of, from 1; null: no part was tested"),
    Column("parts", "int64", "how many parts it has, all of which must hold"),
    Column("compared", "string", "what the part compares"),
    Column("n", "int64", "seeds that it was tested on", "seeds"),
    Column("scale", "string", "value: in the metric's unit; ratio; or another statistic"),
    Column("estimate", "float64", "mean over seeds, on this scale; of a ratio the geometric mean"),
    Column("lower", "float64", "lower end of its 95 % interval over seeds"),
    Column("upper", "float64", "upper end of it"),
    Column("p_support", "float64", "of the part alone: that it holds"),
    Column("p_refute", "float64", "of the part alone: that it does not"),
    Column("detectable", "float64", "the smallest distance from the bound that these seeds see with a power of 80 %"),
    Column("needed", "int64", "seeds that would decide it, were the truth as estimated", "seeds"),
    Column("cautions", "string", "what to know of the cells behind it"),
)


def of_metric(written: str) -> Column:
    """The column of a metric, by its name as tables have it, perhaps with where it was measured."""
    name, _, at = written.partition(AT)
    if name.startswith("version/"):
        return Column(written, "string", f"the version of {name.removeprefix('version/')}")
    if (found := look_up(name)) is None:
        return LOGGED.get(name, Column(written, "float64", "of a component that is not installed here"))
    metric = found.metric
    whole = name in WHOLE or any(name == f"{split}/{own}" for split in ("val", "test") for own in WHOLE_OF_A_SPLIT)
    where = f", {metric.beside.name if metric.beside else 'at'} {at}" if at else ""
    return Column(written, "int64" if whole else "float64", _said(metric, where), metric.unit)


def _said(metric: Metric, where: str = "") -> str:
    """What a metric is: its phrase and, where that says more, its definition."""
    more = metric.definition if not metric.definition.startswith(metric.phrase) else metric.definition[len(metric.phrase) :]
    return f"{metric.phrase}{where}" + (f": {more}" if more.strip(" ;,:") else "")


def templates(columns: Sequence[Column]) -> list[Column]:
    """Columns with those of one metric told once, by its template: `needle/found/depth_<depth>@<length>`."""
    found: dict[str, Column] = {}
    for column in columns:
        name, _, at = column.name.partition(AT)
        named = look_up(name)
        if named is None or not (at or named.axes):
            found.setdefault(column.name, column)
            continue
        metric = named.metric
        template = metric.name + (f"{AT}<{metric.beside.name}>" if at and metric.beside else "")
        found.setdefault(template, column._replace(name=template, words=_said(metric)))
    return list(found.values())


def schema(columns: Sequence[Column]) -> pa.Schema:
    """As Arrow has it, without metadata."""
    import pyarrow as pa

    kinds = {
        "string": pa.string(),
        "int64": pa.int64(),
        "float64": pa.float64(),
        "bool": pa.bool_(),
        "timestamp": pa.timestamp("ms", tz="UTC"),
    }
    return pa.schema([(column.name, kinds[column.kind]) for column in columns])
