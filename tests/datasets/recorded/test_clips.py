import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

from whatwhere.datasets import DataError, VideoData, load_clips, load_video, open_frames, save_video

RNG = np.random.default_rng(0)
COLOURED = RNG.integers(0, 256, (3, 6, 8, 3), np.uint8)  # (T, H, W, C)
GREY = RNG.integers(0, 256, (3, 6, 8), np.uint8)
LUMA = np.array([0.299, 0.587, 0.114])


def save_frames(folder: Path, names: list[str], frames: np.ndarray) -> None:
    folder.mkdir(exist_ok=True, parents=True)
    for name, frame in zip(names, frames, strict=True):
        Image.fromarray(frame).save(folder / name)


def numbered(count: int) -> list[str]:
    return [f"{number}.png" for number in range(count)]


# Folders


def test_frames_are_in_natural_order(tmp_path: Path) -> None:
    names = ["frame10.png", "Frame9.png", "frame1b.png", "frame2.PNG", "frame1a20.png", "frame1a3.png"]
    save_frames(tmp_path, names, np.stack([np.full((2, 2), number, np.uint8) for number in range(6)]))
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / ".hidden.png").write_text("no image")
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "objects.csv").write_text("frame,left")
    video = load_clips(tmp_path).video
    assert video.shape == (1, 6, 1, 2, 2)
    assert video[0, :, 0, 0, 0].tolist() == [5, 4, 2, 3, 1, 0]


def test_numbers_with_and_without_zeros_have_one_order(tmp_path: Path) -> None:
    names = ["f10.png", *(f"f{'0' * zeros}2.png" for zeros in range(8)), "f1.png"]  # equal numbers as text
    save_frames(tmp_path, names, np.stack([np.full((2, 2), value, np.uint8) for value in range(10)]))
    assert load_clips(tmp_path).video[0, :, 0, 0, 0].tolist() == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]


def test_a_folder_keeps_its_pixels(tmp_path: Path) -> None:
    save_frames(tmp_path, numbered(3), COLOURED)
    np.testing.assert_array_equal(load_clips(str(tmp_path)).video[0], COLOURED.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(load_clips(tmp_path, channels=3).video, load_clips(tmp_path).video)


def test_every_folder_in_a_folder_is_a_video(tmp_path: Path) -> None:
    clips = {"clip10": GREY, "clip9": GREY[::-1], "clip11": 255 - GREY}
    for name, frames in clips.items():
        save_frames(tmp_path / name, numbered(3), frames)
    (tmp_path / ".cache").mkdir()
    (tmp_path / "readme.txt").write_text("no image")
    video = load_clips(tmp_path).video
    np.testing.assert_array_equal(video[:, :, 0], [clips["clip9"], clips["clip10"], clips["clip11"]])


def test_videos_of_a_folder_must_be_equally_long_and_not_empty(tmp_path: Path) -> None:
    save_frames(tmp_path / "a", numbered(3), GREY)
    save_frames(tmp_path / "b", numbered(2), GREY[:2])
    with pytest.raises(DataError, match=r"[/\\]b: 2 frames, but a has 3"):
        load_clips(tmp_path)
    for name in numbered(2):
        (tmp_path / "b" / name).unlink()
    with pytest.raises(DataError, match=r"[/\\]b: expected PNG, JPEG, BMP, TIFF or WebP files"):
        load_clips(tmp_path)


def test_films_of_a_folder_must_be_equally_long(tmp_path: Path) -> None:
    for name, length in (("a.gif", 2), ("b.gif", 4)):  # six frames, which could be two videos of three
        frames = [Image.fromarray(np.full((4, 5), 40 * number, np.uint8)) for number in range(length)]
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match=r"b\.gif: 4 frames, but a\.gif has 2; videos must be equally long"):
        load_clips(tmp_path)


def test_frames_beside_folders_of_frames_are_refused(tmp_path: Path) -> None:
    save_frames(tmp_path, numbered(3), GREY)
    save_frames(tmp_path / "a", numbered(3), GREY)
    with pytest.raises(DataError, match="found both"):
        load_clips(tmp_path)


def test_one_coloured_frame_makes_all_videos_coloured(tmp_path: Path) -> None:
    save_frames(tmp_path / "a", numbered(3), GREY)
    save_frames(tmp_path / "b", numbered(3), COLOURED)
    video = load_clips(tmp_path).video
    np.testing.assert_array_equal(video[0], np.stack([GREY] * 3, axis=1))
    np.testing.assert_array_equal(video[1], COLOURED.transpose(0, 3, 1, 2))


