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
