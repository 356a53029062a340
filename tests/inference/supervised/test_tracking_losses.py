"""HART's losses against numbers worked out by hand, and its objective against loops."""

import math
from typing import ClassVar, NamedTuple

import pytest
import torch
from pyro import poutine
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from whatwhere.inference.supervised import (
    GeneralizedOverlapLoss,
    HARTObjective,
    LocalisationLoss,
    MaskLoss,
    OverlapLoss,
    PixelLoss,
    SupervisedObjective,
    WindowLoss,
)
from whatwhere.inference.supervised.objective import Truth
from whatwhere.inference.supervised.tracking_losses import (
    AdaptiveWeights,
    FixedWeights,
    coverage,
    hart_losses,
    negative_log,
    time_means,
)
from whatwhere.inference.training import Trainer, TrainingConfig, rms_clip_norm
from whatwhere.inference.training.optimizers import RMSPropTF
from whatwhere.models import HART, hart, small_hart

SIZE = (40, 50)
TARGET = (0.0, 0.0, 10.0, 10.0)


class Told(NamedTuple):
    boxes: Tensor
    attention: Tensor
    glimpses: Tensor
    mask_logits: Tensor | None = None
    filters: Tensor | None = None


def told(box: Tensor, logits: Tensor | None = None) -> Told:
    return Told(box, box, torch.zeros(*box.shape[:2], 1, 2, 2), logits)


def frame(*box: float) -> Tensor:
    return torch.tensor([[box]], dtype=torch.float64, requires_grad=True)


def truth(*box: float, size: tuple[int, int] = SIZE) -> Truth:
    return Truth(torch.tensor([[box]], dtype=torch.float64), size)


@pytest.mark.parametrize(
    ("box", "loss", "gradient"),
    [
        ((5.0, 0.0, 10.0, 10.0), math.log(3), (4 / 15, 0.0, 1 / 15, None)),
        ((9.0, 0.0, 10.0, 10.0), math.log(19), (20 / 19, 0.0, None, None)),
        ((2.0, 2.0, 6.0, 6.0), -math.log(0.36), (0.0, 0.0, -1 / 6, -1 / 6)),
        ((-5.0, -5.0, 20.0, 20.0), math.log(4), (0.0, 0.0, 0.05, 0.05)),
        ((30.0, 0.0, 10.0, 10.0), 18.420681, (0.0, 0.0, 0.0, 0.0)),
        ((10.0, 0.0, 10.0, 10.0), 18.420681, (0.0, 0.0, 0.0, 0.0)),
    ],
)
def test_overlap_loss_and_its_gradient(box, loss: float, gradient):
    predicted = frame(*box)
    value = OverlapLoss()(told(predicted), truth(*TARGET))
    assert value.shape == (1, 1)
    assert value.item() == pytest.approx(loss, rel=1e-6)
    value.sum().backward()
    for got, expected in zip(predicted.grad.flatten().tolist(), gradient, strict=True):
        if expected is not None:
            assert got == pytest.approx(expected, abs=1e-12)


def test_the_gradient_of_a_sliver_is_the_reciprocal_of_its_width_unless_a_floor_limits_it():
    predicted = frame(9.999, 0.0, 10.0, 10.0)
    OverlapLoss()(told(predicted), truth(*TARGET)).sum().backward()
    assert predicted.grad[0, 0, 0].item() == pytest.approx(1000, rel=1e-3)
    limited = frame(9.999, 0.0, 10.0, 10.0)
    value = OverlapLoss(floor=1e-3)(told(limited), truth(*TARGET))
    value.sum().backward()
    assert value.item() == pytest.approx(math.log(1e3))
    assert not limited.grad.any()


