"""`whatwhere-air detect` on a user's pictures and videos: tables, pictures, and a summary."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from whatwhere.datasets import VideoData, save_video
from whatwhere.examples.air import AIRConfig, NetworkConfig, build, main
from whatwhere.inference.evaluation import infer_best_scene
from whatwhere.inference.training import load_checkpoint, save_checkpoint

SMALL = [
    *("--network.max-count=2", "--network.what-size=4", "--network.glimpse-size=8", "--network.rnn-hidden=8"),
    *("--network.head-hidden=8", "--network.encoder-hidden=8", "--network.decoder-hidden=8"),
]
BOX = ("left", "top", "width", "height")
pytestmark = pytest.mark.filterwarnings("ignore:.*not what the model knows")  # it has hardly learned


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def blob(height: int, width: int, left: int, top: int) -> np.ndarray:
    pixels = np.zeros((height, width), np.uint8)
    pixels[top : top + height // 4, left : left + width // 4] = 255
    return pixels


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a model that has seen 20 pictures of 32 x 32 pixels, a few times."""
    folder = tmp_path_factory.mktemp("air")
    rng = np.random.default_rng(0)
    places = rng.integers(0, 24, (20, 2)).tolist()
    video = np.stack([blob(32, 32, *place) for place in places])[:, None, None]
    save_video(folder / "images.h5", VideoData(video), generator="test")
    options = ["--data.source", folder / "images.h5", "--output", folder / "run", "--batch-size=4"]
    steps = ["--training.steps=2", "--training.evaluate-every=1", "--iwae-particles=2"]
    assert run("train", *options, *steps, *SMALL) == 0
    return folder / "run" / "checkpoint.pt"


@pytest.fixture
def certain(checkpoint: Path, tmp_path: Path) -> Path:
    """The same, but that finds two objects in every picture."""
    stored = load_checkpoint(checkpoint)
    guide = {name: value.clone() for name, value in stored.modules["guide"].items()}
    last = [name for name in guide if name.startswith("head") and name.endswith("bias")][-1]
    guide[last][0] = 50.0
    save_checkpoint(tmp_path / "sure.pt", replace(stored, modules={**stored.modules, "guide": guide}))
    return tmp_path / "sure.pt"


def detect(checkpoint: Path, source: Path, *options: object) -> int:
    return run("detect", source, "--checkpoint", checkpoint, "--output", source.parent / "out", *options)


def rows(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "detections.csv").read_text().splitlines()))


def test_what_is_watched_during_training_is_stored(checkpoint: Path):
    metrics = load_checkpoint(checkpoint).metrics
    assert {"bound_per_frame", "train_bound_per_frame", "empty_bound_per_frame"} <= set(metrics)
    assert metrics["frame_side"] == pytest.approx(8)
    assert metrics["frame_ink"] == pytest.approx(64 / 1024)
    report = json.loads((checkpoint.parent / "metrics.json").read_text())
    assert report["assessment"]["look"]["side"] == pytest.approx(8)
    assert report["assessment"]["known"]["train_bound"] == metrics["train_bound_per_frame"]


