import os
from collections.abc import Iterator
from pathlib import Path

import pyro
import pytest
import torch
from hypothesis import settings

# Examples are the same in every run, and a busy machine is no failure.
settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")


@pytest.fixture(autouse=True)
def _fresh_pyro() -> Iterator[None]:
    """Every test starts with a known seed, an empty parameter store, and Pyro's validation on."""
    torch.manual_seed(0)
    pyro.clear_param_store()
    with pyro.validation_enabled(True):
        yield
    pyro.clear_param_store()


@pytest.fixture
def real_data() -> Path:
    """The folder of real data, for tests that need it."""
    folder = os.environ.get("WHATWHERE_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("real data is absent: set WHATWHERE_DATA to its folder")
    return Path(folder)


def pytest_configure() -> None:
    """Networks here are small: more threads gain nothing, and lose a lot where another program runs."""
    torch.set_num_threads(1)
