import functools
import json

import pyro
import pytest
import torch

from whatwhere.benchmarks import hart
from whatwhere.benchmarks.footprint import count_operations, saved_bytes
from whatwhere.benchmarks.harness import Measurement, Samples
from whatwhere.models import small_hart
from whatwhere.models.components.gaussian_read import gaussian_read
from whatwhere.models.components.gaussian_windows import GaussianWindow

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    small, large = (
        functools.partial(small_hart, (1, 30, 40), (side, side), hidden_size=5) for side in (13, 17)
    )
    monkeypatch.setattr(hart, "MODELS", {"small": small, "large": large})


def test_report_is_complete_and_json(monkeypatch):
    monkeypatch.setattr("whatwhere.benchmarks.harness.wait_until_idle", lambda timeout: None)
    monkeypatch.setattr(hart, "peak_memory", lambda make_step, device: 1000)
    config = hart.HARTBenchmark(
        batches=(1, 2),
        frames=3,
        training_batch=2,
        training_frames=2,
        rounds=2,
        warmup=0,
        sides=(40, 60),
        side_rounds=3,
    )
    with pyro.validation_enabled(True):  # restores what the benchmark turns off
        report = json.loads(json.dumps(hart.run(config), allow_nan=False))
    results = report["results"]
    assert list(results) == ["tracking, batch 1", "tracking, batch 2", "training, batch 2", "frames"]
    for task, frames in (("tracking, batch 1", 3), ("tracking, batch 2", 6), ("training, batch 2", 4)):
        contenders = results[task]["contenders"]
        assert list(contenders) == ["small", "large"]
        for fields in contenders.values():
            expected = pytest.approx(1e3 * frames / fields["wall_ms"]["median"])
            assert fields["frames_per_wall_second"] == expected
            assert ("saved_bytes" in fields) == (task == "training, batch 2")
            assert fields["peak_bytes"] == 1000
    cases = results["frames"]["contenders"]
    assert [*cases] == [f"{side} x {side}, {kind}" for kind in ("fixed", "share") for side in (40, 60)]
    assert [fields["object_pixels"] for fields in cases.values()] == [32, 32, 10, 15]
    assert cases["40 x 40, share"]["whole read"]["baseline"] == "40 x 40, share: read"
    assert len(hart.table(report).splitlines()) == 2 + 6
    assert len(hart.frames_table(report).splitlines()) == 2 + 4
    assert len(hart.describe(report).splitlines()) == 1 + 4


def test_the_rest_is_the_difference_of_each_round():
    """Not of the medians, 20 - 3."""
    seconds = {"frame": (0.010, 0.020, 0.030), "read": (0.001, 0.007, 0.003)}
    samples = {name: Samples(times, tuple(2 * time for time in times)) for name, times in seconds.items()}
    fields = hart.difference(Measurement(samples, samples["read"], None), "frame", "read")
    assert fields["wall_ms"]["median"] == pytest.approx(13)
    assert fields["cpu_ms"]["upper"] == pytest.approx(2 * (13 + 27) / 2)


def test_objects_are_in_their_frames_and_frames_are_bytes():
    video, boxes = hart.clips(50, 3, (2, 40, 60), (10, 15), CPU)
    assert video.shape == (50, 3, 2, 40, 60)
    assert video.dtype == torch.uint8
    assert boxes.shape == (50, 3, 4)
    assert (boxes[..., 2:] == torch.tensor([15, 10])).all()
    assert (boxes >= 0).all()
    assert (boxes[..., :2] + boxes[..., 2:] <= torch.tensor([60, 40])).all()
    assert (boxes[:, 0, :2].amax(0) > torch.tensor([40, 25])).all()


def test_the_read_of_all_pixels_is_the_same_read():
    frame = torch.randint(0, 256, (3, 2, 90, 150), dtype=torch.uint8)
    fields = torch.tensor([75.0, 45.0]) * torch.rand(3, 2), 3 * torch.rand(3, 2), 0.5 + torch.rand(3, 2)
    window = GaussianWindow(*(field.double() for field in fields))
    read = hart.read_whole(frame, window, (5, 6))
    torch.testing.assert_close(read, gaussian_read(frame, window, (5, 6)), rtol=0, atol=1e-12)


def test_a_frame_is_read_as_the_tracker_reads_it():
    calls = hart.make_frame(100, 32, 2, CPU)
    _, seen = calls["frame"]()
    assert not seen.evidence.requires_grad
    torch.testing.assert_close(calls["read"](), seen.glimpse)
    torch.testing.assert_close(calls["whole read"](), seen.glimpse, rtol=0, atol=1e-4)


def test_larger_frames_are_no_more_work():
    """The number of operators, and what they compute on: no result is as large as a frame."""
    small, large = (hart.make_frame(side, 32, 1, CPU) for side in (160, 640))
    assert count_operations(small["frame"]) == count_operations(large["frame"])

    class Largest(torch.utils._python_dispatch.TorchDispatchMode):
        numel = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor) and result.is_floating_point():
                Largest.numel = max(Largest.numel, result.numel())
            return result

    sizes = []
    for calls in (small, large):
        Largest.numel = 0
        with Largest():
            calls["read"]()
        sizes.append(Largest.numel)
    assert max(sizes) < 3 * 100 * 100
    with Largest():
        large["whole read"]()
    assert Largest.numel == 3 * 640 * 640


def test_training_learns_and_keeps_no_frames_but_those_it_was_given(monkeypatch):
    monkeypatch.setitem(hart.MODELS, "large", functools.partial(small_hart, (3, 500, 600)))
    contender = hart.make_training("large", 1, 2, CPU)
    *parameters, video = contender.parameters
    before = [parameter.detach().clone() for parameter in parameters]
    kept = saved_bytes(contender.step, contender.parameters)
    assert kept < video.numel()  # bytes; as floats the frames alone would be four times as many
    assert any((new != old).any() for new, old in zip(parameters, before, strict=True))


def test_tracking_is_evaluation(monkeypatch):
    modes = []

    def forward(model, video, first_box):
        modes.append((model.training, torch.is_grad_enabled(), video.dtype, tuple(first_box.shape)))

    monkeypatch.setattr("whatwhere.models.hart.HART.forward", forward)
    hart.make_tracking("small", 2, 3, CPU).step()
    assert modes == [(False, False, torch.uint8, (2, 4))]
