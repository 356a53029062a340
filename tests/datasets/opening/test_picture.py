import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from whatwhere.datasets import DataError, load_clips, load_folder
from whatwhere.datasets.opening import read_image

RNG = np.random.default_rng(0)
COLOURED = RNG.integers(0, 256, (6, 8, 3), np.uint8)
GREY = COLOURED[..., 0]


def read(path: Path, bits: int = 16) -> np.ndarray:
    return read_image(path, None, grey=False, bits=bits)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "TIFF", "webp"])
@pytest.mark.parametrize("pixels", [GREY, COLOURED], ids=["grey", "coloured"])
def test_formats_without_loss_keep_their_pixels(tmp_path: Path, suffix: str, pixels: np.ndarray) -> None:
    path = tmp_path / f"0.{suffix}"
    Image.fromarray(pixels).save(path, lossless=True)
    expected = pixels
    if suffix == "webp" and pixels.ndim == 2:  # which knows colours only
        expected = np.repeat(pixels[..., None], 3, axis=-1)
    np.testing.assert_array_equal(read(path), expected)


def test_a_folder_has_all_of_them(tmp_path: Path) -> None:
    for number, suffix in enumerate(["png", "bmp", "jpg", "tif", "webp"]):
        Image.fromarray(COLOURED).save(tmp_path / f"{number}.{suffix}")
    (tmp_path / "._0.png").write_bytes(b"\0\5\x16\7Mac OS X")
    assert load_clips(tmp_path).shape == (1, 5, 3, 6, 8)
    assert [path.name for path in load_folder(tmp_path).files][:2] == ["0.png", "1.bmp"]
    assert len(load_folder(tmp_path).data) == 5


def test_several_pictures_in_one_file_are_refused(tmp_path: Path) -> None:
    pages = [Image.fromarray(each) for each in (COLOURED, COLOURED[::-1])]
    for name in ("0.tif", "0.png", "0.webp"):
        pages[0].save(tmp_path / name, save_all=True, append_images=pages[1:])
        with pytest.raises(DataError, match=rf"{name}: expected one picture, found 2"):
            read(tmp_path / name)


def test_no_other_decoder_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "gs"
    program.write_text(f"#!/bin/sh\necho >> {tmp_path}/started\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    path = tmp_path / "0.png"
    path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n")
    with pytest.raises(DataError, match=r"0\.png: cannot be read as an image"):
        read(path)
    assert not (tmp_path / "started").exists()


def with_exif(path: Path, entries: list[bytes], order: str) -> None:
    mark = b"II" if order == "<" else b"MM"
    body = struct.pack(f"{order}H", len(entries)) + b"".join(entries) + bytes(4)
    exif = b"Exif\0\0" + mark + struct.pack(f"{order}HI", 42, 8) + body
    Image.fromarray(COLOURED).save(path, exif=exif, lossless=True)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [3, 4])
@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_the_camera_is_turned_and_nothing_else_is_looked_at(
    tmp_path: Path, order: str, kind: int, suffix: str
) -> None:
    upright = {
        1: COLOURED,
        2: COLOURED[:, ::-1],
        3: COLOURED[::-1, ::-1],
        4: COLOURED[::-1],
        5: COLOURED.transpose(1, 0, 2),
        6: np.rot90(COLOURED, -1),
        7: np.rot90(COLOURED, 2).transpose(1, 0, 2),
        8: np.rot90(COLOURED),
        9: COLOURED,
    }
    # A text, and a number of a type that there is not, whose values are outside the file.
    broken = (
        struct.pack(f"{order}HHII", 0x010F, 2, 2**31, 2**31),
        struct.pack(f"{order}HHII", 0x13B, 99, 7, 9),
    )
    path = tmp_path / f"0.{suffix}"
    for number, expected in upright.items():
        value = struct.pack(
            f"{order}{'HH' if kind == 3 else 'I'}", *((number, 0) if kind == 3 else (number,))
        )
        entry = struct.pack(f"{order}HHI", 0x0112, kind, 1) + value
        with_exif(path, [broken[0], entry, broken[1]], order)
        np.testing.assert_array_equal(read(path), expected)
    with_exif(path, [entry[:7]], order)
    np.testing.assert_array_equal(read(path), COLOURED)


def png(width: int, height: int, bits: int, kind: int, rows: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG file by its definition."""
    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n"
    for name, data in ((b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
        content += struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    return content


def grey_png(values: np.ndarray, *chunks: tuple[bytes, bytes]) -> bytes:
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return png(values.shape[1], values.shape[0], 16, 0, rows, *chunks)


def test_sixteen_bits_are_scaled_by_those_that_are_used(tmp_path: Path) -> None:
    values = np.array([[0, 15, 16, 2048, 4095]], np.uint16)
    path = tmp_path / "0.png"
    for content in (grey_png(values), None):
        if content is None:
            path = tmp_path / "0.tif"
            Image.fromarray(values).save(path)
        else:
            path.write_bytes(content)
        with pytest.warns(UserWarning, match=rf"{tmp_path.name}: .* only 12 are used.*`bits=12`"):
            assert read(path).tolist() == [[0, 0, 0, 8, 15]]
        assert read(path, bits=12).tolist() == [[0, 0, 1, 128, 255]]
        with pytest.raises(DataError, match=r"expected grey values of 10 bits, .* found 0 to 4095"):
            read(path, bits=10)
    for loaded in (load_folder(tmp_path, bits=12).data, load_clips(tmp_path, bits=12)):
        assert loaded.video.reshape(2, -1).tolist() == [[0, 0, 1, 128, 255]] * 2
    for bits in (7, 17):
        with pytest.raises(ValueError, match="bits"):
            load_folder(tmp_path, bits=bits)


def test_bright_and_black_pictures_of_sixteen_bits_need_no_word(tmp_path: Path) -> None:
    for values in ([[0, 255, 256, 65535]], [[0, 0, 0, 0]]):
        (tmp_path / "0.png").write_bytes(grey_png(np.array(values)))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert read(tmp_path / "0.png").tolist() == [[value // 256 for value in values[0]]]


def test_a_transparent_colour_is_black_whatever_the_bits(tmp_path: Path) -> None:
    path = tmp_path / "0.png"
    path.write_bytes(grey_png(np.array([[512, 40000, 40001]]), (b"tRNS", struct.pack(">H", 40000))))
    assert read(path).tolist() == [[2, 0, 156]]
    path.write_bytes(png(3, 1, 8, 0, b"\0" + bytes([2, 40, 41]), (b"tRNS", struct.pack(">H", 40))))
    assert read(path).tolist() == [[2, 0, 41]]


def test_real_pixels_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((2, 2), 0.5, np.float32)).save(tmp_path / "0.tif")
    with pytest.raises(DataError, match=r"0\.tif: expected whole numbers for pixels, found real ones"):
        read(tmp_path / "0.tif")


def test_claims_of_size_are_checked_before_anything_is_made(tmp_path: Path) -> None:
    path = tmp_path / "0.png"
    for side in (1200, 12_000, 60_000):
        path.write_bytes(png(side, side, 8, 2, b"\0" * 100))
        with pytest.raises(DataError, match=r"0\.png: "):
            read(path)
