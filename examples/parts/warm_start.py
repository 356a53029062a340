"""SQAIR's training in stages, or AIR's with its parts: what they minimise, on what, with which schedules."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sized
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, ClassVar, NamedTuple

import torch
from pyro import poutine
from torch import Tensor, nn

from whatwhere.datasets import BatchSchedule, schedule_for
from whatwhere.examples.common.program import UsageError
from whatwhere.examples.common.video_models import PerFrame, Split, batches_of
from whatwhere.examples.common.video_training import monitored
from whatwhere.examples.parts.sqair_config import SQAIRConfig
from whatwhere.examples.parts.sqair_programs import AIRPrograms, Programs, fixed_where_prior, size_logits
from whatwhere.examples.parts.warm_start_config import FramesConfig, HeldConfig, LooksConfig, MotionConfig
from whatwhere.guides import ExplainingDiscovery, SequenceAIRGuide, hold_objects, is_seen
from whatwhere.inference.objectives import (
    AppearanceELBO,
    Diagnostics,
    MarginalELBO,
    Substitute,
    TaughtELBO,
    TrackLikelihood,
    local_parameters,
)
from whatwhere.inference.training import (
    Annealed,
    ExponentialDecay,
    Linear,
    Process,
    Stage,
    Trainer,
    TrainingConfig,
    Warmup,
    hash_seed,
    make_optimizer,
    parameter_groups,
    preserve_random_state,
    seed_generators,
)
from whatwhere.inference.training.clock import Clock
from whatwhere.models.discovery import ChainDiscovery
from whatwhere.models.priors import FixedCountPrior, FixedWherePrior, FlowPrior, GeometricCount
from whatwhere.models.sequence_air import SequenceAIR

WARM_UP = 0.02
"""Share of a stage in which learning rates rise from zero."""

MOST_FINDING = 0.5
"""Share of a stage's time after which nothing more is looked for to learn from."""

CHUNK = 100
"""Videos in which objects are looked for at once."""


