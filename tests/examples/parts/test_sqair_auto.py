"""What `--auto` chooses for SQAIR beside what a look tells of any model."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from PIL import Image

from whatwhere.checks import FieldError
from whatwhere.datasets import DataError, Preparation
from whatwhere.examples.common.video_models import camera_image, camera_size, load_data
from whatwhere.examples.parts.sqair_auto import chosen, in_front_of_camera
from whatwhere.examples.parts.sqair_config import NetworkConfig
from whatwhere.examples.parts.sqair_programs import build, fitted_to
from whatwhere.examples.sqair import PRESETS
from whatwhere.models.components import PerspectiveWindows

pytest.importorskip("scipy", reason="needs SciPy: pip install 'whatwhere[metrics]'")


def write_plane(path: Path, slope: float) -> None:
    """Frames of 160 x 160 with an object that walks up and down, half as wide as high."""
    video = np.zeros((240, 160, 160), np.uint8)
    for t, frame in enumerate(video):
        row, column = 80 + 50 * np.sin(t / 9), 80 + 60 * np.sin(t / 31)
        high = 20 + slope * (row / 80 - 1)
        top, left = round(row - high / 2), round(column - high / 4)
        frame[top : top + round(high), left : left + round(high / 2)] = 200
    np.savez(path, video=video)


@pytest.mark.parametrize(("slope", "background"), [(0.0, "none"), (15.0, "none"), (15.0, "camera")])
def test_sizes_by_place_are_for_whole_frames_of_a_model_of_crops(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], slope: float, background: Literal["none", "camera"]
):
    write_plane(tmp_path / "plane.npz", slope)
    preset = PRESETS["video"]
    data = replace(preset.data, source=str(tmp_path / "plane.npz"), crop=(48, 48))
    network = replace(preset.network, background=background)
    config, split = chosen(replace(preset, auto=True, data=data, network=network), True)
    spoken = [line for line in capsys.readouterr().out.splitlines() if "perspective" in line]
    if not slope:
        assert config.network.perspective is None
        assert config.network.widest is None
        assert not spoken
        return
    assert config.network.perspective is not None
    horizon, row = config.network.perspective
    assert horizon == pytest.approx(-20 / 15, rel=0.1)
    height, width = config.prior.object_size or (0.0, 0.0)
    assert width == pytest.approx(height / 2, rel=0.05)
    assert 20 + 15 * row == pytest.approx(height / 1.1, abs=0.6)
    assert config.network.widest == (1.25 if background == "none" else None)
    assert config.network.size_limits == pytest.approx(
        (math.exp(-0.15) / 1.1, math.exp(0.15) / 1.1), abs=0.006
    )
    assert spoken[0].startswith(f"auto: network.perspective: ({horizon}, {row}) (in whole frames objects are")
    # The trained model sees crops, and knows of no place; that of whole frames does.
    shape = (1, *split.train.shape[-2:])
    config = replace(config, network=replace(config.network, image_shape=shape))
    whole = fitted_to(config, (1, 160, 160))
    crops, frames = (build(each.network, each.prior).model.decoder.windows for each in (config, whole))
    assert not isinstance(crops, PerspectiveWindows)
    assert isinstance(frames, PerspectiveWindows)
    assert (frames.horizon, frames.row) == (horizon, row)


def test_the_horizon_must_be_above_the_row_of_a_usual_size():
    with pytest.raises(ValueError, match=r"`perspective` must be a horizon and a row below it.*\(0.5, 0.1\)"):
        NetworkConfig(discovery="evidence", perspective=(0.5, 0.1))


def test_in_front_of_a_camera_frames_are_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """What they stand out by is seen as if prepared; windows are cut around what moves."""
    video = np.zeros((240, 96, 96), np.uint8) + np.linspace(60, 160, 96).astype(np.uint8)
    for t, frame in enumerate(video):
        row, column = round(48 + 30 * np.sin(t / 9)), round(48 + 30 * np.sin(t / 31))
        frame[row - 8 : row + 8, column - 5 : column + 5] = 230
    np.savez(tmp_path / "street.npz", video=video)
    preset = PRESETS["video"]
    data = replace(preset.data, source=str(tmp_path / "street.npz"), crop=(48, 48))
    settings = replace(preset, auto=True, data=data)
    usual, _ = chosen(settings, False)
    camera = replace(settings, network=replace(settings.network, background="camera"))
    config, split = chosen(camera, True)
    assert usual.data.prepare.background == "median"
    assert not config.data.prepare.changes
    assert config.data.cut == "motion"
    assert usual.data.prepare.white is not None
    assert config.network.contrast == pytest.approx(usual.data.prepare.white / 255, abs=1e-3)
    assert config.prior == usual.prior
    assert replace(config.network, background="none", contrast=1.0) == usual.network
    assert split.train.batch([0]).video.min() > 0.2
    assert f"network.contrast: {config.network.contrast}" in capsys.readouterr().out
    own = replace(camera, network=replace(camera.network, contrast=0.9))
    assert chosen(own, False)[0].network.contrast == 0.9
    # Chosen by hand, nobody says that the ground is to be taken away.
    assert chosen(replace(config, auto=False), True)[0].data == config.data
    assert not capsys.readouterr().out


def test_a_camera_is_not_for_a_ground_that_changes():
    prepare = Preparation("local", "both", normalise=True, black=3.0, white=90.0)
    preset = PRESETS["video"]
    network = replace(preset.network, background="camera")
    config = replace(preset, data=replace(preset.data, prepare=prepare), network=network)
    with pytest.raises(FieldError, match=r"`network.background` must be another than camera .* is 'local'"):
        in_front_of_camera(config)
    even = replace(config, data=replace(config.data, prepare=replace(prepare, background="none")))
    found = in_front_of_camera(even)
    assert not found.data.prepare.changes
    assert found.network.contrast == pytest.approx((90 - 3) / 255, abs=1e-3)  # of an even ground, black is it


def test_the_image_of_a_camera_is_of_all_its_videos_and_of_no_other_camera(tmp_path: Path):
    rng = np.random.default_rng(0)
    ground = rng.integers(60, 160, (20, 24))

    def write(name: str, frames: np.ndarray) -> None:
        (tmp_path / name).mkdir(exist_ok=True)
        for t, frame in enumerate(frames):
            Image.fromarray(frame.astype(np.uint8)).save(tmp_path / name / f"{t:02d}.png")

    frames = ground + rng.integers(-2, 3, (12, 20, 24))
    write("a", frames)
    write("b", frames + 4)
    config = replace(PRESETS["video"].data, source=str(tmp_path), crop=(12, 12))
    train, _ = load_data(config, 3)
    assert camera_size(train) == (20, 24)
    middle = torch.from_numpy(ground + 2.0)[None].float() / 255
    torch.testing.assert_close(camera_image(train, 3), middle, rtol=0, atol=4 / 255)
    write("b", 255 - frames)
    with pytest.raises(DataError, match=r"one camera, but the grounds of .*a and .*b differ by \d+ of 255"):
        camera_image(load_data(config, 3)[0], 3)
