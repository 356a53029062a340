"""A look before training: settings and warnings, of scenes of which everything is known."""

import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from whatwhere.datasets import Preparation, SizeError, VideoData
from whatwhere.examples.common import look
from whatwhere.examples.common.look import (
    Choice,
    choose_data,
    look_at,
    read_raw,
    settings_of,
    warnings_of,
    with_choices,
)
from whatwhere.examples.common.recorded import RecordedConfig
from whatwhere.examples.parts.sqair_config import PriorConfig, SQAIRConfig

pytest.importorskip("scipy", reason="needs SciPy: pip install 'whatwhere[metrics]'")

RNG = np.random.default_rng(0)


def film(
    path: Path, ground: float = 0, bright: int = 220, side: int = 9, size: int = 100, both: bool = False
):
    """Two squares that go around on a noisy ground with a pattern that stays."""
    pattern = ground * RNG.uniform(0.5, 1.5, (size, size))
    frames = np.empty((40, size, size))
    for t in range(40):
        frames[t] = pattern + RNG.normal(0, 1, (size, size))
        for k, at in enumerate((10 + t, size - 20 - t)):
            frames[t, at : at + side, (30, 65)[k] : (30, 65)[k] + side] = 0 if both and k else bright
    np.savez(path, video=frames.clip(0, 255).round().astype(np.uint8))
    return str(path)


def data_of(**changes: float) -> VideoData:
    video = np.zeros((30, 2, 1, 40, 40), np.uint8)
    video[:, :, :, 10:20, 12:20] = 255
    return VideoData(video)


@pytest.mark.parametrize(
    ("ground", "bright", "both", "background", "polarity"),
    [
        (0, 220, False, "none", "bright"),
        (100, 255, False, "median", "bright"),
        (140, 0, False, "median", "dark"),
        (100, 255, True, "median", "both"),
    ],
)
def test_objects_are_made_bright_on_black(
    tmp_path: Path, ground: float, bright: int, both: bool, background: str, polarity: str
) -> None:
    source = film(tmp_path / "film.npz", ground, bright, both=both)
    data, reasons = choose_data(RecordedConfig(), source)
    assert (data.prepare.background, data.prepare.polarity) == (background, polarity)
    assert data.crop == (48, 48)
    assert data.scale is None
    assert len(reasons) == 2
    assert f"background {background}, polarity {polarity}" in reasons[0]


@pytest.mark.parametrize(("frames", "background"), [(9, "local"), (40, "median")])
def test_what_has_not_left_its_place_is_no_ground(tmp_path: Path, frames: int, background: str) -> None:
    """Squares of 9 pixels that go a pixel a frame: in eight frames their middle is always covered."""
    with np.load(film(tmp_path / "film.npz", 100, 255)) as whole:
        np.savez(tmp_path / "part.npz", video=whole["video"][:frames])
    data, _ = choose_data(RecordedConfig(), str(tmp_path / "part.npz"))
    assert data.prepare.background == background


def test_videos_of_other_sizes_are_named_and_too_short_ones_left_out(tmp_path: Path) -> None:
    video = np.zeros((6, 40, 40), np.uint8)
    video[:, 10:20, 12:20] = 255
    for name, length, side in (("1", 6, 40), ("2", 1, 40), ("3", 6, 38)):
        folder = tmp_path / name
        folder.mkdir()
        for number, frame in enumerate(video[:length, :side]):
            Image.fromarray(frame).save(folder / f"{number}.png")
    with pytest.raises(SizeError, match=r"3: 40 x 38 pixels, but 1 has 40 x 40"):
        read_raw(RecordedConfig(), str(tmp_path), 2)
    shutil.rmtree(tmp_path / "3")
    assert [clip.shape[1] for clip in read_raw(RecordedConfig(), str(tmp_path), 2).clips] == [2]


def test_a_ground_that_darkens_is_a_running_one(tmp_path: Path) -> None:
    """Its pattern has three quarters less light at the end; of the median over time it is up to 60 away."""
    pattern = 80 * RNG.uniform(0.5, 1.5, (60, 60))
    frames = np.stack([pattern * (1 - t / 160) + RNG.normal(0, 1, (60, 60)) for t in range(120)])
    for t, frame in enumerate(frames):
        at = 5 + t % 40
        frame[at : at + 9, 25:34] = 250
    np.savez(tmp_path / "film.npz", video=frames.clip(0, 255).round().astype(np.uint8))
    data, reasons = choose_data(RecordedConfig(held_out=0.1), str(tmp_path / "film.npz"))
    assert (data.prepare.background, data.prepare.polarity) == ("running", "bright")
    assert "the ground changes slowly" in reasons[0]


