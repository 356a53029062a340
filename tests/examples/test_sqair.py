"""The command line of SQAIR end to end, at sizes that take seconds."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from whatwhere.datasets import VideoStore, load_clips, present
from whatwhere.examples import sqair
from whatwhere.examples.parts.sqair_programs import Programs
from whatwhere.examples.sqair import EXAMPLE, PRETRAINED, Hold, main
from whatwhere.inference.evaluation.tracking_metrics import tracking_counts, tracks_by_slot
from whatwhere.inference.evaluation.tracks_file import read_tracks
from whatwhere.inference.training import Curriculum, load_checkpoint

SMALL = [
    "--batch-size=4",
    "--particles=2",
    "--first-frames=2",
    "--frames=3",
    "--stage-steps=2",
    "--network.hidden=12",
    "--network.narrow=8",
    "--network.presence-hidden=8",
    "--network.what-size=4",
    "--network.glimpse-size=8",
    "--training.evaluate-every=none",
    "--optimizer=adam",
]


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def trained(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    options = ["--output", folder, "--data.source", videos, "--training.steps=4"]
    assert run("train", *options, *SMALL, "--training.evaluate-every=2") == 0
    return folder


def test_training_leaves_metrics_picture_log_and_checkpoint(trained: Path):
    metrics = json.loads((trained / "metrics.json").read_text())
    assert (metrics["videos"], metrics["frames"], metrics["particles"]) == (4, 3, 5)
    assert metrics["elbo"] == pytest.approx(metrics["log_likelihood"] - metrics["kl"])
    assert len(metrics["counting"]["frame_accuracy"]) == 3
    assert np.sum(metrics["counting"]["confusion"]) == 12
    assert -1e9 < metrics["tracking"]["mota"] <= 1
    with Image.open(trained / "reconstructions.png") as picture:
        assert min(picture.size) > 100
    events = [json.loads(line) for line in (trained / "log.jsonl").read_text().splitlines()]
    assert [event["step"] for event in events if "count_accuracy" in event] == [2, 4]


def test_resuming_takes_the_steps_of_a_run_without_interruption(trained: Path, videos: Path, tmp_path: Path):
    options = ["--output", tmp_path, "--data.source", videos, *SMALL, "--training.steps=4"]
    assert run("train", *options, "--training.max-minutes=1e-9") == 0
    assert load_checkpoint(tmp_path / "checkpoint.pt").step == 1
    assert run("train", *options, "--resume") == 0
    straight, resumed = (load_checkpoint(folder / "checkpoint.pt") for folder in (trained, tmp_path))
    assert straight.step == resumed.step == 4
    for name, state in straight.modules.items():
        assert all(torch.equal(value, resumed.modules[name][key]) for key, value in state.items())


def test_air_is_trained_evaluated_and_tracked_like_sqair(videos: Path, tmp_path: Path, capsys):
    options = ["--output", tmp_path, "--data.source", videos, *SMALL, "--model=air", "--training.steps=3"]
    assert run("train", *options, "--training.evaluate-every=3") == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["propagated"] == [0.0, 0.0, 0.0]
    assert sum(metrics["discovered"]) > 0
    checkpoint = tmp_path / "checkpoint.pt"
    assert set(load_checkpoint(checkpoint).modules) == {"model", "guide"}
    assert not any("propagation" in key for key in load_checkpoint(checkpoint).modules["guide"])
    again = tmp_path / "again"
    assert run("evaluate", "--checkpoint", checkpoint, "--output", again) == 0
    # Random numbers before are others, as a picture is drawn from; means of four videos are not far apart.
    assert json.loads((again / "metrics.json").read_text())["log_marginal"] == pytest.approx(
        metrics["log_marginal"], rel=1e-4
    )
    with pytest.warns(UserWarning, match="not what the model knows"):  # as it has hardly learned
        assert run("track", "--checkpoint", checkpoint, "--video", videos, "--output", tmp_path) == 0
    rows = list(csv.DictReader((tmp_path / "tracks.csv").read_text().splitlines()))
    seen = [(row["video"], row["identity"]) for row in rows]
    assert len(set(seen)) == len(seen)  # no object is the same again
    generate = ["generate", "--checkpoint", checkpoint, "--count=2", "--frames=3", "--output", tmp_path]
    assert run(*generate) == 0
    assert run(*generate, "--video", videos, "--given=2") == 2
    assert "`--video` is for SQAIR" in capsys.readouterr().err


def test_evaluate_reads_a_checkpoint_and_other_videos(
    trained: Path, write_videos: Callable[..., Path], tmp_path: Path
):
    long = write_videos(tmp_path / "long.h5", 5, frames=6, seed=1)
    checkpoint = trained / "checkpoint.pt"
    options = ["--iwae-particles=3", "--frames=6", "--output", tmp_path, "--data", long]
    assert run("evaluate", "--checkpoint", checkpoint, *options) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert (metrics["videos"], metrics["frames"], metrics["iwae_videos"]) == (5, 6, 5)
    assert run("evaluate", "--checkpoint", checkpoint, *options, "--first=3") == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert (metrics["videos"], metrics["iwae_videos"]) == (2, 2)
    true_counts = VideoStore(long).batch([3, 4]).count
    confusion = np.array(metrics["counting"]["confusion"])
    assert confusion.sum(1) @ np.arange(len(confusion)) == true_counts.sum().item()
    assert run("evaluate", "--checkpoint", checkpoint, *options, "--first=5") == 2


def test_windows_of_an_evaluation_may_be_narrower_than_those_of_training(
    trained: Path, monkeypatch: pytest.MonkeyPatch
):
    seen: list[Programs] = []
    monkeypatch.setattr(sqair, "report_held_out", lambda *given: seen.append(given[2]))
    for options in ([], ["--widest=1.05"]):
        assert run("evaluate", "--checkpoint", trained / "checkpoint.pt", *options) == 0
    for new, old in zip(*(nn.ModuleList(programs).state_dict().values() for programs in seen), strict=True):
        assert torch.equal(new, old)
    z_where = torch.tensor([9.0, -1.0, 0.0, 0.0])
    free, narrow = (programs.model.decoder.windows(z_where)[:2] for programs in seen)
    torch.testing.assert_close(free, z_where[:2].sigmoid())
    torch.testing.assert_close(narrow, free[1] * torch.tensor([1.05, 1]))  # digits are square
    assert seen[1].guide.discovery.windows == seen[1].model.decoder.windows


def test_evaluate_measures_connected_components_beside_the_model(trained: Path, tmp_path: Path, capsys):
    checkpoint = trained / "checkpoint.pt"
    options = ["--iwae-particles=2", "--baselines", "components", "--iou=0.3", "--output", tmp_path]
    assert run("evaluate", "--checkpoint", checkpoint, *options) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    found = metrics["baselines"]["components"]
    assert metrics["tracking"] is not None
    assert metrics["iou_threshold"] == found["iou_threshold"] == 0.3
    assert np.sum(found["counting"]["confusion"]) == 12
    assert found["tracking"]["mota"] > 0.5  # digits on black
    assert "components" in capsys.readouterr().out


def test_evaluate_measures_how_the_model_goes_on_alone(trained: Path, tmp_path: Path, write_videos, capsys):
    longer = write_videos(tmp_path / "longer.h5", 5, frames=7, seed=1)
    options = ["--iwae-particles=2", "--frames=3", "--data", longer, "--output", tmp_path]
    checkpoint = trained / "checkpoint.pt"
    assert run("evaluate", "--checkpoint", checkpoint, *options, "--continuation", "1", "4") == 0
    found = json.loads((tmp_path / "metrics.json").read_text())["continuation"]
    assert (found["given"], found["later"]) == (3, [1, 4])
    assert len(found["distance"]) == len(found["straight"]) == len(found["kept"]) == 2
    assert "4 later" in capsys.readouterr().out
    assert run("evaluate", "--checkpoint", checkpoint, *options, "--continuation", "5") == 2
    assert run("evaluate", "--checkpoint", checkpoint, *options, "--continuation", "0") == 2


def test_evaluate_draws_what_the_model_predicts(trained: Path, tmp_path: Path, write_videos, capsys):
    longer = write_videos(tmp_path / "longer.h5", 5, frames=7, seed=1)
    options = ["--iwae-particles=2", "--frames=3", "--data", longer, "--output", tmp_path]
    assert run("evaluate", "--checkpoint", trained / "checkpoint.pt", *options, "--predict", "4") == 0
    found = json.loads((tmp_path / "metrics.json").read_text())["prediction"]
    assert (found["given"], len(found["distance"])) == (3, 4)
    with Image.open(tmp_path / "prediction.gif") as film:
        assert film.n_frames == 7
    with Image.open(tmp_path / "paths.png") as picture:
        assert picture.width > 4 * 100
    assert "paths.png" in capsys.readouterr().out


def test_track_writes_boxes_with_identities_and_an_animation(trained: Path, videos: Path, tmp_path: Path):
    with pytest.warns(UserWarning, match="not what the model knows"):  # as it has hardly learned
        assert (
            run("track", "--checkpoint", trained / "checkpoint.pt", "--video", videos, "--output", tmp_path)
            == 0
        )
    rows = list(csv.DictReader((tmp_path / "tracks.csv").read_text().splitlines()))
    assert rows
    assert set(rows[0]) == {"video", "frame", "identity", "left", "top", "width", "height", "score"}
    assert {int(row["video"]) for row in rows} <= set(range(40))
    with Image.open(tmp_path / "tracks.gif") as animation:
        assert animation.n_frames == 4


def test_track_resizes_where_it_may(trained: Path, tmp_path: Path, capsys):
    np.savez(tmp_path / "clip.npz", video=np.random.default_rng(0).random((3, 24, 30, 3)))
    options = ["--checkpoint", trained / "checkpoint.pt", "--video", tmp_path / "clip.npz"]
    assert run("track", *options, "--output", tmp_path) == 2
    error = capsys.readouterr().err
    assert "(3, 24, 30)" in error
    assert "(1, 40, 40)" in error
    assert "--resize" in error
    with pytest.warns(UserWarning, match="background is bright"):
        assert run("track", *options, "--output", tmp_path, "--resize") == 0
    assert "video" not in (tmp_path / "tracks.csv").read_text().splitlines()[0]


def test_generate_draws_from_the_prior_or_goes_on_from_a_video(trained: Path, videos: Path, tmp_path: Path):
    options = ["--checkpoint", trained / "checkpoint.pt", "--frames=5", "--count=2", "--output", tmp_path]
    assert run("generate", *options) == 0
    with Image.open(tmp_path / "generated.gif") as animation:
        assert animation.n_frames == 5
    first = (tmp_path / "generated.png").read_bytes()
    assert run("generate", *options, "--video", videos, "--given=2") == 0
    assert (tmp_path / "generated.png").read_bytes() != first


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--data.source", "nothing-here"], "neither `glyphs`, `mnist`, `spmot`"),
        (["train", "--data.source", "VIDEOS", "--frames=5"], "videos of 4 frames, fewer than the 5"),
        (["track", "--checkpoint", "CHECKPOINT", "--video", "nothing.gif"], "no such file"),
        (["generate", "--checkpoint", "CHECKPOINT", "--video", "VIDEOS", "--given=7"], "has 4 frames"),
        (["evaluate", "--checkpoint", "AIR"], "is not one of SQAIR"),
    ],
)
def test_mistakes_end_in_one_line(
    arguments: list[str], message: str, trained: Path, videos: Path, tmp_path: Path, capsys
):
    places = {"VIDEOS": videos, "CHECKPOINT": trained / "checkpoint.pt", "AIR": tmp_path / "air.pt"}
    if "AIR" in arguments:
        checkpoint = torch.load(trained / "checkpoint.pt", weights_only=True)
        checkpoint["configuration"] = {"estimator": "marginal"}
        torch.save(checkpoint, tmp_path / "air.pt")
    assert run(*(places.get(argument, argument) for argument in arguments)) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_impossible_options_are_refused(capsys):
    for arguments in (["generate", "--checkpoint=x", "--video=y", "--given=10"], ["train", "--particles=1"]):
        assert main(arguments) == 2
        assert arguments[-1].split("=")[0][2:] in capsys.readouterr().err


def test_holding_on_begins_with_every_lengthening():
    hold = Hold(Curriculum(1, 1000, 3), steps=400)
    assert [hold(step) for step in (0, 199, 300, 400, 999)] == [0.999, 0.999, 0.5, 0.0, 0.0]
    assert [hold(step) for step in (1000, 1300, 1500, 2000, 2300, 3000, 9000)] == [
        *[0.999, 0.5, 0.0, 0.999, 0.5, 0.0, 0.0]
    ]
    assert Hold(Curriculum(1, 1000, 3), steps=0)(1000) == 0


def test_training_starts_from_the_parameters_of_another_run(trained: Path, videos: Path, tmp_path: Path):
    options = ["--output", tmp_path, "--data.source", videos, *SMALL, "--hold-steps=1", "--training.steps=1"]
    initial = ["--initial", trained / "checkpoint.pt", "--learning-rate=1e-12", "--training.seed=3"]
    assert run("train", *options, *initial) == 0
    before, after = (load_checkpoint(folder / "checkpoint.pt").modules for folder in (trained, tmp_path))
    for name, state in before.items():
        for key, value in state.items():
            torch.testing.assert_close(after[name][key], value, rtol=0, atol=1e-9)


def test_an_exported_checkpoint_is_small_and_finds_the_same(trained: Path, videos: Path, tmp_path: Path):
    exported = tmp_path / "small.pt"
    assert run("export", "--checkpoint", trained / "checkpoint.pt", "--output", exported) == 0
    assert exported.stat().st_size < 0.5 * (trained / "checkpoint.pt").stat().st_size
    for checkpoint in (trained / "checkpoint.pt", exported):
        with pytest.warns(UserWarning, match="of 40 videos of .* are not what the model knows"):
            run(
                "track", "--checkpoint", checkpoint, "--video", videos, "--output", tmp_path / checkpoint.stem
            )
    assert (tmp_path / "checkpoint/tracks.csv").read_text() == (tmp_path / "small/tracks.csv").read_text()


def test_the_checkpoint_of_the_package_follows_the_objects_of_its_example(tmp_path: Path):
    assert PRETRAINED.stat().st_size < 15e6
    assert run("track", "--output", tmp_path) == 0
    found = read_tracks(tmp_path / "tracks.csv", frames=10)
    truth = load_clips(EXAMPLE).batch([0])
    counts = tracking_counts(found, tracks_by_slot(truth.boxes, present(truth)))
    assert counts.objects == 20
    assert counts.matches >= 18
    assert counts.predictions <= 22
    assert counts.switches == 0
