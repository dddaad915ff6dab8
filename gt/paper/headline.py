"""What stands at the top of the README: a paper's questions in one figure, and what was found in three sentences of it."""

from __future__ import annotations

from pathlib import Path

from gt.errors import ConfigError
from gt.paper.build import Paper
from gt.paper.write import markdown
from gt.report.tables import markdown_words

# Its figure, seen from the README.
FIGURE = Path("docs/headline.png")
START, END = "<!-- headline: written by gt headline -->\n", "<!-- end of the headline -->"


def headline(paper: Paper, place: Path) -> str:
    """The figure and the sentences. place: the folder of the paper, seen from the README."""
    sentences = "\n\n".join(markdown(words) for words in paper.sentences)
    links = f"[{markdown_words(paper.document.title)}]({place.as_posix()}/paper.pdf)"
    about = "Differences in bits per byte of held-out text, with 95 % intervals over seeds; lower is better."
    return (
        f"![{markdown_words(paper.questions.alt)}]({FIGURE.as_posix()})\n\n*{about}*\n\n{sentences}\n\n"
        f"The paper: {links}, also [as a page]({place.as_posix()}/paper.html). `make report` makes it and all "
        "reports again from the records, and `make headline` this.\n"
    )


def insert(readme: str, block: str, start: str = START, end: str = END) -> str:
    """The README with what stands between two marks replaced. ConfigError where the README has no place for it."""
    before, found, rest = readme.partition(start)
    _, ended, after = rest.partition(end)
    if not (found and ended):
        raise ConfigError(f"README: the lines {start.strip()!r} and {end!r} are needed, in this order.")
    return before + start + "\n" + block + "\n" + end + after
