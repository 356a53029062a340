"""The probability of an empty scene against its closed form."""

import pytest
import torch
from pyro import poutine
from torch.distributions import Normal

from whatwhere.examples.sqair import NetworkConfig, PriorConfig, build
from whatwhere.inference.evaluation import empty_scene_bound
from whatwhere.models import AIR
from whatwhere.models.priors import GeometricCount


def test_of_air_it_is_that_of_no_object_and_of_black_pixels():
    model = AIR(GeometricCount(2, 0.25), image_shape=(1, 28, 28), likelihood_scale=0.5)
    images = torch.rand(3, 1, 28, 28)
    none = torch.tensor(1 / (1 + 0.25 + 0.25**2)).log()  # of 0, 1 and 2 objects
    expected = none + Normal(0.0, 0.5).log_prob(images).sum((1, 2, 3))
    torch.testing.assert_close(empty_scene_bound(model, images), expected)


def test_of_sqair_it_is_that_of_statements_of_absence_and_of_its_background():
    network = NetworkConfig(
        image_shape=(1, 12, 12), max_count=2, what_size=3, glimpse_size=5, hidden=8, narrow=6
    )
    model, _ = build(network, PriorConfig(likelihood_scale=0.4), torch.rand(1, 12, 12))
    video = torch.rand(1, 3, 1, 12, 12)
    absent = {
        f"{phase}/z_pres/{t}/{i}": torch.zeros(1)
        for t in range(3)
        for i in range(2)
        for phase in ("discovery", "propagation")
        if t or phase == "discovery"
    }
    with torch.no_grad():
        trace = poutine.trace(poutine.condition(model, data=absent)).get_trace(video)
        trace.compute_log_prob()
    statements = sum(float(trace.nodes[name]["log_prob"].sum()) for name in absent)
    covered = torch.tensor(-10.0).sigmoid()  # where no window is
    pixels = Normal(covered * model.decoder.mean_image.detach(), 0.4).log_prob(video).sum()
    assert empty_scene_bound(model, video).item() == pytest.approx(statements + float(pixels), rel=1e-5)
