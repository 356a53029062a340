import math

import pytest
import torch
from torch import Tensor

from whatwhere.models.components import (
    Assignment,
    GlimpseMemory,
    LearnedSimilarity,
    OverGlimpses,
    OverWorkers,
    ScaledSimilarity,
    Uniform,
    gathered,
)

AXES = {OverWorkers: -1, OverGlimpses: -2}


def assignment(kind: type[Assignment] = OverWorkers, glimpses: int = 3, workers: int = 2) -> Assignment:
    torch.manual_seed(0)
    return kind(glimpses, workers, LearnedSimilarity(5, 4)).double()


def frames(count: int, glimpses: int = 3) -> Tensor:
    return torch.randn(count, 2, glimpses, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def remembered(whose: Assignment, seen: Tensor) -> tuple[list[Tensor], GlimpseMemory]:
    memory, weights = None, []
    for glimpses in seen:
        found, memory = whose(glimpses, memory)
        weights.append(found)
    assert memory is not None
    return weights, memory


@pytest.mark.parametrize("kind", [OverWorkers, OverGlimpses])
def test_weights_are_the_formula(kind: type[Assignment]):
    whose, seen = assignment(kind), frames(4)
    weights, _ = remembered(whose, seen)
    projection = whose.similarity.projection.weight  # type: ignore[union-attr,operator]
    axis = AXES[kind]
    torch.testing.assert_close(weights[0], (whose.first_logits / 0.5).softmax(axis).expand(2, -1, -1))
    for t in range(1, 4):
        logits = torch.zeros(2, 3, 2, dtype=torch.float64)
        for b in range(2):
            for g in range(3):
                for c in range(2):
                    for k in range(t):
                        for h in range(3):
                            d = projection @ (seen[t, b, g] - seen[k, b, h])
                            fading = math.exp(-(t - 1 - k) / 4)
                            logits[b, g, c] += fading * weights[k][b, h, c] * torch.exp(-d @ d) / 3
        torch.testing.assert_close(weights[t], (logits / 0.5).softmax(axis))
        torch.testing.assert_close(weights[t].sum(axis), torch.ones_like(weights[t].sum(axis)))


def test_glimpses_that_change_places_take_their_weights_along():
    whose, seen = assignment(), frames(3)
    weights, _ = remembered(whose, seen)
    order = [2, 0, 1]
    turned = seen.clone()
    turned[2] = seen[2][:, order]
    torch.testing.assert_close(remembered(whose, turned)[0][2], weights[2][:, order])


def test_what_is_like_a_worker_s_glimpse_is_that_worker_s():
    whose = assignment()
    with torch.no_grad():
        whose.first_logits.copy_(torch.tensor([[9.0, -9.0], [-9.0, 9.0], [0.0, 0.0]]))
    seen = 100 * frames(2)
    seen[1] = seen[0][:, [1, 0, 2]]
    _, second = remembered(whose, seen)[0]
    assert (second[:, 0, 1] > second[:, 0, 0]).all()
    assert (second[:, 1, 0] > second[:, 1, 1]).all()


def test_the_latest_counts_most():
    whose = assignment(glimpses=1)
    alike = torch.ones(2, 1, 4, dtype=torch.float64)
    of = [torch.tensor([[[1.0, 0.0]]] * 2).double(), torch.tensor([[[0.0, 1.0]]] * 2).double()]
    memory = GlimpseMemory(alike[:, None], of[0][:, None]).add(alike, of[1])
    found = whose.likeness(alike, memory)
    torch.testing.assert_close(found[0, 0], torch.tensor([math.exp(-0.25), 1.0]).double())


def test_uniform_is_no_assignment():
    whose, seen = assignment(Uniform), frames(3)
    weights, _ = remembered(whose, seen)
    for found in weights:
        torch.testing.assert_close(found, torch.full_like(found, 0.5))
    torch.testing.assert_close(gathered(weights[2], seen[2]), seen[2].mean(1, keepdim=True).expand(-1, 2, -1))


def test_a_worker_is_given_a_mean_by_its_weights():
    weights = torch.tensor([[[0.9, 0.0], [0.3, 0.0]]])
    glimpses = torch.tensor([[[1.0], [5.0]]])
    torch.testing.assert_close(gathered(weights, glimpses), torch.tensor([[[2.0], [0.0]]]))


def test_scaled_similarity_is_in_units_of_the_variance_and_is_stored():
    torch.manual_seed(0)
    similarity = ScaledSimilarity(6, momentum=1.0).double()
    scale = torch.tensor([1.0, 10.0, 0.1, 3.0, 5.0, 2.0]).double()
    glimpses = scale * torch.randn(500, 3, 6, dtype=torch.float64)
    points = similarity.points(glimpses)
    torch.testing.assert_close(similarity.variance.sqrt(), scale, rtol=0.1, atol=0)
    alike = similarity(points[:250, :1], points[250:, :1])
    assert float(-alike.log().mean()) == pytest.approx(1, rel=0.1)
    similarity.eval()
    before = similarity.variance.clone()
    similarity.points(7 * glimpses)
    assert torch.equal(before, similarity.variance)
    other = ScaledSimilarity(6).double()
    other.load_state_dict(similarity.state_dict())
    assert torch.equal(other.variance, before)
    assert not list(similarity.parameters())


def test_a_glimpse_is_like_itself_while_variances_change():
    torch.manual_seed(0)
    whose = OverWorkers(2, 2, ScaledSimilarity(6, momentum=0.5)).double().train()
    variance = whose.similarity.variance
    first, second = (scale * torch.randn(4, 2, 6, dtype=torch.float64) for scale in (10, 0.1))
    first.requires_grad_()
    _, memory = whose(first, None)
    logits, _ = whose(second, memory)
    # Both are compared by the variances that are known now, which are those that are stored.
    expected = 0.5 * (0.5 + 0.5 * first.detach().flatten(0, 1).var(0))
    expected += 0.5 * second.flatten(0, 1).var(0)
    torch.testing.assert_close(variance, expected)
    points = whose.similarity.points(first.detach())
    assert (whose.similarity(points, memory.points[:, 0]).diagonal(dim1=1, dim2=2) == 1).all()
    logits.sum().backward()
    assert first.grad is not None
    assert first.grad.isfinite().all()


def test_one_glimpse_has_no_variance_to_learn_of():
    similarity = ScaledSimilarity(4)
    similarity.points(torch.ones(1, 1, 4))
    assert torch.equal(similarity.variance, torch.ones(4))


def test_gradients():
    whose, seen = assignment(), frames(3).requires_grad_()

    def of(seen: Tensor) -> Tensor:
        return torch.stack(remembered(whose, seen)[0])

    assert torch.autograd.gradcheck(of, (seen,))


@pytest.mark.parametrize("wrong", [{"temperature": 0.0}, {"decay": -1.0}, {"workers": 0}])
def test_impossible_numbers_are_refused(wrong: dict[str, float]):
    options: dict[str, float] = {"glimpses": 2, "workers": 2, **wrong}
    with pytest.raises(ValueError, match=next(iter(wrong))):
        OverWorkers(similarity=LearnedSimilarity(3), **options)  # type: ignore[arg-type]
