"""AIR on videos against SQAIR on single frames, from whose parts it is made."""

import math
from dataclasses import replace

import pyro
import pytest
import torch
from pyro import poutine
from torch import Tensor

from whatwhere.examples.common.video_models import PerFrame, SingleFrames
from whatwhere.examples.sqair import AIRPrograms, NetworkConfig, PriorConfig, SQAIRConfig, build, programs_of
from whatwhere.guides import RefinedLooks, SQAIRGuide
from whatwhere.guides.sequence_air import SequenceAIRGuide
from whatwhere.inference.objectives import VIMCO, MarginalELBO, MultiSampleELBO, Reinforce
from whatwhere.models.components.active_set import use_active_set
from whatwhere.models.discovery import ChainDiscovery
from whatwhere.models.priors import FixedCountPrior, FixedWherePrior, GeometricCount
from whatwhere.models.sequence_air import SequenceAIR
from whatwhere.models.sqair import SQAIR

FRAMES = 3


def network(count: int = 2, side: int = 12) -> NetworkConfig:
    return NetworkConfig("mlp", (1, side, side), count, 3, 5, 8, 6, 6)


def pairs() -> tuple[SQAIR, SQAIRGuide, SequenceAIR, SequenceAIRGuide]:
    """SQAIR, and AIR of the very same networks, with parameters that are not those of the start."""
    model, guide = build(network(), PriorConfig())
    for parameter in dict.fromkeys([*model.parameters(), *guide.parameters()]):
        parameter.data += 0.1 * torch.randn_like(parameter)
    air = SequenceAIR(model.discovery, model.decoder, model.latent_encoder.size)
    air_guide = SequenceAIRGuide(guide.discovery, guide.image_shape)
    return model.double(), guide.double(), air.double(), air_guide.double()


def videos(size: int = 5) -> Tensor:
    return torch.rand(size, FRAMES, 1, 12, 12, dtype=torch.float64)


def log_prob(trace: poutine.Trace, size: int) -> Tensor:
    trace.compute_log_prob()
    terms = [n["log_prob"] for n in trace.nodes.values() if n["type"] == "sample" and "log_prob" in n]
    return sum((term for term in terms if term.shape == (size,)), start=torch.zeros(size).double())


def of_frame(values: dict[str, Tensor], t: int) -> dict[str, Tensor]:
    """What was drawn in frame `t`, under the names of the first frame."""
    found = {}
    for name, value in values.items():
        phase, variable, frame, i = name.split("/")
        if int(frame) == t:
            found[f"{phase}/{variable}/0/{i}"] = value
    return found


def test_the_joint_is_the_product_of_sqairs_of_single_frames():
    model, guide, air, air_guide = pairs()
    video = videos()
    drawn = poutine.trace(air_guide).get_trace(video)
    values = {name: node["value"] for name, node in drawn.nodes.items() if "/z_" in name}
    counts = torch.stack([values[f"discovery/z_pres/{t}/0"] for t in range(FRAMES)])
    assert 0 < counts.mean() < 1
    joint = poutine.trace(poutine.replay(air, trace=drawn)).get_trace(video)
    expected_p = expected_q = torch.zeros(len(video)).double()
    for t in range(FRAMES):
        frame = video[:, t : t + 1]
        data = of_frame(values, t)
        single = poutine.trace(poutine.condition(model, data=data)).get_trace(frame)
        expected_p = expected_p + log_prob(single, len(video))
        expected_q = expected_q + log_prob(
            poutine.trace(poutine.condition(guide, data=data)).get_trace(frame), len(video)
        )
        ours, theirs = (trace.nodes["_RETURN"]["value"] for trace in (joint, single))
        torch.testing.assert_close(ours[t].canvas, theirs[0].canvas, rtol=0, atol=1e-12)
        torch.testing.assert_close(ours[t].slots[:3], theirs[0].slots[:3], rtol=0, atol=0)
    torch.testing.assert_close(log_prob(joint, len(video)), expected_p, rtol=1e-12, atol=1e-9)
    torch.testing.assert_close(log_prob(drawn, len(video)), expected_q, rtol=1e-12, atol=1e-9)


