"""The presets of models of whole scenes: every command runs with each, at sizes that take seconds."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from whatwhere.datasets import VideoData, save_video
from whatwhere.examples.common.video_models import load_data
from whatwhere.examples.sqair import PRESETS, main, prepare
from whatwhere.inference.training import Process

SMALL = [
    "--batch-size=2",
    "--particles=2",
    "--first-frames=2",
    "--frames=3",
    "--stage-steps=1",
    "--hold-steps=0",
    "--monitor-videos=2",
    "--network.hidden=12",
    "--network.narrow=8",
    "--network.presence-hidden=8",
    "--network.what-size=4",
    "--network.glimpse-size=8",
    "--training.evaluate-every=none",
    "--training.steps=3",
    "--training.minutes=none",
    "--data.train-videos=8",
    "--data.test-videos=2",
    "--warm-start.looks.frames=32",
    "--warm-start.motion.videos=8",
]


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


@pytest.mark.parametrize(
    "preset", ["sprites", "balls", "balls-occlusion", "scalor-like", "gswm-like", "r-sqair-like"]
)
def test_every_command_runs(preset: str, tmp_path: Path, capsys):
    source = PRESETS[preset].data.source
    assert run("train", "--preset", preset, "--output", tmp_path, *SMALL) == 0
    checkpoint = tmp_path / "checkpoint.pt"
    options = ["--checkpoint", checkpoint, "--output", tmp_path]
    assert (
        run("evaluate", *options, "--iwae-particles=2", "--frames=4", "--predict=3", "--segmented-from=2")
        == 0
    )
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["frames"] == 4
    assert len(metrics["prediction"]["distance"]) == 3
    assert metrics["segmented_from"] == 2
    assert (metrics["segmentation"] is None) == (source == "glyphs")
    said = capsys.readouterr().out
    assert ("pixels           from frame 2" in said) == (source != "glyphs")
    assert "predicted " in said
    clip = tmp_path / "clip.h5"
    data = load_data(replace(PRESETS[preset].data, test_videos=9), 4).test.subset(range(9))
    fullest = data.video[:, :4].max((1, 2)).mean((1, 2)).argmax()
    save_video(clip, VideoData(data.video[[fullest], :4]))
    assert run("track", clip, *options) == 0
    assert (tmp_path / "tracks.csv").exists()
    assert run("generate", *options, "--frames=3", "--count=2") == 0
    assert run("generate", *options, "--video", clip, "--given=2", "--frames=4", "--count=2") == 0


@pytest.mark.parametrize("discovery", ["learned", "evidence", "grid"])
def test_objects_are_held_on_to_however_they_are_found(discovery: str, tmp_path: Path):
    preset = PRESETS["scalor-like"]
    config = replace(
        preset,
        output=tmp_path,
        data=replace(preset.data, train_videos=2, test_videos=2),
        network=replace(preset.network, discovery=discovery),
    )
    run = prepare(config, Process(torch.device("cpu")))
    for hook in run.trainer._on_step:
        hook(0)
    assert float(run.programs.guide.discovery.hold) == pytest.approx(0.999)
    assert float(run.programs.guide.propagation.hold) == pytest.approx(0.999)
