"""What a run's data were: enough to notice, when it is resumed or evaluated, that they are others now.

    record = DataRecord.of(whole_source("~/imgs", names=("glyphs",)), shape, labels, sample)
    trainer = Trainer(..., data={"train": record, "test": ...})    # stores it, and compares on resumption
    load_checkpoint(path).require_data({"test": record})           # compares before an evaluation

The field of a configuration that says where the data lie is declared with `config.source_field` and made
whole when the configuration is made; it may change between a run and its resumption, the data may not.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["DataRecord", "whole_source"]


def whole_source(source: str, names: Collection[str] = ()) -> str:
    """Make the path of data whole, so that it names the same from every folder.

    Args:
        source: a path, `~` included, or one of `names`.
        names: of what is generated; they stay as they are.
    """
    return source if source in names else os.path.abspath(os.path.expanduser(source))


class DataRecord(NamedTuple):
    """One set of data, in short."""

    source: str
    """The whole path, or the name of what generates them."""
    shape: tuple[int, ...]
    """Their number, and the sizes of one, for example `(M, T, C, H, W)`."""
    labels: dict[str, str]
    """A fingerprint of each label, by name; what items are called is one of them."""
    pixels: str
    """A fingerprint of some pixels; empty where they were not looked at."""

    @classmethod
    def of(
        cls,
        source: str,
        shape: tuple[int, ...],
        labels: Mapping[str, npt.NDArray[Any]] | None = None,
        sample: npt.NDArray[Any] | None = None,
    ) -> DataRecord:
        """Take down data.

        Args:
            source: see `whole_source`.
            shape: number of items and sizes.
            labels: arrays by name, those of numbers and of text.
            sample: some of the pixels; not of data that are generated, whose last bit may depend on the
                machine.
        """
        prints = {name: _fingerprint(value) for name, value in sorted((labels or {}).items())}
        return cls(source, tuple(map(int, shape)), prints, "" if sample is None else _fingerprint(sample))

    def changes(self, now: DataRecord) -> list[str]:
        """Say what is different now; empty where these are the same data, wherever they lie."""
        found = []
        known = self.labels or self.pixels  # of what is generated from files nothing tells but their place
        if self.source != now.source and not (known and _kind(self.source) == _kind(now.source)):
            found.append(f"they are `{now.source}` and were `{self.source}`")
        if self.shape[:1] != now.shape[:1]:
            found.append(f"they are {now.shape[0]} and were {self.shape[0]}")
        if self.shape[1:] != now.shape[1:]:
            found.append(f"their sizes are {now.shape[1:]} and were {self.shape[1:]}")
        if found:
            return found
        names = sorted({**self.labels, **now.labels})
        found += [f"`{name}` differ" for name in names if self.labels.get(name) != now.labels.get(name)]
        if self.pixels and now.pixels and self.pixels != now.pixels:
            found.append("their pixels differ")
        return found


def _kind(source: str) -> str:
    """What a source is but for where it lies: of `pasted:/home/me/pictures` the name before the colon."""
    name, _, path = source.partition(":")
    if Path(source).is_absolute():
        return ""
    return name if Path(path).is_absolute() else source


def _fingerprint(value: npt.NDArray[Any]) -> str:
    if value.dtype.kind in "UO":
        value = np.char.encode(value.astype(str), "utf-8")
    head = f"{value.dtype.str}{value.shape}".encode()
    return hashlib.blake2b(head + np.ascontiguousarray(value).tobytes(), digest_size=16).hexdigest()