def test_frames_of_different_sizes_are_refused_unless_resized(tmp_path: Path) -> None:
    save_frames(tmp_path / "a", ["1.png"], GREY[:1])
    save_frames(tmp_path / "b", ["1.png"], GREY[:1, :3])
    with pytest.raises(DataError, match=r"[/\\]b[/\\]1\.png: 8 x 3 pixels, but 1\.png has 8 x 6"):
        load_clips(tmp_path)
    assert load_clips(tmp_path, size=(2, 4)).video.shape == (2, 1, 1, 2, 4)


def test_frames_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    save_frames(tmp_path, numbered(3), COLOURED)
    (tmp_path / "1.png").write_bytes((tmp_path / "1.png").read_bytes()[:60])
    with pytest.raises(DataError, match=r"[/\\]1\.png: cannot be read as an image"):
        load_clips(tmp_path)


def test_empty_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is none"):
        load_clips(tmp_path)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everywhere")
def test_folders_without_permission_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir(mode=0)
    with pytest.raises(DataError, match=r"folder: cannot be read \(Permission denied\)"):
        load_clips(folder)


# Archives


def save_npz(folder: Path, **arrays: Any) -> Path:
    path = folder / "clip.npz"
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize(
    ("shape", "axes", "full"),
    [
        ((3, 6, 8), "thw", (1, 3, 1, 6, 8)),
        ((3, 6, 8, 1), "thwc", (1, 3, 1, 6, 8)),
        ((3, 6, 8, 2), "thwc", (1, 3, 2, 6, 8)),
        ((3, 6, 8, 3), "thwc", (1, 3, 3, 6, 8)),
        ((3, 6, 8, 4), "thwc", (1, 3, 4, 6, 8)),
        ((2, 6, 8, 4), "thwc", (1, 2, 4, 6, 8)),
        ((1, 3, 8, 4), "thwc", (1, 1, 4, 3, 8)),
        ((3, 6, 8, 5), "bthw", (3, 6, 1, 8, 5)),
        ((1, 5, 8, 9), "bthw", (1, 5, 1, 8, 9)),
        ((2, 3, 4, 6, 8), "btchw", (2, 3, 4, 6, 8)),
        ((2, 3, 1, 2, 3), "btchw", (2, 3, 1, 2, 3)),
        ((1, 1, 3, 6, 8), "btchw", (1, 1, 3, 6, 8)),
    ],
)
def test_axes_of_arrays(tmp_path: Path, shape: tuple[int, ...], axes: str, full: tuple[int, ...]) -> None:
    array = RNG.integers(0, 256, shape, np.uint8)
    video = load_clips(save_npz(tmp_path, video=array)).video
    assert video.shape == full
    for index in np.ndindex(*full):
        place = dict(zip("btchw", index, strict=True))
        assert video[index] == array[tuple(place[axis] for axis in axes)]


@pytest.mark.parametrize("shape", [(5, 1, 8, 9), (5, 3, 8, 9), (5, 4, 8, 9)])
def test_arrays_that_could_be_channels_or_frames_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    few = shape[1]
    with pytest.raises(DataError, match=rf"{few} channels or 5 videos of {few} frames") as caught:
        load_clips(save_npz(tmp_path, video=np.zeros(shape, np.uint8)))
    for remedy in ((1, 5, few, 8, 9), (5, few, 1, 8, 9)):
        assert str(remedy) in str(caught.value)
        assert load_clips(save_npz(tmp_path, video=np.zeros(remedy, np.uint8))).video.shape == remedy


@pytest.mark.parametrize("shape", [(), (8,), (6, 8), (6, 8, 3), (1, 2, 3, 1, 6, 8)])
def test_arrays_of_other_axes_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=r"clip\.npz: `video` must have axes .*got shape"):
        load_clips(save_npz(tmp_path, video=np.zeros(shape, np.uint8)))


