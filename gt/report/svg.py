"""SVG as matplotlib writes it, made small: what nobody sees is left out, and what is said everywhere is said once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

NAMESPACE, LINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
# Text is text, which is small and can be searched. Other fonts are no wider than the first, with which figures are laid out.
FONTS = "DejaVu Sans, Verdana, sans-serif"
# Of all figures. What a style says of these, or as SVG has it anyway, it need not say.
COMMON = {"font-family": FONTS, "stroke-linejoin": "round"}
PLAIN = {"stroke-dashoffset": "0", "text-anchor": "start"}
# The decimals of places, in points, and of the outlines of markers.
PLACES, FINE = 1, 2
# How the style of a path begins of which only the markers are seen.
MARKED = "fill:none;marker:"
# Of what a drawing tells a reader's pointer: how the id of an artist that has a name begins, and the attributes that say it.
NAMED, SERIES, AXES = "series:", "data-series", "data-axes"
# How matplotlib draws a circle: around nothing, from below.
CIRCLE = re.compile(r"M 0 ([\d.]+)\s+(C[^CLMQZz]+){8}z\s*$")

ElementTree.register_namespace("", NAMESPACE)


def small(source: str, axes: Sequence[str] = ()) -> str:
    """The same picture, in a fraction of the bytes. axes: what is to be said of each pair, in the order of the figure.

    Without metadata, comments, indentation, groups that group nothing, shapes without paint, and ids that nothing names. Places
    are to a tenth of a point, styles are classes, and the lines of an axis and the markers of a line are one path each.
    """
    root = ElementTree.fromstring(source)
    picture = _Picture(root, axes)
    picture.shrink(root)
    del root.attrib["version"]
    root.attrib |= COMMON
    style = Element(_tag("style"))
    style.text = "".join(f".{name}{{{said}}}" for said, name in picture.classes.items())
    root[:0] = [style, *picture.markers.values()]
    return ElementTree.tostring(root, encoding="unicode").replace(" />", "/>") + "\n"


def size(file: Path) -> tuple[float, float]:
    """Width and height of a picture in points."""
    with file.open(encoding="utf-8") as source:
        width, height = re.findall(r'(?:width|height)="([\d.]+)pt"', source.read(1000))[:2]
    return float(width), float(height)


def outline(d: str, places: int = PLACES, x: float = 0, y: float = 0) -> str:
    """A path of M, L, Q, C and z, moved by x and y, in relative coordinates of so many decimals.

    Each point is rounded from its true place, so that errors do not add up.
    """
    written, before, at, start = "", "", (0, 0), (0, 0)
    for command, numbers in re.findall(r"([A-Za-z])([^A-Za-z]*)", d):
        place = [round((float(n) + (x, y)[i % 2]) * 10**places) for i, n in enumerate(numbers.split())]
        moved, own = [n - at[i % 2] for i, n in enumerate(place)], command.lower()
        if command == "M":
            moved, own, start = place, command, (place[0], place[1])
        elif command == "L" and 0 in moved:
            moved, own = (moved[:1], "h") if moved[1] == 0 else (moved[1:], "v")
        at = (place[-2], place[-1]) if place else start
        written += (" " if own == before else own) + " ".join(_decimal(n, places) for n in moved)
        before = own
    return written.replace(" -", "-")


def _decimal(n: int, places: int) -> str:
    """So many parts of ten, a hundred ..: 12 -> 1.2, -5 -> -.5"""
    text = f"{n / 10**places:.{places}f}".rstrip("0").rstrip(".")
    return re.sub(r"^(-?)0(?=\.)", r"\1", text)


class _Picture:
    """What the parts of a picture share.

    shapes: the elements with an id. ids: the new ids of what is named; classes: the names of styles, by what they say; markers:
    by outline and class. Names are counted, which keeps them short.
    """

    def __init__(self, root: Element, axes: Sequence[str] = ()) -> None:
        self.axes = {f"axes_{i}": said for i, said in enumerate(axes, 1)}
        self.shapes = {own.get("id"): own for own in root.iter()}
        self.ids: dict[str, str] = {}
        self.classes: dict[str, str] = {}
        self.markers: dict[tuple[str, str], Element] = {}

    def shrink(self, parent: Element) -> None:
        """An element and all in it."""
        if _kind(parent) not in ("text", "tspan"):
            parent.text = None
        is_axis = parent.get("id", "").startswith("matplotlib.axis")
        self.describe(parent)
        children: list[Element] = []
        for child in parent:
            child.tail = None
            if _is_unseen(child) or (_kind(parent) == "defs" and _kind(child) != "clipPath"):
                continue
            self.shrink(child)
            if _kind(child) == "g" and not child.attrib:
                children += child
            elif _kind(child) == "g" and len(child) == 1 and not {"clip-path", "transform"} & set(child[0].attrib):
                children.append(child[0])
                children[-1].attrib |= child.attrib
            elif len(child) or _kind(child) not in ("g", "defs"):
                children.append(child)
        children.sort(key=_axis_order if is_axis else lambda own: [])
        made = [own for _, same in groupby(children, _look) for own in self.made(list(same), is_axis)]
        parent[:] = _grouped(_grouped(_on_lines(made, self.marked), "clip-path", ("path", "circle")), "class", ("text",))

    def describe(self, element: Element) -> None:
        """Its attributes in their shortest form. What uses a shape gets the shape's outline and style for it."""
        if _kind(element) == "use":
            shape = self.shapes[element.attrib.pop(f"{{{LINK}}}href")[1:]]
            element.set("d", shape.get("d", ""))
            element.set("style", f"{element.get('style', '')};{shape.get('style', '')}")
        found: dict[str, str] = {}
        for name, value in element.attrib.items():
            match str(name):
                case "id" if value in self.axes:
                    found[AXES] = self.axes[value]
                case "id" if value.startswith(NAMED):
                    found[SERIES] = value.removeprefix(NAMED)
                case "id":
                    found[name] = self.id(value) if _kind(element) == "clipPath" else ""
                case "clip-path":
                    found[name] = f"url(#{self.id(value[5:-1])})"
                case "style":
                    found["class"] = self.style(value)
                case "d" if _kind(element) == "path":
                    found[name] = outline(value)
                case "transform":
                    found[name] = _moved(value)
                case "x" | "y" | "width" | "height" if _kind(element) in ("text", "tspan", "rect", "image"):
                    found[name] = _rounded(value)
                case _:
                    found[name.rpartition("}")[2]] = value
        element.attrib = {name: value for name, value in found.items() if value}

    def id(self, name: str) -> str:
        return self.ids.setdefault(name, f"i{len(self.ids):x}")

    def style(self, style: str) -> str:
        """The class of a style, of which a later part overrides an earlier one."""
        pairs = dict(re.split(r":\s*", own, maxsplit=1) for own in re.split(r";\s*", style) if own)
        said = ";".join(f"{key}:{own}" for key, own in pairs.items() if key not in COMMON and PLAIN.get(key) != own)
        return self.classes.setdefault(said, f"s{len(self.classes):x}") if said else ""

    def made(self, same: list[Element], apart: bool) -> list[Element]:
        """Fewer elements for those of one look that follow each other. apart: lines do not overlap each other.

        A shape that is used once is drawn where it is; many of one shape are the markers of a path.
        """
        look, kind = same[0].get("class", ""), _kind(same[0])
        if kind == "path" and (apart or look in self.opaque_lines):
            same[0].set("d", "".join(own.get("d", "") for own in same))
            return same[:1]
        if kind != "use":
            return same
        d, clip = same[0].get("d", ""), {key: value for key, value in same[0].attrib.items() if key == "clip-path"}
        places = list(dict.fromkeys((float(own.get("x", 0)), float(own.get("y", 0))) for own in same))
        if len(places) == 1:
            return [_drawn(d, {"class": look, **clip}, *places[0])]
        if (marker := self.markers.get((d, look))) is None:
            shown = {"id": self.id(f"{d} {look}"), "overflow": "visible", "markerUnits": "userSpaceOnUse"}
            self.markers[d, look] = marker = Element(_tag("marker"), shown)
            marker.append(_drawn(d, {"class": look}))
        through = outline(" ".join(f"{'L' if i else 'M'} {x} {y}" for i, (x, y) in enumerate(places)))
        return [Element(_tag("path"), {"d": through, "class": self.style(f"{MARKED}url(#{marker.get('id')})"), **clip})]

    @property
    def opaque_lines(self) -> set[str]:
        """The classes of which one path looks as many do, also where they overlap."""
        return {name for said, name in self.classes.items() if "fill:none" in said and "opacity" not in said}

    @property
    def marked(self) -> set[str]:
        """The classes of paths that are seen by their markers alone."""
        return {name for said, name in self.classes.items() if said.startswith(MARKED)}


