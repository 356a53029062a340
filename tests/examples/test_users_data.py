"""Training on a user's own data: refused before it begins if it cannot end well, and nothing is left out."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from whatwhere.datasets import VideoData, save_video
from whatwhere.datasets.streams import stream
from whatwhere.examples import air, hart, ratm, sqair, vrnn
from whatwhere.examples.common.video_training import random_windows, windows_used
from whatwhere.inference.training import read_log

ONE_STEP = ("--training.steps=1", "--training.evaluate-every=1", "--batch-size=2", "--threads=1")
SMALL = {
    air: ["--preset=demo", "--iwae-particles=2", "--network.rnn-hidden=8", "--network.glimpse-size=4"],
    sqair: [
        "--preset=glyphs",
        "--frames=3",
        "--network.hidden=8",
        "--network.narrow=8",
        "--monitor-videos=2",
    ],
    vrnn: [
        "--preset=glyphs",
        "--frames=3",
        "--network.hidden=8",
        "--network.recurrent=8",
        "--monitor-videos=2",
    ],
    ratm: ["--preset=balls", "--loss.patch=truth", "--network.bounded", "--first-frames=2", "--frames=3"],
    hart: ["--preset=clutter", "--network.hidden=8", "--first-frames=2", "--frames=3", "--test-frames=none"],
}


def write(
    path: Path, count: int = 20, frames: int = 4, shape: tuple[int, ...] = (1, 24, 24), **labels
) -> Path:
    """Videos in which a bright square moves to the right."""
    video = np.zeros((count, frames, *shape), np.uint8)
    boxes = np.zeros((count, frames, 1, 4), np.float32)
    for i in range(count):
        for t in range(frames):
            left = (i + t) % (shape[2] - 6)
            video[i, t, :, 4:10, left : left + 6] = 255
            boxes[i, t, 0] = [left, 4, 6, 6]
    save_video(path, VideoData(video, boxes=boxes, **labels), generator="test")
    return path


def train(program, data: Path, output: Path, *options: object) -> int:
    source = ["--data.source", data, "--output", output]
    extra = ["--data.min-frames=1"] if program in (ratm, hart) else []
    return program.main(["train", *map(str, [*SMALL[program], *ONE_STEP, *source, *extra, *options])])


def last_evaluation(folder: Path) -> dict[str, float]:
    return read_log(folder / "log.jsonl", "evaluation")[-1]


PROGRAMS = pytest.mark.parametrize("program", SMALL, ids=lambda program: program.__name__.rpartition(".")[2])


@PROGRAMS
@pytest.mark.parametrize(
    ("train_shape", "test_shape"),
    [((2, 24, 24), None), ((4, 24, 24), None), ((1, 24, 24), (1, 24, 30)), ((1, 24, 24), (3, 24, 24))],
)
def test_frames_that_do_not_fit_are_refused_before_training(
    program,
    train_shape: tuple[int, int, int],
    test_shape: tuple[int, int, int] | None,
    tmp_path: Path,
    capsys,
):
    frames = 1 if program is air else 4
    data, options = write(tmp_path / "data.h5", 6, frames, train_shape), []
    if test_shape is not None:
        options = ["--data.test-source", write(tmp_path / "test.h5", 6, frames, test_shape)]
    assert train(program, data, tmp_path / "run", *options) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert str(tmp_path) in error
    assert str(test_shape) in error if test_shape else f"{train_shape[0]} channels" in error
    assert not (tmp_path / "run" / "checkpoint.pt").exists()


@PROGRAMS
def test_data_that_have_changed_are_noticed(program, tmp_path: Path, capsys):
    frames = 1 if program is air else 4
    (tmp_path / "old").mkdir()
    data, run = write(tmp_path / "old" / "data.h5", 12, frames), tmp_path / "run"
    assert train(program, data, run) == 0
    evaluate = ["evaluate", "--checkpoint", str(run / "checkpoint.pt"), "--output", str(tmp_path / "out")]
    if program is not air:
        evaluate.append("--videos=2")
    (tmp_path / "new").mkdir()
    moved = Path(shutil.move(data, tmp_path / "new" / "data.h5"))
    assert program.main(evaluate) == 2  # its data are no longer where they were
    assert str(data) in capsys.readouterr().err
    # The same data in another place go on; twelve others where they were do not.
    assert train(program, moved, run, "--resume", "--training.steps=2") == 0
    write(data, 14, frames)
    capsys.readouterr()
    assert train(program, data, run, "--resume", "--training.steps=3") == 2
    assert "they are 1" in capsys.readouterr().err
    write(data, 12, frames, (1, 24, 24), groups=np.arange(12))
    assert train(program, data, run, "--resume", "--training.steps=3") == 2
    assert "`groups` differ" in capsys.readouterr().err
    assert train(program, data, run, "--resume", "--training.steps=3", "--accept-changed-data") == 0
    write(data, 14, frames)
    assert program.main(evaluate) == 2
    assert "they are 1" in capsys.readouterr().err
    assert program.main([*evaluate, "--data", str(data)]) == 0  # named, they are what is asked for


@pytest.mark.parametrize("program", [air, sqair, vrnn])
def test_without_labels_the_held_out_bound_is_evaluated(program, tmp_path: Path):
    shape = (12, 1 if program is air else 3, 1, 24, 24)
    bare = VideoData(np.random.default_rng(0).integers(0, 99, shape, np.uint8))
    save_video(tmp_path / "bare.h5", bare, generator="test")
    assert train(program, tmp_path / "bare.h5", tmp_path / "run") == 0
    found = last_evaluation(tmp_path / "run")
    assert np.isfinite(found["held_out_bound"])
    assert "count_accuracy" not in found


def test_air_measures_the_bound_that_is_asked_for_without_labels(tmp_path: Path):
    bare = VideoData(np.random.default_rng(0).integers(0, 99, (12, 1, 1, 24, 24), np.uint8))
    save_video(tmp_path / "bare.h5", bare, generator="test")
    assert train(air, tmp_path / "bare.h5", tmp_path / "run", "--monitor-particles=3") == 0
    found = last_evaluation(tmp_path / "run")
    assert found["iwae"] > found["held_out_bound"]  # of the same two images, and not by chance


def test_windows_begin_anywhere_with_equal_probability():
    video = torch.arange(5.0).expand(6000, 5)[..., None, None, None]
    found = random_windows(video, 3, stream("test", 0, 0)).flatten(1)
    assert torch.equal(found - found[:, :1], torch.arange(3.0).expand(6000, 3))
    counts = found[:, 0].bincount() if found.dtype == torch.int64 else torch.bincount(found[:, 0].long())
    assert counts.tolist() == pytest.approx([2000] * 3, abs=5 * (6000 * 2 / 9) ** 0.5)
    assert torch.equal(random_windows(video, 5, stream("test", 0, 0)), video)


@pytest.mark.parametrize("program", [sqair, vrnn])
def test_all_frames_of_long_clips_are_trained_on(
    program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    # The place of the square tells the frame.
    data = write(tmp_path / "data.h5", 20, 12)
    seen: set[tuple[int, ...]] = set()
    name = {sqair: "VIMCO", vrnn: "IWAE"}[program]
    original = getattr(program, name)

    def look(_, inputs: tuple[torch.Tensor]) -> None:
        seen.update(tuple(video[:, 0, 4].argmax(1).tolist()) for video in inputs[0])

    def spy(*args, **kwargs):
        def of_programs(*programs):
            bound = original(*args, **kwargs)(*programs)
            bound.register_forward_pre_hook(look)
            return bound

        return of_programs

    monkeypatch.setattr(program, name, spy)
    options = ["--training.steps=30", "--batch-size=6", "--training.evaluate-every=none"]
    assert train(program, data, tmp_path / "run", *options) == 0
    assert all(window == tuple((window[0] + t) % 18 for t in range(3)) for window in seen)
    assert {window[0] for window in seen} == set(range(18))
    line = "sees 3 frames of each clip of 12 at a time, from anywhere in it: 25% of the frames in a pass"
    assert line in capsys.readouterr().out


def test_the_share_of_frames_is_told():
    assert windows_used(60, 3, 3).endswith(": 5% of the frames in a pass")
    assert "sees 3 to 10 frames" in windows_used(10, 3, 10)
    assert "30% to 100% of the frames" in windows_used(10, 3, 10)
