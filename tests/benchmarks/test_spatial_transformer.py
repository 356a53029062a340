import pytest
import torch

from whatwhere.benchmarks import spatial_transformer
from whatwhere.benchmarks.spatial_transformer import IMPLEMENTATIONS, MODELS, SpatialTransformerBenchmark


@pytest.mark.parametrize("direction", IMPLEMENTATIONS)
def test_implementations_agree_in_values_and_gradients(direction: str):
    """Windows partly outside the image, and glimpses that are not square, included."""
    coords = torch.tensor([0.4, 0.7, 0.0, 0.0]) + 0.3 * torch.rand(2, 3, 4) * torch.tensor([1.0, 1.0, 3, -3])
    coords = coords.double().requires_grad_()
    leading, size = ((3,), (5, 6)) if direction == "crop" else ((2, 3), (11, 12))
    source = torch.rand(*leading, 2, *((11, 12) if direction == "crop" else (5, 6))).double().requires_grad_()
    weight, results = None, []
    for resample in IMPLEMENTATIONS[direction].values():
        value = resample(source, coords, size)
        weight = torch.randn_like(value) if weight is None else weight
        results.append((value, *torch.autograd.grad((value * weight).sum(), [source, coords])))
    torch.testing.assert_close(results[0], results[1])
    assert results[0][0].shape == (2, 3, 2, *size)


def test_report_has_every_comparison(monkeypatch):
    monkeypatch.setattr("whatwhere.benchmarks.harness.wait_until_idle", lambda timeout: None)
    report = spatial_transformer.run(SpatialTransformerBenchmark(rounds=2, warmup=0))
    assert len(report["results"]) == len(IMPLEMENTATIONS) * len(MODELS)
    assert len(spatial_transformer.table(report).splitlines()) == 2 + 16
