"""SQAIR's training in stages, at sizes that take seconds."""

import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from whatwhere.datasets import VideoData, save_video
from whatwhere.examples.common.program import UsageError
from whatwhere.examples.common.video_models import DataConfig, Split, load_data
from whatwhere.examples.parts import warm_start
from whatwhere.examples.parts.sqair_config import PRESETS, SQAIRConfig
from whatwhere.examples.parts.warm_start import WarmStart
from whatwhere.examples.parts.warm_start_config import FramesConfig, HeldConfig, WarmStartConfig
from whatwhere.examples.sqair import PRETRAINED, prepare, restore
from whatwhere.guides import Discovery
from whatwhere.inference.training import Process, Stage, TrainingResult, load_checkpoint, run_stages

STAGES = ("frames", "looks", "again", "motion", "held", "refit")
Train = Callable[..., TrainingResult]


def small(**options: Any) -> SQAIRConfig:
    """The preset with small networks; each stage takes two steps, and so does the training proper."""
    fast = PRESETS["mnist-fast"]
    warm = fast.warm_start
    made = replace(
        fast,
        batch_size=4,
        particles=2,
        first_frames=3,
        frames=3,
        prior=replace(fast.prior, what="flow"),
        network=replace(fast.network, hidden=12, narrow=8, presence_hidden=8, what_size=4, glimpse_size=8),
        warm_start=WarmStartConfig(
            frames=replace(warm.frames, share=1 / 7, batch_size=4),
            looks=replace(warm.looks, share=1 / 7, batch_size=4, frames=8),
            again=replace(warm.again, share=1 / 7, batch_size=4),
            motion=replace(warm.motion, share=1 / 7, batch_size=4, videos=6),
            held=replace(warm.held, share=1 / 7),
            refit=replace(warm.refit, share=1 / 7, batch_size=4, videos=6),
        ),
        training=replace(
            fast.training,
            steps=14,
            minutes=None,
            evaluate_every=None,
            progress=False,
            max_minutes=options.pop("max_minutes", None),
        ),
    )
    return replace(made, **options)


@pytest.fixture(scope="module")
def train(videos: Path) -> Train:
    """Trains in a folder, all stages and the training proper, or until it is stopped."""
    data: Split = load_data(DataConfig(source=str(videos)), 3)

    def run(folder: Path, **options: Any) -> TrainingResult:
        config = replace(small(**options), output=folder)
        process = Process(torch.device("cpu"))
        made = prepare(config, process, data)
        stages = WarmStart(made.config, made.programs, data, process).stages()
        last = Stage("training", lambda: made.trainer)
        return run_stages([*stages, last], resume=True, announce=lambda line: None)

    return run


def states(folder: Path) -> list[dict[str, dict[str, torch.Tensor]]]:
    paths = [*(folder / "stages" / name for name in STAGES), folder]
    return [load_checkpoint(path / "checkpoint.pt").modules for path in paths]


def equal(first: dict[str, dict[str, torch.Tensor]], second: dict[str, dict[str, torch.Tensor]]) -> bool:
    return all(
        torch.equal(value, second[name][key]) for name, state in first.items() for key, value in state.items()
    )


