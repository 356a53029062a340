import gzip
import hashlib
import http.client
import io
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from whatwhere.datasets import DataError, load_digits, load_mnist
from whatwhere.datasets.generated import mnist
from whatwhere.datasets.generated.mnist import FILES, MIRRORS, read_idx

Writer = Callable[[Path, np.ndarray], bytes]
SHAPES = {"train": 7, "test": 3}


def arrays(split: str) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(len(split))
    return rng.integers(0, 256, (SHAPES[split], 28, 28), np.uint8), rng.integers(
        0, 10, SHAPES[split], np.uint8
    )


@pytest.fixture
def contents(tmp_path: Path, write_idx: Writer) -> dict[str, bytes]:
    """Contents of four small files in MNIST's format, by name."""
    return {
        name: write_idx(tmp_path / "made" / name, array)
        for split in FILES
        for name, array in zip(FILES[split], arrays(split), strict=True)
    }


@pytest.fixture(autouse=True)
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No data of this machine, an empty cache, no network."""
    monkeypatch.delenv("WHATWHERE_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    Network(monkeypatch, {})


class Network:
    """Stands in for the network; an answer is what a URL contains, or the exception that it raises."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, answers: dict[str, bytes | Exception]) -> None:
        self.answers = answers
        self.asked: list[str] = []
        monkeypatch.setattr(urllib.request, "urlopen", self)

    def __call__(self, url: str, timeout: float) -> io.BytesIO:
        assert timeout > 0
        self.asked.append(url)
        answer = self.answers.get(url, urllib.error.URLError("no network"))
        if isinstance(answer, Exception):
            raise answer
        return io.BytesIO(answer)


@pytest.fixture
def genuine(monkeypatch: pytest.MonkeyPatch, contents: dict[str, bytes]) -> None:
    """Makes the small files count as the originals."""
    for name, content in contents.items():
        monkeypatch.setitem(mnist.SHA256, name, hashlib.sha256(content).hexdigest())


def assert_loads(split: Any, **arguments: Any) -> None:
    images, labels = arrays(split)
    digits = load_mnist(split, **arguments)
    np.testing.assert_array_equal(digits.images, images)
    np.testing.assert_array_equal(digits.labels, labels)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=1, max_dims=4, min_side=0)), st.booleans())
def test_idx_round_trip(tmp_path: Path, write_idx: Writer, array: np.ndarray, compressed: bool) -> None:
    path = tmp_path / ("a.gz" if compressed else "a")
    write_idx(path, array)
    result = read_idx(path)
    assert result.flags.writeable
    np.testing.assert_array_equal(result, array)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_explicit_folder(tmp_path: Path, contents: dict[str, bytes], suffix: str) -> None:
    for name, content in contents.items():
        path = tmp_path / "mine" / f"{name}{suffix}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(gzip.compress(content) if suffix else content)
    assert_loads("train", folder=tmp_path / "mine")
    assert_loads("test", folder=str(tmp_path / "mine"))


@pytest.mark.usefixtures("genuine")
def test_order_of_the_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, contents: dict[str, bytes], write_idx: Writer
) -> None:
    network = Network(
        monkeypatch, {f"{MIRRORS[0]}{name}.gz": gzip.compress(content) for name, content in contents.items()}
    )
    assert_loads("test")
    assert network.asked == [f"{MIRRORS[0]}{name}.gz" for name in FILES["test"]]
    assert_loads("test")
    assert len(network.asked) == 2, "the second time, the cache should be read"
    assert sorted(path.name for path in mnist.cache_folder().iterdir()) == [f"{n}.gz" for n in FILES["test"]]

    shared = np.full((3, 28, 28), 9, np.uint8)
    write_idx(tmp_path / "data" / "mnist" / FILES["test"][0], shared)
    monkeypatch.setenv("WHATWHERE_DATA", str(tmp_path / "data"))
    np.testing.assert_array_equal(load_mnist("test").images, shared)
    with pytest.raises(DataError, match="no file `t10k-images"):
        load_mnist("test", tmp_path)