@pytest.mark.parametrize("loss", [OverlapLoss(), GeneralizedOverlapLoss(), WindowLoss()])
@pytest.mark.parametrize(
    "box",
    [
        (0.0, 0.0, 0.0, 0.0),
        (-1e4, 3.0, 1.0, 1.0),
        (1e6, 1e6, 1e5, 1e5),
        (0.0, 0.0, 10.0, 10.0),
        (0.0, 0.0, 50.0, 40.0),
        (10.0, 10.0, 5.0, 5.0),
    ],
)
@pytest.mark.parametrize("target", [TARGET, (0.0, 0.0, 0.0, 0.0)])
def test_losses_and_gradients_of_lost_objects_are_finite(loss: nn.Module, box, target):
    predicted = torch.tensor([[box]], requires_grad=True)
    value = loss(told(predicted), Truth(torch.tensor([[target]]), SIZE))
    value.sum().backward()
    assert value.isfinite().all()
    assert predicted.grad.isfinite().all()


def test_generalised_overlap_loss_leads_back():
    predicted = frame(30.0, 0.0, 10.0, 10.0)
    value = GeneralizedOverlapLoss()(told(predicted), truth(*TARGET))
    value.sum().backward()
    assert value.item() == pytest.approx(1.5)
    assert predicted.grad[0, 0, 0] > 0


@pytest.mark.parametrize(
    ("ratio", "floor", "loss", "gradient"),
    [
        (0.1, 1e-8, 0.105361, 1 / 0.9),
        (0.5, 1e-8, 0.693147, 2.0),
        (2.0, 1e-8, 36.841361, 18.420681),
        (20.0, 1e-8, 184.206807, 0.0),
        (2.0, 1e-3, 2 * math.log(1e3), math.log(1e3)),
        (0.9995, 1e-3, math.log(1e3), 0.0),
        (0.998, 1e-3, math.log(500), 500.0),
    ],
)
def test_the_term_of_the_windows_area(ratio: float, floor: float, loss: float, gradient: float):
    """In a frame of 1 x 100 pixels; the object lies in the window, so that the other term is 0."""
    window = frame(0.0, 0.0, 100 * ratio, 1.0)
    value = WindowLoss(area_floor=floor)(told(window), truth(1.0, 0.0, 2.0, 1.0, size=(1, 100)))
    value.sum().backward()
    assert value.item() == pytest.approx(loss, rel=1e-5)
    assert window.grad[0, 0, 2].item() == pytest.approx(gradient / 100, rel=1e-5)


def test_coverage_is_one_only_for_windows_around_the_object():
    box = torch.tensor([10.0, 10.0, 10.0, 20.0])
    windows = torch.tensor(
        [[10.0, 10.0, 10.0, 20.0], [0, 0, 30, 40], [15, 10, 10, 20], [10, 12, 10, 16], [0, 0, 5, 5]]
    )
    assert coverage(windows, box).tolist() == pytest.approx([1, 1, 0.5, 0.8, 0])
    assert coverage(windows, torch.zeros(4)).tolist() == [0] * 5
    assert WindowLoss().area_floor == 1e-3
    window = frame(12.0, 0.0, 20.0, 40.0)
    (-coverage(window, box).log()).sum().backward()
    # 8 of 10 columns are in it: moving the left border outwards by one adds an eighth of them.
    assert window.grad.flatten().tolist() == pytest.approx([1 / 8, 0, 0, 0])
    cut = frame(5.0, 0.0, 10.0, 40.0)
    (-coverage(cut, box).log()).sum().backward()
    assert cut.grad.flatten().tolist() == pytest.approx([-1 / 5, 0, -1 / 5, 0])


def window_truth(*box: float) -> tuple[Tensor, Truth]:
    """A window of 14 x 28 pixels with a map of 14 x 7 cells."""
    return torch.tensor([[[3.0, -2.0, 14.0, 28.0]]], dtype=torch.float64, requires_grad=True), truth(*box)


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("box", [(3.0, -2.0, 14.0, 14.0), (5.0, 0.0, 2.0, 2.0), (4.0, -1.0, 5.0, 7.0)])
def test_mask_loss_of_nothing_known_is_two_logarithms(box, binary: bool):
    window, true = window_truth(*box)
    logits = torch.zeros(1, 1, 14, 7, dtype=torch.float64)
    assert MaskLoss(binary)(told(window, logits), true).item() == pytest.approx(2 * math.log(2))


