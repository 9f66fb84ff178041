"""Files of a profile: the measurements, their table, and a picture of times and memory.

The upper panel has the parts of a step and of its bound, the lower one memory at the peak of a
step. Distillation terms have the color of their method, the teacher is gray, and the parts of
every training are pale.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from analysis.plotting.style import QUIET, STYLE, WIDTH, look, save
from kd.common.files import write_json, write_text
from kd.profiling.parts import OPTIMIZER, TERM, in_order
from kd.profiling.table import about, describe

Profile = dict[str, Any]
BarSizes = Mapping[str, Mapping[str, float]]
"""Sizes by bar and part, the first bar at the top."""

PART_COLORS = {
    "preprocessing": "#DDDDAA",
    "student backbone": "#77AADD",
    "student neck": "#99CCEE",
    "student head": "#BBE0F5",
    "student proposals": "#99DDDD",
    "label assignment": "#66BBBB",
    "student loss": "#AADDCC",
    "teacher backbone": "0.35",
    "teacher neck": "0.5",
    "teacher head": "0.62",
    "teacher proposals": "0.72",
    "teacher classifier": "0.42",
    "backward": "#F3CC9A",
    OPTIMIZER: "#E8B4B8",
    "other": "0.92",
}
MEMORY = {"student": "#77AADD", "teacher": "0.35", "extra": "#D55E00"}
MEMORY_TITLES = {
    "student": "student's step alone",
    "teacher": "teacher's maps that are read",
    "extra": "beyond these",
}
BOUND = "; bound: the student's step alone and the part of the teacher that is read"
SMALLEST_LABELED = 0.06
"""Smallest share of the axis of a segment with its size in it."""


def write_profile(profile: Profile, folder: Path) -> list[Path]:
    """Write ``profile`` .json, .md, .pdf and .png into a folder; return their paths."""
    stem = folder / "profile"
    data, text = stem.with_suffix(".json"), stem.with_suffix(".md")
    write_json(data, profile)
    write_text(text, describe(profile) + "\n")
    with plt.rc_context(STYLE):
        figure = plot(profile)
        pictures = save(figure, stem)
    plt.close(figure)
    return [data, text, *pictures]


def plot(profile: Profile) -> Figure:
    """Return the picture: bars of times above, of memory below."""
    times = {
        case: {part: 1000 * value["median"] for part, value in parts.items()}
        for case, parts in profile["parts"].items()
    }
    memory = _memory(profile["memory"])
    bars = len(times) + len(memory)
    figure, axes = plt.subplots(
        2, 1, figsize=(WIDTH, 2.1 + 0.42 * bars), layout="constrained",
        height_ratios=[len(times) + 0.6, len(memory) + 0.3],
    )  # fmt: skip
    parts = in_order(dict.fromkeys(part for case in times.values() for part in case))
    _draw_bars(axes[0], times, {part: _part_color(part) for part in parts}, "ms")
    axes[0].set_xlabel(f"milliseconds of a step, medians by part{BOUND if len(times) > 1 else ''}")
    _draw_bars(axes[1], memory, MEMORY, "MB", MEMORY_TITLES)
    axes[1].set_xlabel("megabytes of tensors at the peak of a step")
    run, measured = about(profile)
    model, training = Path(run).parts[-3:-1] if len(Path(run).parts) > 2 else ("", run)
    headline = f"{model} {training}".strip() + _headline(profile)
    figure.suptitle(f"{headline}\n", x=0.01, ha="left", weight="bold", size=9, linespacing=1.8)
    figure.text(0.01, 0.93, measured, ha="left", va="top", size=7, color=QUIET)
    return figure


def _headline(profile: Profile) -> str:
    ratio = profile["ratio"]
    if not ratio:
        return ""
    spread = f"{ratio['low']:.2f} to {ratio['high']:.2f}"
    return f": {ratio['median']:.2f} times its bound ({spread})"


def _memory(memory: dict[str, float]) -> BarSizes:
    if "student" not in memory:
        return {"step": {"student": memory["step"] / 1e6}}
    below = {name: memory[name] / 1e6 for name in ("student", "teacher")}
    extra = memory["step"] / 1e6 - sum(below.values())
    return {"bound": below, "step": {**below, "extra": max(extra, 0.0)}}


def _part_color(part: str) -> Any:
    if part.startswith(TERM):
        return look("", part.removeprefix(TERM)).color
    return PART_COLORS.get(part, "0.8")


def _draw_bars(
    axes: Axes, bars: BarSizes, colors: Mapping[str, Any], unit: str, titles: Mapping[str, str] = {}
) -> None:
    """Draw stacked bars with the size of each segment, and a legend of the parts above them."""
    longest = max(sum(parts.values()) for parts in bars.values())
    for row, parts in enumerate(bars.values()):
        left = 0.0
        for part, color in colors.items():
            size = parts.get(part, 0.0)
            if not size:
                continue
            is_term = part.startswith(TERM)
            edge: Any = {"edgecolor": "black" if is_term else "white", "linewidth": 0.6}
            order = 3 if is_term else 2
            axes.barh(row, size, left=left, height=0.72, color=color, zorder=order, **edge)
            if size > SMALLEST_LABELED * longest:
                dark = part.startswith("teacher") or is_term
                axes.text(
                    left + size / 2, row, f"{size:.3g}", ha="center", va="center", size=7,
                    color="white" if dark else "black", zorder=4,
                )  # fmt: skip
            left += size
        axes.text(left + 0.01 * longest, row, f"{left:.3g} {unit}", va="center", weight="bold")
    axes.set_yticks(range(len(bars)), list(bars))
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(0, 1.12 * longest)
    axes.set_ylim(len(bars) - 0.5, -0.5)
    present = [part for part in colors if any(part in parts for parts in bars.values())]
    handles = [
        Patch(facecolor=colors[part], edgecolor="black" if part.startswith(TERM) else "white")
        for part in present
    ]
    axes.legend(
        handles, [titles.get(part, _legend_text(part, bars, unit)) for part in present],
        ncols=5, loc="lower left",
        bbox_to_anchor=(0, 1), frameon=False, fontsize=7, handlelength=1, columnspacing=1.2,
        borderaxespad=0.2,
    )  # fmt: skip


def _legend_text(part: str, bars: BarSizes, unit: str) -> str:
    """Return a part's name; a term's has its size, because its segment may be too thin for it."""
    if not part.startswith(TERM):
        return part
    return f"{part} ({max(parts.get(part, 0.0) for parts in bars.values()):.2g} {unit})"