@pytest.mark.usefixtures("genuine")
def test_of_several_that_miss_the_cache_one_fetches(
    monkeypatch: pytest.MonkeyPatch, contents: dict[str, bytes]
) -> None:
    answers: dict[str, Any] = {f"{MIRRORS[0]}{n}.gz": gzip.compress(contents[n]) for n in FILES["test"]}
    network = Network(monkeypatch, answers)
    monkeypatch.setattr(
        urllib.request, "urlopen", lambda *args, **options: (time.sleep(0.05), network(*args, **options))[1]
    )
    with ThreadPoolExecutor(8) as pool:
        loaded = list(pool.map(load_mnist, ["test"] * 8))
    assert all((digits.images == arrays("test")[0]).all() for digits in loaded)
    assert len(network.asked) == 2


@pytest.mark.parametrize("folder", ["", "MNIST/raw", "raw"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_other_names_and_torchvisions_folders(
    tmp_path: Path, contents: dict[str, bytes], folder: str, suffix: str
) -> None:
    for name, content in contents.items():
        path = tmp_path / "mine" / folder / f"{name.replace('-idx', '.idx')}{suffix}"
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(gzip.compress(content) if suffix else content)
    assert_loads("train", folder=tmp_path / "mine")


@pytest.mark.usefixtures("genuine")
@pytest.mark.parametrize(
    "failure",
    [
        TimeoutError("timed out"),
        urllib.error.HTTPError("u", 503, "busy", http.client.HTTPMessage(), None),
        http.client.IncompleteRead(b"x"),
        b"not gzip",
        gzip.compress(b"something else", mtime=0),
        b"",
    ],
)
def test_second_mirror_is_tried(
    monkeypatch: pytest.MonkeyPatch, contents: dict[str, bytes], failure: Any
) -> None:
    answers: dict[str, Any] = {
        f"{MIRRORS[1]}{name}.gz": gzip.compress(contents[name]) for name in FILES["test"]
    }
    network = Network(monkeypatch, {**answers, **{f"{MIRRORS[0]}{n}.gz": failure for n in FILES["test"]}})
    assert_loads("test")
    assert len(network.asked) == 4


def test_truncated_download_never_reaches_the_cache(
    monkeypatch: pytest.MonkeyPatch, contents: dict[str, bytes]
) -> None:
    whole = gzip.compress(contents[FILES["test"][0]])
    Network(monkeypatch, {f"{mirror}{FILES['test'][0]}.gz": whole[:-20] for mirror in MIRRORS})
    with pytest.raises(DataError, match="could not be fetched"):
        load_mnist("test")
    assert not mnist.cache_folder().exists()


def test_wrong_checksum_is_refused(monkeypatch: pytest.MonkeyPatch, contents: dict[str, bytes]) -> None:
    # Well-formed files whose SHA-256 is not MNIST's.
    Network(monkeypatch, {f"{m}{n}.gz": gzip.compress(c) for m in MIRRORS for n, c in contents.items()})
    with pytest.raises(DataError, match="SHA-256 is not that of MNIST"):
        load_mnist("test")


@pytest.mark.usefixtures("genuine")
def test_damaged_cache_is_refused(write_idx: Writer) -> None:
    path = mnist.cache_folder() / FILES["test"][0]
    write_idx(path, np.zeros((3, 28, 28), np.uint8))
    with pytest.raises(DataError, match=f"{path}: damaged.*delete it"):
        load_mnist("test")


def test_failure_says_what_to_do() -> None:
    with pytest.raises(DataError) as caught:
        load_mnist("train")
    message = str(caught.value)
    assert "train-images-idx3-ubyte" in message
    assert all(mirror in message for mirror in MIRRORS)
    assert "no network" in message
    assert "four IDX files" in message
    assert "glyphs" in message
    assert "\n" not in message


def test_download_can_be_forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network(monkeypatch, {})
    with pytest.raises(DataError, match="not allowed"):
        load_mnist("train", download=False)
    assert not network.asked


GOOD = bytes([0, 0, 8, 1, 0, 0, 0, 3, 1, 2, 3])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an IDX file.*got nothing"),
        (b"\x00\x00\x08", "not an IDX file"),
        (b"\x01" + GOOD[1:], "not an IDX file.*got 01000801"),
        (b"\x00\x00\x0d" + GOOD[3:], "type 0x08.*got type 0x0d"),
        (bytes([0, 0, 8, 0]), "1 to 32 dimensions, got 0"),
        (
            bytes([0, 0, 8, 65] + 64 * [0, 0, 0, 1]) + bytes([0, 0, 0, 3, 1, 2, 3]),
            "32 dimensions, got 65",
        ),
        (GOOD[:6], "truncated IDX header"),
        (GOOD[:-1], r"expected 3 values for shape \(3,\), got 2"),
        (GOOD + b"\x00", r"expected 3 values for shape \(3,\), got 4"),
    ],
)
@pytest.mark.parametrize("compressed", [False, True])
def test_damaged_idx_names_file_and_problem(
    tmp_path: Path, content: bytes, message: str, compressed: bool
) -> None:
    path = tmp_path / ("digits.gz" if compressed else "digits")
    path.write_bytes(gzip.compress(content) if compressed else content)
    with pytest.raises(DataError, match=message) as caught:
        read_idx(path)
    assert str(path) in str(caught.value)


