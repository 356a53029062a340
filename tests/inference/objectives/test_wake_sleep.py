"""Reweighted wake-sleep against its targets by enumeration."""

import copy
import itertools

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import nn

from whatwhere.examples.sqair import NetworkConfig, PriorConfig, build
from whatwhere.guides import AIRGuide
from whatwhere.inference.objectives import (
    VIMCO,
    DreamError,
    ReweightedWakeSleep,
    TooFewParticlesError,
    UnsupportedSiteError,
)
from whatwhere.inference.objectives.wake_sleep import _replace
from whatwhere.models import AIR
from whatwhere.models.components.provisional import Decision, Provisional


def wake_target(toy, num_particles, gradients_of):
    """E[sum_k w_k d log q(z_k)] of all parameters, over all tuples of particles."""
    log_q, log_prior, log_likelihood = toy.tables()
    log_w = (log_prior + log_likelihood - log_q).detach()
    tuples = torch.tensor(list(itertools.product(range(4), repeat=num_particles)))
    probability = log_q.detach()[tuples].sum(1).exp()
    return gradients_of(
        (probability * (log_w[tuples].softmax(1) * log_q[tuples]).sum(1)).sum(), toy.parameters
    )


@pytest.mark.parametrize("num_particles", [2, 3])
def test_wake_phases_estimate_their_targets(toy, num_particles, gradients_of):
    of_guide = len(list(toy.guide.parameters()))
    got = toy.expected_gradients(ReweightedWakeSleep(num_particles))
    model = toy.exact_gradients(num_particles)[of_guide:]
    torch.testing.assert_close(got[of_guide:], model, rtol=1e-9, atol=1e-9)
    guide = wake_target(toy, num_particles, gradients_of)[:of_guide]
    torch.testing.assert_close(got[:of_guide], guide, rtol=1e-9, atol=1e-9)


def test_target_of_the_wake_phase_tends_to_the_forward_divergence(toy, gradients_of):
    """The bias of self-normalisation falls with the number of particles."""
    log_q, log_prior, log_likelihood = toy.tables()
    posterior = (log_prior + log_likelihood).softmax(0).detach()
    exact = gradients_of((posterior * log_q).sum(), toy.parameters)[0]
    biases = [
        (wake_target(toy, num_particles, gradients_of)[0] - exact).abs().sum()
        for num_particles in (1, 2, 4, 6)
    ]
    assert biases[0] > biases[1] > biases[2] > biases[3]


class AutoregressiveGuide:
    """u ~ N(a, 1), then y ~ N(u + b, 1): the second density must send nothing through the first draw."""

    def __init__(self):
        self.a, self.b = nn.Parameter(torch.tensor(0.3)), nn.Parameter(torch.tensor(-0.2))

    def guide(self):
        with pyro.plate("data", 2, dim=-1):
            u = pyro.sample("u", dist.Normal(self.a, 1.0))
            pyro.sample("y", dist.Normal(u + self.b, 1.0))

    def model(self):
        with pyro.plate("data", 2, dim=-1):
            u = pyro.sample("u", dist.Normal(0.0, 1.0))
            y = pyro.sample("y", dist.Normal(0.5 * u, 1.0))
            pyro.sample("x", dist.Normal(u + y, 1.0), obs=torch.tensor([0.4, -0.9]))


def test_no_gradient_goes_through_a_draw(with_values):
    pair, noise = AutoregressiveGuide(), torch.randn(2, 3, 2)
    draw = lambda e: lambda fn: fn.loc + fn.scale * e  # noqa: E731
    guide = with_values(pair.guide, {"u": draw(noise[0]), "y": draw(noise[1])})
    loss, _ = ReweightedWakeSleep(3).evaluate(pair.model, guide)
    got = torch.stack(torch.autograd.grad(-loss, [pair.a, pair.b]))
    u = 0.3 + noise[0]
    y = u - 0.2 + noise[1]
    x = torch.tensor([0.4, -0.9])
    log_w = sum(
        dist.Normal(loc, 1.0).log_prob(value) * sign
        for value, loc, sign in ((u, 0.0, 1), (y, 0.5 * u, 1), (x, u + y, 1), (u, 0.3, -1), (y, u - 0.2, -1))
    )
    weight = log_w.softmax(0)
    torch.testing.assert_close(got, torch.stack([(weight * e).sum() for e in noise]))


