"""Start a program so that an interruption ends in one line also while its imports, seconds of them, go on.

The installed commands start here, and `python -m whatwhere.examples.air` comes by: importing the package that
a module is in is the first thing that `-m` does.
"""

from __future__ import annotations

import sys
from functools import partial
from importlib import import_module
from types import TracebackType

__all__ = ["INTERRUPTED", "air", "data", "hart", "launch", "ratm", "sqair", "table1", "vrnn"]

INTERRUPTED = 130
"""Exit code after Ctrl-C, as that of a shell: 128 and the number of the signal."""


def launch(name: str) -> int:
    """Import a program and run it.

    Args:
        name: of its module in this package.

    Returns:
        its exit code.
    """
    try:
        code: int = import_module(f"whatwhere.examples.{name}").main()
    except KeyboardInterrupt:
        _say_interrupted(f"whatwhere-{name}")
        return INTERRUPTED
    return code


air = partial(launch, "air")
data = partial(launch, "data")
hart = partial(launch, "hart")
ratm = partial(launch, "ratm")
sqair = partial(launch, "sqair")
table1 = partial(launch, "table1")
vrnn = partial(launch, "vrnn")


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
