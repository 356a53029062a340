"""Estimators for reparameterised sites against gradients by quadrature over the noise, and enumeration."""

import copy
import itertools
import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from whatwhere.examples.sqair import NetworkConfig, PriorConfig, build
from whatwhere.inference.objectives import IWAE, OVIS, VIMCO, NoGradientError, SQAIRSignal
from whatwhere.models.components.provisional import Decision, Provisional


def normal(value, loc, scale):
    return dist.Normal(torch.as_tensor(loc), torch.as_tensor(scale)).log_prob(value)


def bernoulli(value, logit):
    return dist.Bernoulli(logits=torch.as_tensor(logit)).log_prob(value)


class Chain:
    """Guide: u, a bit z given u, y given both. Every node of a quadrature is a datum with the same x."""

    noises, bits, x = 2, 1, 0.6

    def __init__(self):
        self.v = nn.Parameter(torch.tensor([0.3, -0.4, 0.2, 0.5, -0.1, 0.6, 0.4, -0.3]))
        self.w = nn.Parameter(torch.tensor([0.7, 0.5, -0.4, 0.6]))
        self.parameters = [self.v, self.w]

    def guide(self, size):
        v = self.v
        with pyro.plate("data", size, dim=-1):
            u = pyro.sample("u", dist.Normal(v[0], v[1].exp()))
            z = pyro.sample("z", dist.Bernoulli(logits=v[2] + v[3] * u))
            pyro.sample("y", dist.Normal(v[4] + v[5] * z + v[6] * u, v[7].exp()))

    def model(self, size):
        w = self.w
        with pyro.plate("data", size, dim=-1):
            u = pyro.sample("u", dist.Normal(0.0, 1.0))
            z = pyro.sample("z", dist.Bernoulli(logits=w[0] * u))
            y = pyro.sample("y", dist.Normal(w[1] * z, 1.0))
            pyro.sample("x", dist.Normal(w[2] * u + w[3] * z + y, 0.9), obs=torch.full((size,), self.x))

    def values(self, noise, bits):
        draw = lambda e: lambda fn: fn.loc + fn.scale * e  # noqa: E731
        return {"u": draw(noise[0]), "z": bits[0], "y": draw(noise[1])}

    def draws(self, noise, bits):
        v, z = self.v, bits[0]
        u = v[0] + v[1].exp() * noise[0]
        return u, z, v[4] + v[5] * z + v[6] * u + v[7].exp() * noise[1]

    def log_q(self, draws):
        """Of the continuous and of the discrete variables, and 0: there is no factor."""
        v, (u, z, y) = self.v, draws
        continuous = normal(u, v[0], v[1].exp()) + normal(y, v[4] + v[5] * z + v[6] * u, v[7].exp())
        return continuous, bernoulli(z, v[2] + v[3] * u), 0.0

    def log_p(self, draws):
        w, (u, z, y) = self.w, draws
        prior = normal(u, 0.0, 1.0) + bernoulli(z, w[0] * u) + normal(y, w[1] * z, 1.0)
        return prior + normal(torch.tensor(self.x), w[2] * u + w[3] * z + y, 0.9)


class DrawnBeforePresence(Chain):
    """Guide: where, and then whether it is used; a factor takes the log-probability of unused draws out."""

    noises, bits = 1, 1

    def __init__(self):
        super().__init__()
        self.v = nn.Parameter(torch.tensor([0.3, -0.4, 0.2, 0.8]))
        self.parameters = [self.v, self.w]

    def guide(self, size):
        v = self.v
        with pyro.plate("data", size, dim=-1):
            fn = dist.Normal(v[0], v[1].exp())
            where = pyro.sample("where", fn)
            present = pyro.sample("present", dist.Bernoulli(logits=v[2] + v[3] * where))
            unused = torch.where(present > 0, 0.0, -fn.log_prob(where))
            pyro.factor("unused", unused, has_rsample=True)

    def model(self, size):
        w = self.w
        with pyro.plate("data", size, dim=-1):
            present = pyro.sample("present", dist.Bernoulli(logits=w[0]))
            with pyro.poutine.mask(mask=present > 0):
                where = pyro.sample("where", dist.Normal(w[1], 1.0))
            pyro.sample("x", dist.Normal(present * where, 0.9), obs=torch.full((size,), self.x))

    def values(self, noise, bits):
        return {"where": lambda fn: fn.loc + fn.scale * noise[0], "present": bits[0]}

    def draws(self, noise, bits):
        return self.v[0] + self.v[1].exp() * noise[0], bits[0]

    def log_q(self, draws):
        v, (where, present) = self.v, draws
        density = normal(where, v[0], v[1].exp())
        return density, bernoulli(present, v[2] + v[3] * where), -(1 - present) * density

    def log_p(self, draws):
        w, (where, present) = self.w, draws
        prior = bernoulli(present, w[0]) + present * normal(where, w[1], 1.0)
        return prior + normal(torch.tensor(self.x), present * where, 0.9)


