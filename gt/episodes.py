"""How much a recall task asks for. Imports nothing heavy."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from gt.options import Count, Options


class TaskSpec(Options):
    """The episodes of a recall task."""

    length: Annotated[int, Field(ge=8, le=65_536)] = Field(description="tokens of an episode; training.sequence_length")
    items: Annotated[list[Count], Field(min_length=1)] = Field(
        description="pairs, symbols, needles or distractors: each episode has one of these numbers"
    )
    symbols: Annotated[int, Field(ge=2, le=8192)] = Field(64, description="different keys, and as many different values")
    episodes: Count = Field(20_000, description="of the train split")
