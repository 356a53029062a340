from functools import partial

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine

from whatwhere.models.components.frames import Frames


def test_state_goes_from_frame_to_frame():
    frames = Frames(10, [lambda state, t=t: (f"frame {t} after {state}", state + t) for t in range(1, 4)])
    assert frames.run() == ["frame 1 after 10", "frame 2 after 11", "frame 3 after 13"]


def test_no_frames_say_nothing():
    assert Frames(None, []).run() == []


def test_sequences_are_independent_in_every_step():
    def step(t, state):
        return pyro.sample(f"z/{t}", dist.Normal(state, 1.0)), state + 1

    frames = Frames.of_data(4, torch.zeros(()), [partial(step, t) for t in range(2)])
    trace = poutine.trace(frames.run).get_trace()
    assert [value.shape for value in trace.nodes["_RETURN"]["value"]] == [(4,), (4,)]
    for t in range(2):
        (plate,) = trace.nodes[f"z/{t}"]["cond_indep_stack"]
        assert (plate.name, plate.size, plate.dim) == ("data", 4, -1)
        assert (trace.nodes[f"z/{t}"]["fn"].mean == t).all()
