"""FIVO against enumeration of particles and ancestors, the Kalman filter, and the plain run of SQAIR."""

import itertools
import math
from functools import partial

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI
from torch import nn

from whatwhere.examples.sqair import NetworkConfig, PriorConfig, build
from whatwhere.inference.objectives import (
    FIVO,
    VIMCO,
    FrameError,
    TooFewParticlesError,
    fivo,
    frame_log_weights,
)
from whatwhere.inference.objectives.substitute import Substitute
from whatwhere.models.components.frames import Frames

K, T = 2, 3


class Program:
    """A chain of bits with a running sum, which the guide carries as a recurrent state."""

    def __init__(self, logit, observe):
        self.logit, self.observe = logit, observe

    def unroll(self, x):
        steps = [partial(self.step, t, x) for t in range(x.shape[1])]
        return Frames.of_data(len(x), (torch.zeros(len(x)), 0.0), steps)

    def step(self, t, x, state):
        before, total = state
        z = pyro.sample(f"z/{t}", dist.Bernoulli(logits=self.logit(t, x, before, total)))
        if self.observe:
            pyro.sample(f"x/{t}", dist.Normal(2 * z + t, 1.0), obs=x[:, t])
        return z, (z, total + z)

    def __call__(self, x):
        return self.unroll(x).run()


class Chain:
    """`x_t ~ N(2 z_t + t, 1)`, and a guide that sees the next observation and all bits so far."""

    def __init__(self):
        self.m = nn.Parameter(torch.tensor([0.3, -0.7, 1.8]))
        self.v = nn.Parameter(torch.tensor([0.1, 0.4, 0.5, -0.6]))
        self.parameters = [self.v, self.m]
        self.model, self.guide = Program(self.log_odds, True), Program(self.guess, False)
        self.x = torch.tensor([[0.4, 2.2, 2.5]])

    def log_odds(self, t, x, before, total):
        return self.m[0] if t == 0 else self.m[1] + self.m[2] * before

    def guess(self, t, x, before, total):
        v = self.v
        return v[0] + v[1] * (x[:, min(t + 1, x.shape[1] - 1)] - t) + v[2] * before + v[3] * total

    def frame(self, t, x, z, before, total):
        """log alpha and log q of one frame."""
        log_q = dist.Bernoulli(logits=self.guess(t, x, before, total)).log_prob(z)
        log_p = dist.Bernoulli(logits=self.log_odds(t, x, before, total) + 0 * z).log_prob(z)
        return log_p + dist.Normal(2 * z + t, 1.0).log_prob(x[:, t]) - log_q, log_q

    def evidence(self):
        m, x = self.m.detach(), self.x[0]
        total = 0.0
        for path in itertools.product((0.0, 1.0), repeat=T):
            z = torch.tensor(path)
            logits = torch.cat([m[:1], m[1] + m[2] * z[:-1]])
            log_p = dist.Bernoulli(logits=logits).log_prob(z)
            total = total + (log_p + dist.Normal(2 * z + torch.arange(T), 1.0).log_prob(x)).sum().exp()
        return total


