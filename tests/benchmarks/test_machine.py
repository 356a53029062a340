import json
import subprocess

import torch

from whatwhere.benchmarks import machine


def test_machine_is_described_in_json():
    described = json.loads(json.dumps(machine.describe_machine(), allow_nan=False))
    assert described["torch"] == torch.__version__
    assert described["threads"] == torch.get_num_threads()
    assert described["cores"] >= 1
    assert described["cpu"]
    assert described["flush_denormal"] is False


def test_flushing_of_denormals_is_noticed():
    if not torch.set_flush_denormal(True):
        return  # this processor cannot
    try:
        assert machine.flushes_denormals()
    finally:
        torch.set_flush_denormal(False)
    assert not machine.flushes_denormals()


def test_waiting_ends_when_the_machine_is_idle_or_the_time_is_up(monkeypatch):
    shares = iter([0.1, 0.5, 0.95, 0.2])
    monkeypatch.setattr(machine, "idle_share", lambda: next(shares))
    assert machine.wait_until_idle(timeout=60) == 0.95
    assert machine.wait_until_idle(timeout=0) == 0.2


def test_idle_share_comes_from_the_ticks(monkeypatch):
    ticks = iter([(100, 1000), (160, 1200)])
    monkeypatch.setattr(machine, "_cpu_ticks", lambda: next(ticks))
    assert machine.idle_share(0.0) == 0.3


def test_systems_without_ticks_are_not_waited_for(monkeypatch):
    monkeypatch.setattr(machine.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(machine, "_cpu_ticks", lambda: None)
    assert machine.idle_share(0.0) is None
    assert machine.wait_until_idle(timeout=60) is None


def test_commit_outside_a_repository_is_unknown(monkeypatch):
    def fail(*args, **kwargs):
        raise subprocess.CalledProcessError(128, "git")

    monkeypatch.setattr(subprocess, "run", fail)
    assert machine.commit() is None
