"""What does not go together is refused, and the message names what does."""

import re

import pyro
import pyro.distributions as dist
import pytest
import torch

from whatwhere.examples import air
from whatwhere.guides import AIRGuide
from whatwhere.inference.objectives import (
    FIVO,
    IWAE,
    NVIL,
    OVIS,
    VIMCO,
    MarginalELBO,
    ObjectiveError,
    ReweightedWakeSleep,
    SQAIRSignal,
)
from whatwhere.models import AIR
from whatwhere.models.components.networks import GlimpseDecoder, GlimpseEncoder


@pytest.fixture
def programs():
    """AIR: images are no sequences, presence is discrete, place and looks are reparameterised."""
    model = AIR(decoder=GlimpseDecoder(4, (1, 8, 8), (8,)), what_size=4, image_shape=(1, 12, 12))
    encoder = GlimpseEncoder((1, 8, 8), 4, (8,))
    guide = AIRGuide(
        encoder=encoder,
        glimpse_size=(8, 8),
        what_size=4,
        image_shape=(1, 12, 12),
        hidden_size=8,
        head_hidden=(8,),
    )
    return model, guide


def program(z, observe):
    with pyro.plate("data", 3, dim=-1):
        pyro.sample("z", z)
        if observe:
            pyro.sample("x", dist.Normal(0.0, 1.0), obs=torch.zeros(3))


def bits():
    """A model and a guide with discrete variables alone, which are no presence."""
    prior, posterior = dist.Bernoulli(0.3), dist.Bernoulli(logits=torch.zeros(3, requires_grad=True))
    return lambda: program(prior, True), lambda: program(posterior, False)


@pytest.mark.parametrize("objective", [VIMCO, OVIS, SQAIRSignal, FIVO, ReweightedWakeSleep])
def test_one_particle_where_several_are_compared(objective):
    with pytest.raises(ObjectiveError, match=r">= 2, got 1.*`Reinforce`.*`NVIL`"):
        objective(1)


@pytest.mark.parametrize("resample", ["never", "always", "ess"])
def test_fivo_on_a_model_without_frames(programs, resample):
    message = r"model that can be run frame by frame.*`AIR` has none.*use `VIMCO` or `IWAE`"
    with pytest.raises(ObjectiveError, match=message):
        FIVO(2, resample=resample)(*programs)(torch.rand(3, 1, 12, 12))


@pytest.mark.parametrize("continuous", ["stl", "dreg"])
@pytest.mark.parametrize("objective", [VIMCO, OVIS, SQAIRSignal])
def test_estimators_for_reparameterised_sites_without_any(objective, continuous):
    with pytest.raises(ObjectiveError, match=r'got none: use `continuous="pathwise"`'):
        objective(2, continuous=continuous).evaluate(*bits())


def test_discrete_sites_without_a_score_function(programs):
    with pytest.raises(
        ObjectiveError, match=r"`IWAE` gives no gradient to guide site `z_pres/0`.*use `VIMCO`"
    ):
        IWAE(2)(*programs)(torch.rand(3, 1, 12, 12))


def test_nothing_to_sum_out():
    prior, posterior = dist.Normal(0.0, 1.0), dist.Normal(torch.zeros(3, requires_grad=True), 1.0)
    continuous = (lambda: program(prior, True), lambda: program(posterior, False))
    with pytest.raises(ObjectiveError, match=r"`z_pres/0`, .* got none: check `presence`, or use `VIMCO`"):
        MarginalELBO().evaluate(*continuous)
    with pytest.raises(ObjectiveError, match=r"`z` is not, and summing out .*: use `VIMCO`"):
        MarginalELBO().evaluate(*bits())


def test_what_goes_together_is_accepted(programs):
    images = torch.rand(3, 1, 12, 12)
    for objective in (
        VIMCO(2, continuous="dreg"),
        MarginalELBO(),
        NVIL(1),
        ReweightedWakeSleep(1, sleep=1.0),
    ):
        assert objective(*programs)(images)[0].isfinite()
    assert VIMCO(2).evaluate(*bits())[0].isfinite()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        *(
            (["--estimator", name], "set `particles` to 2 or more, for example 5")
            for name in ("vimco", "ovis", "wake_sleep", "sqair_code")
        ),
        *(
            (["--continuous", "dreg", "--estimator", name], "is for `estimator` vimco, ovis, sqair_code, got")
            for name in ("marginal", "nvil", "reinforce")
        ),
        (["--estimator", "fivo"], "expected one of marginal, vimco, ovis, nvil, reinforce, wake_sleep"),
    ],
)
def test_on_the_command_line(arguments, message, tmp_path, capsys):
    assert air.main(["train", "--output", str(tmp_path), *arguments]) == 2
    assert re.search(re.escape(message), capsys.readouterr().err)
