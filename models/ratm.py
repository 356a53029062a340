"""RATM, the recurrent attentive tracking model: a tracker that answers before it sees the frame.

Kahou, Michalski & Memisevic, *RATM: Recurrent Attentive Tracking Model*, 2017. The state after a frame says
where to look in the next one; the window that is read there *is* the predicted box:

    p_t = attention(h_{t-1})                            parameters of the window, p_0 from the first box
    f_t = features(read(x_t, window(p_t)))
    h_t = relu(W_in f_t + W_rec h_{t-1}),  h_{-1} = 0

It never sees how the object looked at first, but through its state. `GlimpseEvidence`, a part that the
published form does not have, compares each frame with the first glimpse, and moves the window to the place
that is most like it before it is read.

Departures from the authors' program for KTH, which `KTHWindows(released_quirks=True)` takes back: strides are
not rounded down, and the grid is symmetric about its centre.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, NamedTuple, Protocol

import pyro
import torch
from pyro.nn import PyroModule
from torch import Tensor, nn

from .. import checks
from .components.attention import Size
from .components.boxes import middles
from .components.constants import constant
from .components.gaussian_read import RATM_EPSILON, gaussian_read
from .components.gaussian_windows import (
    GaussianWindow,
    SigmaRule,
    boxes_to_window,
    ratm_kth_parameters,
    ratm_kth_window,
    ratm_parameters,
    ratm_window,
    smooth_knee_sigma,
    window_to_boxes,
    window_within_image,
)
from .components.glimpse_evidence import Found, GlimpseEvidence, Memory
from .components.inputs import require_first_boxes, require_pixels
from .components.plates import Plate
from .components.precision import without_autocast


class RATMTracks(NamedTuple):
    """Where RATM looked in each frame, and what it saw."""

    boxes: Tensor
    """Predicted boxes `(B, T, 4)`, `(left, top, width, height)` in pixels; not clipped to the frame."""
    windows: GaussianWindow
    """Fields `(B, T, 2)`, in pixels."""
    glimpses: Tensor
    """`(B, T, C, h, w)`, in [0, 1]."""
    features: Tensor
    """Of the glimpses, `(B, T, F)`."""
    hidden: Tensor
    """State after each frame, `(B, T, D)`."""
    scores: Tensor | None = None
    """How much the places that were found look like the object, `(B, T)`, at most 1; None without evidence of
    the first glimpse.
    """
    lost: Tensor | None = None
    """Whether the object counts as lost, `(B, T)`, boolean; None without that evidence."""


class WindowRule(Protocol):
    """What six numbers mean: a window of the image, and a box."""

    glimpse_size: Size
    """Height and width of the glimpse."""

    def parameters(self, boxes: Tensor, size: Size) -> Tensor:
        """The numbers `(..., 6)` of the windows around true boxes `(..., 4)` in images of `size`."""

    def window(self, parameters: Tensor, size: Size) -> GaussianWindow:
        """The windows of numbers `(..., 6)`."""

    def boxes(self, window: GaussianWindow) -> Tensor:
        """The boxes `(..., 4)` that windows stand for."""

    def moved(self, parameters: Tensor, shift: Tensor, size: Size) -> Tensor:
        """The numbers `(..., 6)` of windows that are moved by `shift` `(..., 2)`, in pixels."""


class PaperWindows:
    """The paper's parameters, see `ratm_window`; the box is the rectangle of the samples.

    Args:
        glimpse_size: height and width, at least 2 x 2.
        sigma: width of the Gaussians of a window that is made of a box; later ones are predicted.
        bounded: keep windows within the image, see `window_within_image`. The paper does not; without it
            windows that are lost leave the image, or grow, for good.
    """

    def __init__(
        self, glimpse_size: Size, sigma: SigmaRule = smooth_knee_sigma, bounded: bool = False
    ) -> None:
        checks.whole(glimpse_size=glimpse_size)
        checks.at_least(2, glimpse_size=glimpse_size)
        self.glimpse_size = glimpse_size
        self.sigma = sigma
        self.bounded = bounded

    def parameters(self, boxes: Tensor, size: Size) -> Tensor:
        """First and last samples lie on the borders of the box."""
        return ratm_parameters(boxes_to_window(boxes, self.glimpse_size, self.sigma), size, self.glimpse_size)

    def window(self, parameters: Tensor, size: Size) -> GaussianWindow:
        """See `ratm_window`."""
        window = ratm_window(parameters, size, self.glimpse_size)
        return window_within_image(window, size, self.glimpse_size) if self.bounded else window

    def boxes(self, window: GaussianWindow) -> Tensor:
        """From the first to the last sample, without the skirts of the Gaussians."""
        return window_to_boxes(window, self.glimpse_size)

    def moved(self, parameters: Tensor, shift: Tensor, size: Size) -> Tensor:
        """Middles are in halves of the frame's sides."""
        return _moved(parameters, 2 * shift, size)


