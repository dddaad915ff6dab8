"""SVG as matplotlib writes it, made small: what nobody sees is left out, and what is said everywhere is said once."""

from __future__ import annotations

import re
import zlib
from pathlib import Path
from xml.etree import ElementTree

NAMESPACE = "http://www.w3.org/2000/svg"
# Text is text, which is small and can be searched. Other fonts are no wider than the first, with which figures are laid out.
FONTS = "DejaVu Sans, Verdana, sans-serif"
# Of all figures. What a style says of these, or as SVG has it anyway, it need not say.
COMMON = {"font-family": FONTS, "stroke-linejoin": "round"}
PLAIN = {"stroke-dashoffset": "0", "text-anchor": "start"}

ElementTree.register_namespace("", NAMESPACE)


def small(source: str) -> str:
    """The same picture, in a fraction of the bytes.

    Without metadata, comments, indentation, groups that group nothing, and ids that nothing names; coordinates are to
    hundredths of a point. Styles are classes, named by what they say, so that figures on one page may share them.
    """
    root = ElementTree.fromstring(source)
    ids = {own: f"i{i}" for i, own in enumerate(dict.fromkeys(re.findall(r'(?:href="|url\()#([^")]+)', source)))}
    classes: dict[str, str] = {}
    _shrink(root, ids, classes)
    root.attrib |= COMMON
    style = ElementTree.Element(f"{{{NAMESPACE}}}style")
    style.text = "".join(f".{name}{{{said}}}" for said, name in classes.items())
    root.insert(0, style)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def size(file: Path) -> tuple[float, float]:
    """Width and height of a picture in points."""
    with file.open(encoding="utf-8") as source:
        width, height = re.findall(r'(?:width|height)="([\d.]+)pt"', source.read(1000))[:2]
    return float(width), float(height)


def _shrink(parent: ElementTree.Element, ids: dict[str, str], classes: dict[str, str]) -> None:
    """An element and all in it. ids: the new ids of what is named; classes: by style, which are added to."""
    if _kind(parent) not in ("text", "tspan"):
        parent.text = None
    parent.attrib = dict(own for name, value in parent.attrib.items() if (own := _attribute(name, value, ids, classes))[1])
    children: list[ElementTree.Element] = []
    for child in parent:
        child.tail = None
        if _kind(child) in ("metadata", "style"):
            continue
        _shrink(child, ids, classes)
        if _kind(child) == "g" and not child.attrib:
            children += child
        elif len(child) or _kind(child) not in ("g", "defs"):
            children.append(child)
    parent[:] = children


def _kind(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _attribute(name: str, value: str, ids: dict[str, str], classes: dict[str, str]) -> tuple[str, str]:
    """Its name and value in their shortest form; an empty value where it says nothing."""
    match name := name.rpartition("}")[2]:
        case "id":
            return name, ids.get(value, "")
        case "href":
            return name, f"#{ids[value[1:]]}" if value.startswith("#") else value
        case "clip-path":
            return name, f"url(#{ids[value[5:-1]]})"
        case "style":
            pairs = [re.split(r":\s*", own, maxsplit=1) for own in re.split(r";\s*", value) if own]
            said = ";".join(f"{key}:{own}" for key, own in pairs if key not in COMMON and PLAIN.get(key) != own)
            return "class", classes.setdefault(said, f"s{zlib.crc32(said.encode()):x}") if said else ""
        case "transform":
            return name, _rounded(re.sub(r"rotate\(-?0(?: [^)]*)?\)", "", value)).strip()
        case "d":
            return name, re.sub(r"\s*([A-Za-z])\s*", r"\1", _rounded(value)).strip()
        case "x" | "y" | "width" | "height":
            return name, _rounded(value)
        case _:
            return name, value


def _rounded(numbers: str) -> str:
    return re.sub(r"-?\d+\.\d{3,}", lambda own: f"{float(own[0]):.2f}".rstrip("0").rstrip("."), numbers)
