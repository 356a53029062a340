"""What the programs of trackers share: which videos are held out, and what a batch is made of."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from whatwhere.datasets import DataError, VideoData, save_video
from whatwhere.examples.common.tracking import TrackConfig, open_clip
from whatwhere.examples.common.tracking_data import (
    Targets,
    TrackingDataConfig,
    groups_of,
    load_further_targets,
    load_targets,
    training_batches,
)
from whatwhere.inference.training import Process

CPU = torch.device("cpu")


def data(groups: bool = True) -> VideoData:
    """Twelve videos of four groups, of grey value ten times their number; the odd ones have 3 frames."""
    video = np.zeros((12, 4, 1, 8, 10), np.uint8)
    boxes = np.zeros((12, 4, 2, 4), np.float32)
    for i in range(12):
        length = 3 if i % 2 else 4
        video[i, :length] = 10 * i
        boxes[i, :length, 0] = [1, 2, 3 + i, 4]
        boxes[i, :length, 1] = [5, 5, 1, 1]
    labels = {"boxes": boxes, "classes": np.stack([np.arange(12), np.zeros(12, int)], axis=1)}
    return VideoData(video, **labels, groups=np.arange(12) // 3 if groups else None)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "videos.h5"
    save_video(path, data(), generator="test")
    return path


def test_slot_0_is_the_target_and_frames_without_it_are_masked():
    targets = Targets.of(data().batch([4, 5]), CPU)
    assert targets.boxes[:, 0].tolist() == [[1, 2, 7, 4], [1, 2, 8, 4]]
    assert targets.labels.tolist() == [4, 5]
    assert targets.mask.tolist() == [[True] * 4, [True, True, True, False]]
    with pytest.raises(DataError, match="no boxes"):
        Targets.of(VideoData(data().video).batch([0]), CPU)


def test_a_fold_holds_a_group_out_and_validates_on_another(file: Path):
    seen = []
    for fold in range(4):
        split = load_targets(TrackingDataConfig(source=str(file), fold=fold, min_frames=1), 1, 1)
        assert list(split.test.rows) == [3 * fold, 3 * fold + 1, 3 * fold + 2]
        parts = [{row // 3 for row in part.rows} for part in split]
        assert len(parts[1]) == 1
        assert len(parts[0]) == 2
        assert set.union(*parts) == {0, 1, 2, 3}
        seen.append(parts[1])
    assert len(set(map(frozenset, seen))) > 1  # not the same person each time
    assert groups_of(str(file)).tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]


def test_without_a_fold_the_last_tenth_or_another_file_is_held_out(file: Path, tmp_path: Path):
    split = load_targets(TrackingDataConfig(source=str(file), min_frames=1), 1, 1)
    assert (list(split.train.rows), split.validation, list(split.test.rows)) == (list(range(11)), None, [11])
    save_video(tmp_path / "other.h5", data().subset([7, 9]), generator="test")
    config = TrackingDataConfig(source=str(file), test_source=str(tmp_path / "other.h5"), min_frames=1)
    split = load_targets(config, 1, 1)
    assert len(split.train) == 12
    (clips,) = split.test.clips(5)
    assert clips.video[:, 0, 0, 0, 0].tolist() == [70, 90]


def test_clips_are_cut_and_counted(file: Path):
    test = load_targets(TrackingDataConfig(source=str(file), fold=1, min_frames=1), 1, 1).test
    batches = list(test.clips(count=3, frames=2, batch_size=2))
    assert [tuple(batch.video.shape) for batch in batches] == [(2, 2, 1, 8, 10), (1, 2, 1, 8, 10)]
    assert [tuple(batch.boxes.shape) for batch in batches] == [(2, 2, 2, 4), (1, 2, 2, 4)]
    assert len(list(test.clips(count=2))) == 1
    balls = load_targets(TrackingDataConfig(source="balls", train_videos=2, test_videos=2), 6, 6).test
    (batch,) = balls.clips(2, frames=3)
    assert {value.shape[1] for value in (batch.video, batch.count, batch.boxes, batch.visible)} == {3}


def test_training_batches_are_windows_of_training_videos_and_depend_on_seed_and_step_alone(file: Path):
    videos = load_targets(TrackingDataConfig(source=str(file), fold=1, min_frames=2), 1, 1).train
    batch = training_batches([videos], 4, 3, lambda step: 2 + step, Process(CPU))
    assert [batch(step).video.shape[1] for step in range(3)] == [2, 3, 4]
    assert torch.equal(batch(1).video, batch(1).video)
    shown = {value // 10 for step in range(30) for value in batch(step).video[:, 0].amax((1, 2, 3)).tolist()}
    assert shown == set(videos.rows)
    assert not torch.equal(
        batch(1).video, training_batches([videos], 4, 4, lambda step: 3, Process(CPU))(1).video
    )


def test_generated_videos_are_cut_to_the_length_of_the_step():
    config = TrackingDataConfig(source="balls", train_videos=20, test_videos=5)
    split = load_targets(config, 6, 9)
    assert (len(split.train), len(split.test), split.validation) == (20, 5, None)
    batch = training_batches([split.train], 4, 0, lambda step: 3, Process(CPU))(0)
    assert tuple(batch.video.shape) == (4, 3, 1, 20, 20)
    assert tuple(batch.boxes.shape) == (4, 3, 4)
    assert next(split.test.clips(5)).video.shape[:2] == (5, 9)


def test_further_videos_take_turns(file: Path, tmp_path: Path):
    save_video(tmp_path / "other.h5", data().subset([7, 9]), generator="test")
    config = TrackingDataConfig(
        source=str(file),
        fold=1,
        min_frames=1,
        also=(str(tmp_path / "other.h5"), "balls"),
        train_videos=20,
    )
    first = load_targets(config, 1, 1).train
    (other,) = load_further_targets(replace(config, also=config.also[:1]), 4, first.image_shape)
    batch = training_batches([first, other], 4, 0, lambda step: 3, Process(CPU))
    alone = training_batches([other], 4, 0, lambda step: 3, Process(CPU))
    for step in range(6):
        shown = {value // 10 for value in batch(step).video[:, 0].amax((1, 2, 3)).tolist()}
        assert shown <= (set(first.rows) if step % 2 == 0 else {7, 9})
    # Nothing of a source is passed over because others take their turns.
    seen = [batch(step).video[:, 0].amax((1, 2, 3)) // 10 for step in (1, 3, 5)]
    expected = [alone(turn).video[:, 0].amax((1, 2, 3)) // 10 for turn in range(3)]
    assert [part.tolist() for part in seen] == [part.tolist() for part in expected]
    expected_words = r"`balls` of `--data.also` has frames of .* = \(1, 8, 8\), but .* \(1, 8, 10\)"
    with pytest.raises(DataError, match=expected_words):
        load_further_targets(config, 4, first.image_shape)


def test_further_videos_that_are_generated_have_the_size_of_the_others():
    config = TrackingDataConfig(
        source="clutter", also=("clutter:1", "clutter"), difficulty=0.0, sides=(0.4, 0.5), train_videos=4
    )
    hard, easy = load_further_targets(config, 6, (3, 24, 40))
    assert [videos.source.recipe.max_distractors for videos in (hard, easy)] == [4, 0]
    for videos in (hard, easy):
        batch = training_batches([videos], 2, 0, lambda step: 5, Process(CPU))(0)
        assert batch.video.shape == (2, 5, 3, 24, 40)
        longer = batch.boxes[..., 2:].amax(-1)
        assert longer.min() >= 0.4 * 24 - 1e-3
        assert longer.max() <= 0.5 * 24 + 1e-3
    (grey,) = load_further_targets(replace(config, also=("clutter",)), 6, (1, 24, 40))
    assert training_batches([grey], 2, 0, lambda step: 5, Process(CPU))(0).video.shape == (2, 5, 1, 24, 40)
    for wrong in ("clutter:2", "clutter:hard"):
        with pytest.raises(ValueError, match=r"`also` must have a difficulty in \[0, 1\]"):
            TrackingDataConfig(source="clutter", also=(wrong,))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"source": "nowhere.h5"}, "nowhere.h5.*neither `balls`, `digits`, `clutter`, `pasted`, nor"),
        ({"source": "FILE", "fold": 9}, "`group`.* 9"),
        ({"source": "NO GROUPS", "fold": 1}, "no label `groups`"),
        ({"source": "NO BOXES"}, "no boxes"),
        ({"source": "NO SLOTS"}, "no boxes"),
    ],
)
def test_what_cannot_be_loaded_is_named(config: dict, message: str, file: Path, tmp_path: Path):
    save_video(tmp_path / "plain.h5", data(groups=False), generator="test")
    save_video(tmp_path / "bare.h5", VideoData(data().video), generator="test")
    slotless = VideoData(data().video, boxes=np.zeros((12, 4, 0, 4), np.float32))
    save_video(tmp_path / "slotless.h5", slotless, generator="test")
    paths = {
        "NO SLOTS": tmp_path / "slotless.h5",
        "FILE": file,
        "NO GROUPS": tmp_path / "plain.h5",
        "NO BOXES": tmp_path / "bare.h5",
    }
    source = str(paths.get(config["source"], config["source"]))
    with pytest.raises(DataError, match=message):
        load_targets(TrackingDataConfig(**{**config, "source": source}, min_frames=1), 1, 1)


def test_contradictions_are_refused():
    with pytest.raises(ValueError, match="not generated"):
        TrackingDataConfig(fold=1)
    with pytest.raises(ValueError, match="give one of them"):
        TrackingDataConfig(source="a.h5", fold=1, test_source="b.h5")


class Tracker(NamedTuple):
    """As much of one as opening a video needs."""

    image_shape: tuple[int, int, int]


class AnySize(Tracker):
    resized = None


def test_a_users_frames_are_fitted_to_the_tracker(file: Path):
    options = TrackConfig(Path("x.pt"), file, resize=True, frames=2)
    frames = open_clip(options, Tracker((1, 16, 30)))
    assert (frames.channels, frames.size, frames.stored_size, frames.length) == (1, (16, 30), (8, 10), 2)
    assert frames.in_source([3.0, 4.0, 9.0, 8.0]).tolist() == pytest.approx([1, 2, 3, 4])
    assert frames.labels["boxes"][:, 0].tolist() == [[3, 4, 9, 8]] * 2
    as_it_is = replace(options, resize=False)
    assert open_clip(as_it_is, Tracker((1, 8, 10))).size == (8, 10)
    with pytest.raises(DataError, match=r"\(1, 8, 10\).*\(1, 16, 30\).*--resize"):
        open_clip(as_it_is, Tracker((1, 16, 30)))
    frames = open_clip(as_it_is, AnySize((3, 16, 30)))
    assert (frames.channels, frames.size) == (3, (8, 10))
    assert frames.in_source([3.0, 4.0, 9.0, 8.0]).tolist() == [3, 4, 9, 8]