def test_arrays_without_pixels_or_with_many_channels_are_refused(tmp_path: Path) -> None:
    for shape in ((0, 6, 8), (3, 0, 8), (3, 6, 8, 0), (0, 6, 8, 3), (3, 0, 6, 8), (0, 1, 1, 6, 8)):
        with pytest.raises(DataError, match=r"clip\.npz: `pixels` is empty"):
            load_clips(save_npz(tmp_path, pixels=np.zeros(shape, np.uint8)))
    with pytest.raises(DataError, match=r"clip\.npz: `pixels` must have 1 to 4 channels, got 6"):
        load_clips(save_npz(tmp_path, pixels=np.zeros((1, 3, 6, 8, 3), np.uint8)))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
def test_real_values_become_the_nearest_level(tmp_path: Path, dtype: Any) -> None:
    levels = np.arange(256).reshape(2, 8, 16)
    values = np.clip((levels + RNG.uniform(-0.35, 0.35, levels.shape)) / 255, 0, 1)
    video = load_clips(save_npz(tmp_path, video=values.astype(dtype))).video
    np.testing.assert_array_equal(video, levels[None, :, None])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -0.01, 1.01, 255.0])
@pytest.mark.parametrize(
    ("shape", "index", "where"),
    [((4, 6, 8), (2, 1, 1), "frame 2 of video 0"), ((2, 5, 6, 8), (1, 3, 0, 0), "frame 3 of video 1")],
)
def test_values_out_of_range_are_refused(
    tmp_path: Path, value: float, shape: tuple[int, ...], index: tuple[int, ...], where: str
) -> None:
    array = np.full(shape, 0.5)
    array[index] = value
    with pytest.raises(DataError, match=rf"clip\.npz: `video` must .* \[0, 1\], got {value} in {where}"):
        load_clips(save_npz(tmp_path, video=array))


@pytest.mark.parametrize("dtype", [np.int64, bool, np.complex64, "U1"])
def test_other_types_are_refused(tmp_path: Path, dtype: Any) -> None:
    with pytest.raises(DataError, match=r"clip\.npz: `video` must be uint8 or real numbers, got"):
        load_clips(save_npz(tmp_path, video=np.zeros((3, 6, 8), dtype)))


def test_the_array_of_pixels_is_called_video_or_stands_alone(tmp_path: Path) -> None:
    count = np.zeros(3, np.uint8)
    for arrays in ({"frames": GREY}, {"frames": GREY, "count": count}, {"video": GREY, "frames": COLOURED}):
        np.testing.assert_array_equal(load_clips(save_npz(tmp_path, **arrays)).video[0, :, 0], GREY)
    np.savez(tmp_path / "clip.npz", GREY)
    np.testing.assert_array_equal(load_clips(tmp_path / "clip.npz").video[0, :, 0], GREY)
    for arrays in ({}, {"count": count}, {"a": GREY, "b": GREY}):
        with pytest.raises(DataError, match=r"clip\.npz: expected an array `video`.*found \["):
            load_clips(save_npz(tmp_path, **arrays))


LABELS: dict[str, np.ndarray] = {
    "count": np.array([[1, 2, 0], [2, 2, 1]], np.uint8),
    "classes": np.array([[3, 7], [0, -1]], np.int16),
    "boxes": RNG.uniform(0, 5, (2, 3, 2, 4)),
    "visible": RNG.uniform(0, 1, (2, 3, 2)).astype(np.float16),
    "groups": np.array([7, 2], np.uint8),
    "names": np.array(["zoë_walk", "b"]),
}
DTYPES = {"count": np.int64, "classes": np.int64, "groups": np.int64, "names": np.str_}


def test_labels_of_arrays_have_the_axis_of_videos_if_the_pixels_have_it(tmp_path: Path) -> None:
    several = load_clips(save_npz(tmp_path, video=np.stack([GREY, GREY])[:, :, None], **LABELS))
    first = {name: value[0] for name, value in LABELS.items()}
    single = load_clips(save_npz(tmp_path, video=GREY, **first))
    assert several.labels().keys() == single.labels().keys() == LABELS.keys()
    for name, value in LABELS.items():
        dtype = DTYPES.get(name, np.float32)
        np.testing.assert_array_equal(several.labels()[name], value.astype(dtype))
        np.testing.assert_array_equal(single.labels()[name], value[:1].astype(dtype))
    assert load_clips(save_npz(tmp_path, video=GREY, count=first["count"])).labels().keys() == {"count"}


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("count", [1, 2], "`count` must have shape"),
        ("count", [1.0, 2.0, 0.0], "`count` must be integers, got float64"),
        ("count", [1, -2, 0], "`count` must not be negative"),
        ("boxes", np.full((3, 2, 4), 1e300), "`boxes` must be finite"),
        ("boxes", np.full((3, 2, 4), "a"), "`boxes` must be real numbers"),
        ("visible", np.full((3, 2), 1.5), r"`visible` must be in \[0, 1\]"),
        ("groups", [1, 2], "`groups` must have shape"),
        ("names", 3, "`names` must be text"),
    ],
)
def test_labels_that_do_not_fit_are_refused(tmp_path: Path, name: str, value: Any, problem: str) -> None:
    with pytest.raises(DataError, match=rf"clip\.npz: {problem}"):
        load_clips(save_npz(tmp_path, video=GREY, **{name: np.array(value)}))


