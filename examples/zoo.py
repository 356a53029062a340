"""The checkpoints that come with the package.

    whatwhere zoo
    whatwhere zoo sqair-glyphs

Without a name they are listed; with one, everything that is known of it is told: the commands that trained
it, on what, how good it is, and the file to give to `--checkpoint`. A file that is not the one that was
packaged is told of, and ends the program with exit code 1.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["FOLDER", "Packaged", "main", "packaged"]

FOLDER = Path(__file__).parent / "pretrained"
"""Where they are."""


class Packaged(NamedTuple):
    """A checkpoint that comes with the package."""

    path: Path
    """The file."""
    facts: dict[str, Any]
    """What stands beside it: `program`, `about`, `result`, `commands`, `data`, `licence`, `sha256`, ..."""

    @property
    def name(self) -> str:
        """What it is called."""
        return self.path.stem

    @property
    def intact(self) -> bool:
        """Whether the file is the one that was packaged."""
        return self.path.is_file() and sha256(self.path) == self.facts["sha256"]


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def packaged() -> list[Packaged]:
    """All of them, by name."""
    return [
        Packaged(path.with_suffix(".pt"), json.loads(path.read_text()))
        for path in sorted(FOLDER.glob("*.json"))
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """List the checkpoints, or tell all of one.

    Returns:
        0, or 1 if a file is damaged.
    """
    known = {checkpoint.name: checkpoint for checkpoint in packaged()}
    try:
        name = build_parser().parse_args(argv).name
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0
    print("\n".join(_listing(known.values()) if name is None else _all_of(known[name])))
    damaged = [one for one in known.values() if name in (None, one.name) and not one.intact]
    for one in damaged:
        print(f"whatwhere zoo: `{one.path}` is not the file that was packaged", file=sys.stderr)
    return 1 if damaged else 0


def build_parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = argparse.ArgumentParser(
        "whatwhere zoo", description="The checkpoints that come with the package."
    )
    names = [checkpoint.name for checkpoint in packaged()]
    parser.add_argument("name", nargs="?", choices=names, help="tell all of one; by default all are listed")
    return parser


def _megabytes(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.2g} MB" if path.is_file() else "missing"


def _listing(checkpoints: Iterable[Packaged]) -> Iterator[str]:
    for one in checkpoints:
        yield f"{one.name}  ({one.facts['program']}, {_megabytes(one.path)})"
        yield f"    {one.facts['about']}"
        yield f"    {one.facts['result']}"


def _all_of(one: Packaged) -> Iterator[str]:
    facts = one.facts
    yield f"{one.name}: {facts['about']}"
    yield f"result    {facts['result']}"
    yield f"file      {one.path}"
    yield f"size      {_megabytes(one.path)}, SHA-256 {facts['sha256']}"
    yield f"program   {facts['program']}"
    yield f"data      {facts['data']}"
    yield f"time      {facts['time']}"
    yield f"licence   {facts['licence']}"
    yield from (f"command   {command}" for command in facts["commands"])
    yield from (f"{name:38}{value:.6g}" for name, value in _numbers(facts))


def _numbers(facts: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """The numbers among the facts, those of nested ones under dotted names; lists are left to the file."""
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{name}.")
        elif isinstance(value, int | float):
            yield prefix + name, value


if __name__ == "__main__":
    sys.exit(main())
