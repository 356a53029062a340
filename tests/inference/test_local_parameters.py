"""Pyro's global state where several threads run programs."""

import threading

import pyro
import torch
from torch import Tensor

from whatwhere.inference.objectives import VIMCO, local_parameters


def test_threads_are_served_one_after_the_other(make_generative):
    """Each with a model of its own, none of them sees another's statements, and the setting is restored."""
    start, results = threading.Barrier(4), {}

    def work(i: int) -> None:
        pair = make_generative("AIR")
        objective = VIMCO(2)(pair.model, pair.guide)
        start.wait()
        losses: list[Tensor] = []
        for _ in range(5):
            losses.append(objective(pair.data)[0].detach())
        results[i] = torch.stack(losses).isfinite().all()

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    assert all(results.values())
    assert not pyro.settings.get("module_local_params")


def test_a_second_thread_waits_and_the_first_may_enter_twice():
    entered, left = threading.Event(), []

    def second() -> None:
        with local_parameters():
            left.append(pyro.settings.get("module_local_params"))
            entered.set()

    with local_parameters(), local_parameters():
        thread = threading.Thread(target=second)
        thread.start()
        assert not entered.wait(0.05)
        assert pyro.settings.get("module_local_params")
    thread.join()
    assert left == [True]
    assert not pyro.settings.get("module_local_params")
