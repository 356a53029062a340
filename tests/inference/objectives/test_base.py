import copy
import warnings
from functools import partial

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, RenyiELBO

from whatwhere.inference.objectives import (
    IWAE,
    NVIL,
    OVIS,
    VIMCO,
    MarginalELBO,
    Reinforce,
    ReweightedWakeSleep,
    SQAIRSignal,
    TooFewParticlesError,
)


@pytest.mark.parametrize(
    "objective",
    [
        VIMCO(3),
        VIMCO(3, control="arithmetic", mask_score=False),
        NVIL(2),
        Reinforce(2),
        Reinforce(2, bound="iwae"),
        SQAIRSignal(3),
        OVIS(3),
        OVIS(3, auxiliary_particles=2),
        ReweightedWakeSleep(3),
        MarginalELBO("z", 2),
        MarginalELBO("z", 2, bound="iwae"),
    ],
    ids=lambda objective: type(objective).__name__,
)
def test_a_step_reads_nothing_back_from_the_device(toy, objective, host_reads):
    with pyro.validation_enabled(False), host_reads() as reads:
        loss, _ = objective(toy.model, toy.guide)(toy.x)
        loss.backward()
    assert reads.found == []


def test_the_counter_of_host_reads_counts(host_reads):
    with host_reads() as reads:
        torch.ones(()).item()
        bool(torch.ones(()) > 0)
    assert len(reads.found) == 2


def test_pyros_own_bound_gives_discrete_sites_no_gradient(toy):
    """Why this package exists."""
    pyros = RenyiELBO(alpha=0, num_particles=3, vectorize_particles=True, max_plate_nesting=1)
    pyros.loss_and_grads(toy.model, toy.guide, toy.x)
    assert all(p.grad is None or not p.grad.any() for p in toy.guide.parameters())
    toy.guide.zero_grad()
    VIMCO(3).loss_and_grads(toy.model, toy.guide, toy.x)
    assert all(p.grad.any() for p in toy.guide.parameters())


@pytest.mark.parametrize("num_particles", [1, 3])
def test_programs_always_see_particles_and_data(toy, num_particles):
    shapes = []

    def guide(x):
        toy.guide(x)
        with pyro.plate("more", len(x), dim=-1):
            shapes.append(pyro.sample("u", dist.Normal(0.0, 1.0), infer={"is_auxiliary": True}).shape)

    with pytest.raises(ValueError, match="inside the vectorised plate `data`"):
        Reinforce(num_particles).evaluate(toy.model, guide, toy.x)
    assert shapes == [(num_particles, 2)]


def test_loss_in_all_its_forms(toy, with_values):
    objective = VIMCO(2)
    values = dict(list(toy.enumerate(2))[6][1])
    guide = with_values(toy.guide, values)
    loss, diagnostics = objective.evaluate(toy.model, guide, toy.x)
    torch.testing.assert_close(objective.differentiable_loss(toy.model, guide, toy.x), loss)
    assert objective.loss(toy.model, guide, toy.x) == pytest.approx(loss.item())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert objective.loss_and_grads(toy.model, guide, toy.x) == pytest.approx(loss.item())
    gradients = torch.autograd.grad(loss, toy.parameters, allow_unused=True)
    for parameter, gradient in zip(toy.parameters, gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)
    torch.testing.assert_close(loss, -2 * diagnostics.bound)
    mean, same = VIMCO(2, reduction="mean").evaluate(toy.model, guide, toy.x)
    torch.testing.assert_close(mean, loss / 2)
    torch.testing.assert_close(same.bound, diagnostics.bound)


def test_loss_without_gradients_records_none(toy):
    enabled = []

    def guide(x):
        enabled.append(torch.is_grad_enabled())
        toy.guide(x)

    VIMCO(2).loss(toy.model, guide, toy.x)
    VIMCO(2).differentiable_loss(toy.model, guide, toy.x)
    assert enabled == [False, True]


def test_diagnostics_by_hand(single_toy, with_values):
    log_q, log_prior, log_likelihood = (table.detach()[:, 0] for table in single_toy.tables())
    indices = [3, 0, 1]
    z = torch.tensor([single_toy.states[i] for i in indices])
    guide = with_values(single_toy.guide, {"z/0": z[:, :1], "z/1": z[:, 1:]})
    _, got = VIMCO(3).evaluate(single_toy.model, guide, single_toy.x)
    log_w = (log_prior + log_likelihood - log_q)[indices]
    w = log_w.exp()
    torch.testing.assert_close(got.bound, w.mean().log())
    torch.testing.assert_close(got.log_likelihood, log_likelihood[indices].mean())
    torch.testing.assert_close(got.kl, (log_q - log_prior)[indices].mean())
    torch.testing.assert_close(got.effective_sample_size, w.sum() ** 2 / (w**2).sum())
    assert not any(entry.requires_grad for entry in got)


