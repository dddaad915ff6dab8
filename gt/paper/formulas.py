"""Formulas: as typst writes them, set by typst in a PDF, and here as MathML for a browser and as plain words for Markdown.

Of typst's mathematics this knows names of one letter, Greek letters and a few signs by name, words in quotes, numbers,
operators, brackets, `_` and `^`, and `/` as a fraction.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from gt.errors import ConfigError, nearest

GREEK = dict(
    zip(
        (
            "alpha",
            "beta",
            "gamma",
            "delta",
            "epsilon",
            "eta",
            "theta",
            "lambda",
            "mu",
            "pi",
            "rho",
            "sigma",
            "tau",
            "Delta",
            "Sigma",
        ),
        "αβγδεηθλμπρστΔΣ",
        strict=True,
    )
)
SIGNS = {"dot": "⋅", "times": "×", "in": "∈", "approx": "≈", "sum": "∑", "plus.minus": "±", "-": "−"}
FUNCTIONS = ("log", "exp", "max", "min", "mod")
TOKEN = re.compile(r'\s*("[^"]*"|[A-Za-z]+(?:\.[a-z]+)?|\d+(?:\.\d+)?|[<>!]=|\S)')
OPENING, CLOSING = "([{", ")]}"


@dataclass(frozen=True)
class Node:
    """A part of a formula. kind: a MathML element (mi, mn, mo, mtext, mrow, msub, msup, mfrac); text: of the first four."""

    kind: str
    text: str = ""
    parts: tuple[Node, ...] = ()


def mathml(source: str) -> Markup:
    """For a page of HTML, without anything else."""
    return Markup('<math aria-label="{}">{}</math>').format(plain(source), _html(parsed(source)))


def plain(source: str) -> str:
    """In a line of words."""
    return re.sub(r"\s+", " ", _plain(parsed(source))).strip()


def parsed(source: str) -> Node:
    """ConfigError for a name that stands for nothing, or a bracket without its partner."""
    tokens = [token for token in TOKEN.findall(source) if token.strip()]
    node, rest = _row(tokens, "")
    if rest:
        raise ConfigError(f"${source}$: the bracket {rest[0]} closes nothing.")
    return node


def _row(tokens: Sequence[str], until: str) -> tuple[Node, Sequence[str]]:
    """Parts up to a closing bracket, and what follows, the bracket first."""
    parts: list[Node] = []
    while tokens and tokens[0] not in CLOSING:
        if tokens[0] in "/_^":
            sign, tokens = tokens[0], tokens[1:]
            if not tokens or not parts:
                raise ConfigError(f"a formula has {sign} with nothing {'before' if not parts else 'after'} it.")
            other, tokens = _one(tokens)
            kind = {"/": "mfrac", "_": "msub", "^": "msup"}[sign]
            parts[-1] = Node(kind, parts=(_bare(parts[-1]) if sign == "/" else parts[-1], _bare(other)))
        else:
            part, tokens = _one(tokens)
            parts.append(part)
    if until and not tokens:
        raise ConfigError(f"a formula lacks the bracket {until}.")
    return Node("mrow", parts=tuple(parts)), tokens


def _one(tokens: Sequence[str]) -> tuple[Node, Sequence[str]]:
    token, rest = tokens[0], tokens[1:]
    if token in OPENING:
        closing = CLOSING[OPENING.index(token)]
        inner, rest = _row(rest, closing)
        if rest[0] != closing:
            raise ConfigError(f"a formula has {rest[0]} where {token} is to be closed.")
        return Node("mrow", parts=(Node("mo", token), *inner.parts, Node("mo", closing))), rest[1:]
    if token[0] == '"':
        return Node("mtext", token[1:-1]), rest
    if token[0].isdigit():
        return Node("mn", token), rest
    if token in "#@\\$":  # with which typst leaves mathematics
        raise ConfigError(f"a formula has {token}, which is no mathematics.")
    if token in SIGNS:
        return Node("mo", SIGNS[token]), rest
    if token in GREEK or (token.isalpha() and len(token) == 1):
        return Node("mi", GREEK.get(token, token)), rest
    if token in FUNCTIONS:
        return Node("mi", token), rest
    if token[0].isalpha():
        raise ConfigError(
            f"a formula has the name {token!r}, which stands for nothing." + nearest(token, (*GREEK, *SIGNS, *FUNCTIONS))
        )
    return Node("mo", token), rest


def _bare(node: Node) -> Node:
    """Without the brackets that only hold it together, as typst does it."""
    bracketed = node.kind == "mrow" and len(node.parts) > 1 and node.parts[0] == Node("mo", "(")
    return Node("mrow", parts=node.parts[1:-1]) if bracketed else node


def _html(node: Node) -> Markup:
    inner = Markup("").join(map(_html, node.parts)) if node.parts or node.kind == "mrow" else escape(node.text)
    # A bracket is as high as the line; stretched it would be as high as what it holds, with every index.
    flat = Markup(' stretchy="false"') if node.kind == "mo" and node.text in OPENING + CLOSING else ""
    return Markup("<{0}{1}>{2}</{0}>").format(node.kind, flat, inner)


def _plain(node: Node) -> str:
    match node.kind:
        case "mrow":
            return "".join(_joined(node.parts))
        case "mfrac" | "msub" | "msup":
            a, b = map(_plain, node.parts)
            a, b = (f"({own.strip()})" if " " in own.strip() else own.strip() for own in (a, b))
            return f" {a} {'/'} {b} " if node.kind == "mfrac" else f" {a}{'_' if node.kind == 'msub' else '^'}{b} "
        case "mo" if node.text in OPENING:
            return f" {node.text}"
        case "mo" if node.text in (*CLOSING, ","):
            return f"{node.text} "
        case _:
            return f" {node.text} "


def _joined(parts: Sequence[Node]) -> list[str]:
    """Without spaces inside of brackets and before commas."""
    made = "".join(map(_plain, parts))
    return [re.sub(r"\s+([)\]},])", r"\1", re.sub(r"([(\[{])\s+", r"\1", made))]