@dataclass(frozen=True)
class WarmStart:
    """The stages of a run, which share its model and its guide."""

    config: SQAIRConfig
    """With the shape of the images."""
    programs: Programs | AIRPrograms
    """Model and guide, on the device. AIR has no motion."""
    data: Split
    """The videos."""
    process: Process
    """This process's place among several."""

    def stages(self) -> list[Stage]:
        """Those that have a share of the run, in their order."""
        warm = self.config.warm_start
        every: tuple[tuple[str, Any, Callable[..., Trainer]], ...] = (
            ("frames", warm.frames, self.frames),
            ("looks", warm.looks, self.looks),
            ("again", warm.again, self.frames),
            ("motion", warm.motion, self.motion),
            ("held", warm.held, self.held),
            ("refit", warm.refit, self.motion),
        )
        return [Stage(name, partial(make, name, of)) for name, of, make in every if of.share > 0]

    def frames(self, name: str, options: FramesConfig) -> Trainer:
        """Learns to find objects in single frames of all times, their number summed out."""
        where, price = self._priors_of_frames(options)
        single = SingleFrames.of(self.config, self.programs, where)
        single.model.to(self.process.device)
        discovery = self.programs.guide.discovery
        steps = self._training(name, options.share).steps
        begin, end = (round(share * steps) for share in options.rise)
        weight = Linear(options.first_weight, options.weight, begin, max(1, end - begin))
        dear = Linear(0.0 if begin else 1.0, 1.0, 0, max(1, begin))
        fall = ExponentialDecay(
            math.exp(-1), max(1, round(options.exploration_decay * steps)), options.exploration
        )
        likelihood_scale = self.config.prior.likelihood_scale
        hooks = [
            Annealed(single.model.likelihood_scale, lambda step: likelihood_scale / math.sqrt(weight(step))),
            Annealed(single.counts.log_ratio, lambda step: -price * weight(step) * dear(step)),
        ]
        if discovery.exploration is not None:
            hooks.append(Annealed(discovery.exploration, fall))
        of_step = self._schedule(name, self.data.train, options.batch_size)

        def batches(step: int) -> tuple[Tensor]:
            return (self.single_frames(name, of_step.indices(step), step).unsqueeze(1),)

        objective = single.objective()

        def evaluate(step: int) -> dict[str, float]:
            held_out = (
                videos._replace(video=self._objects(videos.video)) for videos in self._held_out(frames=1)
            )
            return monitored(single.model, single.guide, objective, held_out)

        slow = options.looks_rate * options.learning_rate
        rates: dict[str, float] = {}
        if options.looks_rate != 1:
            rates |= {"model.decoder": slow, "guide.discovery.what_encoder": slow}
        if isinstance(single.model.discovery.what_prior, FlowPrior):
            # As long as nothing is found, a prior that is learned follows looks that say nothing.
            rates["model.discovery.what_prior"] = 0.0
        return self._trainer(
            name,
            options,
            objective,
            batches,
            rates,
            on_step=hooks,
            evaluate=evaluate,
        )

    def _priors_of_frames(self, options: FramesConfig) -> tuple[FixedWherePrior, float]:
        """Prior of places in single frames, and the price of an object: the model's, or the stage's own."""
        network, prior = self.config.network, self.config.prior
        size = size_logits(network, prior) if options.size_logit is None else options.size_logit
        scale = (prior.size_scale or 1.0) if options.size_scale is None else options.size_scale
        price = (prior.price or 0.0) if options.price is None else options.price
        return fixed_where_prior(network, size, scale, options.shift_scale), price

    def looks(self, name: str, options: LooksConfig) -> Trainer:
        """Learns what objects look like, at places that discovery has found before."""
        discovery, decoder = self.programs.guide.discovery, self.programs.model.decoder
        likelihood_scale = self.config.prior.likelihood_scale / math.sqrt(options.weight)
        prior = self.programs.model.discovery
        objective = AppearanceELBO(
            discovery, decoder, likelihood_scale, prior.what_prior, dict(prior.further)
        )
        pool = _Places(self, name, options)
        of_step = self._schedule(name, range(options.frames), options.batch_size)

        def batches(step: int) -> tuple[Tensor, ...]:
            images, *places = pool.at(of_step.indices(step))
            return tuple(x.to(self.process.device) for x in (images.float() / 255, *places))

        return self._trainer(name, options, objective, batches)

    def motion(self, name: str, options: MotionConfig) -> Trainer:
        """Fits the prior of motion to tracks."""
        pool = _Tracks(self, name, options)
        most = options.videos * self.config.network.max_count
        of_step = self._schedule(name, range(most), options.batch_size)
        objective = TrackLikelihood(self.programs.model)
        device = self.process.device

        def batches(step: int) -> tuple[Tensor, ...]:
            z_pres, seen, *values = (field.to(device) for field in pool.at(of_step.indices(step)))
            if options.particles == 0:
                return z_pres, *values
            with preserve_random_state(device):
                seed_generators(device, "hidden", self.config.training.seed, name, step)
                completed = objective.complete(z_pres, seen, *values, particles=options.particles)
            return z_pres, *completed

        return self._trainer(name, options, objective, batches)

    def held(self, name: str, options: HeldConfig) -> Trainer:
        """Learns everything on whole videos, while the objects of the first frame are held on to."""
        model, guide = self.programs
        single = SingleFrames.of(self.config, self.programs, model.discovery.where_prior)
        single.model.to(self.process.device)
        single.model.likelihood_scale.div_(math.sqrt(options.weight))
        single.counts.log_ratio.fill_(-options.price * options.weight)
        taught = TaughtELBO(hold_objects, imitation=options.imitation, reduction="mean")(model, guide)
        first_frames = FirstFrames(single.objective())
        terms = [(1.0, PerFrame(taught)), (options.first_frame, first_frames)]
        objective = WeightedSum(*(term for term in terms if term[0] > 0))
        of_step = self._schedule(name, self.data.train, self.config.batch_size)

        def batches(step: int) -> tuple[Tensor]:
            video = self.data.train.batch(of_step.indices(step)).video[:, : self.config.frames]
            return (video.to(self.process.device),)

        def evaluate(step: int) -> dict[str, float]:
            return monitored(model, guide, objective, self._held_out(self.config.frames))

        return self._trainer(name, options, objective, batches, evaluate=evaluate)

    def _training(self, name: str, share: float) -> TrainingConfig:
        """The part of the training that a stage takes."""
        return replace(self.config.training.part(share), seed=hash_seed(self.config.training.seed, name))

    def _trainer(
        self,
        name: str,
        options: FramesConfig | LooksConfig | MotionConfig | HeldConfig,
        objective: nn.Module,
        batches: Callable[[int], tuple[Any, ...]],
        rates: Mapping[str, float] | None = None,
        **others: Any,
    ) -> Trainer:
        training = self._training(name, options.share)
        fall = ExponentialDecay(options.final_learning_rate / options.learning_rate, training.steps)
        groups = parameter_groups(objective, options.learning_rate, rates)
        return Trainer(
            objective,
            make_optimizer("adam", groups, options.learning_rate),
            batches,
            training,
            folder=self.config.output / "stages" / name,
            configuration=self.config,
            schedule=Warmup(max(1, round(WARM_UP * training.steps)), fall),
            modules=self.programs._asdict(),
            process=self.process,
            find_unused_parameters=True,
            **others,
        )

    def _schedule(self, name: str, items: Sized, batch_size: int) -> BatchSchedule:
        schedule = schedule_for(items, batch_size, hash_seed(self.config.training.seed, name))
        return schedule.shard(self.process.rank, self.process.world_size)

    def single_frames(self, name: str, videos: Tensor, step: int) -> Tensor:
        """A frame of each of some videos, at a time that is a function of the step, `(B, C, H, W)`.

        Where there is a background it is what is in front of it.
        """
        video = self.data.train.batch(videos).video[:, : self.config.frames]
        generator = torch.Generator().manual_seed(hash_seed("times", self.config.training.seed, name, step))
        times = torch.randint(video.shape[1], (len(video),), generator=generator)
        video = self._objects(video.to(self.process.device))
        return video[torch.arange(len(video), device=video.device), times.to(video.device)]

    def _objects(self, video: Tensor) -> Tensor:
        """What is in front of the background of videos `(B, T, C, H, W)`, if there is one."""
        background = getattr(self.programs.guide, "background", None)
        return video if background is None else background.look(video).objects

    def _held_out(self, frames: int) -> Iterator[Any]:
        size = min(self.config.monitor_videos, len(self.data.test))
        return batches_of(self.data.test, size, frames, self.process.device)


