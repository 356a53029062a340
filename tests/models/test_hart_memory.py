"""A video of any length is followed in the memory of a short one."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from whatwhere.models import small_hart
from whatwhere.models.components.bounded_sizes import BoundedSizes
from whatwhere.models.components.glimpse_evidence import GlimpseEvidence

STATUS = Path("/proc/self/status")
PART = 100
FRAMES = 20_000
WARM = 2_000
"""Frames after which allocators have what they need."""


def resident() -> int:
    """Bytes of memory that the process holds."""
    fields = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
    return 1024 * int(fields["VmRSS"].split()[0])


@pytest.mark.slow
@pytest.mark.skipif(not STATUS.exists(), reason="needs /proc to see how much memory is held")
def test_20_000_frames_take_no_more_memory_than_2_000():
    """A state that grew by a single 1 KB tensor each frame would show: 18 MB."""
    generator = torch.Generator().manual_seed(0)
    ground = torch.randint(0, 256, (3, 64, 80), dtype=torch.uint8, generator=generator)
    thing = torch.randint(0, 256, (3, 16, 16), dtype=torch.uint8, generator=generator)

    def parts() -> Iterator[Tensor]:
        for _ in range(FRAMES // PART):
            video = ground.repeat(1, PART, 1, 1, 1)
            for t in range(PART):
                at = 20 + abs(t - PART // 2) // 3
                video[0, t, :, 20:36, at : at + 16] = thing
            yield video

    model = small_hart(
        (3, 64, 80),
        (12, 12),
        hidden_size=8,
        units="window",
        bounded=True,
        evidence=GlimpseEvidence(),
        sizes=BoundedSizes(),
    ).eval()
    held = []
    with torch.no_grad():
        for tracks in model.follow(parts(), torch.tensor([[36.0, 20.0, 16.0, 16.0]])):
            assert tracks.boxes.isfinite().all()
            held.append(resident())
    assert len(held) * PART == FRAMES
    assert max(held[WARM // PART :]) - held[WARM // PART - 1] < 4_000_000
    assert not tracks.lost.any()
