import math

import pytest
import torch

from whatwhere.inference.training import RunningClip

CPU = torch.device("cpu")
FINE, SKIPPED = torch.tensor(0.0), torch.tensor(1.0)


def clipped(clip: RunningClip, norm: float, skipped: torch.Tensor = FINE) -> float:
    """Norm of a gradient of a given norm after clipping."""
    grads = [torch.tensor([0.6 * norm, 0.0]), torch.tensor(-0.8 * norm)]
    clip(grads, torch.tensor(norm), skipped)
    assert grads[0][0].item() == pytest.approx(-0.75 * grads[1].item(), nan_ok=True)
    return math.hypot(grads[0][0].item(), grads[1].item())


def test_limits_are_multiples_of_the_running_mean_of_clipped_norms():
    clip, factor, decay, mean = RunningClip(3.0, CPU, decay=0.9), 3.0, 0.9, None
    for norm in (5.0, 4.0, 100.0, 1.0, 0.1, 30.0, 2.0):
        limit = math.inf if mean is None else factor * mean
        assert clipped(clip, norm) == pytest.approx(min(norm, limit), rel=1e-5)
        mean = norm if mean is None else decay * mean + (1 - decay) * min(norm, limit)
        assert clip.state().item() == pytest.approx(mean, rel=1e-6)


def test_of_equal_norms_the_mean_is_that_norm_and_an_outlier_moves_it_by_no_more_than_its_limit():
    clip = RunningClip(2.0, CPU, decay=0.75)
    for _ in range(5):
        clipped(clip, 8.0)
    assert clip.state().item() == pytest.approx(8.0)
    assert clipped(clip, 1e9) == pytest.approx(16.0, rel=1e-5)
    assert clip.state().item() == pytest.approx(0.75 * 8 + 0.25 * 16)


@pytest.mark.parametrize("norm", [math.nan, math.inf, 7.0])
def test_a_skipped_step_leaves_the_mean_as_it_is(norm):
    clip = RunningClip(2.0, CPU)
    clipped(clip, norm, SKIPPED)
    assert clip.state().item() == 0.0
    clipped(clip, 3.0)
    clipped(clip, norm, SKIPPED)
    assert clip.state().item() == pytest.approx(3.0)


def test_it_goes_on_from_its_state():
    first, second = RunningClip(2.0, CPU), RunningClip(2.0, CPU)
    for norm in (1.0, 5.0, 0.3):
        clipped(first, norm)
    second.load(first.state())
    assert [clipped(first, x) for x in (9.0, 1.0)] == [clipped(second, x) for x in (9.0, 1.0)]


@pytest.mark.parametrize(("factor", "decay", "name"), [(1.0, 0.9, "factor"), (2.0, 1.0, "decay")])
def test_numbers_out_of_range_are_refused(factor, decay, name):
    with pytest.raises(ValueError, match=f"`{name}` must be in"):
        RunningClip(factor, CPU, decay)