class Weather:
    """A bit and one bit observed of each of two days; the guide reads both days."""

    def __init__(self, split):
        self.split = split
        self.m = nn.Parameter(torch.tensor([0.4, 1.2, -0.7]))
        self.v = nn.Parameter(torch.tensor([0.2, 0.5, -0.3]))

    def model(self, x):
        m = self.m
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Bernoulli(logits=m[0]))
            for t in range(2):
                day = dist.Bernoulli(logits=m[1] * z + m[2] * t)
                pyro.sample(f"x/{t}", day, obs=x[:, t] if self.split else x[:, t].clone())

    def guide(self, x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Bernoulli(logits=self.logit(x)))

    def logit(self, x):
        return self.v[0] + x @ self.v[1:]

    def sleep_target(self, gradients_of):
        """E_{p(z, x)}[d log q(z | x)] by enumeration."""
        total = 0.0
        for z, *x in itertools.product((0.0, 1.0), repeat=3):
            z, x, m = torch.tensor(z), torch.tensor(x), self.m.detach()
            log_p = dist.Bernoulli(logits=m[0]).log_prob(z)
            log_p = log_p + dist.Bernoulli(logits=m[1] * z + m[2] * torch.arange(2.0)).log_prob(x).sum()
            total = total + log_p.exp() * dist.Bernoulli(logits=self.logit(x)).log_prob(z)
        return gradients_of(total, [self.v, self.m])


@pytest.mark.parametrize("dream", [None, lambda sampled: (torch.stack([sampled["x/0"], sampled["x/1"]], 1),)])
def test_sleep_phase_estimates_its_target(dream, gradients_of):
    """All that the model can make up, one beside the other as data, each with its probability."""
    weather = Weather(split=dream is None)
    every = torch.tensor(list(itertools.product((0.0, 1.0), repeat=3)))
    m = weather.m.detach()
    probability = dist.Bernoulli(logits=m[0]).log_prob(every[:, 0])
    for t in range(2):
        probability = probability + dist.Bernoulli(logits=m[1] * every[:, 0] + m[2] * t).log_prob(
            every[:, t + 1]
        )
    probability = probability.exp()

    def model(x):
        model.runs += 1
        if model.runs == 1:
            return weather.model(x)
        with pyro.plate("data", 8, dim=-1):
            pyro.sample("z", dist.Bernoulli(every[:, 0]))
            for t in range(2):
                day = dist.Bernoulli(every[:, t + 1])
                pyro.sample(f"x/{t}", day, obs=x[:, t] if weather.split else x[:, t].clone())
        return None

    model.runs = 0
    objective = ReweightedWakeSleep(1, sleep=1.0, dream=dream)
    objective._reduce = lambda per_datum: (probability * per_datum).sum()
    loss, _ = objective.evaluate(model, weather.guide, torch.zeros(8, 2))
    got = gradients_of(-loss, [weather.v])
    torch.testing.assert_close(got, weather.sleep_target(gradients_of)[:1])


class DecidedLater:
    """A place is drawn by the guide, and then whether anything is there; nothing is observed."""

    def __init__(self):
        self.v = nn.Parameter(torch.tensor([2.0, -0.3, 0.2, 0.9]))

    def guide(self):
        v, present = self.v, Decision("present")
        with pyro.plate("data", 40_000, dim=-1):
            where = pyro.sample("where", Provisional(dist.Normal(v[0], v[1].exp()), present))
            present.settle(pyro.sample("present", dist.Bernoulli(logits=v[2] + v[3] * where)) > 0)

    def model(self):
        with pyro.plate("data", 40_000, dim=-1):
            present = pyro.sample("present", dist.Bernoulli(0.4))
            with poutine.mask(mask=present > 0):
                pyro.sample("where", dist.Normal(-0.5, 0.7))


