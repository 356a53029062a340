"""Means that climb to where a picture fits best: against closed forms for pictures that are linear."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from whatwhere.guides import RefinedLooks
from whatwhere.models.components.networks import LocScale
from whatwhere.models.priors import Flow, FlowPrior

PIXELS, WHAT, ROWS = 12, 4, 5
SCALE, FRAMES = 0.4, 3.0


class Linear(torch.nn.Module):
    """Pictures that are sums of fixed ones, and fill the frame."""

    clamp = False

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.basis = torch.nn.Parameter(torch.randn(WHAT, PIXELS, generator=generator).double() / 3)

    def glimpses(self, z_what: Tensor) -> Tensor:
        return (z_what @ self.basis).unflatten(-1, (1, 3, 4))

    def place(self, glimpses: Tensor, z_where: Tensor) -> Tensor:
        return glimpses * z_where[:, :1, None, None]  # places are brightnesses


def seen() -> tuple[Tensor, Tensor, Tensor, LocScale]:
    generator = torch.Generator().manual_seed(1)
    image, others, where, loc, scale = (
        torch.rand(ROWS, size, generator=generator).double() for size in (PIXELS, PIXELS, 4, WHAT, WHAT)
    )
    return image.unflatten(-1, (1, 3, 4)), others / 4, 0.5 + where, LocScale(loc, 0.1 + scale / 4)


def system(decoder: Linear, image: Tensor, others: Tensor, where: Tensor) -> tuple[Tensor, Tensor]:
    """A and b of each row, `grad f(m) = b - A m`."""
    basis = where[:, :1, None] * decoder.basis.detach()
    weight = FRAMES / SCALE**2
    return (
        weight * basis @ basis.transpose(1, 2) + torch.eye(WHAT).double(),
        weight * (basis @ (image.flatten(1) - others).unsqueeze(-1)).squeeze(-1),
    )


def test_it_climbs_to_the_posterior_mean_of_a_linear_picture():
    decoder = Linear()
    image, others, where, look = seen()
    found = RefinedLooks(decoder, 400, SCALE, FRAMES)(image, others, where, *look)
    matrix, right = system(decoder, image, others, where)
    torch.testing.assert_close(found.loc, torch.linalg.solve(matrix, right), atol=1e-6, rtol=1e-5)
    assert torch.equal(found.scale, look.scale)


def test_a_step_is_the_best_one_along_the_natural_gradient():
    """Of a parabola the line search is exact, unless it would go further than a whole step."""
    decoder = Linear()
    image, others, where, look = seen()
    found = RefinedLooks(decoder, 1, SCALE, FRAMES)(image, others, where, *look)
    matrix, right = system(decoder, image, others, where)
    uphill = right - (matrix @ look.loc.unsqueeze(-1)).squeeze(-1)
    step = look.scale.square() * uphill
    bend = (step.unsqueeze(1) @ matrix @ step.unsqueeze(-1)).flatten()
    best = ((step * uphill).sum(-1) / bend).clamp(max=1)
    assert (best < 1).any()
    torch.testing.assert_close(found.loc, look.loc + best.unsqueeze(-1) * step)
    short = RefinedLooks(decoder, 1, SCALE, FRAMES)(image, others, where, look.loc, look.scale / 9)
    torch.testing.assert_close(short.loc, look.loc + step / 81)  # the best is further, but no optimum is near


def test_a_clamped_canvas_hides_what_others_draw_anyway():
    """Where others are as bright as the image can be, nothing is left to explain."""
    decoder = Linear()
    decoder.clamp = True
    decoder.basis.data.abs_()
    image, others, where, look = seen()
    hidden = RefinedLooks(decoder, 1, SCALE, FRAMES)(torch.ones_like(image), others + 1, where, *look)
    alone = look.scale.square() * -look.loc  # but the prior
    length = ((hidden.loc - look.loc) / alone).mean(-1, keepdim=True)
    torch.testing.assert_close(hidden.loc, look.loc + length * alone)
    assert (length > 0).all()


def test_the_mean_is_found_not_learned_and_the_variance_is_learned():
    decoder = Linear()
    image, others, where, look = seen()
    loc, scale = (x.clone().requires_grad_() for x in look)
    found = RefinedLooks(decoder, 2, SCALE, FRAMES)(image, others, where, loc, scale)
    assert not found.loc.requires_grad
    (found.loc.sum() + found.scale.sum()).backward()
    assert torch.equal(scale.grad, torch.ones_like(scale))
    assert loc.grad is None
    assert decoder.basis.grad is None


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_it_needs_no_gradients_outside(mode):
    decoder = Linear()
    refined = RefinedLooks(decoder, 2, SCALE, FRAMES)
    image, others, where, look = seen()
    expected = refined(image, others, where, *look)
    with mode():
        image, others, where, look = seen()
        found = refined(image, others * 1, where * 1, *look)
    assert torch.equal(found.loc, expected.loc)


def test_it_climbs_to_where_a_learned_prior_and_the_picture_agree():
    """There the gradient of both together is zero."""
    decoder, prior = Linear(), FlowPrior(WHAT, 2, 6).double()
    for parameter in prior.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    image, others, where, look = seen()
    found = RefinedLooks(decoder, 2_000, SCALE, FRAMES, prior)(image, others, where, *look)
    moved = found.loc.clone().requires_grad_()
    pictures = (where[:, :1] * (moved @ decoder.basis.detach())).unsqueeze(-1)
    error = ((image.flatten(1) - others).unsqueeze(-1) - pictures).square().sum()
    fit = Flow(prior).log_prob(moved).sum() - FRAMES / (2 * SCALE**2) * error
    (gradient,) = torch.autograd.grad(fit, moved)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-4, rtol=0)


def test_bad_numbers_are_refused():
    refined = RefinedLooks(Linear())
    for field, value in (("steps", 0), ("scale", 0.0), ("frames", -1.0)):
        with pytest.raises(ValueError, match=f"`{field}`"):
            replace(refined, **{field: value})
