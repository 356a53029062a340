import json
from dataclasses import replace

import pyro
import pytest
import torch

from whatwhere.benchmarks import discovery
from whatwhere.benchmarks.footprint import count_operations


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """Small networks: the number of steps that follow each other does not depend on their widths."""
    widths = {"what_size": 3, "glimpse_size": 5, "hidden": 8, "narrow": 6, "presence_hidden": 6}
    monkeypatch.setattr(discovery, "NETWORK", replace(discovery.NETWORK, **widths))


def test_a_chain_grows_with_the_slots_and_a_grid_does_not():
    video = torch.rand(2, 1, 1, 50, 50)
    with pyro.validation_enabled(False):
        chain, grid = (
            [count_operations(discovery.make_step(kind, n, 4, video)).kernels for n in (2, 3, 4)]
            for kind in discovery.KINDS
        )
    assert chain[2] - chain[1] == chain[1] - chain[0] > 50
    assert grid[0] == grid[1] == grid[2]


def test_report_is_complete_and_json(monkeypatch):
    monkeypatch.setattr("whatwhere.benchmarks.harness.wait_until_idle", lambda timeout: None)
    config = discovery.DiscoveryBenchmark(batch=2, slots=(1, 2), rounds=2, warmup=0)
    with pyro.validation_enabled(True):  # restores what the benchmark turns off
        report = json.loads(json.dumps(discovery.run(config), allow_nan=False))
    assert list(report["contenders"]) == ["chain, 1", "grid, 1", "chain, 2", "grid, 2"]
    assert len(discovery.table(report).splitlines()) == 4
