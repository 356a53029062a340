import pytest

from whatwhere.inference.training import clock
from whatwhere.inference.training.clock import Clock, Times


def test_a_clock_counts_what_is_between_start_and_stop_and_what_was_before(monkeypatch: pytest.MonkeyPatch):
    shown = [0.0]
    monkeypatch.setattr(clock.time, "monotonic", lambda: shown[0])
    monkeypatch.setattr(clock.time, "process_time", lambda: 3 * shown[0])

    def wait(seconds: float) -> None:
        shown[0] += seconds

    watch = Clock()
    wait(1)
    assert watch.elapsed() == Times(0, 0)
    watch.set(Times(10, 20))
    wait(1)
    watch.start()
    wait(2)
    assert watch.since_start() == Times(2, 6)
    assert watch.elapsed() == Times(12, 26)
    watch.stop()
    wait(5)
    assert watch.elapsed() == Times(12, 26)
    watch.start()
    wait(1)
    assert watch.since_start() == Times(1, 3)
    assert watch.elapsed() == Times(13, 29)