class SingleFrames(NamedTuple):
    """Model and guide of single frames, made of discovery and decoder of a pair, with priors of their own.

    Nothing is explained away: if what is left of one object were shown to the next, two would soon share it,
    and a picture of half of it would speak for a second one; here each is seen whole.
    """

    model: SequenceAIR
    guide: SequenceAIRGuide
    counts: GeometricCount
    """The prior of the number of objects, whose buffer `log_ratio` is minus the price of one."""

    @classmethod
    def of(cls, config: SQAIRConfig, programs: Programs | AIRPrograms, where: Any) -> SingleFrames:
        """Those of a pair, whose parameters they share.

        Args:
            config: of the pair.
            programs: the pair.
            where: prior of places.
        """
        model, guide = programs
        counts = GeometricCount(config.network.max_count)
        single = SequenceAIR(
            ChainDiscovery(
                FixedCountPrior(counts),
                where,
                what_prior=model.discovery.what_prior,
                **dict(model.discovery.further),
            ),
            model.decoder,
            guide.discovery.context_size,
            config.prior.likelihood_scale,
        )
        return cls(
            single, SequenceAIRGuide(guide.discovery.plain(), (*model.decoder.mean_image.shape,)), counts
        )

    def objective(self) -> nn.Module:
        """Their ELBO, the number of objects summed out."""
        return MarginalELBO("discovery/z_pres/0", reduction="mean")(self.model, self.guide)


