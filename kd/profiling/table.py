"""Text form of a profile: a Markdown table and a list."""

from typing import Any

from tabulate import tabulate

from kd.profiling.parts import DATA, in_order
from kd.training.term_scale import LARGEST_RATIO, LEAST_RATIO

Profile = dict[str, Any]


def describe(profile: Profile) -> str:
    """Return a table of parts, and lines on the bound, memory and loading."""
    lines = "\n".join(f"- {line}" for line in summary(profile))
    return "\n".join([*about(profile), "", *_parts(profile), "", lines])


def about(profile: Profile) -> list[str]:
    """Return lines with the run, the shape of its images and the hardware."""
    images, _, height, width = profile["shape"]
    devices, threads = profile["devices"], profile["threads"]
    where = (
        devices[0] if devices else f"{profile['cpu']} CPU, {threads} thread{'s' * (threads > 1)}"
    )
    return [
        profile["run"],
        f"{images} images of {width} x {height} a step, on {where}; "
        f"medians of {profile['steps']} steps",
    ]


def summary(profile: Profile) -> list[str]:
    """Return the ratio to the bound, memory, and the time that a step waits for its data."""
    memory, seconds = profile["memory"], profile["seconds"]
    step, wait = seconds["step"]["median"], profile["data"]["median"]
    lines = []
    if profile["ratio"]:
        value = profile["ratio"]
        lines += [
            f"step / bound: {value['median']:.3f} ({value['low']:.3f} to {value['high']:.3f})",
            f"step: {_ms(seconds['step'])} ms; bound: {_ms(seconds['bound'])} ms = student alone "
            f"{_ms(seconds['student'])} ms + teacher as deep as read {_ms(seconds['teacher'])} ms",
            *_without_gradients(seconds),
            f"memory at the peak of a step: {_mb(memory['step'])} MB; student alone "
            f"{_mb(memory['student'])} MB + teacher's maps that are read {_mb(memory['teacher'])} "
            f"MB; {100 * memory['extra']:+.1f} % beyond these",
        ]
    else:
        lines += [
            f"step: {_ms(seconds['step'])} ms",
            f"memory at the peak of a step: {_mb(memory['step'])} MB",
        ]
    lines.append(
        f"waiting for {DATA}: {1000 * wait:.1f} ms a step with {profile['workers']} loading "
        f"processes, {100 * wait / (wait + step):.0f} % of the two"
    )
    return lines + [_scale(term, ratio) for term, ratio in profile.get("terms", {}).items()]


def _without_gradients(seconds: Profile) -> list[str]:
    """Return a line on the teacher without gradients, if the method needs any through it."""
    forward = seconds.get("forward")  # which profiles of earlier versions lack
    if forward in (None, seconds["teacher"]):
        return []
    return [f"teacher as deep as read, without the gradients that pass it: {_ms(forward)} ms"]


def _scale(term: str, ratio: float) -> str:
    """Return a line with a term's gradient beside that of detection, and a bound it exceeds."""
    text = f"gradient of {term} at the neck: {ratio:.2g} times that of detection"
    if ratio < LEAST_RATIO:
        return f"{text}, below {LEAST_RATIO:g}"
    return f"{text}, above {LARGEST_RATIO:g}" if ratio > LARGEST_RATIO else text


def waits(profile: Profile, case: str, part: str) -> int:
    """Return the number of times the host waits in a part of a case, ``bound`` or ``step``."""
    return sum(profile["synchronizations"].get(case, {}).get(part, {}).values())


def _parts(profile: Profile) -> list[str]:
    """Return the rows of all parts, of the bound and of the step."""
    cases = list(profile["parts"])
    parts = in_order(dict.fromkeys(part for case in cases for part in profile["parts"][case]))
    titles = ["part", *(f"{case}, ms" for case in cases)]
    titles += [*(["more, ms"] if len(cases) > 1 else []), "of the step", "peak, MB", "host waits"]
    whole = sum(value["median"] for value in profile["parts"]["step"].values())
    rows = []
    totals = [0.0] * len(cases)
    for part in parts:
        seconds = [profile["parts"][case].get(part, {}).get("median", 0.0) for case in cases]
        totals = [total + value for total, value in zip(totals, seconds, strict=True)]
        peak = profile["memory"]["parts"].get(part, 0)
        rows.append(_row(part, seconds, whole, peak, waits(profile, "step", part)))
    waiting = sum(waits(profile, "step", part) for part in parts)
    rows.append(_row("sum, or most", totals, whole, profile["memory"]["step"], waiting))
    align = ["left", *["right"] * (len(titles) - 1)]
    table = tabulate(rows, titles, tablefmt="pipe", colalign=align, disable_numparse=True)
    return table.splitlines()


def _row(part: str, seconds: list[float], whole: float, peak: int, waiting: int) -> list[str]:
    cells = [f"{1000 * value:.1f}" if value else "" for value in seconds]
    more = [f"{1000 * (seconds[1] - seconds[0]):+.1f}"] if len(seconds) > 1 else []
    share = f"{100 * seconds[-1] / whole:.0f} %"
    return [part, *cells, *more, share, _mb(peak), str(waiting or "")]


def _ms(value: dict[str, float]) -> str:
    return f"{1000 * value['median']:.1f}"


def _mb(size: float) -> str:
    return f"{size / 1e6:.1f}"
