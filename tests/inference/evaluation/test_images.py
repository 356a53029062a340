"""Evaluation of models of scenes against one whose posterior and evidence are known."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from whatwhere.inference.evaluation import (
    Images,
    SceneReport,
    count_accuracy,
    evaluate_scenes,
    infer_scene,
)
from whatwhere.inference.objectives import Reinforce
from whatwhere.inference.training import NonFiniteError

PRIOR = (0.3, 0.6)
NOISE = 0.4
BLOCKS = ((0, 1, 2, 3), (4, 0, 3, 2))  # left, top, width and height of the two objects


class Slots(NamedTuple):
    z_pres: Tensor


class Scene(NamedTuple):
    slots: Slots
    objects: Tensor
    canvas: Tensor


def shapes() -> Tensor:
    """What the slots draw, `(2, 1, 4, 8)`: blocks that do not overlap."""
    drawn = torch.zeros(2, 1, 4, 8)
    for image, (left, top, width, height) in zip(drawn, BLOCKS, strict=True):
        image[:, top : top + height, left : left + width] = 1
    return drawn


def model(images: Tensor, noise: float = NOISE) -> Scene:
    """Each of two blocks is there or not; pixels are noisy."""
    with pyro.plate("data", len(images), dim=-1):
        present = torch.stack([pyro.sample(f"z/{i}", dist.Bernoulli(PRIOR[i])) for i in range(2)], -1)
        objects = present[..., None, None, None] * shapes()
        canvas = objects.sum(-4)
        pyro.sample("x", dist.Normal(canvas, noise).to_event(3), obs=images)
    return Scene(Slots(present), objects, canvas)


def log_density(images: Tensor, present: Sequence[int]) -> Tensor:
    """log p(x, z), `(B,)`."""
    canvas = (torch.tensor(present)[:, None, None, None] * shapes()).sum(0)
    terms = -0.5 * ((images - canvas) / NOISE) ** 2 - math.log(NOISE) - 0.5 * math.log(2 * math.pi)
    prior = sum(math.log(p if here else 1 - p) for p, here in zip(PRIOR, present, strict=True))
    return terms.sum((1, 2, 3)) + prior


def log_evidence(images: Tensor) -> Tensor:
    return torch.stack([log_density(images, z) for z in itertools.product((0, 1), repeat=2)]).logsumexp(0)


def posterior(images: Tensor) -> Tensor:
    """Probability of each block, `(B, 2)`: it tells the two apart, for they do not overlap."""
    joint = {
        z: (log_density(images, z) - log_evidence(images)).exp() for z in itertools.product((0, 1), repeat=2)
    }
    return torch.stack([joint[1, 0] + joint[1, 1], joint[0, 1] + joint[1, 1]], -1)


def guide_with(probabilities: Callable[[Tensor], Tensor]) -> Callable[[Tensor], None]:
    def guide(images: Tensor) -> None:
        with pyro.plate("data", len(images), dim=-1):
            for i, p in enumerate(probabilities(images).unbind(-1)):
                pyro.sample(f"z/{i}", dist.Bernoulli(p))

    return guide


def told(*rows: Sequence[int]) -> Callable[[Tensor], None]:
    """A guide that finds what it is told, in batches one after the other."""
    rest = list(rows)
    return guide_with(lambda images: torch.tensor([rest.pop(0) for _ in images]).float())


def boxes(*images: Sequence[int]) -> Tensor:
    """True boxes `(B, 2, 4)`: of the slots that are there."""
    return torch.tensor(
        [[BLOCKS[i] if i in there else (0, 0, 0, 0) for i in range(2)] for there in images]
    ).float()


def evaluate(guide: Any, *batches: Images, **options: Any) -> SceneReport:
    return evaluate_scenes(
        model, guide, Reinforce(2), batches, **{"iwae_particles": 3, "chunk_size": 2, **options}
    )


@pytest.fixture
def images() -> Tensor:
    return torch.randn(5, 1, 4, 8) * 0.2


def test_under_the_posterior_every_bound_is_the_evidence(images: Tensor):
    """Batches of 4 and 1, of which each image counts the same."""
    report = evaluate(guide_with(posterior), Images(images[:4]), Images(images[4:]))
    evidence = log_evidence(images).mean().item()
    assert (report.images, report.iwae_particles) == (5, 3)
    assert (report.elbo, report.iwae) == pytest.approx((evidence, evidence), rel=1e-5)
    assert report.elbo == pytest.approx(report.log_likelihood - report.kl)
    assert report.counting is None
    assert report.average_precision is None


def test_reconstruction_and_kl_are_those_of_what_was_found(images: Tensor):
    """A guide that is sure of empty images: its KL is what the prior says of them."""
    report = evaluate(told(*[(0, 0)] * 40), Images(images))
    kl = -math.log(1 - PRIOR[0]) - math.log(1 - PRIOR[1])
    likelihood = log_density(images, (0, 0)).mean().item() + kl
    assert report.kl == pytest.approx(kl, rel=1e-4)
    assert report.log_likelihood == pytest.approx(likelihood, rel=1e-5)
    assert report.iwae == pytest.approx(report.elbo, rel=1e-5)


FOUND = {"both": (1, 1), "left": (1, 0), "none": (0, 0)}


def test_counts_and_boxes_of_known_finds():
    """Found: both, the left one, none, both; true: both, the right one, none, the left one."""
    found = [FOUND[name] for name in ("both", "left", "none", "both")]
    true = [(0, 1), (1,), (), (0,)]
    counts = torch.tensor([2, 1, 0, 1])
    guide = guide_with(lambda images: torch.tensor([found[int(i)] for i in images[:, 0, 0, 0]]).float())
    data = torch.zeros(4, 1, 4, 8)
    data[:, 0, 0, 0] = torch.arange(4.0)
    report = evaluate(
        guide, Images(data[:3], counts[:3], boxes(*true[:3])), Images(data[3:], counts[3:], boxes(true[3]))
    )
    assert report.counting is not None
    assert report.counting.accuracy == 3 / 4
    assert report.counting.confusion == [[1, 0, 0], [0, 1, 1], [0, 0, 1]]
    # 3 of 5 found boxes are right, of 4 true ones
    assert report.average_precision == pytest.approx(3 / 5 * 3 / 4)
    batches = [Images(data[:3], counts[:3]), Images(data[3:], counts[3:].float())]
    assert count_accuracy(model, guide, batches) == 3 / 4
    numbers = report.numbers()
    assert numbers["counting"] == {"accuracy": 3 / 4, "confusion": report.counting.confusion}
    assert numbers["elbo"] == report.elbo


def test_batches_may_have_room_for_different_numbers_of_boxes():
    one, other = boxes((0, 1)), boxes((0,))[:, :1]
    report = evaluate(
        told(*[(1, 1), (1, 0)] * 40), Images(torch.zeros(2, 1, 4, 8), None, torch.cat([one, one]))
    )
    assert report.average_precision == pytest.approx(3 / 3 * 3 / 4)
    guide = guide_with(lambda images: images[:, 0, 0, :2])
    data = torch.zeros(2, 1, 4, 8)
    data[0, 0, 0, :2], data[1, 0, 0, 0] = 1, 1
    report = evaluate(guide, Images(data[:1], None, one), Images(data[1:], None, other))
    assert report.average_precision == 1


def test_boxes_are_matched_at_any_overlap():
    """The true box is twice as high as what is drawn of the first block: an overlap of one half."""
    true = torch.tensor([[[0.0, 1, 2, 3], [0.0, 0, 0, 0]]])
    true[0, 0, 1], true[0, 0, 3] = 1, 6
    for threshold, expected in ((0.3, 1), (0.5, 1), (0.51, 0)):
        report = evaluate(told(*[(1, 0)] * 20), Images(BLANK[:1], None, true), iou_threshold=threshold)
        assert (report.average_precision, report.iou_threshold) == (expected, threshold)
    for wrong in (0, 1.5, math.nan):
        with pytest.raises(ValueError, match="`iou_threshold` must be in"):
            evaluate(told(), Images(BLANK[:1], None, true), iou_threshold=wrong)


def test_the_scene_is_what_the_model_draws_of_a_draw_of_the_guide():
    scene = infer_scene(model, told((1, 0), (0, 1)), torch.zeros(2, 1, 4, 8))
    assert scene.slots.z_pres.tolist() == [[1, 0], [0, 1]]
    assert torch.equal(scene.canvas, shapes())


BLANK = torch.zeros(2, 1, 4, 8)
NOT_FINITE = boxes((0,), (1,)).index_fill(-1, torch.tensor([2]), math.nan)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ([], "`data` has no images"),
        (
            [Images(torch.zeros(0, 1, 4, 8), torch.zeros(0))],
            r"`images` must have shape .* got \(0, 1, 4, 8\)",
        ),
        ([Images(BLANK, torch.ones(2, 1))], r"`counts` must have shape \(2,\), but got \(2, 1\)"),
        ([Images(BLANK, torch.tensor([0.5, 1]))], "`counts` must hold integers"),
        ([Images(BLANK, torch.tensor([-1, 1]))], "`counts` must hold integers"),
        ([Images(BLANK, torch.ones(2), torch.ones(2, 4))], r"`boxes` must have shape \(2, 4, 4\)"),
        ([Images(BLANK, torch.ones(2), torch.ones(1, 3, 4))], r"`boxes` must have shape \(2, 3, 4\)"),
        ([Images(BLANK, torch.ones(2), NOT_FINITE)], "`boxes` must be finite"),
        ([Images(BLANK, torch.ones(2)), Images(BLANK)], "the same labels, but one has .*counts"),
    ],
)
def test_data_that_cannot_be_evaluated_are_refused(data: list[Images], problem: str):
    guide = guide_with(posterior)
    with pytest.raises(ValueError, match=problem):
        evaluate(guide, *data)
    with pytest.raises(ValueError, match=problem):
        count_accuracy(model, guide, data)


def test_counts_are_needed_for_their_accuracy():
    with pytest.raises(ValueError, match="`data` has no true counts"):
        count_accuracy(model, guide_with(posterior), [Images(BLANK)])


@pytest.mark.parametrize("name", ["iwae_particles", "chunk_size"])
def test_impossible_numbers_are_refused(name: str):
    with pytest.raises(ValueError, match=f"`{name}` must be at least 1, got 0"):
        evaluate(guide_with(posterior), Images(BLANK), **{name: 0})


def test_a_model_that_has_diverged_has_no_report():
    with (
        pyro.validation_enabled(False),
        pytest.raises(NonFiniteError, match=r"2 of 2 values of `log_likelihood` are NaN or infinite"),
    ):
        evaluate_scenes(
            lambda images: model(images, noise=math.nan),
            guide_with(posterior),
            Reinforce(2),
            [Images(BLANK)] * 2,
            iwae_particles=2,
        )