def test_asleep_the_guide_draws_itself_what_it_does_not_use(gradients_of):
    """What the model draws where nothing is means nothing; E_{q(where)} log q(absent | where) is learned."""
    pair = DecidedLater()
    objective = ReweightedWakeSleep(1, sleep=1.0, reduction="mean")
    got = gradients_of(-objective.evaluate(pair.model, pair.guide)[0], [pair.v])[0]
    v, grid = pair.v, torch.linspace(-6, 6, 2001)
    weight = dist.Normal(0.0, 1.0).log_prob(grid).exp() * 12 / 2000
    there, elsewhere = -0.5 + 0.7 * grid, (v[0] + v[1].exp() * grid).detach()
    present = dist.Normal(v[0], v[1].exp()).log_prob(there) + (v[2] + v[3] * there).sigmoid().log()
    absent = (-v[2] - v[3] * elsewhere).sigmoid().log()
    exact = gradients_of((weight * (0.4 * present + 0.6 * absent)).sum(), [v])[0]
    torch.testing.assert_close(got, exact, rtol=0, atol=0.05)


def test_share_of_sleep_mixes_the_two_gradients(toy, gradients_of):
    def gradient(sleep):
        torch.manual_seed(3)
        loss, _ = ReweightedWakeSleep(4, sleep=sleep).evaluate(toy.model, toy.guide, toy.x)
        return gradients_of(loss, toy.parameters)

    def observe(x):
        w = toy.model.w
        with pyro.plate("data", len(x), dim=-1):
            z0 = pyro.sample("z/0", dist.Bernoulli(logits=w[0]))
            z1 = pyro.sample("z/1", dist.Bernoulli(logits=w[1] + w[2] * z0))
            pyro.sample("x", dist.Normal(w[3] * z0 + w[4] * z1, 0.7), obs=x)

    toy.model.forward = observe
    wake, half, asleep = gradient(0.0), gradient(0.25), gradient(1.0)
    for first, mixed, last in zip(wake, half, asleep, strict=True):
        torch.testing.assert_close(mixed, 0.75 * first + 0.25 * last)
    assert not torch.allclose(wake[0], asleep[0])
    of_guide = len(list(toy.guide.parameters()))
    torch.testing.assert_close(wake[of_guide:], asleep[of_guide:])


def test_bound_is_that_of_vimco(toy, with_values):
    for _, values in itertools.islice(toy.enumerate(2), 3, 6):
        guide = with_values(toy.guide, values)
        ours, vimco = (o.evaluate(toy.model, guide, toy.x) for o in (ReweightedWakeSleep(2), VIMCO(2)))
        torch.testing.assert_close(ours, vimco)


def test_guide_is_given_the_images_that_air_makes_up():
    torch.set_default_dtype(torch.float32)
    model, guide = AIR(image_shape=(1, 20, 20)), AIRGuide(image_shape=(1, 20, 20))
    seen = []
    guide.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    images = torch.rand(3, 1, 20, 20)
    loss, _ = ReweightedWakeSleep(2, sleep=0.5)(model, guide)(images)
    loss.backward()
    assert seen[0] is images
    assert seen[1].shape == images.shape
    assert not torch.isclose(seen[1], images).any()
    assert seen[1].std() == pytest.approx(0.3, rel=0.3)
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in guide.parameters())


def test_guide_is_given_the_videos_that_sqair_makes_up():
    """Its frames are views of the argument, and come back each in its place."""
    torch.set_default_dtype(torch.float32)
    network = NetworkConfig(
        image_shape=(1, 12, 12), max_count=2, what_size=3, glimpse_size=5, hidden=8, narrow=6
    )
    model, guide = build(network, PriorConfig())
    guide.latent_encoder = copy.deepcopy(guide.latent_encoder)
    seen, drawn = [], {}
    guide.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    video = torch.rand(2, 3, 1, 12, 12)

    def recording(video):
        with poutine.trace() as tracer:
            model(video)
        drawn.update({name: site["value"] for name, site in tracer.trace.nodes.items() if name[:2] == "x/"})

    loss, _ = ReweightedWakeSleep(2, sleep=1.0).evaluate(recording, guide, video)
    loss.backward()
    assert seen[0] is video
    for t in range(3):
        torch.testing.assert_close(seen[1][:, t], drawn[f"x/{t}"].squeeze(0), rtol=0, atol=0)
    assert not torch.isclose(seen[1], video).any()
    assert all(torch.isfinite(p.grad).all() for p in guide.parameters() if p.grad is not None)
    assert guide.propagation.presence_head[-1].bias.grad is not None


