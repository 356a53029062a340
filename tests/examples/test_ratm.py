"""The command line of RATM end to end, at sizes that take seconds."""

import csv
import gzip
import json
import re
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from whatwhere.datasets import VideoData, load_clips, save_video
from whatwhere.examples import data
from whatwhere.examples.common.tracking_data import TrackingDataConfig
from whatwhere.examples.parts import ratm_classifier
from whatwhere.examples.ratm import (
    EXAMPLE,
    PRESETS,
    LossConfig,
    NetworkConfig,
    RATMConfig,
    build,
    main,
    make_objective,
    restore,
    restore_classifier,
)
from whatwhere.inference.supervised import LocalisationLoss
from whatwhere.inference.training import load_checkpoint
from whatwhere.models.components.boxes import iou
from whatwhere.models.components.feature_extractors import Frozen, human_classifier
from whatwhere.models.components.recurrent import GRU, IRNN
from whatwhere.models.ratm import AbsoluteAttention, KTHWindows, PaperWindows, ResidualAttention

SMALL = [
    "--batch-size=4",
    "--first-frames=4",
    "--frames=4",
    "--monitor-videos=4",
    "--data.train-videos=40",
    "--data.test-videos=6",
    "--network.hidden=8",
]


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def walkers(people: int = 4, clips: int = 2, frames: int = 6) -> VideoData:
    """Bright boxes of 6 x 10 pixels on black that move one pixel a frame; every second clip is shorter."""
    video = np.zeros((people * clips, frames, 1, 30, 40), np.uint8)
    boxes = np.zeros((people * clips, frames, 1, 4), np.float32)
    for i in range(people * clips):
        for t in range(frames - i % 2):
            left, top = 5 + 2 * i + t, 8 + i % 3
            video[i, t, :, top : top + 10, left : left + 6] = 200
            boxes[i, t, 0] = left, top, 6, 10
    return VideoData(video, boxes=boxes, groups=np.arange(people * clips) // clips + 1)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "walkers.h5"
    save_video(path, walkers(), generator="test")
    return path


@pytest.fixture(scope="module")
def balls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("balls")
    options = ["--preset=balls", "--training.steps=4", "--training.evaluate-every=2", *SMALL]
    assert run("train", "--output", folder, *options) == 0
    return folder


def test_training_leaves_metrics_pictures_log_and_checkpoint(balls: Path):
    metrics = json.loads((balls / "metrics.json").read_text())
    assert (metrics["clips"], metrics["frames"]) == (6, 24)
    assert len(metrics["iou_by_frame"]) == 4
    assert metrics["previous_iou"] > metrics["static_iou"] > 0.2
    for name in ("strip.png", "iou.png", "success.png"):
        with Image.open(balls / name) as picture:
            assert min(picture.size) > 100
    events = [json.loads(line) for line in (balls / "log.jsonl").read_text().splitlines()]
    assert [event["step"] for event in events if "held_out_iou" in event] == [2, 4]
    assert not (balls / "best.pt").exists()  # held-out videos choose nothing


def test_resuming_takes_the_steps_of_a_run_without_interruption(balls: Path, tmp_path: Path):
    options = ["--output", tmp_path, "--preset=balls", "--training.steps=4", *SMALL]
    assert run("train", *options, "--training.max-minutes=1e-9") == 0
    assert load_checkpoint(tmp_path / "checkpoint.pt").step == 1
    assert run("train", *options, "--resume") == 0
    straight, resumed = (load_checkpoint(folder / "checkpoint.pt") for folder in (balls, tmp_path))
    assert straight.step == resumed.step == 4
    for name, value in straight.modules["model"].items():
        assert torch.equal(value, resumed.modules["model"][name])


def test_evaluate_goes_on_for_longer_than_in_training_and_with_more_balls(balls: Path, tmp_path: Path):
    options = ["--checkpoint", balls / "checkpoint.pt", "--output", tmp_path]
    assert run("evaluate", *options, "--frames=9", "--videos=3", "--objects=2") == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert (metrics["clips"], metrics["frames"]) == (3, 27)


def test_evidence_of_the_first_glimpse_is_an_option_of_the_network(tmp_path: Path, capsys):
    """Windows that go on from where they were only: others forget where evidence has moved them to."""
    options = [
        "--preset=clutter",
        "--network.evidence",
        "--data.image-size=40",
        "--data.test-videos=2",
        *SMALL,
    ]
    options += ["--data.train-videos=8", "--training.steps=2", "--output", tmp_path]
    assert run("train", *options) == 2
    assert "is for `attention` = residual and `start` = box" in capsys.readouterr().err
    assert run("train", *options, "--network.attention=residual") == 0
    _, model = restore(tmp_path / "checkpoint.pt", torch.device("cpu"))
    assert model.scored


def test_a_fold_keeps_the_parameters_that_track_the_validation_group_best(videos: Path, tmp_path: Path):
    options = ["--preset=weizmann", "--data.source", videos, "--data.fold=2", "--output", tmp_path, *SMALL]
    options += ["--data.min-frames=2", "--network.glimpse-size=5", "--training.steps=3"]
    assert run("train", *options, "--training.evaluate-every=1") == 0
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    values = {event["step"]: event["held_out_iou"] for event in log if "held_out_iou" in event}
    best = load_checkpoint(tmp_path / "best.pt")
    assert best.step == max(values, key=values.__getitem__)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert list(metrics["iou_by_group"]) == ["2"]
    assert metrics["frames"] == 6 + 5


def test_cross_validation_holds_everybody_out_once_and_keeps_what_is_complete(videos: Path, tmp_path: Path):
    options = ["--preset=weizmann", "--data.source", videos, "--output", tmp_path, *SMALL]
    options += ["--data.min-frames=2", "--network.glimpse-size=5", "--training.steps=2"]
    assert run("cross-validate", *options) == 0
    first = (tmp_path / "metrics.json").read_text()
    metrics = json.loads(first)
    assert list(metrics["iou_by_group"]) == ["1", "2", "3", "4"]
    assert (metrics["clips"], metrics["frames"]) == (8, 44)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.glob("fold-*/checkpoint.pt")}
    assert len(written) == 4
    (tmp_path / "fold-3" / "checkpoint.pt").unlink()
    assert run("cross-validate", *options) == 0
    assert (tmp_path / "metrics.json").read_text() == first
    again = {path: path.stat().st_mtime_ns for path in tmp_path.glob("fold-*/checkpoint.pt")}
    assert [path.parent.name for path in written if again[path] != written[path]] == ["fold-3"]