@pytest.fixture(scope="module")
def straight(train: Train, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("straight")
    train(folder)
    return folder


def test_stages_follow_each_other_and_share_the_steps(straight: Path):
    steps = [load_checkpoint(straight / "stages" / name / "checkpoint.pt").step for name in STAGES]
    assert steps == [2] * 6
    assert load_checkpoint(straight / "checkpoint.pt").step == 2


def test_a_stage_changes_what_it_is_for_and_nothing_else(straight: Path):
    before, after = {}, dict(zip((*STAGES, "end"), states(straight), strict=True))
    changed = {}
    for name, state in after.items():
        flat = {f"{module}.{key}": value for module, part in state.items() for key, value in part.items()}
        changed[name] = {key for key in flat if before and not torch.equal(flat[key], before[key])}
        before = flat
    for stage in ("motion", "refit"):
        assert {key.split(".")[1] for key in changed[stage]} <= {"propagation_prior", "propagation"}
        assert changed[stage]
    assert all(
        any(part in key for part in ("what_encoder", "decoder", "what_prior")) for key in changed["looks"]
    )
    assert any("what_prior" in key for key in changed["looks"])
    assert not any("what_prior" in key for key in changed["again"])
    assert any("guide.discovery.where_head" in key for key in changed["again"])
    assert not any("propagation_prior" in key for key in changed["again"])
    assert any("propagation_prior" in key for key in changed["held"])
    assert any("discovery_where_prior" in key for key in changed["held"])


def test_a_run_stopped_in_any_stage_goes_on_bit_for_bit(straight: Path, train: Train, tmp_path: Path):
    reasons = []
    for _ in range(2 * len(STAGES) + 2):  # each time it is out of time after one step
        reasons.append(train(tmp_path, max_minutes=1e-9).reason)
    assert reasons[:-1] == ["out of time"] * (len(reasons) - 1)
    assert train(tmp_path).reason == "completed"
    assert all(map(equal, states(straight), states(tmp_path)))


def test_air_starts_with_the_stages_of_single_frames(train: Train, tmp_path: Path):
    warm = small().warm_start
    none = {name: replace(getattr(warm, name), share=0.0) for name in ("motion", "held", "refit")}
    no_motion = replace(warm, **none)
    assert train(tmp_path, model="air", warm_start=no_motion).reason == "completed"
    assert sorted(path.name for path in (tmp_path / "stages").iterdir()) == ["again", "frames", "looks"]
    with pytest.raises(ValueError, match="are for SQAIR"):
        small(model="air")


def test_a_stage_with_nothing_to_learn_from_says_so(train: Train, tmp_path: Path, monkeypatch):
    """Where no frame has an object, there is no gradient for looks: one line says what to change."""
    monkeypatch.setattr(Discovery, "_decide", lambda self, hidden, z_what: hidden[..., :1] * 0 - 40.0)
    with pytest.raises(UsageError, match="`looks` has nothing to learn from: no object is found in 8"):
        train(tmp_path)


@pytest.mark.parametrize("alone", [True, False])
def test_objects_that_know_nothing_of_each_other_are_tracks_of_their_own(
    videos: Path, monkeypatch: pytest.MonkeyPatch, alone: bool
):
    data: Split = load_data(DataConfig(source=str(videos)), 3)
    process = Process(torch.device("cpu"))
    made = prepare(small(), process, data)
    made.programs.model.propagation_prior.per_object = alone
    warm = WarmStart(made.config, made.programs, data, process)
    z_pres = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    seen, places = torch.rand(2, 3, 2), torch.rand(2, 3, 2, 4)
    tracks = warm_start._Tracks(warm, "motion", warm.config.warm_start.motion)
    monkeypatch.setattr(tracks, "collect", lambda size, find: (z_pres, seen, places))
    if not alone:
        assert all(map(torch.equal, tracks.found, (z_pres, seen, places)))
        return
    for row, (video, slot) in enumerate([(0, 0), (1, 0), (1, 1)]):
        present, known, where = (field[row] for field in tracks.found)
        assert present.tolist() == [1.0]
        assert torch.equal(known, seen[video, :, slot, None])
        assert torch.equal(where, places[video, :, slot, None])
    assert [len(field) for field in tracks.found] == [3, 3, 3]


def test_no_more_than_half_of_a_stage_is_spent_on_what_it_learns_from(
    train: Train, tmp_path: Path, monkeypatch, capsys
):
    """Objects are looked for before its first step, here in two of six videos at a time."""
    monkeypatch.setattr(warm_start, "CHUNK", 2)
    hurried = replace(small().training, minutes=1e-3)
    assert train(tmp_path, training=hurried).reason == "completed"
    said = re.findall(
        r"^motion: objects were looked for in ([246]) of 6 videos, which took half of its time",
        capsys.readouterr().out,
        re.MULTILINE,
    )
    assert len(said) == 1
    assert int(said[0]) < 6
    train(tmp_path / "unhurried")
    assert "were looked for" not in capsys.readouterr().out


def test_the_packaged_model_draws_digits_that_keep_their_looks():
    config, (model, _) = restore(PRETRAINED.with_name("sqair-mnist.pt"), torch.device("cpu"))
    assert (config.network.looks, config.network.follow, config.initial) == ("static", "tracked", None)
    torch.manual_seed(0)
    frames = model.generate(8, 4)
    canvas = torch.stack([frame.canvas for frame in frames])
    assert 0 <= canvas.min() < 0.1
    assert 0.9 < canvas.max() <= 1
    first, last = frames[0].slots, frames[-1].slots
    same = (first.identity == last.identity) & (last.z_pres > 0)
    assert same.any()
    assert torch.equal(first.z_what[same], last.z_what[same])


def test_videos_without_true_counts_are_watched_by_their_bound(tmp_path: Path):
    """As one's own are: stages say what their objective says of held-out videos."""
    pixels = np.random.default_rng(0).integers(0, 99, (12, 3, 1, 50, 50), np.uint8)
    save_video(tmp_path / "bare.h5", VideoData(pixels), generator="test")
    data: Split = load_data(DataConfig(source=str(tmp_path / "bare.h5")), 3)
    config = small()
    config = replace(config, training=replace(config.training, evaluate_every=1))
    process = Process(torch.device("cpu"))
    made = prepare(replace(config, output=tmp_path / "run"), process, data)
    stages = {stage.name: stage for stage in WarmStart(made.config, made.programs, data, process).stages()}
    for name in ("frames", "held"):
        trainer = stages[name].make()
        assert trainer.run().reason == "completed"
        assert math.isfinite(trainer.metrics["held_out_bound"])
        assert "count_accuracy" not in trainer.metrics


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_what_is_known_of_motion_can_be_kept(train: Train, straight: Path, tmp_path: Path, rate: float):
    """Of the prior of motion only how probable it is to stay goes on to be learned."""
    none = WarmStartConfig()
    train(tmp_path, warm_start=none, motion_rate=rate, initial=straight / "checkpoint.pt")
    before, after = (load_checkpoint(path / "checkpoint.pt").modules for path in (straight, tmp_path))
    names = {name for name, value in after["model"].items() if not torch.equal(value, before["model"][name])}
    moved = {name.split(".")[1] for name in names if name.startswith("propagation_prior.")}
    assert "presence" in moved
    assert moved.isdisjoint({"rnn", "head"}) == (rate == 0)


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="`motion_rate` needs"):
        replace(PRESETS["paper"], motion_rate=0.0)
    for share in (0.5, 1.0):
        with pytest.raises(ValueError, match="leave time for training"):
            WarmStartConfig(FramesConfig(share=share), held=HeldConfig(share=0.5))
    with pytest.raises(ValueError, match="`rise` must be in"):
        FramesConfig(rise=(0.5, 1.5))
    with pytest.raises(ValueError, match="`learning_rate` must be positive"):
        HeldConfig(learning_rate=0.0)


def test_by_default_there_are_no_stages():
    assert WarmStartConfig().share == 0
    assert SQAIRConfig().warm_start == WarmStartConfig()
    assert not SQAIRConfig().warm_start.explores
    assert 0 < PRESETS["mnist-fast"].warm_start.share < 1
