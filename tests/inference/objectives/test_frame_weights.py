"""Log-weights by frame against the forward algorithm, and against those of shorter sequences."""

import itertools

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

from whatwhere.examples.sqair import NetworkConfig, PriorConfig, build
from whatwhere.inference.objectives import VIMCO, MissingSiteError, ObjectiveError, Reinforce
from whatwhere.inference.objectives.frame_weights import (
    FrameError,
    FrameLogWeights,
    frame_log_weights,
    frame_of,
)

FRAMES = 3


class Chain:
    """A hidden Markov model of a bit, `x_t ~ N(2 z_t + t, 1)`, and a guide that sees the future."""

    first, stay = torch.tensor(0.3).double(), torch.tensor([-0.7, 1.1]).double()

    def model(self, x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            z = None
            for t in range(x.shape[1]):
                logit = self.first if z is None else self.stay[z.long()]
                z = pyro.sample(f"z/{t}", dist.Bernoulli(logits=logit))
                pyro.sample(f"x/{t}", dist.Normal(2 * z + t, 1.0), obs=x[:, t])

    def guide(self, x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            z = torch.zeros(len(x))
            for t in range(x.shape[1]):
                z = pyro.sample(f"z/{t}", dist.Bernoulli(logits=self.guide_logit(x, t, z)))

    def guide_logit(self, x: Tensor, t: int, before: Tensor) -> Tensor:
        return 0.4 * x[:, t] - 0.1 * x[:, -1] + 0.5 * before

    def log_q(self, x: Tensor, path: tuple[float, ...]) -> Tensor:
        """Of a whole path, `(B,)`."""
        total, before = torch.zeros(len(x)), torch.zeros(())
        for t, bit in enumerate(path):
            z = torch.tensor(bit)
            total = total + dist.Bernoulli(logits=self.guide_logit(x, t, before)).log_prob(z)
            before = z
        return total

    def forward_algorithm(self, x: Tensor) -> Tensor:
        """p(x_0, ..., x_t) for every t, `(T, B)`."""
        predicted = torch.stack([1 - self.first.sigmoid(), self.first.sigmoid()])
        transition = torch.stack([1 - self.stay.sigmoid(), self.stay.sigmoid()], dim=-1)
        evidence = []
        for t in range(x.shape[1]):
            emission = dist.Normal(torch.tensor([0.0, 2.0]) + t, 1.0).log_prob(x[:, t, None]).exp()
            joint = predicted * emission
            evidence.append(joint.sum(-1))
            predicted = joint @ transition
        return torch.stack(evidence)


def small_sqair() -> tuple[nn.Module, nn.Module]:
    """Small enough to be fast, and away from its initial values, so that objects come and go."""
    network = NetworkConfig(
        image_shape=(1, 12, 12), max_count=2, what_size=3, glimpse_size=5, hidden=8, narrow=6
    )
    model, guide = build(network, PriorConfig(stay_logit=0.5))
    for parameter in {*model.parameters(), *guide.parameters()}:
        parameter.data += 0.2 * torch.randn_like(parameter)
    guide.propagation.presence_head[-1].bias.data.zero_()
    return model, guide


def seeded(function, *args, **kwargs):
    torch.manual_seed(7)
    return function(*args, **kwargs)


def test_weights_up_to_each_frame_are_unbiased(with_values):
    chain, x = Chain(), torch.randn(2, FRAMES)
    paths = list(itertools.product((0.0, 1.0), repeat=FRAMES))
    values = {f"z/{t}": torch.tensor([path[t] for path in paths])[:, None].expand(-1, 2) for t in range(3)}
    got = frame_log_weights(chain.model, with_values(chain.guide, values), x, num_particles=len(paths))
    probability = torch.stack([chain.log_q(x, path) for path in paths]).exp()
    evidence = (probability * got.log_weight.cumsum(0).exp()).sum(1)
    torch.testing.assert_close(evidence, chain.forward_algorithm(x))
    for t in range(FRAMES):
        expected = dist.Normal(2 * values[f"z/{t}"] + t, 1.0).log_prob(x[:, t])
        torch.testing.assert_close(got.log_likelihood[t], expected)


def test_sums_are_the_log_weights_of_sequences_that_end_there():
    """SQAIR with the same noise: so each site is in its frame, and no frame sees a later one."""
    model, guide = small_sqair()
    video = torch.rand(5, 4, 1, 12, 12)
    with torch.no_grad():
        got = seeded(frame_log_weights, model, guide, video, num_particles=6)
        assert got.log_weight.shape == got.log_likelihood.shape == (4, 6, 5)
        for t in range(4):
            shorter = seeded(VIMCO(6).log_weights, model, guide, video[:, : t + 1])
            torch.testing.assert_close(got.log_weight[: t + 1].sum(0), shorter.log_weight)
            torch.testing.assert_close(got.log_likelihood[: t + 1].sum(0), shorter.log_likelihood)


def test_later_frames_change_no_earlier_weight():
    model, guide = small_sqair()
    video = torch.rand(3, 4, 1, 12, 12)
    other = torch.cat([video[:, :2], 1 - video[:, 2:]], dim=1)
    with torch.no_grad():
        before, after = (seeded(frame_log_weights, model, guide, v, num_particles=4) for v in (video, other))
    torch.testing.assert_close(after.log_weight[:2], before.log_weight[:2])
    assert (after.log_weight[2:] != before.log_weight[2:]).all()


def test_gradients_are_those_of_the_log_weights(gradients_of):
    model, guide = small_sqair()
    video = torch.rand(2, 3, 1, 12, 12)
    parameters = list({*model.parameters(), *guide.parameters()})
    weights = seeded(frame_log_weights, model, guide, video, num_particles=3).log_weight
    whole = seeded(Reinforce(3).log_weights, model, guide, video).log_weight
    for ours, expected in zip(
        gradients_of(weights.sum(), parameters), gradients_of(whole.sum(), parameters), strict=True
    ):
        torch.testing.assert_close(ours, expected)
    with torch.no_grad():
        assert not frame_log_weights(model, guide, video, num_particles=3).log_weight.requires_grad


def test_effective_sample_size_is_that_of_products_of_weights():
    increments = torch.tensor([[1.0, 1.0], [3.0, 1.0], [1.0, 3.0], [1e9, 1.0]]).log().unsqueeze(-1)
    weights = FrameLogWeights(increments + 5000, torch.zeros_like(increments))
    torch.testing.assert_close(
        weights.effective_sample_size(), torch.tensor([[2.0], [1.6], [2.0], [1.0]]), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize(
    ("name", "infer", "frame"),
    [
        ("x/4", {}, 4),
        ("propagation/z_where/4/0", {}, 4),
        ("discovery/cost/10", {}, 10),
        ("z2/3", {}, 3),
        ("2/z/3", {}, 2),
        ("x/4", {"frame": 0}, 0),
        ("plain", {"frame": 7}, 7),
    ],
)
def test_frame_of_a_name(name: str, infer: dict[str, int], frame: int):
    assert frame_of({"name": name, "infer": infer}) == frame


@pytest.mark.parametrize(
    ("name", "infer", "message"),
    [
        ("z_pres", {}, r"tell its frame, as `variable/t` .* got `z_pres`"),
        ("z/one/-2", {}, r"got `z/one/-2`"),
        ("z/1", {"frame": -1}, r"site `z/1` with an integer t >= 0, got -1"),
        ("z/1", {"frame": "2"}, r"site `z/1` with an integer t >= 0, got '2'"),
    ],
)
def test_sites_without_a_frame_are_refused(name: str, infer: dict[str, object], message: str):
    with pytest.raises(FrameError, match=message) as caught:
        frame_of({"name": name, "infer": infer})
    assert isinstance(caught.value, ObjectiveError)


def program(*sites: tuple[str, int | None], observed: str = ""):
    """Standard normals, one of which is 0 where `observed`."""

    def run() -> None:
        with pyro.plate("images", 2, dim=-1):
            for name, frame in sites:
                infer = {} if frame is None else {"frame": frame}
                obs = torch.zeros(2) if name == observed else None
                pyro.sample(name, dist.Normal(torch.zeros(2), 1.0), obs=obs, infer=infer)

    return run


IMAGES = Reinforce(batch_plate="images")


def test_frames_without_sites_add_nothing():
    model, guide = program(("z/0", None), ("x", 2), observed="x"), program(("z/0", None))
    got = frame_log_weights(model, guide, num_particles=3, objective=IMAGES)
    likelihood = dist.Normal(0.0, 1.0).log_prob(torch.tensor(0.0)).expand(3, 2)
    expected = torch.stack([torch.zeros(3, 2), torch.zeros(3, 2), likelihood])
    torch.testing.assert_close(got.log_weight, expected)
    torch.testing.assert_close(got.log_likelihood, expected)


def test_model_and_guide_must_agree_on_the_frame():
    model, guide = program(("z/0", None), ("x/1", None), observed="x/1"), program(("z/0", 1))
    with pytest.raises(FrameError, match="site `z/0` in one frame, got 0 in the model and 1 in the guide"):
        frame_log_weights(model, guide, num_particles=1, objective=IMAGES)


def test_programs_that_do_not_fit_are_refused():
    with pytest.raises(FrameError, match="at least one sample statement in the model"):
        frame_log_weights(program(), program(), num_particles=1, objective=IMAGES)
    with pytest.raises(MissingSiteError, match="`z/0`"):
        frame_log_weights(program(("z/0", None)), program(), num_particles=1, objective=IMAGES)
    with pytest.raises(ValueError, match="`num_particles` must be positive, got 0"):
        frame_log_weights(program(("z/0", None)), program(("z/0", None)), num_particles=0, objective=IMAGES)
