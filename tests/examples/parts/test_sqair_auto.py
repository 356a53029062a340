"""What `--auto` chooses for SQAIR beside what a look tells of any model."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from whatwhere.examples.parts.sqair_auto import chosen
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


@pytest.mark.parametrize("slope", [0.0, 15.0])
def test_sizes_by_place_are_for_whole_frames_of_a_model_of_crops(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], slope: float
):
    write_plane(tmp_path / "plane.npz", slope)
    preset = PRESETS["video"]
    data = replace(preset.data, source=str(tmp_path / "plane.npz"), crop=(48, 48))
    config, split = chosen(replace(preset, auto=True, data=data), True)
    spoken = [line for line in capsys.readouterr().out.splitlines() if "perspective" in line]
    if not slope:
        assert config.network.perspective is None
        assert not spoken
        return
    assert config.network.perspective is not None
    horizon, row = config.network.perspective
    assert horizon == pytest.approx(-20 / 15, rel=0.1)
    height, width = config.prior.object_size or (0.0, 0.0)
    assert width == pytest.approx(height / 2, rel=0.05)
    assert 20 + 15 * row == pytest.approx(height / 1.1, abs=0.6)
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
