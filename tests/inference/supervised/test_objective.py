"""RATM's losses against numbers worked out by hand, on a tracker that says what it is told."""

import math
from typing import NamedTuple

import pyro
import pytest
import torch
from pyro import poutine
from pyro.nn import PyroModule
from torch import Tensor, nn

from whatwhere.inference.supervised import (
    ClassificationLoss,
    ClassifierObjective,
    FeatureLoss,
    LocalisationLoss,
    PixelLoss,
    SupervisedObjective,
    WeightDecay,
)
from whatwhere.inference.supervised.objective import Truth, video_means
from whatwhere.inference.training import Trainer, TrainingConfig
from whatwhere.models.components.feature_extractors import Frozen, PixelFeatures, digit_classifier
from whatwhere.models.components.recurrent import IRNN
from whatwhere.models.ratm import RATM, BoxStart, PaperWindows, ResidualAttention

SIZE = (10, 20)


class Told(NamedTuple):
    boxes: Tensor
    glimpses: Tensor


class Tracker(nn.Module):
    """Predicts its parameter; the true glimpse of a frame is its first four pixels."""

    image_size = SIZE

    def __init__(self, boxes: Tensor, glimpses: Tensor) -> None:
        super().__init__()
        self.boxes, self.glimpses = nn.Parameter(boxes), nn.Parameter(glimpses)
        self.weight = nn.Parameter(torch.tensor([[1.0, -2.0], [0.0, 3.0]]))
        self.other = nn.Parameter(torch.tensor([5.0]))
        self.first: Tensor | None = None

    def forward(self, video: Tensor, first_box: Tensor) -> Told:
        self.first = first_box
        return Told(self.boxes, self.glimpses)

    def read_boxes(self, video: Tensor, boxes: Tensor) -> Tensor:
        return video[..., :2, :2] + boxes[..., :1, None, None]


def tracker(length: int = 3) -> Tracker:
    return Tracker(torch.rand(2, length, 4) + 1, torch.rand(2, length, 1, 2, 2))


