import dataclasses
import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from whatwhere.datasets import (
    Billiard,
    BouncingBallsRecipe,
    ClutterRecipe,
    MovingDigitsRecipe,
    PyroRecipe,
    RatmDigitsRecipe,
    ReleasedWalk,
    StaticSqairRecipe,
    VideoData,
    bouncing_ball_videos,
    clutter_videos,
    digits,
    load_video,
    moving_digit_videos,
    multi_object_images,
    store,
)
from whatwhere.examples.data import main

Captured = pytest.CaptureFixture[str]


def run_badly(capsys: Captured, *arguments: object) -> str:
    """The one line that a failing command tells."""
    try:
        status = main([str(argument) for argument in arguments])
    except SystemExit as stop:
        status = stop.code  # type: ignore[assignment]
    captured = capsys.readouterr()
    assert status == 2
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "Traceback" not in captured.err
    return captured.err


@pytest.fixture(autouse=True)
def few_glyphs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digits, "DEFAULT_GLYPHS", 50)


def size_of(png: Path) -> tuple[int, int]:
    with Image.open(png) as image:
        return image.size


def make_glyphs(path: Path, *arguments: str) -> None:
    assert main(["glyphs", "--size", "6", "--output", str(path), *arguments]) == 0


def test_glyphs_file_holds_the_images_of_the_library(tmp_path: Path) -> None:
    path = tmp_path / "new" / "glyphs.h5"
    options = ["--recipe", "static_sqair", "--max-objects", "3", "--image-size", "60"]
    make_glyphs(path, *options, "--split", "test", "--seed", "7")
    expected = multi_object_images(StaticSqairRecipe(0, 3, 60), "test", 6, 7, source="glyphs")
    data = load_video(path)
    np.testing.assert_array_equal(data.video, expected.video)
    for name, value in expected.labels().items():
        np.testing.assert_array_equal(data.labels()[name], value)
    with h5py.File(path) as file:
        assert file.attrs["generator"] == "static_sqair"
        assert file.attrs["seed"] == 7
        parameters = json.loads(file.attrs["parameters"])
    assert parameters == {
        "min_objects": 0,
        "max_objects": 3,
        "image_size": 60,
        "max_redraws": 5,
        "split": "test",
        "source": "glyphs",
    }


def write_idx(path: Path, array: np.ndarray) -> None:
    sizes = b"".join(n.to_bytes(4, "big") for n in array.shape)
    path.write_bytes(bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes())


