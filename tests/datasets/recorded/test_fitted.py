from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from whatwhere.datasets import DataError, used_bits


def picture(brightest: int, kind: type[np.generic] = np.uint16) -> Image.Image:
    return Image.fromarray(np.array([[0, 5, brightest]], kind))


def save_pages(path: Path, pages: list[Image.Image]) -> Path:
    pages[0].save(path, save_all=True, append_images=pages[1:])
    return path


@pytest.mark.parametrize(
    ("brightest", "bits"), [([100, 255], 8), ([100, 4095], 12), ([4096, 9], 13), ([3, 65535, 1], 16)]
)
def test_used_bits_are_those_of_the_brightest_pixel_in_a_folder_and_in_a_file(
    tmp_path: Path, brightest: list[int], bits: int
) -> None:
    pages = [picture(value) for value in brightest]
    assert used_bits(save_pages(tmp_path / "stack.tif", pages)) == bits
    assert used_bits(save_pages(tmp_path / "one.TIFF", pages[:1])) == max(8, brightest[0].bit_length())
    (tmp_path / "folder.tif").mkdir()
    for number, page in enumerate(pages):
        page.save(tmp_path / "folder.tif" / f"{number}.png")
    assert used_bits(tmp_path / "folder.tif") == bits


def test_used_bits_are_found_all_over_a_long_file(tmp_path: Path) -> None:
    """Pages become brighter: neither the first dozen nor the first half have as many bits as the last."""
    for pages in (13, 100):
        ramp = [picture(value) for value in np.linspace(100, 4095, pages).astype(int)]
        assert used_bits(save_pages(tmp_path / "stack.tif", ramp)) == 12


def test_no_bits_are_told_of_what_is_stored_in_eight(tmp_path: Path) -> None:
    pages = [picture(value, np.uint8) for value in (7, 200)]
    for name in ("stack.tif", "clip.gif", "clip.png"):
        assert used_bits(save_pages(tmp_path / name, pages)) is None
    np.savez(tmp_path / "clips.npz", video=np.zeros((2, 5, 9, 9), np.uint8))
    assert used_bits(tmp_path / "clips.npz") is None


def test_a_damaged_file_has_no_bits(tmp_path: Path) -> None:
    path = save_pages(tmp_path / "stack.tif", [picture(4095), picture(4095)])
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(DataError, match=r"stack\.tif: cannot be read as a TIFF"):
        used_bits(path)
