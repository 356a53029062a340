"""`track` on a user's own video: boxes in its pixels, of any length, and a word where it means little."""

import csv
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from whatwhere.datasets import Frames, VideoData, load_clips, save_video
from whatwhere.examples import hart, ratm, sqair
from whatwhere.examples.common import tracking
from whatwhere.examples.parts import sqair_tracking
from whatwhere.inference.evaluation import infer_parts
from whatwhere.inference.training import load_checkpoint

BOXES = ("left", "top", "width", "height")


def track(program, *options: object) -> int:
    return program.main(["track", *map(str, options)])


def boxes(folder: Path) -> dict[tuple[int, int], torch.Tensor]:
    """By frame and identity."""
    rows = csv.DictReader((folder / "tracks.csv").read_text().splitlines())
    return {
        (int(row["frame"]), int(row["identity"])): torch.tensor([float(row[name]) for name in BOXES])
        for row in rows
    }


def enlarged(video: np.ndarray, down: int, across: int) -> np.ndarray:
    return video.repeat(down, axis=-2).repeat(across, axis=-1)


def test_objects_of_resized_frames_are_in_the_users_pixels(tmp_path: Path):
    video = load_clips(sqair.EXAMPLE).video[0, :4, 0]
    np.savez(tmp_path / "small.npz", video=video)
    np.savez(tmp_path / "wide.npz", video=enlarged(video, 2, 3))
    options = ["--particles=2", "--films=0"]
    assert track(sqair, *options, "--video", tmp_path / "small.npz", "--output", tmp_path / "small") == 0
    wide = ["--video", tmp_path / "wide.npz", "--resize", "--output", tmp_path / "wide"]
    assert track(sqair, *options, *wide) == 0
    small, large = boxes(tmp_path / "small"), boxes(tmp_path / "wide")
    assert small.keys() == large.keys()
    assert len(small) == 8
    for key, box in small.items():
        torch.testing.assert_close(large[key], box * torch.tensor([3.0, 2.0, 3.0, 2.0]))


@pytest.mark.parametrize("program", [ratm, hart])
def test_a_target_of_resized_frames_is_in_the_users_pixels(program, tmp_path: Path):
    data = load_clips(program.EXAMPLE)
    box = data.boxes[0, 0, 0]
    if program is hart:  # its example is smaller than what it was trained on
        video = np.stack([np.pad(data.video[0, :6], ((0, 0), (0, 0), (0, 56), (0, 32)))])
    else:
        video = data.video[:, :6]
    factors = np.float32([3, 2, 3, 2])
    for name, pixels, shown in (("small", video, box), ("wide", enlarged(video, 2, 3), box * factors)):
        np.savez(tmp_path / f"{name}.npz", video=pixels)
        options = ["--video", tmp_path / f"{name}.npz", "--output", tmp_path / name, "--resize"]
        assert track(program, *options, "--box", *shown) == 0
    small, large = boxes(tmp_path / "small"), boxes(tmp_path / "wide")
    assert small.keys() == large.keys() == {(t, 0) for t in range(6)}
    for key, found in small.items():
        torch.testing.assert_close(large[key], found * torch.from_numpy(factors), rtol=1e-4, atol=1e-2)


