"""The command line of the VRNN end to end, at sizes that take seconds."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from whatwhere.datasets import load_video
from whatwhere.examples import vrnn
from whatwhere.examples.common import video_training
from whatwhere.examples.common.video_models import batches_of, count_parameters
from whatwhere.examples.vrnn import PRESETS, main, restore
from whatwhere.inference.objectives import FIVO, IWAE
from whatwhere.inference.training import load_checkpoint
from whatwhere.models.vrnn import VRNN, VRNNFrame

SMALL = [
    "--batch-size=4",
    "--particles=2",
    "--first-frames=2",
    "--frames=3",
    "--stage-steps=2",
    "--network.hidden=12",
    "--network.recurrent=10",
    "--network.latent-size=4",
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
    assert metrics["log_marginal"] >= metrics["elbo"]
    with Image.open(trained / "reconstructions.png") as picture:
        assert min(picture.size) > 100
    events = [json.loads(line) for line in (trained / "log.jsonl").read_text().splitlines()]
    measured = [event for event in events if "held_out_bound" in event]
    assert [event["step"] for event in measured] == [2, 4]
    assert all(abs(event["held_out_bound"]) > event["held_out_kl"] > 0 for event in measured)


def test_resuming_takes_the_steps_of_a_run_without_interruption(trained: Path, videos: Path, tmp_path: Path):
    options = ["--output", tmp_path, "--data.source", videos, *SMALL, "--training.steps=4"]
    assert run("train", *options, "--training.max-minutes=1e-9") == 0
    assert load_checkpoint(tmp_path / "checkpoint.pt").step == 1
    assert run("train", *options, "--resume") == 0
    straight, resumed = (load_checkpoint(folder / "checkpoint.pt") for folder in (trained, tmp_path))
    assert straight.step == resumed.step == 4
    for name, state in straight.modules.items():
        assert all(torch.equal(value, resumed.modules[name][key]) for key, value in state.items())


@pytest.mark.parametrize(
    "options",
    [["--bound=fivo"], ["--network.variant=conv", "--network.channels", 3, 4, "--network.strides", 2, 2]],
)
def test_the_other_bound_and_the_other_networks(
    options: list[object], videos: Path, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
):
    made: list[str] = []

    def spy(bound: type) -> Callable[..., object]:
        return lambda *args, **kwargs: made.append(bound.__name__) or bound(*args, **kwargs)

    monkeypatch.setattr(vrnn, "FIVO", spy(FIVO))
    monkeypatch.setattr(vrnn, "IWAE", spy(IWAE))
    small = ["--output", tmp_path, "--data.source", videos, *SMALL, "--training.steps=2"]
    assert run("train", *small, *options) == 0
    config, programs = restore(tmp_path / "checkpoint.pt", torch.device("cpu"))
    assert f"{count_parameters(*programs):,}" in capsys.readouterr().out
    expected = (["FIVO"], "mlp") if "--bound=fivo" in options else (["IWAE"], "conv")
    assert (made, config.network.variant) == expected
    assert json.loads((tmp_path / "metrics.json").read_text())["iwae"] is not None


def test_the_bound_is_measured_on_videos_as_long_as_those_of_training(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    lengths: list[int] = []

    def spy(data: object, size: int, frames: int, *options: object) -> object:
        lengths.append(frames)
        return batches_of(data, size, frames, *options)

    for module in (video_training, vrnn):
        monkeypatch.setattr(module, "batches_of", spy)
    options = ["--output", tmp_path, "--data.source", videos, *SMALL, "--training.evaluate-every=2"]
    assert run("train", *options, "--training.steps=4", "--training.max-minutes=10") == 0
    # At the end all is measured: likelihoods, then a picture.
    assert lengths == [2, 3, 3, 3]


def test_the_bound_rises(videos: Path, tmp_path: Path):
    small = [
        "--output",
        tmp_path,
        "--data.source",
        videos,
        *SMALL,
        "--first-frames=3",
        "--learning-rate=3e-3",
    ]
    assert run("train", *small, "--training.steps=60", "--training.log-every=10") == 0
    events = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    bounds = [event["bound"] for event in events if "bound" in event]
    assert len(bounds) == 6
    assert bounds[-1] > bounds[0] + 100


def test_evaluate_reads_a_checkpoint_and_other_videos(
    trained: Path, write_videos: Callable[..., Path], tmp_path: Path
):
    long = write_videos(tmp_path / "long.h5", 5, frames=6, seed=1)
    options = ["--iwae-particles=3", "--frames=6", "--output", tmp_path, "--data", long]
    assert run("evaluate", "--checkpoint", trained / "checkpoint.pt", *options) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert (metrics["videos"], metrics["frames"], metrics["iwae_videos"]) == (5, 6, 5)


def test_generate_draws_from_the_prior_or_goes_on_from_a_video(
    trained: Path, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    options = ["--checkpoint", trained / "checkpoint.pt", "--frames=5", "--count=2", "--output", tmp_path]
    assert run("generate", *options) == 0
    with Image.open(tmp_path / "generated.gif") as animation:
        assert animation.n_frames == 5
    pictures = [(tmp_path / "generated.png").read_bytes()]
    given: list[Tensor | None] = []

    def spy(self: VRNN, *args: object, **kwargs: Any) -> list[VRNNFrame]:
        given.append(kwargs.get("video"))
        return generate(self, *args, **kwargs)

    generate = VRNN.generate
    monkeypatch.setattr(VRNN, "generate", spy)
    for more in (["--feed-back=sample"], ["--video", videos, "--given=2"]):
        assert run("generate", *options, *more) == 0
        pictures.append((tmp_path / "generated.png").read_bytes())
    assert len(set(pictures)) == 3
    assert given[0] is None
    assert given[1] is not None
    assert torch.equal(given[1], load_video(videos).batch([0, 0]).video[:, :2])


def test_an_exported_checkpoint_is_small_and_evaluates_to_the_same(trained: Path, tmp_path: Path):
    exported = tmp_path / "small.pt"
    assert run("export", "--checkpoint", trained / "checkpoint.pt", "--output", exported) == 0
    assert exported.stat().st_size < 0.5 * (trained / "checkpoint.pt").stat().st_size
    assert run("evaluate", "--checkpoint", exported, "--output", tmp_path) == 0
    first, second = (json.loads((folder / "metrics.json").read_text()) for folder in (trained, tmp_path))
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert second[name] == pytest.approx(value, rel=1e-5), name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--data.source", "nothing-here"], "neither `glyphs`, `mnist`, `spmot`"),
        (["train", "--data.source", "VIDEOS", "--frames=5"], "videos of 4 frames, fewer than the 5"),
        (["generate", "--checkpoint", "CHECKPOINT", "--video", "nothing.gif"], "no such file"),
        (
            ["generate", "--checkpoint", "CHECKPOINT", "--video", "CLIP", "--given=2"],
            "give `--resize` to fit",
        ),
        (["generate", "--checkpoint", "CHECKPOINT", "--video", "VIDEOS", "--given=7"], "has 4 frames"),
        (["evaluate", "--checkpoint", "SQAIR"], "is not one of VRNN"),
    ],
)
def test_mistakes_end_in_one_line(
    arguments: list[str], message: str, trained: Path, videos: Path, tmp_path: Path, capsys
):
    names = {"CLIP": tmp_path / "clip.npz", "SQAIR": tmp_path / "sqair.pt"}
    places = {"VIDEOS": videos, "CHECKPOINT": trained / "checkpoint.pt", **names}
    np.savez(names["CLIP"], video=np.random.default_rng(0).random((3, 24, 30, 1)))
    checkpoint = torch.load(trained / "checkpoint.pt", weights_only=True)
    checkpoint["configuration"] = {"estimator": "vimco"}
    torch.save(checkpoint, names["SQAIR"])
    assert run(*(places.get(argument, argument) for argument in arguments)) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [["--particles=0"], ["--bound=fivo", "--particles=1"], ["--first-frames=11"], ["--batch-size=0"]],
)
def test_impossible_options_are_refused(arguments: list[str], capsys):
    assert main(["train", *arguments]) == 2
    assert arguments[-1].split("=")[0][2:].replace("-", "_") in capsys.readouterr().err


def test_presets_are_of_the_videos_of_sqair():
    assert {"glyphs", "paper", "conv"} <= set(PRESETS)
    assert all(preset.frames == 10 and preset.particles == 5 for preset in PRESETS.values())