class DecidedLater(DrawnBeforePresence):
    """The same with a provisional draw instead of a factor."""

    def guide(self, size):
        v, present = self.v, Decision("present")
        with pyro.plate("data", size, dim=-1):
            where = pyro.sample("where", Provisional(dist.Normal(v[0], v[1].exp()), present))
            present.settle(pyro.sample("present", dist.Bernoulli(logits=v[2] + v[3] * where)) > 0)

    def values(self, noise, bits):
        return {"where": lambda fn: fn.base_dist.loc + fn.base_dist.scale * noise[0], "present": bits[0]}

    def log_q(self, draws):
        density, presence, factor = super().log_q(draws)
        return density + factor, presence, 0.0


class Quadrature:
    """All combinations of Gauss-Hermite nodes and of bits, of K particles, one beside the other as data."""

    def __init__(self, pair, num_particles, nodes):
        self.pair = pair
        points, weights = np.polynomial.hermite_e.hermegauss(nodes)
        count = pair.noises * num_particles
        grid = torch.tensor(list(itertools.product(points, repeat=count)))
        weight = torch.tensor(list(itertools.product(weights / weights.sum(), repeat=count))).prod(1)
        bits = torch.tensor(list(itertools.product((0.0, 1.0), repeat=pair.bits * num_particles)))
        size = len(grid) * len(bits)
        self.noise = grid.repeat_interleave(len(bits), 0).T.reshape(pair.noises, num_particles, size)
        self.bits = bits.repeat(len(grid), 1).T.reshape(pair.bits, num_particles, size)
        self.weight = weight.repeat_interleave(len(bits))

    def parts(self):
        """log w and the sum over particles of log q of the bits; and all values."""
        draws = self.pair.draws(self.noise, self.bits)
        continuous, discrete, factor = self.pair.log_q(draws)
        return self.pair.log_p(draws) - continuous - discrete - factor, discrete.sum(0), draws

    def exact(self, gradients_of):
        log_w, log_bits, _ = self.parts()
        bound = log_w.logsumexp(0) - math.log(len(log_w))
        return gradients_of((self.weight * log_bits.exp() * bound).sum(), self.pair.parameters)

    def stl_bias(self, gradients_of):
        log_w, log_bits, draws = self.parts()
        direct = self.pair.log_q(tuple(value.detach() for value in draws))[0]
        term = (log_w.softmax(0).detach() * direct).sum(0)
        return gradients_of((self.weight * log_bits.exp().detach() * term).sum(), self.pair.parameters)

    def expected(self, objective, with_values, gradients_of):
        probability = self.weight * self.parts()[1].exp().detach()
        objective._reduce = lambda per_datum: (probability * per_datum).sum()
        guide = with_values(self.pair.guide, self.pair.values(self.noise, self.bits))
        loss, _ = objective.evaluate(self.pair.model, guide, len(probability))
        return gradients_of(-loss, self.pair.parameters)


PAIRS = [(Chain, 12), (DrawnBeforePresence, 40), (DecidedLater, 40)]


