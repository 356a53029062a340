"""Glimpse Clouds against a loop over videos, frames, glimpses and workers; the published sizes."""

from collections.abc import Callable
from typing import Any

import pyro
import pytest
import torch
import torch.nn.functional as F
from pyro import poutine
from torch import Tensor, nn

from whatwhere.models import Clouds, GlimpseClouds, PoseHead, ntu_glimpse_clouds, small_glimpse_clouds
from whatwhere.models.components import (
    ConvClip,
    JointLocator,
    OverGlimpses,
    OverWorkers,
    ScaledSimilarity,
    crop,
)
from whatwhere.models.glimpse_clouds import location_gate

SHAPE = (1, 24, 32)


def tiny(**options: Any) -> GlimpseClouds:
    """Places are spread, and all parts matter."""
    torch.manual_seed(0)
    given: dict[str, Any] = {
        "crop_size": (8, 8),
        "size": 6,
        "hidden": 5,
        "reader": (3, 4),
        "pose": (1, 2),
        "straight": False,
    }
    model = small_glimpse_clouds(SHAPE, 3, **given | options).double()
    if not isinstance(model.locator, JointLocator):
        nn.init.normal_(model.locator.place.weight, std=0.5)
    return model


def videos(frames: int = 3) -> Tensor:
    return torch.rand(2, frames, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(5))


def parameters(*modules: nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


def test_the_published_sizes():
    with torch.device("meta"):
        model = ntu_glimpse_clouds()
    assert parameters(model.locator) == 4_727_812
    assert parameters(model.gate) == 527_616
    assert parameters(model.workers) == 11_898_036
    assert parameters(model.locator, model.gate, model.assignment, model.workers) == 17_153_473
    assert model.pose is not None
    assert parameters(model.pose) == 102_500
    assert model.glimpses == model.workers.count == 3
    with torch.device("meta"), pyro.validation_enabled(False):  # which reads values
        found = model(torch.empty(2, 2, 3, 224, 224))
        learned = ntu_glimpse_clouds(learned_distance=True)
    assert found.logits.shape == (2, 60)
    assert found.joints is not None
    assert found.joints.shape == (2, 2, 2, 25, 2)
    assert parameters(learned.assignment) == 64 * 2048 + 9


def test_it_is_the_loop():
    model = tiny()
    video = videos()
    with torch.no_grad():
        found = model(video)
        maps = model.features(video)
        for b in range(2):
            state = torch.zeros(1, 5).double()
            workers = [torch.zeros(1, 5).double() for _ in range(2)]
            glimpse = torch.zeros(1, 6).double()
            memory: Any = None
            for t in range(3):
                context = model.context(maps.context[b : b + 1, t])
                seen = []
                for g in range(2):
                    state = model.locator.cell(torch.cat([glimpse, sum(workers)], dim=-1), state)
                    raw = model.locator.place(torch.cat([context, state], dim=-1))
                    coords = torch.cat([(raw[:, 2:] - 1.4).sigmoid(), raw[:, :2].tanh()], dim=-1)
                    torch.testing.assert_close(found.coords[b, t, g], coords[0])
                    picture = crop(video[b : b + 1, t], coords, (8, 8))
                    glimpse = model.read(picture) * model.gate(raw)
                    torch.testing.assert_close(found.glimpses[b, t, g], glimpse[0])
                    seen.append(glimpse)
                weights, memory = model.assignment(torch.stack(seen, dim=1), memory)
                torch.testing.assert_close(found.weights[b, t], weights[0])
                for c in range(2):
                    shares = weights[0, :, c]
                    given = sum(shares[g] * seen[g] for g in range(2)) / shares.sum()
                    workers[c] = model.workers.cells[c](given, workers[c])
                    torch.testing.assert_close(found.votes[b, t, c], model.workers.readouts[c](workers[c])[0])
        torch.testing.assert_close(found.logits, found.votes.flatten(1, 2).mean(1))
        torch.testing.assert_close(found.overview, model.overview(maps.overview))
        assert model.pose is not None
        torch.testing.assert_close(found.joints, model.pose(model.context(maps.context)))
        glance = model.glance(video)
    torch.testing.assert_close(glance.overview, found.overview)
    torch.testing.assert_close(glance.joints, found.joints)


def test_everything_is_a_statement():
    model = tiny()
    trace = poutine.trace(model).get_trace(videos())
    found = trace.nodes["_RETURN"]["value"]
    for t in range(3):
        torch.testing.assert_close(trace.nodes[f"assignment/{t}"]["value"], found.weights[:, t])
        torch.testing.assert_close(trace.nodes[f"votes/{t}"]["value"], found.votes[:, t])
        for g in range(2):
            torch.testing.assert_close(trace.nodes[f"place/{t}/{g}"]["value"], found.coords[:, t, g])
            torch.testing.assert_close(trace.nodes[f"glimpse/{t}/{g}"]["value"], found.glimpses[:, t, g])
    assert "overview" in trace.nodes


def test_uint8_stands_for_grey_values():
    model = tiny().float()
    video = (videos() * 255).byte()
    torch.testing.assert_close(model(video).logits, model(video.float() / 255).logits)


@pytest.mark.parametrize("straight", [False, True])
def test_gradients_are_those_of_the_function(straight: bool):
    model = tiny(straight=straight)
    video = videos(2)
    place = model.locator.place.weight
    if not straight:

        def votes(weight: Tensor) -> Tensor:
            return torch.func.functional_call(model, {"locator.place.weight": weight}, (video,)).logits  # type: ignore[no-any-return]

        assert torch.autograd.gradcheck(votes, (place.detach().clone().requires_grad_(),))
        return
    # With one frame and one glimpse there is nothing to cut.
    for frames, glimpses, equal in ((1, 1, True), (2, 2, False)):
        gradients = []
        for cut in (False, True):
            one = tiny(straight=cut, glimpses=glimpses)
            one(videos(frames)).logits.sin().sum().backward()
            gradients.append(one.locator.place.weight.grad)
        assert torch.allclose(*gradients) is equal  # type: ignore[arg-type]


def task_gradient(model: GlimpseClouds, through_gate: bool) -> float:
    if not through_gate:
        model.gate = nn.Sequential(nn.Linear(4, 6).double())
        nn.init.zeros_(model.gate[0].weight)  # type: ignore[arg-type]
    F.cross_entropy(model(videos()).logits, torch.tensor([0, 1])).backward()
    gradient = model.locator.place.weight.grad
    assert gradient is not None
    return float(gradient.abs().max())


def test_the_task_alone_tells_where_to_look_unless_crops_are_detached():
    assert task_gradient(tiny(), through_gate=False) > 1e-5
    assert task_gradient(tiny(straight=True), through_gate=False) > 1e-5
    # The place is then known to the gate alone, which does not know what is there.
    assert task_gradient(tiny(detached=True), through_gate=True) > 1e-7
    assert task_gradient(tiny(detached=True, straight=True), through_gate=False) == 0


def test_what_is_frozen_does_not_change():
    model = tiny(features=ConvClip(1, (3, 4)), crop_size=(4, 4)).float().train()
    model.freeze_sight()
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert not model.features.training
    assert model.workers.training
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    model(videos().float()).logits.sin().sum().backward()
    optimiser.step()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed
    assert not any(name.startswith(("features", "context", "read")) for name in changed)


def test_glimpses_at_joints_that_are_given():
    model = tiny()
    model.locator = JointLocator([(0, 1), (1, 0)], 0.3)
    joints = torch.rand(2, 3, 2, 2, 2, dtype=torch.float64) - 0.5
    found = model(videos(), joints)
    torch.testing.assert_close(found.coords[:, :, 0, 2:], joints[:, :, 0, 1])
    torch.testing.assert_close(found.coords[:, :, 1, 2:], joints[:, :, 1, 0])
    with pytest.raises(ValueError, match="needed by `JointLocator`"):
        model(videos())
    with pytest.raises(ValueError, match=r"shape \(2, 3, P, J, 2\)"):
        model(videos(), joints[:, :2])


def test_boxes_are_the_windows_in_pixels():
    coords = torch.tensor([[[[1.0, 1.0, 0.0, 0.0]]]])
    nothing = torch.zeros(1, 1, 1, 1)
    clouds = Clouds(coords, nothing, nothing, nothing, nothing, None)
    torch.testing.assert_close(clouds.boxes((24, 32)), torch.tensor([[[[0.0, 0.0, 32.0, 24.0]]]]))


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda v: v[:, :, :, :-1], "`video` must have shape"),
        (lambda v: v[:, :0], "`video` must have shape"),
        (lambda v: v.long(), "floating point"),
    ],
)
def test_wrong_videos_are_refused(make: Callable[[Tensor], Tensor], told: str):
    with pytest.raises(ValueError, match=told):
        tiny()(make(videos()))


