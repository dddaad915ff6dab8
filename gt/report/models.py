"""What the models of studies are called and made of, from plans and the registry: nothing that a plan does not say."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gt.analysis.aggregate import SIZES
from gt.catalogue import components
from gt.report import text
from gt.report.tables import NAME, PLACE, Column, Table
from gt.spec import AuxiliaryLosses, PartTraining, Watch

if TYPE_CHECKING:
    from gt.report.numbers import Results

Json = dict[str, Any]
# A variant's name, its model as it was trained, and whether its study varied that further.
Named = tuple[str, Json, bool]


def names_table(studies: Sequence[Results]) -> Table:
    """What the short names stand for: a row a mixer, one for mixers in turn, and a row a fusion."""
    single: dict[str, list[Named]] = {}
    turns: list[Named] = []
    joined: dict[str, list[Named]] = {}
    for own in studies:
        for cell in own.plan.cells:
            model = own.plan.spec(cell).model.model_dump(mode="json")
            named = (cell.variant, model, bool(cell.factors))
            if model["fusion"]:
                joined.setdefault(model["fusion"]["name"], []).append(named)
            elif len(mixers := _mixers(model)) == 1:
                single.setdefault(mixers[0], []).append(named)
            else:
                turns.append(named)
    usual = Counter(_mixers(model) for found in joined.values() for _, model, _ in found).most_common(1)
    baselines = {own.baseline for own in studies}
    rows = [_mixer_row(mixer, found, baselines) for mixer, found in single.items()]
    rows += [_turns_row(turns)] if turns else []
    rows += [_fusion_row(fusion, found, usual[0][0]) for fusion, found in joined.items()]
    columns = (
        Column("models", "Models", "left", wraps=True),
        Column("about", "What they are", "left", wraps=True),
        Column("formula", "Formula", "left", wraps=True),
    )
    pair = f", {text.listed(list(usual[0][0]))} where nothing else is said" if usual else ""
    caption = (
        f"What the names stand for: models of one mixer, and models that join two{pair}; r and m are what the first and the "
        "second mixer give for the same input. Longer names add what was changed: the tables of models tell it."
    )
    return Table("names", caption, columns, tuple(rows))


def _mixers(model: Json) -> tuple[str, ...]:
    return tuple(dict.fromkeys(mixer["name"] for mixer in model["mixers"].values()))


def _mixer_row(mixer: str, found: list[Named], baselines: set[str]) -> Json:
    """Models that have this mixer alone: of each kind of norm and positions a baseline, or the shortest name."""
    kinds: dict[tuple[Any, Any], str] = {}
    for name, model, _ in sorted(found, key=lambda own: (own[0] not in baselines, len(own[0]))):
        kinds.setdefault((model.get("norm_position"), model.get("positions")), name)
    known = components("mixer")[mixer]
    return {"models": ", ".join(kinds.values()), "about": _plain(known.summary), "formula": _plain(known.formula)}


def _turns_row(found: list[Named]) -> Json:
    """Models whose layers have one mixer each, in turn."""
    orders = dict.fromkeys(f"{name} ({model['layers']})" for name, model, _ in found)
    letters = {letter: mixer["name"] for _, model, _ in found for letter, mixer in model["mixers"].items()}
    legend = text.listed([f"{letter} is {mixer}" for letter, mixer in letters.items()])
    about = f"A mixer a layer, in the order that the letters give: {legend}."
    return {"models": ", ".join(orders), "about": about, "formula": ""}


def _fusion_row(fusion: str, found: list[Named], usual: tuple[str, ...]) -> Json:
    """The plainest model with a fusion, and those called after it that differ in the fusion's options alone."""
    first, plain, _ = min(found, key=lambda own: (_mixers(own[1]) != usual, len(own[0])))
    names = {first: first}
    for name, model, varied in found:
        changed = _options(model["fusion"], plain["fusion"])
        if changed and not varied and name.startswith(f"{first}-") and {**model, "fusion": None} == {**plain, "fusion": None}:
            names[name] = f"{name} ({changed})"
    known, mixers = components("fusion")[fusion], _mixers(plain)
    others = "" if mixers == usual else f" Of {text.listed(list(mixers))}."
    return {"models": ", ".join(names.values()), "about": _plain(known.summary) + others, "formula": _plain(known.formula)}


