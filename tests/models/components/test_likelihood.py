import pyro.distributions as dist
import torch

from whatwhere.models.components.likelihood import GaussianImage


def test_it_is_a_normal_of_every_pixel():
    loc, value = torch.rand(4, 1, 3, 5, 6), torch.rand(4, 2, 3, 5, 6)
    ours, normal = GaussianImage(loc, 0.3), dist.Normal(loc, 0.3).to_event(3)
    assert (ours.batch_shape, ours.event_shape) == (normal.batch_shape, normal.event_shape)
    torch.testing.assert_close(ours.log_prob(value), normal.log_prob(value))
    torch.testing.assert_close(ours.expand((4, 2)).log_prob(value), normal.log_prob(value))
    for moment in ("mean", "variance", "stddev"):
        torch.testing.assert_close(getattr(ours, moment), getattr(normal, moment))
        torch.testing.assert_close(
            getattr(ours.expand((4, 2)), moment), getattr(normal.expand((4, 2)), moment)
        )
