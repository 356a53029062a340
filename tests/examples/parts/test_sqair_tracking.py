"""A model of crops sees whole frames where it can."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from whatwhere.examples.common.program import UsageError
from whatwhere.examples.parts.sqair_config import NetworkConfig, PriorConfig, SQAIRConfig
from whatwhere.examples.parts.sqair_programs import programs_of
from whatwhere.examples.parts.sqair_tracking import TrackConfig, programs_for

NETWORK = NetworkConfig(
    image_shape=(1, 24, 24),
    **{"max_count": 2, "what_size": 4, "glimpse_size": 8, "hidden": 12, "narrow": 8, "presence_hidden": 8},
    **{"discovery": "evidence", "follow": "tracked", "looks": "static", "background": "none", "clamp": True},
    second_look=True,
)
PRIOR = PriorConfig(
    propagation="motion", where="fixed", price=10.0, object_size=(8.0, 8.0), size_scale=0.2, shift_scale=0.7
)
CONFIG = SQAIRConfig(network=NETWORK, prior=PRIOR)


def options(tmp_path: Path, height: int, width: int, **changes) -> TrackConfig:
    np.savez(tmp_path / "clip.npz", video=np.zeros((2, height, width), np.uint8))
    return TrackConfig(Path("checkpoint.pt"), tmp_path / "clip.npz", **changes)


@pytest.mark.parametrize(
    ("size", "changes", "shape", "slots"),
    [
        ((24, 24), {}, (1, 24, 24), 2),
        ((24, 24), {"max_count": 4}, (1, 24, 24), 4),
        ((40, 64), {}, (1, 40, 64), 3),
        ((40, 64), {"max_count": 6}, (1, 40, 64), 6),
        ((40, 64), {"resize": True}, (1, 24, 24), 2),
    ],
)
def test_frames_are_seen_as_they_are(size, changes, shape, slots, tmp_path: Path):
    config, programs = programs_for(options(tmp_path, *size, **changes), CONFIG, programs_of(CONFIG))
    assert config.network.image_shape == programs.guide.image_shape == shape
    assert config.network.max_count == programs.guide.discovery.max_count == slots


def test_a_model_that_learned_its_number_of_slots_keeps_it(tmp_path: Path):
    config = replace(CONFIG, prior=replace(PRIOR, price=None))
    programs = programs_of(config)
    assert programs_for(options(tmp_path, 40, 64), config, programs)[0].network.max_count == 2
    with pytest.raises(UsageError, match="other slots"):
        programs_for(options(tmp_path, 24, 24, max_count=3), config, programs)


@pytest.mark.parametrize(("objects", "slots"), [(0, 3), (1, 3), (6, 8)])
def test_whole_frames_have_slots_for_what_is_in_them(
    objects: int, slots: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    pytest.importorskip("scipy", reason="needs SciPy: pip install 'whatwhere[metrics]'")
    video = np.zeros((20, 40, 64), np.uint8)
    for k in range(objects):
        video[:, 10:20, 4 + 10 * k : 10 + 10 * k] = 200
    np.savez(tmp_path / "clip.npz", video=video)
    given = TrackConfig(Path("checkpoint.pt"), tmp_path / "clip.npz")
    config, programs = programs_for(given, CONFIG, programs_of(CONFIG))
    assert config.network.max_count == programs.guide.discovery.max_count == slots
    assert f"slots:     {slots} (at most {objects} objects at once" in capsys.readouterr().out


def cameras(tmp_path: Path, **changes) -> tuple[SQAIRConfig, TrackConfig]:
    """A model of a camera whose horizon is at -1.5, and a video of one whose horizon is at -4 / 3."""
    video = np.zeros((240, 160, 160), np.uint8)
    for t, frame in enumerate(video):
        row, column = 80 + 50 * np.sin(t / 9), 80 + 60 * np.sin(t / 31)
        high = 20 + 15 * (row / 80 - 1)
        top, left = round(row - high / 2), round(column - high / 4)
        frame[top : top + round(high), left : left + round(high / 2)] = 200
    np.savez(tmp_path / "plane.npz", video=video)
    config = replace(CONFIG, network=replace(NETWORK, perspective=(-1.5, -1.4)))
    return config, TrackConfig(Path("checkpoint.pt"), tmp_path / "plane.npz", **changes)


def test_the_perspective_of_another_camera_is_noticed(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    pytest.importorskip("scipy", reason="needs SciPy: pip install 'whatwhere[metrics]'")
    config, options = cameras(tmp_path)
    kept, _ = programs_for(options, config, programs_of(config))
    assert kept.network.perspective == (-1.5, -1.4)
    assert f"warning: in {options.video} sizes of objects depend on" in capsys.readouterr().out
    own = replace(config, data=replace(config.data, source=str(options.video)))
    programs_for(options, own, programs_of(own))
    assert "warning" not in capsys.readouterr().out


def test_the_perspective_may_be_that_of_the_video_or_none(tmp_path: Path):
    pytest.importorskip("scipy", reason="needs SciPy: pip install 'whatwhere[metrics]'")
    config, options = cameras(tmp_path, perspective="video")
    config = replace(config, network=replace(config.network, size_limits=(0.7, 1.3)))
    found, programs = programs_for(options, config, programs_of(config))
    assert found.network.perspective is not None
    horizon, row = found.network.perspective
    assert horizon == pytest.approx(-4 / 3, rel=0.1)
    assert 20 + 15 * row == pytest.approx(8 / 1.1, abs=0.6)
    assert programs.model.decoder.windows.horizon == horizon
    plain, _ = programs_for(replace(options, perspective="none"), config, programs)
    assert plain.network.perspective is None
    # Where sizes mean nothing, what is far away may be small.
    assert found.network.size_limits == (0.7, 1.3)
    assert plain.network.size_limits == (0.1, 1.3)
    with pytest.raises(UsageError, match="`perspective` is for models whose"):
        programs_for(replace(options, resize=True), config, programs)
