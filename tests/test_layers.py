"""Imports point down the layers, nowhere in a circle, and never from gt to what is outside of it."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter

import pytest
from grimp import ImportGraph, Layer, build_graph

# From the top. What stands in one layer may import each other; what stands in none may be imported, but not as a way up.
LAYERS = (
    ("cli",),
    ("paper",),
    ("report", "tracking"),
    ("analysis",),
    ("evals", "probes"),
    ("training",),
    ("models",),
    ("ops", "data"),
    ("spec", "seeds"),
    ("catalogue", "options", "errors"),
)


@pytest.fixture(scope="module")
def graph() -> ImportGraph:
    """Of all imports, also inside of functions, but for those that only a type checker follows."""
    return build_graph("gt", "gt_upstream", exclude_type_checking_imports=True, cache_dir=None)


def test_imports_point_down_the_layers(graph: ImportGraph) -> None:
    layers = [Layer(*names, independent=False) for names in LAYERS]
    found = graph.find_illegal_dependencies_for_layers(layers, containers={"gt"})
    ways = [" > ".join((*sorted(route.heads), *route.middle, *sorted(route.tails))) for own in found for route in own.routes]
    assert ways == []


def test_every_layer_is_there_and_upside_down_they_are_refused(graph: ImportGraph) -> None:
    layers = [Layer(*names, independent=False) for names in LAYERS]
    assert {f"gt.{name}" for names in LAYERS for name in names} <= graph.modules
    assert len(graph.find_illegal_dependencies_for_layers(layers[::-1], containers={"gt"})) > len(LAYERS)


def test_no_imports_go_round_in_a_circle(graph: ImportGraph) -> None:
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        pytest.fail(" > ".join(reversed(error.args[1])))


def test_gt_imports_no_plug_in(graph: ImportGraph) -> None:
    own = {module for module in graph.modules if module.startswith("gt.")}
    outside = {module for module in graph.modules if module.startswith("gt_upstream")}
    assert {name for module in own for name in graph.find_modules_directly_imported_by(module)} & outside == set()
