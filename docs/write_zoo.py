"""Writes what is known of the packaged checkpoints into `zoo.md`, from the JSON files beside them.

    python docs/write_zoo.py

A test tells when that is due.
"""

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

from whatwhere.examples.zoo import Packaged, packaged

PAGE = Path(__file__).parent / "zoo.md"
_NO_BREAK = "\0"
_MARKS = ("<!-- written by docs/write_zoo.py -->\n", "<!-- until here -->\n")


def with_facts(page: str) -> str:
    """The page with what is known now between its marks."""
    begin, end = (re.escape(mark) for mark in _MARKS)
    text = _MARKS[0] + "\n".join(_facts()) + "\n" + _MARKS[1]
    return re.sub(f"{begin}.*{end}", lambda _: text, page, flags=re.DOTALL)


def _facts() -> Iterator[str]:
    yield "| name | what it is | result | size | licence |"
    yield "|---|---|---|---|---|"
    for one in packaged():
        facts, size = one.facts, f"{one.path.stat().st_size / 1e6:.2g} MB"
        cells = (f"[`{one.name}`](#{one.name})", facts["about"], facts["result"], size, facts["licence"])
        yield f"| {' | '.join(cells)} |"
    for one in packaged():
        yield from _section(one)


def _section(one: Packaged) -> Iterator[str]:
    facts = one.facts
    yield from ["", f"## {one.name}", ""]
    yield textwrap.fill(f"**Data:** {facts['data']}.", 118, break_on_hyphens=False)
    yield textwrap.fill(f"**Time:** {facts['time']}.", 118, break_on_hyphens=False)
    yield from [f"**SHA-256:** `{facts['sha256']}`", "", "```sh"]
    for command in facts["commands"]:
        whole = re.sub(r" (?!--)", _NO_BREAK, command)  # an option and what it is set to
        lines = textwrap.wrap(whole, 108, break_long_words=False, break_on_hyphens=False)
        yield " \\\n    ".join(lines).replace(_NO_BREAK, " ")
    yield "```"


if __name__ == "__main__":
    PAGE.write_text(with_facts(PAGE.read_text()))
