"""The VRNN's guide: its statements, what they see, and how they relate to the prior."""

import pytest
import torch
from pyro import poutine
from torch import Tensor, nn

from whatwhere.guides.vrnn import VRNNGuide
from whatwhere.models.vrnn import VRNN, NormalHead, VRNNDynamics

SHAPE, Z = (1, 4, 5), 3


def programs() -> tuple[VRNN, VRNNGuide]:
    """A pair put together by hand."""
    encoder = nn.Sequential(nn.Flatten(-3), nn.Linear(20, 6), nn.Tanh())
    dynamics = VRNNDynamics(encoder, 6, SHAPE, Z, hidden=7, recurrent=5, layers=1)
    decoder = nn.Sequential(nn.Linear(7 + 5, 20), nn.Unflatten(-1, SHAPE))
    guide = VRNNGuide(dynamics, NormalHead([5 + 6, 8], Z))
    return VRNN(dynamics, decoder).double(), guide.double()


def videos(batch: int = 4, frames: int = 3) -> Tensor:
    return torch.rand(batch, frames, *SHAPE, dtype=torch.float64)


def given(frames: int = 3, batch: int = 4) -> dict[str, Tensor]:
    return {f"z/{t}": torch.randn(batch, Z, dtype=torch.float64) for t in range(frames)}


def run(program: nn.Module, video: Tensor, z: dict[str, Tensor]) -> poutine.Trace:
    return poutine.trace(poutine.condition(program, data=z)).get_trace(video)


def parameters(trace: poutine.Trace, t: int) -> tuple[Tensor, Tensor]:
    normal = trace.nodes[f"z/{t}"]["fn"].base_dist
    return normal.loc, normal.scale


def test_guide_and_model_have_the_same_statements():
    model, guide = programs()
    video = videos()
    q = poutine.trace(guide).get_trace(video)
    p = poutine.trace(poutine.replay(model, trace=q)).get_trace(video)
    assert q.stochastic_nodes == p.stochastic_nodes == ["data", "z/0", "z/1", "z/2"]
    assert p.observation_nodes == ["x/0", "x/1", "x/2"]
    assert q.nodes["_RETURN"]["value"] == [q.nodes[f"z/{t}"]["value"] for t in range(3)]


def test_without_a_network_of_its_own_the_guide_has_the_mean_of_the_prior():
    model, guide = programs()
    for parameter in guide.posterior.parameters():
        parameter.data.zero_()
    video, z = videos(), given()
    q, p = run(guide, video, z), run(model, video, z)
    for t in range(3):
        (loc, scale), (prior, _) = parameters(q, t), parameters(p, t)
        torch.testing.assert_close(loc, prior.expand_as(loc))
        torch.testing.assert_close(scale, torch.full_like(scale, 0.25).exp().log1p())
        assert t == 0 or loc.abs().max() > 0.01


def test_the_posterior_sees_its_frame_and_earlier_ones():
    _, guide = programs()
    video, z = videos(frames=4), given(frames=4)
    changed = video.clone()
    changed[1, 2] = 1 - changed[1, 2]
    before, after = run(guide, video, z), run(guide, changed, z)
    for t in range(4):
        difference = (parameters(before, t)[0] - parameters(after, t)[0]).abs().amax(-1)
        assert (difference[[0, 2, 3]] == 0).all()
        assert (difference[1] > 1e-6) == (t >= 2)


def test_the_posterior_sees_earlier_vectors():
    _, guide = programs()
    video, z = videos(frames=4), given(frames=4)
    before, after = run(guide, video, z), run(guide, video, z | {"z/1": z["z/1"] + 1})
    for t in range(4):
        same = torch.equal(parameters(before, t)[0], parameters(after, t)[0])
        assert same == (t <= 1)


def test_the_first_frame_follows_a_black_one():
    """A video that starts with a black frame tells the second frame what the first one is told."""
    _, guide = programs()
    seen: list[Tensor] = []
    guide.dynamics.lstm.register_forward_hook(lambda *call: seen.append(call[1][0]))
    video = videos(frames=2)
    video[:, 0] = 0
    run(guide, video, given(frames=2))
    torch.testing.assert_close(seen[0].expand_as(seen[1]), seen[1])


def test_bad_videos_are_refused():
    _, guide = programs()
    with pytest.raises(ValueError, match=r"\(B, T, 1, 4, 5\), but got \(2, 3, 1, 4, 6\)"):
        guide(torch.rand(2, 3, 1, 4, 6))
    with pytest.raises(ValueError, match=r"floating point in \[0, 1\], but got torch\.uint8"):
        guide(torch.zeros(2, 3, *SHAPE, dtype=torch.uint8))