@pytest.mark.parametrize(("pair", "nodes"), PAIRS)
@pytest.mark.parametrize(
    "objective",
    [
        lambda: VIMCO(2),
        lambda: VIMCO(2, continuous="dreg"),
        lambda: VIMCO(2, continuous="dreg", mask_score=False),
        lambda: OVIS(2, continuous="dreg"),
    ],
    ids=["pathwise", "dreg", "unmasked", "OVIS"],
)
def test_expected_gradient_is_that_of_the_bound(pair, nodes, objective, with_values, gradients_of):
    quadrature = Quadrature(pair(), 2, nodes)
    got = quadrature.expected(objective(), with_values, gradients_of)
    torch.testing.assert_close(got, quadrature.exact(gradients_of), rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize(("pair", "nodes"), PAIRS)
def test_sticking_the_landing_has_the_documented_bias(pair, nodes, with_values, gradients_of):
    quadrature = Quadrature(pair(), 2, nodes)
    got = quadrature.expected(VIMCO(2, continuous="stl"), with_values, gradients_of)
    bias = quadrature.stl_bias(gradients_of)
    assert bias[0].abs().max() > 0.01
    assert not bias[1].any()
    for ours, exact, extra in zip(got, quadrature.exact(gradients_of), bias, strict=True):
        torch.testing.assert_close(ours, exact + extra, rtol=1e-4, atol=2e-6)


class Tower:
    """z1 ~ N(0, 1), z2 ~ N(z1, 1), x ~ N(z2, 1); the guide's parameters start at the posterior."""

    noises, bits, size = 2, 0, 4

    def __init__(self, away=0.0):
        start = torch.tensor([1 / 3, 0.5 * math.log(2 / 3), 0.5, 0.5, 0.5 * math.log(1 / 2)])
        self.v = nn.Parameter(start + away * torch.tensor([0.3, -0.2, 0.4, -0.5, 0.3]))
        self.w = nn.Parameter(torch.tensor([0.0, 0.0]))
        self.x = torch.tensor(0.8)
        self.parameters = [self.v, self.w]

    def model(self, size):
        with pyro.plate("data", size, dim=-1):
            z1 = pyro.sample("z1", dist.Normal(self.w[0], 1.0))
            z2 = pyro.sample("z2", dist.Normal(self.w[1] + z1, 1.0))
            pyro.sample("x", dist.Normal(z2, 1.0), obs=self.x.expand(size))

    def guide(self, size):
        v = self.v
        with pyro.plate("data", size, dim=-1):
            z1 = pyro.sample("z1", dist.Normal(v[0] * self.x, v[1].exp()))
            pyro.sample("z2", dist.Normal(v[2] * z1 + v[3] * self.x, v[4].exp()))

    def values(self, noise, bits):
        draw = lambda e: lambda fn: fn.loc + fn.scale * e  # noqa: E731
        return {"z1": draw(noise[0]), "z2": draw(noise[1])}

    def draws(self, noise, bits):
        v = self.v
        z1 = v[0] * self.x + v[1].exp() * noise[0]
        return z1, v[2] * z1 + v[3] * self.x + v[4].exp() * noise[1]

    def log_q(self, draws):
        v, (z1, z2) = self.v, draws
        first, second = (
            normal(z1, v[0] * self.x, v[1].exp()),
            normal(z2, v[2] * z1 + v[3] * self.x, v[4].exp()),
        )
        return first + second, torch.zeros(z1.shape), 0.0

    def log_p(self, draws):
        z1, z2 = draws
        return normal(z1, self.w[0], 1.0) + normal(z2, self.w[1] + z1, 1.0) + normal(self.x, z2, 1.0)


@pytest.mark.parametrize("continuous", ["stl", "dreg"])
@pytest.mark.parametrize("num_particles", [1, 5])
def test_no_variance_where_the_guide_is_the_posterior(continuous, num_particles, gradients_of):
    """The second variable is drawn given the first: a guide of independent variables would not tell."""
    tower = Tower()
    loss, _ = IWAE(num_particles, continuous=continuous).evaluate(tower.model, tower.guide, 4)
    assert gradients_of(loss, [tower.v])[0].abs().max() < 1e-12
    loss, _ = IWAE(num_particles).evaluate(tower.model, tower.guide, 4)
    assert gradients_of(loss, [tower.v])[0].abs().min() > 1e-3


@pytest.mark.parametrize("continuous", ["stl", "dreg"])
def test_one_particle_is_unbiased_for_both(continuous, with_values, gradients_of):
    quadrature = Quadrature(Tower(away=1.0), 1, 30)
    got = quadrature.expected(IWAE(1, continuous=continuous), with_values, gradients_of)
    torch.testing.assert_close(got, quadrature.exact(gradients_of), rtol=1e-9, atol=1e-9)


def test_one_particle_is_the_same_for_both(with_values, gradients_of):
    tower = Tower(away=1.0)
    guide = with_values(tower.guide, tower.values(torch.randn(2, 1, 4), None))
    stl, dreg, path = (
        gradients_of(IWAE(1, continuous=c).evaluate(tower.model, guide, 4)[0], tower.parameters)
        for c in ("stl", "dreg", "pathwise")
    )
    torch.testing.assert_close(stl, dreg)
    torch.testing.assert_close(stl[1], path[1])
    assert not torch.isclose(stl[0], path[0]).any()


def test_doubly_reparameterised_gradient_by_its_formula(with_values, gradients_of):
    """Sum of squared weights times the derivative of log w in the values, those moved by the parameters."""
    tower, noise = Tower(away=1.0), torch.randn(2, 3, 4)
    guide = with_values(tower.guide, tower.values(noise, None))
    got = gradients_of(-IWAE(3, continuous="dreg").evaluate(tower.model, guide, 4)[0], tower.parameters)
    draws = tower.draws(noise, None)
    fixed = Tower(away=1.0)
    values = tuple(value.detach().requires_grad_() for value in draws)
    log_w = fixed.log_p(values) - fixed.log_q(values)[0]
    slopes = torch.autograd.grad(log_w.sum(), values)
    weight = log_w.softmax(0).detach()
    moved = sum((weight**2 * slope * value).sum() for slope, value in zip(slopes, draws, strict=True))
    torch.testing.assert_close(got[0], gradients_of(moved, [tower.v])[0])
    held = tuple(value.detach() for value in draws)
    torch.testing.assert_close(got[1], gradients_of((weight * tower.log_p(held)).sum(), [tower.w])[0])


@pytest.mark.parametrize("continuous", ["stl", "dreg"])
def test_bound_and_diagnostics_are_those_of_the_pathwise_gradient(continuous, with_values):
    chain = Chain()
    guide = with_values(chain.guide, chain.values(torch.randn(2, 3, 5), (torch.rand(1, 3, 5) > 0.5).double()))
    loss, diagnostics = VIMCO(3).evaluate(chain.model, guide, 5)
    ours, same = VIMCO(3, continuous=continuous).evaluate(chain.model, guide, 5)
    torch.testing.assert_close(ours, loss)
    torch.testing.assert_close(same, diagnostics)


@pytest.mark.parametrize(("data_dim", "object_dim"), [(-1, -2), (-2, -1)])
def test_inner_plates_and_events(data_dim, object_dim, with_values):
    """Objects in a plate of their own, and vectors: what goes through the gates keeps its datum."""
    parameter = nn.Parameter(torch.tensor([[0.3, -0.2, 0.5], [0.1, 0.7, -0.6]]))  # one row a datum
    order = (lambda values: values) if data_dim == -1 else (lambda values: values.transpose(-3, -2))
    loc = order(parameter.unsqueeze(0))
    noise, x = torch.randn(3, 4, 2, 3), torch.randn(4, 2, 3)

    def program(z_loc, z_scale, observe):
        with pyro.plate("data", 2, dim=data_dim), pyro.plate("objects", 4, dim=object_dim):
            z = pyro.sample("z", dist.Normal(z_loc, z_scale).to_event(1))
            if observe:
                pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=order(x))

    guide = with_values(lambda: program(loc, 0.8, False), {"z": lambda fn: loc + 0.8 * order(noise)})
    objective = IWAE(3, continuous="dreg", max_plate_nesting=2)
    weights = torch.tensor([1.0, 5.0])
    objective._reduce = lambda per_datum: (weights * per_datum).sum()
    loss, _ = objective.evaluate(lambda: program(torch.zeros(3), 1.0, True), guide)
    (got,) = torch.autograd.grad(-loss, [parameter])
    p = parameter.detach()
    z = p + 0.8 * noise  # z.shape = (particles, objects, data, 3)
    log_w = (normal(z, 0.0, 1.0) + normal(x, z, 1.0) - normal(z, p, 0.8)).sum((1, 3))
    slope = -z + (x - z) + (z - p) / 0.8**2
    share = weights * log_w.softmax(0) ** 2
    torch.testing.assert_close(got, (share[:, None, :, None] * slope).sum((0, 1)))


