"""What is wrong with a document, in sentences: the file and line, the key, the value, what is allowed, and the nearest match.

pydantic says where a document departs from a model. What it calls the branches of a union is left out of the place, and of
several branches those count whose kind of value it is. `check_keys` looks into parts of specifications.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from gt.documents import has, mark_of, value_at
from gt.errors import ConfigError, close, nearest

Model = TypeVar("Model", bound=BaseModel)
Keys = tuple[Any, ...]
# How pydantic calls a value of the wrong kind.
KINDS = {
    "string_type": "text",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping of keys to values",
    "model_type": "a mapping of keys to values",
    "model_attributes_type": "a mapping of keys to values",
    "none_required": "null",
}
# Names become file names: no separators, no leading dot, nothing that leaves results/.
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_+-]*(\.[A-Za-z0-9_+-]+)*$"
# Layers of a model, from the bottom up.
LAYERS = r"^[a-z](\+[a-z])?(\*[1-9]\d{0,2})?( [a-z](\+[a-z])?(\*[1-9]\d{0,2})?)*$"
# Of the Hugging Face Hub: a repository, and a commit of one.
REPOSITORY = r"^[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+$"
COMMIT = "^[0-9a-f]{40}$"
# What the patterns of models ask for.
FORMS = {
    NAME_PATTERN: "a name of letters, digits, _, + and -, and single dots between them, without spaces",
    "^[a-z]$": "one letter, a to z, as a mixer has in layers",
    "^[0-9a-f]{64}$": "the 64 hex digits of a sha256",
    REPOSITORY: "an owner and a name, as the Hugging Face Hub has them: owner/name",
    COMMIT: "the 40 hex digits of a commit",
    LAYERS: "letters of mixers and pairs of them, with a space between and a number of times if it is not one: r m*2 r+m",
}


def validated(
    model: type[Model], document: Any, source: Any, about: str = "", at: Keys = (), file: Any = None, briefly: bool = False
) -> Model:
    """A document as a model. ConfigError, by file and line where the document knows them, for all that is wrong in it.

    source: the file that is read. about: what else says where this is, such as a variant. at: the keys that lead to the
    document in its file. file: all of the file, where it is known. briefly: the first that is wrong alone, as of what no
    user writes.
    """
    try:
        return model.model_validate(document)
    except ValidationError as error:
        all_ = explain(error, model, document, source, about, at, file)
        raise ConfigError(str(all_).partition("\n")[0]) if briefly else all_ from None


def explain(
    error: ValidationError, model: Any, document: Any, source: Any, about: str = "", at: Keys = (), file: Any = None
) -> ConfigError:
    """A pydantic ValidationError as one readable message, a line for each thing that is wrong."""
    lines = []
    for keys, problems in _by_place(error, document).items():
        key = ".".join(map(str, (*at, *keys)))
        for sentence in _sentences(problems, model, document, keys):
            named = (*keys, *_first_named(sentence, document, keys))
            where = place(document, named, source, about) if file is None else place(file, (*at, *named), source, about)
            lines.append(f"{where}: {key}: {sentence}" if key else f"{where}: {sentence}")
    return ConfigError("\n".join(dict.fromkeys(lines)))


def place(document: Any, keys: Keys, source: Any, about: str = "") -> str:
    """File and line of a key, and for what other file it was read, if for another."""
    mark = mark_of(document, keys)
    other = f"for {source}" if mark and str(mark.path) != str(source) else ""
    notes = ", ".join(filter(None, (other, about)))
    return f"{mark or source}" + (f" ({notes})" if notes else "")


def check_keys(type_: Any, document: Any, source: Any, at: Keys = (), file: Any = None) -> None:
    """ConfigError if a part of a document of this type has a key that the whole could not have; see `validated`."""
    for keys, sentence in _strangers((type_,), document, ()):
        where = place(document, keys, source) if file is None else place(file, (*at, *keys), source)
        raise ConfigError(f"{where}: {'.'.join(map(str, (*at, *keys)))}: {sentence}")


def _strangers(candidates: Keys, document: Any, keys: Keys) -> Iterator[tuple[Keys, str]]:
    """The keys of a document that none of the types has, what stands in place of a mapping, and unknown names, in sentences."""
    found = list(branches(candidates))
    closed = [own for own in found if _is_model(own) or (get_origin(own) is dict and _words(own))]
    names = [name for own in found for name in _names(own)]
    if isinstance(document, dict):
        if names and "name" in document and not any(_is_called(document["name"], name) for name in names):
            yield (*keys, "name"), f"unknown name {document['name']!r}." + nearest(document["name"], names)
            return
        for key, value in document.items():
            if (inside := _inside(candidates, document, key)) or not closed:
                yield from _strangers(inside, value, (*keys, key))
            else:
                yield (*keys, key), _unknown(key, candidates, document)
    elif isinstance(document, str) and names:  # of a component its name
        if document not in names:
            yield keys, f"unknown name {document!r}." + nearest(document, names)
    elif closed and len(closed) == len([own for own in found if own is not NoneType]):
        # A component may be set to null: it is then not there.
        if document is not None or not (names or NoneType in found):
            yield keys, f"{_shown(document)}: must be {KINDS['dict_type']}."
    elif isinstance(document, list):
        for i, item in enumerate(document):
            yield from _strangers(_inside(candidates, document, i), item, (*keys, i))


def _unknown(key: str, candidates: Keys, document: Any) -> str:
    if isinstance(allowed := _allowed(candidates, document), str):
        return f"unknown key {key!r}. Allowed: {allowed}."
    for type_ in filter(_is_model, _fitting(candidates, document)):
        for name, field in type_.model_fields.items():
            if owners := [own for one in branches((field.annotation,)) if key in _options(one) for own in _names(one)]:
                of = " or ".join(owners)
                return f"unknown key {key!r}. It is an option of {of}: {name}: {{name: {owners[0]}, {key}: ...}}."
    return f"unknown key {key!r}.{nearest(key, allowed)}"


def _options(type_: Any) -> set[str]:
    """Of a component, but for its name."""
    return type_.model_fields.keys() - {"name"} if _names(type_) and "name" in type_.model_fields else set()


def _allowed(candidates: Keys, document: Any) -> list[str] | str:
    """The keys that a mapping can have: each, or their form."""
    found: list[str] = []
    for type_ in _fitting(candidates, document):
        if _is_model(type_):
            found += [field.alias or name for name, field in type_.model_fields.items()]
        elif get_origin(type_) is dict:
            words = _words(type_)
            if isinstance(words, str):
                return FORMS[words]
            found += words or []
    return list(dict.fromkeys(found))


def _inside(candidates: Keys, document: Any, key: Any) -> Keys:
    """The types of what stands under a key, or at a place of a list; none where there is no such key."""
    found: list[Any] = []
    for type_ in _fitting(candidates, document):
        if _is_model(type_):
            found += [field.annotation for name, field in type_.model_fields.items() if key == (field.alias or name)]
        elif get_origin(type_) is dict:
            words = _words(type_)
            if words is None or (re.search(words, key) if isinstance(words, str) else key in words):
                found.append(get_args(type_)[1])
        elif get_origin(type_) is list and isinstance(key, int):
            found.append(get_args(type_)[0])
    return tuple(found)


def _words(type_: Any) -> list[str] | str | None:
    """What keys a dict type takes: these, those of a form, or any."""
    key = get_args(type_)[0]
    if get_origin(_bare(key)) is Literal:
        return list(get_args(_bare(key)))
    notes = [own for note in getattr(key, "__metadata__", ()) for own in getattr(note, "metadata", ())]
    return next((note.pattern for note in notes if getattr(note, "pattern", None)), None)


def branches(candidates: Keys) -> Iterator[Any]:
    """The types that unions are made of."""
    for type_ in map(_bare, candidates):
        if get_origin(type_) in (Union, UnionType):
            yield from branches(get_args(type_))
        else:
            yield type_


def _fitting(candidates: Keys, document: Any) -> list[Any]:
    """Of the models in a union those that the document's `name` (or `test`) is of; all where it has none, or an unknown one."""
    found = list(branches(candidates))
    given = (document.get("name"), document.get("test")) if isinstance(document, dict) else ()
    return [own for own in found if any(_is_called(value, tag) for tag in _names(own) for value in given)] or found


