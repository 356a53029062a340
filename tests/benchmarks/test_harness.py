import time

import numpy as np
import pytest

from whatwhere.benchmarks import harness
from whatwhere.benchmarks.harness import Measurement, Samples, measure, spread


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(harness, "wait_until_idle", lambda timeout: None)


def test_spread_of_known_numbers():
    assert spread([5.0, 1.0, 2.0, 4.0, 3.0]) == (3.0, 2.0, 4.0, 1.0)
    assert spread([1.0, 2.0]) == (1.5, 1.25, 1.75, 1.0)


def test_spread_equals_numpy():
    values = np.random.default_rng(0).exponential(size=38)
    expected = [*np.percentile(values, [50, 25, 75]), values.min()]
    assert spread(values.tolist()) == pytest.approx(expected)


def test_one_sample_has_no_spread():
    with pytest.raises(ValueError, match="at least 2 samples, got 1"):
        spread([1.0])


def test_ratio_is_formed_round_by_round():
    """The second round is slow for both; the ratio of the medians would be 3, or 1.5."""
    samples = {
        "a": Samples((1.0, 20.0, 3.0), (2.0, 40.0, 6.0)),
        "b": Samples((1.0, 10.0, 2.0), (1.0, 10.0, 2.0)),
    }
    measurement = Measurement(samples, Samples((1.0, 1.0), (1.0, 1.0)), None)
    assert measurement.ratio("a", "b", "wall") == (1.5, 1.25, 1.75, 1.0)
    assert measurement.ratio("a", "b") == (3.0, 2.5, 3.5, 2.0)


def test_matmul_rate_counts_two_operations_a_product():
    samples = Samples((0.5, 0.5), (1.0, 1.0))
    measurement = Measurement({}, samples, None)
    operations = 2 * harness.MATMUL_SIZE**3
    assert measurement.matmul_gflops("wall") == pytest.approx(operations / 0.5 / 1e9)
    assert measurement.matmul_gflops("cpu") == pytest.approx(operations / 1.0 / 1e9)


def test_contenders_are_warmed_up_and_take_turns():
    calls: list[str] = []
    contenders = {name: (lambda name=name: calls.append(name)) for name in "abc"}
    measurement = measure(contenders, rounds=8, warmup=2)
    assert calls[:6] == list("abcabc")
    rounds = ["".join(calls[6 + 3 * i : 9 + 3 * i]) for i in range(8)]
    assert rounds == ["abc", "abc", "bca", "cab"] * 2
    assert set(measurement.samples) == set("abc")
    assert all(len(clock) == 8 for samples in measurement.samples.values() for clock in samples)


def test_processor_time_does_not_pass_while_a_contender_sleeps():
    measurement = measure({"sleeps": lambda: time.sleep(0.02)}, rounds=2, warmup=0)
    assert measurement.times("sleeps", "wall").minimum >= 0.02
    assert measurement.times("sleeps", "cpu").minimum < measurement.times("sleeps", "wall").minimum


@pytest.mark.parametrize("change", [{"contenders": {}}, {"rounds": 1}, {"warmup": -1}])
def test_what_cannot_be_measured_is_refused(change):
    with pytest.raises(ValueError, match="`measure` needs at least one contender, 2 rounds"):
        measure(**{"contenders": {"a": lambda: None}, "rounds": 2, "warmup": 0} | change)
