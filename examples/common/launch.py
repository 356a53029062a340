"""Start a program so that an interruption ends in one line also while its imports, seconds of them, go on.

The installed commands start here, and `python -m whatwhere.examples.air` comes by: importing the package that
a module is in is the first thing that `-m` does.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from types import TracebackType

__all__ = [
    "BROKEN_PIPE",
    "INTERRUPTED",
    "reader_has_gone",
    "air",
    "data",
    "glimpse_clouds",
    "hart",
    "launch",
    "ratm",
    "sqair",
    "table1",
    "vrnn",
    "whatwhere",
]

INTERRUPTED = 130
"""Exit code after Ctrl-C, as that of a shell: 128 and the number of the signal."""
BROKEN_PIPE = 141
"""Exit code of a program whose reader has gone, likewise."""


def launch(name: str, argv: Sequence[str] | None = None) -> int:
    """Import a program and run it.

    Args:
        name: of its module in this package, with hyphens.
        argv: its arguments; by default those of the process.

    Returns:
        its exit code.
    """
    try:
        code: int = import_module(f"whatwhere.examples.{name.replace('-', '_')}").main(argv)
    except KeyboardInterrupt:
        _say_interrupted(f"whatwhere-{name}")
        return INTERRUPTED
    except BrokenPipeError:
        return reader_has_gone()
    return code


def reader_has_gone() -> int:
    """End a program whose output nobody reads any more, `head` for instance.

    Returns:
        its exit code.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return BROKEN_PIPE


air = partial(launch, "air")
data = partial(launch, "data")
glimpse_clouds = partial(launch, "glimpse-clouds")
hart = partial(launch, "hart")
ratm = partial(launch, "ratm")
sqair = partial(launch, "sqair")
table1 = partial(launch, "table1")
vrnn = partial(launch, "vrnn")
whatwhere = partial(launch, "catalogue")


def expect_interruption() -> None:
    """Where `python -m` is about to run a module of this package, let Ctrl-C end it in one line."""
    if sys.argv[:1] == ["-m"]:  # what Python has there until it has found the module
        sys.excepthook = _end_interrupted


def _end_interrupted(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, traceback)
        return
    _say_interrupted("whatwhere")
    raise SystemExit(INTERRUPTED)


def _say_interrupted(name: str) -> None:
    print(f"{name}: interrupted", file=sys.stderr)