@pytest.mark.parametrize("box", [(3.0, -2.0, 14.0, 28.0), (40.0, 0.0, 5.0, 5.0), (0.0, 0.0, 0.0, 0.0)])
def test_mask_loss_of_a_single_class_is_its_mean(box):
    window, true = window_truth(*box)
    logits = torch.randn(1, 1, 14, 7, dtype=torch.float64, requires_grad=True)
    value = MaskLoss()(told(window, logits), true)
    inside = box[2] == 14.0
    entropy = -(logits if inside else -logits).sigmoid().log()
    assert value.item() == pytest.approx(entropy.mean().item())
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("binary", [False, True])
def test_mask_loss_is_written_out(binary: bool):
    window, true = window_truth(4.0, -1.0, 5.0, 7.0)  # columns 1 to 6 of 14, rows 1 to 8 of 28
    logits = torch.randn(1, 1, 14, 7, dtype=torch.float64, requires_grad=True)
    target = torch.zeros(14, 7, dtype=torch.float64)
    for i in range(14):
        for j in range(7):
            rows = max(0, min(2 * i + 2, 8) - max(2 * i, 1)) / 2
            columns = max(0, min(2 * j + 2, 6) - max(2 * j, 1)) / 2
            target[i, j] = rows * columns
    touched = target > 0
    if binary:
        target = touched.double()
    p = logits[0, 0].sigmoid()
    entropy = -(target * p.log() + (1 - target) * (1 - p).log())
    expected = entropy[touched].mean() + entropy[~touched].mean()
    value = MaskLoss(binary)(told(window, logits), true)
    torch.testing.assert_close(value[0, 0], expected)
    value.sum().backward()
    assert window.grad is None
    assert logits.grad.ne(0).all()


def test_slivers_by_rounding_are_not_covered():
    window = torch.tensor([[[0.1, 0.2, 33.3, 33.3]]])
    logits = torch.zeros(1, 1, 14, 14)
    logits[..., 7] = 50.0  # the first column beside the box, at the common border
    box = torch.tensor([[[0.1, 0.2, 33.3 / 2 + 1e-6, 33.3]]])
    value = MaskLoss()(told(window, logits), Truth(box, SIZE))
    assert value.item() == pytest.approx(math.log(2) + (6 * math.log(2) + 50) / 7, rel=1e-4)
    with pytest.raises(ValueError, match="`MaskLoss` needs `mask_logits`"):
        MaskLoss()(told(window), Truth(box, SIZE))


def test_a_share_is_bounded_below():
    share = torch.tensor([1.0, 0.5, 1e-9, 0.0], requires_grad=True)
    value = negative_log(share)
    torch.testing.assert_close(value, torch.tensor([0.0, math.log(2), 18.4207, 18.4207]))
    value.sum().backward()
    assert share.grad.tolist() == [-1.0, -2.0, 0.0, 0.0]


def test_time_steps_weigh_the_same_however_few_videos_there_are():
    values = torch.tensor([[1.0, 2.0, 30.0, 9.0], [3.0, 50.0, 70.0, 9.0], [5.0, 4.0, 80.0, 9.0]])
    present = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 0, 0]]).bool()
    assert time_means(values, present).item() == pytest.approx((3 + 3 + 30) / 3)
    order = torch.tensor([2, 0, 1])
    assert time_means(values[order], present[order]).item() == pytest.approx(12)
    longer = torch.cat([values, torch.full((3, 2), float("nan"))], dim=1)
    assert time_means(longer, torch.cat([present, torch.zeros(3, 2).bool()], dim=1)).item() == pytest.approx(
        12
    )
    nothing = values.clone().requires_grad_()
    total = time_means(nothing, torch.zeros_like(present))
    total.backward()
    assert total == 0
    assert not nothing.grad.any()


