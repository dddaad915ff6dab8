"""What code made a result: of each module, a sum over the definitions that were used (`gt.closure`).

An edit makes again what it can change and nothing else: a touch, a fresh clone, another file, a comment, a docstring or the
component of another variant changes no sum of a run, and each line that the run executes does. The definitions of a run are
those that the trainer, or a measurement, reaches by names, and the components that the run's specification names, which are
looked up by name only when it runs (`gt.catalogue`). A component of another package counts by its code too, and with
the version of that package where it is an installed distribution of its own, since that may bring more than source.

The sums of two runs are alike where the code of what both have is alike, whatever else each of them has: `gt.models.init` is
over what all runs use of that module, and `gt.models.init (mixer rwkv6)` over what a component uses of it beyond that.

Of data, what prepares any corpus counts for all of them, and of the readers a corpus's own; for the trained runs the sum of
their tokens stands.

Nothing here imports torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import Distribution, distributions, version
from pathlib import Path
from typing import TYPE_CHECKING

from gt import project
from gt.catalogue import MODEL_KINDS, Component, component, components, used_in
from gt.closure import Code, sha256
from gt.known_code import known
from gt.shared import place_of

if TYPE_CHECKING:
    from gt.spec import RunSpec

PACKAGE = Path(__file__).parent
# A run alone, in a pack, or in several processes.
TRAINING = (
    *("gt.training.loop:train", "gt.training.loop:Job", "gt.training.loop:Settings"),
    *("gt.training.packs:train_pack", "gt.training.distributed:join"),
)
# What evaluations are made of, and how they are called.
MEASURED = ("gt.evals.subject:Subject", "gt.evals.evaluation:measured")
PROBING = ("gt.probes.probe:probe",)
# Of the code of a training, what makes a function of the weights.
NETWORK = ("gt.models.", "gt.ops.")
# What begins the key of a package that is not gt's own.
PLUGIN = "plugin:"


def used_in_training(spec: RunSpec) -> list[Component]:
    """The components that a run looks up by name while it is trained."""
    return [*used_in(spec.model.model_dump()), component("optimizer", spec.training.optimizer.name)]


def code_of_training(spec: RunSpec) -> dict[str, str]:
    """By module, 16 hex digits over what all trainings use of it, and over what each component of the run uses beyond that; by
    plug-in, its version.
    """
    return code_with(TRAINING, used_in_training(spec))


def code_of_evaluation(spec: RunSpec, name: str) -> dict[str, str]:
    """The same of an evaluation of a run, whose name may have options after it. ConfigError for one that is not there."""
    return code_with(MEASURED, [component("evaluation", name.partition("-")[0]), *used_in(spec.model.model_dump())])


def code_of_probes(spec: RunSpec) -> dict[str, str]:
    """The same of all that looks inside of a run's network."""
    return code_with(PROBING, [*components("probe").values(), *used_in(spec.model.model_dump())])


def code_with(roots: tuple[str, ...], used: Iterable[Component]) -> dict[str, str]:
    """The same of any definitions, `module:name`, and of the components that they look up by name."""
    places = {f"{component.kind} {component.name}": f"{component.module}:{component.class_name}" for component in used}
    plugins = {f"{PLUGIN}{name}": own for name, own in versions(places.values()).items()}
    return {**_code(roots, tuple(places.items())), **plugins}


def code_of(*roots: str) -> dict[str, str]:
    """The same of any definitions alone, as of a stage of the workflow."""
    return code_with(roots, ())


@cache
def _code(roots: tuple[str, ...], places: tuple[tuple[str, str], ...]) -> dict[str, str]:
    code = _packages(frozenset(_package(place) for _, place in places) - {"gt"})
    return known(code.packages, (roots, places), lambda: _worked_out(code, roots, places))