class Everything:
    """All bits of all particles, and all ancestors after each frame but the last, side by side as data."""

    def __init__(self, chain):
        self.chain = chain
        bits = itertools.product((0.0, 1.0), repeat=K * T)
        links = list(itertools.product(range(K), repeat=K * (T - 1)))
        rows = [(z, a) for z in bits for a in links]
        self.z = torch.tensor([z for z, _ in rows]).T.reshape(T, K, -1)
        self.ancestors = torch.tensor([a for _, a in rows]).T.reshape(T - 1, K, -1)
        self.x = chain.x.expand(len(rows), -1)

    def estimate(self, objective, monkeypatch):
        links = iter(self.ancestors)
        monkeypatch.setattr(fivo, "draw_ancestors", lambda log_weight: next(links))
        values = {f"z/{t}": self.z[t] for t in range(T)}
        with Substitute(lambda site: values.get(site["name"])):
            return objective._estimate(self.chain.model, self.chain.guide, (self.x,), {})

    def by_hand(self, resample, whole=False):
        """Probability and result of every run of the filter; and what has the documented gradient.

        That is, for each segment, the expectation of its bound, where only the probability of its own draws
        has a derivative; and what has the bias of control variates.
        """
        before = total = torch.zeros(K, len(self.x))
        log_w = log_q_segment = torch.zeros(K, len(self.x))
        log_p_hat, past, terms, leaks = 0.0, 0.0, [], []
        columns = torch.arange(len(self.x))
        for t in range(T):
            alpha, log_q = self.chain.frame(t, self.x, self.z[t], before, total)
            log_w, log_q_segment = log_w + alpha, log_q_segment + log_q
            weight = log_w.exp()
            if t == T - 1:
                ends = torch.ones(len(self.x), dtype=torch.bool)
            elif resample == "ess":
                ends = weight.sum(0) ** 2 / (weight**2).sum(0) < K / 2 + self.shift
            else:
                ends = torch.full((len(self.x),), resample == "always")
            value = weight.mean(0).log()
            log_p_hat = log_p_hat + torch.where(ends, value if whole else value.detach(), 0.0)
            one = (log_q_segment - log_q_segment.detach()).sum(0).exp()
            terms.append(torch.where(ends, one * value, 0.0))
            control = log_w.detach().flip(0)  # the bound without one of two particles is the other's weight
            leaks.append(torch.where(ends, -(control * log_q_segment).sum(0), 0.0))
            past = past + torch.where(ends, log_q_segment.sum(0), 0.0)
            before, total = self.z[t], total + self.z[t]
            if t < T - 1:
                link = self.ancestors[t]
                share = (weight / weight.sum(0)).gather(0, link).prod(0).log()
                stay = torch.where((link == torch.arange(K)[:, None]).all(0), 0.0, -torch.inf)
                past = past + torch.where(ends, share, stay)
                link = torch.where(ends, link, torch.arange(K)[:, None])
                before, total = before[link, columns], total[link, columns]
                log_w = torch.where(ends, 0.0, log_w)
                log_q_segment = torch.where(ends, 0.0, log_q_segment)
        probability = past.exp() if whole else past.exp().detach()
        fixed = probability.detach()
        target, leak = (sum((fixed * each).sum() for each in kind) for kind in (terms, leaks))
        return probability, log_p_hat, target, leak

    shift = 0.0


@pytest.fixture
def everything():
    return Everything(Chain())


CRITERIA = ["never", "always", "ess"]


@pytest.fixture
def often(monkeypatch):
    """An effective sample size of two particles is never below one: the criterion is raised to 1.4."""
    monkeypatch.setattr(Everything, "shift", 0.4)
    threshold = lambda self, log_weight: log_weight.softmax(0).square().sum(0).reciprocal() < 1.4  # noqa: E731
    plain = FIVO._where_to_resample
    monkeypatch.setattr(
        FIVO,
        "_where_to_resample",
        lambda self, w: threshold(self, w) if self.resample == "ess" else plain(self, w),
    )


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("resample", CRITERIA)
def test_likelihood_is_unbiased(everything, resample, monkeypatch):
    estimate = everything.estimate(FIVO(K, resample=resample), monkeypatch)
    probability, log_p_hat, *_ = everything.by_hand(resample)
    torch.testing.assert_close(probability.sum(), torch.tensor(1.0))
    torch.testing.assert_close(estimate.bound, log_p_hat)
    torch.testing.assert_close((probability * estimate.bound.exp()).sum(), everything.chain.evidence())


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("resample", CRITERIA)
def test_expected_gradient_is_the_documented_one(everything, resample, monkeypatch, gradients_of):
    """Where resampling depends on the draws, the control variates do too, which is a bias of known value."""
    estimate = everything.estimate(FIVO(K, resample=resample), monkeypatch)
    probability, _, target, _ = everything.by_hand(resample)
    parameters = everything.chain.parameters
    got = gradients_of((probability * estimate.surrogate).sum(), parameters)
    bias = gradients_of(everything.by_hand(resample)[3], parameters)
    for ours, exact, extra in zip(got, gradients_of(target, parameters), bias, strict=True):
        torch.testing.assert_close(ours, exact + extra, rtol=1e-9, atol=1e-9)
    assert (bias[0].abs().max() > 1e-3).item() == (resample == "ess")


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("resample", ["always", "ess"])
def test_what_is_left_out_is_not_nothing(everything, resample, gradients_of):
    """The gradient of the bound itself, through the probability of every draw and ancestor."""
    probability, log_p_hat, *_ = everything.by_hand(resample, whole=True)
    v = [everything.chain.v]
    exact = gradients_of((probability * log_p_hat).sum(), v)
    ours = gradients_of(everything.by_hand(resample)[2], v)
    assert not torch.allclose(exact[0], ours[0], rtol=0.01)