def test_track_follows_the_box_of_the_command_line(videos: Path, tmp_path: Path, capsys):
    options = ["--preset=weizmann", "--data.source", videos, "--data.fold=2", "--output", tmp_path, *SMALL]
    options += ["--data.min-frames=2", "--network.glimpse-size=5", "--training.steps=1"]
    assert run("train", *options) == 0
    save_video(tmp_path / "clip.h5", VideoData(walkers().video[:1]), generator="test")
    options = [
        "--checkpoint",
        tmp_path / "checkpoint.pt",
        "--video",
        tmp_path / "clip.h5",
        "--output",
        tmp_path,
    ]
    assert run("track", *options) == 2
    assert "--box L T W H" in capsys.readouterr().err
    assert run("track", *options, "--box", 5, 8, 6, 10, "--frames=5") == 0
    rows = list(csv.DictReader((tmp_path / "tracks.csv").read_text().splitlines()))
    assert [int(row["frame"]) for row in rows] == list(range(5))
    assert [float(rows[0][name]) for name in ("left", "top", "width", "height")] == pytest.approx(
        [5, 8, 6, 10]
    )
    with Image.open(tmp_path / "tracks.gif") as animation:
        assert animation.n_frames == 5
    assert run("track", *options, "--box", 50, 8, 6, 10) == 2
    assert "inside frames of 30 x 40" in capsys.readouterr().err


