"""Sentences of a model card on the gain from distillation."""

from analysis.card.measured import GainOverAlone
from analysis.card.record import CardRecord, shown_path
from analysis.statistics.seeds import Interval
from analysis.tables.formatting import ends_text, number


def gain_text(record: CardRecord, gain: GainOverAlone | None) -> str:
    """Return what distillation adds to the student alone, with its interval, in plain sentences."""
    if not record.distilled:
        return "This detector was trained without a teacher, so there is no gain to state."
    if gain is None:
        folder = record.directory.parent.parent / "alone"
        return (
            "**Unknown.** There is no evaluated run of the student alone under the same conditions "
            f"(in `{shown_path(folder)}`), so this card cannot state whether the teacher helped."
        )
    metric = "mAP" if record.metric == "VOC07" else "AP"
    sentences = [
        f"The gain over the student alone is **{number(gain.gain, signed=True)}** {metric} points"
        f"{_ends(gain.over_images)}. Both were trained under the same conditions and tested on "
        f"the same images (`{shown_path(gain.baseline)}`).",
        _judgment(gain.over_images),
    ]
    if gain.seeds is not None:
        sentences += _over_seeds(gain, metric)
    else:
        sentences.append(
            "The interval is of test images. Two trainings with other seeds would differ, too, and "
            "one pair of trainings does not show how much."
        )
    if gain.teacher_gain is not None:
        sentences += _teacher(gain, metric)
    return " ".join(sentences)


def _over_seeds(gain: GainOverAlone, metric: str) -> list[str]:
    assert gain.seeds is not None
    interval = gain.seeds.over_seeds
    mean = number(gain.seeds.mean, signed=True)
    text = f"Over {gain.seed_count} seeds the mean gain is {mean} {metric} points{_ends(interval)}."
    if interval is None:
        return [text]
    verdict = (
        "This interval includes 0: no effect of distillation is shown."
        if _includes_zero(interval)
        else "This interval of seeds excludes 0."
    )
    return [text, verdict]


def _teacher(gain: GainOverAlone, metric: str) -> list[str]:
    assert gain.teacher_gain is not None
    interval = gain.teacher_over_images
    value = number(gain.teacher_gain, signed=True)
    sentences = [
        f"The teacher's {metric} minus that of the student alone is {value} points"
        f"{_ends(interval)}."
    ]
    if interval is not None and interval.low <= 0:
        sentences.append("It is not clearly better, so it has little to teach.")
    return sentences


def _judgment(interval: Interval | None) -> str:
    if interval is None:
        return "Its interval was not computed."
    if _includes_zero(interval):
        return (
            "The interval includes 0: this test set shows neither a gain nor a loss from "
            "distillation."
        )
    if interval.low > 0:
        return "The distilled student is better on these test images."
    return "The distilled student is **worse** on these test images: use the student alone."


def _includes_zero(interval: Interval) -> bool:
    return interval.low <= 0 <= interval.high


def _ends(interval: Interval | None) -> str:
    return f" (95 % interval {ends_text(interval)})" if interval else ""