@pytest.mark.usefixtures("often")
def test_without_resampling_nothing_is_left_out(everything, gradients_of):
    probability, log_p_hat, *_ = everything.by_hand("never", whole=True)
    parameters = everything.chain.parameters
    exact = gradients_of((probability * log_p_hat).sum(), parameters)
    torch.testing.assert_close(exact, gradients_of(everything.by_hand("never")[2], parameters))


def test_criteria_differ(everything, monkeypatch, often):
    bounds = [everything.by_hand(resample)[1] for resample in CRITERIA]
    assert not torch.isclose(bounds[0], bounds[1]).all()
    assert not torch.isclose(bounds[1], bounds[2]).all()
    assert not torch.isclose(bounds[0], bounds[2]).all()


@pytest.mark.parametrize(("spread", "resampled"), [(0.0, False), (1.8, False), (1.9, True), (9.0, True)])
def test_effective_sample_size_decides_for_each_sequence(spread, resampled):
    """Weights 1, e^-s, e^-s, e^-s: the effective sample size is 2 at s = 1.87."""
    log_weight = torch.tensor([[0.0, 0.0], [-spread, 0.0], [-spread, 0.0], [-spread, 0.0]])
    assert FIVO(4)._where_to_resample(log_weight - 5000).tolist() == [resampled, False]


def test_ancestors_are_drawn_in_proportion():
    weight = torch.tensor([0.1, 0.0, 0.6, 0.3])
    drawn = fivo.draw_ancestors((weight.log() - 3000)[:, None].expand(4, 50_000))
    counts = torch.stack([(drawn == k).double().mean(1) for k in range(4)])
    torch.testing.assert_close(counts, weight[:, None].expand(4, 4), rtol=0, atol=0.01)
    joint = ((drawn[0] == 2) & (drawn[1] == 3)).double().mean()
    assert joint.item() == pytest.approx(0.18, abs=0.01)


@pytest.mark.parametrize("never", [True, False])
def test_without_resampling_it_is_vimco(gradients_of, never):
    """Also for a single frame, after which nothing is resampled."""
    chain = Chain()
    x = chain.x.expand(4, -1) if never else torch.zeros(4, 1)
    results = []
    for objective in (FIVO(3, resample="never" if never else "always"), VIMCO(3)):
        torch.manual_seed(0)
        loss, diagnostics = objective.evaluate(chain.model, chain.guide, x)
        results.append((loss, diagnostics, gradients_of(loss, chain.parameters)))
    torch.testing.assert_close(*results)


class Walk:
    """z_t ~ N(0.9 z_{t-1}, 0.5^2), x_t ~ N(z_t, 0.7^2); the guide knows a little of the observation."""

    decay, drift, noise = 0.9, 0.5, 0.7

    def __init__(self, observe):
        self.observe = observe

    def unroll(self, x):
        steps = [partial(self.step, t, x[:, t]) for t in range(x.shape[1])]
        return Frames.of_data(len(x), torch.zeros(len(x)), steps)

    def step(self, t, x, before):
        loc, scale = self.decay * before, self.drift
        if not self.observe:
            loc, scale = loc + 0.2 * (x - loc), 0.5
        z = pyro.sample(f"z/{t}", dist.Normal(loc, scale))
        if self.observe:
            pyro.sample(f"x/{t}", dist.Normal(z, self.noise), obs=x)
        return z, z

    def __call__(self, x):
        return self.unroll(x).run()

    def kalman(self, x):
        mean, variance, total = 0.0, self.drift**2, 0.0
        for value in x.tolist():
            spread = variance + self.noise**2
            total += -0.5 * math.log(2 * math.pi * spread) - 0.5 * (value - mean) ** 2 / spread
            gain = variance / spread
            mean, variance = mean + gain * (value - mean), (1 - gain) * variance
            mean, variance = self.decay * mean, self.decay**2 * variance + self.drift**2
        return total


