"""RATM with evidence of the first glimpse: what holds by construction, before training."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from whatwhere.models import (
    RATM,
    AbsoluteAttention,
    BoxStart,
    FrameShareStart,
    KTHWindows,
    PaperWindows,
    RATMAttention,
    ResidualAttention,
    WindowRule,
)
from whatwhere.models.components.boxes import iou
from whatwhere.models.components.feature_extractors import PixelFeatures
from whatwhere.models.components.glimpse_evidence import NUMBERS, GlimpseEvidence
from whatwhere.models.components.recurrent import GRU

SIZE = (72, 88)
PATH = torch.stack([torch.tensor([8.0 + 4 * t, 40 - 2 * t, 20, 18]) for t in range(8)])
WINDOWS = [PaperWindows((9, 9)), KTHWindows((9, 9))]


def clip() -> Tensor:
    """A smooth thing in the boxes of `PATH` over a smooth ground, `(1, T, 3, *SIZE)`."""
    generator = torch.Generator().manual_seed(0)
    ground, thing = (torch.rand(1, 3, n, n, generator=generator) for n in (20, 6))
    shown = F.interpolate(thing, size=(18, 20), mode="bicubic", align_corners=False).clamp(0, 1)
    video = F.interpolate(ground, size=SIZE, mode="bicubic", align_corners=False).clamp(0, 1)
    video = video.repeat(len(PATH), 1, 1, 1)
    for frame, (left, top, width, height) in zip(video, PATH.int().tolist(), strict=True):
        frame[:, top : top + height, left : left + width] = shown[0]
    return video[None]


def ratm(windows: WindowRule, evidence: GlimpseEvidence | None) -> RATM:
    features = PixelFeatures((3, 9, 9))
    known = features.size + (NUMBERS if evidence is not None else 0)
    attention = ResidualAttention(6, windows, BoxStart())
    nn.init.zeros_(attention.from_hidden.weight)  # windows stay where they are
    return RATM((3, *SIZE), attention, features, GRU(known, 6), evidence).eval()


@pytest.mark.parametrize("windows", WINDOWS)
def test_it_follows_an_object_before_it_has_learned_anything(windows: WindowRule):
    with torch.no_grad():
        tracks = ratm(windows, GlimpseEvidence())(clip(), PATH[None, 0])
        blind = ratm(windows, None)(clip(), PATH[None, 0])
    assert (iou(tracks.boxes[0], PATH) > 0.6).all()
    assert iou(blind.boxes[0], PATH)[-1] < 0.1
    assert tracks.scores.shape == (1, 8)
    assert not tracks.lost.any()
    assert blind.scores is None
    assert blind.lost is None


@pytest.mark.parametrize("windows", WINDOWS)
def test_windows_are_moved_by_pixels(windows: WindowRule):
    parameters, shift = windows.parameters(PATH, SIZE), torch.tensor([3.5, -2.0])
    before = windows.window(parameters, SIZE)
    after = windows.window(windows.moved(parameters, shift, SIZE), SIZE)
    torch.testing.assert_close(after, before._replace(centre=before.centre + shift))


def test_parts_of_a_video_are_followed_as_the_whole_is():
    model, video = ratm(WINDOWS[0], GlimpseEvidence()), clip()
    with torch.no_grad():
        whole = model(video, PATH[None, 0])
        parts = list(model.follow([video[:, :3], video[:, 3:]], PATH[None, 0]))
    for name in ("boxes", "scores", "lost", "hidden"):
        joined = torch.cat([getattr(part, name) for part in parts], dim=1)
        torch.testing.assert_close(joined, getattr(whole, name))


def test_an_object_that_vanishes_is_lost():
    video = torch.cat([clip()[:, :3], torch.full((1, 4, 3, *SIZE), 0.5)], dim=1)
    with torch.no_grad():
        tracks = ratm(WINDOWS[0], GlimpseEvidence())(video, PATH[None, 0])
    assert tracks.lost[0].tolist() == [False] * 5 + [True] * 2


def test_the_network_is_told_and_learns():
    model = ratm(WINDOWS[0], GlimpseEvidence()).train()
    nn.init.normal_(model.attention.from_hidden.weight, std=1e-3)
    model(clip(), PATH[None, 0]).boxes.sum().backward()
    told = model.cell.from_input.weight.grad[:, -NUMBERS:]
    assert told.abs().sum() > 0
    assert model.attention.from_hidden.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    "attention",
    [
        AbsoluteAttention(6, WINDOWS[0], BoxStart()),
        ResidualAttention(6, WINDOWS[0], FrameShareStart()),
    ],
)
def test_what_forgets_where_windows_were_moved_to_is_refused(attention: RATMAttention):
    features = PixelFeatures((3, 9, 9))
    with pytest.raises(ValueError, match="`evidence` is for `ResidualAttention` with `BoxStart`, got"):
        RATM((3, *SIZE), attention, features, GRU(243 + NUMBERS, 6), GlimpseEvidence())