def _names(type_: Any) -> tuple[Any, ...]:
    """What the model of a component, or of a predicate, is called in a document; `file:<path>` for all that begin so."""
    fields = [type_.model_fields.get(key) for key in ("name", "test")] if _is_model(type_) else []
    return tuple(name for field in fields if field for name in (*get_args(field.annotation), *(field.examples or ())))


def _is_called(value: Any, name: str) -> bool:
    """Whether a document means a model by what it gives as its name."""
    prefix, form, _ = name.partition("<")
    return value == name or bool(form and isinstance(value, str) and value.startswith(prefix))


def _is_model(type_: Any) -> bool:
    return isinstance(type_, type) and issubclass(type_, BaseModel)


def _bare(type_: Any) -> Any:
    return _bare(get_args(type_)[0]) if get_origin(type_) is Annotated else type_


def _by_place(error: ValidationError, document: Any) -> dict[Keys, list[Any]]:
    """The problems by the keys that lead to them, without those of a union's branches for other kinds of value."""
    found = []
    wrong: dict[tuple[Keys, str], bool] = {}
    for problem in error.errors():
        keys, branches = _keys(problem, document)
        for branch in branches:
            wrong[branch] = wrong.get(branch, False) or (branch[0] == keys and problem["type"] in KINDS)
        found.append((keys, branches, problem))
    right = {place for (place, _), is_wrong in wrong.items() if not is_wrong}
    result: dict[Keys, list[Any]] = {}
    for keys, branches, problem in found:
        if not any(wrong[branch] and branch[0] in right for branch in branches):
            result.setdefault(keys, []).append(problem)
    return result


