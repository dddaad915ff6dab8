"""One step, kernel by kernel, for the documentation: a picture and two tables of what `gt bench step` keeps."""

from __future__ import annotations

import html
from collections import defaultdict
from collections.abc import Iterator

from gt.bench.events import KINDS, OTHER, Event
from gt.report.drawing import COLOURS

COLOUR = dict(zip((*(kind for kind, _ in KINDS), OTHER), COLOURS, strict=False))
WIDTH, MARGIN, LANE, GAP = 1000, 90, 34, 8  # of the picture, in pixels
INK = "#64748b"  # is read on white and on black
LINES = 12  # of the table of kernels


def picture(events: list[Event], title: str) -> str:
    """A picture of one step as SVG: a lane for each stream, a bar for each kernel, coloured by its kind."""
    streams = list(dict.fromkeys(event.stream for event in sorted(events, key=lambda event: event.start)))
    end = max(event.start + event.us for event in events)
    scale = (WIDTH - MARGIN - 10) / end
    height = 46 + len(streams) * (LANE + GAP) + 58
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img"'
        ' font-family="sans-serif" font-size="12">',
        f"<title>{html.escape(title)}</title>",
        _text(MARGIN, 20, title),
    ]
    for i, stream in enumerate(streams):
        y = 36 + i * (LANE + GAP)
        lines.append(_text(MARGIN - 8, y + 21, f"stream {i + 1}", "end"))
        lines.append(f'<rect x="{MARGIN}" y="{y}" width="{end * scale:.1f}" height="{LANE}" fill="#94a3b8" opacity=".15"/>')
        for kind, colour in COLOUR.items():
            own = [event for event in events if event.stream == stream and event.kind == kind]
            bars = "".join(_bar(event, y, scale) for event in own)
            lines += [f'<g fill="{colour}">{bars}</g>'] if own else []
    lines += _scale(end, scale, 36 + len(streams) * (LANE + GAP))
    return "\n".join([*lines, "</svg>", ""])


def _bar(event: Event, y: float, scale: float) -> str:
    x, width = MARGIN + event.start * scale, max(event.us * scale, 0.2)
    moved = f", {event.bytes / 1e6:.1f} MB" if event.bytes else ""
    about = html.escape(f"{event.name[:80]}: {event.us:.1f} us{moved}")
    return f'<rect x="{x:.2f}" y="{y}" width="{width:.2f}" height="{LANE}"><title>{about}</title></rect>'


def _scale(end: float, scale: float, y: float) -> Iterator[str]:
    """The axis of time, and what the colours mean."""
    tick = next(unit * power for power in (10.0**n for n in range(9)) for unit in (1, 2, 5) if end / (unit * power) <= 12)
    for i in range(int(end / tick) + 1):
        x = MARGIN + i * tick * scale
        yield f'<path d="M{x:.1f} {y}v5" stroke="{INK}"/>'
        yield _text(x, y + 18, f"{i * tick / 1e3:g}{' ms' if i == 0 else ''}", "middle")
    for i, (kind, colour) in enumerate(COLOUR.items()):
        x = MARGIN + i * (WIDTH - MARGIN) / len(COLOUR)
        yield f'<rect x="{x:.1f}" y="{y + 30}" width="12" height="12" fill="{colour}"/>'
        yield _text(x + 18, y + 41, kind)


def _text(x: float, y: float, words: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y}" text-anchor="{anchor}" fill="{INK}">{html.escape(words)}</text>'


def tables(events: list[Event]) -> Iterator[str]:
    """Two tables in Markdown: by kind, and of the kernels that take longest."""
    kinds, names = defaultdict(list), defaultdict(list)
    for event in events:
        kinds[event.kind].append(event)
        names[event.name].append(event)
    for title, groups, most in (("kind", kinds, len(kinds)), ("kernel", names, LINES)):
        yield f"| {title} | calls | us | MB, where known | TB/s |"
        yield "| --- | --- | --- | --- | --- |"
        for name, own in sorted(groups.items(), key=lambda item: -sum(event.us for event in item[1]))[:most]:
            shown = f"`{name[:60]}`" if title == "kernel" else name
            yield f"| {shown} | {len(own)} | {sum(event.us for event in own):,.0f} | {_moved(own)} |"
        yield ""


def _moved(events: list[Event]) -> str:
    """Two cells: megabytes of those whose bytes are known, and how fast these go."""
    known = [event for event in events if event.bytes]
    if not known:
        return "| "
    total, us = sum(event.bytes or 0 for event in known), sum(event.us for event in known)
    share = "" if len(known) == len(events) else f" ({len(known)} of {len(events)})"
    return f"{total / 1e6:,.1f}{share} | {total / us / 1e6:.2f}"