@pytest.mark.parametrize("continuous", ["stl", "dreg"])
def test_sqairs_model_learns_as_with_the_pathwise_gradient(continuous, gradients_of):
    """The gradient of the model is the same, draw for draw; that of the guide is another estimate."""
    network = NetworkConfig(
        image_shape=(1, 12, 12), max_count=2, what_size=3, glimpse_size=5, hidden=8, narrow=6
    )
    model, guide = build(network, PriorConfig(stay_logit=0.5))
    guide.latent_encoder = copy.deepcopy(guide.latent_encoder)
    for parameter in guide.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    video, found = torch.rand(2, 3, 1, 12, 12), []
    for each in ("pathwise", continuous):
        torch.manual_seed(0)
        loss, _ = VIMCO(4, continuous=each)(model, guide)(video)
        found.append(gradients_of(loss, [*model.parameters(), *guide.parameters()]))
    cut = len(list(model.parameters()))
    (of_model, same), (of_guide, other) = (
        [each[i] for each in found] for i in (slice(cut), slice(cut, None))
    )
    torch.testing.assert_close(of_model, same)
    assert any(gradient.any() for gradient in of_model)
    assert not all(torch.allclose(a, b) for a, b in zip(of_guide, other, strict=True))


@pytest.mark.parametrize("continuous", ["stl", "dreg"])
@pytest.mark.parametrize("make", [VIMCO, OVIS, SQAIRSignal])
def test_guide_without_reparameterised_sites_is_refused(toy, continuous, make):
    message = rf'at least one reparameterised .* `continuous="{continuous}"` .* use `continuous="pathwise"`'
    with pytest.raises(NoGradientError, match=message):
        make(2, continuous=continuous).evaluate(toy.model, toy.guide, toy.x)


