"""How a study came to its verdicts, in the order in which it was decided: what claims could show before any run, how models
were tuned, at which look each claim stopped, what sizes foretell, and what a difference is worth.
"""

from __future__ import annotations

from collections.abc import Sequence

from gt.analysis.gates import Gate
from gt.analysis.verdicts import Row
from gt.artefacts import Plan
from gt.report.document import Block, Picture, Section, Tabular, Text, section
from gt.report.equal_loss import EQUAL_LOSS_DRAWING, equal_loss_table
from gt.report.foreseen import foreseen_sentence, foreseen_table
from gt.report.gallery import picture
from gt.report.ladders import LADDER_DRAWING, ladder_blocks
from gt.report.looks import looks_picture, looks_sentences, looks_table
from gt.report.numbers import Results
from gt.report.tuning import TUNING_DRAWING, tuning_sentence, tuning_table


def decides(plan: Plan) -> bool:
    """Whether a study goes by decisions that it makes while it runs, or foretells anything."""
    return bool(plan.tunings or plan.looks or plan.ladder)


def decisions_section(
    results: Results, claims: Sequence[Row], gates: Sequence[Gate], pictures: dict[str, Picture]
) -> Section | None:
    """claims: those of the study; gates: what was known of them before; pictures: of claims, with that of looks."""
    own = results.study
    parts = [
        section(f"{own}-gates", "Before the runs: what claims can show", *_gates(gates)),
        section(f"{own}-tuning", "How the models were tuned", *_tuning(results)),
        section(f"{own}-looks", "Seeds until it is decided", *_looks(results, claims, pictures)),
        section(f"{own}-ladder", "The ladder and its held-out rung", *_ladder(results)),
        section(f"{own}-equal-loss", "What a difference is worth", *_equal_loss(results)),
    ]
    return section(f"{own}-decisions", "How it was decided", *parts, wide=True)


def _gates(gates: Sequence[Gate]) -> list[Block | None]:
    return [Text(foreseen_sentence(gates)), Tabular(foreseen_table(gates))] if gates else []


def _tuning(results: Results) -> list[Block | None]:
    if not results.plan.tunings:
        return []
    table = tuning_table(results)
    return [
        Text(tuning_sentence(results)),
        picture(results, TUNING_DRAWING),
        Tabular(table) if table.rows else None,
    ]


def _looks(results: Results, claims: Sequence[Row], pictures: dict[str, Picture]) -> list[Block | None]:
    said = looks_sentences(claims, results.plan)
    return [*map(Text, said), pictures.get(looks_picture(results.plan)), Tabular(looks_table(claims))] if said else []


def _ladder(results: Results) -> list[Block | None]:
    blocks = ladder_blocks(results)
    return [blocks[0], picture(results, LADDER_DRAWING), *blocks[1:]] if blocks else []


def _equal_loss(results: Results) -> list[Block | None]:
    table = equal_loss_table(results)
    return [picture(results, EQUAL_LOSS_DRAWING), Tabular(table)] if table.rows else []
