import json
from dataclasses import replace

import pyro
import pytest
import torch

from whatwhere.benchmarks import sqair
from whatwhere.benchmarks.footprint import count_operations

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """Small networks: neither arithmetic nor counts depend on their widths."""
    widths = {"what_size": 3, "glimpse_size": 5, "hidden": 8, "narrow": 6}
    monkeypatch.setattr(sqair, "NETWORK", replace(sqair.NETWORK, **widths))


def test_report_is_complete_and_json(monkeypatch):
    monkeypatch.setattr("whatwhere.benchmarks.harness.wait_until_idle", lambda timeout: None)
    monkeypatch.setattr(sqair, "peak_memory", lambda make_step, device, calls=3: 1000 * calls)
    config = sqair.SQAIRBenchmark(
        batch=2, particles=2, frames=2, rounds=2, warmup=0, lengths=(1,), chunks=(5, 10)
    )
    with pyro.validation_enabled(True):  # restores what the benchmark turns off
        report = json.loads(json.dumps(sqair.run(config), allow_nan=False))
    assert report["options"]["batch"] == 2
    for state in ("initial", "trained"):
        contenders = report["results"][state]["contenders"]
        assert list(contenders) == ["plain torch", "Pyro", "Pyro, active set"]
        assert contenders["plain torch"]["host_reads"] == contenders["Pyro"]["host_reads"] == 0
        assert contenders["Pyro, active set"]["host_reads"] > 0
        assert contenders["Pyro"]["baseline"] == "plain torch"
        assert all(fields["peak_bytes"] == 3000 for fields in contenders.values())
    lengths = report["results"]["lengths"]["contenders"]
    assert list(lengths) == ["T = 1, plain torch", "T = 1, Pyro"]
    assert lengths["T = 1, Pyro"]["baseline"] == "T = 1, plain torch"
    followers = report["results"]["propagation"]["contenders"]
    assert list(followers) == ["learned, active set", "tracked, active set", "learned", "tracked"]
    assert followers["learned"]["host_reads"] == followers["tracked"]["host_reads"] == 0
    assert report["evaluation"] == {"5": {"peak_bytes": 1000}, "10": {"peak_bytes": 1000}}
    assert len(sqair.table(report).splitlines()) == 2 + 6 + 2 + 4
    assert len(sqair.notes(report).splitlines()) == 2 + 1 + 2 + 2


@pytest.mark.parametrize("state", ["initial", "trained"])
def test_contenders_start_alike_and_train(state):
    """All three are the same arithmetic: the active set, too, changes nothing but the speed."""
    video = sqair.moving_digits(2, 3, CPU)
    contenders = [sqair.make_contender(state, way, video, 3) for way in sqair.WAYS]
    before = [[parameter.clone() for parameter in contender.parameters] for contender in contenders]
    for contender, start in zip(contenders, before, strict=True):
        torch.testing.assert_close(start, before[0], rtol=0, atol=0)
        torch.manual_seed(2)
        contender.step()
        gradients = [[parameter.grad for parameter in each.parameters] for each in (contender, contenders[0])]
        torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-2)
        if state == "initial":  # a trained guide's certainties have no gradient
            assert all((new != old).any() for new, old in zip(contender.parameters, start, strict=True))


def test_a_trained_guide_finds_one_object_and_keeps_it():
    video = sqair.moving_digits(2, 4, CPU)
    counts = sqair.mean_objects(sqair.make_programs("trained", video).guide, video, 5000)
    assert counts[0] == pytest.approx(1, abs=4 * (1.3 / 10_000) ** 0.5)  # four standard errors
    assert counts[-1] == pytest.approx(counts[0], abs=5e-3)


@pytest.mark.parametrize("way", ["plain torch", "Pyro"])
def test_kernels_grow_linearly_with_the_frames_and_nothing_is_read(way):
    video = sqair.moving_digits(2, 4, CPU)
    with pyro.validation_enabled(False):
        steps = [sqair.make_contender("initial", way, video[:, :frames], 2).step for frames in (2, 3, 4)]
        two, three, four = map(count_operations, steps)
    assert two.host_reads == three.host_reads == four.host_reads == 0
    assert four.kernels - three.kernels == pytest.approx(three.kernels - two.kernels, abs=3)
