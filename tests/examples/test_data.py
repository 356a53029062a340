import json
import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from whatwhere.datasets import VideoData, load_video, save_video
from whatwhere.examples.data import main

pytestmark = pytest.mark.usefixtures("few_glyphs")

Captured = pytest.CaptureFixture[str]
Error = Callable[..., str]


def size_of(png: Path) -> tuple[int, int]:
    with Image.open(png) as image:
        return image.size


def make_glyphs(path: Path, *arguments: str) -> None:
    assert main(["glyphs", "--size", "6", "--output", str(path), *arguments]) == 0


def test_show_draws_a_video_as_a_strip(tmp_path: Path) -> None:
    path, png = tmp_path / "moving.h5", tmp_path / "strip.png"
    command = ["moving-digits", "--source", "glyphs", "--frames", "4", "--size", "10", "--output", str(path)]
    assert main(command) == 0
    shown = ["show", str(path), "--output", str(png), "--zoom", "1"]
    assert main(shown) == 0
    assert size_of(png) == (4 * 54 + 4, 8 * 54 + 4)
    assert main([*shown, "--start", "3", "--number", "1"]) == 0
    assert size_of(png) == (4 * 54 + 4, 54 + 4)


def test_show_leaves_frames_out(tmp_path: Path) -> None:
    """Frame t has grey value 40 t, and of a box from 2 to 4 in frame 4 alone the outline is seen."""
    path, png = tmp_path / "ramp.h5", tmp_path / "strip.png"
    video = np.broadcast_to(40 * np.arange(6, dtype=np.uint8)[:, None, None, None], (1, 6, 1, 8, 9))
    boxes = np.zeros((1, 6, 1, 4), np.float32)
    boxes[0, 4] = 2, 2, 2, 2
    save_video(path, VideoData(video, boxes=boxes))
    assert main(["show", str(path), "--output", str(png), "--zoom", "1", "--every", "2"]) == 0
    with Image.open(png) as image:
        pixels = np.asarray(image)
    assert pixels.shape == (8 + 8, 3 * 13 + 4, 3)
    assert pixels[10, [6, 19, 32]].tolist() == [[0] * 3, [80] * 3, [160] * 3]
    coloured = np.flatnonzero((pixels != pixels[..., :1]).any((0, 2)))
    assert coloured.tolist() == [30 + x for x in (1, 2, 3, 4)]


