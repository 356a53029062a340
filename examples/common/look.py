"""A look at a user's images or videos before training: what is in them, and which settings suit it.

Everything is found by connected regions, without labels and without a model: what training starts from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Container, Iterator, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from whatwhere.checks import FieldError, MissingPackageError
from whatwhere.datasets import (
    RUNNING,
    DataError,
    FrameRecipe,
    Frames,
    Preparation,
    VideoBatch,
    count_videos,
    middle_size,
    open_fitted,
    sample_clips,
    used_bits,
)
from whatwhere.datasets.recorded.frames import fit_frame, size_of_all
from whatwhere.examples.common.recorded import Config, RecordedConfig, settled
from whatwhere.inference.evaluation import ObjectStatistics, object_statistics

__all__ = [
    "Choice",
    "Look",
    "RawClips",
    "Settings",
    "choose_data",
    "chosen",
    "describe",
    "is_set",
    "look_at",
    "print_look",
    "read_raw",
    "settings_of",
    "warnings_of",
    "with_choices",
]

_CLIPS = 48
_CLIP_BYTES = 2**26
_CLIP_PIXELS = 2**23  # and channels, of so large clips 16 are looked at
_VIDEOS, _PIECES = 4, 8  # at most, that clips are from
_CONTRAST = 15.0  # standard deviations of the ground's noise that objects exceed it by
_APART = 1000  # frames from clip to clip, about: many more than a clip has
_MOST_INK = 0.2  # of all pixels
_FEW = 40  # frames, of a video that is no longer
_MOST_STAYS = 0.5  # of the ink: 0.7 to 2.2 where objects stay within their length, 0 to 0.2 where they do not
_BRIGHT = 64  # of 255: objects are drawn on black
_SMALLEST = 5  # pixels
_LARGE, _WANTED = 28, 20  # pixels, of an object before and after frames are made smaller
_LEAST_CROP, _MOST_CROP = 48, 64  # pixels
_WORTH = 1100.0  # nats that an object's pixels are worth: 25 to 40 times what its place and looks cost
_PRICE = 0.09  # of that, for an object more: what a picture leaves of an object is worth less
_LEAST = 2.5  # prices that a new object must explain, as in the preset `video`
_SMALL = 0.25  # of the energy of a typical object: what is worth less is dear
_MARGIN = 1  # pixels around an object
_ONE = math.sqrt(2)  # times the size of one object are as far from it as from that of two
_LEAST_SEARCH = 8  # samples


RunSettings = TypeVar("RunSettings", bound=Any)
Split = TypeVar("Split", bound=Any)


class Look(NamedTuple):
    """What was seen."""

    clips: Tensor
    """Some frames as a model sees them `(B, T, C, H, W)`, with one after each where there is one."""
    statistics: ObjectStatistics
    """Of them."""


class Clips(Protocol):
    """Images or videos to train on."""

    @property
    def shape(self) -> tuple[int, ...]:
        """`(M, T, C, H, W)`."""

    def batch(self, indices: Sequence[int]) -> VideoBatch:
        """Those of some numbers."""


class Settings(NamedTuple):
    """What a model of these objects should be told; each with its reason in `reasons`."""

    object_size: tuple[float, float]
    """Height and width of the window of an object, pixels."""
    size_scale: float
    """Standard deviation of the logarithms of sizes, about."""
    size_limits: tuple[float, float]
    """Least and greatest size of a window over that: nearer to one object than to half of one, or two."""
    glimpse_size: int
    """Side of the glimpse, in samples."""
    likelihood_scale: float
    """Standard deviation of the pixels."""
    price: float
    """Of another object, in nats."""
    slots: int
    """Most objects at once, and one more."""
    search: int | None
    """How far objects are searched for from a frame to the next, in samples of the glimpse; None where
    there is but one frame.
    """
    least: float | None
    """What a picture must explain for an object to be new, in prices; None where objects are much alike."""
    reasons: tuple[str, ...]
    """One for each of the above, in their order."""


def look_at(data: Clips, most: int = _CLIPS) -> Look:
    """Look at some of the data, evenly spread.

    Args:
        data: bright on black.
        most: of the videos or images that are looked at.

    Raises:
        MissingPackageError: if SciPy is not installed.
    """
    clips = [data.batch([row]).video[:, :2] for row in _spread(data, most)]
    return Look(torch.cat(clips), object_statistics(torch.cat(clips)))


class Choice(NamedTuple):
    """A setting that follows from a look at the data."""

    setting: str
    """Its name, as `prior.price`."""
    value: Any
    """What suits the data."""
    reason: str
    """Why."""


def with_choices(
    config: RunSettings, choices: Sequence[Choice], presets: Sequence[RunSettings]
) -> tuple[RunSettings, list[str]]:
    """The configuration of a run with the choices of those settings that nobody has set.

    Args:
        config: with `keep`, the names of settings that stay as they are.
        choices: of settings of its parts.
        presets: what a setting is in one of them may be no more than a default.

    Returns:
        the configuration, and a line for each of the choices with its reason.
    """
    parts: dict[str, dict[str, Any]] = {}
    lines = []
    for setting, value, reason in choices:
        part, name = setting.split(".")
        if is_set(config, setting, presets):
            lines.append(f"{setting}: {_plain(attrgetter(setting)(config))} (as it was set)")
            continue
        parts.setdefault(part, {})[name] = value
        lines.append(f"{setting}: {_plain(value)} ({reason})")
    changed = {part: replace(getattr(config, part), **values) for part, values in parts.items()}
    return replace(config, **changed), lines


def is_set(config: RunSettings, setting: str, presets: Sequence[RunSettings]) -> bool:
    """Whether somebody has set it, see `with_choices`."""
    value = attrgetter(setting)
    return setting in config.keep or all(value(base) != value(config) for base in presets)


def _plain(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _spread(data: Clips, most: int) -> list[int]:
    """Numbers of some of the data; of those that are read in pieces, from few of them."""
    most = max(2, min(most, _CLIP_BYTES // (4 * math.prod(data.shape[1:]))))
    pieces = np.cumsum((0, *getattr(data, "pieces", ())))
    if len(pieces) <= _PIECES:
        return _evenly(0, data.shape[0], most)
    chosen = _evenly(0, len(pieces) - 1, _PIECES)
    return [row for at in chosen for row in _evenly(pieces[at], pieces[at + 1], -(-most // _PIECES))]


def _evenly(first: int, stop: int, number: int) -> list[int]:
    rows: list[int] = np.unique(np.linspace(first, stop - 1, number).astype(int)).tolist()
    return rows


def describe(look: Look) -> Iterator[str]:
    """What was seen, in a few lines."""
    found, (height, width) = look.statistics, look.clips.shape[-2:]
    number, length = look.clips.shape[:2]
    yield f"looked at {number} {'frames' if length == 1 else 'pairs of frames'} of {height} x {width} pixels"
    if math.isnan(found.brightness):
        return
    yield (
        f"objects: {found.height.median:.0f} x {found.width.median:.0f} pixels (height and width; most up to "
        f"{found.height.high:.0f} x {found.width.high:.0f}), brightness {found.brightness:.2f}, energy "
        f"{found.energy.median:.1f}"
    )
    moves = "" if math.isnan(found.shift) else f"; they move up to {found.shift:.0f} pixels a frame"
    yield (
        f"at once: {found.mean_count:.1f} on average, {found.most} at most, none in {found.empty:.0%} of the "
        f"frames{moves}"
    )


def warnings_of(look: Look, slots: int | None = None) -> Iterator[str]:
    """Why training on these data would fail; nothing where it need not.

    Args:
        look: at the data as a model is to see them.
        slots: of the model.
    """
    found, ground = look.statistics, float(look.clips.median()) * 255
    if ground > _BRIGHT:
        yield (
            f"the ground is bright, {ground:.0f} of 255, and objects are drawn on black: take it away with "
            "`--data.prepare.background median` (a camera that stands still), `running` (and its light "
            "changes) or `local`, and "
            "`--data.prepare.polarity auto`"
        )
        return
    if math.isnan(found.brightness):
        yield (
            "there are no objects: nothing is bright. If they are faint or dark, make them bright with "
            "`--data.prepare.normalise` and `--data.prepare.polarity auto`"
        )
        return
    if found.ink > _MOST_INK:
        yield (
            f"{found.ink:.0%} of all pixels are bright, too many to tell objects apart: the ground is not "
            "black, or moves (see `--data.prepare.background`)"
        )
    if min(found.height.median, found.width.median) < _SMALLEST:
        yield (
            f"objects are of {found.height.median:.0f} x {found.width.median:.0f} pixels, too few to be told "
            "from noise: use larger frames (`--data.scale` above 1 helps a little)"
        )
    if found.empty > 0.9:
        yield f"{found.empty:.0%} of the frames are empty: cut out what is not (`--data.cut activity`)"
    if slots is not None and found.most > slots:
        yield (
            f"there are up to {found.most} objects at once, more than the {slots} slots: set "
            f"`--network.max-count {found.most + 1}`, or cut parts out of frames (`--data.crop`)"
        )
    if not math.isnan(found.shift) and found.shift > max(found.height.high, found.width.high):
        yield (
            f"objects move up to {found.shift:.0f} pixels from a frame to the next, further than they are "
            "long: they may be lost"
        )


def print_look(data: Clips, slots: int) -> Look | None:
    """Look at data, and print what is seen and why training on them would fail; nothing without SciPy.

    Args:
        data: images or videos to train on.
        slots: of the model.
    """
    try:
        look = look_at(data)
    except MissingPackageError:
        return None
    for line in describe(look):
        print(line)
    for line in warnings_of(look, slots):
        print(f"warning: {line}")
    return look


def choose_data(
    data: Config, source: str, whole: bool = False, keep: Collection[str] = ()
) -> tuple[Config, list[str]]:
    """What is done to frames so that objects are bright on black, of a good size, and few at once.

    What is chosen already stays: what is other than by default, or is to be kept.

    Args:
        data: of the run.
        source: path of what it trains on.
        whole: whether images stand alone and stay whole; else they are frames of videos, out of which parts
            are cut if they are large.
        keep: names of settings that stay as they are, such as `data.crop`.

    Returns:
        `data` with the choices, and a line for each with its reason.

    Raises:
        DataError: if the source cannot be read.
        MissingPackageError: if SciPy is not installed.
    """
    reasons = []
    if data.bits == 16 and "data.bits" not in keep and (bits := used_bits(source) or 16) < 16:
        data = replace(data, bits=bits)
        reasons.append(f"data.bits: {data.bits} (no grey value has more)")
    free = data.scale is None and data.resize is None and not {"data.scale", "data.resize"}.intersection(keep)
    if free and whole and (size := middle_size(source)):
        data = replace(data, resize=size)
        reasons.append(
            f"data.resize: {size[0]} x {size[1]} (pictures have different sizes, of which these are medians)"
        )
    length = 1 if whole else 1 + data.every
    raw = read_raw(data, source, length, reduce=free)
    data = replace(data, scale=raw.scale)
    if data.prepare == Preparation() and not any(name.startswith("data.prepare.") for name in keep):
        prepare, reason = _preparation(raw, data.frame_recipe())
        data = replace(data, prepare=prepare)
        reasons.append(reason)
    elif data.prepare.changes:
        data = settled(data, source)
    if free:
        found = object_statistics(raw.seen(data.frame_recipe())[:, :: data.every])
        scale, reason = _scale(found, raw.scale or 1.0)
        if data.resize is None:
            data = replace(data, scale=scale)
            if (scale or 1.0) > (raw.scale or 1.0):
                raw = read_raw(data, source, length)
        elif scale:
            height, width = (round(scale * side) for side in data.resize)
            data = replace(data, resize=(height, width))
            reason = f"data.resize: {height} x {width}, as by {reason}"
        reasons += [reason] * bool(scale)
    if data.crop is None and "data.crop" not in keep and not whole:
        clips = raw.seen(data.frame_recipe())[:, :: data.every]
        crop, reason = _crop(object_statistics(clips), (clips.shape[-2], clips.shape[-1]))
        data = replace(data, crop=crop)
        reasons += [reason] * bool(crop)
    return data, reasons


def chosen(
    config: RunSettings,
    speak: bool,
    generated: Container[str],
    load: Callable[[RunSettings], Split],
    fitted: Callable[[RunSettings, Split], tuple[RunSettings, list[str]]],
    whole: bool = False,
) -> tuple[RunSettings, Split]:
    """The configuration of a run with what a look at its data tells, where it says `auto`; and the data.

    Args:
        config: with `data`, `auto`, `keep` and `network.max_count`.
        speak: whether to print what is chosen, and why.
        generated: sources of data that are made, in which there is nothing to look for.
        load: opens the data of a configuration.
        fitted: its network and prior for objects such as are in the data, and why.
        whole: as of `choose_data`.

    Raises:
        DataError: if the data cannot be read.
        FieldError: if there is nothing to look at, or `keep` has what is no setting.
    """
    source = config.data.source
    for name in config.keep:
        try:
            attrgetter(name)(config)
        except AttributeError:
            raise FieldError("keep", "must be names of settings, such as prior.price", name) from None
    if source in generated:
        if config.auto:
            raise FieldError("auto", "is for data of your own", source)
        return config, load(config)
    reasons: list[str] = []
    if config.auto:
        data, reasons = choose_data(config.data, source, whole, config.keep)
        config = replace(config, data=data)
    config = replace(config, data=settled(config.data, source))
    split = load(config)
    if config.auto:
        config, more = fitted(config, split)
        reasons += more
    if speak:
        for line in reasons:
            print(f"auto: {line}")
        print_look(split.train, config.network.max_count)
    return config, split


def settings_of(
    found: ObjectStatistics, shape: float | None = None, likelihood_scale: float | None = None
) -> Settings:
    """What a model of such objects should be told.

    Args:
        found: of frames as they are trained on.
        shape: width over height of a typical object, where places tell how high objects are: the widest of
            one height are pairs.
        likelihood_scale: standard deviation of the pixels, if it is given; it says what an object is worth.

    Raises:
        DataError: if there are none.
    """
    if math.isnan(found.brightness):
        raise DataError(
            "no objects were found, to which settings could be fitted: nothing is bright on a darker ground. "
            "See what a model is given by `whatwhere-data look --output`; if objects are faint or dark, "
            "`--data.prepare.normalise` and `--data.prepare.polarity auto`"
        )
    size = found.height.high + _MARGIN, found.width.high + _MARGIN
    known = (
        f"95 % of the objects that stand alone have up to {found.height.high:.0f} x "
        f"{found.width.high:.0f} pixels; and {_MARGIN} more"
    )
    if shape is not None:
        size = size[0], size[0] * shape
        known = (
            f"95 % of the objects that stand alone are up to {found.height.high:.0f} pixels high; and "
            f"{_MARGIN} more; and as wide as most are for their height, {shape:.0%} of it"
        )
    least = min(each.low / each.high for each in (found.height, found.width))
    ratio = math.sqrt(found.energy.high / found.energy.low)  # an object that turns has other sides
    spread = min(0.3, max(0.1, 0.3 * math.log(ratio) / math.log(2)))
    glimpse = min(20, max(16, round(max(size))))
    scale = likelihood_scale or math.sqrt(found.energy.median / (2 * _WORTH))
    worth = found.energy.median / (2 * scale**2)
    share, of, demanded = _PRICE, "an object is worth", None
    if shape is None and (small := found.energy.low / found.energy.median) < _SMALL:
        # Small ones are to be found, and large ones not to fall to pieces.
        share, demanded = _PRICE * math.sqrt(small), round(_LEAST * math.sqrt(small), 2)
        of = f"a typical object is worth: small ones are worth {small:.0%} of that, and are to be found too"
    return Settings(
        (round(size[0], 1), round(size[1], 1)),
        round(spread, 2),
        (round(least / _ONE, 2), round(_ONE, 2)),
        glimpse,
        float(f"{scale:.3g}"),
        round(share * worth, 1),
        found.most + 1,
        _search(found.shift, min(size) / glimpse),
        demanded,
        (
            known,
            f"sizes differ by a factor of {ratio:.1f}",
            "of that size: nearer to one object than to half of one, or to two",
            "about as many samples as pixels, from 16 to 20",
            f"a typical object, of energy {found.energy.median:.1f}, is worth {worth:.0f} nats",
            f"{share:.0%} of what {of}",
            f"at most {found.most} at once, and one more",
            f"95 % of the objects move up to {found.shift:.0f} pixels a frame; twice that are searched",
            "prices: as much of what small objects are worth as else of typical ones",
        ),
    )


def _search(shift: float, sample: float) -> int | None:
    """Twice as far as objects move, in samples of so many pixels: the fastest are found, and others are not.

    A twentieth of the shifts is not known: regions split and join. It is even, for a coarse grid.
    """
    return None if math.isnan(shift) else max(_LEAST_SEARCH, 2 * math.ceil(shift / sample))


class RawClips(NamedTuple):
    """Frames of the videos to train on."""

    clips: list[npt.NDArray[np.uint8]]
    """Of each video `(n, T, C, H, W)`; none of those that are too short if others are not."""
    scale: float | None = None
    """By which they were made smaller when they were read; None if they have the stored size, or another."""

    def seen(self, recipe: FrameRecipe) -> Tensor:
        """The frames as a model sees them, `(B, T, C, H, W)`."""
        fitted = (_fitted(clips, self._rest(recipe)) for clips in self.clips)
        return torch.cat([torch.from_numpy(clips).float() / 255 for clips in fitted])

    def sample(self, recipe: FrameRecipe) -> npt.NDArray[np.uint8]:
        """Frames of the first video `(n, C, H, W)`, of a recipe's size but not prepared."""
        return _fitted(self.clips[0], replace(self._rest(recipe), prepare=Preparation()))[:, 0]

    def _rest(self, recipe: FrameRecipe) -> FrameRecipe:
        """What of a recipe is still to be done."""
        if self.scale is None or recipe.resize is not None:
            return recipe
        return replace(recipe, scale=(recipe.scale or 1.0) / self.scale)


