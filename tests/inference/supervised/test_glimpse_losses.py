import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from whatwhere.inference.supervised import (
    GlanceObjective,
    GlimpseCloudsObjective,
    ReadingObjective,
    attraction,
    diversity,
    nearest_joints,
    pose_error,
)
from whatwhere.models import small_glimpse_clouds
from whatwhere.models.components import JointLocator


def draw(*shape: int) -> Tensor:
    return torch.rand(*shape, dtype=torch.float64) * 2 - 1


def test_who_is_called_first_does_not_matter_to_the_pose():
    predicted, joints = draw(3, 2, 2, 5, 2), draw(3, 2, 2, 5, 2)
    loss = pose_error(predicted, joints)
    torch.testing.assert_close(pose_error(predicted.flip(2), joints), loss)
    torch.testing.assert_close(pose_error(predicted, joints.flip(2)), loss)
    straight = (predicted - joints).square().mean((-2, -1)).sum(-1)
    crossed = (predicted.flip(2) - joints).square().mean((-2, -1)).sum(-1)
    torch.testing.assert_close(loss, torch.minimum(straight, crossed))
    assert (loss < straight).any()
    assert not pose_error(joints.flip(2), joints).any()


def test_nobody_who_is_not_there_counts():
    predicted, joints = draw(2, 2, 2, 5, 2), draw(2, 2, 2, 5, 2)
    seen = torch.tensor([[[True, False], [False, False]], [[True, True], [False, True]]])
    loss = pose_error(predicted, joints, seen)
    other = torch.where(seen[..., None, None], joints, 77.0)
    torch.testing.assert_close(pose_error(predicted, other, seen), loss)
    assert loss[0, 1] == 0
    best = min(float((predicted[0, 0, p] - joints[0, 0, 0]).square().mean()) for p in range(2))
    assert float(loss[0, 0]) == pytest.approx(best)


def test_attraction_is_by_the_nearest_joint_and_not_by_coordinates_apart():
    joints = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).double().expand(1, 1, 1, 2, 2)
    places = torch.tensor([[[[0.0, 0.0], [1.0, 0.0], [0.5, 0.5]]]]).double()
    squares, there = nearest_joints(places, joints)
    # By coordinates apart, the first would be at 0.
    torch.testing.assert_close(squares, torch.tensor([[[1.0, 0.0, 0.5]]]).double())
    assert there.all()
    torch.testing.assert_close(attraction(places, joints), torch.tensor([[1.5]]).double())


def test_frames_without_anybody_attract_nothing_and_give_no_nan():
    places = draw(1, 2, 3, 2).requires_grad_()
    joints = draw(1, 2, 1, 4, 2)
    seen = torch.tensor([[[True], [False]]])
    loss = attraction(places, joints, seen)
    assert loss[0, 1] == 0
    loss.sum().backward()
    assert places.grad is not None
    assert places.grad.isfinite().all()
    assert not places.grad[0, 1].any()
    assert places.grad[0, 0].any()


@pytest.mark.parametrize("loss", ["pose", "attraction"])
def test_unknown_joints_of_who_is_not_there_give_no_nan(loss: str):
    joints, seen = draw(1, 2, 2, 4, 2), torch.tensor([[[True, False], [False, False]]])
    unknown = torch.where(seen[..., None, None], joints, torch.nan)
    function, given = (pose_error, draw(1, 2, 2, 4, 2)) if loss == "pose" else (attraction, draw(1, 2, 3, 2))
    gradients = []
    for known in (joints, unknown):
        value = given.clone().requires_grad_()
        function(value, known, seen).sum().backward()
        gradients.append(value.grad)
    assert gradients[0] is not None
    assert gradients[0].any()
    torch.testing.assert_close(gradients[1], gradients[0])