def test_join_makes_one_file_of_several(tmp_path: Path, capsys: Captured, data_error: Error) -> None:
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{name}.h5" for name in "abc"]
    for path, videos, frames in zip(paths, (3, 2, 1), (2, 4, 3), strict=True):
        video = rng.integers(1, 256, (videos, frames, 1, 6, 7), np.uint8)
        boxes = np.ones((videos, frames, 1, 4), np.float32)
        groups = None if path.stem == "b" else np.array([9, 2, 9][:videos])
        names = None if path.stem == "c" else np.array([f"{path.stem}{row}" for row in range(videos)])
        save_video(path, VideoData(video, boxes=boxes, groups=groups, names=names))
    output = tmp_path / "joined.h5"
    assert main(["join", *map(str, paths), "--output", str(output)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{paths[0]}: 3 videos, groups 0 to 1",
        f"{paths[1]}: 2 videos, group 2",
        f"{paths[2]}: 1 videos, group 3",
        f"{output}: 6 videos of up to 4 frames; left out, since not all files have them: names",
    ]
    data = load_video(output)
    assert data.groups is not None
    assert data.groups.tolist() == [1, 0, 1, 2, 2, 3]
    np.testing.assert_array_equal(data.video[3:5], load_video(paths[1]).video)
    np.testing.assert_array_equal(data.video[5, :3], load_video(paths[2]).video[0])
    with h5py.File(output) as file:
        assert file.attrs["generator"] == "join"
        parameters = json.loads(file.attrs["parameters"])
    assert parameters == {
        "files": ["a.h5", "b.h5", "c.h5"],
        "groups": [[0, 1], [2], [3]],
        "left_out": ["names"],
    }
    assert main(["join", str(paths[0]), str(paths[0]), "--output", str(output)]) == 0
    assert capsys.readouterr().out.endswith(f"{output}: 6 videos of up to 2 frames\n")
    save_video(paths[1], VideoData(np.zeros((1, 1, 1, 7, 6), np.uint8)))
    before = output.read_bytes()
    error = data_error("join", *paths, "--output", output)
    assert "b.h5: frames of 6 x 7 pixels" in error
    assert "a.h5 has 7 x 6 pixels" in error
    assert output.read_bytes() == before


def test_published_sets_of_coloured_objects_are_made(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "x.h5"
    for command, shape, objects in (
        (["spmot", "--identities", "slot"], (2, 3, 3, 64, 64), 3),
        (["spmot", "--image-size", "128"], (2, 3, 3, 128, 128), 3),
        (["coloured-balls", "--set", "two-layers"], (2, 3, 3, 64, 64), 6),
    ):
        assert main([*command, "--split", "test", "--size", "2", "--frames", "3", "--output", str(path)]) == 0
        assert capsys.readouterr().out == f"{path}: 2 videos of 3 frames\n"
        data = load_video(path)
        assert data.shape == shape
        assert data.classes is not None
        assert data.classes.shape == (2, objects)
        assert data.segments is not None
        assert main(["check", str(path)]) == 0
        capsys.readouterr()


def test_check_tells_valid_from_invalid(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "glyphs.h5"
    make_glyphs(path)
    assert main(["check", str(path)]) == 0
    assert f"{path}: valid" in capsys.readouterr().out
    path.write_bytes(path.read_bytes()[:-100])
    assert main(["check", str(path)]) == 1
    assert "truncated" in capsys.readouterr().out


def test_show_draws_the_chosen_images(tmp_path: Path) -> None:
    path, png = tmp_path / "glyphs.h5", tmp_path / "sheet.png"
    make_glyphs(path)
    shown = ["show", str(path), "--output", str(png), "--zoom", "2"]
    assert main(shown) == 0
    assert size_of(png) == (3 * 104 + 4, 2 * 104 + 4)
    assert main([*shown, "--start", "4", "--number", "64"]) == 0
    assert size_of(png) == (2 * 104 + 4, 104 + 4)


def test_errors_are_one_line_with_status_2(tmp_path: Path, data_error: Error) -> None:
    path = tmp_path / "glyphs.h5"
    make_glyphs(path)
    assert "no such file" in data_error("show", tmp_path / "none.h5", "--output", tmp_path / "x.png")
    assert "--start must be in [0, 6)" in data_error("show", path, "--output", "x.png", "--start", 6)
    assert "--number must be" in data_error("show", path, "--output", "x.png", "--number", 0)
    assert "--every must be" in data_error("show", path, "--output", "x.png", "--every", 0)
    assert "`size` must be at least 1" in data_error("glyphs", "--size", 0, "--output", path)
    assert "no file `train-images" in data_error("multi-mnist", "--digits", tmp_path, "--output", path)
    assert "`frames` must be" in data_error("moving-digits", "--frames", 0, "--output", path)
    assert "no file `train-im" in data_error("moving-digits", "--digits", tmp_path, "--output", path)
    assert "at least 44" in data_error("ratm-digits", "--image-size", 40, "--output", path)
    assert "`radius` must be" in data_error("bouncing-balls", "--radius", 9, "--output", path)
    assert "no such file or folder" in data_error("import", tmp_path / "none", "--output", path)
    assert "invalid choice: 'mnist'" in data_error("mnist")
    assert "--output" in data_error("glyphs")
    blocked = path / "below" / "x.h5"
    expected = f"`{path.resolve()}` is a file; give another `--output`"
    assert expected in data_error("glyphs", "--size", 1, "--output", blocked)


def test_pictures_of_different_sizes_are_told_the_option(tmp_path: Path, data_error: Error) -> None:
    for number in (4, 5):
        Image.new("L", (number, 4)).save(tmp_path / f"{number}.png")
    message = data_error("import", tmp_path, "--output", tmp_path / "all.h5")
    assert "5.png: 5 x 4 pixels, but 4.png has 4 x 4" in message
    assert "`--resize HEIGHT WIDTH`" in message
    assert main(["import", str(tmp_path), "--output", str(tmp_path / "all.h5"), "--resize", "4", "4"]) == 0


def test_pictures_of_twelve_bits_and_too_many(tmp_path: Path, data_error: Error) -> None:
    Image.fromarray(np.array([[0, 2048, 4095]], np.uint16)).save(tmp_path / "0.png")
    output = tmp_path / "all.h5"
    assert main(["import", str(tmp_path), "--output", str(output), "--bits", "12"]) == 0
    assert load_video(output).video.ravel().tolist() == [0, 128, 255]
    for options in (["--bits", "20"], ["--limit", "nan"], ["--limit", "1e-9"], ["--bits", "10"]):
        assert "error:" in data_error("import", tmp_path, "--output", output, *options)


def test_targets_of_other_benchmarks(tmp_path: Path) -> None:
    for number in (1, 2):
        Image.new("L", (9, 8)).save(tmp_path / f"{number}.png")
    (tmp_path / "groundtruth.txt").write_text("2,3,4,5\n2,3,6,3,6,8,2,8\n")
    output = tmp_path / "all.h5"
    command = ["targets", str(tmp_path), "--output", str(output), "--resize", "8", "9", "--origin", "1"]
    assert main(command) == 0
    boxes = load_video(output).boxes
    assert boxes is not None
    assert boxes[0, :, 0].tolist() == [[1, 2, 4, 5], [1, 2, 4, 5]]


@pytest.mark.parametrize("output", ["/dev/null", "pipe", ""])
def test_only_regular_files_are_written(tmp_path: Path, data_error: Error, output: str) -> None:
    Image.new("L", (9, 8)).save(tmp_path / "0.png")
    os.mkfifo(tmp_path / "pipe")
    path = str(tmp_path / output) if output == "pipe" else output
    assert "cannot write" in data_error("import", tmp_path, "--output", path)
    assert (tmp_path / "pipe").is_fifo()


def test_an_interruption_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("whatwhere.examples.data.check", interrupt)
    assert main(["check", "none.h5"]) == 130
    assert capsys.readouterr().err == "whatwhere-data check: interrupted\n"