def read_raw(data: RecordedConfig, source: str, frames: int, reduce: bool = False) -> RawClips:
    """Some frames of a source that are not held out, of the size that `data` says.

    Args:
        data: what becomes of them.
        source: the path.
        frames: of each clip.
        reduce: whether frames so large that few could be looked at are made smaller, by powers of two.

    Raises:
        SizeError: if its videos differ in size.
    """
    clips, number = [], count_videos(source)
    most = min(_VIDEOS, number)
    recipe = replace(data.frame_recipe(), prepare=Preparation())

    def opened(recipe: FrameRecipe) -> list[Frames]:
        videos = [open_fitted(source, recipe, video=each) for each in _evenly(0, number, most)]
        size_of_all(videos)
        return videos

    videos = opened(recipe)
    pixels = frames * videos[0].channels * math.prod(videos[0].size)
    if reduce and recipe.resize is None and (factor := math.sqrt(pixels / _CLIP_PIXELS)) > 1:
        recipe = replace(recipe, scale=0.5 ** math.ceil(math.log2(factor)))
        videos = opened(recipe)
    for video in videos:
        stop = max(1, round((1 - data.held_out) * video.count()))
        clips.append(sample_clips(video, min(frames, stop), stop, _CLIPS // most))
    longest = max(clip.shape[1] for clip in clips)
    return RawClips([clip for clip in clips if clip.shape[1] == longest], recipe.scale)


def _fitted(clips: npt.NDArray[np.uint8], recipe: FrameRecipe) -> npt.NDArray[np.uint8]:
    """Frames `(n, T, C, H, W)` of one video as a recipe says."""
    channels, *stored = clips.shape[2:]
    size = recipe.size((stored[0], stored[1]))
    frames = clips.reshape(-1, *clips.shape[2:])
    if size != tuple(stored):
        frames = np.stack([fit_frame(frame, size, channels) for frame in frames])
    clips = frames.reshape(*clips.shape[:3], *size)
    places = range(0, _APART * len(clips), _APART)
    prepare = recipe.prepare.of(clips[:, 0], places)
    return np.stack([prepare(clip, start) for clip, start in zip(clips, places, strict=True)])


def _preparation(raw: RawClips, recipe: FrameRecipe) -> tuple[Preparation, str]:
    """The simplest ground that objects stand out from; or else that from which they do most."""
    sample, tried = raw.sample(recipe), []
    # What moves slowly may become part of a running ground, so it comes last.
    grounds = ("none", "median", "local", "running")[: 4 if len(sample) >= 2 * RUNNING else 3]
    for background in grounds:
        prepare = Preparation(background, "auto", normalise=True).settled(sample)
        if background == "none" and prepare.polarity == "both":
            continue  # only with a ground
        ink = (prepare.of(sample, range(len(sample)))(sample) > 64).any(1).mean()
        contrast = prepare.contrast(sample) if 0 < ink <= _MOST_INK else 0.0
        if background == "median" and 1 < len(sample) < _FEW and _stays(sample, prepare) > _MOST_STAYS * ink:
            contrast = 0.0
        tried.append((contrast, prepare))
        if contrast > _CONTRAST:
            break
    contrast, prepare = tried[-1] if contrast > _CONTRAST else max(tried, key=lambda each: each[0])
    ground = {
        "none": "the ground is even",
        "median": "the ground is the same in all frames",
        "local": "the ground is uneven and changes",
        "running": "the ground changes slowly",
    }[prepare.background]
    return prepare, (
        f"data.prepare: background {prepare.background}, polarity {prepare.polarity}, grey values "
        f"{prepare.black:g} to {prepare.white:g} ({ground}; objects exceed its noise {contrast:.0f} times)"
    )


def _stays(sample: npt.NDArray[np.uint8], prepare: Preparation) -> float:
    """Share of pixels whose median is another one at first than at last: objects have not left them yet.

    Args:
        sample: frames of a video in order, `(n, C, H, W)`.
        prepare: what objects stand out by.
    """
    part = max(1, len(sample) // 4)
    early, late = (np.median(some, axis=0) for some in (sample[: len(sample) - part], sample[part:]))
    black, white = prepare.black or 0.0, prepare.white or 255.0  # which are settled
    least = black + (white - black) * _BRIGHT / 255
    return float((np.abs(late - early) > least).any(0).mean())


def _scale(found: ObjectStatistics, seen_at: float) -> tuple[float | None, str]:
    """By how much frames are made smaller if objects are large, seen in frames that are smaller already."""
    side = max(found.height.median, found.width.median) / seen_at
    if math.isnan(side) or side <= _LARGE:
        return None, ""
    scale = 1 / round(side / _WANTED)
    return scale, f"data.scale: {scale:.3g} (objects are {side:.0f} pixels long, and {_WANTED} are enough)"


def _crop(found: ObjectStatistics, size: tuple[int, int]) -> tuple[tuple[int, int] | None, str]:
    """What is cut out of frames, if these are much larger than objects."""
    longest = max(found.height.high, found.width.high) + _MARGIN
    if math.isnan(longest):
        return None, ""
    side = min(_MOST_CROP, max(_LEAST_CROP, 2 * round(longest)))
    if size[0] * size[1] <= 2 * side**2:
        return None, ""
    crop = min(side, size[0]), min(side, size[1])
    return crop, (
        f"data.crop: {crop[0]} {crop[1]} (twice a large object's {longest:.0f} pixels, from "
        f"{_LEAST_CROP} to {_MOST_CROP}; frames have {size[0]} x {size[1]})"
    )
