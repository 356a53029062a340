"""Checkpoints as files: written atomically, safe to load.

A file is a dictionary written by `torch.save` and read with `weights_only=True`, so loading one never runs
code from it. What was read is compared with the structure that `Checkpoint` declares before anything is done
with it.

There is one file per run, replaced at once: a run that is killed at any moment, also while it writes, leaves
its last complete checkpoint.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

import torch
from torch import Tensor

from ..._version import __version__
from ...files import atomic_write
from .checkpoint import Checkpoint, CheckpointError
from .data_record import DataRecord
from .structure import mismatch

__all__ = ["FORMAT_VERSION", "load_checkpoint", "save_checkpoint"]

FORMAT = "whatwhere checkpoint"
FORMAT_VERSION = 1
_STORED = tuple(field.name for field in fields(Checkpoint) if field.name != "path")
_LATER = {"kind", "data"}  # which the first files of the format do not have


def save_checkpoint(path: str | Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint atomically.

    Args:
        path: the file; an existing one is replaced at once, so it is whole at every moment.
        checkpoint: what to write.

    Raises:
        TypeError: an entry is neither a tensor nor a primitive; names it. Nothing is written.
        OSError: the file cannot be written.
    """
    content = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        **{name: getattr(checkpoint, name) for name in _STORED},
        "data": {name: record._asdict() for name, record in checkpoint.data.items()},
    }
    plain = _plain(content, "checkpoint")
    with atomic_write(path) as file:
        torch.save(plain, file)


def _plain(value: Any, where: str) -> Any:
    """Copy tensors, to the CPU, and primitives; reject what `weights_only` would not load."""
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        # A view is stored with all of what it is a view of.
        whole = value.untyped_storage().nbytes() == value.numel() * value.element_size()
        return value if whole else value.clone()
    if isinstance(value, Mapping):
        return {_key(key, where): _plain(entry, f"{where}[{key!r}]") for key, entry in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_plain(entry, f"{where}[{i}]") for i, entry in enumerate(value))
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise TypeError(f"`{where}` is a {type(value).__name__}; a checkpoint holds tensors and primitives only")


def _key(key: Any, where: str) -> Any:
    if type(key) in (str, int):
        return key
    raise TypeError(f"`{where}` has the key {key!r}; keys in a checkpoint are strings or integers")


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint; its tensors are on the CPU.

    Args:
        path: a file written by `save_checkpoint`.

    Raises:
        CheckpointError: the file is missing, truncated or corrupt, not a checkpoint, or of a newer format.
    """
    path = Path(path)
    content = _read(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"`{path}` is not a checkpoint of whatwhere")
    version = content.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise CheckpointError(
            f"checkpoint `{path}` has format {version}, of whatwhere {content.get('package_version')}; "
            f"this is whatwhere {__version__}, which reads formats up to {FORMAT_VERSION}"
        )
    missing = sorted(set(_STORED) - set(content) - _LATER)
    if missing:
        raise CheckpointError(f"checkpoint `{path}` lacks {', '.join(f'`{name}`' for name in missing)}")
    stored = {name: content[name] for name in _STORED if name in content}
    if problem := _problem(stored):
        raise CheckpointError(f"checkpoint `{path}` is damaged: {problem}")
    records = {name: _record(entry) for name, entry in stored.pop("data", {}).items()}
    return Checkpoint(**stored, data=records, path=path)


def _problem(stored: Mapping[str, Any]) -> str | None:
    hints = get_type_hints(Checkpoint)
    try:
        problems = (mismatch(value, hints[name], name) for name, value in stored.items())
        found = next((problem for problem in problems if problem), None)
        return found or ("`step` is negative" if stored["step"] < 0 else None)
    except RecursionError:
        return "it holds a list or dictionary that is in itself"


def _record(stored: Mapping[str, Any]) -> DataRecord:
    """Further fields are those of a later version."""
    known = {name: stored[name] for name in DataRecord._fields}
    return DataRecord(**{**known, "shape": tuple(known["shape"])})


def _is_archive(path: Path) -> bool:
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:  # of its end, for example one of several disks
        return False


def _read(path: Path) -> Any:
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint `{path}`")
    try:
        with open(path, "rb") as file:
            head = file.read(4)
    except OSError as error:
        raise CheckpointError(f"checkpoint `{path}` cannot be read: {error.strerror}") from error
    if not _is_archive(path):
        if head == b"PK\x03\x04":
            raise CheckpointError(f"checkpoint `{path}` is truncated")
        raise CheckpointError(f"`{path}` is not a checkpoint of whatwhere")
    try:
        _require_whole(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"`{path}` is not a checkpoint of whatwhere: it holds other than tensors"
        ) from error
    except Exception as error:  # a damaged pickle fails in any way
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise CheckpointError(f"checkpoint `{path}` is corrupt: {reason}") from error


def _require_whole(path: Path) -> None:
    """See to what `torch.load` does not: check sums, and that nothing unpacks to more than the file has."""
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if info.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"`{info.filename}` is compressed")
        damaged = archive.testzip()
    if damaged is not None:
        raise ValueError(f"the check sum of `{damaged}` is wrong")