def _worked_out(code: Code, roots: tuple[str, ...], places: tuple[tuple[str, str], ...]) -> dict[str, str]:
    common = code.closure(*roots)
    found = code.sums(common)
    for named, place in places:
        own = code.sums(code.closure(place) - common)
        found |= {f"{module} ({named})": text for module, text in own.items()}
    return dict(sorted(found.items()))


@cache
def _packages(names: frozenset[str]) -> Code:
    """gt's definitions and those of other packages that are installed, which are not imported for it."""
    return Code({"gt": PACKAGE, **places(names)})


def places(names: Iterable[str]) -> dict[str, Path]:
    """Where packages are: their folders, and of one that is a single module its file without the suffix."""
    found = {name: place for name in sorted(names) if (place := place_of(name)) is not None}
    return {name: place if place.is_dir() else place.with_suffix("") for name, place in found.items()}


def _package(module: str) -> str:
    return module.split(".")[0].partition(":")[0]


def of_network(code: Mapping[str, str]) -> dict[str, str]:
    """Of the code of a training, that of the network itself: another makes another function of the same weights."""
    return {part: own for part, own in code.items() if part.startswith((PLUGIN, *NETWORK)) or _is_network_of_plugin(part)}


def _is_network_of_plugin(part: str) -> bool:
    """Whether a part is a module of another package that a mixer, fusion or feed-forward layer uses."""
    module, _, used = part.partition(" (")
    return not module.startswith("gt.") and used.startswith(tuple(f"{kind} " for kind in MODEL_KINDS))


def digest(code: Mapping[str, str]) -> str:
    """16 hex digits over all of it."""
    return sha256("\n".join(f"{part} {own}" for part, own in sorted(code.items())))[:16]


def differences(recorded: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Which parts of the code are others than recorded, in words."""
    if not recorded.keys() & now.keys():
        return [f"its code was recorded by other parts ({', '.join(sorted(recorded)) or 'none'})"]
    said = []
    for part in sorted(recorded.keys() | now.keys()):
        before, after = recorded.get(part), now.get(part)
        if before == after:
            continue
        name = f"the plug-in {part.removeprefix(PLUGIN)}" if part.startswith(PLUGIN) else part
        if before is None:
            said.append(f"{name} came" + (f", version {after}" if part.startswith(PLUGIN) else ""))
        elif after is None:
            said.append(f"{name} went")
        else:
            said.append(f"{name} changed" + (f" from version {before} to {after}" if part.startswith(PLUGIN) else ""))
    return said


def plugins(spec: RunSpec) -> dict[str, str]:
    """The versions of the packages, other than gt, whose components a specification names."""
    return versions(component.module for component in used_in_training(spec))


def packages_of(spec: RunSpec) -> list[Path]:
    """Where gt is, and the other packages whose components a specification names."""
    names = {_package(component.module) for component in used_in_training(spec)} - {"gt"}
    return [PACKAGE, *places(names).values()]


def versions(modules: Iterable[str]) -> dict[str, str]:
    """The versions of the distributions that bring some modules.

    Not of the one that brings gt, nor of the project's own package, installed or not: they count by their code alone, so that
    it is all one whether the project was installed where a run was made.
    """
    names = {_package(module) for module in modules} - {"gt", project.package()}
    if not names:
        return {}
    brought = {own for name in names for own in _distributions(name)} - _distributions("gt")
    return {own: version(own) for own in sorted(brought)}


@cache
def _distributions(package: str) -> frozenset[str]:
    """Which distributions bring a package, as `importlib.metadata.packages_distributions` says it of all packages: that takes a
    second, since it makes an object of each file that is installed.
    """
    module = re.compile(rf"^{re.escape(package)}(/[^,\n]*)?\.py(,|$)", re.MULTILINE)

    def brings(own: Distribution) -> bool:
        if declared := (own.read_text("top_level.txt") or "").split():
            return package in declared
        return module.search(own.read_text("RECORD") or own.read_text("SOURCES.txt") or "") is not None

    return frozenset(own.metadata["Name"] for own in distributions() if brings(own))
