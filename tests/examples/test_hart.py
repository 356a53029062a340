"""The command line of HART end to end, at sizes that take seconds."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from whatwhere.datasets import VideoData, load_clips, read_video, save_video
from whatwhere.examples.data import main as data_main
from whatwhere.examples.hart import EXAMPLE, PRESETS, LossConfig, build, main, make_objective, restore
from whatwhere.inference.supervised import GeneralizedOverlapLoss
from whatwhere.inference.supervised.tracking_losses import AdaptiveWeights, FixedWeights
from whatwhere.inference.training import load_checkpoint
from whatwhere.models.components.boxes import iou

SMALL = [
    "--batch-size=2",
    "--first-frames=3",
    "--frames=4",
    "--stage-steps=2",
    "--test-frames=5",
    "--monitor-videos=2",
    "--data.train-videos=20",
    "--data.test-videos=3",
    "--data.image-size=40",
    "--network.glimpse-size=8",
    "--network.hidden=8",
]


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    options = ["--preset=clutter", "--training.steps=4", "--training.evaluate-every=2", *SMALL]
    assert run("train", "--output", folder, "--training.log-every=4", *options) == 0
    return folder


def test_training_leaves_metrics_pictures_log_and_checkpoint(trained: Path):
    metrics = json.loads((trained / "metrics.json").read_text())
    assert (metrics["clips"], metrics["frames"]) == (3, 15)
    assert metrics["iou_by_frame"][0] == pytest.approx(1)  # the tracker is told
    for name in ("strip.png", "iou.png", "success.png"):
        with Image.open(trained / name) as picture:
            assert min(picture.size) > 100
    log = [json.loads(line) for line in (trained / "log.jsonl").read_text().splitlines()]
    logged = {name for event in log for name in event}
    assert {"tracking", "window", "mask", "tracking_weight", "coverage", "decay", "held_out_iou"} <= logged


def test_resuming_takes_the_steps_of_a_run_without_interruption(trained: Path, tmp_path: Path):
    """The learned weights of the losses are part of what is resumed."""
    options = ["--output", tmp_path, "--preset=clutter", "--training.steps=4", *SMALL]
    assert run("train", *options, "--training.max-minutes=1e-9") == 0
    assert load_checkpoint(tmp_path / "checkpoint.pt").step == 1
    assert run("train", *options, "--resume") == 0
    straight, resumed = (load_checkpoint(folder / "checkpoint.pt") for folder in (trained, tmp_path))
    assert set(straight.modules) == {"model", "weighting"}
    assert straight.modules["weighting"]["log_weights"].abs().min() > 0
    for name, state in straight.modules.items():
        assert all(torch.equal(value, resumed.modules[name][key]) for key, value in state.items())


def test_a_run_may_start_from_another_ones_tracker_also_in_frames_of_another_size(
    trained: Path, tmp_path: Path
):
    options = ["--output", tmp_path, "--preset=clutter", "--initial", trained / "checkpoint.pt", *SMALL]
    options += ["--training.steps=1", "--learning-rate=1e-12", "--data.image-size=48"]
    assert run("train", *options) == 0
    before, after = (
        load_checkpoint(folder / "checkpoint.pt").modules["model"] for folder in (trained, tmp_path)
    )
    for name, value in before.items():
        torch.testing.assert_close(after[name], value)


def test_videos_become_longer_once_the_tracker_is_good_enough(tmp_path: Path):
    options = ["--output", tmp_path, "--preset=clutter", "--curriculum=trigger", *SMALL]
    options += ["--training.steps=6", "--training.evaluate-every=1", "--data.difficulty=0"]
    assert run("train", *options, "--training.max-minutes=1e-9") == 0
    assert run("train", *options, "--resume") == 0
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    events = [event for event in log if "train_iou" in event]
    assert [event["step"] for event in events] == [1, 2, 3, 4, 5, 6]
    length, since = 3, 0
    for event in events:
        assert event["train_frames"] == length
        threshold = 0.70 - 0.05 * (length - 3)
        if length < 4 and event["step"] - since >= 2 and event["train_iou"] >= threshold:
            length, since = length + 1, event["step"]
    state = load_checkpoint(tmp_path / "checkpoint.pt").modules["curriculum"]["_state"]
    assert state.tolist() == [length, since]


def test_track_writes_boxes_and_an_animation(trained: Path, tmp_path: Path, capsys):
    rng = np.random.default_rng(0)
    save_video(
        tmp_path / "clip.h5", VideoData(rng.integers(0, 256, (1, 7, 3, 40, 40), np.uint8)), generator="t"
    )
    options = ["--checkpoint", trained / "checkpoint.pt", "--video", tmp_path / "clip.h5"]
    options += ["--output", tmp_path, "--frames=6"]
    assert run("track", *options) == 2
    assert "--box L T W H" in capsys.readouterr().err
    assert run("track", *options, "--box", 10, 12, 14, 9) == 0
    rows = list(csv.DictReader((tmp_path / "tracks.csv").read_text().splitlines()))
    assert [int(row["frame"]) for row in rows] == list(range(6))
    first = [float(rows[0][name]) for name in ("left", "top", "width", "height")]
    assert first == pytest.approx([10, 12, 14, 9], abs=1e-3)
    outside = (
        r"only 12% of the box \(30.0, 30.0, 40.0, 20.0\), that is left, top, width and height, is inside "
        "frames of 40 x 40 pixels"
    )
    with pytest.warns(UserWarning, match=outside):
        assert run("track", *options, "--box", 30, 30, 40, 20) == 0  # as if they were corners
    assert "video:" not in capsys.readouterr().out  # there is but one
    with Image.open(tmp_path / "tracks.gif") as animation:
        assert animation.n_frames == 6


def test_track_says_which_of_several_videos_it_follows(trained: Path, tmp_path: Path, capsys):
    for name in ("b10", "b9"):
        (tmp_path / "films" / name).mkdir(parents=True)
        for frame in range(2):
            Image.new("RGB", (50, 40), (9, 9, 200)).save(tmp_path / "films" / name / f"{frame}.png")
    options = ["--checkpoint", trained / "checkpoint.pt", "--output", tmp_path, "--box", 10, 12, 14, 9]
    assert run("track", *options, "--video", tmp_path / "films") == 0
    assert f"video:     b9, the first of 2 in {tmp_path / 'films'}\n" in capsys.readouterr().out


def test_the_packaged_tracker_follows_the_packaged_object(tmp_path: Path):
    assert run("track", "--output", tmp_path) == 0
    rows = csv.DictReader((tmp_path / "tracks.csv").read_text().splitlines())
    boxes = torch.tensor([[float(row[name]) for name in ("left", "top", "width", "height")] for row in rows])
    truth = load_clips(EXAMPLE).batch([0]).boxes[0, :, 0]
    assert len(boxes) == 40  # trained on 16, in frames of another size
    overlaps = iou(boxes, truth)
    assert overlaps.mean() > 0.85
    assert overlaps.min() > 0.6


def test_track_leaves_no_folder_where_a_frame_cannot_be_read(trained: Path, tmp_path: Path, capsys):
    folder, output = tmp_path / "frames", tmp_path / "new" / "tracks"
    folder.mkdir()
    for number in range(3):
        Image.fromarray(np.full((40, 40, 3), number, np.uint8)).save(folder / f"{number}.png")
    (folder / "2.png").write_bytes(b"damaged")
    options = ["--checkpoint", trained / "checkpoint.pt", "--video", folder, "--output", output]
    assert run("track", *options, "--box", 10, 12, 14, 9) == 2
    assert "2.png: cannot be read as an image" in capsys.readouterr().err
    assert not output.parent.exists()


def test_track_takes_video_files_of_any_size(trained: Path, tmp_path: Path, write_film, capsys):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 50, 70, 3), np.uint8)
    film = write_film(tmp_path / "clip.avi", pixels)
    options = ["--checkpoint", trained / "checkpoint.pt", "--video", film, "--output", tmp_path / "out"]
    assert run("track", *options, "--box", 50, 12, 14, 9, "--animation=mp4") == 0
    assert "tracks.mp4" in capsys.readouterr().out
    rows = list(csv.DictReader((tmp_path / "out" / "tracks.csv").read_text().splitlines()))
    assert float(rows[0]["left"]) == pytest.approx(50, abs=1e-3)  # beyond the frames that it was trained on
    assert len(read_video(tmp_path / "out" / "tracks.mp4")) == 5
    assert run("track", *options, "--box", 50, 12, 14, 9) == 0
    assert "tracks.gif" in capsys.readouterr().out  # a short one
    assert run("track", *options, "--box", 80, 12, 14, 9) == 2
    assert "`first_box` must be" in capsys.readouterr().err


def test_kitti_trains_and_evaluates_on_real_frames(real_data: Callable[[str], Path], tmp_path: Path):
    folder, clips = real_data("kitti_tracking"), tmp_path / "kitti.h5"
    options = ["--frames", "10", "--resized-frames", "--skip-missing", "--output", str(clips)]
    assert data_main(["kitti", str(folder), *options]) == 0
    options = [
        "--preset=kitti",
        "--data.source",
        clips,
        "--data.test-source",
        clips,
        "--output",
        tmp_path / "run",
    ]
    options += ["--frames=10", "--first-frames=10", "--batch-size=2", "--training.log-every=1", "--threads=1"]
    assert run("train", *options, "--training.steps=3", "--training.evaluate-every=3") == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert (metrics["clips"], metrics["frames"]) == (5, 34)
    # Cars 29 and 31 in ten frames, 27 in six, 30 in four, and 28 in four of the window that begins at 285.
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    steps = [event for event in log if event["event"] == "train"]
    assert len(steps) == 3
    assert all(event["skipped"] == 0 for event in steps)
    assert all(event["gradient_norm"] > 0 for event in steps)


def test_evaluate_takes_frames_of_another_size(trained: Path, tmp_path: Path, capsys):
    rng = np.random.default_rng(0)
    boxes = np.tile(np.float32([30, 12, 14, 9]), (2, 7, 1, 1))
    for name, shape in (("colour", (2, 7, 3, 30, 60)), ("grey", (2, 7, 1, 30, 60))):
        data = VideoData(rng.integers(0, 256, shape, np.uint8), boxes=boxes)
        save_video(tmp_path / f"{name}.h5", data, generator="test")
    options = ["--checkpoint", trained / "checkpoint.pt", "--output", tmp_path / "out"]
    assert run("evaluate", *options, "--data", tmp_path / "colour.h5") == 0
    # All frames, not the five of the training run's own evaluation.
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["frames"] == 14
    assert run("evaluate", *options, "--data", tmp_path / "colour.h5", "--frames=3") == 0
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["frames"] == 6
    assert run("evaluate", *options, "--data", tmp_path / "grey.h5") == 2
    assert "(1, 30, 60), but the tracker was trained on (3, 40, 40)" in capsys.readouterr().err


def test_evaluate_and_export(trained: Path, tmp_path: Path):
    small = tmp_path / "small.pt"
    assert run("export", "--checkpoint", trained / "checkpoint.pt", "--output", small) == 0
    assert run("evaluate", "--checkpoint", small, "--output", tmp_path, "--videos=2", "--frames=8") == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["frames"] == 16
    assert "template" not in metrics
    options = ["--checkpoint", small, "--output", tmp_path, "--videos=2", "--frames=4"]
    assert run("evaluate", *options, "--template", "--difficulty=0") == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["template"]["frames"] == metrics["frames"] == 8
    assert metrics["template"]["iou"] > 0.85  # plain objects on a plain ground


def test_a_target_that_is_away_for_a_while_and_cross_validation(tmp_path: Path):
    rng = np.random.default_rng(1)
    boxes = np.tile(np.float32([10, 12, 14, 9]), (6, 7, 1, 1))
    boxes[:, 3] = 0
    video = rng.integers(0, 256, (6, 7, 3, 40, 40), np.uint8)
    save_video(tmp_path / "v.h5", VideoData(video, boxes=boxes, groups=np.arange(6) // 2), generator="test")
    options = ["--preset=clutter", "--data.source", tmp_path / "v.h5", "--output", tmp_path / "run", *SMALL]
    options += ["--data.min-frames=3", "--training.steps=2", "--training.evaluate-every=1"]
    assert run("cross-validate", *options, "--test-frames=none") == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert (metrics["clips"], metrics["frames"]) == (6, 36)
    assert list(metrics["iou_by_group"]) == ["0", "1", "2"]
    for log in (tmp_path / "run").glob("fold-*/log.jsonl"):
        assert all(json.loads(line).get("skipped", 0) == 0 for line in log.read_text().splitlines())


def test_the_presets_are_the_rows_of_table_1():
    parts = {}
    for name in ("clutter-spatial", "clutter-appearance", "clutter"):
        network = replace(PRESETS[name].network, image_shape=(3, 40, 40))
        model = build(network)
        parts[name] = (model.cell.dorsal is not None, list(make_objective(model, PRESETS[name].loss).losses))
    assert parts == {
        "clutter-spatial": (False, ["tracking"]),
        "clutter-appearance": (True, ["tracking", "window"]),
        "clutter": (True, ["tracking", "window", "mask"]),
    }


def test_the_published_network_has_its_published_size():
    network = replace(PRESETS["kitti"].network, image_shape=(3, 187, 621))
    assert sum(parameter.numel() for parameter in build(network).parameters()) == 1_701_712


def test_options_of_the_objective():
    model = build(replace(PRESETS["clutter"].network, image_shape=(3, 40, 40)))
    plain = make_objective(
        model, LossConfig(tracking="giou", binary_mask=True, learned_weights=False, decay=0.5)
    )
    assert isinstance(plain.losses["tracking"], GeneralizedOverlapLoss)
    assert plain.losses["mask"].binary
    assert isinstance(plain.weighting, FixedWeights)
    assert plain.weighting.weights().tolist() == [1, 1, 1]
    assert plain.decay.coefficient == 0.25
    assert isinstance(make_objective(model, LossConfig()).weighting, AdaptiveWeights)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--no-network.appearance"], "loss.mask"),
        (["--curriculum=trigger", "--training.evaluate-every=none"], "evaluate_every"),
        (["--first-frames=9"], "first_frames"),
    ],
)
def test_contradictions_are_refused(options: list[str], message: str, tmp_path: Path, capsys):
    assert run("train", "--preset=clutter", *SMALL, *options, "--output", tmp_path) == 2
    assert message in capsys.readouterr().err


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(3):
        noise = np.random.default_rng(number).integers(0, 256, (8, 9, 3), np.uint8)
        Image.fromarray(noise).resize((50, 44)).save(folder / f"{number}.png")
    return folder


def test_a_users_pictures_are_pasted_and_evidence_is_a_choice(pictures: Path, tmp_path: Path, capsys):
    options = ["--preset=clutter", "--training.steps=2", "--training.evaluate-every=2", *SMALL]
    options += [f"--data.source=pasted:{pictures}", "--data.also", "clutter:0.2", f"pasted:{pictures}"]
    options += ["--network.evidence", "--network.sizes=bounded", "--output", tmp_path / "run"]
    assert run("train", *options) == 0
    checkpoint = tmp_path / "run" / "checkpoint.pt"
    _, model = restore(checkpoint, torch.device("cpu"))
    assert model.cell.evidence is not None
    assert model.cell.sizes is not None
    evaluate = ["evaluate", "--checkpoint", checkpoint, "--output", tmp_path, "--videos=2", "--frames=5"]
    names = ["template", "careful-template", "correlation-filter"]
    assert run(*evaluate, "--baselines", *names) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert set(names) <= set(metrics)
    assert "correlation-filter" in capsys.readouterr().out
    assert run(*evaluate, "--baselines", "magic") == 2
    assert run("train", *options[:-1], tmp_path / "other", f"--data.source=pasted:{tmp_path / 'none'}") != 0
    assert "none" in capsys.readouterr().err


def test_tracks_have_scores_and_no_lines_where_the_object_is_lost(tmp_path: Path):
    torch.manual_seed(0)
    generator = np.random.default_rng(0)
    video = np.tile(generator.integers(0, 256, (3, 40, 40), np.uint8), (1, 8, 1, 1, 1))
    video[:, 3:] = 128  # nothing to be seen
    save_video(tmp_path / "clip.h5", VideoData(video), generator="t")
    options = ["--preset=clutter", "--training.steps=1", "--training.evaluate-every=1", *SMALL]
    assert run("train", *options, "--network.evidence", "--output", tmp_path / "run") == 0
    checkpoint = tmp_path / "run" / "checkpoint.pt"
    where = ["--video", tmp_path / "clip.h5", "--box", 10, 12, 14, 9, "--output", tmp_path]
    assert run("track", "--checkpoint", checkpoint, *where) == 0
    rows = list(csv.DictReader((tmp_path / "tracks.csv").read_text().splitlines()))
    assert [int(row["frame"]) for row in rows] == [0, 1, 2, 3, 4]
    assert float(rows[1]["score"]) > 0.9
    assert float(rows[3]["score"]) < 0.2