class Dangerous:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.folder),)


def test_pickled_objects_are_never_loaded(tmp_path: Path) -> None:
    objects = np.array([Dangerous(tmp_path / "made")], object)
    for name in ("video", "count"):
        arrays = {"video": GREY, "notes": objects, name: objects}
        with pytest.raises(DataError, match=rf"clip\.npz: `{name}` cannot be read from an \.npz archive"):
            load_clips(save_npz(tmp_path, **arrays))
    np.testing.assert_array_equal(
        load_clips(save_npz(tmp_path, video=GREY, notes=objects)).video[0, :, 0], GREY
    )
    (tmp_path / "clip.npz").write_bytes(objects.dumps())
    with pytest.raises(DataError, match=r"clip\.npz: cannot be read from an \.npz archive"):
        load_clips(tmp_path / "clip.npz")
    assert not (tmp_path / "made").exists()


def test_damaged_archives_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "clip.npz"
    np.savez_compressed(path, video=GREY)
    whole = path.read_bytes()
    for length in range(0, len(whole), 29):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"clip\.npz: .*cannot be read from an \.npz archive"):
            load_clips(path)
    for start, stop in ((-1, 1), (-90, 60)):  # a wrong value, and what cannot be decompressed
        changed = bytearray(whole)
        middle = len(whole) // 2
        changed[middle + start : middle + stop] = b"\xff" * (stop - start)
        path.write_bytes(changed)
        with pytest.raises(DataError, match=r"clip\.npz: `video` cannot be read from an \.npz archive"):
            load_clips(path)
    with open(path, "wb") as stream:
        np.save(stream, GREY)
    with pytest.raises(DataError, match=r"clip\.npz: expected an \.npz archive, found a single array"):
        load_clips(path)


# GIFs


def save_gif(folder: Path, frames: list[Image.Image], **options: Any) -> Path:
    path = folder / "film.GIF"
    frames[0].save(path, format="GIF", save_all=True, append_images=frames[1:], **options)
    return path


def test_every_picture_of_a_gif_is_a_frame(tmp_path: Path) -> None:
    colours = RNG.integers(0, 256, (4, 6, 3), np.uint8)  # of each frame, so that palettes differ
    frames = np.stack([palette[RNG.integers(0, 6, (6, 8))] for palette in colours])
    path = save_gif(tmp_path, [Image.fromarray(frame) for frame in frames], duration=[10, 500, 20, 30])
    video = load_clips(path).video
    np.testing.assert_array_equal(video[0], frames.transpose(0, 3, 1, 2))
    grey = load_clips(path, channels=1).video
    np.testing.assert_allclose(grey[0, :, 0], frames @ LUMA, atol=1)


def test_grey_gifs_have_one_channel(tmp_path: Path) -> None:
    path = save_gif(tmp_path, [Image.fromarray(frame) for frame in GREY])
    np.testing.assert_array_equal(load_clips(path).video, GREY[None, :, None])
    np.testing.assert_array_equal(load_clips(path, channels=3).video[0], np.stack([GREY] * 3, axis=1))


def test_what_is_transparent_in_a_gif_is_black_and_old_pictures_are_cleared(tmp_path: Path) -> None:
    frames = np.zeros((3, 6, 8, 4), np.uint8)
    for number in range(3):
        frames[number, 1:4, 2 * number : 2 * number + 3] = (200, 30, 90, 255)
    path = save_gif(tmp_path, [Image.fromarray(frame) for frame in frames], disposal=2)
    np.testing.assert_array_equal(load_clips(path).video[0], frames[..., :3].transpose(0, 3, 1, 2))


