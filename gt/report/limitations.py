"""What studies cannot say, by their own sizes, settings and shared runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from gt.analysis.aggregate import MAIN, label
from gt.analysis.verdicts import Row as Claim
from gt.report import text
from gt.report.census import census
from gt.report.rounding import rounding

if TYPE_CHECKING:
    from gt.report.numbers import Results


def limitations(studies: Sequence[Results], judged: Sequence[Claim]) -> list[str]:
    """What these runs cannot say, from their own sizes."""
    known = census(studies, judged)
    runs = known.records
    found = []
    if len(runs):
        sizes, tokens = (text.span(runs[column].tolist(), text.count) for column in ("n_params", "tokens"))
        about = f"Models of {sizes} parameters, trained on {tokens} tokens"
        found.append(f"{about}: what holds at this size and budget need not hold at others.")
    corpora = sorted({str(name) for own in studies for name in own.plan.corpora})
    found.append(f"Text of {text.plural(len(corpora), 'corpus', 'corpora')} ({text.listed(corpora)}).")
    fewest, most = min(own.fewest_seeds for own in studies), max(own.most_seeds for own in studies)
    seeds = text.plural(most, "seed") if fewest == most else f"{fewest} to {most} seeds"
    found.append(f"{text.capital(seeds)} a cell: small differences stay undecided, and intervals assume normal means.")
    if known.on_two:
        of = f"{known.on_two} of {text.plural(known.decided, 'decided contrast')} {'rests' if known.on_two == 1 else 'rest'}"
        found.append(
            f"{of} on two pairs of seeds, with which only very large differences are seen and normal means are a guess."
        )
    if known.repeated:
        again = (
            f"{text.plural(len(known.repeated), 'run')} {'was' if len(known.repeated) == 1 else 'were'} trained more than once"
        )
        differ = f"{again}: contrasts and verdicts count the mean of a run's trainings as one seed."
        found.append(f"{differ} {rounding(studies)}".strip())
    fixed = [own.study for own in studies if not _tuned(own)]
    if fixed:
        where = "" if len(fixed) == len(studies) else f" in {text.listed(fixed)}"
        about = f"No learning rate was tuned{where}: an architecture that another rate suits looks worse than it is."
        found.append(f"{about} {other_rates(studies)}".strip())
    devices = runs["device"].dropna().nunique()
    if devices == 1:
        found.append("All runs are of one kind of device; costs are those of this code on it.")
    if words := dependence(studies, judged):
        found.append(words)
    if known.deviated:
        of = f"{known.deviated} of {text.plural(known.tested, 'tested claim')}"
        found.append(
            f"{of} departed from {'its plan' if known.deviated == 1 else 'their plans'}, and decide nothing; each says how."
        )
    open_ = [row for row in judged if row.verdict in ("inconclusive", "deviated", "not yet run", "not testable")]
    if open_:
        found.append(f"{len(open_)} of {text.plural(len(judged), 'claim')} {text.are(len(open_))} not decided by these runs.")
    return found


def other_rates(studies: Sequence[Results]) -> str:
    """How often another learning rate beats the one of the studies that tune none, where both were tried; empty without any."""
    fixed = [spec for own in studies if not _tuned(own) for spec in own.plan.runs.values()]
    if not fixed:
        return ""
    usual = Counter(spec.training.learning_rate for spec in fixed).most_common(1)[0][0]
    losses = census(studies).runs.dropna(subset=[MAIN]).set_index("run_id")[MAIN]
    specs = {run: spec for own in studies if _tuned(own) for run, spec in own.plan.runs.items() if run in losses}
    found: dict[str, dict[float, list[float]]] = {}  # all that is trained, but for rate and seed -> rate -> losses
    for run, spec in specs.items():
        training = spec.training.model_copy(update={"learning_rate": None})
        same = spec.model_copy(update={"seed": None, "training": training})
        rates = found.setdefault(same.canonical_json(), {})
        rates.setdefault(spec.training.learning_rate, []).append(losses[run])
    tried = [rates for rates in found.values() if usual in rates and len(rates) > 1]
    if not tried:
        return ""
    best = [min((fmean(losses), rate) for rate, losses in rates.items())[1] for rates in tried]
    higher, top = sum(rate > usual for rate in best), sum(rate == max(rates) for rate, rates in zip(best, tried, strict=True))
    return (
        f"Where the rate of the studies that tune none, {usual:g}, was tried beside others, a higher one has the lowest loss "
        f"in {higher} of {text.plural(len(tried), 'case')} (a model on a corpus), and the highest that was tried in {top}."
    )


def dependence(studies: Sequence[Results], judged: Sequence[Claim], most: int = 3) -> str:
    """How many claims read the same runs, and over which of them p values are adjusted; empty where no two share any.

    A cell is its runs, by whatever name a study has them. most: of how many cells, the most read first.
    """
    runs: dict[tuple[str, str], frozenset[str]] = {}
    names: dict[frozenset[str], str] = {}
    for own in studies:
        for cell in own.plan.cells:
            key = runs[own.study, cell.id] = frozenset(cell.runs.values())
            names.setdefault(key, f"{label(cell)} on {cell.corpus}, {cell.tokenizer}")
    tested = [row.judgement for row in judged if row.judgement and row.tested]
    readers = Counter(key for own in tested for key in dict.fromkeys(runs[own["study"], cell] for cell in own["cells"]))
    shared = [(names[key], n) for key, n in readers.most_common(most) if n > 1]
    if not shared:
        return ""
    families = Counter((own["family"], own["planned"]) for own in tested)
    often = text.listed([f"{n} read {name}" for name, n in shared])
    return (
        "Verdicts are not independent of each other. "
        f"Of {text.plural(len(tested), 'tested claim')}, {often}: what is by chance in these runs is in all of them, here and "
        "in every study that has the same runs. p values are adjusted within "
        f"{text.plural(len(families), 'family', 'families')} of up to {text.plural(max(families.values()), 'claim')}, not over "
        f"all: of so many at {100 * max(own['alpha'] for own in tested):g} % each, some may have a wrong verdict. Those under "
        "other branch forms are adjusted within each form; that a form makes the difference is, over the forms of a claim."
    )


def _tuned(results: Results) -> bool:
    """Whether a study has tried several learning rates."""
    varied = [path for cell in results.plan.cells for path in cell.factors]
    chosen = [path for tuning in results.plan.tunings for path in tuning.scales]
    return any("learning_rate" in path for path in (*varied, *chosen))