def test_boxes_of_pictures_of_any_sizes_are_in_their_own_pixels(certain: Path, tmp_path: Path):
    """The same picture at three sizes: what is found is in the same place of each."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    sizes = {"a2": (32, 32), "a10": (64, 128), "a30": (96, 32)}
    for name, (height, width) in sizes.items():
        across, down = width // 32, height // 32
        small = blob(32, 32, 8, 16).repeat(down, 0).repeat(across, 1)
        Image.fromarray(small).save(folder / f"{name}.png")
    assert detect(certain, folder, "--particles=2") == 0
    found = rows(tmp_path / "out")
    assert [row["file"] for row in found] == ["a2.png"] * 2 + ["a10.png"] * 2 + ["a30.png"] * 2
    for row in found:
        height, width = sizes[Path(row["file"]).stem]
        left, top, wide, high = (float(row[name]) for name in BOX)
        # Boxes are made of whole pixels of what the model is given, 32 x 32.
        for value, unit in ((left, width / 32), (wide, width / 32), (top, height / 32), (high, height / 32)):
            assert value / unit == pytest.approx(round(value / unit))
        assert 0 < left + wide <= width
        assert 0 < top + high <= height
        assert 0 <= float(row["score"]) <= 1
    assert sorted(path.name for path in (tmp_path / "out" / "pictures").iterdir()) == [
        "a10.png",
        "a2.png",
        "a30.png",
    ]
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["frames"], summary["objects"], summary["most_in_a_frame"]) == (3, 6, 2)
    assert summary["assessment"]["full_frames"] == 1
    assert "tracks" not in summary  # slots are no identities
    assert (tmp_path / "out" / "reconstructions.png").exists()


def test_of_a_folder_coco_has_the_names_and_sizes_of_its_files(certain: Path, tmp_path: Path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, size in enumerate([(40, 50), (32, 32)]):
        Image.fromarray(blob(*size, 3, 3)).save(folder / f"{number}.png")
    assert detect(certain, folder, "--particles=1", "--format=coco", "--pictures=1") == 0
    data = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert [(each["file_name"], each["height"], each["width"]) for each in data["images"]] == [
        ("0.png", 40, 50),
        ("1.png", 32, 32),
    ]
    assert "videos" not in data
    assert [each["image_id"] for each in data["annotations"]] == [1, 1, 2, 2]
    assert [path.name for path in (tmp_path / "out" / "pictures").iterdir()] == ["0.png"]


def test_frames_of_videos_are_pictures_too(certain: Path, tmp_path: Path):
    video = np.stack([blob(48, 64, 4 * t, 2 * t) for t in range(5)])
    np.savez(tmp_path / "clip.npz", video=video)
    assert detect(certain, tmp_path / "clip.npz", "--particles=1") == 0
    found = rows(tmp_path / "out")
    assert {int(row["frame"]) for row in found} == set(range(5))
    assert "file" not in found[0]
    with Image.open(tmp_path / "out" / "detections.gif") as film:
        assert film.n_frames == 5
        assert film.size == (64 * 4, 48 * 4)  # enlarged to about 240 pixels


def test_of_several_videos_there_is_a_column_more(certain: Path, tmp_path: Path):
    video = np.stack([[blob(32, 32, 3, 3)] * 2] * 3)[:, :, None]
    save_video(tmp_path / "videos.h5", VideoData(video), generator="test")
    assert detect(certain, tmp_path / "videos.h5", "--particles=1", "--animation=none", "--format=mot") == 0
    lines = [(tmp_path / "out" / "detections" / f"000{n}.txt").read_text().splitlines() for n in (1, 2, 3)]
    assert [[line.split(",")[0] for line in text] for text in lines] == [["1", "1", "2", "2"]] * 3
    assert detect(certain, tmp_path / "videos.h5", "--particles=1", "--animation=none") == 0
    assert [row["video"] for row in rows(tmp_path / "out")] == ["0"] * 4 + ["1"] * 4 + ["2"] * 4


def test_a_folder_of_videos_is_several_videos(certain: Path, tmp_path: Path, capsys):
    for name, length in (("a", 2), ("b", 3)):
        frames = [Image.fromarray(blob(32, 32, 3, 3 + t)) for t in range(length)]
        path = tmp_path / "videos" / f"{name}.gif"
        path.parent.mkdir(exist_ok=True)
        frames[0].save(path, save_all=True, append_images=frames[1:])
    assert detect(certain, path.parent, "--particles=1", "--animation=none", "--format=mot") == 0
    folder = tmp_path / "out" / "detections"
    lines = [(folder / f"000{n}.txt").read_text().splitlines() for n in (1, 2)]
    assert [[line.split(",")[0] for line in text] for text in lines] == [
        ["1", "1", "2", "2"],
        ["1", "1", "2", "2", "3", "3"],
    ]
    assert f"boxes:     {folder}\n" in capsys.readouterr().out
    assert detect(certain, path.parent, "--particles=1", "--animation=none") == 0
    assert [(row["video"], row["frame"]) for row in rows(tmp_path / "out")][::2] == [
        *(("0", "0"), ("0", "1")),
        *(("1", "0"), ("1", "1"), ("1", "2")),
    ]
    assert detect(certain, path.parent, "--particles=1", "--animation=none", "--format=coco") == 0
    data = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert [video["name"] for video in data["videos"]] == ["a.gif", "b.gif"]


def test_pictures_of_files_that_differ_in_their_ending(certain: Path, tmp_path: Path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("0.png", "0.bmp", "1.png"):
        Image.fromarray(blob(32, 32, 3, 3)).save(folder / name)
    assert detect(certain, folder, "--particles=1") == 0
    found = sorted(path.name for path in (tmp_path / "out" / "pictures").iterdir())
    assert found == ["0.bmp.png", "0.png.png", "1.png"]


def test_bright_pictures_are_warned_of(checkpoint: Path, tmp_path: Path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.fromarray(255 - blob(32, 32, 3, 3)).save(folder / "0.png")
    with pytest.warns(UserWarning, match="pictures` is not what the model knows.*background is bright"):
        assert detect(checkpoint, folder, "--particles=1") == 0


def test_the_sample_of_greatest_weight_is_taken():
    torch.manual_seed(0)
    model, guide = build(AIRConfig(network=NetworkConfig(image_shape=(1, 28, 28), max_count=2, rnn_hidden=8)))
    images = torch.rand(3, 1, 28, 28)
    torch.manual_seed(1)
    singles = [infer_best_scene(model, guide, images) for _ in range(6)]
    torch.manual_seed(1)
    best = infer_best_scene(model, guide, images, particles=6)
    weights = torch.stack([each.bound for each in singles])
    torch.testing.assert_close(best.bound, weights.logsumexp(0) - np.log(6))
    for row, chosen in enumerate(weights.argmax(0).tolist()):
        assert torch.equal(best.canvas[row], singles[chosen].canvas[row])
        assert torch.equal(best.present[row], singles[chosen].present[row])


def test_mistakes_end_in_one_line(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert run("detect", tmp_path / "nothing", "--checkpoint", checkpoint) == 2
    assert "no such file" in capsys.readouterr().err
    assert run("detect", "a.gif", "--source=b.gif", "--checkpoint", checkpoint) == 2
    assert "--source is given twice" in capsys.readouterr().err
