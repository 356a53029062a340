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

The network must keep in its state what the object looks like, and steps multiply: on video it has not seen,
middles drift and boxes grow. Two parts that the published form does not have keep both in check. They are
given to the cell: `GlimpseEvidence` compares each frame with the first glimpse, moves the window to the place
that is most like it before it is read, and says how much it is, and when the object is lost; `BoundedSizes`
keeps sizes near the first ones. A third, `CameraMotion`, moves windows with the whole frame,
whatever is in them.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import pyro
import torch
from pyro.nn import PyroModule
from pyro.poutine.runtime import am_i_wrapped
from torch import Tensor, nn

from .components.attention import Size
from .components.feature_extractors import ConvPoolFeatures, human_features
from .components.gaussian_read import HART_EPSILON, gaussian_read
from .components.inputs import require_first_boxes, require_pixels
from .components.plates import Plate
from .components.recurrent import ZoneoutLSTM
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
from .hart_cell import HARTCell, HARTFrame, HARTState, map_shape


class HARTTracks(NamedTuple):
    """Where HART looked in each frame, what it saw, and where it saw the object."""

    boxes: Tensor
    """Predicted boxes `(B, T, 4)`, `(left, top, width, height)` in pixels, not clipped to the frame; in the
    first frame those that were given.
    """
    attention: Tensor
    """Boxes of the windows that were read, `(B, T, 4)`, in pixels; that of frame t does not depend on it, but
    for the evidence of the first glimpse and the camera's motion.
    """
    glimpses: Tensor
    """`(B, T, C, h, w)`, in [0, 1]."""
    mask_logits: Tensor | None
    """Of places in the glimpse being the object's, `(B, T, r, c)`; None without appearance attention."""
    filters: Tensor | None
    """Weights and biases of all dynamic filters, `(B, T, F)`; None without appearance attention."""
    scores: Tensor | None = None
    """How much the places that were found look like the object, `(B, T)`, at most 1; None without evidence of
    the first glimpse.
    """
    lost: Tensor | None = None
    """Whether the object counts as lost, `(B, T)`, boolean; None without that evidence. The box is then where
    it was seen last, moved with the camera if that is followed.
    """

    @property
    def masks(self) -> Tensor | None:
        """Location maps s in [0, 1], `(B, T, r, c)`."""
        return None if self.mask_logits is None else self.mask_logits.sigmoid()


class HART(PyroModule):
    """Tracks one object through a video.

    Statements of frame `t`, all deterministic: `attention/t` and `box/t`, `(left, top, width, height)` in
    pixels, `glimpse/t`, and, with appearance attention, the location map `mask/t` in [0, 1]. The attention of
    frame t depends on the frames before it only, but for evidence and camera; the box on that frame too.

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

    @property
    def scored(self) -> bool:
        """Whether tracks have scores, and tell where the object is lost."""
        return self.cell.evidence is not None

    def forward(self, video: Tensor, first_box: Tensor) -> HARTTracks:
        """Track the object of each video.

        Args:
            video: `(B, T, C, H, W)`, floating point in [0, 1], or uint8, which stands for it.
            first_box: of the object in the first frame, `(B, 4)`, `(left, top, width, height)` in pixels.

        Raises:
            ValueError: if the video or the boxes have another shape or type, or a box has no area or is
                outside the frame (see `require_first_boxes`).
        """
        return next(self.follow([video], first_box))

    def follow(self, parts: Iterable[Tensor], first_box: Tensor) -> Iterator[HARTTracks]:
        """The same for videos of any length that come part by part: only one part is in memory.

        Args:
            parts: of the videos, in order, `(B, n, C, H, W)`; n may differ.
            first_box: in the first frame of the first part, see `forward`.

        Yields:
            The tracks of each part.

        Raises:
            ValueError: see `forward`.
        """
        cell = self.cell  # once: in a called Pyro module each use is a statement for each parameter
        state: HARTState | None = None
        plate: Plate | None = None
        start = 0
        for video in parts:
            require_pixels("video", video, "BT", self.image_shape, allow_bytes=True)
            batch_size, frames = video.shape[:2]
            given = 0  # boxes that need not be found
            if state is None:
                # On an accelerator the values are read in evaluation only: a training step must not wait.
                check_values = first_box.device.type == "cpu" or not self.training
                require_first_boxes(first_box, batch_size, self.image_size, check_values)
                state, given = cell.start(video[:, 0], first_box), 1
            carried: list[Tensor | None] = [None] * frames
            if cell.camera is not None:
                motion, scene = cell.camera.along(video, state.scene)
                carried, state = [*motion.unbind(1)], state._replace(scene=scene)
            seen: list[HARTFrame] = []
            for t in range(frames):
                state, frame = cell(video[:, t], state, carried[t])
                seen.append(frame)
            attention, glimpses, logits, filters, evidence, scores, lost = (
                _stack(field) for field in zip(*seen, strict=True)
            )
            corrected = cell.boxes(attention[:, given:], evidence[:, given:])
            boxes = torch.cat([first_box.to(corrected).unsqueeze(1)[:, :given], corrected], dim=1)
            tracks = HARTTracks(boxes, attention, glimpses, logits, filters, scores, lost)
            if am_i_wrapped():  # else nobody sees statements, and their validation would read values
                plate = plate or Plate("data", batch_size, dim=-1)
                with plate:
                    _state(tracks, start)
            start += frames
            yield tracks

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
    channels = map_shape(v1)[0]
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


def _state(tracks: HARTTracks, start: int) -> None:
    """The statements of all frames, of which the first has the number `start`."""
    masks = tracks.masks
    for t in range(tracks.boxes.shape[1]):
        pyro.deterministic(f"attention/{start + t}", tracks.attention[:, t], event_dim=1)
        pyro.deterministic(f"glimpse/{start + t}", tracks.glimpses[:, t], event_dim=3)
        if masks is not None:
            pyro.deterministic(f"mask/{start + t}", masks[:, t], event_dim=2)
        pyro.deterministic(f"box/{start + t}", tracks.boxes[:, t], event_dim=1)


def _stack(fields: tuple[Any, ...]) -> Any:
    return None if fields[0] is None else torch.stack(fields, dim=1)