def _plain(words: str) -> str:
    """Without the marks of code, which tables do not have."""
    return words.replace("`", "")


def models_table(results: Results) -> Table:
    """What each model has and costs, and in what it differs from the baseline. A row where settings change none of that."""
    baselines = {(row["corpus"], row["tokenizer"], row["factors"]): row for row in _baselines(results)}
    first = next(iter(baselines.values()))
    rows: dict[tuple[Any, ...], Json] = {}
    for row in results.run_cells:
        base = baselines.get((row["corpus"], row["tokenizer"], row["factors"]), first)
        differs = differences(_spec(results, row), _spec(results, base)) or "nothing but seeds"
        if row["variant"] == results.baseline:
            differs = "the baseline"
        place = (row["variant"], row["corpus"], row["tokenizer"])
        rows.setdefault((*place, *(row[size] for size in SIZES), differs), {**row, "differs": differs})
    several = Counter(key[:3] for key in rows)
    for key, row in rows.items():
        row["label"] = row["variant"] if several[key[:3]] == 1 else row["label"]
    columns = (
        NAME,
        *PLACE,
        Column("n_params", "Parameters", shown=text.count),
        Column("n_params_non_embedding", "without embeddings", shown=text.count),
        Column("state_size", "State (floats)", shown=text.count),
        Column("flops_per_token", "FLOPs/token", shown=text.count),
        Column("differs", "Differs from the baseline in", "left", wraps=True),
    )
    caption = "The models. State: floats carried from one token to the next; for attention, its cache at the trained length."
    return Table("models", caption, columns, tuple(rows.values()))


def _baselines(results: Results) -> list[Json]:
    return [row for row in results.cell_rows_in_order if row["variant"] == results.baseline]


def _spec(results: Results, row: Json) -> Json:
    """The specification of a cell's runs, but for the seed."""
    cell = next(cell for cell in results.plan.cells if cell.id == row["cell"])
    return results.plan.spec(cell).model_dump(mode="json")


def differences(spec: Json, base: Json) -> str:
    """In what a run's model and training differ from another's: fusion: gate_init=0.3; mixer r: rwkv6_record (form=cuda)."""
    model, other = spec["model"], base["model"]
    found = []
    for key in [key for key in model if model[key] != other.get(key)]:
        if key == "mixers":
            for letter, own in model[key].items():
                if own != (before := other[key].get(letter)):
                    found.append(f"mixer {letter}: {_component('mixer', own, before)}")
        elif key in ("fusion", "feed_forward"):
            found.append(f"{_words(key)}: {_component(key, model[key], other.get(key))}")
        else:
            found.append(_setting(key, model[key], other.get(key)))
    training, before = spec["training"], base["training"]
    decides = [key for key in training if key not in Watch.model_fields]
    found += [_setting(key, training[key], before.get(key)) for key in decides if training[key] != before.get(key)]
    return "; ".join(found)


def _component(kind: str, own: Json | None, before: Json | None) -> str:
    """What changed in a component; of another one its name, and the options that are not its defaults."""
    if own is None:
        return "none"
    if before and own["name"] == before["name"]:
        return _options(own, before)
    defaults = {name: default for name, (_, default) in components(kind)[own["name"]].options.items()}
    changed = _options(own, {"name": own["name"], **defaults})
    return f"{own['name']} ({changed})" if changed else str(own["name"])


def _setting(key: str, own: Any, before: Any) -> str:
    """A setting; of one that has several, those that changed."""
    if key == "parts":
        defaults = PartTraining().model_dump()
        changed = (f"{part} ({_options(options, (before or {}).get(part, defaults))})" for part, options in own.items())
        return f"training of {text.listed(list(changed))}"
    if key == "optimizer":
        return f"optimizer {_component(key, own, before)}"
    if isinstance(own, dict) and own:
        if before is None and key == "auxiliary":
            before = AuxiliaryLosses().model_dump()
        return f"{_words(key)}: {_options(own, before or {})}"
    return f"{_words(key)} {_value(own)}"


def _options(own: Json, before: Json) -> str:
    return ", ".join(f"{key}={_value(value)}" for key, value in own.items() if value != before.get(key))


def _words(key: str) -> str:
    return key.replace("_", " ")


def _value(value: Any) -> str:
    return "none" if value is None else json.dumps(value).replace('"', "") if isinstance(value, bool | list) else str(value)
