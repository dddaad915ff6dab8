"""What has been decided of studies in a results folder: by runs that tune, and by looks at claims. Plans ask for more of it.

Nothing here imports torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from gt import stage
from gt.analysis.claims import load_claims
from gt.records import read_json
from gt.spec import RunSpec
from gt.wanted import Wanted

LOOKS = "looks"


class Decided:
    """Of one study. results: the folder with runs/ and data/. claims: that of the claims, read where there are looks."""

    def __init__(self, results: Path, study: str, claims: Path) -> None:
        self.results, self.folder, self.claims = results, results / "studies" / study, claims

    @cached_property
    def _asked(self) -> list[str]:
        """What is claimed of the study."""
        claims = load_claims(self.claims).items()
        return [f"{name} {claim.sha256}" for name, claim in sorted(claims) if claim.study == self.folder.name]

    def measured(self, spec: RunSpec) -> float | None:
        """What a run that tunes has given: its validation loss, infinite where it diverged; None where it is to be made."""
        record, data = self.results / "runs" / spec.run_id, self.results / "data" / spec.corpus.id / spec.tokenizer.id
        return None if stage.outdated(record, Wanted((spec,), probed=False), data) else stage.validation_loss(record)

    def look(self, number: int, runs: Sequence[str]) -> Path:
        """The file of a look at these runs, by these claims; a look at others is another."""
        asked = "\n".join([*runs, *self._asked])
        return self.folder / LOOKS / f"{number}-{hashlib.sha256(asked.encode()).hexdigest()[:10]}.json"

    def looked(self, number: int, runs: Sequence[str]) -> set[str] | None:
        """The cells that go on after a look; None where it was not taken."""
        file = self.look(number, runs)
        return set(read_json(file)["going_on"]) if file.exists() else None