def test_impossible_sizes_are_refused():
    with pytest.raises(ValueError, match="crop_size"):
        tiny(crop_size=(0, 8))
    with pytest.raises(ValueError, match="joints"):
        PoseHead(4, 1, 0)


def test_an_assignment_of_the_released_program():
    model = tiny(assignment=OverGlimpses)
    assert isinstance(model.assignment, OverGlimpses)
    torch.testing.assert_close(model(videos()).weights.sum(2), torch.ones(2, 3, 2).double())


def test_there_is_a_joint_for_each_glimpse():
    model = tiny()
    parts = (model.features, model.context, model.read, model.crop_size)
    with pytest.raises(ValueError, match="a joint for each of the 2 glimpses of `assignment`, got 1"):
        GlimpseClouds(
            SHAPE, *parts, JointLocator([(0, 1)]), model.assignment, model.workers, model.gate, model.pose
        )


def test_the_variances_of_a_distance_are_learned_in_training_and_used_in_evaluation():
    model = tiny()
    model.assignment = OverWorkers(2, 2, ScaledSimilarity(6)).double()
    model(videos())
    variance = model.assignment.similarity.variance.clone()  # type: ignore[operator,union-attr]
    assert not torch.equal(variance, torch.ones(6).double())
    model.eval()
    first, second = model(videos()), model(videos()[:1])
    torch.testing.assert_close(first.logits[:1], second.logits)  # of each video by itself


def test_the_gate_lets_through_at_first():
    torch.manual_seed(0)
    factors = location_gate(32, 64)(0.1 * torch.randn(100, 4)).detach()
    assert float(factors.mean()) == pytest.approx(1, abs=0.1)