def _keys(problem: Any, document: Any) -> tuple[Keys, list[tuple[Keys, str]]]:
    """The keys of a problem's place that are in the document, and the branches of unions that pydantic names on the way."""
    keys: Keys = ()
    tags = []
    for i, part in enumerate(problem["loc"]):
        if has(document, part):
            keys, document = (*keys, part), document[part]
        elif problem["type"] == "missing" and i == len(problem["loc"]) - 1:
            keys = (*keys, part)
        elif part != "[key]":
            tags.append((keys, str(part)))
    return keys, tags


def _first_named(sentence: str, document: Any, keys: Keys) -> Keys:
    """The first of the keys under some keys that a sentence about the whole of them names, perhaps by a path."""
    document = value_at(document, keys)
    return next(
        (tuple(word.split(".")) for word in re.findall(r"\w+(?:\.\w+)*", sentence) if has(document, word.split(".")[0])), ()
    )


def _sentences(problems: list[Any], model: Any, document: Any, keys: Keys) -> Iterator[str]:
    kinds = [problem for problem in problems if problem["type"] in KINDS]
    if kinds:
        wanted = " or ".join(dict.fromkeys(KINDS[problem["type"]] for problem in kinds))
        yield f"{_shown(kinds[0]['input'])}: must be {wanted}.{_quotes(kinds[0]['input'], wanted)}"
    for problem in problems:
        if problem["type"] == "extra_forbidden":
            candidates: Keys = (model,)
            for key in keys[:-1]:
                candidates, document = _inside(candidates, document, key), document[key]
            yield _unknown(keys[-1], candidates, document)
        elif problem not in kinds:
            yield _sentence(problem)


def _sentence(problem: Any) -> str:
    value, context = problem["input"], problem.get("ctx", {})
    match problem["type"]:
        case "missing":
            return "this key is required."
        case "union_tag_invalid":
            allowed = [tag.strip(" '") for tag in context["expected_tags"].split(",")]
            return f"unknown name {context['tag']!r}." + nearest(context["tag"], allowed)
        case "union_tag_not_found":
            key = "name" if context["discriminator"].endswith("()") else context["discriminator"].strip("'")
            return f"{_shown(value)} has no {key!r}, which says what it is."
        case "value_error":
            return str(context["error"])
        case "literal_error":
            hint = close(value, re.findall("'([^']*)'", context["expected"]))
            return f"{_shown(value)} is not allowed.{hint} Allowed: {context['expected']}."
        case "string_pattern_mismatch":
            return f"{_shown(value)} is not allowed. Allowed: {FORMS.get(context['pattern'], context['pattern'])}."
        case "too_short":
            return f"{_shown(value)} is not allowed. Allowed: at least {context['min_length']} of them."
        case "string_too_long":
            return f"{_shown(value)} has {len(value)} letters. Allowed: at most {context['max_length']}."
        case _:
            return f"{_shown(value)}: {problem['msg'][0].lower()}{problem['msg'][1:]}."


def _quotes(value: Any, wanted: str) -> str:
    """How what was meant is written, where quotes decide it."""
    if "text" in wanted and isinstance(value, bool | int | float):
        return " In quotes it is text."
    if "number" in wanted and isinstance(value, str) and re.fullmatch(r"[-+]?[0-9]+(\.[0-9]*)?", value):
        return " Without quotes it is a number."
    return ""


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) < 80 else text[:77] + "..."
