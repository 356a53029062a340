r"""HART, hierarchical attentive recurrent tracking: a tracker that looks before it answers.

Kosiorek, Bewley & Posner, *Hierarchical Attentive Recurrent Tracking*, 2017. Where to look in a frame was
decided one frame before; what is seen there tells where the object is, and where to look next:

    g_t     = read(x_t, a_t)                              spatial attention: a glimpse around the object
    U_t     = V1(g_t)
    s_t     = dorsal(U_t, alpha_t)                        appearance attention: where in the glimpse it is
    v_t     = elu(W_v [ventral(U_t) s_t, where(a_t)] + b_v)
    o_t     = LSTM(v_t),   alpha_{t+1} = o_t              what it looks like
    z_t     = [o_t, elu(W_q s_t + b_q)]
    a_{t+1} = a_t + sigmoid(kappa) tanh(MLP_a(z_t))
    b_t     = a_t - beta + tanh(MLP_b(z_t)),   b_0 given

`a_t` and `b_t` are boxes, in units of the frame's sides, `beta = tanh(theta) / 4` the learned margin of the
windows around objects, and `a_0 = b_0 + beta`. The first state of the LSTM is made of the first glimpse:

    v = relu(W_f features(x_0, b_0, s = 1) + b_f),   (alpha_0, m, c) = LSTM(v, 0)
    m <- relu(W_m m + b_m),   c <- relu(W_c c + b_c)

so that the first frame is seen twice. In contrast to RATM, the box of a frame depends on that frame.

Where paper and authors' program differ, this follows the program:

| topic         | paper                                 | here                                          |
|---------------|---------------------------------------|-----------------------------------------------|
| V1            | first stride 1, one pooling left      | stride 4, no pooling (`AlexNetV1`)            |
| dropout       | at the end of V1                      | in the ventral stream, after its read-out     |
| step of `a`   | tanh(c)                               | sigmoid(kappa), four numbers, 0.076 at first  |
| `alpha_{t+1}` | MLP(o_t, s_t)                         | o_t; the MLP is in the dynamic filter layers  |
| box           | `a + db`                              | `a - beta + tanh(.)` in units of the frame    |

and differs from the program in this:

- Steps, corrections and the margin can be in units of the window's sides (`units="window"`), so that what was
  learned of near objects holds for distant ones, in frames of any size; windows can be `bounded`.
- Boxes and windows are kept at least a pixel wide, with straight-through gradients; the program's can turn
  inside out, and their areas become negative.
- `where(a)` is in units of the frame's sides, widths and strides times the samples in between, so that all
  six numbers are of order 1; the program feeds pixels.
- Attention is kept in pixels, left before top, which is the same up to the order of the numbers.
- The width of the Gaussians is `smooth_knee_sigma` by default, monotone in the stride; `PolynomialSigma` is
  the paper's form, and `released_sigma` the program's plane, which does not suppress aliasing.
- V1 starts from random weights; the program's from AlexNet's for ImageNet.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import pyro
import torch
import torch.nn.functional as F
from pyro.nn import PyroModule
from pyro.poutine.runtime import am_i_wrapped
from torch import Tensor, nn

from .components.attention import Size, clip_straight_through
from .components.boxes import box_within_image
from .components.dynamic_filters import DynamicFilterLayer
from .components.feature_extractors import ConvPoolFeatures, human_features
from .components.gaussian_read import (
    HART_EPSILON,
    GaussianWindow,
    SigmaRule,
    boxes_to_window,
    gaussian_read,
    hart_boxes,
    smooth_knee_sigma,
)
from .components.initialisers import glorot_uniform
from .components.inputs import require_first_boxes, require_pixels
from .components.networks import fill_output_bias, mlp
from .components.plates import Plate
from .components.recurrent import LSTMState, ZoneoutLSTM
from .components.visual_cortex import (
    AlexNetV1,
    ClassifierV1,
    DorsalStream,
    Normalisation,
    SmallV1,
    VentralStream,
    batch_normalisation,
    group_normalisation,
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
_SMALLEST = 1.0  # pixels


class HARTTracks(NamedTuple):
    """Where HART looked in each frame, what it saw, and where it saw the object."""

    boxes: Tensor
    """Predicted boxes `(B, T, 4)`, `(left, top, width, height)` in pixels, not clipped to the frame; in the
    first frame those that were given.
    """
    attention: Tensor
    """Boxes of the windows that were read, `(B, T, 4)`, in pixels; that of frame t does not depend on it."""
    glimpses: Tensor
    """`(B, T, C, h, w)`, in [0, 1]."""
    mask_logits: Tensor | None
    """Of places in the glimpse being the object's, `(B, T, r, c)`; None without appearance attention."""
    filters: Tensor | None
    """Weights and biases of all dynamic filters, `(B, T, F)`; None without appearance attention."""

    @property
    def masks(self) -> Tensor | None:
        """Location maps s in [0, 1], `(B, T, r, c)`."""
        return None if self.mask_logits is None else self.mask_logits.sigmoid()


