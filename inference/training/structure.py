"""Whether something that was read from a file has the structure that is declared for it by type hints."""

from __future__ import annotations

import types
import typing
from collections.abc import Collection, Mapping
from typing import Any, Union, get_args, get_origin, get_type_hints

import torch
from torch import Tensor

__all__ = ["Primitives", "mismatch"]


class Primitives:
    """As a type hint: numbers, strings, booleans, None, and lists and dictionaries by name of those."""


def mismatch(value: Any, hint: Any, where: str) -> str | None:
    """Say what keeps a value from being of a type.

    Args:
        value: of any kind.
        hint: a class, None, a union, `dict[K, V]`, `list[T]`, a `TypedDict` (further keys are accepted), a
            NamedTuple (written as a dictionary), `Primitives` or `Any`. A `Tensor` is a dense one on the
            CPU; an `int` is a `float` too, but a `bool` is neither.
        where: what the value is called.

    Returns:
        one line; None where nothing is wrong.
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        problems = [mismatch(value, argument, where) for argument in arguments]
        given = [problem for problem in problems if problem is not None]
        return None if len(given) < len(problems) else given[0]
    if typing.is_typeddict(hint) or hasattr(hint, "_fields"):
        return _record_mismatch(value, hint, where)
    if origin is dict:
        return _entries_mismatch(value, arguments[0], arguments[1], where)
    if origin in (list, tuple):
        return _elements_mismatch(value, origin, arguments[0], where)
    if hint is Primitives:
        return _primitives_mismatch(value, where)
    return None if _is(value, hint) else _wrong(value, hint, where)


def _record_mismatch(value: Any, hint: Any, where: str) -> str | None:
    if not isinstance(value, dict):
        return _wrong(value, dict, where)
    optional: Collection[str] = getattr(hint, "__optional_keys__", ())
    for name, kind in get_type_hints(hint).items():
        if name in value:
            if problem := mismatch(value[name], kind, f"{where}.{name}"):
                return problem
        elif name not in optional:
            return f"`{where}` lacks `{name}`"
    return None


def _entries_mismatch(value: Any, key_hint: Any, hint: Any, where: str) -> str | None:
    if not isinstance(value, dict):
        return _wrong(value, dict, where)
    for key, entry in value.items():
        problem = mismatch(key, key_hint, f"{where}: key {key!r}") or mismatch(entry, hint, f"{where}.{key}")
        if problem:
            return problem
    return None


def _elements_mismatch(value: Any, container: type, hint: Any, where: str) -> str | None:
    if not isinstance(value, list | tuple):
        return _wrong(value, container, where)
    problems = (mismatch(element, hint, f"{where}[{i}]") for i, element in enumerate(value))
    return next((problem for problem in problems if problem), None)


def _primitives_mismatch(value: Any, where: str) -> str | None:
    if isinstance(value, Mapping):
        return _entries_mismatch(value, str, Primitives, where)
    if isinstance(value, list | tuple):
        return _elements_mismatch(value, list, Primitives, where)
    if value is None or isinstance(value, bool | int | float | str):
        return None
    return f"`{where}` is a {type(value).__name__}, not a number, text, list or dictionary"


def _is(value: Any, hint: Any) -> bool:
    if hint is Any:
        return True
    if hint in (None, type(None)):
        return value is None
    if hint is Tensor:
        return isinstance(value, Tensor) and value.layout == torch.strided and value.device.type == "cpu"
    if hint in (int, float):
        return isinstance(value, int if hint is int else int | float) and not isinstance(value, bool)
    return isinstance(value, hint)


def _wrong(value: Any, hint: Any, where: str) -> str:
    expected = "a dense Tensor" if hint is Tensor else _called(hint)
    return f"`{where}` is {_called(type(value))}, not {expected}"


def _called(kind: Any) -> str:
    if kind in (None, type(None)):
        return "None"
    return f"{'an' if kind.__name__[0] in 'aeiou' else 'a'} {kind.__name__}"
