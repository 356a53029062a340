import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
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


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """The folder of a real data set, by its name; tests that need one that is absent are skipped."""

    def folder(name: str) -> Path:
        root = os.environ.get("WHATWHERE_DATA")
        if not root or not (Path(root) / name).is_dir():
            pytest.skip(f"needs real data: set WHATWHERE_DATA to a folder that holds `{name}`")
        return Path(root) / name

    return folder


@pytest.fixture(scope="session")
def write_film() -> Callable[..., Path]:
    """Writes frames `(T, H, W)` or `(T, H, W, 3)` as a video file; without loss by default.

    `codec` and `pix_fmt` are FFmpeg's names, and `rotation` is counter-clockwise in degrees.
    """
    av = pytest.importorskip("av", reason="needs PyAV: pip install 'whatwhere[video]'")

    def write(
        path: Path,
        frames: np.ndarray,
        codec: str = "ffv1",
        pix_fmt: str | None = None,
        rotation: int = 0,
        **options: str,
    ) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        grey = frames.ndim == 3
        with av.open(str(path), "w", options=options) as container:
            stream = container.add_stream(codec, rate=25)
            stream.height, stream.width = frames.shape[1:3]
            stream.pix_fmt = pix_fmt or ("gray" if grey else "bgr0")
            if rotation:
                if not hasattr(stream, "set_display_rotation"):
                    pytest.skip("this PyAV cannot write the camera's orientation")
                stream.set_display_rotation(rotation)
            kind = "gray" if grey else "rgba" if frames.shape[-1] == 4 else "rgb24"
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), kind)))
            container.mux(stream.encode())
        return path

    return write


def pytest_configure() -> None:
    """Networks here are small: more threads gain nothing, and lose a lot where another program runs."""
    torch.set_num_threads(1)