@pytest.mark.parametrize("continuous", ["stl", "dreg"])
def test_a_step_reads_nothing_back_from_the_device(continuous, host_reads):
    chain = Chain()
    with pyro.validation_enabled(False), host_reads() as reads:
        VIMCO(3, continuous=continuous).evaluate(chain.model, chain.guide, 5)[0].backward()
    assert reads.found == []


@pytest.mark.parametrize("continuous", ["stl", "dreg"])
def test_bound_can_be_computed_without_gradients(continuous):
    tower = Tower()
    objective = IWAE(3, continuous=continuous)
    exact = dist.Normal(0.0, math.sqrt(3)).log_prob(
        tower.x
    )  # of which every draw of the posterior has the weight
    assert objective.loss(tower.model, tower.guide, 4) == pytest.approx(-4 * exact.item())
    assert tower.v.grad is None
    assert objective.loss_and_grads(tower.model, tower.guide, 4) == pytest.approx(-4 * exact.item())
    assert tower.v.grad is not None


class Counted(torch.autograd.Function):
    """The identity, which counts how often a gradient comes back through it."""

    passes = 0

    @staticmethod
    def forward(ctx, value):
        return value.view_as(value)

    @staticmethod
    def backward(ctx, grad):
        Counted.passes += 1
        return grad


@pytest.mark.parametrize("continuous", ["pathwise", "stl", "dreg"])
def test_the_gradient_goes_through_the_model_once(continuous, monkeypatch):
    """What the estimators need besides is in the guide alone; models are the dear part."""
    monkeypatch.setattr(Counted, "passes", 0)
    loc = torch.zeros(5, requires_grad=True)

    def model():
        with pyro.plate("data", 5, dim=-1):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(Counted.apply(z), 1.0), obs=torch.ones(5))

    def guide():
        with pyro.plate("data", 5, dim=-1):
            pyro.sample("z", dist.Normal(loc, 1.0))

    IWAE(3, continuous=continuous).evaluate(model, guide)[0].backward()
    assert Counted.passes == 1
    assert loc.grad.any()
