import csv
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from whatwhere.examples import glimpse_clouds
from whatwhere.examples.glimpse_clouds import chosen_frames
from whatwhere.examples.parts.action_data import ActionDataConfig, ActionSplit, load_actions, training_things
from whatwhere.examples.parts.glimpse_clouds_config import PRESETS, GlimpseCloudsConfig, NetworkConfig, build
from whatwhere.inference.training import Process, load_checkpoint, parse_config
from whatwhere.models.components import OverGlimpses, PlacesContext, UnboundedPlaces

TINY = [
    *("train", "--preset", "relay", "--reading.steps", "2", "--glance.steps", "2", "--training.steps", "2"),
    *("--batch-size", "2", "--glance.batch-size", "2", "--reading.batch-size", "2"),
    *("--data.pictures", "glyphs", "--data.test-videos", "6", "--monitor-videos", "4"),
    *("--network.size", "6", "--network.hidden", "5"),
]


def run(*arguments: str) -> int:
    return glimpse_clouds.main(arguments)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("relay")
    assert run(*TINY, "--output", str(folder)) == 0
    return folder


def test_training_has_stages_and_ends_with_numbers_and_a_picture(trained: Path):
    metrics = json.loads((trained / "metrics.json").read_text())
    assert metrics["videos"] == 6
    assert np.sum(metrics["confusion"]) == 6
    assert metrics["classes"] == ["other", "same"]
    assert (trained / "glimpses.png").exists()
    for stage in ("reading", "glance"):
        assert load_checkpoint(trained / "stages" / stage / "checkpoint.pt").step == 2
    # The main stage of this preset keeps what the others have learned.
    before, after = (
        load_checkpoint(trained / name).modules["model"]
        for name in ("stages/glance/checkpoint.pt", "checkpoint.pt")
    )
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert any(name.startswith("workers") for name in changed)
    assert not any(name.startswith(("features", "context", "read")) for name in changed)


def test_a_run_that_was_stopped_goes_on_bit_for_bit(trained: Path, tmp_path: Path):
    assert run(*TINY, "--output", str(tmp_path), "--training.steps", "1") == 0
    assert run(*TINY, "--output", str(tmp_path), "--resume") == 0
    whole, parts = (load_checkpoint(each / "checkpoint.pt").modules for each in (trained, tmp_path))
    for name, value in whole["model"].items():
        assert torch.equal(value, parts["model"][name]), name


MINUTES = [*TINY, "--reading.steps", "1", "--glance.batch-size", "4", "--training.steps", "1"]


def test_stages_share_the_minutes_by_the_videos_in_their_steps(tmp_path: Path):
    argv = [*MINUTES[1:], "--training.minutes", "12", "--output", str(tmp_path)]
    config = parse_config(GlimpseCloudsConfig, argv, presets=PRESETS)
    training = glimpse_clouds.prepare(config, Process(torch.device("cpu")))
    trainers = [*(stage.make() for stage in training.stages()), training.main()]
    assert [(trainer.config.minutes, trainer.config.steps) for trainer in trainers] == [
        (pytest.approx(2), 1),  # 1 step of 2 videos
        (pytest.approx(8), 2),  # of 4
        (pytest.approx(2), 1),
    ]


