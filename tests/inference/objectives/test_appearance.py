import math

import pytest
import torch
from torch import Tensor, nn

from whatwhere.inference.objectives import AppearanceELBO
from whatwhere.models.components.networks import LocScale
from whatwhere.models.priors import NormalPrior


class Looks(nn.Module):
    """What an object looks like is linear in its place; where there is none, the parameters are standard."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 2))

    def looks(self, image: Tensor, present: Tensor, z_where: Tensor) -> LocScale:
        assert present.shape == z_where.shape[:-1]
        assert z_where.shape[-2] == len(image)
        here = present.unsqueeze(-1) > 0
        loc = z_where @ self.weight
        return LocScale(torch.where(here, loc, 0.0), torch.where(here, loc.exp(), 1.0))


def decode(z_pres: Tensor, z_where: Tensor, z_what: Tensor) -> Tensor:
    """Canvases `(B, 1, 2, 1)`: the sum of what is present, twice."""
    total = (z_pres.unsqueeze(-1) * z_what).sum(-2) + z_where.sum((-1, -2)).unsqueeze(-1)
    return total.unflatten(-1, (1, 2, 1))


def test_value_and_gradient_by_hand():
    images = torch.rand(3, 1, 2, 1, dtype=torch.float64)
    present = torch.tensor([[1.0, 1.0], [1.0, 0.0], [0.0, 0.0]]).double()
    loc, scale = torch.randn(3, 2, 4).double(), torch.rand(3, 2, 4).double()
    guide = Looks().double()
    objective = AppearanceELBO(guide, decode, 0.7, NormalPrior.standard(2).double())
    torch.manual_seed(5)
    loss, found = objective(images, present, loc, scale)
    torch.manual_seed(5)
    z_where = loc + scale * torch.randn(3, 2, 4).double()
    noise = torch.randn_like(guide.looks(images, present.T, z_where.movedim(-2, 0)).scale)
    expected, likelihoods = 0.0, []
    for b in range(3):
        canvas, kl = torch.zeros(2).double(), 0.0
        for i in range(2):
            if present[b, i]:
                mean = z_where[b, i] @ guide.weight
                canvas = canvas + mean + mean.exp() * noise[i, b] + z_where[b, i].sum()
                q = torch.distributions.Normal(mean, mean.exp())
                p = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
                kl = kl + torch.distributions.kl_divergence(q, p).sum()
        squares = (images[b].flatten() - canvas).square().sum()
        likelihoods.append(-squares / (2 * 0.49) - 2 * math.log(0.7) - math.log(2 * math.pi))
        expected = expected - (likelihoods[-1] - kl) / 3
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(found.log_likelihood, torch.stack(likelihoods).mean().detach())
    torch.testing.assert_close(found.bound, -loss.detach())
    grads = (torch.autograd.grad(value, guide.weight)[0] for value in (loss, expected))
    torch.testing.assert_close(*grads)


class Depths(nn.Module):
    """A depth is as great as the appearance, and as uncertain as the place."""

    def laws(self, image: Tensor, possible: Tensor, z_where: Tensor, z_what: Tensor) -> dict[str, LocScale]:
        return {"z_depth": LocScale(z_what[..., :1], z_where[..., :1].exp())}


def test_further_variables_are_drawn_after_looks_and_paid_for():
    present, loc = torch.tensor([[1.0, 1.0], [1.0, 0.0]]).double(), torch.randn(2, 2, 4).double()
    images, guide, seen = torch.rand(2, 1, 2, 1).double(), Looks().double(), []
    guide.further = Depths()

    def decode_depths(z_pres: Tensor, z_where: Tensor, z_what: Tensor, z_depth: Tensor) -> Tensor:
        seen.append((z_what, z_depth))
        return decode(z_pres, z_where, z_what * z_depth)

    prior, depths = NormalPrior.standard(2).double(), NormalPrior([0.5], [2.0]).double()
    with_depths = AppearanceELBO(guide, decode_depths, 0.7, prior, {"z_depth": depths})
    torch.manual_seed(3)
    _, found = with_depths(images, present, loc, torch.zeros_like(loc))
    z_what, z_depth = seen[0]  # zeros where nothing is
    torch.manual_seed(3)
    torch.randn_like(loc)  # of places, which are certain
    look = guide.looks(images, present.T, loc.movedim(1, 0))
    what = look.loc + look.scale * torch.randn_like(look.scale)
    law = guide.further.laws(images, present.T, loc.movedim(1, 0), what)["z_depth"]
    depth = law.loc + law.scale * torch.randn_like(law.scale)
    for drawn, expected in ((z_what, what), (z_depth, depth)):
        torch.testing.assert_close(drawn, expected.movedim(0, 1) * present.unsqueeze(-1))
    kl = 0.0
    for b, i in ((0, 0), (0, 1), (1, 0)):
        q = torch.distributions.Normal(look.loc[i, b], look.scale[i, b])
        kl += torch.distributions.kl_divergence(q, torch.distributions.Normal(0 * q.loc, 1.0)).sum() / 2
        q = torch.distributions.Normal(z_what[b, i, 0], loc[b, i, 0].exp())
        kl += torch.distributions.kl_divergence(q, torch.distributions.Normal(0.5 + 0 * q.loc, 2.0)) / 2
    torch.testing.assert_close(found.kl, kl.detach())
    torch.testing.assert_close(found.bound, found.log_likelihood - found.kl)


def test_the_weight_of_the_likelihood_is_the_inverse_square_of_the_scale():
    images, present = torch.rand(2, 1, 2, 1), torch.ones(2, 1)
    guide, loc, scale = Looks().double(), torch.randn(2, 1, 4), torch.zeros(2, 1, 4)

    def gradient(weight: float) -> Tensor:
        torch.manual_seed(0)
        loss, _ = AppearanceELBO(guide, decode, 0.3 / math.sqrt(weight), NormalPrior.standard(2))(
            images, present, loc, scale
        )
        return torch.autograd.grad(loss, guide.weight)[0]

    # The gradient is linear in the weight: that of the error, times the weight, and that of the KL.
    torch.testing.assert_close((gradient(9.0) - gradient(1.0)) / 8, (gradient(4.0) - gradient(1.0)) / 3)


@pytest.mark.parametrize("slots", [1, 3])
def test_absent_objects_change_nothing(slots):
    images, guide = torch.rand(2, 1, 2, 1), Looks()
    present = torch.zeros(2, slots)
    loss, found = AppearanceELBO(guide, lambda *slots: images, 1.0, NormalPrior.standard(2))(
        images, present, torch.zeros(2, slots, 4), torch.ones(2, slots, 4)
    )
    assert found.kl == 0
    assert loss.item() == pytest.approx(math.log(2 * math.pi))
