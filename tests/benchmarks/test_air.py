import json

import pyro
import pytest
import torch

from whatwhere.benchmarks import air


def test_report_is_complete_and_json(monkeypatch):
    monkeypatch.setattr("whatwhere.benchmarks.harness.wait_until_idle", lambda timeout: None)
    monkeypatch.setattr(air, "digit_images", lambda batch, device: torch.rand(batch, 1, 50, 50))
    config = air.AIRBenchmark(batch=2, rounds=2, warmup=0, memory=False)
    with pyro.validation_enabled(True):  # restores what the benchmark turns off
        report = json.loads(json.dumps(air.run(config), allow_nan=False))
    assert report["options"]["batch"] == 2
    for objective in ("marginal", "vimco"):
        contenders = report["results"][objective]["contenders"]
        assert list(contenders) == ["plain torch", "Pyro"]
        for fields in contenders.values():
            assert fields["kernels"] > 100
            assert fields["host_reads"] == 0
        assert contenders["Pyro"]["baseline"] == "plain torch"
    assert len(air.table(report).splitlines()) == 2 + 4


@pytest.mark.parametrize("objective", ["marginal", "vimco"])
def test_contenders_start_alike_and_train(objective):
    images = torch.rand(3, 1, 50, 50)
    contenders = [air.make_contender(objective, way, images) for way in ("plain torch", "Pyro")]
    before = [[parameter.clone() for parameter in contender.parameters] for contender in contenders]
    torch.testing.assert_close(before[0], before[1], rtol=0, atol=0)
    for contender in contenders:
        torch.manual_seed(2)
        contender.step()
    gradients = [[parameter.grad for parameter in contender.parameters] for contender in contenders]
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-4)
    for contender, start in zip(contenders, before, strict=True):
        assert all((new != old).any() for new, old in zip(contender.parameters, start, strict=True))
