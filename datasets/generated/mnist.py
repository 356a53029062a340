"""MNIST, read from its four files in IDX format."""

import gzip
import hashlib
import http.client
import io
import math
import os
import urllib.request
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...files import atomic_path, locked, user_path
from ..errors import DataError
from ..opening.claims import LIMIT, as_data_error
from ..opening.text import read_bytes
from .digit_images import Digits, Split

MIRRORS = (
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
)
"""Where the files are fetched from, tried in turn."""

FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
"""Names of the files of images and labels of each split; each may also end in `.gz`."""

SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
"""SHA-256 of the decompressed files."""

_MOST_DIMENSIONS = 32
_MOST_BYTES = 2**26  # of a mirror's answer, compressed and not

TIMEOUT = 30.0
"""Seconds without an answer after which a mirror is given up."""


def load_mnist(
    split: Split, folder: str | os.PathLike[str] | None = None, *, download: bool = True
) -> Digits:
    """The 60,000 training or 10,000 test digits of MNIST (LeCun, Cortes and Burges).

    The files, compressed or not, are taken from the first of these places that has them: `folder`, and then
    nowhere else; `$WHATWHERE_DATA/mnist`; the cache, `whatwhere/mnist` in `$XDG_CACHE_HOME` or `~/.cache`;
    the public mirrors, into the cache. They may lie in `MNIST/raw` there, as torchvision's do, and be called
    `train-images.idx3-ubyte`. What was fetched is checked against the SHA-256 of the original; files of your
    own need only be well-formed, so that other data in MNIST's form (say Fashion-MNIST) can be read from
    `folder`.

    Of several processes that miss the cache at once, one fetches a file, and the others wait for it.

    Raises:
        DataError: if the files cannot be found, fetched or read, with what to do about it.
        ValueError: if `split` is neither `"train"` nor `"test"`.
    """
    if split not in FILES:
        raise ValueError(f"`split` must be 'train' or 'test', got {split!r}.")
    images, labels = (_array(name, folder, download) for name in FILES[split])
    (images_path, image_array), (labels_path, label_array) = images, labels
    if image_array.shape[1:] != (28, 28):
        raise DataError(f"{images_path}: expected images of shape (n, 28, 28), got {image_array.shape}.")
    if label_array.shape != image_array.shape[:1]:
        raise DataError(
            f"{labels_path}: expected {len(image_array)} labels, one for each image, "
            f"got shape {label_array.shape}."
        )
    try:
        return Digits(image_array, label_array)
    except DataError as error:
        raise DataError(f"{images_path.parent}: {error}") from None


def read_idx(path: str | os.PathLike[str]) -> npt.NDArray[np.uint8]:
    """The array in an IDX file of bytes, decompressed first if its name ends in `.gz`.

    IDX is a header, two zero bytes, the type (8 for unsigned bytes), the number of dimensions and each
    dimension as a big-endian 32-bit number, followed by the values in row-major order.

    Raises:
        DataError: if the file cannot be read, is damaged, or is no IDX file of bytes.
    """
    path = Path(path)
    return _parse_idx(path, read_bytes(path, LIMIT))


def cache_folder() -> Path:
    """Where MNIST is kept once it has been fetched."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "whatwhere" / "mnist"


def _array(
    name: str, folder: str | os.PathLike[str] | None, download: bool
) -> tuple[Path, npt.NDArray[np.uint8]]:
    if folder is not None:
        path = _find(name, user_path(folder))
        if path is None:
            raise DataError(f"{folder}: no file `{name}` or `{name}.gz` of MNIST in this folder.")
        return path, read_idx(path)
    shared = os.environ.get("WHATWHERE_DATA")
    path = _find(name, Path(shared) / "mnist") if shared else None
    if path is not None:
        return path, read_idx(path)
    path = _find(name, cache_folder()) or _fetch_once(name, download)
    content = read_bytes(path, LIMIT)
    if hashlib.sha256(content).hexdigest() != SHA256[name]:
        raise DataError(
            f"{path}: damaged, its SHA-256 is not that of MNIST; delete it to have it fetched again."
        )
    return path, _parse_idx(path, content)


def _find(name: str, folder: Path) -> Path | None:
    for place in (folder, folder / "MNIST" / "raw", folder / "raw"):  # torchvision's
        for called in (name, name.replace("-idx", ".idx")):  # some copies' names
            for path in (place / called, place / f"{called}.gz"):
                if path.is_file():
                    return path
    return None


def _fetch_once(name: str, download: bool) -> Path:
    """Fetches a file into the cache, unless another process does while this one waits for it."""
    shared = cache_folder().parent
    with as_data_error(f"{shared}: cannot be written to"):
        shared.mkdir(parents=True, exist_ok=True)
        with locked(shared / ".mnist.lock"):
            return _find(name, cache_folder()) or _fetch(name, download)


def _fetch(name: str, download: bool) -> Path:
    failures = []
    for mirror in MIRRORS if download else ():
        url = f"{mirror}{name}.gz"
        try:
            with urllib.request.urlopen(url, timeout=TIMEOUT) as response:
                compressed = response.read(_MOST_BYTES)
            content = gzip.GzipFile(fileobj=io.BytesIO(compressed)).read(_MOST_BYTES)
            if hashlib.sha256(content).hexdigest() != SHA256[name]:
                raise DataError("SHA-256 is not that of MNIST")
        except (OSError, EOFError, zlib.error, http.client.HTTPException, DataError) as error:
            failures.append(f"{url}: {error}")
            continue
        path = cache_folder() / f"{name}.gz"
        with atomic_path(path) as temporary:
            temporary.write_bytes(compressed)
        return path
    tried = "; ".join(failures) if failures else "downloading was not allowed"
    raise DataError(
        f"MNIST's file `{name}` was not found and could not be fetched ({tried}). Put MNIST's four IDX files "
        f"into a folder and name it as the folder of MNIST, or put them into {cache_folder()}, or use the "
        "built-in digits, source 'glyphs', which need no files."
    )


def _parse_idx(path: Path, content: bytes) -> npt.NDArray[np.uint8]:
    if len(content) < 4 or content[:2] != b"\0\0":
        raise DataError(
            f"{path}: not an IDX file, expected two zero bytes first, got {content[:4].hex() or 'nothing'}."
        )
    kind, dimensions = content[2], content[3]
    if kind != 8:
        raise DataError(f"{path}: expected an IDX file of unsigned bytes (type 0x08), got type 0x{kind:02x}.")
    start = 4 + 4 * dimensions
    if not 1 <= dimensions <= _MOST_DIMENSIONS:
        raise DataError(
            f"{path}: expected an IDX file of 1 to {_MOST_DIMENSIONS} dimensions, got {dimensions}."
        )
    if len(content) < start:
        raise DataError(f"{path}: truncated IDX header, expected {dimensions} dimensions in {start} bytes.")
    shape = tuple(int(n) for n in np.frombuffer(content[4:start], dtype=">u4"))
    if len(content) - start != math.prod(shape):
        raise DataError(
            f"{path}: expected {math.prod(shape)} values for shape {shape}, got {len(content) - start}; "
            "the file is truncated or damaged."
        )
    # A copy, because arrays on top of `bytes` cannot be written to, which torch warns about.
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape).copy()
