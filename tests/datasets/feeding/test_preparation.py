from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from whatwhere.datasets import DataError, Preparation

RNG = np.random.default_rng(0)


def scene(frames: int = 12, ground: int = 100, object_: int = 200, noise: float = 2.0) -> np.ndarray:
    """A square of 6 x 6 that goes from left to right over a noisy slope of grey, `(T, 1, 40, 80)`."""
    slope = ground + np.linspace(0, 40, 80)
    pixels = np.broadcast_to(slope, (frames, 1, 40, 80)).copy() + RNG.normal(0, noise, (frames, 1, 40, 80))
    for t in range(frames):
        pixels[t, 0, 10:16, 6 * t : 6 * t + 6] = object_
    return pixels.round().clip(0, 255).astype(np.uint8)


def where(frames: int = 12) -> np.ndarray:
    """Where its square is."""
    shown = np.zeros((frames, 1, 40, 80), bool)
    for t in range(frames):
        shown[t, 0, 10:16, 6 * t : 6 * t + 6] = True
    return shown


def test_by_default_nothing_is_done() -> None:
    frames = scene()
    assert Preparation().of(frames)(frames) is frames
    assert not Preparation().changes


@pytest.mark.parametrize("background", ["median", "running", "local"])
@pytest.mark.parametrize(("object_", "polarity"), [(230, "bright"), (10, "dark")])
def test_objects_become_bright_on_black(background: str, object_: int, polarity: str) -> None:
    frames = scene(object_=object_)
    prepare = Preparation(background, "auto", normalise=True).of(frames, range(len(frames)))
    assert prepare.preparation.polarity == polarity
    seen = prepare(frames)
    assert seen[where()].mean() > 200
    assert np.median(seen[~where()]) == 0
    assert seen[~where()].mean() < 5


def test_of_both_polarities_both_are_seen() -> None:
    frames = scene(object_=250)
    frames[:, 0, 30:36, 40:46] = 0
    frames[4:, 0, 30:36, 40:46] = scene()[4:, 0, 30:36, 40:46]  # it leaves
    settled = Preparation("median", "auto", normalise=True).settled(frames)
    assert settled.polarity == "both"


def test_of_those_that_are_much_fainter_on_the_other_side_none_are_lost() -> None:
    """A shirt a bit brighter than the street beside black coats, whose energy is 25 times as much."""
    frames = scene(ground=150, object_=200, noise=1.0)
    frames[:, 0, 30:36] = scene(ground=150, object_=0, noise=1.0)[:, 0, 10:16]
    prepare = Preparation("median", "auto", normalise=True).of(frames)
    assert prepare.preparation.polarity == "both"
    assert prepare(frames)[where()].min() > 0


def test_levels_by_hand() -> None:
    """y = 255 (d - black) / (white - black), d = ground - x."""
    frames = np.array([[90, 100, 110, 60, 20, 255]], np.uint8).reshape(1, 1, 1, 6)
    ground = np.full((1, 1, 1, 6), 100, np.uint8)
    prepare = Preparation("first", "dark", black=10, white=60).of(np.concatenate([ground, frames]))
    assert prepare(frames).ravel().tolist() == [0, 0, 0, 153, 255, 0]


def test_the_levels_of_training_stay_and_the_ground_is_each_videos_own() -> None:
    settled = Preparation("median", "auto", normalise=True).settled(scene())
    other = scene(ground=20, object_=120)
    prepare = settled.of(other)
    assert prepare.preparation == settled
    assert prepare(other)[where()].min() > 150
    faint = scene(ground=20, object_=70)  # half as bright as in training, and so it is seen
    assert 40 < settled.of(faint)(faint)[where()].mean() < 150


def test_an_empty_scene_stays_black() -> None:
    frames = RNG.normal(50, 2, (20, 1, 40, 40)).round().astype(np.uint8)
    seen = Preparation("median", "both", normalise=True).of(frames)(frames)
    assert seen.mean() < 0.1


def test_a_running_ground_follows_the_light() -> None:
    """Which falls by 2 a frame, so that the median of all frames is up to 60 away; each median of 15 is that
    of its middle frame, and between two of a sample's the ground is on the line from one to the other.
    """
    light = 200.0 - 2 * np.arange(60)
    frames = np.broadcast_to(light[:, None, None, None], (60, 1, 20, 30)).astype(np.uint8).copy()
    for t in range(60):
        frames[t, 0, 5:9, t % 24 : t % 24 + 6] += 50
    places = np.arange(0, 60, 2)
    prepare = Preparation("running", "bright").of(frames[places], places)
    seen = prepare(frames[20:40], start=20)
    bright = seen > 25
    assert (bright == (frames[20:40].astype(int) > light[20:40, None, None, None] + 25)).all()
    assert (seen[:, :, 9:] == 0).all()
    assert prepare(frames[:1])[0, 0, 15, 20] == 28  # before the first median, of frames 0 to 28: that of 14
    assert (prepare(frames[58:], start=58)[:, 0, 15] == 0).all()  # after the last one it is too bright