def test_damaged_gifs_are_refused(tmp_path: Path) -> None:
    path = save_gif(tmp_path, [Image.fromarray(frame) for frame in GREY])
    whole = path.read_bytes()
    messages = set()
    for length in range(0, len(whole) - 5, 19):
        path.write_bytes(whole[:length])
        try:  # what ends between pictures is a shorter video
            video = load_clips(path).video
            np.testing.assert_array_equal(video[0, :, 0], GREY[: video.shape[1]])
        except DataError as error:
            messages.add(str(error)[: len(f"{path}, frame 0: cannot be read as a GIF")])
    assert messages == {f"{path}, frame {number}: cannot be read as a GIF" for number in range(3)}
    Image.fromarray(GREY[0]).save(path, format="PNG")
    with pytest.raises(DataError, match=r"film\.GIF, frame 0: cannot be read as a GIF"):
        load_clips(path)


def test_gifs_whose_frames_differ_in_size_are_refused(tmp_path: Path) -> None:
    path = save_gif(tmp_path, [Image.fromarray(frame) for frame in GREY])
    usual, moved = (b"," + struct.pack("<4H", left, 0, 8, 6) for left in (0, 1))
    header, first, second, third = path.read_bytes().split(usual)
    # The second picture now reaches beyond the right border.
    path.write_bytes(header + usual + first + moved + second + usual + third)
    with pytest.raises(
        DataError, match=r"film\.GIF, frame 1: 9 x 6 pixels, but film\.GIF, frame 0 has 8 x 6"
    ):
        load_clips(path)


# Video files


@pytest.mark.parametrize("name", ["film.AVI", "film.mkv"])
def test_a_video_file_is_one_video(tmp_path: Path, write_film: Callable[..., Path], name: str) -> None:
    frames = np.repeat(COLOURED, 2, axis=1).repeat(2, axis=2)
    path = write_film(tmp_path / name, frames)
    np.testing.assert_array_equal(load_clips(path).video, frames.transpose(0, 3, 1, 2)[None])
    small = load_clips(path, size=(6, 8), channels=1).video
    assert small.shape == (1, 3, 1, 6, 8)
    np.testing.assert_allclose(small[0, :, 0], COLOURED @ LUMA, atol=1)


# HDF5 files, and what is common to all


def test_hdf5_files_keep_their_labels(tmp_path: Path, videos: VideoData) -> None:
    save_video(tmp_path / "data.h5", videos)
    data = load_clips(tmp_path / "data.h5")
    for name, value in {"video": videos.video, **videos.labels()}.items():
        np.testing.assert_array_equal(getattr(data, name), value)


def test_damaged_hdf5_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "data.hdf5").write_text("text")
    with pytest.raises(DataError, match=r"data\.hdf5: not an HDF5 file"):
        load_clips(tmp_path / "data.hdf5")
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["video"] = np.full((1, 2, 1, 4, 4), np.nan)
    with pytest.raises(DataError, match=r"data\.h5: `video` must have real values in \[0, 1\]"):
        load_clips(tmp_path / "data.h5")


def every_source(folder: Path, frames: np.ndarray) -> list[Path]:
    """The same coloured video `(T, H, W, 3)` in every form."""
    save_frames(folder / "frames", numbered(len(frames)), frames)
    data = VideoData(frames.transpose(0, 3, 1, 2)[None].copy())
    save_video(folder / "clip.h5", data)
    gif = save_gif(folder, [Image.fromarray(frame) for frame in frames])
    return [folder / "frames", folder / "clip.h5", save_npz(folder, video=frames), gif]


def test_all_sources_give_the_same_video(tmp_path: Path) -> None:
    frames = COLOURED[:, :2, :2].repeat(3, axis=1).repeat(4, axis=2)  # few colours, for the GIF
    sources = every_source(tmp_path, frames)
    for path in sources:
        np.testing.assert_array_equal(load_clips(path).video[0], frames.transpose(0, 3, 1, 2))
        grey = load_clips(path, channels=1).video
        assert grey.shape == (1, 3, 1, 6, 8)
        np.testing.assert_allclose(grey[0, :, 0], frames @ LUMA, atol=1)
        np.testing.assert_array_equal(grey, load_clips(sources[0], channels=1).video)