def test_a_box_outside_is_told_in_pixels_of_the_video_as_it_is(tmp_path: Path, capsys):
    save_video(tmp_path / "clip.h5", VideoData(walkers().video[:1]), generator="test")
    # To frames of 20 x 20, which the model has.
    box = ["--video", tmp_path / "clip.h5", "--resize", "--box", 70, 8.1, 6, 10]
    assert run("track", *box, "--output", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert "inside frames of 30 x 40" in error
    assert re.search(r"is \[70\.0, 8\.1000\d*, 6\.0, 10\.0\] \(left, top", error)


def test_the_packaged_tracker_follows_the_packaged_ball(tmp_path: Path):
    assert run("track", "--output", tmp_path) == 0
    rows = csv.DictReader((tmp_path / "tracks.csv").read_text().splitlines())
    fields = ("left", "top", "width", "height")
    boxes = torch.tensor([[float(row[field]) for field in fields] for row in rows])
    truth = load_clips(EXAMPLE).batch([0]).boxes[0, :, 0]
    assert len(boxes) == 60  # trained on 32
    assert iou(boxes, truth)[10:].min() > 0.7


def test_export_writes_parameters_alone(balls: Path, tmp_path: Path):
    small = tmp_path / "small.pt"
    assert run("export", "--checkpoint", balls / "checkpoint.pt", "--output", small) == 0
    assert small.stat().st_size < (balls / "checkpoint.pt").stat().st_size
    assert run("evaluate", "--checkpoint", small, "--output", tmp_path, "--videos=1") == 0


@pytest.fixture(scope="module")
def digit_classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classifier")
    options = ["--preset=digits", "--source=glyphs", "--training.steps=60", "--training.evaluate-every=30"]
    assert run("pretrain", "--output", folder, *options, "--validation=100", "--batch-size=32") == 0
    return folder / "best.pt"


def test_a_classifier_learns_and_trains_a_tracker(digit_classifier: Path, tmp_path: Path):
    assert load_checkpoint(digit_classifier).metrics["accuracy"] > 0.5
    options = ["--preset=digit-paper", "--classifier", digit_classifier, "--data.pictures=glyphs", *SMALL]
    assert run("train", *options, "--output", tmp_path, "--training.steps=2", "--test-frames=6") == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["frames"] == 36
    assert metrics["iou_by_frame"][0] == pytest.approx(0.0784, abs=1e-3)  # the whole frame at first


@pytest.mark.parametrize("last", [1, 3])
def test_a_classifier_that_is_stopped_before_its_evaluation_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys, last: int
):
    """Also if all its steps are taken."""
    usual = ratm_classifier.load_pictures

    def stopped(config: ratm_classifier.ClassifierConfig) -> ratm_classifier.Pictures:
        pictures = usual(config)

        def batch(step: int) -> tuple[torch.Tensor, torch.Tensor]:
            if step == last:
                signal.raise_signal(signal.SIGINT)
            return pictures.batch(step)

        return pictures._replace(batch=batch)

    options = ["--preset=digits", "--source=glyphs", "--training.steps=4", "--validation=20"]
    options += ["--batch-size=8", "--output", tmp_path]
    with monkeypatch.context() as patched:
        patched.setattr(ratm_classifier, "load_pictures", stopped)
        assert run("pretrain", *options) == 130
    said = capsys.readouterr()
    assert "classifier: none before the first evaluation" in said.out
    assert "error" not in said.err
    assert run("pretrain", *options, "--resume") == 0
    assert load_checkpoint(tmp_path / "best.pt").step == 4
    assert run("pretrain", *options, "--resume", "--training.evaluate-every=none") == 2
    assert "`training.evaluate_every` must be given" in capsys.readouterr().err


def test_people_are_learned_from_videos_and_from_folders(videos: Path, tmp_path: Path):
    options = ["--preset=people", "--training.steps=2", "--training.evaluate-every=1", "--batch-size=8"]
    out = tmp_path / "from-videos"
    assert run("pretrain", *options, "--source", videos, "--fold=1", "--validation=8", "--output", out) == 0
    for name, value in (("background", 0), ("person", 255)):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for i in range(20):
            Image.new("L", (20, 40), value - 3 * i if value else 3 * i).save(
                tmp_path / "pictures" / name / f"{i}.png"
            )
    source, out = tmp_path / "pictures", tmp_path / "from-folders"
    assert run("pretrain", *options, "--source", source, "--output", out) == 0
    restored = restore_classifier(out / "best.pt")
    assert restored(torch.rand(3, 1, 28, 28)).shape == (3, 2)


