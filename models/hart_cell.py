"""One frame of HART: where it looks, what it sees there, and where it will look next; see `hart`."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .components.attention import Size, clip_straight_through
from .components.bounded_sizes import BoundedSizes
from .components.boxes import box_within_image, middles
from .components.camera_motion import CameraMotion
from .components.dynamic_filters import DynamicFilterLayer
from .components.gaussian_read import HART_EPSILON, gaussian_read
from .components.gaussian_windows import (
    GaussianWindow,
    SigmaRule,
    boxes_to_window,
    hart_boxes,
    smooth_knee_sigma,
)
from .components.glimpse_evidence import NUMBERS, GlimpseEvidence, Memory
from .components.initialisers import glorot_uniform
from .components.networks import fill_output_bias, mlp
from .components.precision import without_autocast
from .components.recurrent import LSTMState, ZoneoutLSTM
from .components.visual_cortex import (
    DorsalStream,
    VentralStream,
)

Init = Literal["released", "modern"]
"""First values of parameters: `released` as in the authors' program, which draws biases too; `modern` has
biases of 0, and of 1 for the forget gate."""

Units = Literal["frame", "window"]
"""What steps of the attention, corrections of boxes and margins are measured by: the sides of the frame, as
in the paper; or of the window that was read (the margin, of the object's box)."""

_LARGEST_BIAS: dict[Units, float] = {"frame": 0.25, "window": 0.9}
_FIRST_STEP: dict[Units, float] = {"frame": -2.5, "window": -1.0}
"""First values of kappa: steps of at most 0.076 of the frame, and 0.27 of the window."""
_FIRST_STEP_BESIDE_EVIDENCE = -3.0  # evidence moves the window; the network's steps are corrections
_SMALLEST = 1.0  # pixels


class HARTState(NamedTuple):
    """What is kept from frame to frame."""

    attention: Tensor
    """Box of the window to be read next, `(B, 4)`, in pixels."""
    appearance: Tensor
    """What the object looks like, alpha, `(B, D)`."""
    lstm: LSTMState
    """Fields `(B, D)`."""
    memory: Memory | None = None
    """What `GlimpseEvidence` knows; None without."""
    first_sides: Tensor | None = None
    """Width and height of the first window, `(B, 2)`; None without `BoundedSizes`."""
    size: Tensor | None = None
    """Logarithm of the sides in units of the first, `(B, 1)`; None without `BoundedSizes`."""
    scene: Tensor | None = None
    """The frame before, coarse, see `CameraMotion`; None where the camera is not followed."""


class HARTFrame(NamedTuple):
    """What happened in a frame."""

    attention: Tensor
    """Box of the window that was read, `(B, 4)`, in pixels."""
    glimpse: Tensor
    """`(B, C, h, w)`, in [0, 1]."""
    mask_logits: Tensor | None
    """`(B, r, c)`."""
    filters: Tensor | None
    """`(B, F)`."""
    evidence: Tensor
    """z, of which attention and box are read out, `(B, Z)`."""
    score: Tensor | None = None
    """How much the place that was found looks like the object, `(B,)`; None without `GlimpseEvidence`."""
    lost: Tensor | None = None
    """Whether the object counts as lost, `(B,)`, boolean; None without `GlimpseEvidence`."""


class HARTCell(nn.Module):
    """One frame of HART: the whole network, a plain module.

    The box is read out apart, by `boxes`: it is not fed back, so a video needs a single product of matrices.

    Args:
        image_shape: channels, height and width of a frame.
        glimpse_size: height and width of a glimpse.
        v1: maps glimpses `(B, C, h, w)` in [0, 1] to `(B, *v1.map_shape)`.
        ventral: what is in the glimpse.
        dorsal: where the object is in it. None removes appearance attention: the mask is 1 everywhere, and z
            is the output of the LSTM alone.
        lstm: takes the features v; its output describes the appearance.
        sigma: width of the Gaussians, given the stride.
        mask_features: Q, features of the mask in z.
        head_size: width of the hidden layers that attention and box are read out by.
        margin: by how much the first windows are larger than the first boxes, on each side, in `units`; the
            first value of beta. The program's is 0.
        init: see `Init`.
        units: see `Units`.
        bounded: keep the windows' middles in the frame, and windows no larger than it, with straight-through
            gradients.
        detached: let no gradient pass from frame to frame through what windows show or where they are, only
            through the LSTM: each step of a window answers for the next frame alone. The other gradients
            explode in long or hard videos.
        evidence: compares each frame with the first glimpse. The window is moved to the place that was found
            before it is read; numbers of `evidence` are added to the features of the LSTM and to z. Steps of
            the window are taken as far as the place is trusted.
        camera: how the whole frame moves; windows are moved as far before anything else. None for a camera
            that stands still.
        sizes: bounds sizes, for `units` "window"; by default steps and corrections are free. With `evidence`
            the size follows what that says, and not the network's step.

    Raises:
        ValueError: if the parts do not fit together.
    """

    _frame: Tensor
    _where_scale: Tensor

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        glimpse_size: Size,
        v1: nn.Module,
        ventral: VentralStream,
        dorsal: DorsalStream | None,
        lstm: ZoneoutLSTM,
        sigma: SigmaRule = smooth_knee_sigma,
        mask_features: int = 10,
        head_size: int = 100,
        margin: float = 0.0,
        init: Init = "released",
        units: Units = "frame",
        bounded: bool = False,
        detached: bool = False,
        evidence: GlimpseEvidence | None = None,
        sizes: BoundedSizes | None = None,
        camera: CameraMotion | None = None,
    ) -> None:
        super().__init__()
        channels, rows, columns = map_shape(v1)
        for name, got, expected in (
            ("ventral.in_channels", ventral.in_channels, channels),
            ("dorsal.in_channels", dorsal and dorsal.in_channels, channels),
            ("dorsal.control_size", dorsal and dorsal.control_size, lstm.hidden_size),
        ):
            if got is not None and got != expected:
                raise ValueError(f"`{name}` must be {expected}, as the part before has, but got {got}.")
        if units not in _LARGEST_BIAS:
            raise ValueError(f'`units` must be "frame" or "window", got {units!r}')
        if not 0 <= margin < _LARGEST_BIAS[units] / 2:
            raise ValueError(f"`margin` must be in [0, {_LARGEST_BIAS[units] / 2}), got {margin}")
        if sizes is not None and units != "window":
            raise ValueError(f'`sizes` are for `units` "window", got {units!r}')
        if init not in ("released", "modern"):
            raise ValueError(f'`init` must be "released" or "modern", got {init!r}')
        self.glimpse_size = glimpse_size
        self.sigma = sigma
        self.units, self.bounded, self.detached = units, bounded, detached
        self.v1, self.ventral, self.dorsal, self.lstm = v1, ventral, dorsal, lstm
        self.evidence, self.sizes, self.camera = evidence, sizes, camera
        numbers = 0 if evidence is None else NUMBERS
        self.features = nn.Linear(ventral.channels * rows * columns + 6 + numbers, lstm.input_size)
        self.first_features = nn.Linear(lstm.input_size, lstm.input_size)
        self.first_hidden = nn.Linear(lstm.hidden_size, lstm.hidden_size)
        self.first_cell = nn.Linear(lstm.hidden_size, lstm.hidden_size)
        known = lstm.hidden_size + numbers
        self.mask_features: nn.Linear | None = None
        if dorsal is not None:
            self.mask_features = nn.Linear(rows * columns, mask_features)
            known += mask_features
        self.attention_head = mlp([known, head_size, 4], nn.ELU)
        self.box_head = mlp([known, head_size, 4], nn.ELU)
        first_step = _FIRST_STEP[units] if evidence is None else _FIRST_STEP_BESIDE_EVIDENCE
        self.step_size = nn.Parameter(torch.full((4,), first_step))  # kappa
        self.bias = nn.Parameter(torch.empty(4))  # theta
        self.register_buffer("_frame", torch.empty(4), persistent=False)
        self.register_buffer("_where_scale", torch.empty(6), persistent=False)
        self.image_shape = torch.Size(image_shape)
        self.set_image_size(self.image_size)
        self._initialise(margin, init)

    def _initialise(self, margin: float, init: Init) -> None:
        new = [self.features, self.first_features, self.first_hidden, self.first_cell]
        new += [] if self.mask_features is None else [self.mask_features]
        glorot_uniform(*new, self.attention_head, self.box_head)
        for head in (self.attention_head, self.box_head):
            # Boxes and windows rest where they are at first.
            nn.init.uniform_(head[-1].get_parameter("weight"), -1e-3, 1e-3)
            fill_output_bias(head, 0.0)
        share = torch.tensor([-margin, -margin, 2 * margin, 2 * margin]) / _LARGEST_BIAS[self.units]
        with torch.no_grad():
            self.bias.copy_(share.atanh() + torch.empty(4).uniform_(-1e-3, 1e-3))
        if init == "modern":
            _set_biases(self)

    @property
    def image_size(self) -> Size:
        """Height and width of a frame."""
        return self.image_shape[1], self.image_shape[2]

    def set_image_size(self, image_size: Size) -> None:
        """Be for frames of another height and width from now on, see `HART.resized`."""
        height, width = (float(side) for side in image_size)
        self.image_shape = torch.Size((self.image_shape[0], *image_size))
        self._frame.copy_(torch.tensor([width, height, width, height]))
        self._where_scale.copy_(_where_scale(image_size, self.glimpse_size))

    def margin(self) -> Tensor:
        """Beta, `(4,)`: by how much a window's left, top, width and height differ from an object's box.

        In pixels, or in units of the box.
        """
        share = _LARGEST_BIAS[self.units] * self.bias.tanh()
        return hart_boxes(share, self.image_size) if self.units == "frame" else share

    def windows_around(self, boxes: Tensor) -> Tensor:
        """Boxes of the windows that show objects with boxes `(..., 4)`: `b + beta`."""
        margin = self.margin()
        return self._kept(boxes + (margin if self.units == "frame" else margin * _sides(boxes)))

    def boxes_within(self, windows: Tensor) -> Tensor:
        """Boxes of the objects that windows `(..., 4)` are around: `a - beta`."""
        margin = self.margin()
        if self.units == "frame":
            return windows - margin
        extent = windows[..., 2:] / (1 + margin[2:])
        return torch.cat([windows[..., :2] - margin[:2] * extent, extent], dim=-1)

    def _kept(self, windows: Tensor) -> Tensor:
        return _at_least_a_pixel(box_within_image(windows, self.image_size) if self.bounded else windows)

    def start(self, frame: Tensor, first_box: Tensor) -> HARTState:
        """The state before the first frame.

        Args:
            frame: the first one, `(B, C, H, W)`.
            first_box: of the object in it, `(B, 4)`, in pixels.
        """
        first_box = first_box.to(self.step_size)
        glimpse, where = self._read(frame, first_box)
        maps = self.v1(glimpse)
        memory = None
        if self.evidence is not None:
            memory = self.evidence.start(frame, first_box)
            where = torch.cat([where, self.evidence.first_numbers(first_box)], dim=-1)
        features = self.first_features(self._features(self.ventral(maps), where)).relu()
        appearance, (hidden, cell) = self.lstm(features, self.lstm.initial_state(features))
        first = LSTMState(self.first_hidden(hidden).relu(), self.first_cell(cell).relu())
        scene = None if self.camera is None else self.camera.coarse(frame)
        state = HARTState(self.windows_around(first_box), appearance, first, memory, scene=scene)
        if self.sizes is None:
            return state
        sides = state.attention[:, 2:]
        return state._replace(first_sides=sides, size=torch.zeros_like(sides[:, :1]))

    def forward(
        self, frame: Tensor, state: HARTState, carried: Tensor | None = None
    ) -> tuple[HARTState, HARTFrame]:
        """Look at a frame: the next state, and what was seen.

        Args:
            frame: `(B, C, H, W)`.
            state: after the frame before.
            carried: where `camera` has found that the frame has moved, `(B, 2)`, if it is known already; the
                state's coarse frame is then not touched.
        """
        attention, memory = state.attention, state.memory
        if carried is None and self.camera is not None:
            motion, scene = self.camera.along(frame[:, None], state.scene)
            carried, state = motion[:, 0], state._replace(scene=scene)
        if carried is not None:
            attention = self._kept(_moved(attention, carried))
        found = None
        if self.evidence is not None and memory is not None:
            found, memory = self.evidence(frame, middles(attention), _level(state), memory)
            attention = _moved(attention, found.shift)
        window = attention.detach() if self.detached else attention
        glimpse, where = self._read(frame, window)
        maps = self.v1(glimpse)
        ventral = self.ventral(maps)
        if found is not None:
            where = torch.cat([where, found.numbers], dim=-1)
        logits = filters = None
        if self.dorsal is not None:
            logits, filters = self.dorsal(maps, state.appearance)
            mask = logits.sigmoid()
            ventral = ventral * mask.unsqueeze(1)
        output, lstm = self.lstm(self._features(ventral, where), state.lstm)
        known = [output]
        if self.mask_features is not None:
            known.append(F.elu(self.mask_features(mask.flatten(1))))
        if found is not None:
            known.append(found.numbers.to(output.dtype))
        evidence = torch.cat(known, dim=-1)
        change = _read_out(self.attention_head, evidence)
        growth = None
        if found is not None:
            change, growth = change * found.trust[:, None], found.growth
        after, size = self._stepped(window, change, state, growth)
        score, lost = (None, None) if found is None else (found.score, found.lost)
        frame_seen = HARTFrame(attention, glimpse, logits, filters, evidence, score, lost)
        return state._replace(
            attention=after, appearance=output, lstm=lstm, memory=memory, size=size
        ), frame_seen

    def _stepped(
        self, window: Tensor, change: Tensor, state: HARTState, growth: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """The next window, and the logarithm of its size, for numbers `(B, 4)` in [-1, 1]."""
        step = self.step_size.sigmoid() * change
        step = hart_boxes(step, self.image_size) if self.units == "frame" else step * _sides(window)
        if self.sizes is None or state.size is None or state.first_sides is None:
            return self._kept(window + step), None
        before = state.size.detach() if self.detached else state.size
        # Sizes that were learned of pasted objects made boxes of real video worse; what is seen serves both.
        size = self.sizes.next(before, change[:, 2:] if growth is None else growth)
        extent = state.first_sides * size.exp()
        middle = middles(window) + step[:, :2]
        return self._kept(torch.cat([middle - extent / 2, extent], dim=-1)), size

    def boxes(self, attention: Tensor, evidence: Tensor) -> Tensor:
        """The object's boxes after the first frame, `(..., 4)` in pixels.

        Args:
            attention: of the frames, `(..., 4)`.
            evidence: of the same frames, `(..., Z)`.
        """
        unit = self._frame if self.units == "frame" else _sides(attention)
        change = _read_out(self.box_head, evidence)
        if self.sizes is not None:
            change = self.sizes.correction(change)
        return _at_least_a_pixel(self.boxes_within(attention) + change * unit)

    def window(self, boxes: Tensor) -> GaussianWindow:
        """The filters over boxes `(..., 4)`: the first and the last lie on their borders."""
        return boxes_to_window(boxes, self.glimpse_size, self.sigma)

    def _read(self, frame: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Glimpses of a frame, and six numbers that tell where they are."""
        window = self.window(boxes)
        where = torch.cat([boxes[..., :2], window.sigma, window.stride], dim=-1) * self._where_scale
        return gaussian_read(frame, window, self.glimpse_size, HART_EPSILON), where

    def _features(self, ventral: Tensor, where: Tensor) -> Tensor:
        return F.elu(self.features(torch.cat([ventral.flatten(1), where.to(ventral.dtype)], dim=-1)))


def map_shape(v1: nn.Module) -> torch.Size:
    """Channels, rows and columns of what a first visual area makes of a glimpse."""
    shape = getattr(v1, "map_shape", None)
    if not isinstance(shape, torch.Size) or len(shape) != 3:
        raise ValueError(f"`v1.map_shape` must be three numbers, channels, rows and columns, got {shape}.")
    return shape


def _where_scale(size: Size, glimpse_size: Size) -> Tensor:
    """What makes corner, width of the Gaussians and stride numbers of order 1, x before y."""
    height, width = size
    across, down = (glimpse_size[1] - 1) / width, (glimpse_size[0] - 1) / height
    return torch.tensor([1 / width, 1 / height, across, down, across, down])


def _read_out(head: nn.Module, evidence: Tensor) -> Tensor:
    """Four numbers in [-1, 1]; half precision would round a way of 50 pixels by 0.2."""
    with without_autocast(evidence.device):
        return head(evidence.to(next(head.parameters()).dtype)).tanh()


def _level(state: HARTState) -> Tensor:
    """Logarithm of the size, `(B, 1)`."""
    if state.size is None:
        return torch.zeros_like(state.attention[:, :1])
    return state.size.detach()


def _moved(boxes: Tensor, shift: Tensor) -> Tensor:
    return torch.cat([boxes[..., :2] + shift, boxes[..., 2:]], dim=-1)


def _sides(boxes: Tensor) -> Tensor:
    """`(width, height, width, height)` of boxes, what their four numbers are measured by."""
    extent = boxes[..., 2:]
    return torch.cat([extent, extent], dim=-1)


def _at_least_a_pixel(boxes: Tensor) -> Tensor:
    corner, extent = boxes.split(2, dim=-1)
    return torch.cat([corner, clip_straight_through(extent, _SMALLEST)], dim=-1)


@torch.no_grad()
def _set_biases(cell: HARTCell) -> None:
    """Biases of `Init` "modern", but for V1's. The constant part of dynamic filters is no bias, and stays."""
    layers = [layer for name, part in cell.named_children() if name != "v1" for layer in part.modules()]
    dynamic = [layer for layer in layers if isinstance(layer, DynamicFilterLayer)]
    for layer in layers:
        constant_filters = any(layer is other.weight for other in dynamic)
        if isinstance(layer, nn.Linear | nn.Conv2d) and layer.bias is not None and not constant_filters:
            layer.bias.zero_()
    for other in dynamic:
        other.static_bias.zero_()
    cell.lstm.fill_forget_bias(1.0)
