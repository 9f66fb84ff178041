"""FRS on the inputs of golden data: maps and class logits of all levels, one after another."""

from functools import partial

from kd.observers import Progress
from kd.training.image_groups import grouped_losses
from tests.methods.published.golden_data import Port
from tests.methods.published.preset_losses import preset_method, summed
from tests.methods.published.published_imitation import Inputs, View, batch_of, layers, levels

STRIDES = (4, 8, 16)


class Classified(View):
    """Observation of neck maps with class logits on their cells."""

    def subset(self, images: slice) -> "Classified":
        part = super().subset(images)
        logits = [level[images] for level in self.more["class_maps"]]
        return Classified(STRIDES, part.neck, class_maps=logits)


def frs(preset: str, detector: str, inputs: Inputs) -> Inputs:
    """Return both terms at a step of the warm-up or after it."""
    student, teacher = (
        Classified(
            STRIDES,
            levels(inputs[side], inputs, STRIDES),
            class_maps=levels(inputs[f"{side}_logits"], inputs, STRIDES),
        )
        for side in ("student", "teacher")
    )
    batch = batch_of(inputs, len(inputs["student"]), int(inputs["step"]))
    assert batch.progress == Progress(step=int(inputs["step"]))
    method = preset_method(preset, detector)
    return summed(grouped_losses(method, student, teacher, batch, layers(inputs)))


PORTS: dict[str, Port] = {
    "frs": partial(frs, "frs", "retinanet"),
    "frs_up": partial(frs, "frs_up", "faster_rcnn"),
}