def test_adaptive_weights_become_the_reciprocals_of_their_losses():
    losses = torch.tensor([0.2, 1.0, 30.0])
    weighting = AdaptiveWeights(3)
    assert weighting.weights().tolist() == [1, 1, 1]
    assert weighting(losses).item() == pytest.approx(31.2)
    optimizer = torch.optim.SGD(weighting.parameters(), lr=0.3)
    for _ in range(100):
        optimizer.zero_grad()
        weighting(losses).backward()
        optimizer.step()
    torch.testing.assert_close(weighting.weights(), 1 / losses, rtol=1e-3, atol=0)
    assert weighting(losses).item() == pytest.approx((1 + losses.log()).sum().item(), rel=1e-5)


@pytest.mark.parametrize(("loss", "limit"), [(0.0, 1e3), (1e9, 1e-3)])
def test_adaptive_weights_stop_at_their_limits_and_come_back(loss: float, limit: float):
    weighting = AdaptiveWeights(1)
    optimizer = torch.optim.SGD(weighting.parameters(), lr=0.5 if loss == 0 else 1e-8)
    for _ in range(40):
        optimizer.zero_grad()
        weighting(torch.tensor([loss])).backward()
        optimizer.step()
    assert weighting.weights().item() == pytest.approx(limit)
    stopped = weighting.log_weights.item()
    assert abs(stopped) < math.log(1e3) + 11  # one step beyond at most
    optimizer = torch.optim.SGD(weighting.parameters(), lr=0.5)
    for _ in range(100):
        optimizer.zero_grad()
        weighting(torch.tensor([1.0])).clamp(max=1e9).backward()
        torch.nn.utils.clip_grad_norm_(weighting.parameters(), 1.0)
        optimizer.step()
    assert weighting.weights().item() == pytest.approx(1.0, rel=1e-3)


def test_fixed_weights_multiply():
    assert FixedWeights(2.0, 0.5)(torch.tensor([3.0, 4.0])).item() == 8.0
    assert FixedWeights(2.0, 0.5).weights().tolist() == [2.0, 0.5]


class Tracker(nn.Module):
    """Predicts what it is told."""

    image_size = SIZE
    decayed = ("weight",)

    def __init__(self, length: int = 4) -> None:
        super().__init__()
        shape = (3, length)
        self.boxes = nn.Parameter(10 * torch.rand(*shape, 4) + 5)
        self.attention = nn.Parameter(10 * torch.rand(*shape, 4) + 5)
        self.logits = nn.Parameter(torch.randn(*shape, 3, 3))
        self.filters = nn.Parameter(torch.randn(*shape, 5))
        self.weight = nn.Parameter(torch.tensor([[1.0, -2.0], [0.0, 3.0]]))
        self.first: Tensor | None = None

    def forward(self, video: Tensor, first_box: Tensor) -> Told:
        self.first = first_box
        return Told(self.boxes, self.attention, torch.zeros(1), self.logits, self.filters)


def annotated(length: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 1, 0]])[:, :length]
    return torch.zeros(3, length, 1, *SIZE), 10 * torch.rand(3, length, 4) + 5, mask


def test_the_objective_is_the_weighted_sum_of_the_papers_losses():
    model, (video, boxes, mask) = Tracker(), annotated()
    objective = HARTObjective(model)
    with torch.no_grad():
        objective.weighting.log_weights.copy_(torch.tensor([0.5, -1.0, 0.2]))
    loss, diagnostics = objective(video, boxes, mask=mask)
    assert torch.equal(model.first, boxes[:, 0])
    tracks, true = model(video, boxes), Truth(boxes, SIZE)
    by_hand = {}
    for name, module in (("tracking", OverlapLoss()), ("window", WindowLoss())):
        each = module(tracks, true)
        # Frame 1: videos 0 and 1; frame 2: 0 and 2; frame 3: 0 alone; frame 0 does not count.
        steps = [(each[0, 1] + each[1, 1]) / 2, (each[0, 2] + each[2, 2]) / 2, each[0, 3]]
        by_hand[name] = sum(steps) / 3
    each = MaskLoss()(tracks, true)
    by_hand["mask"] = (each[0].sum() + each[1, :2].sum() + each[2, 0] + each[2, 2]) / 8
    for name, value in by_hand.items():
        torch.testing.assert_close(getattr(diagnostics, name), value.detach())
    squares = model.filters.square().sum(-1)
    filters = (squares[0].sum() + squares[1, :2].sum() + squares[2, 0] + squares[2, 2]) / 8
    decay = 1e-4 * (14 / 2 + filters / 2)
    torch.testing.assert_close(diagnostics.decay, decay.detach())
    weights = [math.exp(0.5), math.exp(-1.0), math.exp(0.2)]
    expected = sum(w * v for w, v in zip(weights, by_hand.values(), strict=True)) - (0.5 - 1.0 + 0.2) + decay
    torch.testing.assert_close(loss, expected)
    got = [diagnostics.tracking_weight, diagnostics.window_weight, diagnostics.mask_weight]
    torch.testing.assert_close(torch.stack(got), torch.tensor(weights))
    assert not any(value.requires_grad for value in diagnostics)


