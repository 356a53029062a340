"""A trained model for frames of another size, or with other slots."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from whatwhere.examples.parts.sqair_config import PRESETS, HeldConfig, SQAIRConfig, WarmStartConfig
from whatwhere.examples.parts.sqair_programs import fitted_to, programs_of, refitted
from whatwhere.guides import SequenceAIRGuide
from whatwhere.models import SequenceAIR
from whatwhere.models.components.active_set import use_active_set
from whatwhere.models.components.networks import LocScale

VIDEO = PRESETS["video"]
SMALL = replace(
    VIDEO,
    network=replace(
        VIDEO.network,
        image_shape=(1, 24, 20),
        max_count=2,
        what_size=2,
        glimpse_size=6,
        hidden=8,
        narrow=6,
        presence_hidden=6,
    ),
    prior=replace(VIDEO.prior, object_size=(8.0, 5.0)),
)


@pytest.mark.parametrize("model", ["sqair", "air"])
def test_all_parameters_of_a_model_of_crops_are_those_of_one_of_whole_frames(model: str):
    config = replace(SMALL, model=model)
    programs = programs_of(config)
    use_active_set(*programs)
    fitted, large = refitted(config, programs, (1, 40, 61), 4)
    for mine, theirs in zip(large, programs, strict=True):
        old = dict(theirs.named_parameters())
        assert all(torch.equal(value, old[name]) for name, value in mine.named_parameters())
    assert large.guide.discovery.active_set
    assert fitted.network.max_count == large.model.max_count == 4
    assert fitted.network.measured_in == (24, 20)
    frames = large.guide(torch.rand(2, 2, 1, 40, 61))
    assert frames[0].z_pres.shape == (2, 4)
    # From there on to a third size: what places are measured in stays.
    assert refitted(fitted, large, (1, 30, 30))[0].network.measured_in == (24, 20)


def test_a_model_of_parts_of_a_cameras_frames_is_one_of_no_larger_ones():
    config = replace(SMALL, network=replace(SMALL.network, background="camera", camera=(40, 61)))
    fitted, large = refitted(config, programs_of(config), (1, 40, 61))
    assert large.model.background.image().shape == (1, 40, 61)
    assert fitted.network.image_shape == (1, 40, 61)
    with pytest.raises(ValueError, match=r"frames of \(41, 50\): those of the camera .* have \(40, 61\)"):
        fitted_to(config, (1, 41, 50))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "air"}, "static, vae or camera is for SQAIR: AIR has none"),
        (
            {
                "network": {"discovery": "grid", "relook": 0.0, "least": None, "larger": None},
                "warm_start": WarmStartConfig(),
            },
            "neither for .* grid",
        ),
        ({"warm_start": {"held": HeldConfig(share=0.1)}}, "nor for the stage `held`"),
        ({"network": {"background": "static"}}, "static or vae is for SQAIR without `warm_start`"),
    ],
)
def test_where_a_camera_is_of_no_use(options: dict[str, Any], message: str):
    config = replace(SMALL, network=replace(SMALL.network, background="camera"))
    parts = {
        name: replace(getattr(config, name), **value) if isinstance(value, dict) else value
        for name, value in options.items()
    }
    with pytest.raises(ValueError, match=message):
        replace(config, **parts)


def test_objects_are_searched_for_as_far_as_is_said():
    config = replace(SMALL, network=replace(SMALL.network, search=6))
    assert programs_of(config).guide.propagation.margin == 6


def test_windows_of_expected_objects_have_as_many_pixels_in_any_frame():
    _, large = refitted(SMALL, programs_of(SMALL), (1, 40, 61))
    width, height = large.guide.discovery.size
    assert width * 60 == pytest.approx(5 / 20 * 19)
    assert height * 39 == pytest.approx(8 / 24 * 23)


@pytest.mark.parametrize("perspective", [None, (-2.0, 0.0)])
def test_limits_of_sizes_are_those_of_expected_objects_in_any_frame(
    perspective: tuple[float, float] | None,
):
    network = replace(SMALL.network, size_limits=(0.8, 1.5), perspective=perspective)
    config = replace(SMALL, network=network)
    parts = programs_of(config)
    whole = refitted(config, parts, (1, 40, 61))[1]
    smallest, largest = torch.tensor([[-9.0, -9.0, 0.0, 0.0], [9.0, 9.0, 0.0, 0.0]])
    expected = torch.tensor([5.0, 8.0])
    for programs, frame in ((parts, (20, 24)), (whole, (20 * 60 / 19, 24 * 39 / 23))):
        windows = programs.model.decoder.windows
        assert windows is not None
        least, most = (windows(z_where)[:2] * torch.tensor(frame) for z_where in (smallest, largest))
        # A part may be from where objects are half as large, or half as large again.
        smallest_here, largest_here = (0.5, 1.5) if perspective and programs is parts else (1.0, 1.0)
        torch.testing.assert_close(least, 0.8 * smallest_here * expected, rtol=1e-4, atol=0)
        torch.testing.assert_close(most, 1.5 * largest_here * expected, rtol=1e-4, atol=0)


def test_the_greatest_width_is_of_the_shape_of_expected_objects_in_any_frame():
    config = replace(SMALL, network=replace(SMALL.network, widest=1.2))
    parts = programs_of(config)
    whole = refitted(config, parts, (1, 40, 61))[1]
    for programs, frame in ((parts, (20, 24)), (whole, (20 * 60 / 19, 24 * 39 / 23))):
        windows = programs.model.decoder.windows
        assert windows is not None
        width, height = windows(torch.tensor([9.0, -1.0, 0.0, 0.0]))[:2] * torch.tensor(frame)
        torch.testing.assert_close(width, 1.2 * 5 / 8 * height, rtol=1e-4, atol=0)


@pytest.mark.parametrize(
    ("part", "field", "value", "message"),
    [
        ("network", "discovery", "learned", "network.discovery is not 'evidence'"),
        ("network", "background", "learned", "network.background is not 'none'"),
        ("prior", "where", "recurrent", "prior.where is not 'fixed'"),
    ],
)
def test_what_depends_on_the_size_is_named(part: str, field: str, value: str, message: str):
    own = replace(SMALL, network=replace(SMALL.network, relook=0.0, least=None, larger=None))
    config = replace(own, **{part: replace(getattr(own, part), **{field: value})})
    assert fitted_to(config, (1, 24, 20)).network.image_shape == (1, 24, 20)
    with pytest.raises(ValueError, match=f"frames of another size: {message}"):
        fitted_to(config, (1, 40, 61))


def test_other_slots_need_a_price_and_other_channels_another_model():
    network = replace(SMALL.network, stay=None, least=None)
    config = replace(SMALL, prior=replace(SMALL.prior, price=None), network=network)
    with pytest.raises(ValueError, match="other slots: the prior of the number of objects is learned"):
        fitted_to(config, (1, 24, 20), 5)
    with pytest.raises(ValueError, match="frames of other channels: glimpses have 1"):
        fitted_to(SMALL, (3, 40, 61))


def test_objects_are_smaller_than_frames():
    config: SQAIRConfig = replace(SMALL, prior=replace(SMALL.prior, object_size=(24.0, 5.0)))
    with pytest.raises(ValueError, match=r"`prior.object_size` must be less than the frames of \(24, 20\)"):
        programs_of(config)
    config = replace(SMALL, prior=replace(SMALL.prior, price=None))
    with pytest.raises(ValueError, match=r"`network.stay` is a share of `prior.price`, which is not given"):
        programs_of(config)


def test_looks_of_living_things_are_seen_anew_at_first():
    model, guide = programs_of(SMALL)
    assert not isinstance(model, SequenceAIR)
    assert not isinstance(guide, SequenceAIRGuide)
    before, seen = torch.randn(5, 2), LocScale(torch.randn(5, 2), torch.ones(5, 2))
    look = guide.propagation.looks(before, seen)
    share = 1 / (1 + torch.tensor(-3.0).exp())
    torch.testing.assert_close(look.loc, before + share * (seen.loc - before))
    prior = model.propagation_prior.looks(before)
    torch.testing.assert_close(prior.loc, before)
    for scale in (look.scale, prior.scale):
        torch.testing.assert_close(scale, torch.full((5, 2), 0.3))
