"""The random numbers of a training step, as a function of seed, step and process.

Every step starts its generators anew from a hash. There is then no random state to store, a resumed run draws
what an uninterrupted one would, whatever happens between two steps (an evaluation, say) disturbs nothing, and
a run of several processes continues with another number of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["hash_seed", "preserve_random_state", "seed_generators"]


def hash_seed(*key: int | str) -> int:
    """Return a seed below 2**63 from integers and strings; other keys give unrelated seeds.

    Args:
        key: for example the seed of the run, the step and the rank of the process.
    """
    return int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=8).digest(), "big") >> 1


def seed_generators(device: torch.device, *key: int | str) -> None:
    """Seed PyTorch's default generators of the CPU and of `device`; reads nothing back from the device.

    Args:
        device: where the process computes.
        key: see `hash_seed`.
    """
    seed = hash_seed(*key)
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


@contextmanager
def preserve_random_state(device: torch.device) -> Iterator[None]:
    """Restore PyTorch's default generators of the CPU and of `device` after the block.

    Args:
        device: where the process computes.
    """
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield
