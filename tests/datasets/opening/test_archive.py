import zipfile
from pathlib import Path

import numpy as np
import pytest

from whatwhere.datasets import DataError, load_clips, open_frames

GREY = np.arange(144, dtype=np.uint8).reshape(3, 6, 8)


def with_header(path: Path, header: bytes, content: bytes = bytes(100), name: str = "video.npy") -> Path:
    """An archive of one array of which the header is as given."""
    with zipfile.ZipFile(path, "w") as file:
        length = len(header).to_bytes(2, "little")
        file.writestr(name, b"\x93NUMPY\x01\x00" + length + header + content)
    return path


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"{'descr': '|u1', 'fortran_order': False, 'shape': (3, 6, 8", "cannot be read"),
        (b"{'descr': '|u1', 'fortran_order': False, 'shape': (True, 6, 8)}", "lengths of axes, got shape"),
        (b"{'descr': '|u1', 'fortran_order': False, 'shape': (-1, 6, 8)}", "lengths of axes, got shape"),
        (b"{'descr': '|u1', 'fortran_order': False, 'shape': (10**9, 6, 8)}", "cannot be read"),
        (b"{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000, 6, 8)}", "bytes, but has"),
        (b"{'descr': '<U999999', 'fortran_order': False, 'shape': (9, 6, 8)}", "bytes, but has"),
        (b"{'descr': '|O', 'fortran_order': False, 'shape': (9, 6, 8)}", "it holds Python objects"),
        (b"{'descr': [('a', '|u1')], 'fortran_order': False, 'shape': (1, 6, 8)}", "must be uint8 or real"),
        (b"[" * 9000, "cannot be read"),
        (b"", "cannot be read"),
    ],
    ids=range(10),
)
def test_misleading_headers_are_refused(tmp_path: Path, header: bytes, message: str) -> None:
    path = with_header(tmp_path / "clip.npz", header)
    for read in (load_clips, open_frames):
        with pytest.raises(DataError, match=rf"clip\.npz: `video` .*{message}"):
            read(path)  # type: ignore[operator]


def test_other_versions_of_the_format(tmp_path: Path) -> None:
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (3, 6, 8)}\n"
    for version, length in ((2, len(header).to_bytes(4, "little")), (9, len(header).to_bytes(4, "little"))):
        with zipfile.ZipFile(tmp_path / "clip.npz", "w") as file:
            file.writestr("video.npy", b"\x93NUMPY" + bytes([version, 0]) + length + header + GREY.tobytes())
        if version == 2:
            np.testing.assert_array_equal(load_clips(tmp_path / "clip.npz").video[0, :, 0], GREY)
    with pytest.raises(DataError, match=r"clip\.npz: `video` must have the \.npy format .* got 9\.0"):
        load_clips(tmp_path / "clip.npz")


def test_arrays_beyond_the_limit_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "clip.npz", video=GREY)
    assert len(load_clips(tmp_path / "clip.npz", limit=144)) == 1
    with pytest.raises(DataError, match=r"clip\.npz: `video` takes 144 bytes .* the limit of 143 bytes"):
        load_clips(tmp_path / "clip.npz", limit=143)


def test_what_is_damaged_after_the_header_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "clip.npz"
    np.savez(path, video=GREY)
    content = bytearray(path.read_bytes())
    content[content.index(GREY.tobytes()) + 50] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"clip\.npz: `video` cannot be read from an \.npz archive \(Bad CRC"):
        load_clips(path)
    with pytest.raises(DataError, match=r"clip\.npz: `video` cannot be read from an \.npz archive \(Bad CRC"):
        list(open_frames(path))


def test_no_file_but_archives(tmp_path: Path) -> None:
    path = tmp_path / "clip.npz"
    with open(path, "wb") as stream:
        np.save(stream, GREY)
    with pytest.raises(DataError, match=r"clip\.npz: expected an \.npz archive, found a single array"):
        load_clips(path)
