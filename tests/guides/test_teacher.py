import torch
from pyro import poutine

from whatwhere.examples.parts.sqair_config import NetworkConfig, PriorConfig
from whatwhere.examples.parts.sqair_programs import build
from whatwhere.guides import hold_objects
from whatwhere.inference.objectives import Substitute


def test_objects_of_the_first_frame_stay_and_nothing_is_new():
    torch.manual_seed(0)
    network = NetworkConfig("mlp", (1, 12, 12), 3, 3, 5, 8, 6, 6)
    _, guide = build(network, PriorConfig())
    video = torch.rand(20, 4, 1, 12, 12)
    with Substitute(hold_objects), torch.no_grad():
        trace = poutine.trace(guide).get_trace(video)
    frames = trace.nodes["_RETURN"]["value"]
    counts = torch.stack([slots.z_pres.sum(-1) for slots in frames])
    assert len(counts[0].unique()) > 1  # the first frame is the guide's own
    assert (counts == counts[0]).all()
    assert (torch.stack([slots.identity for slots in frames]) == frames[0].identity).all()
    for t in range(1, 4):
        assert not any(trace.nodes[f"discovery/z_pres/{t}/{j}"]["value"].any() for j in range(3))
