"""What code made a result: content fingerprints of the package's parts.

A rule of the workflow carries the fingerprint of what it runs as a parameter, so an edit reruns what it can change and
nothing else, and a touch or a fresh clone reruns nothing.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parent

# What decides the numbers of a trained model, in the order of the imports.
TRAINING_PARTS = ("seeds", "spec", "data", "ops", "models", "training")
# What decides, with those, the numbers that are measured inside of it: all that `gt.probes` imports.
PROBING_PARTS = ("probes", "evals/subject", "evals/generation")


@cache
def fingerprint(*parts: str) -> str:
    """16 hex digits over the names and contents of the Python files of some parts of `gt` (packages or modules).

    Raises FileNotFoundError for a part that does not exist.
    """
    digest = hashlib.sha256()
    for part in parts:
        package, module = PACKAGE / part, PACKAGE / f"{part}.py"
        files = sorted(package.rglob("*.py")) if package.is_dir() else [module]
        for file in files:
            digest.update(file.relative_to(PACKAGE).as_posix().encode() + b"\0")
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]