OBSERVED = torch.tensor([0.5, 1.6, 0.3, -0.8, -1.9, -0.4, 0.9, 2.0], dtype=torch.float64)


@torch.no_grad()
def walk_estimates(resample, num_particles, repetitions):
    pyro.set_rng_seed(1)
    x = OBSERVED.expand(repetitions, -1)
    objective = FIVO(num_particles, resample=resample)
    return objective._estimate(Walk(True), Walk(False), (x,), {}).bound


@pytest.mark.parametrize("resample", CRITERIA)
def test_likelihood_of_a_linear_gaussian_model_is_unbiased(resample):
    exact = Walk(True).kalman(OBSERVED)
    ratio = (walk_estimates(resample, 16, 20_000) - exact).exp()
    error = ratio.std().item() / math.sqrt(len(ratio))
    assert error < 0.02
    assert ratio.mean().item() == pytest.approx(1.0, abs=4 * error)


def test_bound_rises_to_the_kalman_filters_value():
    exact = Walk(True).kalman(OBSERVED)
    gaps = [exact - walk_estimates("ess", k, 4000).mean().item() for k in (2, 8, 32, 256)]
    assert gaps[0] > 2 * gaps[1] > 4 * gaps[2] > 8 * gaps[3] > 0
    assert gaps[3] < 0.02
    assert gaps[2] < exact - walk_estimates("never", 32, 4000).mean().item()


def test_gradient_goes_back_along_the_lines_of_ancestors(monkeypatch):
    """The second frame's weights depend on the first frame's draws, of the ancestors alone."""
    drift = torch.zeros(3, 1, requires_grad=True)
    links = iter([torch.tensor([[1], [1], [2]])])
    monkeypatch.setattr(fivo, "draw_ancestors", lambda log_weight: next(links))

    class Shifted(Walk):
        def step(self, t, x, before):
            z, state = super().step(t, x, before)
            return z, state + drift if t == 0 else state

    torch.manual_seed(0)
    x = torch.tensor([[0.5, 1.0]])
    loss, _ = FIVO(3, resample="always").evaluate(Shifted(True), Walk(False), x)
    (gradient,) = torch.autograd.grad(loss, drift)
    assert (gradient.flatten() != 0).tolist() == [False, True, True]


def small_sqair():
    """Small enough to be fast, and away from its initial values, so that objects come and go."""
    network = NetworkConfig(
        image_shape=(1, 12, 12), max_count=2, what_size=3, glimpse_size=5, hidden=8, narrow=6
    )
    model, guide = build(network, PriorConfig(stay_logit=0.5))
    for parameter in dict.fromkeys([*model.parameters(), *guide.parameters()]):
        parameter.data += 0.2 * torch.randn_like(parameter)
    guide.propagation.presence_head[-1].bias.data.zero_()
    return model, guide


def test_every_state_of_sqair_is_carried_through_resampling(monkeypatch):
    """Each particle's line of ancestors, run from the beginning without resampling, has the same weights."""
    model, guide = small_sqair()
    video, particles, frames = torch.rand(3, 4, 1, 12, 12), 5, 4
    links, traces = [], []

    def draw(log_weight):
        links.append(torch.randint(particles, log_weight.shape))
        return links[-1]

    def record(*args):
        traces.append(run_and_score(*args))
        return traces[-1]

    run_and_score = fivo.run_and_score
    monkeypatch.setattr(fivo, "draw_ancestors", draw)
    monkeypatch.setattr(fivo, "run_and_score", record)
    with torch.no_grad():
        FIVO(particles, resample="always").evaluate(model, guide, video)
    line = torch.arange(particles)[:, None].expand(-1, 3)
    columns, values, weights = torch.arange(3), {}, []
    for t in reversed(range(frames)):
        for site in traces[t].guide_sites:
            if not site["is_observed"]:
                value = site["value"].expand(particles, 3, *site["value"].shape[2:])
                values[site["name"]] = value[line, columns]
        weights.insert(0, traces[t].log_weights().log_weight[line, columns])
        line = links[t - 1][line, columns] if t else line
    assert any(values[f"propagation/z_pres/2/{i}"].any() for i in range(2))
    with torch.no_grad(), Substitute(lambda site: values.get(site["name"])):
        plain = frame_log_weights(model, guide, video, num_particles=particles)
    torch.testing.assert_close(plain.log_weight, torch.stack(weights))