class Doubled(nn.Module):
    """The first two pixels, times a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(2.0))

    def forward(self, glimpses: Tensor) -> Tensor:
        return self.weight * glimpses.flatten(-3)[..., :2]


def truth_of(boxes: Tensor, glimpses: Tensor | None = None, labels: Tensor | None = None) -> Truth:
    return Truth(boxes, SIZE, glimpses, labels)


ZERO_BOX = torch.zeros(1, 1, 4)


def test_pixel_loss_of_a_patch_is_the_mean_squared_difference():
    patch = torch.tensor([[0.0, 1.0], [0.5, 0.25]])
    seen = torch.tensor([[0.5, 1.0], [0.5, 0.75]]).expand(1, 1, 1, 2, 2)
    loss = PixelLoss(patch)
    torch.testing.assert_close(loss(Told(ZERO_BOX, seen), truth_of(ZERO_BOX)), torch.tensor([[0.125]]))
    assert not loss.needs_true_glimpses
    assert "patch" in dict(loss.named_buffers())


def test_pixel_loss_without_a_patch_compares_with_the_true_glimpse():
    seen, target = torch.zeros(1, 2, 2, 2, 2), torch.zeros(1, 2, 2, 2, 2)
    target[0, 1, 1] = 3.0
    loss = PixelLoss()
    assert loss.needs_true_glimpses
    assert loss(Told(ZERO_BOX, seen), truth_of(ZERO_BOX, target)).tolist() == [[0.0, 4.5]]
    with pytest.raises(ValueError, match=r"pictures of \(2, 2\) pixels.* but got None"):
        loss(Told(ZERO_BOX, seen), truth_of(ZERO_BOX))
    with pytest.raises(ValueError, match=r"pictures of \(2, 2\) pixels.* but got \(5, 5\)"):
        PixelLoss(torch.ones(5, 5))(Told(ZERO_BOX, seen), truth_of(ZERO_BOX))


def test_pictures_are_of_the_channels_of_the_glimpses():
    patch = torch.tensor([[[0.0]], [[1.0]], [[2.0]]])
    seen = torch.tensor([1.0, 3.0, 2.0]).reshape(1, 1, 3, 1, 1)
    loss = PixelLoss(patch)(Told(ZERO_BOX, seen), truth_of(ZERO_BOX))
    torch.testing.assert_close(loss, torch.tensor([[(1 + 4 + 0) / 3]]))
    grey = PixelLoss(patch[1])(Told(ZERO_BOX, seen[:, :, 0]), truth_of(ZERO_BOX))
    assert grey.tolist() == [[0.0]]
    for wrong in (patch[:1], patch[:2], patch.expand(1, 3, 1, 1), patch[0, 0]):
        with pytest.raises(ValueError, match=r"glimpses of shape \(1, 1, 3, 1, 1\), but got"):
            PixelLoss(wrong)(Told(ZERO_BOX, seen), truth_of(ZERO_BOX))
    with pytest.raises(ValueError, match=r"glimpses of shape \(1, 1, 1, 1, 1\), but got \(3, 1, 1\)"):
        PixelLoss(patch)(Told(ZERO_BOX, seen[:, :, :1]), truth_of(ZERO_BOX))
    with pytest.raises(ValueError, match=r"but got \(1, 1, 1, 1, 1\)"):
        PixelLoss()(Told(ZERO_BOX, seen), truth_of(ZERO_BOX, seen[:, :, :1]))


def test_feature_loss_is_the_mean_over_features_and_holds_the_target_fixed():
    seen = torch.tensor([1.0, 2.0, 3.0, 4.0]).reshape(1, 1, 1, 2, 2)
    target = torch.tensor([0.0, 5.0, 9.0, 9.0]).reshape(1, 1, 1, 2, 2)
    features = Doubled()
    loss = FeatureLoss(features)(Told(ZERO_BOX, seen), truth_of(ZERO_BOX, target))
    assert loss.tolist() == [[(2.0**2 + 6.0**2) / 2]]
    loss.sum().backward()
    # d/dw mean (w s - [2 s'])^2 = mean 2 (w s - 2 s') s, were the target free it would be (s - s') instead.
    assert features.weight.grad.item() == pytest.approx((2 * 2 * 1 + 2 * -6 * 2) / 2)
    with pytest.raises(ValueError, match="`FeatureLoss` needs `glimpses`"):
        FeatureLoss(features)(Told(ZERO_BOX, seen), truth_of(ZERO_BOX))


def test_localisation_loss_is_of_middles_in_units_of_the_frame():
    predicted = torch.tensor([[[2.0, 1.0, 4.0, 2.0], [0.0, 0.0, 20.0, 10.0]]])
    true = torch.tensor([[[3.0, 4.0, 4.0, 4.0], [9.0, 4.0, 2.0, 2.0]]])
    loss = LocalisationLoss()(Told(predicted, ZERO_BOX), truth_of(true))
    # Middles (4, 2) and (5, 6) of 20 x 10 pixels.
    torch.testing.assert_close(loss, torch.tensor([[(1 / 20) ** 2 + (4 / 10) ** 2, 0.0]]))


def test_classification_loss_is_the_mean_squared_difference_of_probabilities():
    class Fixed(nn.Module):
        def forward(self, glimpses: Tensor) -> Tensor:
            return torch.tensor([0.5, 0.25, 0.25]).log().expand(*glimpses.shape[:2], 3)

    loss = ClassificationLoss(Fixed())
    value = loss(Told(ZERO_BOX, torch.zeros(2, 1, 1, 2, 2)), truth_of(ZERO_BOX, labels=torch.tensor([0, 2])))
    torch.testing.assert_close(value, torch.tensor([[0.375 / 3], [(0.25 + 0.0625 + 0.5625) / 3]]))
    with pytest.raises(ValueError, match="`ClassificationLoss` needs `labels`"):
        loss(Told(ZERO_BOX, torch.zeros(2, 1, 1, 2, 2)), truth_of(ZERO_BOX))


def distances() -> tuple[Tracker, Tensor]:
    """Widths off by 10, 20, ... so that frames have localisation losses (5/20)^2 (1, 4, 9), (16, 25, 36)."""
    true = torch.tensor([0.0, 0.0, 10.0, 5.0]).expand(2, 3, 4)
    predicted = true.clone()
    predicted[..., 2] += 10.0 * torch.arange(1.0, 7.0).reshape(2, 3)
    return Tracker(predicted, torch.zeros(2, 3, 1, 2, 2)), true


MASK = torch.tensor([[1, 1, 0], [1, 1, 1]])


@pytest.mark.parametrize(
    ("options", "mask", "expected"),
    [
        ({}, None, ((1 + 4 + 9) / 3 + (16 + 25 + 36) / 3) / 2),
        ({}, MASK, ((1 + 4) / 2 + (16 + 25 + 36) / 3) / 2),
        ({"divide_by_length": True}, MASK, ((1 + 4) / 2 + (16 + 25 + 36) / 3) / 2 / 3),
        ({"frames": "last"}, None, (9 + 36) / 2),
        ({"frames": "last"}, MASK, (4 + 36) / 2),
        ({"weights": {"where": 3.0}}, MASK, 3 * ((1 + 4) / 2 + (16 + 25 + 36) / 3) / 2),
    ],
)
def test_frames_are_averaged_then_videos(options: dict, mask: Tensor | None, expected: float):
    model, true = distances()
    objective = SupervisedObjective(model, {"where": LocalisationLoss()}, **options)
    loss, diagnostics = objective(torch.zeros(2, 3, 1, *SIZE), true, mask=mask)
    assert loss.item() == pytest.approx(expected / 16)
    unweighted = loss / (3 if "weights" in options else 1) * (3 if "divide_by_length" in options else 1)
    torch.testing.assert_close(diagnostics.where, unweighted.detach())


def test_overlaps_are_reported_over_all_frames_and_the_last():
    model, true = distances()
    objective = SupervisedObjective(model, {"where": LocalisationLoss()}, frames="last")
    _, diagnostics = objective(torch.zeros(2, 3, 1, *SIZE), true, mask=MASK)
    assert diagnostics._fields == ("iou", "last_iou", "where")
    expected = ((1 / 2 + 1 / 3) / 2 + (1 / 5 + 1 / 6 + 1 / 7) / 3) / 2
    assert diagnostics.iou.item() == pytest.approx(expected)
    assert diagnostics.last_iou.item() == pytest.approx((1 / 3 + 1 / 7) / 2)
    assert not any(value.requires_grad for value in diagnostics)


def test_losses_are_added_with_weights_and_decay():
    model = tracker()
    video, boxes = torch.rand(2, 3, 1, *SIZE), torch.rand(2, 3, 4) + 1
    losses = {"pixel": PixelLoss(), "feature": FeatureLoss(Doubled()), "where": LocalisationLoss()}
    decay = WeightDecay(("weight", "other"), 0.2)
    objective = SupervisedObjective(model, losses, {"pixel": 0.5, "where": 2.0}, decay=decay)
    loss, diagnostics = objective(video, boxes)
    assert diagnostics._fields == ("iou", "last_iou", "pixel", "feature", "where", "decay")
    assert diagnostics.decay.item() == pytest.approx(0.2 * ((1 + 4 + 0 + 9) / 4 + 25))
    expected = 0.5 * diagnostics.pixel + diagnostics.feature + 2 * diagnostics.where + diagnostics.decay
    torch.testing.assert_close(loss, expected)
    target = video[..., :2, :2] + boxes[..., :1, None, None]
    torch.testing.assert_close(diagnostics.pixel, (model.glimpses - target).square().mean().detach())
    assert torch.equal(model.first, boxes[:, 0])


def test_decay_may_add_squares_instead_of_averaging_them():
    decay = WeightDecay(("weight", "other"), 0.5, "sum")
    assert decay(tracker()).item() == pytest.approx(0.5 * (14 + 25))
    with pytest.raises(AttributeError, match="nothing"):
        SupervisedObjective(tracker(), {"where": LocalisationLoss()}, decay=WeightDecay(("nothing",)))
    with pytest.raises(ValueError, match="`reduce` must be one of mean, sum, got 'max'"):
        WeightDecay(("weight",), reduce="max")
    for coefficient in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="`coefficient` must not be negative"):
            WeightDecay(("weight",), coefficient)
    with pytest.raises(ValueError, match="`names` must be of at least one parameter"):
        WeightDecay(())


def test_frames_that_do_not_exist_change_nothing():
    model, true = distances()
    objective = SupervisedObjective(model, {"where": LocalisationLoss(), "pixel": PixelLoss()})
    video = torch.rand(2, 3, 1, *SIZE)
    loss, diagnostics = objective(video, true, mask=MASK)
    loss.backward()
    assert not model.boxes.grad[0, 2].any()
    assert model.boxes.grad[0, 1].any()
    video[0, 2], true = 99.0, true.clone()
    true[0, 2] = 0.0
    again, other = objective(video, true, mask=MASK)
    assert torch.equal(again, loss)
    assert all(torch.equal(a, b) for a, b in zip(diagnostics, other, strict=True))


def test_a_video_without_frames_counts_as_zero():
    values = torch.tensor([[1.0, 3.0], [float("nan"), float("inf")]])
    means = video_means(values, torch.tensor([[True, True], [False, False]]))
    assert means.tolist() == [2.0, 0.0]


def test_impossible_objectives_and_arguments_are_refused():
    model = tracker()
    where = {"where": LocalisationLoss()}
    with pytest.raises(ValueError, match="`losses` must be at least one"):
        SupervisedObjective(model, {})
    for name in ("iou", "loss", "decay"):
        with pytest.raises(ValueError, match=rf"not named .* but got \['{name}'\]"):
            SupervisedObjective(model, {name: LocalisationLoss()})
    with pytest.raises(ValueError, match=r"`weights` must be those of \['where'\], but got \['what'\]"):
        SupervisedObjective(model, where, {"what": 1.0})
    for weight in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=r"`weights\.where` must not be negative"):
            SupervisedObjective(model, where, {"where": weight})
    with pytest.raises(ValueError, match="`frames` must be one of all, last, got 'first'"):
        SupervisedObjective(model, where, frames="first")
    objective, video = SupervisedObjective(model, where), torch.rand(2, 3, 1, *SIZE)
    for nothing in (video[:0], video[:, :0]):
        with pytest.raises(ValueError, match=r"`video` must have shape .*, at least 1 each, but got"):
            objective(nothing, torch.ones(*nothing.shape[:2], 4))
    with pytest.raises(ValueError, match=r"`boxes` must have shape \(2, 3, 4\), but got \(2, 4\)"):
        objective(video, torch.ones(2, 4))
    with pytest.raises(ValueError, match=r"`mask` must have shape \(2, 3\), but got \(2, 2\)"):
        objective(video, torch.ones(2, 3, 4), mask=torch.ones(2, 2))
    with pytest.raises(ValueError, match=r"`labels` must have shape \(2,\), but got \(3,\)"):
        objective(video, torch.ones(2, 3, 4), torch.ones(3, dtype=torch.int64))


def small_ratm() -> RATM:
    pixels = PixelFeatures((1, 5, 5))
    return RATM((1, *SIZE), ResidualAttention(8, PaperWindows((5, 5)), BoxStart()), pixels, IRNN(25, 8, 0.1))


def blob_videos(seed: int = 0) -> tuple[Tensor, Tensor]:
    """A bright square of 4 x 4 pixels that moves by one pixel a frame to the right."""
    video, boxes = torch.zeros(4, 5, 1, *SIZE), torch.zeros(4, 5, 4)
    for b in range(4):
        for t in range(5):
            left, top = 3 + 2 * b + t, 1 + b
            video[b, t, 0, top : top + 4, left : left + 4] = 1.0
            boxes[b, t] = torch.tensor([left, top, 4, 4])
    return video, boxes


def test_localisation_alone_reaches_every_part_of_ratm():
    model = small_ratm()
    loss, _ = SupervisedObjective(model, {"where": LocalisationLoss()})(*blob_videos())
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name


def test_ratms_digit_losses_train_it_and_not_the_classifier():
    windows = PaperWindows((28, 28))
    model = RATM(
        (1, *SIZE), ResidualAttention(8, windows, BoxStart()), PixelFeatures((1, 28, 28)), IRNN(784, 8)
    )
    classifier = digit_classifier()
    losses = {"classification": ClassificationLoss(Frozen(classifier)), "localisation": LocalisationLoss()}
    objective = SupervisedObjective(model, losses).train()
    video, boxes = blob_videos()
    labels = torch.tensor([3, 1, 4, 1])
    loss, diagnostics = objective(video, boxes, labels)
    assert torch.equal(loss, objective(video, boxes, labels)[0])  # nothing is dropped
    loss.backward()
    assert model.attention.from_hidden.weight.grad.any()
    assert all(parameter.grad is None for parameter in classifier.parameters())
    probabilities = classifier(model(video, boxes[:, 0]).glimpses).softmax(-1)
    expected = sum(
        (probabilities[b, t, c] - float(labels[b] == c)) ** 2
        for b in range(4)
        for t in range(5)
        for c in range(10)
    )
    assert diagnostics.classification.item() == pytest.approx(expected.item() / 200, rel=1e-5)


def test_the_trainer_drives_it_and_learns(tmp_path):
    objective = SupervisedObjective(small_ratm(), {"where": LocalisationLoss()})
    data = blob_videos()
    before = objective(*data)[0].item()
    optimizer = torch.optim.Adam(objective.parameters(), lr=3e-3)
    config = TrainingConfig(steps=60, log_every=20, clip_norm=1.0, progress=False)
    trainer = Trainer(objective, optimizer, lambda step: data, config, folder=tmp_path)
    assert trainer.run().reason == "completed"
    assert objective(*data)[0].item() < 0.2 * before
    other = SupervisedObjective(small_ratm(), {"where": LocalisationLoss()})
    again = Trainer(
        other, torch.optim.Adam(other.parameters(), lr=3e-3), lambda step: data, config, folder=tmp_path
    )
    assert again.resume() == 60
    assert torch.equal(other(*data)[0], objective(*data)[0])


def test_two_trackers_side_by_side_share_nothing():
    first, second = small_ratm(), small_ratm()
    data = blob_videos()
    losses = [
        SupervisedObjective(model, {"where": LocalisationLoss()})(*data)[0] for model in (first, second)
    ]
    losses[0].backward()
    assert first.cell.from_input.weight.grad is not None
    assert second.cell.from_input.weight.grad is None
    assert not torch.equal(first.cell.from_input.weight, second.cell.from_input.weight)


class Tangent(PyroModule):
    """A part of a tracker that is a Pyro module itself."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(25, 25))

    def forward(self, glimpses: Tensor) -> Tensor:
        return (glimpses.flatten(1) @ self.weight).tanh()


def test_parameters_are_the_modules_own():
    model = small_ratm()
    objective = SupervisedObjective(model, {"where": LocalisationLoss()})
    trace = poutine.trace(objective).get_trace(*blob_videos())
    assert all(site["type"] != "param" for site in trace.nodes.values())
    assert "box/4" in trace.nodes
    model.features = Tangent()
    objective(*blob_videos())
    assert not list(pyro.get_param_store().keys())


def test_a_classifier_is_trained_by_cross_entropy():
    class Fixed(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]]).log()

    loss, diagnostics = ClassifierObjective(Fixed())(torch.zeros(2, 1, 2, 2), torch.tensor([1, 2]))
    assert loss.item() == pytest.approx(-(math.log(0.25) + math.log(0.7)) / 2)
    assert diagnostics.accuracy.item() == 0.5