def test_dreaming_reads_nothing_back_from_the_device(host_reads):
    weather = Weather(split=True)
    with pyro.validation_enabled(False), host_reads() as reads:
        ReweightedWakeSleep(3, sleep=0.5).evaluate(weather.model, weather.guide, torch.ones(3, 2))[
            0
        ].backward()
    assert reads.found == []


def test_data_that_no_argument_holds_are_refused():
    weather = Weather(split=False)
    with pytest.raises(DreamError, match=r"site `x/0` observes to be a tensor among .* a function `dream`"):
        ReweightedWakeSleep(2, sleep=0.5).evaluate(weather.model, weather.guide, torch.ones(3, 2))
    ReweightedWakeSleep(2).evaluate(weather.model, weather.guide, torch.ones(3, 2))


def test_data_observed_in_part_are_refused():
    weather = Weather(split=True)
    with pytest.raises(DreamError, match=r"all of the argument .* of shape \(3, 5\), but 2 sites"):
        ReweightedWakeSleep(2, sleep=0.5).evaluate(
            weather.model, lambda x: weather.guide(x[:, :2]), torch.ones(3, 5)
        )


def test_a_view_of_more_data_is_replaced_alone():
    """The argument is a slice of a larger tensor, as a shortened clip is."""
    weather, whole = Weather(split=True), torch.zeros(40, 6)
    seen = []

    def guide(x):
        seen.append(x)
        weather.guide(x)

    ReweightedWakeSleep(2, sleep=0.5).evaluate(weather.model, guide, whole[:, 1:5:3])
    assert seen[1].shape == (40, 2)
    assert set(seen[1].flatten().tolist()) == {0.0, 1.0}
    assert not whole.any()