def test_damaged_gzip_names_file_and_problem(tmp_path: Path) -> None:
    path = tmp_path / "digits.gz"
    whole = gzip.compress(GOOD * 100)
    flipped = bytearray(whole)
    flipped[-5] ^= 1  # in the checksum
    for content, message in (
        (whole[:-9], "truncated or damaged gzip"),
        (b"PK" + whole, "truncated or damaged gzip"),
        (flipped, "truncated or damaged gzip"),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=message) as caught:
            read_idx(path)
        assert str(path) in str(caught.value)
    with pytest.raises(DataError, match="no such file"):
        read_idx(tmp_path / "absent")


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((3, 27, 28)), np.zeros(3), r"expected images of shape \(n, 28, 28\)"),
        (np.zeros((3, 28, 28)), np.zeros(4), "expected 3 labels"),
        (np.zeros((3, 28, 28)), np.full(3, 10), "digits 0 to 9, got 10"),
        (np.zeros((0, 28, 28)), np.zeros(0), "n > 0"),
        (np.zeros(3), np.zeros(3), "expected images"),
    ],
)
def test_files_that_do_not_agree_are_refused(
    tmp_path: Path, write_idx: Writer, images: np.ndarray, labels: np.ndarray, message: str
) -> None:
    write_idx(tmp_path / FILES["test"][0], images.astype(np.uint8))
    write_idx(tmp_path / FILES["test"][1], labels.astype(np.uint8))
    with pytest.raises(DataError, match=message) as caught:
        load_mnist("test", tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_unknown_split_is_refused() -> None:
    with pytest.raises(ValueError, match="`split` must be 'train' or 'test', got 'validation'"):
        load_mnist("validation")  # type: ignore[arg-type]


def test_real_files_are_the_originals(mnist_folder: Path) -> None:
    for name, digest in mnist.SHA256.items():
        content = gzip.decompress((mnist_folder / f"{name}.gz").read_bytes())
        assert hashlib.sha256(content).hexdigest() == digest


def test_real_digits(mnist_folder: Path) -> None:
    # The published class sizes of the two sets.
    train, test = (load_digits("mnist", split, folder=mnist_folder) for split in ("train", "test"))
    assert np.bincount(train.labels).tolist() == [
        5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949,
    ]  # fmt: skip
    assert np.bincount(test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert abs(train.images.mean() / 255 - 0.1307) < 1e-4