def test_frames_of_large_objects_are_made_smaller(tmp_path: Path) -> None:
    data, reasons = choose_data(RecordedConfig(), film(tmp_path / "film.npz", side=30, size=200))
    assert data.scale == 1 / 2
    assert any("data.scale: 0.5 (objects are 30 pixels long" in line for line in reasons)


@pytest.mark.parametrize(("side", "scale"), [(30, 0.5), (12, None)])
def test_very_large_frames_are_looked_at_smaller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, side: int, scale: float | None
) -> None:
    """What is chosen is of frames as they are stored, and so many are looked at as of small ones."""
    source = film(tmp_path / "film.npz", side=side, size=200)
    whole, _ = choose_data(RecordedConfig(), source)
    monkeypatch.setattr(look, "_CLIP_PIXELS", 2 * 200 * 200 // 4)
    assert [clips.shape[-2:] for clips in look.read_raw(RecordedConfig(), source, 2, reduce=True).clips] == [
        (100, 100)
    ]
    assert [clips.shape[-2:] for clips in look.read_raw(RecordedConfig(), source, 2).clips] == [(200, 200)]
    reduced, _ = choose_data(RecordedConfig(), source)
    assert (reduced.scale, reduced.prepare.background, reduced.prepare.polarity) == (
        scale,
        whole.prepare.background,
        whole.prepare.polarity,
    )
    assert reduced.crop
    assert whole.crop
    assert abs(reduced.crop[0] - whole.crop[0]) <= 4
    kept = ("data.scale",)
    assert choose_data(RecordedConfig(), source, keep=kept)[0].prepare == whole.prepare


def test_frames_of_a_size_of_ones_own_are_read_in_it(tmp_path: Path) -> None:
    source = film(tmp_path / "film.npz", side=30, size=200)
    raw = look.read_raw(RecordedConfig(scale=0.25), source, 2)
    assert raw.clips[0].shape[-2:] == (50, 50)
    assert raw.seen(RecordedConfig(scale=0.25).frame_recipe()).shape[-2:] == (50, 50)
    assert raw.seen(RecordedConfig(scale=0.125).frame_recipe()).shape[-2:] == (25, 25)


def test_what_is_set_stays(tmp_path: Path) -> None:
    source = film(tmp_path / "film.npz")
    own = RecordedConfig(scale=0.9, crop=(30, 31), prepare=Preparation(black=3, white=200))
    data, reasons = choose_data(own, source)
    assert (data, reasons) == (own, [])
    kept = ["data.scale", "data.crop", "data.prepare.background"]  # as by default, but by an option
    large = film(tmp_path / "large.npz", side=30, size=200)
    assert choose_data(RecordedConfig(), large, keep=kept) == (RecordedConfig(), [])


def test_choices_are_of_what_nobody_has_set() -> None:
    """By default, in a preset, by an option as by default, and otherwise."""
    preset = replace(SQAIRConfig(), prior=PriorConfig(price=3.0))
    own = replace(preset, prior=PriorConfig(price=3.0, size_scale=0.123), keep=("network.max_count",))
    names = ("prior.price", "prior.likelihood_scale", "prior.size_scale", "network.max_count")
    config, lines = with_choices(own, [Choice(name, 7, "why") for name in names], [SQAIRConfig(), preset])
    assert config == replace(own, prior=PriorConfig(price=7, likelihood_scale=7, size_scale=0.123))
    count = own.network.max_count
    assert lines == [
        "prior.price: 7 (why)",
        "prior.likelihood_scale: 7 (why)",
        "prior.size_scale: 0.123 (as it was set)",
        f"network.max_count: {count} (as it was set)",
    ]


def test_settings_follow_from_sizes_and_energy() -> None:
    """Of squares of 10 x 8: E / (2 sd^2) = 1100 nats."""
    choice = settings_of(look_at(data_of()).statistics)
    assert choice.object_size == (11, 9)
    assert choice.size_scale == 0.1
    assert choice.glimpse_size == 16
    assert 80 / (2 * choice.likelihood_scale**2) == pytest.approx(1100, rel=0.01)
    assert choice.price == pytest.approx(99)
    assert choice.slots == 2
    assert choice.search == 8  # they stand still


def test_what_an_object_is_worth_follows_from_a_given_deviation_of_pixels() -> None:
    """80 / (2 x 0.1^2) = 4000 nats, of which it costs 9 %."""
    choice = settings_of(look_at(data_of()).statistics, likelihood_scale=0.1)
    assert (choice.likelihood_scale, choice.price) == (0.1, pytest.approx(360))
    assert "worth 4000 nats" in choice.reasons[4]


@pytest.mark.parametrize("small", [2, 7])
def test_small_objects_are_cheaper_and_need_explain_less(small: int) -> None:
    """A tenth has `small` rows of 10. The price is of the geometric mean, and what is demanded of theirs."""
    pixels = np.zeros((20, 2, 1, 40, 40), np.uint8)
    for frame in range(20):
        pixels[frame, :, :, 20:30, 20:28] = 255
        pixels[frame, :, :, 2 : 2 + (small if frame % 5 == 0 else 10), 2:10] = 255
    found = look_at(VideoData(pixels)).statistics
    share = found.energy.low / found.energy.median
    assert share == pytest.approx(small / 10, rel=0.1)
    choice = settings_of(found)
    if small == 7:
        assert choice.price == pytest.approx(99)
        assert choice.least is None
        return
    assert choice.price == pytest.approx(99 * math.sqrt(share), rel=0.01)
    assert choice.least is not None
    assert choice.least * choice.price == pytest.approx(2.5 * 99 * share, rel=0.02)
    assert settings_of(found, shape=1.0).price == pytest.approx(99)  # where places tell how large they are


def test_objects_are_searched_for_twice_as_far_as_they_move() -> None:
    moving = data_of().video.copy()
    moving[:, 1] = np.roll(moving[:, 1], 6, axis=-1)
    choice = settings_of(look_at(VideoData(moving)).statistics)
    # Windows are of 11 x 9 pixels, glimpses of 16 samples: one is 9 / 16 of a pixel across.
    assert 12 <= choice.search * 9 / 16 <= 12 + 2
    assert choice.search % 2 == 0
    assert settings_of(look_at(VideoData(moving[:, :1])).statistics).search is None


def warnings_about(pixels: np.ndarray, slots: int = 3) -> str:
    return " | ".join(warnings_of(look_at(VideoData(pixels.astype(np.uint8))), slots))


def test_what_would_fail_is_told_with_its_cause() -> None:
    good = data_of().video.copy()
    assert not warnings_about(good)
    assert "the ground is bright, 255 of 255" in warnings_about(255 - good)
    assert "there are no objects: nothing is bright" in warnings_about(0 * good)
    tiny = 0 * good
    tiny[..., 5:7, 5:7] = 255
    assert "objects are of 2 x 2 pixels, too few" in warnings_about(tiny)
    many = 0 * good
    many[..., 2::12, 2::12] = many[..., 3::12, 2::12] = many[..., 2::12, 3::12] = 255
    assert "up to 16 objects at once, more than the 3 slots: set `--network.max-count 17`" in warnings_about(
        many
    )
    covered = 0 * good
    covered[..., :24] = 255
    covered[..., 30:, :] = 0
    assert "% of all pixels are bright" in warnings_about(covered[..., ::-1])
    rare = 0 * good
    rare[3] = good[3]
    assert "of the frames are empty" in warnings_about(rare)
    jumps = 0 * good
    jumps[:, 0, :, 10:16, 10:16] = jumps[:, 1, :, 22:28, 10:16] = 255
    assert "objects move up to 12 pixels from a frame to the next" in warnings_about(jumps)


def test_a_look_is_at_few_pieces_of_what_is_read_in_pieces() -> None:
    class Pieces:
        pieces, mixed = (100,) * 50, 4
        shape = (5000, 2, 1, 8, 8)

        def __init__(self) -> None:
            self.seen: set[int] = set()

        def batch(self, rows):
            self.seen |= {row // 100 for row in rows}
            return VideoData(np.zeros((len(rows), 2, 1, 8, 8), np.uint8)).batch(range(len(rows)))

    data = Pieces()
    assert len(look_at(data).clips) == 48
    assert len(data.seen) == 8
    assert {0, 49} <= data.seen
    assert math.isnan(look_at(data).statistics.brightness)
    assert isinstance(look_at(data).clips, torch.Tensor)
