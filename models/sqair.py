"""Sequential Attend, Infer, Repeat: the generative half.

Kosiorek et al., *Sequential Attend, Infer, Repeat: Generative Modelling of Moving Objects*, 2018. In each
frame the objects of the frame before are propagated, or vanish; new ones are discovered in the slots left
free; and all of them are drawn:

    p(x, z, D) = prod_t p(x_t | z_t) p_disc(z_t^D, D_t | z_t^P) p_prop(z_t^P | z_{t-1})

An object that has vanished never returns; what reappears is discovered anew, with a new identity.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Literal, NamedTuple

import pyro
import torch
from pyro import poutine
from pyro.poutine import Trace
from pyro.poutine.util import site_is_subsample
from torch import Tensor, nn

from .. import checks
from .background import Background
from .components.active_set import ActiveSet, Rows
from .components.attention import clip_straight_through, paste_matrices
from .components.contrast import Contrast
from .components.frames import Frames
from .components.inputs import require_pixels
from .components.likelihood import GaussianImage, pixel_scale
from .components.networks import initialise, mlp
from .components.slots import (
    ABSENT,
    TrackedSlots,
    compact,
    empty_slots,
    latents,
    new_identities,
    stack_slots,
    tracked,
)
from .components.stated_once import StatedOnce
from .components.windows import SquashedWindows
from .discovery import DiscoveryPrior, appear, keep_stored_names
from .object_decoder import ObjectDecoder
from .priors.counts import slot_presence
from .priors.discovery import expected_propagation
from .priors.looks import LooksPrior, WithLooks
from .priors.propagation import Propagation, PropagationPrior, further_of


class Frame(NamedTuple):
    """What SQAIR says about one frame."""

    slots: TrackedSlots
    """The objects, those propagated first."""
    propagated: Tensor
    """Number of objects that come from the frame before, `(...)`."""
    discovered: Tensor
    """Number of objects that are new, `(...)`."""
    canvas: Tensor
    """Mean image, `(..., C, H, W)`; not clamped."""


class State(NamedTuple):
    """What is carried from frame to frame, in the model or in the guide."""

    slots: TrackedSlots
    """The objects of the frame before."""
    total: Tensor
    """Number of objects discovered so far in each sequence, `(...)`, int64."""
    background: Any = ()
    """What the background carries, see `background.Background`."""


class LatentEncoder(ActiveSet, nn.Module):
    """Summary of a set of objects, the same in any order: the sum of an MLP of each (a deep set).

    Args:
        what_size: W.
        hidden: width of the two layers, and of the summary.
    """

    def __init__(self, what_size: int, hidden: int = 256) -> None:
        super().__init__()
        checks.at_least(1, what_size=what_size, hidden=hidden)
        self.size = hidden
        self.network = mlp([what_size + 4, hidden, hidden], nn.ELU, activate_last=True)
        initialise(self)

    def forward(self, z_pres: Tensor, z_where: Tensor, z_what: Tensor) -> Tensor:
        """Summarise slots, with presence `(..., N)`, to `(..., hidden)`; absent ones count for nothing."""
        features = self.where_present(self.network, z_pres, torch.cat([z_what, z_where], dim=-1))
        return (features * z_pres.unsqueeze(-1)).sum(-2)


class SceneDecoder(ObjectDecoder):
    """Draws all objects of a frame, and a mean image wherever there is one.

    `canvas = sum_i pres_i paste(g_i) + m * mean_image` with `m = sigmoid(-10 + 20 occupancy)`, so that a
    frame without objects is black. Glimpses are linear outputs times a learned scale that starts at 0.25.

    Args:
        glimpse_decoder: maps `z_what` to glimpses `(..., C, h, w)`.
        mean_image: `(C, H, W)`, usually the mean of the training frames.
        output_scale: initial factor of the glimpses.
        windows: what `z_where` means; the guide must be given the same.
        clamp: whether the canvas is clamped to [0, 1], where images are: where objects cover each other it is
            no brighter than one. The gradient is that of the canvas as it was (straight-through), or pixels
            outside would stay there. Glimpses then have no negative values, which would darken what others
            draw, and make of a picture that is alone on black something that cannot be searched for.
        background: whether the mean image is learned, stays as it is given (fixed), or is not drawn at all
            (none); then it says no more than the size of frames, and is not in checkpoints.
        contrast: what glimpses of twice the channels mean, in front of a background.
    """

    def __init__(
        self,
        glimpse_decoder: nn.Module,
        mean_image: Tensor,
        output_scale: float = 0.25,
        windows: SquashedWindows = SquashedWindows(),  # noqa: B008
        clamp: bool = False,
        background: Literal["learned", "fixed", "none"] = "learned",
        contrast: Contrast = Contrast(),  # noqa: B008
    ) -> None:
        super().__init__()
        checks.finite(output_scale=output_scale)
        self.glimpse_decoder = glimpse_decoder
        if background == "learned":
            self.mean_image = nn.Parameter(mean_image.clone())
        else:
            self.register_buffer("mean_image", mean_image.clone(), persistent=background == "fixed")
        self.output_scale = nn.Parameter(torch.tensor(output_scale))
        self.windows = windows
        self.clamp = clamp
        self.contrast = contrast
        self.has_background = background != "none"

    def forward(
        self, z_pres: Tensor, z_where: Tensor, z_what: Tensor, behind: Tensor | None = None
    ) -> Tensor:
        """Draw slots to images `(..., C, H, W)`.

        Args:
            z_pres: presence, `(..., N)`.
            z_where: places.
            z_what: appearances.
            behind: the background, `(..., C, H, W)`, to which objects are added; or, if glimpses have twice
                its channels, to which they are contrasts.
        """
        glimpses = self.where_present(self.glimpses, z_pres, z_what)
        height, width = self.mean_image.shape[-2:]
        glimpse_size = glimpses.shape[-2], glimpses.shape[-1]
        rows, columns = paste_matrices(self.windows(z_where), glimpse_size, (height, width))
        rows = rows * z_pres[..., None, None]
        # Concatenating the slots along the glimpse's columns lets one product place and add them.
        placed = rows.unsqueeze(-3) @ glimpses  # placed.shape = (..., N, C, H, w)
        placed = placed.movedim(-4, -2).flatten(-2)  # placed.shape = (..., C, H, N w)
        across = columns.transpose(-1, -2).flatten(-3, -2)  # across.shape = (..., N w, W)
        canvas = placed @ across.unsqueeze(-3)
        if self.has_background:
            occupancy = rows.sum(-1).transpose(-1, -2) @ columns.sum(-1)
            covered = (20 * occupancy - 10).sigmoid().unsqueeze(-3)
            canvas = canvas + covered * self.mean_image
        if behind is not None:
            canvas = self.contrast.in_front(canvas, behind)
        return clip_straight_through(canvas, 0.0, 1.0) if self.clamp else canvas

    def glimpses(self, z_what: Tensor) -> Tensor:
        """What objects look like, `(..., C, h, w)`, given `(..., W)`."""
        glimpses: Tensor = self.output_scale * self.glimpse_decoder(z_what)
        return glimpses.relu() if self.clamp else glimpses


class LinearGlimpseDecoder(nn.Module):
    """An MLP from `z_what` to a glimpse, linear in its last layer.

    Args:
        what_size: W.
        glimpse_shape: channels, height and width.
        hidden: width of the two hidden layers.
    """

    def __init__(self, what_size: int, glimpse_shape: tuple[int, int, int], hidden: int = 256) -> None:
        super().__init__()
        checks.at_least(1, what_size=what_size, glimpse_shape=glimpse_shape, hidden=hidden)
        self.glimpse_shape = torch.Size(glimpse_shape)
        self.network = mlp([what_size, hidden, hidden, self.glimpse_shape.numel()], nn.ELU)
        initialise(self)

    def forward(self, z_what: Tensor) -> Tensor:
        """Decode `(..., W)` to `(..., C, h, w)`."""
        return self.network(z_what).unflatten(-1, self.glimpse_shape)


def sizes_of_videos(
    model: str, mean_image: Tensor, video: Tensor | None, batch_size: int | None, frames: int | None
) -> tuple[int, int]:
    """B and T of the videos that a model is called with, or asked to draw.

    Args:
        model: its name, for messages.
        mean_image: an image as the model's, `(C, H, W)`.
        video: `(B, T, C, H, W)` in [0, 1], or nothing.
        batch_size: B, where there is no video.
        frames: T, where there is no video.

    Raises:
        ValueError: if the video has another shape or type, or nothing says how large to sample.
    """
    if video is None:
        if batch_size is None or frames is None:
            raise ValueError(
                f"`{model}` needs a `video`, or `batch_size` and `frames` to sample from the prior."
            )
        return batch_size, frames
    require_pixels("video", video, "BT", mean_image.shape, dtype=mean_image.dtype)
    return video.shape[0], video.shape[1]


class SQAIR(ActiveSet, StatedOnce):
    """Generative model of videos with up to `max_count` objects in a frame.

    Statements of frame `t`: for each slot `i` of the frame before `propagation/z_pres/t/i`, then
    `propagation/z_where/t/i` and `propagation/z_what/t/i` where it stays; for each discovery `j`
    `discovery/z_pres/t/j`, `discovery/z_where/t/j` and `discovery/z_what/t/j`; finally the image `x/t`.
    In the first frame nothing can be propagated, and there are no such statements. Parts may have statements
    of their own: a background `background/z/t`, slots with a depth `discovery/z_depth/t/j`; and those of all
    discoveries may be one, see `GridDiscovery`.

    Args:
        propagation_prior: predicts each object from its past. Its `per_object` says whether it predicts each
            from its own alone, so that it may be given any rows `(R, .)` of objects; where it relates
            objects to each other it is False or missing, and it always gets all slots, `(..., N, .)`, absent
            ones too.
        discovery: says how many objects are new, up to N of them, where they are and what they look like.
        latent_encoder: summary of the propagated objects; give the guide the same one.
        decoder: draws a frame.
        likelihood_scale: standard deviation of the pixels; becomes a buffer, which training may anneal.
        truncate: whether no more is discovered than there are free slots. The authors' code discovers up to
            `max_count` objects in every frame and drops what finds no place, though it counts in the
            probabilities; the guide must be given the same.
        background: what is behind the objects, in place of the decoder's mean image.
        what_dynamics: how appearances go on, in place of what the propagation prior says of them, as
            `priors.StaticLooksPrior`; the guide's propagation has the same under the name `looks`.
    """

    likelihood_scale: Tensor

    def __init__(
        self,
        propagation_prior: PropagationPrior,
        discovery: DiscoveryPrior,
        latent_encoder: LatentEncoder,
        decoder: ObjectDecoder,
        likelihood_scale: float = 0.3,
        truncate: bool = True,
        background: Background | None = None,
        what_dynamics: LooksPrior | None = None,
    ) -> None:
        super().__init__()
        if background is not None and getattr(decoder, "has_background", False):
            raise ValueError('`decoder` has a background: with another, give it background="none"')
        if what_dynamics is not None:
            propagation_prior = WithLooks(propagation_prior, what_dynamics)
        self.propagation_prior: Any = propagation_prior
        self.discovery: Any = discovery
        self.latent_encoder = latent_encoder
        self.decoder: Any = decoder
        self.background = background
        self.max_count = discovery.max_count
        keep_stored_names(self)
        # It follows from the configuration and the step, so checkpoints do not have it.
        self.register_buffer("likelihood_scale", pixel_scale(likelihood_scale), persistent=False)
        self.truncate = truncate

    def forward(
        self, video: Tensor | None = None, batch_size: int | None = None, frames: int | None = None
    ) -> list[Frame]:
        """Sample latent variables and, unless they are given, images.

        Args:
            video: `(B, T, C, H, W)` in [0, 1], or nothing to sample from the prior.
            batch_size: B, where there is no video.
            frames: T, where there is no video.

        Returns:
            one `Frame` for each of the T frames.

        Raises:
            ValueError: if the video has another shape or type, or nothing says how large to sample.
        """
        frames_said: list[Frame] = self.unroll(video, batch_size, frames).run()
        return frames_said

    def unroll(
        self, video: Tensor | None = None, batch_size: int | None = None, frames: int | None = None
    ) -> Frames:
        """The same, frame by frame; the state is a `State`."""
        self.state_parameters()
        mean_image = self.decoder.mean_image
        mean_image = mean_image.new_empty(getattr(self.background, "image_shape", mean_image.shape))
        batch_size, frames = sizes_of_videos("SQAIR", mean_image, video, batch_size, frames)
        memory = self.propagation_prior.initial_memory
        total = torch.zeros(batch_size, dtype=torch.int64, device=memory.device)
        slots = empty_slots(self.max_count, self.discovery.sizes, memory, batch_size)
        background = () if self.background is None else self.background.start(batch_size)
        images = [None] * frames if video is None else video.unbind(1)
        steps = (partial(self.step, t, image) for t, image in enumerate(images))
        return Frames.of_data(batch_size, State(slots, total, background), steps)

    @torch.no_grad()
    def generate(
        self, batch_size: int, frames: int, given: Trace | None = None, discover: bool = True
    ) -> list[Frame]:
        """Draw videos from the prior, or go on from what a guide has found in their first frames.

        Look at the canvases: pixels drawn with the standard deviation of the likelihood hide what is there.

        Args:
            batch_size: B.
            frames: T, those that are given included.
            given: trace of the guide on the first frames of B videos; they are as it says, and what follows
                is drawn from the prior of propagation.
            discover: whether objects may be discovered after the given frames; in the paper they may not.
        """
        fixed: dict[str, Tensor] = {}
        if given is not None:
            fixed = {
                name: site["value"]
                for name, site in given.nodes.items()
                if site["type"] == "sample" and not site["is_observed"] and not site_is_subsample(site)
            }
        if not discover:
            nothing = torch.zeros(batch_size, device=self.decoder.mean_image.device)
            absences = [self.discovery.nothing(t, nothing) for t in range(frames)]
            fixed = {**{name: value for each in absences for name, value in each.items()}, **fixed}
        drawn: list[Frame] = poutine.condition(self, data=fixed)(batch_size=batch_size, frames=frames)
        return drawn

    def step(self, t: int, image: Tensor | None, state: State) -> tuple[Frame, State]:
        """One frame: the background, then propagate, discover, draw."""
        behind, background = None, state.background
        if self.background is not None:
            behind, background = self.background.step(t, background)
        if t == 0:
            propagated, expectation = None, torch.full_like(state.slots.z_pres[..., :1], -0.5)
            survivors = torch.zeros_like(state.slots.z_pres[..., 0])
            summary = state.slots.z_where.new_zeros(self.latent_encoder.size)
        else:
            propagated, expectation = self.propagate(t, state.slots)
            survivors = propagated.z_pres.sum(-1)
            summary = self.latent_encoder(*propagated[:3])
        free = self.max_count - survivors if self.truncate else torch.full_like(survivors, self.max_count)
        found = self.discovery(t, summary, expectation, free, first=t == 0)
        memory = self.propagation_prior.initial_memory.expand(*found.z_pres.shape, -1)
        discovered = tracked(found, memory, new_identities(found.z_pres, state.total))
        slots = discovered if propagated is None else compact(propagated, discovered)
        new = discovered.z_pres.sum(-1)
        canvas = self.decoder(*latents(slots), **({} if behind is None else {"behind": behind}))
        pyro.sample(f"x/{t}", GaussianImage(canvas, self.likelihood_scale), obs=image)
        return Frame(slots, survivors, new, canvas), State(slots, state.total + new.long(), background)

    def propagate(self, t: int, slots: TrackedSlots) -> tuple[TrackedSlots, Tensor]:
        """Decide which objects stay, and how they go on.

        Returns:
            the slots, and how many the prior expected to stay, see `expected_propagation`.
        """
        prior = self._predict(slots)
        followed = []
        for i in range(slots.z_pres.shape[-1]):
            before = slots.z_pres[..., i]
            with poutine.mask(mask=before > 0):
                z_pres = pyro.sample(
                    f"propagation/z_pres/{t}/{i}", slot_presence(prior.logits[..., i], before)
                )
            what = slots.z_what[..., i, :] if prior.what is None else prior.what.slot(i)
            further = {variable: law.slot(i) for variable, law in further_of(prior).items()}
            followed.append(appear(f"propagation/{{}}/{t}/{i}", z_pres, prior.where.slot(i), what, **further))
        found = stack_slots(followed)
        identity = slots.identity.masked_fill(found.z_pres <= 0, ABSENT)
        memory = prior.memory.expand(*found.z_pres.shape, -1)
        return tracked(found, memory, identity), expected_propagation(prior.logits, slots.z_pres)

    def _predict(self, slots: TrackedSlots) -> Propagation:
        if not (self.active_set and getattr(self.propagation_prior, "per_object", False)):
            return self.propagation_prior(slots)
        rows = Rows(slots.z_pres)
        taken = (rows.take(field, field.dim() - slots.z_pres.dim()) for field in slots)
        predicted: Propagation = rows.put(self.propagation_prior(type(slots)(*taken)))
        return predicted
