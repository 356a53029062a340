import os
import signal
import threading

import pytest

from whatwhere.inference.training.interrupts import SignalWatch


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_first_signal_is_noted_and_the_handlers_return_afterwards(number):
    before = signal.getsignal(number)
    with SignalWatch() as watch:
        assert watch.received is None
        os.kill(os.getpid(), number)
        assert watch.received == number
    assert signal.getsignal(number) == before


def test_handlers_return_after_an_error():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyError), SignalWatch():
        raise KeyError
    assert signal.getsignal(signal.SIGINT) == before


def test_second_interrupt_raises_only_if_impatient():
    with SignalWatch(impatient=False) as watch:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGINT)
        assert watch.received == signal.SIGINT
    with SignalWatch():
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_other_threads_install_nothing():
    before, inside = signal.getsignal(signal.SIGINT), []

    def watch() -> None:
        with SignalWatch():
            inside.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=watch)
    thread.start()
    thread.join()
    assert inside == [before]
