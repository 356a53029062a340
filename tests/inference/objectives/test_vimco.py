import pytest
import torch

from whatwhere.inference.objectives import VIMCO, TooFewParticlesError
from whatwhere.inference.objectives.vimco import control_variate


@pytest.mark.parametrize("control", ["geometric", "arithmetic"])
@pytest.mark.parametrize("num_particles", [2, 3])
def test_expected_gradient_is_that_of_the_bound(toy, control, num_particles):
    objective = VIMCO(num_particles, control=control)
    torch.testing.assert_close(
        toy.expected_gradients(objective), toy.exact_gradients(num_particles), rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize("control", ["geometric", "arithmetic"])
@pytest.mark.parametrize("num_particles", [2, 3])
def test_expected_gradient_with_continuous_variables(mixed_toy, control, num_particles):
    toy = mixed_toy(num_particles)
    expected = toy.expected_gradients(VIMCO(num_particles, control=control))
    torch.testing.assert_close(expected, toy.exact_gradients("iwae"), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("num_particles", [2, 3])
def test_expected_bound(single_toy, num_particles):
    bound = single_toy.expected_bound(VIMCO(num_particles))
    torch.testing.assert_close(bound, single_toy.exact_bound(num_particles)[0], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("control", ["geometric", "arithmetic"])
def test_control_variate_against_its_definition(control):
    log_weight = 3 * torch.randn(5, 4)
    got = control_variate(log_weight, control)
    for k in range(5):
        others = log_weight[[j for j in range(5) if j != k]]
        stand_in = others.mean(0).exp() if control == "geometric" else others.exp().mean(0)
        torch.testing.assert_close(got[k], ((others.exp().sum(0) + stand_in) / 5).log())


@pytest.mark.parametrize("control", ["geometric", "arithmetic"])
def test_control_variate_does_not_see_its_own_particle(control):
    log_weight = torch.randn(4, 3)
    changed = log_weight.clone()
    changed[2] += 7.0
    before, after = control_variate(log_weight, control), control_variate(changed, control)
    assert torch.equal(before[2], after[2])
    assert not torch.isclose(before[[0, 1, 3]], after[[0, 1, 3]]).any()


def test_signal_is_precise_for_large_log_weights_in_single_precision(toy, with_values):
    log_weight = torch.tensor([[-6000.0], [-6001.0], [-6002.5]])
    exact = (
        log_weight.double().logsumexp(0)
        - 1.0986122886681098
        - control_variate(log_weight.double(), "geometric")
    )
    relative = log_weight.float() - log_weight.float().amax(0)
    got = relative.logsumexp(0) - 1.0986122886681098 - control_variate(relative, "geometric")
    torch.testing.assert_close(got.double(), exact, rtol=1e-5, atol=1e-6)


def test_impossible_particle_gives_finite_signals():
    log_weight = torch.tensor([[-1.0], [-torch.inf], [-2.0]])
    assert torch.isfinite(control_variate(log_weight, "geometric")).all()


def test_one_particle_is_refused():
    with pytest.raises(TooFewParticlesError, match=r"`VIMCO` needs `num_particles` >= 2, got 1"):
        VIMCO(1)


def test_unknown_control_is_refused():
    with pytest.raises(ValueError, match=r"`control` must be .* got 'harmonic'"):
        VIMCO(2, control="harmonic")
