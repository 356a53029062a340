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
    PastedRecipe,
    PyroRecipe,
    RatmDigitsRecipe,
    ReleasedWalk,
    StaticSqairRecipe,
    VideoData,
    bouncing_ball_videos,
    clutter_videos,
    load_pictures,
    load_video,
    moving_digit_videos,
    multi_object_images,
    pasted_videos,
)
from whatwhere.datasets.storage import store
from whatwhere.examples.data import main

pytestmark = pytest.mark.usefixtures("few_glyphs")

Captured = pytest.CaptureFixture[str]


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


def test_pasted_file_holds_the_videos_of_the_library(tmp_path: Path, capsys: Captured) -> None:
    rng = np.random.default_rng(0)
    for number in range(3):
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), np.uint8)).save(tmp_path / f"{number}.png")
    path = tmp_path / "pasted.h5"
    options = ["--size", "2", "--frames", "4", "--image-size", "24", "32", "--seed", "3", "--split", "test"]
    assert main(["pasted", str(tmp_path), "--output", str(path), *options]) == 0
    recipe = PastedRecipe(image_size=(24, 32), frames=4)
    expected = pasted_videos(recipe, load_pictures(tmp_path), "test", 2, 3).subset(np.arange(2))
    data = load_video(path)
    np.testing.assert_array_equal(data.video, expected.video)
    np.testing.assert_array_equal(data.boxes, expected.boxes)
    (tmp_path / "none").mkdir()
    assert main(["pasted", str(tmp_path / "none"), "--output", str(tmp_path / "x.h5")]) == 2
    assert "expected PNG or JPEG files" in capsys.readouterr().err
    assert not (tmp_path / "x.h5").exists()