class HARTState(NamedTuple):
    """What is kept from frame to frame."""

    attention: Tensor
    """Box of the window to be read next, `(B, 4)`, in pixels."""
    appearance: Tensor
    """What the object looks like, alpha, `(B, D)`."""
    lstm: LSTMState
    """Fields `(B, D)`."""


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
    """z, of which attention and box are read out, `(B, D)` or `(B, D + Q)`."""


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
    ) -> None:
        super().__init__()
        channels, rows, columns = _map_shape(v1)
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
        if init not in ("released", "modern"):
            raise ValueError(f'`init` must be "released" or "modern", got {init!r}')
        self.glimpse_size = glimpse_size
        self.sigma = sigma
        self.units, self.bounded, self.detached = units, bounded, detached
        self.v1, self.ventral, self.dorsal, self.lstm = v1, ventral, dorsal, lstm
        self.features = nn.Linear(ventral.channels * rows * columns + 6, lstm.input_size)
        self.first_features = nn.Linear(lstm.input_size, lstm.input_size)
        self.first_hidden = nn.Linear(lstm.hidden_size, lstm.hidden_size)
        self.first_cell = nn.Linear(lstm.hidden_size, lstm.hidden_size)
        evidence = lstm.hidden_size
        self.mask_features: nn.Linear | None = None
        if dorsal is not None:
            self.mask_features = nn.Linear(rows * columns, mask_features)
            evidence += mask_features
        self.attention_head = mlp([evidence, head_size, 4], nn.ELU)
        self.box_head = mlp([evidence, head_size, 4], nn.ELU)
        self.step_size = nn.Parameter(torch.full((4,), _FIRST_STEP[units]))  # kappa
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
        ventral = self.ventral(self.v1(glimpse))
        features = self.first_features(self._features(ventral, where)).relu()
        appearance, (hidden, cell) = self.lstm(features, self.lstm.initial_state(features))
        first = LSTMState(self.first_hidden(hidden).relu(), self.first_cell(cell).relu())
        return HARTState(self.windows_around(first_box), appearance, first)

    def forward(self, frame: Tensor, state: HARTState) -> tuple[HARTState, HARTFrame]:
        """Look at a frame `(B, C, H, W)`: the next state, and what was seen."""
        window = state.attention.detach() if self.detached else state.attention
        glimpse, where = self._read(frame, window)
        maps = self.v1(glimpse)
        ventral = self.ventral(maps)
        logits = filters = None
        if self.dorsal is not None:
            logits, filters = self.dorsal(maps, state.appearance)
            mask = logits.sigmoid()
            ventral = ventral * mask.unsqueeze(1)
        output, lstm = self.lstm(self._features(ventral, where), state.lstm)
        evidence = output
        if self.mask_features is not None:
            evidence = torch.cat([output, F.elu(self.mask_features(mask.flatten(1)))], dim=-1)
        step = self.step_size.sigmoid() * _read_out(self.attention_head, evidence)
        step = hart_boxes(step, self.image_size) if self.units == "frame" else step * _sides(window)
        attention = self._kept(window + step)
        seen = HARTFrame(state.attention, glimpse, logits, filters, evidence)
        return HARTState(attention, output, lstm), seen

    def boxes(self, attention: Tensor, evidence: Tensor) -> Tensor:
        """The object's boxes after the first frame, `(..., 4)` in pixels.

        Args:
            attention: of the frames, `(..., 4)`.
            evidence: of the same frames, `(..., Z)`.
        """
        unit = self._frame if self.units == "frame" else _sides(attention)
        return _at_least_a_pixel(self.boxes_within(attention) + _read_out(self.box_head, evidence) * unit)

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


