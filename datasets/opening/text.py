"""Text, also compressed, and the numbers in it."""

import gzip
import math
import os
import re

from ...files import user_path
from ..errors import DataError
from .claims import as_data_error, check_claim, naming

TEXT_LIMIT = 2**28
"""Bytes of a text that are read at most, 256 MiB."""

_INTEGER = re.compile(r"[+-]?[0-9]{1,15}")
_GREATEST = 1e9


def read_bytes(path: str | os.PathLike[str], limit: int) -> bytes:
    """A file's content, decompressed if its name ends in `.gz`.

    Raises:
        DataError: if it is missing, cannot be read, or is longer than `limit`; the message names the file.
    """
    found = user_path(path)
    if not found.is_file():  # a pipe might never end
        raise DataError(f"{path}: no such file.")
    compressed = found.suffix.lower() == ".gz"
    what = "cannot be read, truncated or damaged gzip" if compressed else "cannot be read"
    with as_data_error(f"{path}: {what}"), open(found, "rb") as stream:
        content = (gzip.GzipFile(fileobj=stream) if compressed else stream).read(limit + 1)
        with naming(path):
            check_claim("it", len(content), len(content), limit)
        return content


def read_text(path: str | os.PathLike[str], encoding: str = "utf-8-sig") -> str:
    """A file's text, decompressed if its name ends in `.gz`; lines end with a line feed.

    Raises:
        DataError: if it is missing or cannot be read; the message names the file.
    """
    content = read_bytes(path, TEXT_LIMIT)
    with as_data_error(f"{path}: cannot be read"):
        return content.decode(encoding).replace("\r\n", "\n").replace("\r", "\n")


def integer(word: str) -> int:
    """A whole number of at most 15 digits.

    Raises:
        ValueError: if it is none.
    """
    if not _INTEGER.fullmatch(word.strip()):
        raise ValueError(f"expected a whole number, got {_short(word)!r}")
    return int(word)


def number(word: str) -> float:
    """A finite number, not greater than a billion: pixels and frames that are more have no meaning.

    Raises:
        ValueError: if it is none.
    """
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not abs(value) <= _GREATEST:
        raise ValueError(f"expected a number of at most {_GREATEST:g}, got {_short(word)!r}")
    return value


def _short(word: str) -> str:
    return word if len(word) < 40 else f"{word[:37]}..."