class InContext:
    """z ~ N(c, 1) and x ~ N(z, 1) of a known c, and a guide that is shown all its arguments."""

    def __init__(self):
        self.w, self.seen = nn.Parameter(torch.tensor(0.4)), []

    def model(self, x, context, *others):
        with pyro.plate("data", 3, dim=-1):
            z = pyro.sample("z", dist.Normal(context, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(self, x, context, *others):
        self.seen.append((x, context, *others))
        with pyro.plate("data", 3, dim=-1):
            pyro.sample("z", dist.Normal(self.w * x + context, 1.0))


@pytest.mark.parametrize(
    "take",
    [
        lambda pair: pair.unbind(0),
        lambda pair: pair.t().contiguous().unbind(1),
        lambda pair: [part[0] for part in pair.chunk(2)],
        lambda pair: pair.flatten().split(3),
    ],
    ids=["rows", "columns", "chunk", "split"],
)
def test_an_unobserved_view_of_the_tensor_that_holds_the_data_is_left(take):
    pair = InContext()
    x, context = take(torch.tensor([[1.0, 2.0, 3.0], [100.0, 200.0, 300.0]]))
    ReweightedWakeSleep(2, sleep=0.5).evaluate(pair.model, pair.guide, x, context)
    assert pair.seen[1][1] is context
    assert not torch.isclose(pair.seen[1][0], x).any()
    assert ((pair.seen[1][0] - context).abs() < 20).all()  # ten deviations of N(c, 2)
    assert x.tolist() == [1.0, 2.0, 3.0]


def test_every_argument_with_the_data_is_made_of_the_same_sample():
    """Among them one whose elements are seen several times."""
    pair, whole = InContext(), torch.zeros(5, 3)
    x = whole[2]
    repeated = x.expand(4, 3)
    ReweightedWakeSleep(2, sleep=0.5).evaluate(pair.model, pair.guide, x, torch.ones(3), x[1:], repeated)
    made_up, _, tail, several = pair.seen[1]
    assert made_up.all()
    assert torch.equal(tail, made_up[1:])
    assert torch.equal(several, made_up.expand(4, 3))
    assert not whole.any()


@pytest.mark.parametrize(
    "part", [lambda whole: whole, lambda whole: whole[:, 1:], lambda whole: whole[1:3, 2]]
)
def test_an_argument_of_which_only_a_part_is_observed_is_refused(part):
    pair, whole = InContext(), torch.zeros(5, 3)
    with pytest.raises(DreamError, match=r"but 1 sites \(`x` and so on\) are a part of it"):
        ReweightedWakeSleep(2, sleep=0.5).evaluate(
            pair.model, pair.guide, whole[2], torch.ones(3), part(whole)
        )


def test_data_that_are_observed_twice_are_refused():
    """Two samples of one element would be two values of it."""

    def model(x):
        with pyro.plate("data", 3, dim=-1):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            for i in range(2):
                pyro.sample(f"x/{i}", dist.Normal(z, 1.0), obs=x)

    def guide(x):
        with pyro.plate("data", 3, dim=-1):
            pyro.sample("z", dist.Normal(torch.zeros(3, requires_grad=True) + x, 1.0))

    with pytest.raises(DreamError, match=r"2 sites \(`x/0` and so on\) are some of it twice"):
        ReweightedWakeSleep(2, sleep=0.5).evaluate(model, guide, torch.zeros(3))
    once = InContext()
    with pytest.raises(DreamError, match=r"1 sites \(`x` and so on\) are some of it twice"):
        ReweightedWakeSleep(2, sleep=0.5).evaluate(
            once.model, once.guide, torch.zeros(()).expand(3), torch.ones(3)
        )


def test_data_that_an_argument_holds_in_part_are_refused():
    """The guide would be given half of what is made up."""
    pair, whole = InContext(), torch.zeros(3)
    with pytest.raises(DreamError, match=r"site `x` observes to be a tensor among"):
        ReweightedWakeSleep(2, sleep=0.5).evaluate(
            lambda x, context: pair.model(whole, context), pair.guide, whole[:1], torch.ones(3)
        )


def test_data_that_are_seen_as_another_type_are_refused():
    pair, bits = InContext(), torch.zeros(3, dtype=torch.int64)
    with pytest.raises(DreamError, match=r"of its type torch\.int64, got torch\.float64"):
        ReweightedWakeSleep(2, sleep=0.5).evaluate(
            pair.model, pair.guide, bits.view(torch.float64), torch.ones(3), bits
        )


def test_views_are_told_apart_on_a_device_without_memory():
    """All tensors on `meta` have one address."""
    whole, other = torch.empty(2, 3, device="meta"), torch.empty(2, 3, device="meta")
    given = {f"x/{t}": whole[:, t] for t in range(3)}
    dreamt = {name: torch.empty(2, device="meta") for name in given}
    (new, left), _ = _replace(given, dreamt, (whole, other), {})
    assert left is other
    assert new is not whole
    assert (new.shape, new.stride(), new.device) == (whole.shape, whole.stride(), whole.device)
    context, x = whole.unbind(0)
    (left, new), _ = _replace({"x": x}, {"x": torch.empty(3, device="meta")}, (context, x), {})
    assert left is context
    assert new is not x


def test_factors_cannot_be_dreamt():
    def program(observe):
        with pyro.plate("data", 2, dim=-1):
            pyro.sample("z", dist.Bernoulli(logits=torch.zeros(2).requires_grad_()))
            if observe:
                pyro.factor("energy", torch.zeros(2))

    with pytest.raises(UnsupportedSiteError, match="site `energy` is a factor"):
        ReweightedWakeSleep(2, sleep=0.1).evaluate(lambda: program(True), lambda: program(False))


def test_one_particle_awake_is_refused():
    with pytest.raises(TooFewParticlesError, match="use `sleep=1`, or `Reinforce` or `NVIL`"):
        ReweightedWakeSleep(1)
    ReweightedWakeSleep(1, sleep=1.0)


def test_bad_share_of_sleep_is_refused():
    with pytest.raises(ValueError, match=r"`sleep` must be in \[0, 1\], got 1.5"):
        ReweightedWakeSleep(2, sleep=1.5)
