"""Which records were found whole and current, so that those that have not changed since need not be read as documents again.

To check ten thousand records takes minutes, and as a rule none of them has changed. What is remembered of each is a sum over
all that its being current hangs on: the contents of its files (of large ones the size, as `gt.stage` has it), what is asked of
it, the tokens, and the code, that of the check included. Contents alone count, as there: a touch or a copy changes nothing, and
where the file of the sums is lost or damaged, all is checked.

Nothing here imports torch.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from functools import cache
from pathlib import Path

from gt.asked import HELD_OUT, RECALL, VALIDATION, Asked
from gt.errors import ConfigError
from gt.fingerprint import code_of, code_of_evaluation, code_of_probes, code_of_training, digest
from gt.records import LARGE, RECORD, atomic_write, file_sha256, measurements, read_json
from gt.spec import RunSpec
from gt.stage import Kept, tokens_sum
from gt.wanted import Wanted

CHECK = "gt.stage:Kept"


class Seen:
    """Of a folder of records. file: where their sums are kept."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.known = self._read()
        self.sums = dict(self.known)
        self._tokens, self._codes = cache(tokens_sum), dict[tuple[str, ...], str]()

    def outdated(self, record: Path, wanted: Wanted, data: Path) -> set[str]:
        """As `stage.outdated`; nothing of it is parsed where it was found whole and current as it is."""
        own = self._sum(record, wanted, data)
        if self.sums.get(record.name) == own:
            return set()
        self.sums.pop(record.name, None)
        kept = Kept(record)
        due = kept.outdated(wanted, data)
        if not due and not kept.damaged():
            self.sums[record.name] = own
        return due

    def is_whole(self, record: Path) -> bool:
        """Whether a record was found whole and current by this call or, being the same, by an earlier one."""
        return record.name in self.sums

    def keep(self) -> None:
        """Write the sums down, if there are others than before; where that is not allowed, all is checked the next time too."""
        if self.sums != self.known:
            with suppress(OSError), atomic_write(self.file, durable=False) as temporary:
                temporary.write_text(json.dumps(self.sums, indent=0) + "\n", encoding="utf-8")
            self.known = dict(self.sums)

    def _read(self) -> dict[str, str]:
        try:
            found = read_json(self.file)
        except ConfigError:
            return {}
        return found if isinstance(found, dict) else {}

    def _sum(self, record: Path, wanted: Wanted, data: Path) -> str:
        """Over all that decides what `Kept` says of a record."""
        looks, asked = [look.model_dump_json() for look in wanted.looks], sorted(wanted.asked)
        code = self._code(wanted.looks[0], asked)
        parts = [*looks, *asked, "probed" if wanted.probed else "", str(self._tokens(data)), code]
        for name in (*RECORD, *measurements(record)):
            parts.append(f"{name} {_content(record / name)}")
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]

    def _code(self, spec: RunSpec, asked: list[str]) -> str:
        """The code that a run, and all that is measured of it, would be made by now, and that of the check."""
        key = (spec.model.model_dump_json(), spec.training.optimizer.name, *asked)
        if key not in self._codes:
            labels = [HELD_OUT, RECALL, VALIDATION, *(Asked.of(own).label for own in asked)]
            codes = [code_of_training(spec), code_of_probes(spec), *(code_of_evaluation(spec, label) for label in labels)]
            self._codes[key] = " ".join(map(digest, [code_of(CHECK), *codes]))
        return self._codes[key]


def _content(file: Path) -> str:
    """Of a file what `stage.Kept` looks at; nothing of one that is not there."""
    try:
        size = file.stat().st_size
        return f"{size}" if size > LARGE else f"{size} {file_sha256(file)}"
    except OSError:
        return ""
