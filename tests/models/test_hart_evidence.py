"""HART with evidence of the first glimpse and bounded sizes: what holds by construction, before training."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from whatwhere.models import HART, small_hart
from whatwhere.models.components.bounded_sizes import BoundedSizes
from whatwhere.models.components.boxes import iou
from whatwhere.models.components.camera_motion import CameraMotion
from whatwhere.models.components.glimpse_evidence import GlimpseEvidence

SIZE = (72, 88)


def hart(**options: Any) -> HART:
    chosen: dict[str, Any] = {"units": "window", "bounded": True, "detached": True, **options}
    return small_hart((3, *SIZE), (12, 12), hidden_size=8, **chosen).eval()


def clip(boxes: Tensor) -> Tensor:
    """A smooth thing in whole-pixel boxes `(T, 4)` over a smooth ground, `(1, T, 3, *SIZE)`."""
    generator = torch.Generator().manual_seed(0)
    ground, thing = (torch.rand(1, 3, n, n, generator=generator) for n in (20, 6))
    frames = []
    for left, top, width, height in boxes.int().tolist():
        frame = F.interpolate(ground, size=SIZE, mode="bicubic", align_corners=False).clamp(0, 1)
        shown = F.interpolate(thing, size=(height, width), mode="bicubic", align_corners=False)
        frame[:, :, top : top + height, left : left + width] = shown.clamp(0, 1)
        frames.append(frame)
    return torch.stack(frames, dim=1)


PATH = torch.stack([torch.tensor([8.0 + 4 * t, 40 - 2 * t, 20, 18]) for t in range(8)])


@pytest.mark.parametrize("sizes", [None, BoundedSizes()])
def test_it_follows_an_object_before_it_has_learned_anything(sizes: BoundedSizes | None):
    with torch.no_grad():
        tracks = hart(evidence=GlimpseEvidence(), sizes=sizes)(clip(PATH), PATH[None, 0])
        blind = hart()(clip(PATH), PATH[None, 0])
    assert (iou(tracks.boxes[0], PATH) > 0.75).all()
    assert iou(blind.boxes[0], PATH)[-1] < 0.1
    assert (tracks.scores > 0.6).all()
    assert not tracks.lost.any()
    assert blind.scores is None
    assert blind.lost is None


def test_sizes_follow_the_object_and_stay_within_their_bound():
    side = (16 * 1.03 ** torch.arange(20.0)).round()
    boxes = torch.stack([44 - (side / 2).floor(), 36 - (side / 2).floor(), side, side], dim=-1)
    with torch.no_grad():
        grown = hart(evidence=GlimpseEvidence(), sizes=BoundedSizes(step=0.04))(clip(boxes), boxes[None, 0])
        assert grown.boxes[0, -1, 2] > 1.3 * side[0]
        model = hart(sizes=BoundedSizes(step=0.02, leak=0.1, stretch=0.1))
        nn.init.constant_(model.cell.attention_head[-1].bias, 5.0)  # as large a step as can be
        wild = model(clip(boxes.repeat(3, 1)), boxes[None, 0]).attention[0, :, 2:]
    limit = side[0] * (1 + model.cell.margin()[2:]) * torch.tensor(0.2).exp()
    assert (wild <= limit + 1e-3).all()
    assert (wild[-1] > 0.95 * limit).all()


def test_an_object_that_vanishes_is_lost_and_its_box_rests():
    away = torch.full((1, 4, 3, *SIZE), 0.5)
    video = torch.cat([clip(PATH[:3]), away], dim=1)
    with torch.no_grad():
        tracks = hart(evidence=GlimpseEvidence(), sizes=BoundedSizes())(video, PATH[None, 0])
    assert tracks.lost[0].tolist() == [False] * 5 + [True] * 2
    assert (tracks.scores[0, 3:] < 0.2).all()
    torch.testing.assert_close(tracks.boxes[0, 6], tracks.boxes[0, 2], atol=2.0, rtol=0)


JERKS = torch.tensor([[0, 0], [0, 0], [-16, 9], [-16, 9], [4, -9], [4, -9]])


def shaken() -> tuple[Tensor, Tensor]:
    """A small thing that stands still before a camera that jerks, and its boxes."""
    boxes = torch.tensor([40.0, 30.0, 10.0, 10.0]).repeat(len(JERKS), 1)
    still = F.pad(clip(boxes[:1])[0], (20, 20, 20, 20), mode="reflect")
    height, width = SIZE
    frames = [still[..., 20 - y : 20 - y + height, 20 - x : 20 - x + width] for x, y in JERKS.tolist()]
    return torch.stack(frames, dim=1), boxes + F.pad(JERKS, (0, 2))


@pytest.mark.parametrize("evidence", [GlimpseEvidence(), None])
def test_windows_go_with_the_camera(evidence: GlimpseEvidence | None):
    """The jerks are further than the evidence of things as small reaches."""
    video, boxes = shaken()
    with torch.no_grad():
        followed = hart(camera=CameraMotion(), evidence=evidence)(video, boxes[None, 0])
        blind = hart(evidence=evidence)(video, boxes[None, 0])
    assert (iou(followed.boxes[0], boxes) > 0.6).all()
    assert iou(blind.boxes[0], boxes)[2] < 0.1


def test_parts_of_a_video_are_tracked_as_the_whole():
    video, boxes = shaken()
    model = hart(camera=CameraMotion(), evidence=GlimpseEvidence())
    with torch.no_grad():
        whole = model(video, boxes[None, 0]).boxes
        parts = list(model.follow([video[:, :2], video[:, 2:3], video[:, 3:]], boxes[None, 0]))
    torch.testing.assert_close(torch.cat([part.boxes for part in parts], dim=1), whole)


def test_frames_may_come_one_by_one_and_the_state_does_not_grow():
    model, video = hart(evidence=GlimpseEvidence(), sizes=BoundedSizes(), camera=CameraMotion()), clip(PATH)
    with torch.no_grad():
        tracks, state = model(video, PATH[None, 0]), model.cell.start(video[:, 0], PATH[None, 0])
        for t in range(len(PATH)):
            state, frame = model.cell(video[:, t], state)
            boxes = model.cell.boxes(frame.attention, frame.evidence) if t else PATH[None, 0]
            torch.testing.assert_close(boxes, tracks.boxes[:, t])
            torch.testing.assert_close(frame.score, tracks.scores[:, t])
    numbers = sum(x.numel() for x in _tensors(state))
    assert numbers == sum(x.numel() for x in _tensors(model.cell.start(video[:, 0], PATH[None, 0])))


def test_gradients_reach_all_that_is_learned():
    model = hart(evidence=GlimpseEvidence(), sizes=BoundedSizes()).train()
    tracks = model(clip(PATH), PATH[None, 0])
    (tracks.boxes.sum() + tracks.mask_logits.square().sum()).backward()
    still = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    assert not still
    assert model.cell.attention_head[-1].weight.grad.abs().sum() > 0


def test_evidence_is_separable_from_appearance_attention():
    with torch.no_grad():
        tracks = hart(evidence=GlimpseEvidence(), appearance=False)(clip(PATH), PATH[None, 0])
    assert tracks.masks is None
    assert (iou(tracks.boxes[0], PATH) > 0.75).all()


def test_sizes_are_in_units_of_windows():
    with pytest.raises(ValueError, match="`sizes` are for `units` \"window\", got 'frame'"):
        hart(units="frame", sizes=BoundedSizes())


def _tensors(state: Any) -> list[Tensor]:
    if isinstance(state, tuple):
        return [tensor for part in state for tensor in _tensors(part)]
    return [state] if isinstance(state, Tensor) else []