def test_diversity_falls_with_distance():
    def of(distance: float) -> float:
        return float(diversity(torch.tensor([[[[0.3, 0.3, 0, 0], [0.3, 0.3, distance, 0]]]]).double()))

    assert of(0.0) == pytest.approx(2, abs=1e-3)
    assert of(1.0) == pytest.approx(1)
    assert of(3.0) == pytest.approx(0.5)
    coords = draw(2, 3, 4, 4)
    expected = sum(
        1 / (1 + (coords[..., g, :] - coords[..., h, :]).norm(dim=-1))
        for g in range(4)
        for h in range(4)
        if g != h
    )
    torch.testing.assert_close(diversity(coords), expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("loss", ["pose", "attraction", "diversity"])
def test_gradients(loss: str):
    joints, seen = draw(1, 2, 2, 3, 2), torch.tensor([[[True, True], [True, False]]])
    given: dict[str, tuple[Any, Tensor]] = {
        "pose": (lambda x: pose_error(x, joints, seen), draw(1, 2, 2, 3, 2)),
        "attraction": (lambda x: attraction(x, joints, seen), draw(1, 2, 3, 2)),
        "diversity": (diversity, draw(1, 2, 3, 4)),
    }
    function, value = given[loss]
    assert torch.autograd.gradcheck(function, (value.requires_grad_(),))


def test_glimpses_at_one_place_have_a_finite_gradient():
    coords = torch.zeros(1, 1, 3, 4).double().requires_grad_()
    diversity(coords).sum().backward()
    assert coords.grad is not None
    assert coords.grad.isfinite().all()


def model(**options: Any) -> Any:
    torch.manual_seed(0)
    return small_glimpse_clouds(
        (1, 16, 16), 3, crop_size=(6, 6), size=6, hidden=5, reader=(3, 4), pose=(1, 2), **options
    ).double()


VIDEO, LABELS = torch.rand(4, 3, 1, 16, 16, dtype=torch.float64), torch.tensor([0, 2, 1, 1])
JOINTS, SEEN = torch.rand(4, 3, 1, 2, 2).double() - 0.5, torch.ones(4, 3, 1, dtype=torch.bool)


def test_the_objective_is_the_weighted_sum():
    looked = model()
    SEEN[0, 1] = False
    weights = {"pose": 0.1, "attraction": 1.0, "diversity": 1.0, "overview": 0.0}
    found = looked(VIDEO)
    parts = {
        "pose": pose_error(found.joints, JOINTS, SEEN).sum(1).mean(),
        "attraction": attraction(found.coords[..., 2:], JOINTS, SEEN).sum(1).mean(),
        "diversity": diversity(found.coords).sum(1).mean(),
        "overview": F.cross_entropy(found.overview, LABELS),
    }
    own = F.cross_entropy(found.votes.mean((1, 2)), LABELS)
    for changed in ({}, {"pose": 3.0, "overview": 2.0}, {"attraction": 0.0, "diversity": 0.5}):
        loss, diagnostics = GlimpseCloudsObjective(looked, changed)(VIDEO, LABELS, JOINTS, SEEN)
        expected = own + sum((weights | changed)[name] * part for name, part in parts.items())
        torch.testing.assert_close(loss, expected)
    assert float(diagnostics.attraction) == pytest.approx(parts["attraction"].item())
    assert float(diagnostics.accuracy) == (found.logits.argmax(-1) == LABELS).double().mean()
    loss, diagnostics = GlimpseCloudsObjective(looked)(VIDEO, LABELS)
    torch.testing.assert_close(loss, own + parts["diversity"])
    assert diagnostics.pose == diagnostics.attraction == 0


def test_the_first_stage_looks_at_nothing():
    looked = model()
    loss, diagnostics = GlanceObjective(looked, 0.5)(VIDEO, LABELS, JOINTS, SEEN)
    glance = looked.glance(VIDEO)
    error = pose_error(glance.joints, JOINTS, SEEN).sum(1).mean()
    torch.testing.assert_close(loss, F.cross_entropy(glance.overview, LABELS) + 0.5 * error)
    loss.backward()
    assert looked.features.convolutions[0].weight.grad.any()
    assert looked.workers.cells[0].weight_ih.grad is None
    assert float(diagnostics.pose) == pytest.approx(error.item())


def test_reading_is_of_what_is_in_the_middle():
    class Bright(nn.Module):
        """Reads the grey value in the middle."""

        def forward(self, crops: Tensor) -> Tensor:
            return crops[..., 2:4, 2:4].mean((-3, -2, -1)).unsqueeze(-1)

    looked = model()
    looked.read = Bright()
    objective = ReadingObjective(looked, 1, 2, sides=(0.1, 0.1), off=0.0).double()
    with torch.no_grad():
        objective.readout.weight.copy_(torch.tensor([[-100.0], [100.0]]))
        objective.readout.bias.copy_(torch.tensor([50.0, -50.0]))
    images = torch.zeros(2, 1, 16, 16).double()
    images[0, 0, 3:6, 9:12] = images[1, 0, 12:15, 1:4] = 1
    middles = torch.tensor([[[10, 4], [2, 13]], [[4, 10], [10, 2]]]).double() / 7.5 - 1
    labels = torch.tensor([[1, 1], [0, 0]])
    loss, diagnostics = objective(images, middles, labels)
    assert float(diagnostics.accuracy) == 1
    assert float(loss.detach()) < 1e-6
    assert float(objective(images, middles, 1 - labels)[1].accuracy) == 0


def test_crops_for_reading_are_drawn_anew_from_a_seed():
    objective = ReadingObjective(model(), 6, 2).double()
    data = torch.rand(2, 1, 16, 16).double(), torch.zeros(3, 2, 2).double(), torch.zeros(3, 2).long()

    def loss(seed: int) -> float:
        torch.manual_seed(seed)
        return float(objective(*data)[0].detach())

    assert loss(0) == loss(0) != loss(1)


def test_a_pose_is_given_to_a_locator_that_needs_it_only():
    looked = model()
    looked.locator = JointLocator([(0, 0), (0, 1)])
    _, diagnostics = GlimpseCloudsObjective(looked)(VIDEO, LABELS, JOINTS)
    assert diagnostics.attraction == 0
    with pytest.raises(ValueError, match="needed"):
        GlimpseCloudsObjective(looked)(VIDEO, LABELS)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"labels": LABELS[:2]}, "labels"),
        ({"joints": JOINTS[:, :2]}, "joints"),
        ({"seen": SEEN[..., 0]}, "seen"),
    ],
)
def test_labels_that_do_not_fit_are_refused(change: dict[str, Tensor], told: str):
    given = {"labels": LABELS, "joints": JOINTS, "seen": SEEN, **change}
    with pytest.raises(ValueError, match=f"`{told}` must have shape"):
        GlimpseCloudsObjective(model())(VIDEO, *given.values())


def test_weights_that_are_none_are_refused():
    with pytest.raises(ValueError, match=r"weights\.pose"):
        GlimpseCloudsObjective(model(), {"pose": -1.0})
    with pytest.raises(ValueError, match="poses"):
        GlimpseCloudsObjective(model(), {"poses": 1.0})
    with pytest.raises(ValueError, match="pose"):
        GlanceObjective(model(), math.nan)
