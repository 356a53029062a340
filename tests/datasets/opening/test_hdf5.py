import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from whatwhere.datasets import DataError, VideoData, VideoStore, check, load_clips, load_video, save_video

PIXELS = np.arange(48, dtype=np.uint8).reshape(1, 3, 1, 4, 4)


def refused(path: Path, message: str) -> None:
    """Every way of reading a file refuses it, and names it."""
    for read in (load_video, load_clips, VideoStore):
        with pytest.raises(DataError, match=rf"{path.name}: {message}"):
            read(path)  # type: ignore[operator]
    assert check(path).problems


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A data set that no other file may be a way to."""
    path = tmp_path / "secret.h5"
    save_video(path, VideoData(PIXELS))
    return path


def leads_out_by_external_storage(file: h5py.File, secret: Path) -> None:
    file.create_dataset("video", shape=PIXELS.shape, dtype="u1", external=[(str(secret), 0, PIXELS.size)])


def leads_out_by_virtual_storage(file: h5py.File, secret: Path) -> None:
    layout = h5py.VirtualLayout(PIXELS.shape, "u1")
    layout[:] = h5py.VirtualSource(str(secret), "video", PIXELS.shape)
    file.create_virtual_dataset("video", layout)


def leads_out_by_a_link(file: h5py.File, secret: Path) -> None:
    file["video"] = h5py.ExternalLink(str(secret), "/video")


def leads_out_by_a_link_to_a_link(file: h5py.File, secret: Path) -> None:
    file["way"] = h5py.ExternalLink(str(secret), "/")
    file["video"] = h5py.SoftLink("/way/video")


def leads_out_by_a_label(file: h5py.File, secret: Path) -> None:
    file["video"] = PIXELS
    file["count"] = h5py.ExternalLink(str(secret), "/video")


OUT = [value for name, value in list(globals().items()) if name.startswith("leads_out")]


@pytest.mark.parametrize("lead_out", OUT)
def test_nothing_outside_the_file_is_read(
    tmp_path: Path, secret: Path, lead_out: Callable[[h5py.File, Path], None]
) -> None:
    path = tmp_path / "clips.h5"
    with h5py.File(path, "w") as file:
        lead_out(file, secret)
    refused(path, r"`\w+` is (stored in other files|a link to another file), which (are|is) not read")


def test_a_pipe_that_a_link_leads_to_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # opening it would take for ever
    with h5py.File(tmp_path / "clips.h5", "w") as file:
        file["video"] = h5py.ExternalLink(str(tmp_path / "pipe"), "/video")
    refused(tmp_path / "clips.h5", "`video` is a link to another file")


def test_links_within_the_file_are_followed_and_circles_are_not(tmp_path: Path) -> None:
    path = tmp_path / "clips.h5"
    with h5py.File(path, "w") as file:
        file["group/pixels"] = PIXELS
        file["group/way"] = h5py.SoftLink("pixels")
        file["video"] = h5py.SoftLink("/group/./way")
    np.testing.assert_array_equal(load_video(path).video, PIXELS)
    with h5py.File(path, "w") as file:
        file["images"] = h5py.SoftLink("/video")
        file["video"] = h5py.SoftLink("/images")
    refused(path, r"`\w+` is a link in a circle")


def test_attributes_may_be_anything(tmp_path: Path) -> None:
    path = tmp_path / "clips.h5"
    with h5py.File(path, "w") as file:
        file["video"] = PIXELS
        file.attrs["schema"] = ["whatwhere/video"]
        file.attrs["schema_version"] = np.array([1])
        file.attrs["numbers"] = np.arange(6).reshape(2, 3)
        file.attrs["long"] = np.zeros(5000)
        file.attrs["nothing"] = h5py.Empty("f")
        file.attrs["bytes"] = np.bytes_(b"caf\xe9")
        file.attrs.create("text", b"caf\xe9", dtype=h5py.string_dtype("utf-8"))
        file.attrs["reference"] = file.ref
        file.attrs.create("mixed", np.zeros(2, [("a", "i4"), ("b", "f8")]))
        file.attrs["parameters"] = "[" * 20_000
    np.testing.assert_array_equal(load_video(path).video, PIXELS)
    report = check(path)
    assert len(report.problems) == 1
    assert "attribute `parameters` must be JSON" in report.problems[0]
    assert report.attributes["schema"] == "whatwhere/video"
    assert report.attributes["schema_version"] == 1
    assert report.attributes["numbers"] == [[0, 1, 2], [3, 4, 5]]
    assert str(report).encode("utf-8")
    with h5py.File(path, "a") as file:
        file.attrs["schema"] = ["whatwhere/video", "other"]
    refused(path, "attribute `schema` must be 'whatwhere/video', got \\['whatwhere/video', 'other'\\]")


def test_locked_files_are_called_locked(secret: Path) -> None:
    fcntl = pytest.importorskip("fcntl", reason="needs locks of files")
    with open(secret, "rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        refused(secret, "is locked: another program is writing to it")
    assert len(load_video(secret)) == 1


def test_filters_that_are_missing_are_named(tmp_path: Path) -> None:
    path = tmp_path / "clips.h5"
    with h5py.File(path, "w") as file:
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk(PIXELS.shape)
        properties.set_filter(h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FLAG_OPTIONAL, ())
        properties.set_filter(32001, h5py.h5z.FLAG_OPTIONAL, (0, 0, 0, 0))
        space = h5py.h5s.create_simple(PIXELS.shape)
        h5py.h5d.create(file.id, b"video", h5py.h5t.NATIVE_UINT8, space, properties)
    refused(path, "`video` is compressed by the filter .*32001, which is not installed")


@pytest.mark.parametrize("size", [512, 1024, 8192])
def test_a_block_of_the_users_own_may_come_first(tmp_path: Path, size: int) -> None:
    path = tmp_path / "clips.h5"
    with h5py.File(path, "w", userblock_size=size) as file:
        file["video"] = PIXELS
    with open(path, "r+b") as stream:
        stream.write(b"notes")
    np.testing.assert_array_equal(load_video(path).video, PIXELS)


def test_claims_are_checked_before_anything_is_made(tmp_path: Path) -> None:
    path = tmp_path / "clips.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("video", (10**9, 10, 3, 64, 64), "u1", chunks=(1, 10, 3, 64, 64))
    refused(path, "`video` would take 112 TiB of memory, but only")
    with h5py.File(path, "w") as file:
        file["video"] = PIXELS
        file.create_dataset("count", (10**9, 3), "i8", chunks=(1000, 3))
    refused(path, "`count` would take 22.4 GiB of memory, but only")
    with h5py.File(path, "w") as file:
        shape = 1, 2**23, 1, 8, 8
        file.create_dataset("video", shape, "u1", chunks=shape, compression="gzip")
    refused(path, "`video` would take 512 MiB")


def test_long_names_are_compared_with_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "clips.h5"
    with h5py.File(path, "w") as file:
        file["video"] = np.zeros((10_000, 1, 1, 1, 1), np.uint8)
        file.create_dataset("names", data=["x" * 10**6] + ["y"] * 9999, dtype=h5py.string_dtype())
    refused(path, "`names` would take 37.3 GiB of memory, but only")


def test_videos_beyond_the_limit_are_refused(secret: Path) -> None:
    assert len(load_video(secret, limit=48)) == 1
    for read in (load_video, load_clips):
        with pytest.raises(DataError, match=r"secret\.h5: `video` takes 48 bytes of memory, more"):
            read(secret, limit=47)  # type: ignore[operator]


def test_the_other_order_of_bytes_is_read(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "clips.h5", "w") as file:
        file.create_dataset("video", data=PIXELS / 255, dtype=">f4")
    np.testing.assert_array_equal(load_video(tmp_path / "clips.h5").video, PIXELS)


def test_classes_beyond_what_numbers_hold_are_refused(tmp_path: Path) -> None:
    classes = np.array([[2**64 - 1]], np.uint64)
    with h5py.File(tmp_path / "clips.h5", "w") as file:
        file["video"], file["classes"] = PIXELS, classes
    refused(tmp_path / "clips.h5", r"`classes` must be less than 2\^63, got 18446744073709551615")
    np.savez(tmp_path / "clips.npz", video=PIXELS, classes=classes)
    with pytest.raises(DataError, match=r"clips\.npz: `classes` must be less than 2\^63"):
        load_clips(tmp_path / "clips.npz")


def test_what_is_no_whole_hdf5_file_is_told_in_words(tmp_path: Path, secret: Path) -> None:
    (tmp_path / "text.h5").write_text("text")
    refused(tmp_path / "text.h5", r"not an HDF5 file\.$")
    (tmp_path / "half.h5").write_bytes(secret.read_bytes()[:-100])
    refused(tmp_path / "half.h5", r"cannot be opened, the file is truncated or damaged \(truncated file: eof")
    (tmp_path / "folder.h5").mkdir()
    with pytest.raises(DataError, match=r"folder\.h5: expected an HDF5 file, found a folder\.$"):
        VideoStore(tmp_path / "folder.h5")
