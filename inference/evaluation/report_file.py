"""Reports as JSON files."""

from __future__ import annotations

import json
import math
import os
from typing import Any

import numpy as np

from ...files import atomic_write

__all__ = ["json_ready", "write_json"]


def json_ready(value: Any) -> Any:
    """The same as nested primitives: NamedTuples and arrays too; what is not finite becomes None."""
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, dict):
        return {name: json_ready(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [json_ready(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: str | os.PathLike[str], numbers: Any) -> None:
    """Write numbers for people and programs, atomically.

    Args:
        path: the file; its folder is created where it is missing.
        numbers: see `json_ready`.
    """
    with atomic_write(path) as file:
        file.write((json.dumps(json_ready(numbers), indent=2) + "\n").encode())