@pytest.mark.parametrize("make", [lambda: VIMCO(2), lambda: Reinforce(2), lambda: NVIL(2), lambda: IWAE(2)])
def test_subsampling_scale_is_outside_the_logarithm(make, with_values):
    z = torch.randn(2, 3)

    def program(size, x=None):
        with pyro.plate("data", size, subsample_size=3, dim=-1):
            z = pyro.sample("z", dist.Normal(0.3, 1.2))
            if x is not None:
                pyro.sample("x", dist.Normal(z, 0.5), obs=x)

    x = torch.tensor([0.5, -1.0, 2.0])
    losses = [
        make().evaluate(lambda n=n: program(n, x), with_values(lambda n=n: program(n), {"z": z}))[0]
        for n in (3, 30)
    ]
    torch.testing.assert_close(losses[1], 10 * losses[0])


def test_scale_of_a_handler_is_outside_the_logarithm(toy, with_values):
    guide = with_values(toy.guide, next(iter(list(toy.enumerate(2))[5:]))[1])
    plain, _ = VIMCO(2).evaluate(toy.model, guide, toy.x)
    scaled, _ = VIMCO(2).evaluate(poutine.scale(toy.model, 4.0), poutine.scale(guide, 4.0), toy.x)
    torch.testing.assert_close(scaled, 4 * plain)


def test_one_step_of_svi_equals_one_step_of_torch(toy):
    model, guide = copy.deepcopy(toy.model), copy.deepcopy(toy.guide)
    start = [p.detach().clone() for p in toy.parameters]
    torch.manual_seed(3)
    svi = SVI(toy.model, toy.guide, pyro.optim.Adam({"lr": 0.1}), VIMCO(4))
    svi_loss = svi.step(toy.x)
    torch.manual_seed(3)
    module = VIMCO(4)(model, guide)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.1)
    loss, _ = module(toy.x)
    loss.backward()
    optimizer.step()
    assert svi_loss == pytest.approx(loss.item())
    assert svi.evaluate_loss(toy.x) == pytest.approx(svi_loss, abs=50)
    by_torch = [*guide.parameters(), *model.parameters()]
    for before, after, other in zip(start, toy.parameters, by_torch, strict=True):
        torch.testing.assert_close(after.detach(), other.detach())
        assert not torch.equal(before, after)


def test_truncated_weights_change_gradients_by_less_than_a_millionth(toy, with_values, gradients_of):
    for _, values in toy.enumerate(2):
        guide = with_values(toy.guide, values)
        grads = [
            gradients_of(VIMCO(2, weight_floor=floor).evaluate(toy.model, guide, toy.x)[0], toy.parameters)
            for floor in (0.0, 1e-8)
        ]
        torch.testing.assert_close(grads[1], grads[0], rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize(
    "make", [IWAE, partial(IWAE, continuous="dreg"), VIMCO, OVIS, SQAIRSignal, ReweightedWakeSleep]
)
def test_no_denormal_number_enters_the_backward_pass(make):
    """Particles from equally good to hopeless, in single precision."""
    parameter = torch.zeros(6, 1, dtype=torch.float32, requires_grad=True)
    reached = []

    def model():
        with pyro.plate("data", 1, dim=-1):
            pyro.sample("z", dist.Normal(torch.zeros((), dtype=torch.float32), 1.0))
            log_likelihood = (
                parameter + torch.tensor([0.0, -1.0, -40.0, -90.0, -95.0, -102.0])[:, None].float()
            )
            log_likelihood.register_hook(reached.append)
            pyro.factor("x", log_likelihood)

    def guide():
        with pyro.plate("data", 1, dim=-1):
            pyro.sample("z", dist.Normal(torch.zeros((), dtype=torch.float32), 1.0))

    objective = make(6)
    torch.manual_seed(1)
    loss, _ = objective.evaluate(model, guide)
    loss.backward()
    (gradient,) = reached
    assert gradient.dtype == torch.float32
    tiny = torch.finfo(torch.float32).tiny
    assert not ((gradient != 0) & (gradient.abs() < tiny)).any()
    assert (gradient != 0).flatten().tolist() == [True, True, True, False, False, False]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_plate_nesting": float("inf")}, r"`max_plate_nesting` must be a whole number, got inf"),
        ({"num_particles": 2.5}, r"`num_particles` must be a whole number, got 2.5"),
        ({"num_particles": 0}, r"`Reinforce` needs `num_particles` >= 1, got 0"),
        ({"max_plate_nesting": 0}, r"`max_plate_nesting` must count the batch plate, expected >= 1, got 0"),
        ({"reduction": "max"}, r"`reduction` must be \"sum\" or \"mean\", got 'max'"),
        ({"weight_floor": 0.1}, r"`weight_floor` must be in \[0, 1e-8\].*, got 0.1"),
        ({"weight_floor": -1.0}, r"`weight_floor` must be in"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Reinforce(**options)


def test_too_few_particles_are_an_error_of_their_own():
    with pytest.raises(TooFewParticlesError):
        Reinforce(0)


@pytest.mark.parametrize("make", [lambda: VIMCO(3), lambda: Reinforce(2), lambda: MarginalELBO("z", 3)])
@pytest.mark.parametrize("number", [0, -1])
def test_weights_of_no_particles_are_refused(toy, make, number):
    objective = make()
    with pytest.raises(ValueError, match=rf"`num_particles` must be at least 1, got {number}"):
        objective.log_weights(toy.model, toy.guide, toy.x, num_particles=number)
    for given in (1, None):
        weights = objective.log_weights(toy.model, toy.guide, toy.x, num_particles=given)
        assert len(weights.log_weight) == (given or objective.num_particles)