class HART(PyroModule):
    """Tracks one object through a video.

    Statements of frame `t`, all deterministic: `attention/t` and `box/t`, `(left, top, width, height)` in
    pixels, `glimpse/t`, and, with appearance attention, the location map `mask/t` in [0, 1]. The attention of
    frame t depends on the frames before it only, the box on that frame too.

    `kitti_hart`, `small_hart` and `kth_hart` put the usual ones together. For frames that arrive one by one
    there are `cell.start`, `cell` and `cell.boxes`, which `forward` is a loop over.

    Args:
        cell: the network.
    """

    def __init__(self, cell: HARTCell) -> None:
        super().__init__()
        self.image_shape = cell.image_shape
        self.cell = cell

    @property
    def image_size(self) -> Size:
        """Height and width of a frame."""
        return self.image_shape[1], self.image_shape[2]

    @property
    def decayed(self) -> tuple[str, ...]:
        """Names of the parameters under weight decay: all matrices and filters, V1's included."""
        return tuple(name for name, parameter in self.named_parameters() if parameter.dim() > 1)

    def forward(self, video: Tensor, first_box: Tensor) -> HARTTracks:
        """Track the object of each video.

        Args:
            video: `(B, T, C, H, W)`, floating point in [0, 1], or uint8, which stands for it.
            first_box: of the object in the first frame, `(B, 4)`, `(left, top, width, height)` in pixels.

        Raises:
            ValueError: if the video or the boxes have another shape or type, or a box has no area or is
                outside the frame (see `require_first_boxes`).
        """
        require_pixels("video", video, "BT", self.image_shape, allow_bytes=True)
        batch_size, frames = video.shape[:2]
        # On an accelerator the values are read in evaluation only: a training step must not wait.
        check_values = first_box.device.type == "cpu" or not self.training
        require_first_boxes(first_box, batch_size, self.image_size, check_values)
        cell = self.cell  # once: in a called Pyro module each use is a statement for each parameter
        state = cell.start(video[:, 0], first_box)
        seen: list[HARTFrame] = []
        for t in range(frames):
            state, frame = cell(video[:, t], state)
            seen.append(frame)
        attention, glimpses, logits, filters, evidence = (_stack(field) for field in zip(*seen, strict=True))
        corrected = cell.boxes(attention[:, 1:], evidence[:, 1:])
        boxes = torch.cat([first_box.to(corrected).unsqueeze(1), corrected], dim=1)
        tracks = HARTTracks(boxes, attention, glimpses, logits, filters)
        if am_i_wrapped():  # without a handler nobody sees statements, and their validation would read values
            with Plate("data", batch_size, dim=-1):
                _state(tracks)
        return tracks

    def resized(self, image_size: Size) -> HART:
        """A copy for frames of another size, which shares nothing with this one.

        What was learned is in units of the frame's sides, or of the window's. (Gaussian filters read windows
        of any number of pixels.)

        Args:
            image_size: height and width.
        """
        other = copy.deepcopy(self)
        other.cell.set_image_size(image_size)
        other.image_shape = other.cell.image_shape
        return other

    def read_boxes(self, video: Tensor, boxes: Tensor) -> Tensor:
        """Glimpses of windows over given boxes, without a margin.

        Args:
            video: `(B, T, C, H, W)`, see `forward`.
            boxes: `(B, T, 4)`, in pixels.

        Returns:
            `(B, T, C, h, w)`.
        """
        window = self.cell.window(boxes.flatten(0, 1))
        glimpses = gaussian_read(video.flatten(0, 1), window, self.cell.glimpse_size, HART_EPSILON)
        return glimpses.unflatten(0, video.shape[:2])


