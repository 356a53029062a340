from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from whatwhere.datasets import DataError, VideoData, load_folder, load_images, load_pictures, save_video

RNG = np.random.default_rng(0)
COLOURED = RNG.integers(0, 256, (6, 8, 3), np.uint8)
GREY = RNG.integers(0, 256, (6, 8), np.uint8)


def save(folder: Path, **images: np.ndarray) -> None:
    for name, array in images.items():
        Image.fromarray(array).save(folder / f"{name}.png")


def test_images_are_sorted_by_name_and_kept_as_they_are(tmp_path: Path) -> None:
    save(tmp_path, b=COLOURED, a=COLOURED[::-1], c=COLOURED[:, ::-1])
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / "folder.png").mkdir()
    images = load_folder(tmp_path)
    assert [path.name for path in images.files] == ["a.png", "b.png", "c.png"]
    assert images.data.video.shape == (3, 1, 3, 6, 8)
    for array, frame in zip((COLOURED[::-1], COLOURED, COLOURED[:, ::-1]), images.data.video, strict=True):
        np.testing.assert_array_equal(frame[0].transpose(1, 2, 0), array)
    assert images.skipped == []


def test_jpeg_and_upper_case_names_are_read(tmp_path: Path) -> None:
    for name in ("a.JPG", "b.jpeg", "c.PNG"):
        Image.fromarray(np.full((16, 16), 77, np.uint8)).save(tmp_path / name)
    assert (load_folder(tmp_path).data.video == 77).all()


def test_grey_folders_have_one_channel_and_mixed_ones_three(tmp_path: Path) -> None:
    save(tmp_path, a=GREY)
    np.testing.assert_array_equal(load_folder(tmp_path).data.video[0, 0], GREY[None])
    save(tmp_path, b=COLOURED)
    video = load_folder(tmp_path).data.video
    np.testing.assert_array_equal(video[0, 0], np.stack([GREY] * 3))
    np.testing.assert_array_equal(video[1, 0], COLOURED.transpose(2, 0, 1))


def test_grey_is_luma(tmp_path: Path) -> None:
    save(tmp_path, a=COLOURED)
    video = load_folder(tmp_path, grey=True).data.video
    assert video.shape == (1, 1, 1, 6, 8)
    np.testing.assert_allclose(video[0, 0, 0], COLOURED @ [0.299, 0.587, 0.114], atol=1)


@pytest.mark.parametrize(("size", "shape"), [(2, (2, 2)), ((3, 4), (3, 4))])
def test_resizing_averages_areas(tmp_path: Path, size: Any, shape: tuple[int, int]) -> None:
    save(tmp_path, a=GREY)
    height, width = 6 // shape[0], 8 // shape[1]
    means = GREY.reshape(shape[0], height, shape[1], width).mean((1, 3))
    np.testing.assert_allclose(load_folder(tmp_path, size=size).data.video[0, 0, 0], means, atol=1)


def test_transparency_lies_on_black(tmp_path: Path) -> None:
    rgba = np.concatenate([COLOURED, np.full((6, 8, 1), 51, np.uint8)], axis=-1)
    save(tmp_path, a=rgba)
    expected = COLOURED.transpose(2, 0, 1) * 0.2
    np.testing.assert_allclose(load_folder(tmp_path).data.video[0, 0], expected, atol=1)


def test_sixteen_bits_keep_their_upper_half(tmp_path: Path) -> None:
    save(tmp_path, a=GREY.astype(np.uint16) * 257)
    np.testing.assert_array_equal(load_folder(tmp_path).data.video[0, 0, 0], GREY)