class WeightedSum(nn.Module):
    """A weighted sum of objectives of the same videos, with the diagnostics of the first.

    Args:
        terms: weights, and objectives.
    """

    def __init__(self, *terms: tuple[float, nn.Module]) -> None:
        super().__init__()
        self.weights = [weight for weight, _ in terms]
        self.terms = nn.ModuleList(term for _, term in terms)

    def forward(self, video: Tensor) -> tuple[Tensor, Diagnostics]:
        """The loss of videos `(B, T, C, H, W)`, and diagnostics."""
        found = [term(video) for term in self.terms]
        losses = [weight * loss for weight, (loss, _) in zip(self.weights, found, strict=True)]
        return torch.stack(losses).sum(), found[0][1]


class FirstFrames(nn.Module):
    """An objective of the first frames of videos, which keeps the networks that count as they are.

    Args:
        objective: of model and guide of single frames.
    """

    def __init__(self, objective: nn.Module) -> None:
        super().__init__()
        self.objective = objective

    def forward(self, video: Tensor) -> tuple[Tensor, Diagnostics]:
        """The loss of videos `(B, T, C, H, W)`, and diagnostics."""
        found: tuple[Tensor, Diagnostics] = self.objective(video[:, :1])
        return found


class _Frozen:
    """Something that a guide finds in training videos, with the parameters that it has when this is made.

    It is found when it is asked for, so that a stage that is done already costs nothing when a run is
    resumed; the parameters are those that the stage before has ended with, whatever this stage has made of
    them.
    """

    present: ClassVar[int]
    """Which of the fields that are found is presence."""
    found: Any
    """The fields, a row for each video, or for what is found in one."""

    def __init__(self, warm: WarmStart, name: str, options: Any) -> None:
        self.warm, self.name, self.options = warm, name, options
        self.guide = copy.deepcopy(warm.programs.guide).eval().requires_grad_(False)

    def at(self, indices: Tensor) -> tuple[Tensor, ...]:
        """What was found in these rows, from the beginning again if there are fewer."""
        return tuple(field[indices % len(field)] for field in self.found)

    def collect(self, size: int, find: Callable[[int, Tensor], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """What is found in so many training videos, from the beginning again if there are fewer.

        Whichever step asks for it, the random numbers are the same, and those of the step are as without it.
        Where half of a stage's time has passed, what there is has to be enough.

        Args:
            size: number of videos, at most.
            find: called with the number of the first of a few videos, and the numbers of all of them.

        Raises:
            UsageError: if there is no object in any of them.
        """
        parts: list[tuple[Tensor, ...]] = []
        device, clock = self.warm.process.device, Clock()
        clock.start()
        with preserve_random_state(device), torch.no_grad():
            for start in range(0, size, CHUNK):
                if self._late(clock) and any(part[self.present].any() for part in parts):
                    break
                seed_generators(device, "found", self.warm.config.training.seed, self.name, start)
                numbers = torch.arange(start, min(start + CHUNK, size)) % len(self.warm.data.train)
                parts.append(tuple(field.cpu() for field in find(start, numbers)))
        found = tuple(torch.cat(column) for column in zip(*parts, strict=True))
        looked_at = len(found[self.present])
        if not found[self.present].any():
            raise UsageError(
                f"stage `{self.name}` has nothing to learn from: no object is found in {looked_at} training "
                "videos. Give `warm_start.frames` more time or a lower `price`, and see whether "
                "`prior.size_logit` is the size of the objects"
            )
        if self._late(clock) and self.warm.process.is_main:
            print(
                f"{self.name}: objects were looked for in {looked_at} of {size} videos, which took half of "
                "its time; give it a greater `share` if they are too few"
            )
        return found

    def _late(self, clock: Clock) -> bool:
        """Whether a stage has no more than half of its time left to learn in."""
        training = self.warm._training(self.name, self.options.share)
        return training.minutes is not None and (
            clock.share_of(training.minutes, training.clock) > MOST_FINDING
        )


class _Places(_Frozen):
    """Places of objects in single frames."""

    present = 1

    def __init__(self, warm: WarmStart, name: str, options: LooksConfig) -> None:
        super().__init__(warm, name, options)
        self.discovery = SequenceAIRGuide(
            self.guide.discovery.plain(), (*warm.programs.model.decoder.mean_image.shape,)
        )

    @cached_property
    def found(self) -> tuple[Tensor, ...]:
        """Grey values from 0 to 255 `(F, C, H, W)`, presence `(F, N)`, means and scales `(F, N, 4)`."""
        images, present, loc, scale = self.collect(self.options.frames, self._find)
        return images, present, loc, scale.clamp(max=self.options.most_jitter)

    def _find(self, start: int, videos: Tensor) -> tuple[Tensor, ...]:
        images = self.warm.single_frames(self.name, videos, start)
        with local_parameters(self.discovery):
            trace = poutine.trace(self.discovery).get_trace(images.unsqueeze(1))
        slots = range(self.discovery.discovery.max_count)
        sites: dict[str, Any] = dict(trace.nodes)
        places = [sites[f"discovery/z_where/0/{j}"]["fn"] for j in slots]
        present = torch.stack([sites[f"discovery/z_pres/0/{j}"]["value"] for j in slots], dim=-1)
        loc, scale = (
            torch.stack([value.expand(len(images), 4) for value in values], dim=-2)
            for values in ([place.mean for place in places], [place.stddev for place in places])
        )
        return (255 * images).round().byte(), present, loc, scale


class _Tracks(_Frozen):
    """Tracks of the objects of first frames, which are held on to."""

    present = 0

    def __init__(self, warm: WarmStart, name: str, options: MotionConfig) -> None:
        super().__init__(warm, name, options)
        discovery = self.guide.discovery
        if isinstance(discovery, ExplainingDiscovery):
            discovery.thorough = False  # or tracks would take longer to find than to learn from

    @cached_property
    def found(self) -> tuple[Tensor, ...]:
        """Presence `(V, N)`, where objects are seen `(V, T, N)`, and the latent variables `(V, T, N, D)`.

        Of objects that know nothing of each other each is a track of its own, with a single slot.
        """
        z_pres, *others = self.collect(self.options.videos, self._follow)
        if not getattr(self.warm.programs.model.propagation_prior, "per_object", False):
            return z_pres, *others
        alone = (field.movedim(2, 1)[z_pres > 0].unsqueeze(2) for field in others)
        return z_pres[z_pres > 0].unsqueeze(1), *alone

    def _follow(self, start: int, videos: Tensor) -> tuple[Tensor, ...]:
        video = self.warm.data.train.batch(videos).video[:, : self.warm.config.frames]
        with local_parameters(self.guide), Substitute(hold_objects):
            trace = poutine.trace(self.guide).get_trace(video.to(self.warm.process.device))
        sites: dict[str, Any] = dict(trace.nodes)
        frames = sites["_RETURN"]["value"]
        z_pres = frames[0].z_pres
        seen = [torch.ones_like(z_pres)]
        for t in range(1, len(frames)):
            places = [sites[f"propagation/z_where/{t}/{i}"]["fn"] for i in range(z_pres.shape[1])]
            seen.append(torch.stack([is_seen(place) for place in places], dim=-1))
        names = self.guide.discovery.sizes
        values = (torch.stack([getattr(slots, name) for slots in frames], dim=1) for name in names)
        return z_pres, torch.stack(seen, dim=1), *values
