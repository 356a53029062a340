import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from whatwhere.datasets import DataError, VideoData, VideoStore, check, load_video, save_video

Change = Callable[[h5py.File], Any]


def replace(name: str, value: Any) -> Change:
    def change(file: h5py.File) -> None:
        if name in file:
            del file[name]
        file[name] = value

    return change


def attribute(name: str, value: Any) -> Change:
    return lambda file: file.attrs.__setitem__(name, value)


def one_bad(value: float) -> np.ndarray:
    pixels = np.zeros((5, 2, 1, 6, 7), np.float32)
    pixels[3, 1, 0, 2, 2] = value
    return pixels


LAYOUT_ERRORS: list[tuple[Change, str]] = [
    (attribute("schema", "else/where"), "`schema` must be 'whatwhere/video', got 'else/where'"),
    (attribute("schema", 3), "`schema` must be"),
    (attribute("schema_version", 2), "`schema_version` must be a number from 1 to 1, got 2"),
    (attribute("schema_version", "1"), "`schema_version` must be"),
    (attribute("schema_version", [1, 1]), "`schema_version` must be"),
    (lambda file: file.__delitem__("video"), "expected a dataset `video`.*found neither, only"),
    (replace("images", np.zeros((5, 6, 7), np.uint8)), "found both"),
    (replace("video", np.zeros((5, 1, 6, 7), np.uint8)), "`video` must have 5 dimensions.*`images`"),
    (replace("video", np.zeros((0, 2, 1, 6, 7), np.uint8)), "`video` is empty"),
    (replace("video", h5py.Empty("u1")), "`video` must have 5 dimensions"),
    (replace("video", np.zeros((5, 2, 6, 7, 1), np.uint8)), "1 to 4 channels, got 6"),
    (replace("video", np.zeros((5, 2, 1, 6, 7), np.int64)), "uint8, float32 or float64, got int64"),
    (replace("video", np.zeros((5, 2, 1, 6, 7), np.float16)), "got float16"),
    (replace("video", np.zeros((5, 2, 1, 6, 7), bool)), "got bool"),
]
LABEL_ERRORS: list[tuple[Change, str]] = [
    (replace("count", np.zeros((5, 3), int)), r"`count` must have shape \(5, 2\)"),
    (replace("count", np.zeros((5, 2))), "`count` must be integers, got float64"),
    (replace("count", np.full((5, 2), -1)), "`count` must not be negative"),
    (replace("classes", np.zeros((4, 3), int)), r"`classes` must have shape"),
    (replace("classes", h5py.Empty("i8")), "`classes` must be a dataset with values"),
    (replace("boxes", np.zeros((5, 2, 3, 2))), r"`boxes` must have shape \(5, 2, 3, 4\)"),
    (replace("boxes", np.full((5, 2, 3, 4), np.inf)), "`boxes` must be finite"),
    (replace("boxes", np.full((5, 2, 3, 4), 1e300)), "`boxes` must be finite"),
    (replace("boxes", np.full((5, 2, 3, 4), "a", dtype="S1")), "`boxes` must be real numbers"),
    (replace("visible", np.full((5, 2, 3), 2.0)), r"`visible` must be in \[0, 1\]"),
]
LABEL_ERRORS += [
    (replace("segments", np.full((5, 2, 6, 7), 256)), r"`segments` must be in \[0, 255\], got 256 to 256"),
    (replace("groups", np.zeros((5, 3), int)), r"`groups` must have shape \(5,\)"),
    (replace("groups", np.full(5, -1)), "`groups` must not be negative"),
    (replace("groups", np.zeros(5)), "`groups` must be integers, got float64"),
    (replace("names", ["a", "b"]), r"`names` must have shape \(5,\)"),
    (replace("names", np.arange(5)), "`names` must be text, got int64"),
    (replace("names", np.array([b"\xff"] * 5)), "`names` must be UTF-8"),
]
PIXEL_ERRORS: list[tuple[Change, str]] = [
    (replace("video", one_bad(value)), rf"`video` must have real values in \[0, 1\], got {shown} in number 3")
    for value, shown in ((np.nan, "nan"), (np.inf, "inf"), (1.5, "1.5"), (-0.25, "-0.25"))
]


def broken(tmp_path: Path, videos: VideoData, change: Change) -> Path:
    path = tmp_path / "data.h5"
    save_video(path, videos)
    with h5py.File(path, "r+") as file:
        change(file)
    return path


def assert_refused(path: Path, message: str, *openers: Callable[[Path], Any]) -> None:
    for opener in openers:
        with pytest.raises(DataError, match=message) as caught:
            opener(path)
        assert str(caught.value).startswith(f"{path}: ")
    report = check(path)
    assert len(report.problems) == 1
    assert not report.problems[0].startswith(str(path))


@pytest.mark.parametrize(("change", "message"), LAYOUT_ERRORS + LABEL_ERRORS)
def test_bad_layout_and_labels_are_refused(
    tmp_path: Path, videos: VideoData, change: Change, message: str
) -> None:
    assert_refused(broken(tmp_path, videos, change), message, load_video, VideoStore)


@pytest.mark.parametrize(("change", "message"), PIXEL_ERRORS)
def test_bad_pixels_are_refused(tmp_path: Path, videos: VideoData, change: Change, message: str) -> None:
    path = broken(tmp_path, videos, change)
    assert_refused(path, message, load_video, lambda path: VideoStore(path).batch([3]))
    assert VideoStore(path).batch([2]).video.shape == (1, 2, 1, 6, 7)