def test_overlap_and_coverage_are_reported_without_the_first_frame():
    model, (video, boxes, mask) = Tracker(), annotated()
    with torch.no_grad():
        model.boxes.copy_(boxes)
        model.attention.copy_(boxes)
        model.boxes[:, 0] = 1.0
        model.boxes[0, 1, 2] /= 2  # half as wide
        model.boxes[0, 3, 2] /= 4
        model.attention[0, 1, 3] /= 2
        model.attention[:, 0] = 1.0
    _, diagnostics = HARTObjective(model)(video, boxes, mask=mask)
    assert diagnostics._fields[:3] == ("iou", "last_iou", "coverage")
    assert diagnostics.iou.item() == pytest.approx((0.75 + 1 + 0.25) / 3)
    assert diagnostics.last_iou.item() == pytest.approx((0.25 + 1 + 1) / 3)
    assert diagnostics.coverage.item() == pytest.approx((0.75 + 1 + 1) / 3)


@pytest.mark.parametrize("absent", [0.0, float("nan"), float("inf")])
def test_frames_without_the_object_change_nothing(absent: float):
    model, (video, boxes, mask) = Tracker(), annotated()
    objective = HARTObjective(model)
    loss, diagnostics = objective(video, boxes, mask=mask)
    loss.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
    for name in ("boxes", "attention", "logits", "filters"):
        assert gradients[name].isfinite().all()
        assert not gradients[name][mask == 0].any()
    assert not gradients["boxes"][:, 0].any()
    assert not gradients["attention"][:, 0].any()
    assert gradients["logits"][:, 0].any()
    objective.zero_grad()
    changed = torch.where(mask.unsqueeze(-1) != 0, boxes, absent)
    again, other = objective(video, changed, mask=mask)
    again.backward()
    assert torch.equal(again, loss)
    assert all(torch.equal(a, b) for a, b in zip(diagnostics, other, strict=True))
    assert all(torch.equal(p.grad, gradients[name]) for name, p in model.named_parameters())


def test_weights_may_be_fixed_and_losses_of_any_kind():
    model, (video, boxes, mask) = Tracker(), annotated()
    losses = {"overlap": GeneralizedOverlapLoss(), "where": LocalisationLoss()}
    objective = HARTObjective(model, losses, {"where": 3.0}, decay=0.0)
    assert not list(objective.weighting.parameters())
    loss, diagnostics = objective(video, boxes, mask=mask)
    torch.testing.assert_close(loss.detach(), diagnostics.overlap + 3 * diagnostics.where)
    assert diagnostics._fields[3:] == ("overlap", "where", "overlap_weight", "where_weight", "decay")


def test_the_variants_of_the_paper_have_their_losses():
    assert list(hart_losses("spatial")) == ["tracking"]
    assert list(hart_losses("appearance")) == ["tracking", "window"]
    assert list(hart_losses()) == ["tracking", "window", "mask"]
    with pytest.raises(ValueError, match="spatial, appearance, full, got 'none'"):
        hart_losses("none")  # type: ignore[arg-type]


