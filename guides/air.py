"""Attend, Infer, Repeat: the inference half.

A recurrent network looks at the image and decides, slot by slot, whether there is another object,
where it is, and, having cropped that place, what it is (Eslami et al., 2016, section 2.1).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import pyro
import torch
import torch.nn.functional as F
from pyro import poutine
from torch import Tensor, nn

from .. import checks
from ..models.components.attention import air_inverse_scale, crop
from ..models.components.inputs import require_pixels
from ..models.components.networks import GlimpseEncoder, LocScale, mlp
from ..models.components.plates import Plate
from ..models.components.programs import Program
from ..models.components.recurrent import LSTMState, SplitInputLSTM
from ..models.components.slots import Slots, slots_present, stack_slots
from ..models.priors.counts import NormalPrior, present_or_standard, slot_presence
from .exploration import explore


class BaselineMemory(NamedTuple):
    """What `AIRBaseline` carries from slot to slot."""

    context: Tensor
    """Projected image features, `(B, 4 D)`."""
    state: LSTMState
    """State of its LSTM."""


class AIRBaseline(nn.Module):
    """Predicts the learning signal of each presence from the image and the earlier slots.

    The data-dependent baseline of NVIL (Mnih and Gregor, *Neural Variational Inference and Learning
    in Belief Networks*, 2014, section 2.3). It must not see the presence whose signal it predicts,
    or the gradient is biased; and it learns from the signal alone, so its inputs are detached.

    Args:
        features: size of the image features.
        input_size: size of a slot's latent variables.
        hidden_size: of the LSTM.
        head_hidden: widths of the hidden layers between the LSTM and the prediction.
    """

    def __init__(
        self, features: int, input_size: int, hidden_size: int = 256, head_hidden: tuple[int, ...] = (200,)
    ) -> None:
        super().__init__()
        checks.at_least(1, features=features, input_size=input_size)
        self.rnn = SplitInputLSTM(features, input_size, hidden_size)
        self.head = mlp([hidden_size, *head_hidden, 1])

    def start(self, features: Tensor) -> BaselineMemory:
        """Memory before the first slot of images with `features` `(B, F)`."""
        features = features.detach()
        return BaselineMemory(self.rnn.from_context(features), self.rnn.initial_state(features))

    def forward(self, inputs: Tensor, memory: BaselineMemory) -> tuple[Tensor, BaselineMemory]:
        """Prediction `(...)` for the next slot, given the latents `(..., F)` of the one before."""
        state = self.rnn(memory.context, inputs.detach(), memory.state)
        return self.head(state.hidden).squeeze(-1), memory._replace(state=state)


class AIRGuide(Program):
    """Approximate posterior of `models.AIR`, with the same statements.

    For each slot an LSTM reads the image and the previous slot, and its output gives presence and
    place; the crop at that place gives the appearance. The posterior of `z_where` is relative to
    the prior: an untrained guide starts near it, where objects have a sensible size. What it knows of
    places it learns from all pixels at once, which takes thousands of images; dozens are enough for
    `EvidenceAIRGuide`.

    Args:
        where_prior: prior of `z_where`, usually the model's.
        encoder: maps glimpses to the `LocScale` of `z_what`.
        glimpse_size: height and width of the crops.
        what_size: components of `z_what`.
        image_shape: channels, height and width of an image.
        max_count: number of slots.
        hidden_size: of the LSTM.
        head_hidden: widths of the hidden layers between the LSTM and presence and place.
        image_encoder: features `(B, F)` of an image, given to the LSTM in place of its pixels;
            computed once an image, whatever the number of slots and particles.
        exploration: share of presence that a fair coin decides in training mode,
            `p = e / 2 + (1 - e) sigmoid(logit)`; a buffer, to be annealed to zero, or None if it is zero
            from the start. Without it slots that are never present never learn.
        use_baseline: adds an `AIRBaseline`, which `NVIL` needs.
    """

    exploration: Tensor | None

    def __init__(
        self,
        where_prior: NormalPrior | None = None,
        encoder: nn.Module | None = None,
        glimpse_size: tuple[int, int] = (28, 28),
        what_size: int = 50,
        image_shape: tuple[int, int, int] = (1, 50, 50),
        max_count: int = 3,
        hidden_size: int = 256,
        head_hidden: tuple[int, ...] = (200,),
        image_encoder: nn.Module | None = None,
        exploration: float = 0.0,
        use_baseline: bool = False,
    ) -> None:
        super().__init__()
        checks.at_least(1, glimpse_size=glimpse_size, what_size=what_size, image_shape=image_shape)
        checks.at_least(1, max_count=max_count, hidden_size=hidden_size, head_hidden=head_hidden)
        checks.within("[0, 1)", exploration=exploration)
        self.where_prior = where_prior or NormalPrior([3.0, 0.0, 0.0], [0.2, 1.0, 1.0])
        self.encoder = encoder or GlimpseEncoder((image_shape[0], *glimpse_size), what_size)
        self.image_encoder = image_encoder or nn.Flatten(-3)
        with torch.no_grad():
            features = self.image_encoder(torch.zeros(1, *image_shape)).shape[-1]
        where_size = self.where_prior.size
        self.rnn = SplitInputLSTM(features, 1 + where_size + what_size, hidden_size)
        self.head = mlp([hidden_size, *head_hidden, 1 + 2 * where_size])
        self.baseline = AIRBaseline(features, 1 + where_size + what_size) if use_baseline else None
        self.register_buffer("exploration", torch.tensor(float(exploration)) if exploration > 0 else None)
        self.glimpse_size = glimpse_size
        self.what_size = what_size
        self.image_shape = image_shape
        self.max_count = max_count

    def forward(self, images: Tensor, batch_size: int | None = None) -> Slots:
        """Sample the latent variables of images.

        Args:
            images: `(B, C, H, W)` in [0, 1].
            batch_size: ignored; it is there because model and guide are called alike.

        Raises:
            ValueError: if the images do not have `image_shape`, or are not floating point.
        """
        require_pixels("images", images, "B", self.image_shape, dtype=self.where_prior.loc.dtype)
        features = self.image_encoder(images)
        context = self.rnn.from_context(features)
        state = self.rnn.initial_state(features)
        memory = None if self.baseline is None else self.baseline.start(features)
        previous = self._start(images)
        slots = []
        with Plate("data", len(images), dim=-1):
            for i in range(self.max_count):
                inputs = torch.cat([previous.z_pres.unsqueeze(-1), previous.z_where, previous.z_what], dim=-1)
                state = self.rnn(context, inputs, state)
                infer: dict[str, Any] = {}
                if self.baseline is not None and memory is not None:
                    value, memory = self.baseline(inputs, memory)
                    infer["baseline"] = {"baseline_value": value}
                previous = self.sample_slot(i, images, state.hidden, previous.z_pres, infer)
                slots.append(previous)
        return stack_slots(slots)

    def sample_slot(
        self, i: int, images: Tensor, hidden: Tensor, previous: Tensor, infer: dict[str, Any]
    ) -> Slots:
        """The three statements of slot `i`; what is absent comes out as zeros."""
        logit, loc, raw_scale = self.head(hidden).split([1, self.where_prior.size, self.where_prior.size], -1)
        with poutine.mask(mask=previous > 0):
            logit = logit.squeeze(-1)
            if self.training and self.exploration is not None:
                logit = explore(logit, self.exploration)
            presence = slot_presence(logit, previous)
            z_pres = pyro.sample(f"z_pres/{i}", presence, infer=infer)
        with poutine.mask(mask=z_pres > 0):
            place = LocScale(self.where_prior.loc + loc, self.where_prior.scale * F.softplus(raw_scale))
            z_where = pyro.sample(f"z_where/{i}", present_or_standard(place, z_pres))
            glimpse = crop(images, air_inverse_scale(z_where), self.glimpse_size)
            z_what = pyro.sample(f"z_what/{i}", present_or_standard(self.encoder(glimpse), z_pres))
        return slots_present(Slots(z_pres, z_where, z_what))

    def _start(self, images: Tensor) -> Slots:
        """What stands before the first slot: present, so that the first one may be, and zeros."""
        size = len(images)
        return Slots(
            images.new_ones(size),
            images.new_zeros(size, self.where_prior.size),
            images.new_zeros(size, self.what_size),
        )