def test_multi_mnist_reads_a_folder(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    write_idx(tmp_path / "train-images-idx3-ubyte", rng.integers(0, 256, (5, 28, 28), np.uint8))
    write_idx(tmp_path / "train-labels-idx1-ubyte", rng.integers(0, 10, 5, np.uint8))
    path = tmp_path / "mnist.h5"
    assert main(["multi-mnist", "--digits", str(tmp_path), "--size", "4", "--output", str(path)]) == 0
    expected = multi_object_images(PyroRecipe(), "train", 4, 0, folder=tmp_path)
    np.testing.assert_array_equal(load_video(path).video, expected.video)


def make_moving(path: Path, *arguments: str) -> None:
    command = ["moving-digits", "--source", "glyphs", "--frames", "4", "--output", str(path)]
    assert main([*command, *arguments]) == 0


def test_moving_digits_file_holds_the_videos_of_the_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setattr(store, "PART_BYTES", 2 * 4 * 60**2)  # two videos at a time
    path = tmp_path / "moving.h5"
    scene = ["--max-objects", "3", "--min-objects", "1", "--image-size", "60", "--noise-std", "0.1"]
    hard = ["--intermittent", "--return-probability", "0.5", "--split", "test", "--seed", "7", "--size", "5"]
    make_moving(path, *scene, *hard)
    assert capsys.readouterr().out == f"{path}: 5 videos of 4 frames\n"
    recipe = MovingDigitsRecipe(1, 3, 60, 4, intermittent=True, return_probability=0.5, noise_std=0.1)
    expected = moving_digit_videos(recipe, "test", 5, 7, source="glyphs").subset(range(5))
    data = load_video(path)
    np.testing.assert_array_equal(data.video, expected.video)
    for name, value in expected.labels().items():
        np.testing.assert_array_equal(data.labels()[name], value)
    with h5py.File(path) as file:
        assert file.attrs["generator"] == "moving_digits"
        assert file.attrs["seed"] == 7
        parameters = json.loads(file.attrs["parameters"])
    assert parameters == {**dataclasses.asdict(recipe), "split": "test", "source": "glyphs"}


def parameters_of(path: Path, generator: str, expected: VideoData) -> dict[str, object]:
    """What a file says that its data were made from, if it holds `expected`."""
    data = load_video(path)
    np.testing.assert_array_equal(data.video, expected.video)
    assert data.labels().keys() == expected.labels().keys()
    for name, value in expected.labels().items():
        np.testing.assert_array_equal(data.labels()[name], value)
    with h5py.File(path) as file:
        assert file.attrs["generator"] == generator
        assert file.attrs["seed"] == 7
        parameters: dict[str, object] = json.loads(file.attrs["parameters"])
    return parameters


def test_ratm_digits_file_holds_the_videos_of_the_library(tmp_path: Path) -> None:
    path = tmp_path / "ratm.h5"
    command = ["ratm-digits", "--source", "glyphs", "--seed", "7", "--size", "3", "--output", str(path)]
    assert main([*command, "--motion", "released", "--frames", "30", "--split", "test"]) == 0
    recipe = RatmDigitsRecipe(frames=30, motion=ReleasedWalk())
    expected = moving_digit_videos(recipe, "test", 3, 7, source="glyphs").subset(range(3))
    rule = {"rule": "released", "inertia": 0.9, "max_step": 15}
    assert parameters_of(path, "ratm_digits", expected) == {
        **dataclasses.asdict(recipe),
        "motion": rule,
        "split": "test",
        "source": "glyphs",
    }
    scene = ["--min-objects", "2", "--max-objects", "3", "--image-size", "130", "--noise-std", "0.1"]
    assert main([*command, *scene, "--motion", "billiard"]) == 0
    recipe = RatmDigitsRecipe(2, 3, 130, motion=Billiard(), noise_std=0.1)
    expected = moving_digit_videos(recipe, "train", 3, 7, source="glyphs").subset(range(3))
    assert parameters_of(path, "ratm_digits", expected)["noise_std"] == 0.1
    assert main(command) == 0
    expected = moving_digit_videos(RatmDigitsRecipe(), "train", 3, 7, source="glyphs").subset(range(3))
    assert parameters_of(path, "ratm_digits", expected)["frames"] == 10


def test_bouncing_balls_file_holds_the_videos_of_the_library(tmp_path: Path) -> None:
    path = tmp_path / "balls.h5"
    command = ["bouncing-balls", "--seed", "7", "--size", "3", "--output", str(path)]
    assert main(command) == 0
    recipe = BouncingBallsRecipe()
    expected = bouncing_ball_videos(recipe, "train", 3, 7).subset(range(3))
    parameters = parameters_of(path, "bouncing_balls", expected)
    assert parameters == {**dataclasses.asdict(recipe), "split": "train"}
    scene = ["--min-objects", "0", "--max-objects", "4", "--image-size", "30", "--frames", "5"]
    assert main([*command, *scene, "--radius", "0.8", "--speed", "1.5", "--split", "test"]) == 0
    recipe = BouncingBallsRecipe(0, 4, 30, 5, 0.8, 1.5)
    expected = bouncing_ball_videos(recipe, "test", 3, 7).subset(range(3))
    parameters = parameters_of(path, "bouncing_balls", expected)
    assert parameters == {**dataclasses.asdict(recipe), "split": "test"}


def test_clutter_file_holds_the_videos_of_the_library(tmp_path: Path) -> None:
    path = tmp_path / "clutter.h5"
    command = ["clutter", "--seed", "7", "--size", "2", "--frames", "4", "--output", str(path)]
    assert main(command) == 0
    recipe = ClutterRecipe.of_difficulty(0.5, image_size=(64, 64), frames=4)
    expected = clutter_videos(recipe, "train", 2, 7).subset(range(2))
    parameters = parameters_of(path, "clutter", expected)
    assert parameters["split"] == "train"
    assert parameters["max_distractors"] == recipe.max_distractors
    options = [
        "--difficulty",
        "0",
        "--grey",
        "--image-size",
        "32",
        "40",
        "--source",
        "glyphs",
        "--split",
        "test",
    ]
    assert main([*command, *options]) == 0
    recipe = ClutterRecipe.of_difficulty(0, image_size=(32, 40), channels=1, frames=4)
    expected = clutter_videos(recipe, "test", 2, 7, source="glyphs").subset(range(2))
    assert parameters_of(path, "clutter", expected)["source"] == "glyphs"


def kth_folder(folder: Path) -> Path:
    """KTH's layout: a video whose frame k has grey value 50 k, with clips of 2 and of 3 frames."""
    av = pytest.importorskip("av", reason="needs PyAV: pip install 'whatwhere[video]'")
    folder.mkdir()
    with av.open(str(folder / "person03_running_d2_uncomp.avi"), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "gray"
        for frame in range(5):
            pixels = np.full((120, 160), 50 * frame, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="gray")))
        container.mux(stream.encode())
    box = " 10 20 90 45"
    lines = ["3 2 5 1 1 2" + 2 * box, "3 2 5 2 3 5" + 3 * box, "4 2 6 1 1 1" + box, "4 2 1 1 1 9" + 9 * box]
    (folder / "boxes.txt").write_text("\n".join(lines))
    return folder


