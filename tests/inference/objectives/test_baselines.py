import pytest
import torch
from pyro import distributions as dist

from whatwhere.inference.objectives import BaselineError
from whatwhere.inference.objectives.baselines import baseline_of, site_mask

SHAPE = torch.Size((3, 2))


def site(**options):
    return {"name": "z_pres/1", "infer": {"baseline": options} if options else {}, "mask": None, "fn": None}


def test_site_without_annotation():
    assert baseline_of(site(), SHAPE) is None


@pytest.mark.parametrize("shape", [(), (2,), (1, 2), (3, 2)])
def test_shapes(shape):
    value = torch.randn(shape)
    got = baseline_of(site(baseline_value=value), SHAPE)
    assert got.shape == SHAPE
    assert torch.equal(got, value.expand(SHAPE))


@pytest.mark.parametrize("shape", [(3,), (2, 1), (3, 1), (1, 1), (2, 2), (1, 3, 2)])
def test_shapes_that_would_broadcast_wrongly(shape):
    with pytest.raises(BaselineError, match=r"baseline of site `z_pres/1` to have shape \(3, 2\).* got"):
        baseline_of(site(baseline_value=torch.zeros(shape)), SHAPE)


def test_network_and_its_detached_input():
    network = torch.nn.Linear(4, 1)
    features = torch.randn(3, 2, 4, requires_grad=True)

    def predict(inputs):
        return network(inputs["features"])[..., 0]

    got = baseline_of(site(nn_baseline=predict, nn_baseline_input={"features": features}), SHAPE)
    torch.testing.assert_close(got, network(features)[..., 0])
    got.sum().backward()
    assert features.grad is None
    assert network.weight.grad is not None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"baseline_valu": 1}, r"keys of .*, got `baseline_valu`"),
        (
            {"use_decaying_avg_baseline": True},
            r"`use_decaying_avg_baseline` at site `z_pres/1` is not supported",
        ),
        ({"nn_baseline_input": 1}, r"either `baseline_value` or `nn_baseline`"),
        ({"nn_baseline": abs, "baseline_value": torch.zeros(2)}, r"either `baseline_value` or `nn_baseline`"),
    ],
)
def test_annotations_that_are_not_understood(options, message):
    with pytest.raises(BaselineError, match=message):
        baseline_of(site(**options), SHAPE)


def test_mask_of_a_site_is_that_of_handler_and_distribution():
    one, two = torch.tensor([True, True, False]), torch.tensor([True, False, True])
    fn = dist.Bernoulli(torch.full((3,), 0.5))
    assert site_mask({"mask": None, "fn": fn}) is True
    assert torch.equal(site_mask({"mask": one, "fn": fn}), one)
    assert torch.equal(site_mask({"mask": None, "fn": fn.mask(two)}), two)
    assert torch.equal(site_mask({"mask": one, "fn": fn.mask(two)}), one & two)