def kitti_hart(
    image_shape: tuple[int, int, int] = (3, 187, 621),
    appearance: bool = True,
    normalisation: Normalisation = batch_normalisation,
    **options: Any,
) -> HART:
    """HART as it was trained on KITTI: glimpses of 56 x 56 pixels, AlexNet's convolutions, 100 units.

    1,701,712 parameters.

    Args:
        image_shape: channels, height and width of a frame.
        appearance: whether there is appearance attention; without it, the paper's "Spatial Att".
        normalisation: of the ventral stream.
        options: further arguments of `HARTCell`, by name.
    """
    v1 = AlexNetV1((image_shape[0], 56, 56))
    return _assemble(image_shape, (56, 56), v1, 100, appearance, normalisation, options)


def small_hart(
    image_shape: tuple[int, int, int] = (3, 100, 100),
    glimpse_size: Size = (28, 28),
    appearance: bool = True,
    hidden_size: int = 100,
    normalisation: Normalisation = group_normalisation,
    **options: Any,
) -> HART:
    """HART with two or three small convolutions: for generated data, and for a CPU.

    Args:
        image_shape: channels, height and width of a frame.
        glimpse_size: height and width; from 48 pixels on there is a third convolution.
        appearance: whether there is appearance attention.
        hidden_size: D, and features v.
        normalisation: of V1 and the ventral stream.
        options: further arguments of `HARTCell`, by name.
    """
    large = min(glimpse_size) >= 48
    channels, strides = ((32, 64, 64), (2, 2, 1)) if large else ((32, 64), (2, 2))
    v1 = SmallV1((image_shape[0], *glimpse_size), channels, strides, normalisation)
    return _assemble(image_shape, glimpse_size, v1, hidden_size, appearance, normalisation, options)


def kth_hart(
    image_shape: tuple[int, int, int] = (1, 120, 160),
    features: ConvPoolFeatures | None = None,
    appearance: bool = True,
    hidden_size: int = 100,
    normalisation: Normalisation = batch_normalisation,
    **options: Any,
) -> HART:
    """HART for grey videos of people: glimpses of 28 x 28 pixels, the convolutions of RATM's network for KTH.

    The paper tells that much; sizes are those for KITTI.

    Args:
        image_shape: channels, height and width of a frame.
        features: trained before, as a part of `human_classifier()`; new ones by default.
        appearance: whether there is appearance attention.
        hidden_size: D, and features v.
        normalisation: of the ventral stream.
        options: further arguments of `HARTCell`, by name.
    """
    features = human_features((image_shape[0], 28, 28)) if features is None else features
    v1 = ClassifierV1(features)
    return _assemble(image_shape, (28, 28), v1, hidden_size, appearance, normalisation, options)


def _assemble(
    image_shape: tuple[int, int, int],
    glimpse_size: Size,
    v1: nn.Module,
    hidden_size: int,
    appearance: bool,
    normalisation: Normalisation,
    options: Mapping[str, Any],
) -> HART:
    channels = _map_shape(v1)[0]
    cell = HARTCell(
        image_shape,
        glimpse_size,
        v1,
        VentralStream(channels, normalisation=normalisation),
        DorsalStream(channels, hidden_size) if appearance else None,
        ZoneoutLSTM(hidden_size, hidden_size),
        **options,
    )
    return HART(cell)


def _state(tracks: HARTTracks) -> None:
    """The statements of all frames."""
    masks = tracks.masks
    for t in range(tracks.boxes.shape[1]):
        pyro.deterministic(f"attention/{t}", tracks.attention[:, t], event_dim=1)
        pyro.deterministic(f"glimpse/{t}", tracks.glimpses[:, t], event_dim=3)
        if masks is not None:
            pyro.deterministic(f"mask/{t}", masks[:, t], event_dim=2)
        pyro.deterministic(f"box/{t}", tracks.boxes[:, t], event_dim=1)


def _stack(fields: tuple[Any, ...]) -> Any:
    return None if fields[0] is None else torch.stack(fields, dim=1)


def _map_shape(v1: nn.Module) -> torch.Size:
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
    with torch.autocast(evidence.device.type, enabled=False):
        return head(evidence.to(next(head.parameters()).dtype)).tanh()


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