def test_kth_file_holds_the_clips(tmp_path: Path, capsys: Captured) -> None:
    folder, path = kth_folder(tmp_path / "videos"), tmp_path / "kth.h5"
    command = ["kth", str(folder), "--annotation", str(folder / "boxes.txt"), "--output", str(path)]
    error = run_badly(capsys, *command)
    assert "boxes.txt, line 3: " in error
    assert "person04_walking_d2_uncomp.avi: no such file" in error
    assert not path.exists()
    assert main([*command, "--skip-bad"]) == 0
    output = capsys.readouterr().out.splitlines()
    assert len(output) == 2
    assert output[0].startswith("skipped: ")
    assert output[1] == f"{path}: 2 clips of up to 3 frames, 1 clips skipped"
    data = load_video(path)
    assert data.video[:, :, 0, 7, 9].tolist() == [[0, 50, 0], [100, 150, 200]]
    assert data.names is not None
    assert data.names.tolist() == ["person03_running_d2_1", "person03_running_d2_2"]
    assert main(["check", str(path)]) == 0
    output = capsys.readouterr().out
    assert f"{path}: valid" in output
    assert "groups: (2,)" in output
    assert "names: (2,)" in output
    with h5py.File(path) as file:
        assert file.attrs["generator"] == "kth"
        parameters = json.loads(file.attrs["parameters"])
    assert parameters == {"annotation": "boxes.txt", "actions": ["jogging", "running", "walking"]}
    assert main([*command, "--actions", "running"]) == 0
    assert load_video(path).shape[:2] == (2, 3)
    capsys.readouterr()
    assert "invalid choice: 'crawling'" in run_badly(capsys, *command, "--actions", "crawling")


def test_weizmann_file_holds_the_silhouettes(tmp_path: Path, capsys: Captured) -> None:
    folder, path = tmp_path / "weizmann", tmp_path / "silhouettes.h5"
    folder.mkdir()
    masks = np.zeros((2, 144, 180), bool)
    masks[:, 30:50, 100:104] = True
    np.savez(folder / "silhouettes_packed.npz", ida_run=np.packbits(masks, axis=-1))
    command = ["weizmann", str(folder), "--output", str(path)]
    assert "boxes_from_masks.csv: no such file" in run_badly(capsys, *command)
    rows = ["sequence,frame,x,y,w,h", "ida_run,0,100,30,4,20", "ida_run,1,100,30,4,20"]
    (folder / "boxes_from_masks.csv").write_text("\n".join(rows))
    assert main(command) == 0
    assert capsys.readouterr().out == f"{path}: 1 clips of up to 2 frames\n"
    data = load_video(path)
    np.testing.assert_array_equal(data.video[0, :, 0], 255 * masks.astype(int))
    assert data.boxes is not None
    assert data.boxes[0, :, 0].tolist() == [[100, 30, 4, 20]] * 2
    with h5py.File(path) as file:
        assert file.attrs["generator"] == "weizmann"


def test_show_draws_a_video_as_a_strip(tmp_path: Path) -> None:
    path, png = tmp_path / "moving.h5", tmp_path / "strip.png"
    make_moving(path, "--size", "10")
    shown = ["show", str(path), "--output", str(png), "--zoom", "1"]
    assert main(shown) == 0
    assert size_of(png) == (4 * 54 + 4, 8 * 54 + 4)
    assert main([*shown, "--start", "3", "--number", "1"]) == 0
    assert size_of(png) == (4 * 54 + 4, 54 + 4)