def test_what_stays_for_half_of_a_running_median_is_ground() -> None:
    """The median of 15 frames is what 8 of them have."""
    frames = np.full((40, 1, 8, 8), 50, np.uint8)
    frames[10:17, 0, 2:4, 2:4] = 90
    frames[10:18, 0, 5:7, 5:7] = 90
    seen = Preparation("running", "bright").of(frames, range(40))(frames)
    assert (seen[10:17, 0, 2:4, 2:4] == 40).all()
    assert seen[13, 0, 5, 5] == seen[14, 0, 5, 5] == 0  # the medians of 6 to 20, and of 7 to 21
    assert (seen[18:, 0] == 0).all()


def test_of_few_frames_the_running_ground_is_their_median() -> None:
    frames = scene(frames=9)
    expected = Preparation("median", "auto", normalise=True).of(frames)(frames)
    assert (Preparation("running", "auto", normalise=True).of(frames, range(9))(frames) == expected).all()


@pytest.mark.parametrize("places", [None, range(11)])
def test_a_running_ground_is_told_its_places(places: range | None) -> None:
    with pytest.raises(ValueError, match=r"needs the `places` of 12 frames, got (none|11)"):
        Preparation("running").of(scene(), places)


def test_uneven_ground_of_every_frame_itself() -> None:
    """Of which no two are alike."""
    y, x = np.mgrid[:48, :60] / 60
    frames = np.stack([20 + 60 * (y * a + x * (1 - a)) for a in np.linspace(0, 1, 8)])[:, None]
    frames[:, 0, 20:25, 30:35] += 100
    frames = frames.round().astype(np.uint8)
    seen = Preparation("local", "bright", normalise=True).of(frames)(frames)
    assert seen[:, 0, 21:24, 31:34].min() > 200
    seen[:, 0, 20:25, 30:35] = 0
    assert seen.max() < 40


@pytest.mark.parametrize(("top", "left"), [(8, 20), (0, 0), (20, 70), (40, 30)])
def test_an_object_that_fills_a_tile_is_no_ground(top: int, left: int) -> None:
    """Dark squares of 12 x 12 on a slope, of which a sixth of the sides is 10 x 15; also at the border."""
    y, x = np.mgrid[:60, :90]
    frames = np.broadcast_to(200 - 0.5 * x - 0.3 * y, (4, 1, 60, 90)).copy()
    frames += RNG.normal(0, 1, frames.shape)
    frames[:, :, top : top + 12, left : left + 12] -= 80
    prepare = Preparation("local", "dark", black=10, white=80).of(frames.round().astype(np.uint8))
    seen = prepare(frames.round().astype(np.uint8))
    assert seen[:, :, top + 1 : top + 11, left + 1 : left + 11].min() > 180
    seen[:, :, top : top + 12, left : left + 12] = 0
    assert seen.max() < 20


def test_a_picture_of_the_empty_scene(tmp_path: Path) -> None:
    frames = scene(noise=0)
    empty = (100 + np.linspace(0, 40, 80)).round().astype(np.uint8)
    Image.fromarray(np.broadcast_to(empty, (40, 80))).save(tmp_path / "empty.png")
    prepare = Preparation(str(tmp_path / "empty.png"))
    seen = prepare.of(frames)(frames)
    assert (seen[~where()] == 0).all()
    assert seen[where()].min() >= 60
    with pytest.raises(DataError, match=r"none\.png: cannot be read"):
        Preparation(str(tmp_path / "none.png")).of(frames)
    words = "one of none, median, running, first, local, or the path of a picture"
    with pytest.raises(DataError, match=f"medain: cannot be read .* `background` must be {words}"):
        Preparation("medain").of(frames)


def test_of_colours_the_ground_has_colours_too() -> None:
    frames = np.broadcast_to(np.array([10, 100, 200], np.uint8).reshape(3, 1, 1), (4, 3, 5, 5)).copy()
    frames[2, :, 2, 2] = 0, 200, 220
    seen = Preparation("median", "both").of(frames)(frames)
    assert seen[2, :, 2, 2].tolist() == [10, 100, 20]
    assert seen.sum() == 130


def test_impossible_levels_are_refused() -> None:
    with pytest.raises(ValueError, match="`white` must be above `black` = 9, got 3"):
        Preparation(black=9, white=3)
    with pytest.raises(ValueError, match=r"`black` must be in \[0, 255\), got -1"):
        Preparation(black=-1)


@pytest.mark.parametrize("white", [0.004, 10.0, 60.003, 120.0])
def test_black_is_found_below_a_white_that_is_given(white: float) -> None:
    frames = RNG.integers(0, 256, (5, 1, 20, 20), dtype=np.uint8)  # whose noise alone is brighter
    settled = Preparation("median", normalise=True, white=white).settled(frames)
    assert settled.white == white
    assert settled.black == pytest.approx(max(0.0, white - 16), abs=0.01)


@pytest.mark.parametrize("black", [0.004, 100.0, 250.0, 254.999])
def test_white_is_found_above_a_black_that_is_given(black: float) -> None:
    settled = Preparation("median", normalise=True, black=black).settled(scene())
    assert settled.black == black
    assert settled.white is not None
    assert min(255.0, black + 15.99) <= settled.white <= 255
