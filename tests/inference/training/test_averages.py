import math

import pytest
import torch

from whatwhere.inference.training import Process
from whatwhere.inference.training.averages import RunningMeans

TAKEN, SKIPPED = torch.tensor(0.0), torch.tensor(1.0)


def means() -> RunningMeans:
    return RunningMeans(Process(torch.device("cpu")))


def test_mean_is_over_the_steps_that_count_and_starts_again_when_read():
    running = means()
    assert running.read() == {}
    for value, flag in ((1.0, TAKEN), (math.nan, SKIPPED), (4.0, TAKEN)):
        running.add({"a": torch.tensor(value), "b": torch.tensor([2.0 * value])}, flag)
    assert running.read() == {"a": 2.5, "b": 5.0}
    running.add({"a": torch.tensor(7.0), "b": torch.tensor(0.0)}, TAKEN)
    assert running.read() == {"a": 7.0, "b": 0.0}


def test_mean_over_no_step_is_nan():
    running = means()
    running.add({"a": torch.tensor(1.0)}, SKIPPED)
    assert math.isnan(running.read()["a"])


def test_sums_keep_small_differences_of_large_numbers():
    running = means()
    for value in (2.0**24, 1.0, 1.0, 1.0, 1.0):  # in float32, 2**24 + 1 is 2**24
        running.add({"a": torch.tensor(value)}, TAKEN)
    assert running.read()["a"] == (2**24 + 4) / 5


def test_no_graph_is_kept():
    running, parameter = means(), torch.ones((), requires_grad=True)
    running.add({"a": parameter * 2}, TAKEN)
    assert not running.state()["sums"].requires_grad


def test_state_continues_elsewhere():
    first, second = means(), means()
    first.add({"a": torch.tensor(1.0)}, TAKEN)
    second.load(first.state())
    second.add({"a": torch.tensor(2.0)}, TAKEN)
    assert second.read() == {"a": 1.5}
    second.load(means().state())
    assert second.read() == {}


def test_other_names_are_an_error():
    running = means()
    running.add({"a": TAKEN}, TAKEN)
    with pytest.raises(ValueError, match=r"expected the diagnostics \('a',\), got \('b',\)"):
        running.add({"b": TAKEN}, TAKEN)