class KTHWindows:
    """The parameters of the authors' program for KTH, see `ratm_kth_window`.

    The window is larger than the box, because the network for people was trained on pictures with some room
    around them; the box is the rectangle of the samples made smaller by as much. A window that is made of a
    box stands for a box smaller by `(W - 1) / W` and `(H - 1) / H`.

    Args:
        glimpse_size: height and width, at least 2 x 2.
        enlargement: side of the window over that of the box.
        released_quirks: round strides and shift the grid as the program does. A perfect window then overlaps
            the true box by 0.76.
    """

    def __init__(
        self, glimpse_size: Size = (28, 28), enlargement: float = 1.5, released_quirks: bool = False
    ) -> None:
        checks.whole(glimpse_size=glimpse_size)
        checks.at_least(2, glimpse_size=glimpse_size)
        checks.positive(enlargement=enlargement)
        self.glimpse_size = glimpse_size
        self.enlargement = enlargement
        self.released_quirks = released_quirks

    def parameters(self, boxes: Tensor, size: Size) -> Tensor:
        """See `ratm_kth_parameters`."""
        return ratm_kth_parameters(boxes, size, self.glimpse_size, self.enlargement)

    def window(self, parameters: Tensor, size: Size) -> GaussianWindow:
        """See `ratm_kth_window`."""
        return ratm_kth_window(parameters, size, self.glimpse_size, self.released_quirks)

    def boxes(self, window: GaussianWindow) -> Tensor:
        """The rectangle of the samples, `enlargement` times smaller about its centre."""
        return window_to_boxes(window._replace(stride=window.stride / self.enlargement), self.glimpse_size)

    def moved(self, parameters: Tensor, shift: Tensor, size: Size) -> Tensor:
        """Middles are in the frame's sides."""
        return _moved(parameters, shift, size)


def _moved(parameters: Tensor, shift: Tensor, size: Size) -> Tensor:
    share = shift / constant((size[1], size[0]), shift)
    return torch.cat([parameters[..., :2] + share, parameters[..., 2:]], dim=-1)


class BoxStart(nn.Module):
    """Begins with the window around the first box, as on KTH."""

    needs_box: ClassVar[bool] = True

    def forward(self, windows: WindowRule, first_box: Tensor, size: Size) -> Tensor:
        """The parameters `(B, 6)` of the first window."""
        return windows.parameters(first_box, size)


class FrameShareStart(nn.Module):
    """Begins with a large window about the middle of the first box, as for one of several digits.

    Args:
        share: side of the window over that of the frame.
    """

    needs_box: ClassVar[bool] = True

    def __init__(self, share: float = 0.8) -> None:
        super().__init__()
        checks.positive(share=share)
        self.share = share

    def forward(self, windows: WindowRule, first_box: Tensor, size: Size) -> Tensor:
        """The parameters `(B, 6)` of the first window."""
        left, top, width, height = first_box.unbind(-1)
        across, down = self.share * size[1], self.share * size[0]
        box = [left + (width - across) / 2, top + (height - down) / 2]
        box += [torch.full_like(left, across), torch.full_like(left, down)]
        return windows.parameters(torch.stack(box, dim=-1), size)


