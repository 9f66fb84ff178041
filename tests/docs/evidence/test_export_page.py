"""The table of exported forms is that of its measurements, and every difference is small."""

import csv

from docs.build import exported
from kd.export.check import LARGEST_DIFFERENCE
from tests.support.paths import CONFIGS, REPOSITORY


def test_the_page_has_the_measured_table(monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    assert exported.DOCUMENT.read_text() == exported.page()


def test_every_detector_is_exported_in_every_form_with_its_ap():
    with open(REPOSITORY / exported.SOURCE, newline="") as stream:
        rows = list(csv.DictReader(stream))
    detectors = {path.stem for path in (CONFIGS / "detectors").glob("*.yaml")}
    assert {(row["detector"], row["form"]) for row in rows} == {
        (detector, form) for detector in detectors for form in exported.FORMS
    }
    assert all(float(row["run_ap"]) > 0 for row in rows)
    assert all(abs(float(row["difference"])) <= LARGEST_DIFFERENCE for row in rows)
