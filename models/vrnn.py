"""The variational recurrent neural network: the generative half.

Chung et al., *A Recurrent Latent Variable Model for Sequential Data*, 2015, in the form in which Kosiorek et
al., *Sequential Attend, Infer, Repeat*, 2018, compare SQAIR with it. It knows no objects: each frame is drawn
from one vector and the state of a recurrent network that has seen all vectors and frames before,

    p(x, z) = prod_t p(z_t | z_{<t}, x_{<t}) p(x_t | z_{<=t}, x_{<t})
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal, NamedTuple

import pyro
import pyro.distributions as dist
import torch
import torch.nn.functional as F
from pyro import poutine
from pyro.poutine import Trace
from torch import Tensor, nn

from .. import checks
from .components.frames import Frames
from .components.inputs import require_pixels
from .components.likelihood import GaussianImage, pixel_scale
from .components.networks import LocScale, mlp
from .components.programs import Program
from .components.recurrent import LSTMState, SplitInputLSTM
from .components.slots import concatenate

RAW_SCALE_BIAS = 0.25
"""Added to the raw standard deviation of `z_t`, which so begins at 0.83 (Maddison et al., *Filtering
Variational Objectives*, 2017, released code)."""

FeedBack = Literal["sample", "mean"]
"""What the recurrent network sees of a frame that is not given."""


class VRNNFrame(NamedTuple):
    """What the model says about one frame."""

    z: Tensor
    """The latent vector, `(..., Z)`."""
    canvas: Tensor
    """Mean image, `(..., C, H, W)`; not clamped."""


class VRNNState(NamedTuple):
    """What is carried from frame to frame; what is the same for all data lacks their axes."""

    recurrent: LSTMState
    """State of the LSTM, `(..., J)`."""
    latent: Tensor
    """Features of the latent vector of the frame before, `(..., F)`; zeros in the first frame."""
    frame: Tensor | None = None
    """Features of the frame before, `(..., E)`, where the model itself has drawn it; None where it is
    given."""


class NormalHead(nn.Module):
    """An MLP to a diagonal normal distribution, with `softplus(raw + RAW_SCALE_BIAS)` as standard deviation.

    Args:
        sizes: of the input and the hidden layers.
        latent_size: Z.
    """

    def __init__(self, sizes: Sequence[int], latent_size: int) -> None:
        super().__init__()
        checks.at_least(1, latent_size=latent_size)
        self.network = mlp([*sizes, 2 * latent_size], nn.ELU)
        glorot_weights(self)

    def forward(self, features: Tensor) -> LocScale:
        """Map `(..., F)` to a normal over `(..., Z)`."""
        loc, raw_scale = self.network(features).chunk(2, dim=-1)
        return LocScale(loc, F.softplus(raw_scale + RAW_SCALE_BIAS))


class VRNNDynamics(nn.Module):
    """What model and guide share: the recurrent network, what it sees, and the prior of the next vector.

        o_t, state = LSTM([psi_x(x_{t-1}), psi_z(z_{t-1})], state),   p(z_t | past) = Normal(prior(o_t))

    The frame before the first is black, and the features of the vector before the first are zeros.

    Args:
        frame_encoder: psi_x, from frames `(..., C, H, W)` to features `(..., E)`.
        frame_size: E.
        image_shape: C, H and W.
        latent_size: Z; the paper's 165 are the numbers of SQAIR's three objects, `3 (50 + 4 + 1)`.
        hidden: width of psi_z and of the hidden layers.
        recurrent: J, units of the LSTM.
        layers: layers of psi_z, and hidden layers of the prior.
    """

    def __init__(
        self,
        frame_encoder: nn.Module,
        frame_size: int,
        image_shape: tuple[int, int, int] = (1, 50, 50),
        latent_size: int = 165,
        hidden: int = 256,
        recurrent: int = 256,
        layers: int = 2,
    ) -> None:
        super().__init__()
        checks.at_least(1, frame_size=frame_size, image_shape=image_shape, latent_size=latent_size)
        checks.at_least(1, hidden=hidden, recurrent=recurrent, layers=layers)
        self.frame_encoder = frame_encoder
        self.latent_encoder = mlp([latent_size, *[hidden] * layers], nn.ELU, activate_last=True)
        self.lstm = SplitInputLSTM(frame_size, hidden, recurrent)
        self.prior = NormalHead([recurrent, *[hidden] * layers], latent_size)
        self.image_shape = image_shape
        self.latent_size = latent_size
        self.feature_size = hidden
        glorot_weights(self.frame_encoder, self.latent_encoder)
        _initialise_lstm(self.lstm)

    def initial_state(self) -> VRNNState:
        """The state before the first frame, without axes of data."""
        latent = self.lstm.from_input.weight.new_zeros(self.feature_size)
        return VRNNState(self.lstm.initial_state(latent), latent)

    @property
    def dtype(self) -> torch.dtype:
        """Of the parameters."""
        return self.lstm.from_input.weight.dtype

    def black(self) -> Tensor:
        """Features of the frame before the first, `(E,)`."""
        features: Tensor = self.frame_encoder(self.lstm.from_input.weight.new_zeros(self.image_shape))
        return features

    def forward(self, before: Tensor, state: VRNNState) -> LSTMState:
        """The next state of the LSTM, whose output is o_t.

        Args:
            before: features of the frame before, `(..., E)`.
            state: of the frame before.
        """
        following: LSTMState = self.lstm(self.lstm.from_context(before), state.latent, state.recurrent)
        return following


class TransposedConvDecoder(nn.Module):
    """A fully connected layer and transposed convolutions of 3 x 3 pixels: `ConvFeatures` in a mirror.

    Sizes are those that the encoder's maps have, so that frames of any size come out whole. ELU throughout,
    but linear pixels.

    Args:
        feature_size: F.
        image_shape: channels, height and width.
        channels: of the *encoder's* convolutions, in its order.
        strides: of the encoder's convolutions, 1 or 2.

    Raises:
        ValueError: if `channels` and `strides` differ in length.
    """

    def __init__(
        self,
        feature_size: int,
        image_shape: tuple[int, int, int],
        channels: Sequence[int],
        strides: Sequence[int],
    ) -> None:
        super().__init__()
        if len(channels) != len(strides):
            raise ValueError(
                f"`channels` and `strides` must have one length, got {len(channels)} and {len(strides)}."
            )
        colours, *size = image_shape
        layers: list[nn.Module] = []
        for before, after, stride in zip((colours, *channels), channels, strides, strict=False):
            smaller = [-(-side // stride) for side in size]
            rest = [side - (stride * (less - 1) + 1) for side, less in zip(size, smaller, strict=True)]
            enlarge = nn.ConvTranspose2d(
                after, before, 3, stride, padding=1, output_padding=(rest[0], rest[1])
            )
            layers = [enlarge, nn.ELU(), *layers]
            size = smaller
        self.image_shape = torch.Size(image_shape)
        self.map_shape = torch.Size((channels[-1], *size))
        self.map = mlp([feature_size, self.map_shape.numel()], nn.ELU, activate_last=True)
        # A fifth faster on a CPU: convolutions of one memory layout pass theirs on to the next.
        self.convolutions = nn.Sequential(*layers[:-1])
        self.convolutions.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, features: Tensor) -> Tensor:
        """Decode `(..., F)` to `(..., C, H, W)`."""
        maps = self.map(features).reshape(-1, *self.map_shape)
        return self.convolutions(maps).reshape(*features.shape[:-1], *self.image_shape)


class VRNN(Program):
    """Generative model of videos with one latent vector a frame.

    Statements of frame `t`: the vector `z/t`, then the image `x/t`.

    Args:
        dynamics: the recurrent network; give the guide the same one.
        decoder: psi_dec, from `[psi_z(z_t), o_t]`, `(..., dynamics.feature_size + J)`, to mean images
            `(..., C, H, W)`.
        likelihood_scale: standard deviation of the pixels; becomes a buffer, which training may anneal.
    """

    likelihood_scale: Tensor

    def __init__(self, dynamics: VRNNDynamics, decoder: nn.Module, likelihood_scale: float = 0.3) -> None:
        super().__init__()
        self.dynamics = dynamics
        self.decoder = decoder
        # It follows from the configuration and the step, so checkpoints do not have it.
        self.register_buffer("likelihood_scale", pixel_scale(likelihood_scale), persistent=False)
        glorot_weights(decoder)

    def forward(
        self,
        video: Tensor | None = None,
        batch_size: int | None = None,
        frames: int | None = None,
        feed_back: FeedBack = "sample",
    ) -> list[VRNNFrame]:
        """Sample latent vectors and, unless they are given, images.

        Args:
            video: `(B, T, C, H, W)` in [0, 1], or nothing to sample from the prior.
            batch_size: B, where there is no video.
            frames: number of frames, where there is no video, or it is to go on: those after its end are
                drawn.
            feed_back: whether the recurrent network goes on from the noisy pixels of a frame that was drawn,
                as the model says, or from its mean image.

        Returns:
            one `VRNNFrame` for each frame.

        Raises:
            ValueError: if the video has another shape or type, nothing says how much to sample, or the
                numbers contradict the video.
        """
        said: list[VRNNFrame] = self.unroll(video, batch_size, frames, feed_back).run()
        return said

    def unroll(
        self,
        video: Tensor | None = None,
        batch_size: int | None = None,
        frames: int | None = None,
        feed_back: FeedBack = "sample",
    ) -> Frames:
        """The same, frame by frame; the state is a `VRNNState`."""
        batch_size, frames = self._sizes(video, batch_size, frames)
        if feed_back not in ("sample", "mean"):
            raise ValueError(f'`feed_back` must be "sample" or "mean", got {feed_back!r}')
        before: list[Tensor | None] = [self.dynamics.black()]
        images: list[Tensor | None] = []
        if video is not None:
            images += video.unbind(1)
            # Each frame once, whatever the number of particles; nothing comes after the last.
            if seen := min(len(images), frames - 1):
                before += self.dynamics.frame_encoder(video[:, :seen]).unbind(1)
        rest = [None] * frames
        steps = (
            partial(self.step, t, *known, feed_back=feed_back)
            for t, known in enumerate(zip((images + rest)[:frames], (before + rest)[:frames], strict=True))
        )
        return Frames.of_data(batch_size, self.dynamics.initial_state(), steps)

    def step(
        self,
        t: int,
        image: Tensor | None,
        before: Tensor | None,
        state: VRNNState,
        feed_back: FeedBack = "sample",
    ) -> tuple[VRNNFrame, VRNNState]:
        """One frame.

        Args:
            t: number of the frame, from 0.
            image: `(B, C, H, W)`, or None to draw it.
            before: features of the frame before, `(..., E)`; None where the model has drawn that.
            state: of the frame before.
            feed_back: see `forward`.
        """
        before = state.frame if before is None else before
        assert before is not None
        recurrent = self.dynamics(before, state)
        prior = self.dynamics.prior(recurrent.hidden)
        z = pyro.sample(f"z/{t}", dist.Normal(prior.loc, prior.scale).to_event(1))
        latent = self.dynamics.latent_encoder(z)
        canvas = self.decoder(concatenate(latent, recurrent.hidden))
        x = pyro.sample(f"x/{t}", GaussianImage(canvas, self.likelihood_scale), obs=image)
        frame = None
        if image is None:
            frame = self.dynamics.frame_encoder(x if feed_back == "sample" else canvas)
        return VRNNFrame(z, canvas), VRNNState(recurrent, latent, frame)

    @torch.no_grad()
    def generate(
        self,
        batch_size: int,
        frames: int,
        given: Trace | None = None,
        video: Tensor | None = None,
        feed_back: FeedBack = "mean",
    ) -> list[VRNNFrame]:
        """Draw videos from the prior, or go on from first frames.

        Look at the canvases: pixels drawn with the standard deviation of the likelihood hide what is there.

        Args:
            batch_size: B.
            frames: T, those that are given included.
            given: trace of the guide on the first frames of B videos, whose latent vectors are as it says.
            video: these frames, `(B, t, C, H, W)`, which the recurrent network sees too.
            feed_back: see `forward`. The default is not a sample of the model, but goes on from frames that
                look as those of training do.

        Raises:
            ValueError: if only one of `given` and `video` is there, or `forward` refuses them.
        """
        if (given is None) != (video is None):
            raise ValueError("`given` and `video` go together: a trace of the guide, and what it has seen")
        fixed = {} if given is None else {n: s["value"] for n, s in given.nodes.items() if n.startswith("z/")}
        conditioned = poutine.condition(self, data=fixed)
        drawn: list[VRNNFrame] = conditioned(video, batch_size, frames, feed_back)
        return drawn

    def _sizes(self, video: Tensor | None, batch_size: int | None, frames: int | None) -> tuple[int, int]:
        if video is None:
            if batch_size is None or frames is None:
                raise ValueError(
                    "`VRNN` needs a `video`, or `batch_size` and `frames` to sample from the prior."
                )
            return batch_size, frames
        require_pixels("video", video, "BT", self.dynamics.image_shape, dtype=self.dynamics.dtype)
        size, length = video.shape[:2]
        if batch_size not in (None, size) or (frames is not None and frames < length):
            raise ValueError(
                f"expected `batch_size` {size} and `frames` of at least {length}, as of the video, got "
                f"{batch_size} and {frames}"
            )
        return size, frames or length


def glorot_weights(*modules: nn.Module) -> None:
    """Glorot's uniform distribution for the weights of layers and convolutions; biases are zero."""
    for module in modules:
        for layer in module.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
                nn.init.xavier_uniform_(layer.weight)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)


def _initialise_lstm(lstm: SplitInputLSTM) -> None:
    """As `glorot_weights`, and the forget gate begins by remembering: its bias is 1."""
    # The parts are one matrix, so their scale is that of all the inputs.
    parts = lstm.from_context.weight, lstm.from_input.weight
    bound = (6 / (sum(part.shape[1] for part in parts) + parts[0].shape[0])) ** 0.5
    for part in parts:
        nn.init.uniform_(part, -bound, bound)
    nn.init.zeros_(lstm.from_context.bias)
    nn.init.ones_(lstm.from_context.bias.detach().chunk(4)[1])