class LearnedStart(nn.Module):
    """Begins all videos with one window, which is learned, as for balls and single digits.

    Args:
        parameters: its first value `(6,)`: `windows.parameters(box, size)` of the whole frame for digits, of
            a `random_box` for balls.
    """

    needs_box: ClassVar[bool] = False

    def __init__(self, parameters: Tensor) -> None:
        super().__init__()
        if parameters.shape != (6,):
            raise ValueError(f"`parameters` must have shape (6,), but got {tuple(parameters.shape)}.")
        self.bias = nn.Parameter(parameters.detach().clone())

    def forward(self, windows: WindowRule, first_box: Tensor | None, size: Size) -> Tensor:
        """The parameters `(6,)` of the first window."""
        return self.bias


def random_box(size: Size, generator: torch.Generator) -> Tensor:
    """A box to begin with for balls: a middle in the inner half of the frame, 0.3 to 0.8 of its sides long.

    The paper says "random"; the ranges are this project's.

    Args:
        size: height and width of the frame.
        generator: of the random numbers.

    Returns:
        `(4,)`, in pixels.
    """
    frame = torch.tensor([float(size[1]), float(size[0])])
    share = 0.3 + 0.5 * torch.rand(2, generator=generator)
    middle = 0.25 + 0.5 * torch.rand(2, generator=generator)
    return torch.cat([(middle - share / 2) * frame, share * frame])


class RATMAttention(nn.Module, ABC):
    """Where to look next, from the state of the recurrent cell.

    The weights are uniform at first, as in the authors' program for KTH; the paper does not tell how they
    are for balls and digits.

    Args:
        hidden_size: D.
        windows: what the parameters mean.
        start: parameters of the first window.
        bound: greatest weight at first.
    """

    def __init__(
        self,
        hidden_size: int,
        windows: WindowRule,
        start: BoxStart | FrameShareStart | LearnedStart,
        bound: float = 1e-3,
    ) -> None:
        super().__init__()
        self.windows = windows
        self.start = start
        self.from_hidden = nn.Linear(hidden_size, 6, bias=False)
        nn.init.uniform_(self.from_hidden.weight, -bound, bound)

    def first(self, first_box: Tensor | None, batch_size: int, size: Size) -> Tensor:
        """Parameters of the first windows, `(B, 6)`.

        Raises:
            ValueError: if the first box is needed and missing.
        """
        if first_box is None and self.start.needs_box:
            raise ValueError(
                f"`first_box` of shape (B, 4) is needed by `{type(self.start).__name__}`, but got None."
            )
        if first_box is not None:
            first_box = first_box.to(self.from_hidden.weight)
        return self.start(self.windows, first_box, size).expand(batch_size, 6)

    @abstractmethod
    def forward(self, hidden: Tensor, previous: Tensor, first: Tensor) -> Tensor:
        """Parameters of the next windows.

        Args:
            hidden: state, `(B, D)`.
            previous: parameters of the windows that led to it, `(B, 6)`.
            first: what `first` returned, `(B, 6)`.

        Returns:
            `(B, 6)`.
        """

    def _read_out(self, hidden: Tensor) -> Tensor:
        # Half precision would round a way of 50 pixels by 0.2.
        with without_autocast(hidden.device):
            return self.from_hidden(hidden.to(self.from_hidden.weight.dtype))


class AbsoluteAttention(RATMAttention):
    """`p_t = W h_{t-1} + b`, the paper's; the bias b is the first window, learned or of the video."""

    def forward(self, hidden: Tensor, previous: Tensor, first: Tensor) -> Tensor:
        """See `RATMAttention.forward`."""
        return first + self._read_out(hidden)


