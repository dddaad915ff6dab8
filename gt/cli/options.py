"""The types of arguments and options: what they are converted to, and what their help says."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from cyclopts.token import Token

from gt.cli import complete


def described(text: str, **settings: Any) -> Parameter:
    """An option or argument with its help."""
    return Parameter(help=text, **settings)


def _number(_: Any, tokens: Sequence[Token]) -> float:
    try:
        value = float(tokens[0].value)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise ValueError("Allowed: numbers from 0.")
    return value


def _whole(least: int) -> Callable[[Any, Sequence[Token]], int]:
    """The converter to a whole number, no smaller than this and no larger than 64 bits hold."""

    def whole(_: Any, tokens: Sequence[Token]) -> int:
        try:
            value = int(tokens[0].value)
        except ValueError:
            value = least - 1
        if not least <= value < 2**63:
            raise ValueError(f"Allowed: whole numbers from {least}.")
        return value

    return whole


Count = Annotated[int, Parameter(converter=_whole(1), metavar="N")]
CountOrNone = Annotated[int, Parameter(converter=_whole(0), metavar="N")]
Number = Annotated[float, Parameter(converter=_number, metavar="NUMBER")]

# One value or more after one option: `--plans a b c`.
MANY = Parameter(consume_multiple=(1, 1_000_000))
FLAG = Parameter(show_default=False)

Out = Annotated[Path, described("where it goes")]
PlanFile = Annotated[Path, described("plan.json of a study")]
Records = Annotated[Path, described("folder of the records, results/runs")]
Record = Annotated[Path, described("folder of the record, results/runs/<run_id>")]
Tokens = Annotated[Path, described("folder of tokens")]
Checkpoints = Annotated[Path, described("folder of the checkpoints")]
Attempts = Annotated[Path, described("results/attempts")]
DeviceLogs = Annotated[
    Path | None, described("results/devices: logs of GPUs, by which jobs that share one are told apart from strangers")
]
Note = Annotated[Path | None, described("where to note what it is made of, once it is made")]
StudyResults = Annotated[Path, described("results/studies/<study>")]
Studies = Annotated[list[Path] | None, MANY, described("results/studies/<study> ...; all there are, run or published")]
PublishedStudies = Annotated[list[Path], MANY, described("results/published/<study> ...")]
PaperFile = Annotated[Path, described("config/papers/<name>.yaml")]
Templates = Annotated[Path | None, described("by default the project's report_templates, or gt's own")]
Claims = Annotated[Path, described("folder of the claims")]
Scale = Annotated[str, described("a size of config/scales.yaml", completer=complete.scales)]
Context = Annotated[Count, described("tokens, for FLOPs and caches")]