def test_impossible_objectives_and_arguments_are_refused():
    model, (video, boxes, mask) = Tracker(), annotated()
    with pytest.raises(ValueError, match="`losses` must be at least one"):
        HARTObjective(model, {})
    with pytest.raises(ValueError, match=r"not named .* but got \['iou'\]"):
        HARTObjective(model, {"iou": OverlapLoss()})
    with pytest.raises(ValueError, match=r"`weights` must be those of \['tracking'\], but got \['mask'\]"):
        HARTObjective(model, hart_losses("spatial"), {"mask": 1.0})
    for wrong in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="`weights` must not be negative"):
            HARTObjective(model, weights={"mask": wrong})
        with pytest.raises(ValueError, match="`decay` must not be negative"):
            HARTObjective(model, decay=wrong)
    objective = HARTObjective(model)
    for nothing in (slice(0), (slice(None), slice(0))):
        with pytest.raises(ValueError, match=r"`video` must have shape .*, at least 1 each, but got"):
            objective(video[nothing], boxes[nothing])
    with pytest.raises(ValueError, match=r"`boxes` must have shape \(3, 4, 4\), but got \(3, 4\)"):
        objective(video, boxes[:, 0])
    with pytest.raises(ValueError, match=r"`mask` must have shape \(3, 4\), but got \(3, 3\)"):
        objective(video, boxes, mask=mask[:, :3])


@pytest.mark.parametrize("floor", [0.0, 1.0, -1e-8, math.nan])
def test_floors_are_shares(floor: float):
    for make in (OverlapLoss, WindowLoss, lambda floor: WindowLoss(area_floor=floor)):
        with pytest.raises(ValueError, match=r"floor` must be in \(0, 1\)"):
            make(floor)
    with pytest.raises(ValueError, match="`count` must be at least 1, got 0"):
        AdaptiveWeights(0)


def test_constant_weights_may_be_whole_numbers():
    assert FixedWeights(2, 3)(torch.tensor([0.5, 1.0])).item() == 4


def tiny_hart(appearance: bool = True) -> HART:
    return small_hart((3, *SIZE), (12, 12), appearance, hidden_size=16, margin=0.05)


def squares(seed: int = 0) -> tuple[Tensor, Tensor]:
    """A bright square of 12 x 12 pixels that moves by two pixels a frame."""
    generator = torch.Generator().manual_seed(seed)
    video = torch.randint(100, (6, 6, 3, *SIZE), generator=generator, dtype=torch.uint8)
    boxes = torch.zeros(6, 6, 4)
    for b in range(6):
        for t in range(6):
            left, top = 3 + 4 * b + 2 * t * (1 if b % 2 else 0), 4 + 2 * t
            video[b, t, :, top : top + 12, left : left + 12] = 220
            boxes[b, t] = torch.tensor([left, top, 12, 12])
    return video, boxes


@pytest.mark.parametrize("variant", ["spatial", "appearance", "full"])
def test_each_variant_reaches_every_part(variant):
    model = tiny_hart(variant != "spatial")
    objective = HARTObjective(model, hart_losses(variant))
    loss, _ = objective(*squares())
    loss.backward()
    for name, parameter in objective.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def gradients_of(losses: dict) -> dict[str, bool]:
    """Which parts of the model a loss alone reaches."""
    model = tiny_hart()
    loss, _ = HARTObjective(model, losses, weights={}, decay=0.0)(*squares())
    loss.backward()
    parts: dict[str, bool] = {}
    for name, parameter in model.named_parameters():
        part = name.split(".")[1]
        parts[part] = parts.get(part, False) or (parameter.grad is not None and bool(parameter.grad.any()))
    return parts


def test_which_loss_reaches_which_part():
    tracking = gradients_of({"tracking": OverlapLoss()})
    assert all(tracking.values())
    window = gradients_of({"window": WindowLoss()})
    assert window.pop("box_head") is False
    assert all(window.values())  # the margin of the windows among them
    mask = gradients_of({"mask": MaskLoss()})
    assert mask.pop("box_head") is False
    assert all(mask.values())


def test_the_spatial_variant_knows_nothing_of_masks():
    model = tiny_hart(appearance=False)
    _, diagnostics = HARTObjective(model, hart_losses("spatial"))(*squares())
    assert diagnostics._fields == ("iou", "last_iou", "coverage", "tracking", "tracking_weight", "decay")
    with pytest.raises(ValueError, match="`MaskLoss` needs `mask_logits`"):
        HARTObjective(model)(*squares())


