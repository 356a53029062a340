"""The numbers of table 1 of SQAIR's paper, published and ours, and how they are shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Row(NamedTuple):
    """What is measured of one model, on held-out videos; nats are of whole sequences."""

    parameters: int
    """Numbers that are learned, of model and guide together."""
    steps: int
    """Steps of training."""
    minutes: float
    """Minutes that they took, by the clock of the budget."""
    log_marginal: float
    """log p(x), estimated with `iwae_particles` particles, on `iwae_videos` videos."""
    weighted_log_likelihood: float
    """Reconstruction `log p(x | z)`, of as many particles weighted, on the same videos."""
    weighted_kl: float
    """`log q(z | x) - log p(z)`, of the same."""
    log_likelihood: float
    """Reconstruction of single samples, on `videos` videos."""
    kl: float
    """KL of the same."""
    counting: float | None
    """Fraction of frames in which one posterior sample has as many objects as there are."""
    weighted_counting: float | None
    """Of weighted particles, as `weighted_kl`."""
    addition: float
    """Accuracy of digit addition, read from posterior samples of frames; see `inference.probe`."""
    addition_reason: str
    """Why training of the classifier ended."""
    iwae_particles: int
    """K."""
    iwae_videos: int
    """Videos of what is weighted."""
    videos: int
    """Videos of the other numbers."""


class Published(NamedTuple):
    """A row of the paper's table.

    Of SQAIR, reconstruction minus KL exceeds the bound, as only weighted means do, see `VideoReport`.
    """

    log_marginal: float | None
    weighted_log_likelihood: float | None
    weighted_kl: float | None
    counting: float | None
    addition: float | None


PUBLISHED = {
    "conv-sqair": Published(6784.8, 6923.8, 134.6, 0.9974, 0.9990),
    "mlp-sqair": Published(6617.6, 6786.5, 164.5, 0.9986, 0.9998),
    "mlp-air": Published(6443.6, 6830.6, 352.6, 0.9058, 0.8644),
    "conv-vrnn": Published(6561.9, 6737.8, 270.2, None, 0.8536),
    "mlp-vrnn": Published(5959.3, 6108.7, 218.3, None, 0.8059),
}
"""Kosiorek et al., *Sequential Attend, Infer, Repeat*, 2018, table 1."""


_COMPARED = ("log p(x)", "log p(x\\|z)", "KL", "counting", "addition")


def markdown(
    rows: Mapping[str, Row],
    failed: Mapping[str, str],
    title: str,
    published: Mapping[str, Published] | None = PUBLISHED,
) -> str:
    """The table, ours beside the published numbers, and what the paper does not tell.

    Args:
        rows: what was measured, by the names of `PUBLISHED`, and others, which come last.
        failed: why there is no such row, by name.
        title: a sentence above everything.
        published: the paper's numbers; None where they are of other data and cannot be compared.
    """
    names = [*(name for name in PUBLISHED if name in rows), *(name for name in rows if name not in PUBLISHED)]
    compared = _table(
        ["", *(head for name in _COMPARED for head in ((name, "paper") if published else (name,)))],
        [
            [_label(name), *_compared(rows[name], _of(published, name) if published else None)]
            for name in names
        ],
    )
    more = _table(
        ["", "parameters", "steps", "minutes", "log p(x\\|z), single", "KL, single", "counting, single"],
        [[_label(name), *_more(rows[name])] for name in names],
    )
    parts = [title, compared]
    if names:
        row = rows[names[0]]
        weighted = "weighted, as the published numbers are" if published else "weighted"
        parts += [
            f"log p(x) from {row.iwae_particles} particles; reconstruction, KL and counting are means over "
            f"these, {weighted}; {row.iwae_videos} videos. Nats per sequence.",
            more,
            f"*Single*: one posterior sample a video, on {row.videos} videos.",
        ]
    parts += [f"{_label(name)} failed: {reason}" for name, reason in failed.items()]
    parts += [
        f"{_label(name)}: the classifier of digit addition had not converged ({rows[name].addition_reason})."
        for name in names
        if rows[name].addition_reason != "converged"
    ]
    return "\n\n".join(parts) + "\n"


def _of(published: Mapping[str, Published], name: str) -> Published:
    return published.get(name, Published(None, None, None, None, None))


def _label(name: str) -> str:
    return name.upper()


def _compared(row: Row, paper: Published | None) -> list[str]:
    ours = [_nats(row.log_marginal), _nats(row.weighted_log_likelihood), _nats(row.weighted_kl)]
    ours += [_share(row.weighted_counting), _share(row.addition)]
    if paper is None:
        return ours
    published = [*map(_nats, paper[:3]), *map(_share, paper[3:])]
    return [cell for pair in zip(ours, published, strict=True) for cell in pair]


def _more(row: Row) -> list[str]:
    return [
        f"{row.parameters:,}",
        f"{row.steps:,}",
        f"{row.minutes:.1f}",
        _nats(row.log_likelihood),
        _nats(row.kl),
        _share(row.counting),
    ]


def _nats(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
