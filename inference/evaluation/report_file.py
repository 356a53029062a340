"""Reports as JSON files."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from ...files import atomic_write

__all__ = ["json_ready", "write_json"]


def json_ready(value: Any) -> Any:
    """The same as nested primitives, which `json` writes as they are.

    NamedTuples and dataclasses become dictionaries, arrays and tensors lists, and names strings; what is not
    finite, wherever it is, becomes None, for JSON has no such numbers.

    Raises:
        TypeError: if there is something else in it.
    """
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        value = value._asdict()
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    elif isinstance(value, Tensor):
        value = value.detach().cpu().tolist()
    elif isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(name): json_ready(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [json_ready(part) for part in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"a report must be of numbers, words, lists and names, but has a {type(value).__name__}.")


def write_json(path: str | os.PathLike[str], numbers: Any) -> None:
    """Write numbers for people and programs, atomically.

    Args:
        path: the file; its folder is created where it is missing.
        numbers: see `json_ready`.

    Raises:
        TypeError: if they are something else.
        OSError: if the file cannot be written.
    """
    text = json.dumps(json_ready(numbers), indent=2, allow_nan=False)
    with atomic_write(path) as file:
        file.write(f"{text}\n".encode())