def test_a_group_is_not_a_label(tmp_path: Path, videos: VideoData) -> None:
    def change(file: h5py.File) -> None:
        del file["count"]
        file.create_group("count")

    assert_refused(broken(tmp_path, videos, change), "`count` must be a dataset", load_video, VideoStore)


def test_files_without_the_newer_labels_are_read(tmp_path: Path, videos: VideoData) -> None:
    def change(file: h5py.File) -> None:
        del file["groups"], file["names"], file["segments"]

    path = broken(tmp_path, videos, change)
    assert check(path).problems == []
    assert load_video(path).labels().keys() == {"count", "classes", "boxes", "visible"}


@pytest.mark.parametrize(
    ("dtype", "word"),
    [("S9", "ab"), (h5py.string_dtype("ascii"), "ab"), (h5py.string_dtype("utf-8", 9), "zoë")],
)
def test_names_may_be_strings_of_any_kind(tmp_path: Path, videos: VideoData, dtype: Any, word: str) -> None:
    words = [word, "", "c", "d e f", "g"]
    names = np.array([each.encode() for each in words], object)
    loaded = load_video(broken(tmp_path, videos, replace("names", names.astype(dtype)))).names
    assert loaded is not None
    assert loaded.tolist() == words


def test_check_reports_everything(tmp_path: Path, videos: VideoData) -> None:
    def change(file: h5py.File) -> None:
        for each, _ in (PIXEL_ERRORS[0], LABEL_ERRORS[1], LABEL_ERRORS[3], LABEL_ERRORS[9]):
            each(file)
        file.attrs["parameters"] = "{"

    problems = check(broken(tmp_path, videos, change)).problems
    for name in ("video", "count", "classes", "visible", "parameters"):
        assert sum(f"`{name}`" in problem.split(" must ")[0] for problem in problems) == 1, name
    assert len(problems) == 5


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_real_pixels_are_rounded_to_the_nearest_grey_value(tmp_path: Path, dtype: Any) -> None:
    values = np.array([0, 1, 0.4999 / 255, 0.5001 / 255, 254.4 / 255, 254.6 / 255, 100 / 255], dtype)
    path = tmp_path / "mine.h5"
    with h5py.File(path, "w") as file:
        file["video"] = values.reshape(1, 1, 1, 1, -1)
    assert load_video(path).video.ravel().tolist() == [0, 255, 0, 1, 254, 255, 100]
    assert (VideoStore(path).batch([0]).video.ravel() * 255).round().tolist() == [0, 255, 0, 1, 254, 255, 100]


@pytest.mark.parametrize("shape", [(4, 6, 7), (4, 1, 6, 7), (4, 3, 6, 7)])
def test_still_images_are_videos_of_one_frame(tmp_path: Path, shape: tuple[int, ...]) -> None:
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    path = tmp_path / "mine.h5"
    with h5py.File(path, "w") as file:
        file["images"] = images
        file["count"] = np.arange(4, dtype=np.uint8) % 3
        file["boxes"] = np.arange(32).reshape(4, 2, 4)
        file["visible"] = np.full((4, 1, 2), 0.5)
        file["classes"] = np.zeros((4, 2), np.int16)
    data = load_video(path)
    channels = 3 if shape == (4, 3, 6, 7) else 1
    np.testing.assert_array_equal(data.video, images.reshape(4, 1, channels, 6, 7))
    assert data.count is not None
    assert data.boxes is not None
    assert data.visible is not None
    assert data.count.tolist() == [[0], [1], [2], [0]]
    np.testing.assert_array_equal(data.boxes, np.arange(32).reshape(4, 1, 2, 4))
    assert data.visible.shape == (4, 1, 2)
    assert not check(path).problems


@pytest.mark.parametrize("shape", [(4, 7), (4, 1, 1, 6, 7), (4, 6, 7, 3)])
def test_images_of_other_shapes_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = tmp_path / "mine.h5"
    with h5py.File(path, "w") as file:
        file["images"] = np.zeros(shape, np.uint8)
    assert_refused(path, "`images` must have dim|1 to 4 channels, got 6", load_video, VideoStore)


def test_what_is_not_hdf5_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "data.h5"
    assert_refused(path, "no such file", load_video, VideoStore)
    assert_refused(tmp_path, "found a folder", load_video, VideoStore)
    for content in (b"", b"PNG and so on"):
        path.write_bytes(content)
        assert_refused(path, "not an HDF5 file", load_video, VideoStore)


def test_truncated_files_are_refused(tmp_path: Path, videos: VideoData) -> None:
    path, cut = tmp_path / "whole.h5", tmp_path / "cut.h5"
    save_video(path, videos)
    content = path.read_bytes()
    for length in np.linspace(8, len(content) - 1, 40).astype(int):
        cut.write_bytes(content[:length])
        assert_refused(cut, "truncated or damaged", load_video, VideoStore)


def test_damaged_pixels_are_refused(tmp_path: Path, videos: VideoData) -> None:
    path = tmp_path / "data.h5"
    save_video(path, videos)
    with h5py.File(path) as file:
        place = file["video"].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    content[place.byte_offset + 20 : place.byte_offset + 60] = bytes(40)
    path.write_bytes(content)
    assert_refused(
        path, "`video` cannot be read, the file is damaged", load_video, lambda p: VideoStore(p).batch([0])
    )


def test_damage_anywhere_is_a_data_error_or_harmless(tmp_path: Path, videos: VideoData) -> None:
    path = tmp_path / "data.h5"
    save_video(path, videos)
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(150):
        damaged = bytearray(content)
        start = int(rng.integers(8, len(content)))
        damaged[start : start + 4] = rng.bytes(min(4, len(content) - start))
        path.write_bytes(damaged)
        check(path)
        with contextlib.suppress(DataError):
            load_video(path)
