import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyro
import pytest
import torch
from hypothesis import settings
from pyro import poutine
from torch import Tensor

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


class Generative(NamedTuple):
    """A small generative model and its guide, in double precision and with parameters off their start."""

    model: Any
    guide: Any
    data: Tensor
    """Two images or videos, `(B, C, H, W)` or `(B, T, C, H, W)`."""

    def latent(self) -> list[str]:
        """Names of the latent variables in the order in which the guide draws them."""
        trace = poutine.trace(self.guide).get_trace(self.data)
        return [name for name in trace.stochastic_nodes if name != "data"]

    def presences(self) -> list[str]:
        """Those of them that are presences."""
        return [name for name in self.latent() if "z_pres" in name]


GENERATIVE = (
    "AIR",
    "AIR-evidence",
    "SQAIR",
    "SQAIR-hold",
    "SQAIR-evidence",
    "SQAIR-relational",
    "SequenceAIR",
    "VRNN",
)


@pytest.fixture(scope="session")
def make_generative() -> Callable[..., Generative]:
    """Builds the generative models of the package by name, with `count` slots and `frames` frames."""

    def make(name: str, count: int = 2, frames: int = 2, dtype: torch.dtype = torch.float64) -> Generative:
        from whatwhere.examples.sqair import NetworkConfig, PriorConfig, SQAIRConfig, programs_of
        from whatwhere.examples.vrnn import NetworkConfig as VRNNNetwork
        from whatwhere.examples.vrnn import build as build_vrnn
        from whatwhere.guides import AIRGuide, EvidenceAIRGuide
        from whatwhere.models import AIR
        from whatwhere.models.components.networks import GlimpseDecoder, GlimpseEncoder
        from whatwhere.models.priors import GeometricCount

        if name.startswith("AIR"):
            sizes = {"what_size": 3, "image_shape": (1, 12, 12)}
            decoder = GlimpseDecoder(3, (1, 5, 5), (6,))
            model = AIR(GeometricCount(count, 0.5), decoder=decoder, **sizes)
        if name == "AIR-evidence":
            encoder = GlimpseEncoder((1, 5, 5), 3, (6,))
            guide = EvidenceAIRGuide(
                decoder, encoder=encoder, glimpse_size=(5, 5), max_count=count, hidden=6, **sizes
            )
        elif name == "AIR":
            guide = AIRGuide(
                encoder=GlimpseEncoder((1, 5, 5), 3, (6,)),
                glimpse_size=(5, 5),
                max_count=count,
                hidden_size=8,
                head_hidden=(6,),
                use_baseline=True,
                **sizes,
            )
        elif name == "VRNN":
            network = VRNNNetwork("mlp", (1, 12, 12), latent_size=3, hidden=6, recurrent=5)
            model, guide = build_vrnn(network)
        else:
            network = NetworkConfig("mlp", (1, 12, 12), count, 3, 5, 8, 6, 6)
            prior = PriorConfig(stay_logit=0.5)
            if name == "SQAIR-relational":
                network = replace(network, background="vae")
                prior = replace(prior, propagation="relational")
            if name == "SQAIR-grid":
                network = replace(
                    network, discovery="grid", cells=2, layers=True, background="static", looks="sticky"
                )
                prior = replace(prior, where="fixed", object_size=(5.0, 4.0), price=1.0, what="flow")
            if name == "SQAIR-evidence":
                network = replace(
                    network,
                    discovery="evidence",
                    looks="sticky",
                    follow="tracked",
                    background="none",
                    clamp=True,
                    anywhere=True,
                )
                prior = replace(prior, propagation="motion", where="fixed", object_size=(5.0, 4.0), price=1.0)
            if name == "SQAIR-explaining":
                network = replace(
                    network,
                    second_look=True,
                    explain_away=True,
                    refine_looks=1,
                    looks="static",
                    follow="tracked",
                    background="none",
                    clamp=True,
                )
                prior = replace(prior, propagation="motion", size_logit=-0.4, what="flow")
            kind, hold = "air" if name == "SequenceAIR" else "sqair", int(name == "SQAIR-hold")
            model, guide = programs_of(SQAIRConfig(model=kind, network=network, prior=prior, hold_steps=hold))
        if name == "SQAIR-hold":
            for phase in (guide.propagation, guide.discovery):
                phase.hold.fill_(0.3)
        for parameter in dict.fromkeys([*model.parameters(), *guide.parameters()]):
            parameter.data += 0.1 * torch.randn_like(parameter)
        shape = (2, 1, 12, 12) if name.startswith("AIR") else (2, frames, 1, 12, 12)
        return Generative(model.to(dtype), guide.to(dtype), torch.rand(shape, dtype=dtype))

    return make


@pytest.fixture(params=GENERATIVE)
def generative(request: pytest.FixtureRequest, make_generative: Callable[..., Generative]) -> Generative:
    """Each of them."""
    return make_generative(request.param)


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