def test_features_of_people_are_taken_over_frozen(videos: Path, tmp_path: Path):
    """The authors' weights, as their file has them, end up in the tracker and in its objective."""
    weights = human_classifier((1, 28, 28)).state_dict()
    names = ["conv0_W", "bias0_b", "conv1_W", "bias1_b", "fc2_W", "fc2_b", "fc3_W", "fc3_b"]
    with h5py.File(tmp_path / "released.h5", "w") as file:
        for name, value in zip(names, weights.values(), strict=True):
            turned = value.flip(-1, -2) if value.dim() == 4 else value.T if value.dim() == 2 else value
            file[name] = turned.numpy()
    options = ["--preset=people", "--released", tmp_path / "released.h5", "--output", tmp_path / "people"]
    assert run("pretrain", *options) == 0
    options = ["--preset=kth", "--data.source", videos, "--data.fold=2", "--data.min-frames=2", *SMALL]
    options += ["--classifier", tmp_path / "people" / "best.pt", "--training.steps=2"]
    assert run("train", *options, "--output", tmp_path / "kth") == 0
    model = load_checkpoint(tmp_path / "kth" / "checkpoint.pt").modules["model"]
    trunk = [value for name, value in model.items() if name.startswith("features.")]
    assert len(trunk) == 4
    for value, expected in zip(trunk, weights.values(), strict=False):
        assert torch.equal(value, expected)


def test_other_files_than_the_released_weights_are_named(tmp_path: Path, capsys):
    (tmp_path / "text.h5").write_bytes(b"garbage" * 100)
    for name, items in {"empty": {}, "other": {"conv0_W": np.zeros(3)}, "words": {"conv0_W": "a"}}.items():
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file.create_group("bias0_b")
            for key, value in items.items():
                file[key] = value
    for name in ("text", "empty", "other", "words", "missing"):
        options = ["--preset=people", "--released", tmp_path / f"{name}.h5", "--output", tmp_path / "out"]
        assert run("pretrain", *options) == 2
        error = capsys.readouterr().err
        assert f"{name}.h5` does not hold the weights" in error
        assert error.count("\n") == 1
    assert not (tmp_path / "out" / "best.pt").exists()


def kth_lines(path: Path | None, people: int = 3) -> list[str]:
    """One walk of each of some people: real lines of the annotation, or made-up ones like them."""
    if path is not None:
        with gzip.open(path / "KTHBoundingBoxInfo.txt.gz", "rt") as file:
            lines = [line for line in file if line.split()[:1] and line.split()[1:4] == ["1", "6", "1"]]
        return lines[:people]
    steps = range(14)
    boxes = [" ".join(f"{20 + i} {10 + 4 * t} {104 + i} {40 + 4 * t}" for t in steps) for i in range(people)]
    return [f"{i + 1} 1 6 1 3 16 {boxes[i]}" for i in range(people)]