def _drawn(d: str, attributes: dict[str, str], x: float = 0, y: float = 0) -> Element:
    """An outline around a place: as a circle if it is one."""
    if circle := CIRCLE.match(d):
        centre = {name: _decimal(round(own * 100), 2) for name, own in (("cx", x), ("cy", y)) if own}
        return Element(_tag("circle"), {**centre, "r": _decimal(round(float(circle[1]) * 100), 2), **attributes})
    return Element(_tag("path"), {"d": outline(d, FINE, x, y), **attributes})


def _on_lines(elements: list[Element], marked: set[str]) -> list[Element]:
    """Markers that stand on the line before them become the line's. marked: the classes of markers."""
    made: list[Element] = []
    for own in elements:
        if own.get("class") in marked and made and all(made[-1].get(name) == own.get(name) for name in ("d", "clip-path")):
            made[-1].set("class", f"{made[-1].get('class')} {own.get('class')}")
        else:
            made.append(own)
    return made


def _grouped(elements: list[Element], name: str, kinds: tuple[str, ...]) -> list[Element]:
    """Elements of these kinds that follow each other and share an attribute are a group that has it."""
    made: list[Element] = []
    for value, same in groupby(elements, lambda own: own.get(name) if _kind(own) in kinds else None):
        some = list(same)
        if value is None or len(some) == 1:
            made += some
        else:
            group = Element(_tag("g"), {name: value})
            for own in some:
                del own.attrib[name]
                group.append(own)
            made.append(group)
    return made


