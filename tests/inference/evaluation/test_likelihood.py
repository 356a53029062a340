"""Evaluation of likelihoods against a model whose evidence is known, and the evaluation of objects."""

import json
import math
from collections.abc import Callable
from typing import Literal

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from whatwhere.examples.sqair import NetworkConfig, SQAIRConfig, programs_of
from whatwhere.inference.evaluation import LikelihoodReport, Videos, evaluate_likelihood, evaluate_videos
from whatwhere.inference.evaluation.likelihood import likelihood_report
from whatwhere.inference.objectives.frame_weights import FrameLogWeights
from whatwhere.inference.training import NonFiniteError

NOISE = 0.5


def model(x: Tensor) -> None:
    """`z_t ~ N(0, 1)`, `x_t ~ N(z_t, NOISE)`."""
    with pyro.plate("data", len(x), dim=-1):
        for t in range(x.shape[1]):
            z = pyro.sample(f"z/{t}", dist.Normal(x.new_zeros(()), 1.0))
            pyro.sample(f"x/{t}", dist.Normal(z, NOISE), obs=x[:, t])


def guide_with(share: float, scale: float) -> Callable[[Tensor], None]:
    """`z_t ~ N(share x_t, scale)`."""

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            for t in range(x.shape[1]):
                pyro.sample(f"z/{t}", dist.Normal(share * x[:, t], scale))

    return guide


def evaluate(share: float, scale: float, *batches: Tensor, **options) -> LikelihoodReport:
    return evaluate_likelihood(model, guide_with(share, scale), batches, **{"iwae_particles": 4, **options})


def log_evidence(x: Tensor) -> float:
    scale = math.sqrt(1 + NOISE**2)
    return torch.distributions.Normal(0.0, scale).log_prob(x).sum(-1).mean().item()


POSTERIOR = 1 / (1 + NOISE**2), math.sqrt(NOISE**2 / (1 + NOISE**2))


def test_under_the_posterior_every_bound_is_the_evidence():
    x = 2 * torch.randn(7, 3, dtype=torch.float64)
    report = evaluate(*POSTERIOR, x[:5], x[5:], particles=3)
    assert (report.videos, report.frames, report.particles, report.iwae_videos) == (7, 3, 3, 7)
    for bound in (report.elbo, report.iwae, report.log_marginal):
        assert bound == pytest.approx(log_evidence(x))
    assert report.weighted_log_likelihood - report.weighted_kl == pytest.approx(log_evidence(x))
    assert report.effective_sample_size == pytest.approx([3.0] * 3)
    first = evaluate(*POSTERIOR, x[:5], x[5:], iwae_videos=2)
    assert first.log_marginal == pytest.approx(log_evidence(x[:2]))
    assert first.iwae_videos == 2


def test_reconstruction_and_kl_are_those_of_normals():
    x = torch.randn(400, 2, dtype=torch.float64)
    share, scale = 0.5, 0.7
    report = evaluate(share, scale, x, particles=100)
    squares = ((1 - share) * x).square() + scale**2
    likelihood = -0.5 * squares / NOISE**2 - math.log(NOISE) - 0.5 * math.log(2 * math.pi)
    kl = 0.5 * (scale**2 + (share * x).square() - 1) - math.log(scale)
    assert report.log_likelihood == pytest.approx(likelihood.sum(-1).mean().item(), abs=0.05)
    assert report.kl == pytest.approx(kl.sum(-1).mean().item(), abs=0.02)
    assert report.elbo == pytest.approx(report.log_likelihood - report.kl)


def test_bounds_are_in_order_and_weighted_means_exceed_the_bound_by_a_divergence():
    x = torch.randn(300, 2, dtype=torch.float64)
    report = evaluate(0.0, 1.0, x, particles=20, iwae_particles=500)
    assert report.kl == pytest.approx(0, abs=1e-12)
    assert report.elbo < report.iwae < report.log_marginal + 0.01
    assert report.log_marginal == pytest.approx(log_evidence(x), abs=0.05)
    excess = report.weighted_log_likelihood - report.weighted_kl - report.iwae
    assert 0 < excess < math.log(20)
    first, last = report.effective_sample_size
    assert 1 < last < first < 20
    alone = evaluate(0.0, 1.0, x, particles=1)
    assert (alone.iwae, alone.weighted_log_likelihood) == pytest.approx((alone.elbo, alone.log_likelihood))


def test_all_particles_are_drawn_whatever_the_chunks():
    x = torch.randn(200, 2, dtype=torch.float64)
    reports = [evaluate(0.5, 0.6, x, particles=25, iwae_particles=7, chunk_size=size) for size in (25, 4)]
    for report in reports:
        assert report.particles == 25
        assert report.effective_sample_size[0] > 5
    assert reports[0].iwae == pytest.approx(reports[1].iwae, abs=0.05)


