"""Pictures of the regions of methods, drawn with networks that were trained without a method."""

import pytest
from PIL import Image

from analysis.plotting import alt_text
from docs.build import method_pictures
from kd.common.errors import UserError
from kd.config.plan import plan
from tests.support.tiny_detectors import BACKBONE, save_random_weights


@pytest.fixture
def networks(study, monkeypatch):
    """Draw two methods in the tiny project; return its runs without a method."""
    study(["pfi"])  # writes the tiny parts
    pair = {"teacher": "r18-w0.25", "student": BACKBONE}
    table = {"dataset": "tiny", "schedule": "tiny", "pairs": [pair]}
    monkeypatch.setattr(method_pictures, "TABLE", table)
    monkeypatch.setattr(method_pictures, "SCALE", "tiny")
    monkeypatch.setattr(method_pictures, "METHODS", {"retinanet": ["pfi", "rm"]})
    runs = plan("methods", "tiny", method_pictures._Methods()).runs.values()
    return [run for run in runs if not run.method]


def test_each_method_has_a_picture_from_the_weights_of_the_student_alone(networks):
    for run in networks:
        save_random_weights(run.config["model"], run.directory)
    method_pictures.main()
    pictures = sorted(method_pictures.PICTURES.iterdir())
    assert [path.name for path in pictures] == ["pfi.png", "rm.png"]
    assert "regions of PFI: maps of the prediction difference" in alt_text.read(pictures[0])
    with Image.open(pictures[0]) as picture:
        assert picture.width == 7 * method_pictures.DOTS_PER_INCH


def test_networks_that_are_not_trained_are_named_with_the_command(networks):
    for run in networks:
        (run.directory / "weights.pth").unlink(missing_ok=True)
    with pytest.raises(UserError, match=r"snakemake results/runs/tiny/.+/weights\.pth"):
        method_pictures.main()
