"""Plots of what `benchmarks.estimators` measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DOTS_PER_INCH = 150
_COLOURS = {
    "marginal": "#000000",
    "reinforce": "#999999",
    "nvil": "#8c564b",
    "vimco": "#0072b2",
    "ovis": "#009e73",
    "wake_sleep": "#e69f00",
    "sqair_code": "#cc79a7",
}
_STYLES = {"": "-", "stl": ":", "dreg": "--"}


def gradient_plot(report: Mapping[str, Any], groups: Sequence[str]) -> Image.Image:
    """Signal over noise against the number of particles, a panel for each group of parameters."""
    from matplotlib.ticker import LogLocator, StrMethodFormatter

    rows = math.ceil((len(groups) + 1) / 3)
    figure = _figure(3 * rows, columns=3)
    panels = figure.subplots(rows, 3).ravel()
    particles = [int(number) for number in report["results"]]
    names = next(iter(report["results"].values()))["contenders"]
    for panel, group in zip(panels, groups, strict=False):
        for name in names:
            cells = [result["contenders"][name]["groups"][group] for result in report["results"].values()]
            values = [cell["snr"] if cell["snr_is_seen"] else np.nan for cell in cells]
            panel.plot(particles, values, marker="o", markersize=3, **_line(name))
        panel.set(xscale="log", yscale="log", title=group, xlabel="particles")
        panel.minorticks_off()
        panel.set_xticks(particles, map(str, particles))
        panel.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        panel.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    panels[0].set_ylabel("signal over noise of one gradient")
    handles, labels = panels[0].get_legend_handles_labels()
    panels[len(groups)].legend(handles, labels, frameon=False, loc="center")
    for panel in panels[len(groups) :]:
        panel.axis("off")
    return _drawn(figure)


def training_plot(report: Mapping[str, Any]) -> Image.Image:
    """Held-out count accuracy and bound against processor time: means over seeds, and their ranges."""
    figure = _figure(4.2, columns=2)
    panels = figure.subplots(1, 2)
    measures = {"count_accuracy": "count accuracy", "iwae": f"IWAE-{report['monitor_particles']}, nats"}
    for panel, (measure, label) in zip(panels, measures.items(), strict=True):
        for name, row in report["results"].items():
            curves = [run["curve"] for run in row["runs"] if run["curve"]]
            length = min(map(len, curves), default=0)
            if not length:
                continue
            minutes = [point["minutes"] for point in curves[0][:length]]
            values = np.array([[point[measure] for point in curve[:length]] for curve in curves], dtype=float)
            line = _line(name)
            panel.plot(minutes, values.mean(0), **line)
            panel.fill_between(
                minutes, values.min(0), values.max(0), color=line["color"], alpha=0.12, linewidth=0
            )
            if measure == "iwae":
                panel.set_ylim(bottom=max(panel.get_ylim()[0], float(np.median(values[:, -1])) - 120))
        panel.set(xlabel="processor time, minutes", ylabel=label)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=5, frameon=False, fontsize="small")
    return _drawn(figure)


def _line(name: str) -> dict[str, Any]:
    estimator, _, continuous = name.partition("-")
    return {
        "color": _COLOURS[estimator],
        "linestyle": _STYLES[continuous],
        "label": name,
        "linewidth": 1.5,
    }


def _figure(height: float, columns: int) -> Figure:
    # Importing it takes a second, which a program that draws no plot need not wait.
    from matplotlib.figure import Figure

    return Figure(figsize=(3.6 * columns, height), dpi=_DOTS_PER_INCH, layout="constrained")


def _drawn(figure: Figure) -> Image.Image:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    for panel in figure.axes:
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(color="0.92")
        panel.set_axisbelow(True)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.array(canvas.buffer_rgba())[..., :3])