@pytest.mark.parametrize("way", ["module", "svi"])
def test_sqair_trains(way):
    """Through `torch.optim` and through Pyro's own optimisers: every parameter moves or is never used."""
    model, guide = small_sqair()
    video = torch.rand(3, 4, 1, 12, 12)
    before = {name: p.detach().clone() for name, p in guide.named_parameters()}
    torch.manual_seed(0)
    if way == "module":
        module = FIVO(4)(model, guide)
        optimizer = torch.optim.Adam(module.parameters(), lr=0.01)
        loss, diagnostics = module(video)
        loss.backward()
        optimizer.step()
        assert torch.isfinite(diagnostics.bound)
    else:
        loss = SVI(model, guide, pyro.optim.Adam({"lr": 0.01}), FIVO(4)).step(video)
        assert math.isfinite(loss)
    moved = [name for name, p in guide.named_parameters() if not torch.equal(p, before[name])]
    assert {name.split(".")[0] for name in moved} >= {"propagation", "discovery"}


def test_a_step_reads_nothing_back_from_the_device(host_reads):
    chain = Chain()
    with pyro.validation_enabled(False), host_reads() as reads:
        FIVO(3).evaluate(chain.model, chain.guide, chain.x.expand(5, -1))[0].backward()
    assert reads.found == []


def test_program_without_frames_is_refused(toy):
    with pytest.raises(
        FrameError, match=r"guide that can be run frame by frame.*`Guide` has none.*use `VIMCO`"
    ):
        FIVO(2).evaluate(Walk(True), toy.guide, toy.x[:, None])
    with pytest.raises(FrameError, match=r"model that can be run frame by frame.*`Model` has none"):
        FIVO(2)(toy.model, toy.guide)(toy.x)


class Odd(Walk):
    """A program with something wrong."""

    def __init__(self, observe, **wrong):
        super().__init__(observe)
        self.wrong = wrong

    def unroll(self, x):
        if self.wrong.get("early"):
            pyro.sample("early", dist.Normal(0.0, 1.0))
        frames = super().unroll(x)
        return frames._replace(steps=frames.steps[: self.wrong.get("frames")])

    def step(self, t, x, state):
        z, before = super().step(t, x, state[0] if isinstance(state, tuple) else state)
        return z, (before, self.wrong["state"]) if "state" in self.wrong else before


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"frames": 2}, "as many frames in the guide as in the model, and at least one, got 2 and 3"),
        ({"early": True}, "`unroll` itself makes `early`"),
        ({"state": object()}, "in the state of the guide, got a `object`"),
        ({"state": torch.zeros(5, 7)}, r"\(particles, data\), \(4, 2\), after a frame, got shape \(5, 7\)"),
    ],
)
def test_programs_that_cannot_be_filtered_are_refused(wrong, message):
    with pytest.raises(FrameError, match=message):
        FIVO(4, resample="always").evaluate(Walk(True), Odd(False, **wrong), torch.zeros(2, 3))


@pytest.mark.parametrize("state", [None, 3, [torch.zeros(4, 2, 5)], {"a": torch.zeros(1, 2)}, torch.zeros(9)])
def test_states_of_many_kinds_are_copied(state):
    loss, _ = FIVO(4, resample="always").evaluate(Walk(True), Odd(False, state=state), torch.zeros(2, 3))
    assert torch.isfinite(loss)


def test_bad_options_are_refused():
    with pytest.raises(TooFewParticlesError, match=r"`FIVO` needs .* >= 2, got 1: with one particle use `Re"):
        FIVO(1)
    with pytest.raises(ValueError, match=r"`resample` must be .* got 'sometimes'"):
        FIVO(2, resample="sometimes")
    with pytest.raises(ValueError, match="`max_plate_nesting` must be 1 for `FIVO`"):
        FIVO(2, max_plate_nesting=2)