@pytest.mark.parametrize("real", [False, True])
def test_the_protocol_of_kth_runs_from_video_files_to_the_mean_over_people(
    real: bool, request: pytest.FixtureRequest, write_film: Callable[..., Path], tmp_path: Path
):
    lines = kth_lines(request.getfixturevalue("real_data")("kth") if real else None)
    assert len(lines) == 3
    (tmp_path / "boxes.txt").write_text("\n".join(line.strip() for line in lines) + "\n")
    for line in lines:
        numbers = [int(word) for word in line.split()]
        frames = np.full((numbers[5], 120, 160), 90, np.uint8)
        for t, (top, left, bottom, right) in enumerate(np.reshape(numbers[6:], (-1, 4))):
            frames[numbers[4] - 1 + t, top:bottom, left:right] = 220
        write_film(tmp_path / f"person{numbers[0]:02}_walking_d1_uncomp.avi", frames)
    kth = tmp_path / "kth.h5"
    annotation = tmp_path / "boxes.txt"
    assert data.main(["kth", str(tmp_path), "--annotation", str(annotation), "--output", str(kth)]) == 0
    people = ["--preset=people", "--training.steps=1", "--training.evaluate-every=1", "--batch-size=4"]
    options = [*people, "--source", kth, "--validation=4", "--output", tmp_path / "people"]
    assert run("pretrain", *options) == 0
    options = ["--preset=kth", "--data.source", kth, "--classifier", tmp_path / "people" / "best.pt"]
    options += ["--training.steps=2", "--training.evaluate-every=1", "--batch-size=2", "--network.hidden=4"]
    assert run("cross-validate", *options, "--output", tmp_path / "run") == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert len(metrics["iou_by_group"]) == 3
    assert metrics["frames"] == sum((len(line.split()) - 6) // 4 for line in lines)
    assert metrics["group_mean_iou"] == pytest.approx(sum(metrics["iou_by_group"].values()) / 3)
    # A window that is made of the first box stands for one a little smaller: (159 / 160) (119 / 120).
    assert metrics["iou_by_frame"][0] == pytest.approx(0.9855, abs=1e-3)


def test_the_configuration_says_what_is_built():
    shape = (1, 40, 50)
    paper = build(NetworkConfig(image_shape=shape))
    assert isinstance(paper.attention, AbsoluteAttention)
    assert isinstance(paper.attention.windows, PaperWindows)
    assert isinstance(paper.cell, IRNN)
    assert not paper.attention.windows.bounded
    kth = build(replace(PRESETS["kth"].network, image_shape=shape))
    assert isinstance(kth.attention, ResidualAttention)
    assert isinstance(kth.attention.windows, KTHWindows)
    assert kth.attention.windows.enlargement == 1.5
    assert isinstance(kth.features, Frozen)
    assert (kth.cell.hidden_size, kth.features.network.size) == (32, 3136)
    gated = build(replace(PRESETS["digit"].network, image_shape=shape))
    assert isinstance(gated.cell, GRU)
    assert gated.attention.windows.bounded
    assert gated.attention.start.bias.requires_grad


def test_the_objective_has_the_losses_of_positive_weight():
    config = RATMConfig(
        data=TrackingDataConfig(source="digits"),
        network=NetworkConfig(image_shape=(1, 100, 100), glimpse_size=28),
        loss=LossConfig(localisation=2.0, frames="last", decay=0.1),
    )
    objective = make_objective(build(config.network), config, None)
    assert list(objective.losses) == ["localisation"]
    assert isinstance(objective.losses["localisation"], LocalisationLoss)
    assert objective.weights == {"localisation": 2.0}
    assert objective.frames == "last"
    assert objective.decay.coefficient == 0.1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--loss.pixel=0"], "must be positive"),
        (["--loss.feature=1"], "`classifier` must be a checkpoint"),
        (["--data.source=digits", "--data.pictures=glyphs", "--data.image-size=60"], "not balls"),
        (["--network.features=digits"], "`network.features` needs one"),
        (["--classifier=nowhere.pt"], "whatwhere-ratm pretrain"),
        (["--first-frames=9"], "first_frames"),
        (["--data.fold=1"], "not generated"),
    ],
)
def test_mistakes_end_in_one_line(options: list[str], message: str, tmp_path: Path, capsys):
    assert run("train", "--preset=balls", *SMALL, *options, "--output", tmp_path) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "checkpoint.pt").exists()


def test_videos_of_another_size_are_refused(balls: Path, videos: Path, tmp_path: Path, capsys):
    options = ["--checkpoint", balls / "checkpoint.pt", "--data", videos, "--output", tmp_path]
    assert run("evaluate", *options) == 2
    error = capsys.readouterr().err
    assert "(1, 30, 40)" in error
    assert "(1, 20, 20)" in error