def test_orientation_of_the_camera_is_followed(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    Image.fromarray(GREY).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(load_folder(tmp_path).data.video[0, 0, 0], np.rot90(GREY, -1))


def test_different_sizes_need_a_size(tmp_path: Path) -> None:
    save(tmp_path, a=GREY, b=GREY[:4])
    with pytest.raises(DataError, match=r"b.png: 8 x 4 pixels, but a.png has 8 x 6; all must have one size"):
        load_folder(tmp_path)
    assert load_folder(tmp_path, size=3).data.video.shape == (2, 1, 1, 3, 3)


def test_unreadable_files_stop_or_are_reported(tmp_path: Path) -> None:
    save(tmp_path, a=COLOURED, c=np.tile(COLOURED, (9, 9, 1)))
    (tmp_path / "b.png").write_bytes(b"text")
    whole = (tmp_path / "c.png").read_bytes()
    (tmp_path / "c.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"b\.png: cannot be read as an image"):
        load_folder(tmp_path)
    images = load_folder(tmp_path, skip_unreadable=True)
    assert [path.name for path in images.files] == ["a.png"]
    assert [f"{name}.png: cannot be read" in text for name, text in zip("bc", images.skipped, strict=True)]
    (tmp_path / "a.png").unlink()
    with pytest.raises(DataError, match="none of the 2 could be read"):
        load_folder(tmp_path, skip_unreadable=True)


def test_missing_and_empty_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        load_folder(tmp_path / "none")
    with pytest.raises(DataError, match=r"expected PNG, JPEG, BMP, TIFF or WebP files, there is none"):
        load_folder(tmp_path)
    with pytest.raises(ValueError, match="`size` must be one or two positive numbers"):
        load_folder(tmp_path, size=0)


def test_load_images_takes_folders_and_hdf5(tmp_path: Path, videos: VideoData) -> None:
    (tmp_path / "pictures").mkdir()
    save(tmp_path / "pictures", a=GREY)
    assert load_images(tmp_path / "pictures", size=4).video.shape == (1, 1, 1, 4, 4)
    save_video(tmp_path / "data.H5", videos)
    np.testing.assert_array_equal(load_images(tmp_path / "data.H5").video, videos.video)
    with pytest.raises(ValueError, match="are for folders"):
        load_images(tmp_path / "data.H5", grey=True)
    with pytest.raises(DataError, match="no such file or folder"):
        load_images(tmp_path / "none.h5")
    with pytest.raises(DataError, match="expected a folder of images"):
        load_images(tmp_path / "pictures" / "a.png")


def test_pictures_of_a_folder_and_of_those_in_it(tmp_path: Path):
    (tmp_path / "film").mkdir()
    (tmp_path / ".hidden").mkdir()
    for number in range(9):
        Image.new("RGB", (20 + number, 30), (number, 0, 0)).save(tmp_path / "film" / f"{number}.png")
    Image.new("L", (17, 18), 7).save(tmp_path / "photo.png")
    Image.new("L", (17, 18), 7).save(tmp_path / ".hidden" / "photo.png")
    (tmp_path / "notes.txt").write_text("")
    found = load_pictures(tmp_path, most=3)
    assert [picture.shape for picture in found] == [(18, 17), (30, 20, 3), (30, 24, 3), (30, 28, 3)]
    assert [int(picture[0, 0, 0]) for picture in found[1:]] == [0, 4, 8]


def test_small_pictures_are_left_out_and_named(tmp_path: Path):
    for name, side in (("a.png", 16), ("icon.png", 15)):
        Image.new("L", (20, side)).save(tmp_path / name)
    with pytest.warns(UserWarning, match=r"1 pictures have a side of less than 16 pixels.*icon\.png"):
        assert [picture.shape for picture in load_pictures(tmp_path, smallest=16)] == [(16, 20)]
    with pytest.raises(DataError, match="of 21 pixels"), pytest.warns(UserWarning, match="left out"):
        load_pictures(tmp_path, smallest=21)


def test_pictures_of_sixteen_bits_use_those_that_there_are(tmp_path: Path):
    Image.fromarray(np.array([[0, 2048, 4095]], np.uint16)).save(tmp_path / "a.png")
    (picture,) = load_pictures(tmp_path)
    assert picture.tolist() == [[0, 128, 255]]


def test_a_folder_must_have_pictures(tmp_path: Path):
    with pytest.raises(DataError, match="expected PNG or JPEG files"):
        load_pictures(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        load_pictures(tmp_path / "nothing")