def test_a_frame_knows_nothing_of_the_others():
    _, _, air, guide = pairs()
    video = videos()
    changed = video.clone()
    changed[:, 1] = 1 - changed[:, 1]
    traces = []
    for x in (video, changed):
        torch.manual_seed(3)
        q = poutine.trace(guide).get_trace(x)
        q.compute_log_prob()
        p = poutine.trace(poutine.replay(air, trace=q)).get_trace(x)
        p.compute_log_prob()
        traces.append((q, p))
    differ = set()
    for before, after in zip(*traces, strict=True):
        for name, site in before.nodes.items():
            if site["type"] == "sample" and "/" in name:
                frame = int(name.split("/")[1 if name.count("/") == 1 else 2])
                if not torch.equal(site["log_prob"], after.nodes[name]["log_prob"]):
                    differ.add(frame)
    assert differ == {1}


def test_numbers_of_parameters():
    """Those of SQAIR but propagation, its prior, and the summary of propagated objects."""
    config = SQAIRConfig(model="air", network=NetworkConfig(image_shape=(1, 50, 50)))
    programs = programs_of(config)
    assert isinstance(programs, AIRPrograms)
    assert len({*programs.model.parameters()} & {*programs.guide.parameters()}) == 0
    assert sum(p.numel() for program in programs for p in program.parameters()) == 1_503_059


def test_objects_are_new_in_every_frame():
    _, _, air, guide = pairs()
    video = videos(20)
    with poutine.trace() as recorded:
        found = guide(video)
    said = poutine.replay(air, trace=recorded.trace)(video)
    for frames in (found, [frame.slots for frame in said]):
        identities = torch.cat([slots.identity for slots in frames], dim=-1)
        for row in identities:
            numbers = row[row >= 0].tolist()
            assert numbers == list(range(len(numbers)))
        for slots in frames:
            assert ((slots.identity >= 0) == (slots.z_pres > 0)).all()
            assert slots.memory.shape == (20, 2, 0)
    for frame in said:
        assert (frame.propagated == 0).all()
        assert torch.equal(frame.discovered, frame.slots.z_pres.sum(-1))


def test_the_prior_is_that_of_sqairs_first_frame():
    """In every frame, learned logits of counts; place and appearance as the priors say."""
    model, _, air, _ = pairs()
    logits = model.discovery.count_prior.log_probs(
        torch.full((1,), -0.5).double(), torch.tensor(2.0), first=True
    )
    size = 20_000
    torch.manual_seed(0)
    drawn = air.generate(size, 2)
    for frame in drawn:
        counts = torch.bincount(frame.slots.z_pres.sum(-1).long(), minlength=3) / size
        torch.testing.assert_close(counts.double(), logits.exp().detach(), rtol=0, atol=0.015)
    what = drawn[1].slots.z_what[drawn[1].slots.z_pres > 0]
    assert what.mean() == pytest.approx(0, abs=0.03)
    assert what.std() == pytest.approx(1, abs=0.03)
    assert not drawn[0].canvas.requires_grad