def _axis_order(element: Element) -> list[tuple[str, str]]:
    """An axis' words after its lines, which do not overlap; of one look together."""
    return [("", str(_kind(element) == "text")), *_look(element)]


def _look(element: Element) -> list[tuple[str, str]]:
    """All that is said of an element but where it is."""
    place = ("d",) if _kind(element) == "path" else ("x", "y")
    return [("", element.tag), *sorted(own for own in element.attrib.items() if own[0] not in place)]


def _is_unseen(element: Element) -> bool:
    return _kind(element) in ("metadata", "style") or (_kind(element) == "path" and element.get("style") == "fill: none")


def _kind(element: Element) -> str:
    return element.tag.rpartition("}")[2]


def _tag(kind: str) -> str:
    return f"{{{NAMESPACE}}}{kind}"


def _moved(transform: str) -> str:
    """A transformation, of which places and angles are rounded, and no turn is none."""
    shown = re.sub(r"(translate|rotate)\([^)]*\)", lambda own: _rounded(own[0]), transform)
    return re.sub(r"rotate\(-?0(?: [^)]*)?\)", "", shown).strip()


def _rounded(numbers: str) -> str:
    return re.sub(r"-?\d+\.\d+", lambda own: f"{float(own[0]):.{PLACES}f}".removesuffix(".0"), numbers)
