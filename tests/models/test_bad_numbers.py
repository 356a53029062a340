"""Numbers that a model or a guide cannot be made of are refused where it is made, by name."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from whatwhere.guides import AIRBaseline, AIRGuide, Discovery, Propagation, WhatEncoder
from whatwhere.models import AIR, SQAIR, VRNN, ChainDiscovery, SequenceAIR
from whatwhere.models.components.networks import GlimpseDecoder, GlimpseEncoder, mlp
from whatwhere.models.components.recurrent import GRU, IRNN, SplitInputLSTM, VanillaRNN, ZoneoutLSTM
from whatwhere.models.priors import (
    CategoricalCount,
    DiscoveryCountPrior,
    DiscoveryWherePrior,
    FixedWherePrior,
    GeometricCount,
    GuidedPropagationPrior,
    NormalPrior,
    RecurrentPropagationPrior,
)
from whatwhere.models.sqair import LatentEncoder, LinearGlimpseDecoder, SceneDecoder
from whatwhere.models.vrnn import NormalHead, VRNNDynamics

NAN, INF = math.nan, math.inf


def what_encoder() -> WhatEncoder:
    return WhatEncoder(nn.Flatten(-3), 25, 3)


def discovery(**options: Any) -> Discovery:
    sizes = {"feature_size": 25, "context_size": 8, "what_size": 3, "glimpse_size": (5, 5), "hidden": 8}
    return Discovery(nn.Flatten(-3), what_encoder(), **{**sizes, **options})


def propagation(**options: Any) -> Propagation:
    return Propagation(what_encoder(), **{"what_size": 3, "glimpse_size": (5, 5), "hidden": 8, **options})


def chain(what_size: int = 3) -> ChainDiscovery:
    return ChainDiscovery(DiscoveryCountPrior(2), DiscoveryWherePrior(9), what_size)


def sqair(**options: Any) -> SQAIR:
    decoder = SceneDecoder(LinearGlimpseDecoder(3, (1, 5, 5), 8), torch.zeros(1, 12, 12))
    return SQAIR(RecurrentPropagationPrior(3, 8), chain(), LatentEncoder(3, 8), decoder, **options)


def sequence_air(**options: Any) -> SequenceAIR:
    decoder = SceneDecoder(LinearGlimpseDecoder(3, (1, 5, 5), 8), torch.zeros(1, 12, 12))
    return SequenceAIR(chain(), decoder, **options)


def dynamics(**options: Any) -> VRNNDynamics:
    sizes = {"frame_size": 144, "image_shape": (1, 12, 12), "latent_size": 3, "hidden": 4, "recurrent": 5}
    return VRNNDynamics(nn.Flatten(-3), **{**sizes, **options})


CASES: list[tuple[Callable[..., Any], str, list[Any]]] = [
    (AIR, "what_size", [0, -1, NAN]),
    (AIR, "image_shape", [(1, 0, 50), (0, 50, 50)]),
    (AIR, "likelihood_scale", [0.0, -0.3, NAN, INF]),
    (AIRGuide, "max_count", [0, -3]),
    (AIRGuide, "glimpse_size", [(0, 28), (28, -1)]),
    (AIRGuide, "what_size", [0]),
    (AIRGuide, "hidden_size", [0]),
    (AIRGuide, "head_hidden", [(0,)]),
    (AIRGuide, "exploration", [-0.1, 1.0, NAN]),
    (lambda **k: AIRBaseline(**{"features": 3, "input_size": 2, **k}), "features", [0]),
    (chain, "what_size", [-1]),
    (sqair, "likelihood_scale", [0.0, NAN]),
    (sequence_air, "context_size", [-1]),
    (discovery, "max_count", [0]),
    (discovery, "hidden", [0]),
    (discovery, "glimpse_size", [(5, 0)]),
    (discovery, "scale_bias", [NAN]),
    (discovery, "where_floor", [-0.1, NAN]),
    (propagation, "hidden", [0]),
    (propagation, "narrow", [0]),
    (propagation, "presence_bias", [NAN, INF]),
    (dynamics, "latent_size", [0]),
    (dynamics, "layers", [0]),
    (dynamics, "recurrent", [-5]),
    (lambda **k: VRNN(dynamics(), nn.Identity(), **k), "likelihood_scale", [0.0, NAN]),
    (lambda **k: NormalHead([3, 4], **k), "latent_size", [0]),
    (lambda **k: LatentEncoder(**{"what_size": 3, **k}), "hidden", [0]),
    (lambda **k: WhatEncoder(nn.Flatten(-3), 25, **k), "what_size", [0]),
    (lambda **k: SceneDecoder(nn.Identity(), torch.zeros(1, 4, 4), **k), "output_scale", [NAN]),
    (lambda **k: GlimpseDecoder(3, (1, 5, 5), **k), "hidden", [(0,)]),
    (lambda **k: GlimpseEncoder((1, 5, 5), **k), "what_size", [0]),
    (lambda **k: GeometricCount(**{"max_count": 3, **k}), "ratio", [0.0, -1.0, 1.5, NAN]),
    (GeometricCount, "max_count", [0, -1]),
    (CategoricalCount, "probabilities", [[0.0, 0.0], [1.0, -1.0], [0.5, NAN], [0.5, INF]]),
    (lambda **k: NormalPrior(**{"loc": [0.0], "scale": [1.0], **k}), "loc", [[NAN], [INF]]),
    (lambda **k: NormalPrior(**{"loc": [0.0], "scale": [1.0], **k}), "scale", [[0.0], [-1.0], [NAN], [INF]]),
    (lambda **k: DiscoveryCountPrior(**{"max_count": 2, **k}), "max_count", [0]),
    (lambda **k: DiscoveryCountPrior(2, **k), "later_bias", [NAN]),
    (lambda **k: DiscoveryWherePrior(**{"context_size": 3, **k}), "context_size", [0]),
    (lambda **k: DiscoveryWherePrior(3, **k), "scale", [0.0, 0.01, NAN]),
    (lambda **k: DiscoveryWherePrior(3, **k), "scale_logit", [NAN]),
    (FixedWherePrior, "scale", [0.0, NAN]),
    (lambda **k: RecurrentPropagationPrior(**{"what_size": 3, **k}), "hidden_size", [0]),
    (lambda **k: RecurrentPropagationPrior(3, 8, **k), "presence_bias", [NAN]),
    (lambda **k: GuidedPropagationPrior(3, 8, **k), "update_scale", [NAN]),
    (lambda **k: GRU(**{"input_size": 3, "hidden_size": 4, **k}), "hidden_size", [0, -1]),
    (lambda **k: VanillaRNN(3, 2, **k), "hidden_size", [0]),
    (lambda **k: IRNN(3, 4, **k), "input_std", [-1.0, NAN]),
    (lambda **k: SplitInputLSTM(3, 2, **k), "hidden_size", [0]),
    (lambda **k: ZoneoutLSTM(3, 4, **k), "zoneout", [-0.1, 1.1, NAN]),
    (mlp, "sizes", [[3, 0, 2], [3, NAN]]),
]


@pytest.mark.parametrize(
    ("make", "name", "value"),
    [(make, name, value) for make, name, values in CASES for value in values],
    ids=lambda case: case.__name__ if callable(case) else str(case),
)
def test_a_bad_number_is_refused_by_name(make: Callable[..., Any], name: str, value: Any):
    # A message of one line that says which argument, what it must be, and what it was.
    with pytest.raises(ValueError, match=rf"`{name}.*(must|to start).*got") as refused:
        make(**{name: value})
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("make", [discovery, propagation, sqair, dynamics, sequence_air])
def test_the_others_are_made(make: Callable[..., Any]):
    assert isinstance(make(), nn.Module)