def test_the_active_set_changes_nothing():
    _, _, air, guide = pairs()
    video = videos()
    results = []
    for on in (False, True):
        use_active_set(air, guide, on=on)
        torch.manual_seed(5)
        loss, _ = VIMCO(3, reduction="mean")(air, guide)(video)
        loss.backward()
        grads = [p.grad.clone() for p in guide.parameters() if p.grad is not None]
        guide.zero_grad()
        results.append((loss.detach(), grads))
    torch.testing.assert_close(*results, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("objective", [Reinforce(1, reduction="mean"), VIMCO(4, reduction="mean")])
def test_the_objective_of_single_frames_weighs_each_frame(objective: MultiSampleELBO):
    """The mean over frames of their bounds; with one particle it is that of whole videos."""
    _, _, air, guide = pairs()
    video, particles = videos(4), objective.num_particles
    torch.manual_seed(2)
    loss, diagnostics = SingleFrames(objective(air, guide))(video)
    torch.manual_seed(2)
    frames = video.reshape(4 * FRAMES, 1, 1, 12, 12)
    log_weight = objective.log_weights(air, guide, frames).log_weight
    bound = (log_weight.logsumexp(0) - math.log(particles)).mean()
    assert diagnostics.bound == pytest.approx(FRAMES * bound.item())
    assert diagnostics.log_likelihood - diagnostics.kl == pytest.approx(FRAMES * log_weight.mean().item())
    assert 1 <= diagnostics.effective_sample_size <= particles
    repeated = video.repeat(50, 1, 1, 1, 1)
    single, whole = (form(objective(air, guide))(repeated)[1].bound for form in (SingleFrames, PerFrame))
    if particles == 1:
        assert single == pytest.approx(whole, abs=5)
    else:
        assert single > whole + 5
    assert loss.requires_grad


def test_vimco_trains_it():
    """A square somewhere in each frame: it is found, and costs less than to ignore it."""
    torch.manual_seed(1)
    programs = programs_of(SQAIRConfig(model="air", network=network(count=1), hold_steps=0))
    video = torch.zeros(8, 2, 1, 12, 12)
    for frames in video:
        for frame in frames:
            top, left = torch.randint(0, 7, (2,)).tolist()
            frame[0, top : top + 5, left : left + 5] = 1
    objective = SingleFrames(VIMCO(5, reduction="mean")(*programs))
    optimizer = torch.optim.Adam(objective.parameters(), lr=1e-2)
    black = torch.distributions.Normal(0.0, 0.3).log_prob(video).sum((1, 2, 3, 4)).mean()
    with pyro.validation_enabled(False):
        for _ in range(120):
            optimizer.zero_grad()
            loss, diagnostics = objective(video)
            loss.backward()
            optimizer.step()
    assert diagnostics.bound > black + 50
    unused = {name for name, p in objective.named_parameters() if p.grad is None}
    assert unused == {"objective.model.discovery.count_prior.later_bias"}


def test_bad_calls_are_refused():
    _, _, air, guide = pairs()
    with pytest.raises(ValueError, match="`SequenceAIR` needs a `video`, or `batch_size` and `frames`"):
        air()
    for program in (air, guide):
        with pytest.raises(ValueError, match="12, 12"):
            program(torch.rand(2, 3, 1, 10, 12, dtype=torch.float64))


@pytest.mark.parametrize(("explain_away", "steps"), [(False, 0), (True, 0), (True, 2)])
def test_the_count_can_be_summed_out_of_the_first_frame_with_all_parts(explain_away: bool, steps: int):
    """Weights with the count summed out, and weights of a drawn count, have the same mean, p(x)."""
    torch.manual_seed(0)
    parts = replace(network(), reach=2.0, clamp=True, background="none", second_look=True)
    model, guide = build(
        replace(parts, explain_away=explain_away),
        PriorConfig(size_logit=-0.5, size_scale=0.4, shift_scale=0.4),
        exploration=True,
    )
    priors = FixedCountPrior(GeometricCount(2, 0.4)), FixedWherePrior(-0.5, 0.3, 0.4)
    air = SequenceAIR(ChainDiscovery(*priors, 3), model.decoder, 8, 2.0).double()
    guide.discovery.where_head[-1].weight.data.zero_()
    guide.discovery.where_head[-1].bias.data.copy_(torch.tensor([-0.5, -0.5] + 6 * [0.0]))
    guide.discovery.scale_bias.data.fill_(-0.7)
    if explain_away:
        guide.discovery.least = 1.0
        guide.discovery.refined = RefinedLooks(model.decoder, steps, 2.0, 1.0) if steps else None
    guide.discovery.what_encoder.readout.bias.data[3:] = 1.0
    single = SequenceAIRGuide(guide.discovery, guide.image_shape).double()
    guide.discovery.exploration.fill_(0.2)
    video = torch.rand(2, 1, 1, 12, 12).double()
    summed = MarginalELBO("discovery/z_pres/0")
    for on in (False, True):
        use_active_set(air, single, on=on)
        with torch.no_grad():
            weights = [
                objective.log_weights(air, single, video, num_particles=3000).log_weight
                for objective in (summed, Reinforce(1))
            ]
        middle = weights[0].logsumexp(0) - math.log(3000)
        means, errors = [], []
        for weight in weights:
            ratio = (weight - middle).exp()
            means.append(ratio.mean(0))
            errors.append(ratio.std(0) / 3000**0.5)
        assert ((means[0] - means[1]).abs() < 4 * (errors[0] ** 2 + errors[1] ** 2).sqrt()).all()
        assert (errors[1] < 0.1).all()
    loss, _ = summed(air, single)(video)
    loss.backward()
    for name, parameter in single.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