def test_import_collects_a_folder(tmp_path: Path, capsys: Captured) -> None:
    folder, path = tmp_path / "pictures", tmp_path / "mine.h5"
    folder.mkdir()
    Image.fromarray(np.full((6, 8, 3), 9, np.uint8)).save(folder / "a.png")
    (folder / "b.png").write_bytes(b"text")
    assert "b.png: cannot be read as an image" in run_badly(capsys, "import", folder, "--output", path)
    assert not path.exists()
    arguments = [
        "import",
        str(folder),
        "--output",
        str(path),
        "--skip-unreadable",
        "--resize",
        "3",
        "4",
        "--grey",
    ]
    assert main(arguments) == 0
    assert "skipped: " in capsys.readouterr().out
    video = load_video(path).video
    assert video.shape == (1, 1, 1, 3, 4)
    assert (video == 9).all()


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


def test_errors_are_one_line_with_status_2(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "glyphs.h5"
    make_glyphs(path)
    capsys.readouterr()
    assert "no such file" in run_badly(capsys, "show", tmp_path / "none.h5", "--output", tmp_path / "x.png")
    assert "--start must be in [0, 6)" in run_badly(capsys, "show", path, "--output", "x.png", "--start", 6)
    assert "--number must be" in run_badly(capsys, "show", path, "--output", "x.png", "--number", 0)
    assert "`size` must be at least 1" in run_badly(capsys, "glyphs", "--size", 0, "--output", path)
    assert "no file `train-images" in run_badly(capsys, "multi-mnist", "--digits", tmp_path, "--output", path)
    assert "`frames` must be" in run_badly(capsys, "moving-digits", "--frames", 0, "--output", path)
    assert "no file `train-im" in run_badly(capsys, "moving-digits", "--digits", tmp_path, "--output", path)
    assert "at least 44" in run_badly(capsys, "ratm-digits", "--image-size", 40, "--output", path)
    assert "`radius` must be" in run_badly(capsys, "bouncing-balls", "--radius", 9, "--output", path)
    assert "no such folder" in run_badly(capsys, "import", tmp_path / "none", "--output", path)
    assert "invalid choice: 'mnist'" in run_badly(capsys, "mnist")
    assert "--output" in run_badly(capsys, "glyphs")
    blocked = path / "below" / "x.h5"
    assert "glyphs.h5" in run_badly(capsys, "glyphs", "--size", 1, "--output", blocked)


def test_otb_tld_and_kitti_become_files_of_the_schema(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One small sequence each, in the layouts of the originals."""
    rng = np.random.default_rng(0)
    for name, places in (("otb/Walk/img", 4), ("tld/walk/img", 5), ("kitti/training/image_02/0000", 6)):
        (tmp_path / name).mkdir(parents=True)
        for t in range(6):
            number = t + (name.startswith("otb") or name.startswith("tld"))
            picture = Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8))
            picture.save(tmp_path / name / f"{number:0{places}}.png")
    rects = [f"{3 + t},{4 + t},8,9" for t in range(6)]
    (tmp_path / "otb/Walk/groundtruth_rect.txt").write_text("\n".join(rects) + "\n")
    corners = [f"{2 + t},{3 + t},{10 + t},{12 + t}" for t in range(6)]
    corners[3] = "NaN,NaN,NaN,NaN"
    (tmp_path / "tld/walk/gt.txt").write_text("\n".join(corners) + "\n")
    (tmp_path / "kitti/training/label_02").mkdir()
    row = "{t} 1 Car 0 0 0.1 {l} 4 {r} 14 1 1 1 1 1 1 0.1"
    lines = [row.format(t=t, l=2 + t, r=14 + t) for t in range(6)]
    (tmp_path / "kitti/training/label_02/0000.txt").write_text("\n".join(lines) + "\n")
    size = ["--resize", "12", "16", "--grey"]
    for name, options in (
        ("otb", []),
        ("tld", []),
        ("kitti", ["--frames", "6", "--resized-frames"]),
    ):
        out = tmp_path / f"{name}.h5"
        assert main([name, str(tmp_path / name), *size, *options, "--output", str(out)]) == 0, (
            capsys.readouterr()
        )
        data = load_video(out)
        assert data.shape == (1, 6, 1, 12, 16)
        assert data.boxes is not None
        present = data.boxes[0, :, 0, 2] > 0
        assert present.tolist() == [True, True, True, name != "tld", True, True]
        assert main(["check", str(out)]) == 0
    otb = load_video(tmp_path / "otb.h5")
    np.testing.assert_allclose(otb.boxes[0, 0, 0], [1, 1.5, 4, 4.5])  # from 1, and half as large
    (tmp_path / "otb/Walk/groundtruth_rect.txt").write_text("1,2,3\n")
    capsys.readouterr()
    assert "groundtruth_rect.txt, line 1" in run_badly(
        capsys, "otb", tmp_path / "otb", "--output", tmp_path / "x"
    )