class ResidualAttention(RATMAttention):
    """`p_t = p_{t-1} + W h_{t-1}`, that of the authors' program for KTH."""

    def forward(self, hidden: Tensor, previous: Tensor, first: Tensor) -> Tensor:
        """See `RATMAttention.forward`."""
        return previous + self._read_out(hidden)


class RATM(PyroModule):
    """Tracks one object through a video.

    Statements of frame `t`, all deterministic: `window/t` `(g, delta, sigma)`, six numbers in pixels, x
    before y; `glimpse/t` and `box/t`. The window of frame t depends on the frames before it only.

    | data     | glimpse | `attention`, its start            | `features`       | `cell`            |
    |----------|---------|-----------------------------------|------------------|-------------------|
    | balls    | 5 x 5   | absolute, learned from a random box | pixels         | `IRNN(25, 64)`    |
    | digit    | 28 x 28 | absolute, learned from the frame  | pixels           | `IRNN(784, 100)`  |
    | digits   | 28 x 28 | absolute, 0.8 of the frame        | pixels           | `IRNN(784, 100)`  |
    | KTH      | 28 x 28 | residual, from the box            | `human_features` | `IRNN(3136, 32)`  |

    The authors' program for KTH has a seventh parameter, an intensity that it does not use; here are six.

    Args:
        image_shape: channels, height and width of a frame.
        attention: where: the next window from the state.
        features: what: maps glimpses `(B, C, h, w)` to `(B, F)`. `Frozen` keeps it as it is.
        cell: maps features `(B, F)` and a state `(B, D)` to the next state, and has `initial_state`, as
            `IRNN`.
        evidence: compares each frame with the first glimpse, for residual attention that begins around the
            box, which goes on from where the window was moved to; its `NUMBERS` are further features of the
            cell, F + NUMBERS in all.

    Raises:
        ValueError: if there is evidence for another attention.
    """

    DECAYED: ClassVar[tuple[str, str]] = ("cell.from_input.weight", "attention.from_hidden.weight")
    """The parameters whose squares the authors' objective for KTH adds, where the cell is an `IRNN`."""

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        attention: RATMAttention,
        features: nn.Module,
        cell: nn.Module,
        evidence: GlimpseEvidence | None = None,
    ) -> None:
        super().__init__()
        follows = isinstance(attention, ResidualAttention) and isinstance(attention.start, BoxStart)
        if evidence is not None and not follows:
            raise ValueError(
                "`evidence` is for `ResidualAttention` with `BoxStart`, "
                f"got {type(attention).__name__} with {type(attention.start).__name__}"
            )
        self.image_shape = torch.Size(image_shape)
        self.attention = attention
        self.features = features
        self.cell: Any = cell
        self.evidence = evidence

    @property
    def image_size(self) -> Size:
        """Height and width of a frame."""
        return self.image_shape[1], self.image_shape[2]

    @property
    def scored(self) -> bool:
        """Whether tracks have scores, and tell where the object is lost."""
        return self.evidence is not None

    def forward(self, video: Tensor, first_box: Tensor | None = None) -> RATMTracks:
        """Track the object of each video.

        Args:
            video: `(B, T, C, H, W)`, floating point in [0, 1], or uint8, which stands for it.
            first_box: of the object in the first frame, `(B, 4)`, `(left, top, width, height)` in pixels;
                not needed where the start is learned.

        Raises:
            ValueError: if the video or the boxes have another shape or type, a box is missing that is needed,
                or one has no area or is outside the frame (see `require_first_boxes`).
        """
        return next(self.follow([video], first_box))

    def follow(self, parts: Iterable[Tensor], first_box: Tensor | None = None) -> Iterator[RATMTracks]:
        """The same for videos of any length that come part by part: only one part is in memory.

        Args:
            parts: of the videos, in order, `(B, n, C, H, W)`; n may differ.
            first_box: in the first frame of the first part, see `forward`.

        Yields:
            The tracks of each part.

        Raises:
            ValueError: see `forward`.
        """
        attention, windows = self.attention, self.attention.windows
        parameters: Tensor | None = None
        first: Tensor | None = None
        hidden: Tensor | None = None
        memory: Memory | None = None
        found: Found | None = None
        plate: Plate | None = None
        start = 0
        for video in parts:
            require_pixels("video", video, "BT", self.image_shape, allow_bytes=True)
            batch_size, frames = video.shape[:2]
            if parameters is None or first is None:
                if first_box is not None:
                    # On an accelerator the values are read in evaluation only: a training step must not wait.
                    check_values = first_box.device.type == "cpu" or not self.training
                    require_first_boxes(first_box, batch_size, self.image_size, check_values)
                parameters = first = attention.first(first_box, batch_size, self.image_size)
            seen = []
            plate = plate or Plate("data", batch_size, dim=-1)
            with plate:
                for t in range(frames):
                    if hidden is not None:
                        parameters = attention(hidden, parameters, first)
                    if self.evidence is not None and first_box is not None:
                        memory = memory or self.evidence.start(video[:, t], first_box.to(parameters))
                        found, memory = self._look(self.evidence, video[:, t], parameters, first_box, memory)
                        parameters = windows.moved(parameters, found.shift, self.image_size)
                    window = windows.window(parameters, self.image_size)
                    glimpse = gaussian_read(video[:, t], window, windows.glimpse_size, RATM_EPSILON)
                    box = windows.boxes(window)
                    pyro.deterministic(f"window/{start + t}", torch.cat(window, dim=-1), event_dim=1)
                    pyro.deterministic(f"glimpse/{start + t}", glimpse, event_dim=3)
                    pyro.deterministic(f"box/{start + t}", box, event_dim=1)
                    features = self.features(glimpse)
                    known = features if found is None else torch.cat([features, found.numbers], dim=-1)
                    state = self.cell.initial_state(known) if hidden is None else hidden
                    hidden = self.cell(known, state)
                    looked = () if found is None else (found.score, found.lost)
                    seen.append((box, *window, glimpse, features, hidden, *looked))
            start += frames
            boxes, centre, stride, sigma, glimpses, *rest = (
                torch.stack(f, dim=1) for f in zip(*seen, strict=True)
            )
            yield RATMTracks(boxes, GaussianWindow(centre, stride, sigma), glimpses, *rest)

    def _look(
        self, evidence: GlimpseEvidence, frame: Tensor, parameters: Tensor, first_box: Tensor, memory: Memory
    ) -> tuple[Found, Memory]:
        """Where a frame is most like the first glimpse, around the window of `parameters`."""
        windows = self.attention.windows
        box = windows.boxes(windows.window(parameters, self.image_size)).detach()
        growth = box[:, 2:].prod(-1, keepdim=True) / first_box[:, 2:].to(box).prod(-1, keepdim=True)
        return evidence(frame, middles(box), growth.log() / 2, memory)

    def read_boxes(self, video: Tensor, boxes: Tensor) -> Tensor:
        """Glimpses of the windows around given boxes, read as the tracker reads: what it should see.

        Args:
            video: `(B, T, C, H, W)`, see `forward`.
            boxes: `(B, T, 4)`, in pixels.

        Returns:
            `(B, T, C, h, w)`.
        """
        windows = self.attention.windows
        window = windows.window(windows.parameters(boxes, self.image_size), self.image_size)
        rows = GaussianWindow(*(field.flatten(0, 1) for field in window))
        glimpses = gaussian_read(video.flatten(0, 1), rows, windows.glimpse_size, RATM_EPSILON)
        return glimpses.unflatten(0, video.shape[:2])