def test_independent_frames_are_weighted_each_by_itself():
    """All numbers are sums of those of videos of one frame each, of the same draws."""
    x = 2 * torch.randn(400, 3, dtype=torch.float64)
    weights = FrameLogWeights(3 * torch.randn(3, 5, 40).double(), torch.randn(3, 5, 40).double())
    marginals = torch.randn(40)
    report = likelihood_report(weights, marginals, 7, independent_frames=True)
    parts = [
        likelihood_report(FrameLogWeights(*(field[t : t + 1] for field in weights)), marginals, 7)
        for t in range(3)
    ]
    for name in ("iwae", "elbo", "log_likelihood", "kl", "weighted_log_likelihood", "weighted_kl"):
        expected = sum(getattr(part, name) for part in parts)
        assert getattr(report, name) == pytest.approx(expected, rel=1e-12), name
    expected_sizes = [part.effective_sample_size[0] for part in parts]
    assert report.effective_sample_size == pytest.approx(expected_sizes)
    assert (report.videos, report.frames, report.particles) == (40, 3, 5)
    assert report.log_marginal == pytest.approx(marginals.mean().item())
    whole = likelihood_report(weights, marginals, 7)
    assert report.elbo == pytest.approx(whole.elbo)
    assert report.iwae > whole.iwae + 1
    estimates = [
        evaluate(0.5, 1.0, x, iwae_particles=20, independent_frames=independent).log_marginal
        for independent in (True, False)
    ]
    gaps = [log_evidence(x) - estimate for estimate in estimates]
    assert -0.1 < gaps[0] < 0.5 * gaps[1], gaps


@pytest.mark.parametrize("model_name", ["sqair", "air"])
def test_numbers_are_those_of_the_evaluation_of_objects(model_name: Literal["sqair", "air"]):
    network = NetworkConfig("mlp", (1, 12, 12), 2, 3, 5, 8, 6, 6)
    pair = programs_of(SQAIRConfig(model=model_name, network=network))
    videos = torch.rand(6, 3, 1, 12, 12)
    options = {"particles": 5, "iwae_particles": 4, "iwae_videos": 3, "chunk_size": 2}
    options["independent_frames"] = model_name == "air"
    torch.manual_seed(4)
    full = evaluate_videos(
        *pair, [Videos(v) for v in videos.split(4)], find_boxes=pair.model.decoder.boxes, **options
    )
    torch.manual_seed(4)
    report = evaluate_likelihood(*pair, videos.split(4), **options)
    for name, value in vars(report).items():
        assert getattr(full, name) == pytest.approx(value, rel=1e-9), name


def test_the_report_is_json():
    report = evaluate(*POSTERIOR, torch.zeros(2, 1))
    assert json.loads(json.dumps(report.numbers()))["frames"] == 1


def test_impossible_particles_have_no_weight():
    """The first video: weights 0, 1/4 and 3/4; all particles of the second are impossible."""
    nothing = -math.inf
    log_weight = torch.tensor([[[nothing, nothing], [0, nothing], [math.log(3), nothing]]])
    log_likelihood = torch.tensor([[[nothing, nothing], [2.0, nothing], [4.0, nothing]]])
    weights = FrameLogWeights(log_weight, log_likelihood)
    first = likelihood_report(FrameLogWeights(*(x[..., :1] for x in weights)), torch.zeros(1), 3)
    assert first.iwae == pytest.approx(math.log(4 / 3))
    assert first.weighted_log_likelihood == pytest.approx(2 / 4 + 4 * 3 / 4)
    assert first.weighted_kl == pytest.approx(3.5 - 0.75 * math.log(3))
    assert first.effective_sample_size == pytest.approx([1 / (1 / 16 + 9 / 16)])
    assert (first.elbo, first.log_likelihood) == (nothing, nothing)
    both = likelihood_report(weights, torch.zeros(1), 3)
    assert (both.iwae, both.elbo, both.weighted_log_likelihood) == (nothing, nothing, nothing)
    assert both.effective_sample_size == pytest.approx([(1.6 + 3) / 2])
    assert both.numbers()["iwae"] is None


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_of_a_model_that_has_diverged_have_no_report(value: float):
    good, bad = torch.zeros(2, 3, 4), torch.zeros(2, 3, 4)
    bad[1, 2, 0] = value
    with pytest.raises(NonFiniteError, match="1 of 24 values of `log_weight` are NaN or infinite"):
        likelihood_report(FrameLogWeights(bad, good), torch.zeros(4), 3)
    with pytest.raises(NonFiniteError, match="1 of 2 values of `log_marginals` are NaN or infinite"):
        likelihood_report(FrameLogWeights(good, good), torch.tensor([0, value]), 3)


def test_what_cannot_be_evaluated_is_refused():
    for shape in ((0, 3), (2, 0)):
        with pytest.raises(ValueError, match=r"`videos` must have shape .*, at least 1 each, but got"):
            evaluate(0.0, 1.0, torch.zeros(shape))
    with pytest.raises(ValueError, match="are none"):
        evaluate(0.0, 1.0)
    with pytest.raises(ValueError, match="some of 3 and some of 2 frames"):
        evaluate(0.0, 1.0, torch.zeros(2, 3), torch.zeros(2, 2))
    for name in ("particles", "iwae_particles", "iwae_videos", "chunk_size"):
        with pytest.raises(ValueError, match=f"`{name}` must be at least 1, got 0"):
            evaluate(0.0, 1.0, torch.zeros(2, 1), **{name: 0})
