"""A user's own code in a program: a function that is named on the command line, and nowhere else."""

from __future__ import annotations

import importlib
import os
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from whatwhere.checks import FieldError
from whatwhere.examples.common.program import UsageError
from whatwhere.inference.training import CheckpointError

_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def check_name(field: str, name: str | None) -> None:
    """Refuse what is not `package.module:function`.

    Raises:
        FieldError: it is something else.
    """
    if name is not None and not _NAME.fullmatch(name):
        raise FieldError(field, "must be `package.module:function`", name)


def call_named(name: str, *arguments: Any) -> Any:
    """Import a user's function and call it; modules in the current folder are found first.

    Args:
        name: `package.module:function`, from the command line.
        arguments: of the call.

    Raises:
        UsageError: there is no such function, or it failed; then its traceback has been printed.
    """
    try:
        return _function(name)(*arguments)
    except UsageError:
        raise
    except Exception as error:
        traceback.print_exc()
        raise UsageError(f"`{name}` failed: {type(error).__name__}: {error}") from error


def _function(name: str) -> Callable[..., Any]:
    module, _, attribute = name.partition(":")
    if (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)
    try:
        function = getattr(importlib.import_module(module), attribute, None)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise UsageError(f"`{name}`: there is no module `{error.name}`, here or installed") from error
    if not callable(function):
        raise UsageError(f"`{name}`: the module has no function `{attribute}`")
    return function


def require_named(path: Path, stored: str | None, named: str | None) -> None:
    """Refuse to run code that a checkpoint names, and the user does not.

    Args:
        path: of the checkpoint.
        stored: the function that it was made with.
        named: that of the command line.

    Raises:
        CheckpointError: they differ.
    """
    if stored == named:
        return
    if stored is None:
        raise CheckpointError(f"`{path}` was trained without `--build`, got `--build {named}`")
    raise CheckpointError(
        f"`{path}` was trained with a model of your own: give `--build {stored}`, if you trust what it does"
        + ("" if named is None else f"; got `--build {named}`")
    )