@pytest.mark.parametrize("absent", [0.0, float("nan")])
def test_a_target_that_leaves_the_frame_leaves_everything_finite(absent: float):
    """It moves out, is absent, and comes back; in one video it never does."""
    model = tiny_hart()
    video, boxes = squares()
    boxes[..., 0] += 20.0 * torch.arange(6)
    mask = torch.ones(6, 6, dtype=torch.bool)
    mask[:, 3] = False
    mask[5, 1:] = False
    boxes[~mask] = absent
    objective = HARTObjective(model, {**hart_losses(), "back": GeneralizedOverlapLoss()})
    loss, diagnostics = objective(video, boxes, mask=mask)
    loss.backward()
    assert all(value.isfinite() for value in diagnostics)
    for name, parameter in objective.named_parameters():
        assert parameter.grad.isfinite().all(), name


def test_hart_is_a_tracker_for_other_objectives_too():
    model = tiny_hart()
    objective = SupervisedObjective(model, {"where": LocalisationLoss(), "pixel": PixelLoss()})
    loss, diagnostics = objective(*squares())
    loss.backward()
    assert diagnostics.pixel > 0
    assert model.cell.box_head[0].weight.grad.any()


def test_no_parameter_is_a_statement():
    model = tiny_hart()
    trace = poutine.trace(HARTObjective(model)).get_trace(*squares())
    assert all(site["type"] != "param" for site in trace.nodes.values())
    assert {"attention/5", "glimpse/5", "mask/5", "box/5"} <= set(trace.nodes)


class Reads(TorchDispatchMode):
    """Counts what would make a program wait for its accelerator."""

    WAITING: ClassVar = {torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default}

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function in self.WAITING
        return function(*args, **(kwargs or {}))


def test_a_step_reads_nothing_from_the_device(monkeypatch):
    video, boxes = squares()
    mask = torch.ones(6, 6)
    # On the CPU, and only there, a training step looks at the boxes it is given.
    monkeypatch.setattr(hart, "require_first_boxes", lambda *args: None)
    objective = HARTObjective(tiny_hart(), {**hart_losses(), "back": GeneralizedOverlapLoss()})
    with Reads() as reads:
        loss, _ = objective(video, boxes, mask=mask)
        loss.backward()
    assert reads.count == 0
    with Reads() as reads:
        bool(mask.sum() > 0)
    assert reads.count == 1


def test_the_trainer_drives_it_and_learns(tmp_path):
    objective = HARTObjective(tiny_hart())
    data = squares()
    before = objective.eval()(*data)[1]
    objective.train()
    optimizer = torch.optim.Adam(objective.parameters(), lr=3e-3)
    config = TrainingConfig(steps=60, log_every=20, clip_norm=5.0, progress=False)
    trainer = Trainer(objective, optimizer, lambda step: data, config, folder=tmp_path)
    assert trainer.run().reason == "completed"
    after = objective.eval()(*data)[1]
    assert after.tracking < 0.7 * before.tracking
    assert after.iou > before.iou + 0.1
    other = HARTObjective(tiny_hart())
    again = Trainer(
        other, torch.optim.Adam(other.parameters(), lr=3e-3), lambda step: data, config, folder=tmp_path
    )
    assert again.resume() == 60
    assert torch.equal(other.eval()(*data)[0], objective(*data)[0])


def test_it_trains_with_the_papers_optimiser(tmp_path):
    objective = HARTObjective(tiny_hart())
    data = squares()
    before = objective.eval()(*data)[1].tracking
    objective.train()
    config = TrainingConfig(
        steps=40, log_every=20, clip_norm=rms_clip_norm(objective.parameters()), progress=False
    )
    trainer = Trainer(
        objective, RMSPropTF(objective.parameters(), lr=3e-4), lambda step: data, config, folder=tmp_path
    )
    assert trainer.run().reason == "completed"
    assert objective.eval()(*data)[1].tracking < before