@pytest.mark.filterwarnings("ignore:.* is not what the model knows.*frames are empty")
@pytest.mark.parametrize("program", [ratm, hart, sqair])
def test_of_a_long_video_few_frames_are_in_memory(program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    side, channels = {ratm: (20, 1), hart: (128, 3), sqair: (50, 1)}[program]
    np.savez(tmp_path / "long.npz", video=np.zeros((200, channels, side, side), np.uint8)[None])
    alive: list[weakref.ref] = []
    most = 0

    def watched(parts):
        nonlocal most
        for part in parts:
            alive.append(weakref.ref(part))
            most = max(most, sum(each() is not None for each in alive))
            yield part

    def consume(path: Path, pages, *_) -> None:
        assert sum(1 for _ in pages) >= 200 / 20

    blocks = Frames.blocks
    monkeypatch.setattr(Frames, "blocks", lambda frames, size: watched(blocks(frames, size)))
    module = sqair_tracking if program is sqair else tracking
    monkeypatch.setattr(module, "write_film", consume)
    pages = "overlay_pictures" if program is sqair else "annotated_frames"
    monkeypatch.setattr(module, pages, lambda *_, **__: iter([Image.new("L", (1, 1))]))
    if program is sqair:  # whose parts are copies of those that were read
        monkeypatch.setattr(
            module,
            "infer_parts",
            lambda model, guide, parts, particles: infer_parts(model, guide, watched(parts), particles),
        )
    options = ["--particles=1"] if program is sqair else ["--box", "4", "4", "8", "8"]
    assert track(program, "--video", tmp_path / "long.npz", "--output", tmp_path / "out", *options) == 0
    assert len(alive) >= 200 / 20
    assert most <= 8


def test_a_clip_of_a_data_set_ends_before_what_it_is_filled_up_with(tmp_path: Path):
    data = load_clips(hart.EXAMPLE)
    video, shown = data.video.copy(), data.boxes.copy()
    video[:, 5:], shown[:, 5:] = 0, 0
    save_video(tmp_path / "clip.h5", VideoData(video, boxes=shown), generator="test")
    assert track(hart, "--video", tmp_path / "clip.h5", "--output", tmp_path) == 0
    assert {frame for frame, _ in boxes(tmp_path)} == set(range(5))


def junk(video: np.ndarray) -> dict[str, tuple[np.ndarray, str]]:
    """Videos that a model of glyphs does not know, and what a warning must say."""
    rng = np.random.default_rng(0)
    street = rng.integers(0, 256, (1, 10, 10)).astype(np.uint8).repeat(5, 1).repeat(5, 2)
    small = np.zeros_like(video)
    small[:, 10:14, 20:24] = small[:, 40:44, 5:9] = 255
    return {
        "street": (np.maximum(video, street), "no plain background.*take the background away"),
        "inverted": (255 - video, "background is bright.*invert"),
        "empty": (np.zeros_like(video), "frames are empty"),
        "small": (small, "objects are 4.0 pixels large, in training 1.*scale the frames"),
    }


@pytest.mark.parametrize("name", ["street", "inverted", "empty", "small"])
def test_frames_that_a_model_does_not_know_are_warned_of_with_the_cause(name: str, tmp_path: Path):
    pixels, cause = junk(load_clips(sqair.EXAMPLE).video[0, :3, 0])[name]
    np.savez(tmp_path / f"{name}.npz", video=pixels)
    options = ["--particles=1", "--films=0", "--output", tmp_path, tmp_path / f"{name}.npz"]
    with pytest.warns(UserWarning, match=f"{name}.npz` is not what the model knows.*{cause}"):
        assert track(sqair, *options) == 0


def test_the_bound_of_training_is_stored(tmp_path: Path, write_videos: Callable[..., Path]):
    videos = write_videos(tmp_path / "videos.h5", 20, frames=3)
    small = ["--network.hidden=8", "--network.narrow=8", "--network.what-size=4", "--network.glimpse-size=8"]
    options = ["--preset=glyphs", "--data.source", videos, "--batch-size=2", "--monitor-videos=2", *small]
    steps = ["--training.steps=1", "--training.evaluate-every=1", "--output", tmp_path]
    assert sqair.main(["train", *map(str, options), *map(str, steps)]) == 0
    checkpoint = load_checkpoint(tmp_path / "checkpoint.pt")
    # Of an untrained model: worse than black frames, better than white ones.
    for name in ("bound_per_frame", "train_bound_per_frame", "empty_bound_per_frame"):
        assert -(40**2) * 4 < checkpoint.metrics[name] < 40**2 * 0.285
    assert checkpoint.metrics["frame_background"] == 0
    assert 0 <= checkpoint.metrics["frame_ink"] < 0.5