def test_a_run_of_minutes_goes_on_where_it_was_stopped(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    arguments = [*MINUTES, "--training.minutes", "0.06", "--output", str(tmp_path)]
    assert run(*arguments, "--training.max-minutes", "1e-9") == 0
    stopped = capsys.readouterr().out
    assert "reading: out of time after step 1;" in stopped
    assert "glance" not in stopped
    assert run(*arguments, "--resume") == 0
    lines = capsys.readouterr().out.splitlines()
    begun = [line for line in lines if line.endswith(" min")]
    assert begun == ["reading: 0.01 min", "glance: 0.04 min", "training: 0.01 min"]
    shares = {"stages/reading": 0.6, "stages/glance": 2.4, ".": 0.6}
    for folder, seconds in shares.items():
        taken = load_checkpoint(tmp_path / folder / "checkpoint.pt").progress["seconds"]
        assert isinstance(taken, float)
        assert taken >= seconds
    assert run(*arguments, "--resume") == 0
    again = capsys.readouterr().out.splitlines()
    ends = [[line for line in each if "completed after" in line] for each in (lines, again)]
    assert len(ends[0]) == 3
    assert ends[0] == ends[1]


def test_each_stage_says_how_far_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert run(*TINY, "--glance.steps", "30", "--output", str(tmp_path)) == 0
    text = capsys.readouterr().out
    assert text.startswith("2 classes: other, same\n400000 videos to train on, 6 held out: of other digits\n")
    _, *stages = re.split(r"^(?:reading: 2|glance: 30|training: 2) steps$", text, flags=re.M)
    said = [[int(step) for step in re.findall(r"^step (\d+),", stage, re.M)] for stage in stages]
    assert said == [[1, 2], list(range(3, 31, 3)), [2]]


def test_classes_are_told_in_short(tmp_path: Path):
    videos: Any = range(3)
    names = tuple(f"a{number}" for number in range(12))
    split = ActionSplit(videos, videos, names, None, "person 2")
    assert split.summary.splitlines() == [
        "12 classes: a0, a1, a2, a3, a4, a5, a6, a7, a8, a9 and 2 more",
        "3 videos to train on, 3 held out: person 2",
    ]
    assert "a9\n" in split._replace(names=names[:10]).summary


def test_evaluation_gives_the_same_numbers(trained: Path, tmp_path: Path):
    checkpoint = str(trained / "checkpoint.pt")
    assert run("evaluate", "--checkpoint", checkpoint, "--output", str(tmp_path)) == 0
    before, after = (json.loads((each / "metrics.json").read_text()) for each in (trained, tmp_path))
    assert before["training"]["steps"] == 2
    assert after == before | {"training": None}  # only at its end it is known that it was that


@pytest.mark.parametrize("animation", ["gif", "mp4"])
def test_looking_at_a_video(trained: Path, tmp_path: Path, animation: str):
    if animation == "mp4":
        pytest.importorskip("av")
    frames = [Image.new("RGB", (60, 40), (5 * n, 0, 0)) for n in range(20)]
    frames[0].save(tmp_path / "clip.gif", save_all=True, append_images=frames[1:])
    arguments = ["look", "--checkpoint", str(trained / "checkpoint.pt"), "--clips", "2"]
    arguments += ["--video", str(tmp_path / "clip.gif"), "--output", str(tmp_path), "--animation", animation]
    assert run(*arguments) == 0
    assert (tmp_path / f"looks.{animation}").stat().st_size > 1000
    with open(tmp_path / "votes.csv", newline="") as file:
        head, *rows = csv.reader(file)
    assert head == ["first_frame", "last_frame", "other", "same"]
    assert [row[:2] for row in rows] == [["0", "9"], ["10", "19"]]
    for row in rows:
        assert sum(map(float, row[2:])) == pytest.approx(1, abs=1e-3)


def test_frames_are_spread_evenly():
    assert chosen_frames(16, 1, 4).tolist() == [[2, 6, 10, 14]]
    assert chosen_frames(16, 2, 4).tolist() == [[1, 3, 5, 7], [9, 11, 13, 15]]
    assert chosen_frames(2, 1, 4).tolist() == [[0, 0, 1, 1]]


def test_an_export_is_smaller_and_evaluates(trained: Path, tmp_path: Path):
    path = tmp_path / "shared.pt"
    assert run("export", "--checkpoint", str(trained / "checkpoint.pt"), "--output", str(path)) == 0
    assert path.stat().st_size < (trained / "checkpoint.pt").stat().st_size
    assert run("evaluate", "--checkpoint", str(path), "--videos", "2") == 0


def test_the_global_path_alone(tmp_path: Path):
    options = ["--training.steps", "1", "--batch-size", "2", "--data.pictures", "glyphs"]
    options += ["--data.test-videos", "4", "--data.shown", "first", "--output", str(tmp_path)]
    assert run("train", "--preset", "relay-global", *options) == 0
    assert not (tmp_path / "glimpses.png").exists()
    checkpoint = str(tmp_path / "checkpoint.pt")
    assert run("look", "--checkpoint", checkpoint, "--video", str(tmp_path)) == 2


def test_weizmann_with_a_person_left_out(real_data: Callable[[str], Path], tmp_path: Path):
    options = ["--data.source", f"weizmann:{real_data('weizmann')}", "--data.fold", "3"]
    options += ["--training.steps", "1", "--glance.steps", "1", "--batch-size", "2", "--samples", "1"]
    options += ["--glance.batch-size", "2", "--output", str(tmp_path)]
    assert run("train", "--preset", "weizmann", *options) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert 9 <= metrics["videos"] <= 12
    assert len(metrics["classes"]) == 10


def test_things_to_read_are_digits_and_marked_ones():
    config = ActionDataConfig(pictures="glyphs", train_videos=20, test_videos=2)
    videos: Any = load_actions(config).train
    process = Process(torch.device("cpu"))
    images, middles, classes = training_things(videos, 5, 0, process)(3)
    assert images.shape == (20, 1, 128, 128)
    assert middles.shape == (4, 20, 2)
    marked = classes >= 10
    assert not marked[2:].any()
    assert marked[:2].any()
    assert not marked[:2].all(0).any()
    for thing, frame in marked.nonzero().tolist():
        x, y = (middles[thing, frame] + 1) / 2 * 127
        ys, xs = np.mgrid[:128, :128]
        circle = abs(np.hypot(xs - float(x), ys - float(y)) - 11) <= 0.1
        # The circle is drawn about the rounded place; where there is none, few pixels are bright.
        assert float(images[frame, 0][torch.from_numpy(circle)].mean()) > 0.5


@pytest.mark.parametrize("shown", ["first", "last"])
def test_a_control_shows_one_mark_only(shown: Any):
    config = ActionDataConfig(pictures="glyphs", train_videos=2, test_videos=2, shown=shown)
    video = load_actions(config).train.batch([0, 1], "", 0, 0).video
    bright = video.flatten(2).amax(-1) > 0
    expected = [shown == "first"] * 2 + [False] * 4 + [shown == "last"] * 2
    assert bright.tolist() == [expected] * 2


def test_own_videos_in_a_folder_for_each_class(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for name, step in (("darker", -9), ("lighter", 9)):
        (tmp_path / "videos" / name).mkdir(parents=True)
        for number in range(3):
            frames = [Image.new("RGB", (40, 30), (100 + number + step * n, 0, 0)) for n in range(10)]
            path = tmp_path / "videos" / name / f"{number}.gif"
            frames[0].save(path, save_all=True, append_images=frames[1:])
    out = tmp_path / "run"
    options = ["--preset", "folders", "--data.source", f"folders:{tmp_path / 'videos'}", "--output", str(out)]
    options += ["--data.resize", "24", "32", "--data.shift", "0", "--data.speed", "1.1"]
    options += ["--glance.steps", "2", "--training.steps", "2", "--network.channels", "4", "4"]
    assert run("train", *options) == 0
    assert capsys.readouterr().out.splitlines()[:3] == [
        "2 classes: darker, lighter",
        "4 videos to train on, 2 held out: the last fifth of each class, in the order of names",
        "glance: 2 steps",
    ]
    half = ActionDataConfig(source=options[3], share=0.5)
    assert load_actions(half).held_out == "the last 50% of each class, in the order of names"
    metrics = json.loads((out / "metrics.json").read_text())
    assert (metrics["videos"], metrics["classes"]) == (2, ["darker", "lighter"])
    assert metrics["glimpse_to_joint"] is None
    looked = ["look", str(path), "--checkpoint", str(out / "checkpoint.pt"), "--output", str(out)]
    assert run(*looked) == 0
    rows = list(csv.reader((out / "votes.csv").read_text().splitlines()))
    assert rows[0] == ["first_frame", "last_frame", "darker", "lighter"]
    assert rows[1][:2] == ["0", "9"]
    # They may move, but what was held out is not trained on.
    (tmp_path / "videos").rename(tmp_path / "moved")
    options[3] = f"folders:{tmp_path / 'moved'}"
    assert run("train", *options, "--resume") == 0
    path = tmp_path / "moved" / "lighter"
    (path / "2.gif").rename(path / "00.gif")
    assert run("train", *options, "--resume") == 2
    assert "`names` differ" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--data.source", "elsewhere"], "must be relay, folders:FOLDER, weizmann:FOLDER"),
        (["--data.source", "weizmann"], "must be relay, folders:FOLDER, weizmann:FOLDER"),
        (["--preset", "weizmann", "--data.source", "weizmann:/nowhere"], "no such file"),
        (["--preset", "ntu", "--data.source", "ntu:/nowhere"], "no such folder"),
        (["--preset", "folders", "--data.source", "folders:/nowhere"], "no such folder"),
        (["--preset", "weizmann", "--data.zoom", "0.5"], "`data.zoom` must be in [1, 4]"),
        (["--preset", "nucla", "--data.source", "nucla:/nowhere"], "no such folder"),
        (["--network.workers", "0"], "network.workers"),
        (["--network.reader", "16", "0"], "network.reader"),
        (["--loss.pose", "-1"], "loss.pose"),
        (["--data.frames", "3"], "marked_frames"),
        (["--network.kind", "ntu"], "colour"),
        (["--network.hands"], "network.hands"),
        (["--preset", "folders", "--network.kind", "ntu", "--network.hands"], "whose hands are known"),
        (["--initial", "weights.pth"], "initial"),
    ],
)
def test_mistakes_are_told_in_one_line(
    options: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    arguments = ["train", "--data.pictures", "glyphs", *options, "--output", str(tmp_path / "run")]
    try:
        code = run(*arguments)
    except SystemExit as error:
        code = int(str(error.code))
    assert code == 2
    captured = capsys.readouterr().err
    assert told in captured
    assert len(captured.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("given", "meant"), [("d/classes", "folders:d/classes"), ("ntu", "ntu:ntu")])
def test_a_folder_without_what_it_is_of(
    given: str,
    meant: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    (tmp_path / given).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert run("train", "--data.source", given) == 2
    assert f"nucla:FOLDER (did you mean {meant}?), got '{given}'" in capsys.readouterr().err


def test_cross_validation_needs_folds(capsys: pytest.CaptureFixture[str]):
    assert run("cross-validate", "--preset", "relay") == 2
    assert "weizmann:FOLDER" in capsys.readouterr().err


def weizmann(folder: Path) -> Path:
    """Rectangles that nine persons are; each bends and runs."""
    folder.mkdir()
    masks, rows = {}, ["sequence,frame,x,y,w,h"]
    for name in ("daria", "denis", "eli", "ido", "ira", "lena", "lyova", "moshe", "shahar"):
        for action, side in (("bend", 40), ("run", 60)):
            mask = np.zeros((4, 144, 180), bool)
            mask[:, 20 : 20 + side, 30:60] = True
            masks[f"{name}_{action}"] = np.packbits(mask, axis=-1)
            rows += [f"{name}_{action},{frame},30,20,30,{side}" for frame in range(4)]
    np.savez(folder / "silhouettes_packed.npz", **masks)
    (folder / "boxes_from_masks.csv").write_text("\n".join(rows))
    return folder


def test_folds_that_are_complete_are_read_and_not_evaluated_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    options = ["--data.source", f"weizmann:{weizmann(tmp_path / 'data')}", "--output", str(tmp_path / "out")]
    options += ["--training.minutes", "0.0005", "--glance.steps", "1", "--batch-size", "2", "--samples", "1"]
    options += ["--network.channels", "4", "4", "4", "--monitor-videos", "1"]
    assert run("cross-validate", "--preset", "weizmann", *options) == 0
    metrics = tmp_path / "out" / "metrics.json"
    first = json.loads(metrics.read_text())
    assert first["videos"] == 18
    assert len(first["folds"]) == 9

    def never(*arguments: object) -> int:
        raise AssertionError("a fold was gone through again")

    metrics.unlink()
    with monkeypatch.context() as patched:
        patched.setattr(glimpse_clouds, "run_training", never)
        patched.setattr(glimpse_clouds, "measure", never)
        assert run("cross-validate", "--preset", "weizmann", *options) == 0
    assert json.loads(metrics.read_text()) == first
    # One that was stopped before it was evaluated goes on, and so does one that gets more time.
    started = []
    usual = glimpse_clouds.run_training
    monkeypatch.setattr(
        glimpse_clouds, "run_training", lambda fold: started.append(fold.data.fold) or usual(fold)
    )
    (tmp_path / "out" / "fold-3" / "metrics.json").unlink()
    assert run("cross-validate", "--preset", "weizmann", *options) == 0
    assert started == [3]
    assert json.loads(metrics.read_text()) == first
    assert run("cross-validate", "--preset", "weizmann", *options, "--training.minutes", "0.0006") == 0
    assert started[1:] == list(range(9))


def test_weights_for_pictures_that_are_none_are_refused(tmp_path: Path):
    (tmp_path / "weights.pth").write_bytes(b"nothing")
    network = NetworkConfig((3, 32, 32), ("a", "b"), (1, 2), kind="ntu")
    with torch.device("meta"):
        model = build(network)
    with pytest.raises(glimpse_clouds.DataError, match="ResNet-50"):
        glimpse_clouds.load_picture_weights(model, tmp_path / "weights.pth")


@pytest.mark.parametrize("unbounded", [False, True])
def test_places_and_the_reading_are_as_asked(unbounded: bool):
    network = NetworkConfig((1, 32, 32), ("a", "b"), (1, 1), reader=(3, 5), unbounded=unbounded)
    model = build(network)
    assert type(model.context) is (UnboundedPlaces if unbounded else PlacesContext)
    convolutions = [part for part in model.read.modules() if isinstance(part, torch.nn.Conv2d)]
    assert [part.out_channels for part in convolutions] == [3, 5]


def test_a_network_of_published_sizes_shares_glimpses_out_and_counts_votes_as_asked():
    network = NetworkConfig((3, 32, 32), ("a", "b"), (1, 2), kind="ntu", assignment="glimpses", counted=2)
    with torch.device("meta"):
        model = build(network)
    assert isinstance(model.assignment, OverGlimpses)
    assert model.counted == 2


def test_more_convolutions_of_the_coarse_view_keep_the_size_of_its_maps():
    network = NetworkConfig((1, 32, 32), ("a", "b"), (1, 1), channels=(3, 4, 5))
    assert build(network).features(torch.zeros(1, 2, 1, 32, 32)).context.shape == (1, 2, 5, 4, 4)


def test_presets_are_configurations():
    assert set(PRESETS) == {"relay", "relay-global", "folders", "weizmann", "ntu", "nucla"}
    for preset in PRESETS.values():
        assert isinstance(preset, GlimpseCloudsConfig)
        network = replace(preset.network, image_shape=(3, 32, 32), names=("a", "b"), pose=(1, 2))
        with torch.device("meta"):
            build(network)