@pytest.mark.parametrize("size", [(2, 4), (3, 2), (6, 1)])
def test_resizing_averages_areas_in_every_source(tmp_path: Path, size: tuple[int, int]) -> None:
    frames = COLOURED[:, :3, :3].repeat(2, axis=1)[:, :, [0, 0, 1, 2, 1, 1, 2, 2]]
    height, width = 6 // size[0], 8 // size[1]
    means = frames.reshape(3, size[0], height, size[1], width, 3).mean((2, 4))
    sources = every_source(tmp_path, frames)
    for path in sources:
        video = load_clips(path, size=size).video
        assert video.shape == (1, 3, 3, *size)
        np.testing.assert_allclose(video[0], means.transpose(0, 3, 1, 2), atol=1)
        np.testing.assert_array_equal(video, load_clips(sources[0], size=size).video)


def test_enlarging_by_whole_factors_repeats_pixels(tmp_path: Path) -> None:
    path = save_npz(tmp_path, video=GREY)
    expected = GREY.repeat(2, axis=1).repeat(3, axis=2)
    np.testing.assert_array_equal(load_clips(path, size=(12, 24)).video[0, :, 0], expected)


def test_boxes_are_resized_with_their_frames(tmp_path: Path) -> None:
    """A box of pixels [2, 6) x [1, 4) of a 6 x 8 frame; the frame is made 3 times as high, half as wide."""
    path = save_npz(
        tmp_path, video=GREY, boxes=np.array([[[2.0, 1, 4, 3]]] * 3), visible=np.full((3, 1), 0.5)
    )
    data = load_clips(path, size=(18, 4))
    assert data.boxes is not None
    assert data.boxes.tolist() == [[[[1.0, 3.0, 2.0, 9.0]]] * 3]
    assert data.boxes.dtype == np.float32
    assert data.visible is not None
    assert data.visible.tolist() == [[[0.5]] * 3]


def test_grey_videos_get_three_equal_channels(tmp_path: Path, videos: VideoData) -> None:
    save_video(tmp_path / "data.h5", videos)
    data = load_clips(tmp_path / "data.h5", channels=3)
    np.testing.assert_array_equal(data.video, np.concatenate([videos.video] * 3, axis=2))
    for name, value in load_video(tmp_path / "data.h5").labels().items():
        np.testing.assert_array_equal(data.labels()[name], value)
    resized = load_clips(tmp_path / "data.h5", size=(3, 7))
    assert resized.names is not None
    assert resized.names.tolist() == videos.labels()["names"].tolist()
    assert resized.segments is not None
    np.testing.assert_array_equal(resized.segments, videos.labels()["segments"][..., 1::2, :])
    np.testing.assert_array_equal(load_clips(tmp_path / "data.h5", channels=1).video, videos.video)


@pytest.mark.parametrize(("present", "wanted"), [(4, 3), (2, 1), (4, 1), (3, 4), (1, 2)])
def test_other_conversions_of_channels_are_refused(tmp_path: Path, present: int, wanted: int) -> None:
    path = save_npz(tmp_path, video=np.zeros((3, 6, 8, present), np.uint8))
    assert load_clips(path, channels=present).video.shape[2] == present
    with pytest.raises(DataError, match=rf"clip\.npz: has {present} channels, .* into {wanted}"):
        load_clips(path, channels=wanted)


def test_missing_and_unknown_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.npz: no such file or folder"):
        load_clips(tmp_path / "none.npz")
    (tmp_path / "film.txt").touch()
    with pytest.raises(DataError, match=r"film\.txt: expected a folder of frames, or a file.*\.avi, \.mp4"):
        load_clips(tmp_path / "film.txt")


@pytest.mark.parametrize("size", [(0, 4), (4,), (4, -1), (1, 2, 3)])
def test_impossible_sizes_are_refused(tmp_path: Path, size: Any) -> None:
    with pytest.raises(ValueError, match="`size` must be two positive numbers"):
        load_clips(tmp_path, size=size)


@pytest.mark.parametrize("channels", [0, 5])
def test_impossible_channels_are_refused(tmp_path: Path, channels: int) -> None:
    with pytest.raises(ValueError, match="`channels` must be 1 to 4"):
        load_clips(tmp_path, channels=channels)


@pytest.mark.parametrize("name", ["clip.gif", "clip.avi", "clip.npz", "clip.h5"])
def test_pipes_are_refused_not_waited_for(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    for read in (load_clips, open_frames):
        with pytest.raises(DataError, match=rf"{name}: expected a folder of frames, or a file"):
            read(tmp_path / name)  # type: ignore[operator]
